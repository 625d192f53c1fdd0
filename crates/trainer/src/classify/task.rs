//! Classification as a task of fine-tuning.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wikigpt_dataset::Tokenizer;
use wikigpt_dataset::labelled::{Buckets, Chosen};
use wikigpt_gpt::Trainer;
use wikigpt_ops::Ops;

use super::texts::fill;
use super::{ClassWeights, Confusion, Prediction, Set, predict};
use crate::tuning::{Batch, Score, Task};
use crate::{folder, signals};

/// What decides which model is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The share of texts labelled rightly
    Accuracy,
    /// The mean of the labels' F1
    MacroF1,
    /// The mean cross-entropy, the lower the better
    Loss,
}

/// The file with all figures, in a run's folder.
const REPORT: &str = "classification.json";

/// Texts with labels to learn from, and others to be measured on.
pub struct Classification {
    train: Set,
    buckets: Buckets,
    /// The batches of an epoch.
    epoch: Option<(u64, Vec<Chosen>)>,
    valid: Set,
    test: Option<Set>,
    /// The labels' names.
    names: Vec<String>,
    tokenizer: Tokenizer,
    metric: Metric,
    /// What the loss of each label's texts is multiplied by; nothing where all count alike.
    weights: Vec<f32>,
    /// The largest batch (B,T), in training and when measuring.
    shape: (usize, usize),
}

/// What is known of a set of texts once a model has labelled them.
#[derive(Serialize)]
struct Report {
    texts: u64,
    accuracy: f64,
    macro_f1: f64,
    loss: f64,
    /// The commonest label, and its share: what predicting it always would reach.
    majority: (String, f64),
    /// By the true label, then by the predicted one.
    confusion: Confusion,
}

impl Classification {
    /// Batches of B texts; `names` are the labels'.
    pub fn new(
        [train, valid]: [Set; 2],
        test: Option<Set>,
        names: Vec<String>,
        tokenizer: Tokenizer,
        metric: Metric,
        weights: ClassWeights,
        B: usize,
        seed: u64,
    ) -> Classification {
        let longest = |set: &Set| set.tokens.iter().map(Vec::len).max().unwrap_or(0);
        let buckets = Buckets::new(train.tokens.iter().map(Vec::len), longest(&train), B, seed);
        let sets = [&train, &valid].into_iter().chain(&test);
        let weights = weights.of(&train, names.len());
        let T = sets.map(longest).max().unwrap_or(0);
        Classification {
            buckets,
            epoch: None,
            train,
            valid,
            test,
            names,
            tokenizer,
            metric,
            weights,
            shape: (B, T),
        }
    }

    fn report(&self, set: &Set, predictions: &[Prediction]) -> Report {
        let mut confusion = Confusion::new(self.names.len());
        let mut loss = 0.0;
        for (label, prediction) in set.labels.iter().zip(predictions) {
            confusion.add(*label, prediction.label);
            loss += prediction.loss(*label);
        }
        let (label, share) = confusion.majority();
        Report {
            texts: confusion.total(),
            accuracy: confusion.accuracy(),
            macro_f1: confusion.macro_f1(),
            loss: loss / set.labels.len() as f64,
            majority: (self.names[label].clone(), share),
            confusion,
        }
    }

    /// A line of JSON a text.
    fn predictions_file(&self, set: &Set, predictions: &[Prediction]) -> String {
        let mut text = String::new();
        for (index, prediction) in predictions.iter().enumerate() {
            let probabilities: BTreeMap<&String, f64> =
                self.names.iter().zip(prediction.probabilities.iter().copied()).collect();
            let line = json!({
                "index": index,
                "line": set.lines[index],
                "label": self.names[set.labels[index]],
                "predicted": self.names[prediction.label],
                "probabilities": probabilities,
            });
            writeln!(text, "{line}").expect("a string takes everything");
        }
        text
    }
}

impl Task for Classification {
    const NAME: &'static str = "classify";

    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn batches(&self) -> u64 {
        self.buckets.batches() as u64
    }

    fn batch(&mut self, epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        let batches = match &mut self.epoch {
            Some((of, batches)) if *of == epoch => batches,
            other => &mut other.insert((epoch, self.buckets.epoch(epoch))).1,
        };
        let Chosen { T, texts } = &batches[index as usize];
        let train = &self.train;
        let example = |text: &usize| (&train.tokens[*text][..], Some(train.labels[*text]));
        fill(batch, *T, texts.iter().map(example), &self.weights);
        Ok(())
    }

    fn evaluate<O: Ops>(&mut self, trainer: &mut Trainer<O>) -> Result<Option<Score>> {
        let Some(predictions) = predict(trainer, &self.valid.tokens, self.shape.0, signals::stop_requested)?
        else {
            return Ok(None);
        };
        let report = self.report(&self.valid, &predictions);
        let merit = match self.metric {
            Metric::Accuracy => report.accuracy,
            Metric::MacroF1 => report.macro_f1,
            Metric::Loss => -report.loss,
        };
        let scores = [("accuracy", report.accuracy), ("macro_f1", report.macro_f1)];
        Ok(Some(Score {
            loss: report.loss,
            targets: report.texts,
            scores: scores.map(|(name, score)| (name.to_owned(), score)).into(),
            merit,
        }))
    }

    fn finish<O: Ops>(&mut self, trainer: &mut Trainer<O>, run: &Path) -> Result<Option<String>> {
        let mut labelled = Vec::new();
        let sets = [("valid", Some(&self.valid)), ("test", self.test.as_ref())];
        for (name, set) in sets.into_iter().filter_map(|(name, set)| Some((name, set?))) {
            let Some(predictions) = predict(trainer, &set.tokens, self.shape.0, signals::stop_requested)?
            else {
                return Ok(None);
            };
            labelled.push((name, set, predictions));
        }
        let mut reports = BTreeMap::new();
        let mut text = String::new();
        for (name, set, predictions) in &labelled {
            let file = run.join(format!("predictions-{name}.jsonl"));
            folder::write_file(&file, self.predictions_file(set, predictions).as_bytes())?;
            let report = self.report(set, predictions);
            let (label, share) = &report.majority;
            writeln!(
                text,
                "{name}: {} texts, accuracy {:.4}, macro F1 {:.4}, loss {:.4} (always '{label}': accuracy {share:.4})\n{}\n  {}",
                report.texts,
                report.accuracy,
                report.macro_f1,
                report.loss,
                report.confusion.table(&self.names),
                file.display()
            )?;
            reports.insert(*name, report);
        }
        let report = json!({ "labels": self.names, "sets": reports });
        folder::write_file(&run.join(REPORT), format!("{report:#}\n").as_bytes())?;
        text += &format!("next: echo \"a text\" | wikigpt classify {}", run.display());
        Ok(Some(text))
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}
