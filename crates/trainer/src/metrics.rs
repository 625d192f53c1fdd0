//! `metrics.jsonl`: one JSON object a line for every step and every validation.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize};
use wikigpt_gpt::StepReport;

use crate::folder;

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// A step.
    Train(Train),
    /// A validation.
    Valid(Valid),
}

/// What a step measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// Which step, from 0.
    pub step: u64,
    /// Mean over the step's tokens before its update, in nats; null where it is not finite.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Learning rate of its update.
    pub lr: f64,
    /// Global norm of its gradient, before clipping; null where it is not finite: then there was no update.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// Tokens it trained on.
    pub tokens: u64,
    /// Milliseconds it took.
    pub step_ms: f64,
    /// `tokens` by time.
    pub tokens_per_second: f64,
    /// Share of the device's peak FLOP/s that the model's FLOPs took; null where the peak is unknown.
    pub mfu: Option<f64>,
}

/// What a validation measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Valid {
    /// Steps done before it.
    pub step: u64,
    /// Mean over `tokens`, in nats; null where it is not finite.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// What was predicted: tokens, or texts that were labelled.
    pub tokens: u64,
    /// Further figures of a fine-tuned task, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
}

/// JSON has no NaN, so it is written as null.
pub fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Train {
    /// What is known of a step once its report is there; `seconds` is the time that it took.
    pub fn new(step: u64, report: &StepReport, lr: f64, tokens: u64, seconds: f64) -> Train {
        Train {
            step,
            loss: report.loss,
            lr,
            grad_norm: report.grad_norm,
            tokens,
            step_ms: seconds * 1e3,
            tokens_per_second: tokens as f64 / seconds,
            mfu: None,
        }
    }
}

impl Line {
    /// Whether a run that goes on from `step`, where it may have been measured, writes the line no more.
    fn is_before(&self, step: u64, measured: bool) -> bool {
        match self {
            Line::Train(line) => line.step < step,
            Line::Valid(line) => line.step < step || measured && line.step == step,
        }
    }
}

/// Appends to `metrics.jsonl`.
pub struct Metrics {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Metrics {
    /// Goes on with the file in a run folder, or begins it, keeping only lines of steps before `step`; and, where it was `measured`,
    /// the validation after so many steps.
    pub fn from_step(run: &Path, step: u64, measured: bool) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        // A machine that lost its power may have left anything at the end.
        let kept = match fs::read(&path) {
            Ok(bytes) => lines_before(&String::from_utf8_lossy(&bytes), step, measured),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        folder::write_file(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Metrics { path, file: BufWriter::new(file) })
    }

    /// Appends a line; readers see whole lines only.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.flush());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The whole lines that belong before `step`, without what a kill has torn.
fn lines_before(text: &str, step: u64, measured: bool) -> String {
    let keep = |line: &&str| {
        line.ends_with('\n')
            && serde_json::from_str::<Line>(line).is_ok_and(|line| line.is_before(step, measured))
    };
    text.split_inclusive('\n').filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(step: u64) -> Line {
        Line::Train(Train {
            step,
            loss: 5.602_244_853_973_389,
            lr: 1e-4,
            grad_norm: 3.1,
            tokens: 1024,
            step_ms: 12.3,
            tokens_per_second: 83_000.0,
            mfu: None,
        })
    }

    #[test]
    fn lines_have_the_documented_keys_in_order() {
        assert_eq!(
            serde_json::to_string(&train(0)).unwrap(),
            r#"{"kind":"train","step":0,"loss":5.602244853973389,"lr":0.0001,"grad_norm":3.1,"tokens":1024,"#
                .to_owned()
                + r#""step_ms":12.3,"tokens_per_second":83000.0,"mfu":null}"#
        );
        let valid = Line::Valid(Valid { step: 0, loss: 5.5961, tokens: 10240, scores: BTreeMap::new() });
        assert_eq!(
            serde_json::to_string(&valid).unwrap(),
            r#"{"kind":"valid","step":0,"loss":5.5961,"tokens":10240}"#
        );
    }

    #[test]
    fn a_loss_that_is_no_number_is_null_and_read_back() {
        let Line::Train(line) = train(4) else { unreachable!() };
        let line = Line::Train(Train { loss: f64::NAN, grad_norm: f64::INFINITY, ..line });
        let text = serde_json::to_string(&line).unwrap() + "\n";
        assert!(text.contains(r#""loss":null"#) && text.contains(r#""grad_norm":null"#), "{text}");
        assert_eq!(lines_before(&text, 5, false), text);
    }

    #[test]
    fn going_on_cuts_later_and_torn_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::from_step(folder.path(), 0, false).unwrap();
        for step in 0..5 {
            metrics
                .write(&Line::Valid(Valid { step, loss: 1.0, tokens: 1, scores: BTreeMap::new() }))
                .unwrap();
            metrics.write(&train(step)).unwrap();
        }
        drop(metrics);
        let torn = fs::read_to_string(&path).unwrap() + r#"{"kind":"train","st"#;
        fs::write(&path, torn).unwrap();

        // The validation after three steps stays where it is known, and comes again where it is not.
        for (measured, expected) in [(true, "v0 t0 v1 t1 v2 t2 v3 t3"), (false, "v0 t0 v1 t1 v2 t2 t3")] {
            let mut metrics = Metrics::from_step(folder.path(), 3, measured).unwrap();
            metrics.write(&train(3)).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let line = |line: &str| match serde_json::from_str(line).unwrap() {
                Line::Train(line) => format!("t{}", line.step),
                Line::Valid(line) => format!("v{}", line.step),
            };
            assert_eq!(text.lines().map(line).collect::<Vec<_>>().join(" "), expected);
        }
    }
}
