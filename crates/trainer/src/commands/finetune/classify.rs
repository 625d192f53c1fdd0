//! `wikigpt finetune classify`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use wikigpt_dataset::labelled::{self, Column, Labels, Layout, Reading};
use wikigpt_gpt::{Config, carry_over, init};

use crate::classify::{ClassWeights, Classification, Metric, Set, Texts};
use crate::fault::bad_input;
use crate::flags::Long;
use crate::origin::Origin;
use crate::progress::thousands;
use crate::settings::positive;
use crate::tuning::{self, Given, Settings, Task, TuningFlags};
use crate::{corpus, model, output};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt finetune classify runs/wikitext-2 --train train.csv --valid valid.csv --out runs/labels
  wikigpt finetune classify gpt2/ --train train.tsv --valid dev.tsv --test test.tsv --no-header --freeze 6
  wikigpt finetune classify --resume runs/labels --epochs 8
  echo \"what a film\" | wikigpt classify runs/labels

Files are CSV or TSV, with a header unless --no-header says so, or JSONL: an object a line; any may be compressed with gzip. Labels \
are text or integers. \
The model gets a head with a row a label, which reads a text's last token; the run's folder holds the checkpoint that was best on \
the validation data, predictions-valid.jsonl (and -test), classification.json and metrics.jsonl. Ctrl-C and SIGTERM let the step \
under way end, save and stop (exit status 0); `wikigpt finetune classify --resume RUN` goes on bit for bit as if it had never stopped. The \
best checkpoint so far stays beside the last, and is the one that other commands take.";

/// Flags of `wikigpt finetune classify`.
#[derive(Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Arguments {
    /// What to start from: a run folder, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL", required_unless_present = "resume")]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<PathBuf>,
    /// Texts with labels to learn from
    #[arg(long, value_name = "FILE", required_unless_present = "resume", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    train: Option<PathBuf>,
    /// Texts with labels to choose the best checkpoint by
    #[arg(long, value_name = "FILE", required_unless_present = "resume", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<PathBuf>,
    /// Texts with labels to measure the best checkpoint on
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    reading: ReadingFlags,
    /// Tokens of a text, at most [default: the model's context]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<usize>,
    /// What to do with longer texts
    #[arg(long, default_value = "truncate", help_heading = "Data")]
    long: Long,
    /// What decides how much a text counts in training
    #[arg(long, default_value = "none", help_heading = "Training")]
    class_weights: ClassWeights,
    /// What decides which checkpoint is the best
    #[arg(long, default_value = "accuracy", help_heading = "Output")]
    metric: Metric,
    #[command(flatten)]
    #[serde(flatten)]
    tuning: TuningFlags,
}

/// How files with labels are read.
#[derive(Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ReadingFlags {
    /// How the files are written [default: as their names end]
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<FormatName>,
    /// The first line is no header: columns go by number
    #[arg(long, help_heading = "Data")]
    no_header: bool,
    /// Fields may stand between quotes [default: true for CSV, false for TSV]
    #[arg(long, value_name = "BOOL", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    quotes: Option<bool>,
    /// The texts' column, by name or number [default: text; 1 without a header]
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    text_column: Option<String>,
    /// The labels' column, by name or number [default: label; 2 without a header]
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    label_column: Option<String>,
}

#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FormatName {
    /// Fields between commas
    Csv,
    /// Fields between tabs
    Tsv,
    /// An object a line
    Jsonl,
}

impl ReadingFlags {
    fn reading(&self) -> Reading {
        let column = |column: &Option<String>| -> Option<Column> {
            column.as_deref().map(|column| column.parse().unwrap_or_else(|never| match never {}))
        };
        Reading {
            layout: self.format.map(|format| match format {
                FormatName::Csv => Layout::Csv,
                FormatName::Tsv => Layout::Tsv,
                FormatName::Jsonl => Layout::Jsonl,
            }),
            header: !self.no_header,
            quotes: self.quotes,
            text: column(&self.text_column),
            label: column(&self.label_column),
        }
    }
}

