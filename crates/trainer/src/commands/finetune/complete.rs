//! `wikigpt finetune complete`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};
use wikigpt_dataset::completion::{Encoder, Example, Layout, Template, hold_out};

use crate::complete::{
    Completion, ExampleFlags, Files, KeepName, Learn, Metric, Part, Parts, Prompts, Texts, split_of,
};
use crate::fault::bad_input;
use crate::settings::{fraction, positive};
use crate::tuning::{self, Given, Settings, Task, TuningFlags};
use crate::{corpus, model, output};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt finetune complete runs/pairs --train train.en.gz train.de.gz --valid val.en.gz val.de.gz --template translate
  wikigpt finetune complete runs/wikitext-2 --train squad.json --valid-share 0.2 --test-share 0.2 --template answer
  wikigpt finetune complete gpt2/ --train pairs.jsonl --valid-share 0.1 --template \"Q: {prompt}\\nA: {completion}\"
  wikigpt finetune complete --resume runs/001 --epochs 8
  echo \"a prompt\" | wikigpt complete runs/001

Files are JSON lines {\"prompt\": …, \"completion\": …}, two files that belong together line by line, SQuAD's JSON, or articles in \
WikiText's layout with their titles; any may be compressed with gzip. A template is translate, summarise, answer, or a text with \
{prompt} in it; after the completion the model learns to end the text. Which examples share a row is settled once, and epochs put the \
rows into another order. The first batch is shown with what is learned of it marked. The \
run's folder holds the checkpoint that was best by --metric, metrics.jsonl, and with --test the completions of that \
model and their BLEU, ROUGE-L, exact match and F1. Ctrl-C and SIGTERM let the step under way end, save and stop (exit status 0); \
`wikigpt finetune complete --resume RUN` goes on bit for bit as if it had never stopped. The best checkpoint so far stays beside \
the last, and is the one that other commands take.";

/// Validation prompts that are completed at a time, where it is not said how many.
const METRIC_PROMPTS: usize = 200;

/// Flags of `wikigpt finetune complete`.
#[derive(Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Arguments {
    /// What to start from: a run folder, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<PathBuf>,
    /// Examples to learn from: one file, or the prompts and the completions
    #[arg(long, value_name = "FILE", num_args = 1..=2, required_unless_present = "resume", help_heading = "Data")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    train: Vec<PathBuf>,
    /// Examples to choose the best checkpoint by
    #[arg(long, value_name = "FILE", num_args = 1..=2, help_heading = "Data")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    valid: Vec<PathBuf>,
    /// Examples whose prompts the best model completes, to be measured
    #[arg(long, value_name = "FILE", num_args = 1..=2, help_heading = "Data")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    test: Vec<PathBuf>,
    /// Without --valid: the share of the training examples that is held back for it; whole articles of SQuAD's [default: 0.1]
    #[arg(long, value_name = "X", conflicts_with = "valid", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_share: Option<f64>,
    /// Without --test: the share that is held back for it
    #[arg(long, value_name = "X", conflicts_with = "test", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    test_share: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    examples: ExampleFlags,
    /// What stands around a prompt: translate, summarise, answer, or a text with {prompt} [default: nothing]
    #[arg(long, value_name = "TEMPLATE", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    /// Which end of a prompt that is too long is kept [default: end; start for articles]
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<KeepName>,
    /// Positions of a row, and of a prompt with what the model writes after it [default: the model's context]
    #[arg(long, value_name = "T", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<usize>,
    /// An example a row, instead of several with attention kept inside each
    #[arg(long, help_heading = "Training")]
    no_packing: bool,
    /// What is learned of an example
    #[arg(long, default_value = "completion", help_heading = "Training")]
    loss: Learn,
    /// What decides which checkpoint is the best
    #[arg(long, default_value = "loss", help_heading = "Output")]
    metric: Metric,
    /// Validation prompts that the model completes at each validation where --metric is not loss: the first N, 0 for all [default: 200]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_prompts: Option<usize>,
    /// Tokens that a completion has at most when the model writes [default: as many as the longest that it learned]
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_new_tokens: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    tuning: TuningFlags,
}

