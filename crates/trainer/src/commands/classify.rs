//! `wikigpt classify`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, stdin};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use wikigpt_dataset::open_text;
use wikigpt_gpt::{Evaluator, files};
use wikigpt_ops::Ops;

use crate::classify::{Prediction, Texts, predict};
use crate::device::{MachineFlags, with_backend};
use crate::fault::{BadInput, bad_input};
use crate::flags::Long;
use crate::progress::thousands;
use crate::settings::positive;
use crate::{corpus, model, output, signals};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  echo \"a film that stays with you\" | wikigpt classify runs/labels
  wikigpt classify runs/labels reviews.txt --json > labelled.jsonl

Each line is a text. For each a line comes out: the label, its probability and the text, between tabs; with --json an object \
with the probabilities of all labels.";

/// Flags of `wikigpt classify`.
#[derive(Args)]
pub struct Arguments {
    /// A run of `wikigpt finetune classify`, a checkpoint or a Hugging Face folder with such a head
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// File with a text a line [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens of a text, at most [default: the model's context]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// What to do with longer texts
    #[arg(long, default_value = "truncate")]
    long: Long,
    /// Texts labelled at once, where so many are waiting [default: about 4096 tokens]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    #[command(flatten)]
    machine: MachineFlags,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

/// What `classify --json` prints for a text.
#[derive(Serialize)]
struct Report<'a> {
    /// From 1.
    line: u64,
    label: &'a str,
    probabilities: BTreeMap<&'a str, f64>,
}

/// A line with its number, or why it could not be read.
type Line = (u64, Result<String>);

/// Labels lines as they come.
pub fn run(arguments: Arguments) -> Result<()> {
    let machine = arguments.machine.resolve()?;
    let model = model::open(&arguments.model)?;
    let config = &model.config;
    if !config.is_classifier() {
        bad_input!(
            "{}: a language model, without a head that tells labels apart: `wikigpt finetune classify` gives it one",
            arguments.model.display()
        );
    }
    let tokenizer = corpus::tokenizer_of(&model.folder, config)?;
    let max_length = arguments.max_length.unwrap_or(config.context);
    if !(1..=config.context).contains(&max_length) {
        bad_input!(
            "--max-length {max_length}: must be at least 1 and at most the model's context of {}",
            config.context
        );
    }
    let batch = arguments.batch.unwrap_or((4096 / max_length).max(1));
    positive("batch", batch)?;
    let (source, lines) = lines(arguments.file.as_ref(), batch)?;
    let texts = Texts { tokenizer: &tokenizer, max_length, long: arguments.long };
    with_backend!(machine.open()?, ops => {
        let evaluator = Evaluator::new(ops, config, &model.params, batch, max_length)?;
        let files::Model { config, .. } = model;
        let labelling = Labelling { evaluator, texts, names: &config.labels, source, json: arguments.json, cut: 0 };
        labelling.run(&lines, batch)
    })
}

/// What the lines are from, and the lines, read by a thread of its own: so that those that wait are labelled together, and one
/// that comes alone is not kept waiting.
fn lines(file: Option<&PathBuf>, waiting: usize) -> Result<(String, Receiver<Line>)> {
    let (source, reader): (String, Box<dyn BufRead + Send>) = match file {
        None => ("standard input".into(), Box::new(BufReader::new(stdin()))),
        Some(path) => (path.display().to_string(), open_text(path)?),
    };
    // A channel has room for all that may wait from the start.
    let (sender, receiver) = sync_channel(waiting.min(1024));
    let name = source.clone();
    thread::spawn(move || {
        let mut reader = reader;
        for number in 1.. {
            let mut bytes = Vec::new();
            let line = match reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(_) => text(bytes, number, &name),
                Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read {name}"))),
            };
            let last = line.is_err();
            // Nobody listens any more once something else has gone wrong.
            if sender.send((number, line)).is_err() || last {
                return;
            }
        }
    });
    Ok((source, receiver))
}

/// A line's text, without its end.
fn text(mut bytes: Vec<u8>, number: u64, source: &str) -> Result<String> {
    while bytes.last().is_some_and(|byte| *byte == b'\n' || *byte == b'\r') {
        bytes.pop();
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => {
            bad_input!("{source}: line {number} is empty: there is nothing to label")
        }
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to() + 1;
            Err(BadInput::new(format!("{source}: line {number} is not UTF-8 (byte {at} of it)")).into())
        }
    }
}

/// Labelling under way.
struct Labelling<'a, O: Ops> {
    evaluator: Evaluator<O>,
    texts: Texts<'a>,
    names: &'a [String],
    source: String,
    json: bool,
    /// Texts that were longer than the model takes.
    cut: u64,
}

impl<O: Ops> Labelling<'_, O> {
    /// Takes what waits, up to a batch, until there is no more.
    fn run(mut self, lines: &Receiver<Line>, batch: usize) -> Result<()> {
        while let Ok(first) = lines.recv() {
            let waiting = lines.try_iter().take(batch - 1);
            let mut texts = Vec::new();
            let mut failed = None;
            for (number, line) in [first].into_iter().chain(waiting) {
                let encoded = line.and_then(|text| {
                    let place = || format!("{}: line {number}", self.source);
                    let (tokens, cut) = self.texts.encode(&text, place)?;
                    Ok((number, text, tokens, cut))
                });
                match encoded {
                    Ok(text) => texts.push(text),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            // What came before a line that is wrong is labelled all the same.
            self.label(texts, batch)?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        if self.cut > 0 {
            let (cut, most) = (thousands(self.cut), self.texts.max_length);
            output::note(&format!("{}: {cut} lines are longer than {most} tokens and were cut", self.source));
        }
        Ok(())
    }

    fn label(&mut self, texts: Vec<(u64, String, Vec<u32>, bool)>, batch: usize) -> Result<()> {
        let tokens: Vec<&[u32]> = texts.iter().map(|(_, _, tokens, _)| &tokens[..]).collect();
        let Some(predictions) = predict(&mut self.evaluator, &tokens, batch, signals::stop_requested)? else {
            return Ok(());
        };
        for ((number, text, _, cut), Prediction { label, probabilities }) in texts.iter().zip(predictions) {
            self.cut += u64::from(*cut);
            let name = &self.names[label];
            if self.json {
                let probabilities = self.names.iter().map(String::as_str).zip(probabilities).collect();
                output::line(&serde_json::to_string(&Report { line: *number, label: name, probabilities })?)?;
            } else {
                output::line(&format!("{name}\t{:.4}\t{text}", probabilities[label]))?;
            }
        }
        Ok(())
    }
}