/// Fine-tunes a model to tell texts apart.
pub fn run(given: Given<Arguments>) -> Result<()> {
    let TuningFlags { out, resume, .. } = &given.flags.tuning;
    let (out, resume) = (out.clone(), resume.clone());
    let (arguments, start) = tuning::open(Classification::NAME, given, resume.as_deref(), out.as_deref())?;
    let flags = &arguments.tuning;
    positive("batch", flags.batch)?;
    let mut base = start.base(arguments.model.as_deref(), model::open)?;
    let tokenizer = corpus::tokenizer_of(&base.folder, base.config())?;
    let context = base.config().context;
    let max_length = arguments.max_length.unwrap_or(context);
    if !(1..=context).contains(&max_length) {
        bad_input!(
            "--max-length {max_length}: must be at least 1 and at most the model's context of {context}"
        );
    }

    let reading = arguments.reading.reading();
    let read = |path: &Path| labelled::read(path, &reading);
    let train_path = start.needed(arguments.train.as_deref(), "train")?;
    let valid_path = start.needed(arguments.valid.as_deref(), "valid")?;
    let (train, valid) = (read(train_path)?, read(valid_path)?);
    let labels = Labels::of(train_path, &train)?;
    let texts = Texts { tokenizer: &tokenizer, max_length, long: arguments.long };
    let set = |path: &Path, examples: &[labelled::Example]| Set::new(path, examples, &labels, &texts);
    let test = match &arguments.test {
        Some(path) => Some(set(path, &read(path)?)?),
        None => None,
    };
    let sets = [set(train_path, &train)?, set(valid_path, &valid)?];
    let files = [("train", &arguments.train), ("valid", &arguments.valid), ("test", &arguments.test)];
    let record = start.record(&arguments, &files.map(|(part, file)| (part, file.as_slice())))?;
    announce(&sets, test.as_ref(), labels.names());

    base.origin = match base.origin {
        Origin::Model(base, params) => {
            let config = base.clone().classifier(labels.names().to_vec());
            config.validate()?;
            let params = with_new_head(&config, &base, params, flags.seed)?;
            Origin::Model(config, params)
        }
        run @ Origin::Run(..) => run,
    };
    let names = labels.names().to_vec();
    let mut task = Classification::new(
        sets,
        test,
        names,
        tokenizer,
        arguments.metric,
        arguments.class_weights,
        flags.batch,
        flags.seed,
    );
    let settings = Settings::resolve(flags, base.config(), task.batches())?;
    tuning::tune(base, &mut task, &settings, start, record)
}

/// The parameters of a model with another head, drawn as a fresh model's.
fn with_new_head(config: &Config, base: &Config, params: Vec<f32>, seed: u64) -> Result<Vec<f32>> {
    if base.labels == config.labels {
        output::note("the model has a head for these labels already: it is trained on");
        return Ok(params);
    }
    let mut new = init(config, seed)?;
    carry_over(base, &params, config, &mut new)?;
    Ok(new)
}

fn announce(sets: &[Set; 2], test: Option<&Set>, names: &[String]) {
    for (name, set) in ["train", "valid", "test"].into_iter().zip(sets.iter().chain(test)) {
        let counts = set.counts(names.len()).into_iter().zip(names);
        let counts: Vec<_> =
            counts.take(8).map(|(count, name)| format!("'{name}' {}", thousands(count))).collect();
        let more = if names.len() > 8 { ", …" } else { "" };
        let tokens: usize = set.tokens.iter().map(Vec::len).sum();
        output::note(&format!(
            "{name:<7} {}: {} texts of {:.1} tokens on average; {}{more}",
            set.path.display(),
            thousands(set.tokens.len() as u64),
            tokens as f64 / set.tokens.len() as f64,
            counts.join(", ")
        ));
    }
}