/// Fine-tunes a model to complete prompts.
pub fn run(given: Given<Arguments>) -> Result<()> {
    let TuningFlags { out, resume, .. } = &given.flags.tuning;
    let (out, resume) = (out.clone(), resume.clone());
    let (mut arguments, start) = tuning::open(Completion::NAME, given, resume.as_deref(), out.as_deref())?;
    arguments.find_model();
    let flags = &arguments.tuning;
    positive("batch", flags.batch)?;
    for (name, share) in [("valid-share", arguments.valid_share), ("test-share", arguments.test_share)] {
        fraction(name, share.unwrap_or(0.0))?;
    }
    if arguments.metric == Metric::Loss && arguments.metric_prompts.is_some() {
        bad_input!("--metric-prompts: the model writes nothing at a validation unless --metric asks for it");
    }
    let template = arguments.template.as_deref().map(str::parse::<Template>).transpose()?.unwrap_or_default();
    let base = start.base(arguments.model.as_deref(), model::open_language)?;
    let tokenizer = corpus::tokenizer_of(&base.folder, base.config())?;
    let longest = base.config().context;
    let context = arguments.context.unwrap_or(longest);
    if !(2..=longest).contains(&context) {
        bad_input!("--context {context}: must be at least 2 and at most the model's context of {longest}");
    }
    let titles = Layout::of(&arguments.train) == Some(Layout::Titles);
    let keep = arguments.keep.unwrap_or(if titles { KeepName::Start } else { KeepName::End });

    if arguments.train.is_empty() {
        start.needed(None::<&Path>, "train")?;
    }
    let [train, valid, test] = examples(&arguments)?;
    let files = [("train", &arguments.train), ("valid", &arguments.valid), ("test", &arguments.test)];
    let mut record = start.record(&arguments, &files.map(|(part, files)| (part, &files[..])))?;
    let encoder = Encoder::new(&tokenizer, &template, keep.into())?;
    let mut texts = Texts { encoder, context, long: arguments.examples.long };
    let train = Part::new("train".into(), train, &mut texts)?;
    let valid = Part::new("valid".into(), valid, &mut texts)?;
    let test = match test.is_empty() {
        true => None,
        false => Some(Part::new("test".into(), test, &mut texts)?),
    };
    let mut lengths: Vec<usize> =
        train.sequences.iter().map(|sequence| sequence.tokens.len() - sequence.prompt).collect();
    lengths.sort_unstable();
    let most = arguments.max_new_tokens.or(lengths.last().copied()).unwrap_or(1).min(context - 1);
    positive("max-new-tokens", most)?;
    // A few completions that are much longer than the others are not worth a part of every prompt.
    let room = lengths[(lengths.len() - 1) * 95 / 100].min(most);
    let mut encode = |examples: &[Example]| -> Result<Vec<Vec<u32>>> {
        let prompts = examples.iter().map(|example| texts.encoder.prompt(&example.prompt, context - room));
        Ok(prompts.collect::<wikigpt_dataset::Result<_>>()?)
    };
    let measured = match (arguments.metric, arguments.metric_prompts.unwrap_or(METRIC_PROMPTS)) {
        (Metric::Loss, _) => 0,
        (_, 0) => valid.examples.len(),
        (_, limit) => limit.min(valid.examples.len()),
    };
    let prompts = Prompts {
        valid: encode(&valid.examples[..measured])?,
        test: encode(test.as_ref().map_or(&[], |test| &test.examples))?,
        end: texts.encoder.end(),
        most,
    };
    drop(texts);

    record.set("template", template.to_string())?;
    record.set("keep", keep)?;
    record.set("max-new-tokens", most)?;
    record.set("room", room)?;
    let parts = Parts { train, valid, test };
    let packed = !arguments.no_packing;
    let shape = [flags.batch, context];
    let (learn, metric) = (arguments.loss, arguments.metric);
    let mut task = Completion::new(parts, tokenizer, shape, packed, learn, flags.seed, metric, prompts);
    output::note(&task.describe());
    let settings = Settings::resolve(flags, base.config(), task.batches())?;
    tuning::tune(base, &mut task, &settings, start, record)
}

impl Arguments {
    /// `--train FILE MODEL` gives both to --train. A folder is no file of examples: it is the model.
    fn find_model(&mut self) {
        for files in [&mut self.train, &mut self.valid, &mut self.test] {
            if self.model.is_none() && files.len() == 2 && files[1].is_dir() {
                self.model = files.pop();
            }
        }
    }
}

/// The examples to learn from, to choose by, and to be measured on: those of the files, or shares of the first.
fn examples(arguments: &Arguments) -> Result<[Vec<Example>; 3]> {
    let read = |flag, paths: &[PathBuf]| {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        Files { flag, paths }.read(arguments.examples.format, split_of(flag))
    };
    let mut train = read("--train", &arguments.train)?;
    let (mut valid, mut test) = (read("--valid", &arguments.valid)?, read("--test", &arguments.test)?);
    let seed = arguments.tuning.seed;
    // Shares are of all that the file had.
    let test_share = arguments.test_share.unwrap_or(0.0);
    if test_share > 0.0 {
        (train, test) = hold_out(train, test_share, seed);
    }
    if valid.is_empty() {
        let share = arguments.valid_share.unwrap_or(0.1) / (1.0 - test_share);
        (train, valid) = hold_out(train, share.min(1.0), seed);
    }
    for (name, part) in [("learn from", &train), ("choose the best checkpoint by", &valid)] {
        if part.is_empty() {
            bad_input!("no example is left to {name}: give more, or other shares to hold back");
        }
    }
    Ok([train, valid, test])
}
