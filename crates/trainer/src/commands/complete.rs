//! `wikigpt complete`.

use std::io::{BufRead, BufReader, stdin};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use wikigpt_dataset::completion::{Encoder, Example};
use wikigpt_dataset::open_text;
use wikigpt_gpt::Generator;
use wikigpt_ops::Ops;

use crate::complete::{ExampleFlags, Files, KeepName, Report, Stored, Writer, line, split_of};
use crate::device::{MachineFlags, with_backend};
use crate::fault::bad_input;
use crate::flags::Long;
use crate::progress::{duration, thousands};
use crate::sampling::SamplingFlags;
use crate::settings::positive;
use crate::{corpus, folder, model, output, signals};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  echo \"A man in an orange hat.\" | wikigpt complete runs/translate
  wikigpt complete runs/translate --test test.en.gz test.de.gz --out translated.de
  wikigpt complete runs/answers --test squad.json --json
  wikigpt complete gpt2/ prompts.txt --template summarise --max-new-tokens 40 --temperature 0.7 --seed 1

Each line is a prompt, and its completion comes out as a line. With --test the prompts are those of examples, the completions go to \
--out, and how good they are comes out: BLEU (sacreBLEU's), ROUGE-L (rouge_score's), exact match and F1 (SQuAD's). The template and how \
long a completion may be are those that the run was fine-tuned with, unless flags say otherwise.";

/// Flags of `wikigpt complete`.
#[derive(Args)]
pub struct Arguments {
    /// A run of `wikigpt finetune complete`, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// File with a prompt a line [default: standard input]
    #[arg(value_name = "FILE", conflicts_with = "test")]
    file: Option<PathBuf>,
    /// Examples: their prompts are completed, and measured beside their completions
    #[arg(long, value_name = "FILE", num_args = 1..=2)]
    test: Vec<PathBuf>,
    /// Only the first N examples
    #[arg(long, value_name = "N", requires = "test")]
    limit: Option<usize>,
    #[command(flatten)]
    examples: ExampleFlags,
    /// File for the completions, a line each
    #[arg(long, value_name = "FILE", requires = "test")]
    out: Option<PathBuf>,
    /// What stands around a prompt: translate, summarise, answer, or a text with {prompt} [default: the run's]
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// Which end of a prompt that is too long is kept [default: the run's, or end]
    #[arg(long)]
    keep: Option<KeepName>,
    /// Positions that a prompt and its completion take at most [default: the run's, or the model's context]
    #[arg(long, value_name = "T")]
    context: Option<usize>,
    /// Tokens that a completion has at most [default: the run's, or half the context]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Prompts completed at once, with --test
    #[arg(long, value_name = "B", default_value_t = 16)]
    batch: usize,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    machine: MachineFlags,
    /// JSON: an object a prompt, or one with the figures
    #[arg(long)]
    json: bool,
}

/// What `complete --json` prints for a prompt.
#[derive(Serialize)]
struct Completed<'a> {
    prompt: &'a str,
    completion: &'a str,
}

/// What `complete --test --json` prints.
#[derive(Serialize)]
struct Measured<'a> {
    #[serde(flatten)]
    report: &'a Report,
    seconds: f64,
}

/// Completes prompts.
pub fn run(arguments: Arguments) -> Result<()> {
    let machine = arguments.machine.resolve()?;
    let model = model::open_language(&arguments.model)?;
    let config = &model.config;
    let tokenizer = corpus::tokenizer_of(&model.folder, config)?;
    let stored = Stored::of(&arguments.model, &model.folder)?;
    let template = match &arguments.template {
        Some(written) => written.parse()?,
        None => stored.template.unwrap_or_default(),
    };
    let context = arguments.context.or(stored.context).unwrap_or(config.context);
    if !(2..=config.context).contains(&context) {
        bad_input!(
            "--context {context}: must be at least 2 and at most the model's context of {}",
            config.context
        );
    }
    let most = arguments.max_new_tokens.or(stored.max_new_tokens).unwrap_or(context / 2);
    positive("max-new-tokens", most)?;
    if most >= context {
        bad_input!("--max-new-tokens {most}: with the prompt, a context of {context} must hold it");
    }
    let room = stored.room.filter(|_| arguments.max_new_tokens.is_none()).unwrap_or(most).min(most);
    positive("batch", arguments.batch)?;
    let keep = arguments.keep.or(stored.keep).unwrap_or(KeepName::End);
    let sampling = arguments.sampling.resolve(0.0, || 1)?;
    let prompts = Prompts {
        encoder: Encoder::new(&tokenizer, &template, keep.into())?,
        most: context - room,
        long: arguments.examples.long,
    };
    let writer = Writer { tokenizer: &tokenizer, end: prompts.encoder.end(), most, context, sampling };
    let examples = match arguments.test.is_empty() {
        true => None,
        false => Some(examples(&arguments)?),
    };
    let slots = examples.as_ref().map_or(1, |examples| arguments.batch.min(examples.len()));
    with_backend!(machine.open()?, ops => {
        let generator = Generator::new(ops, config, &model.params, slots)?;
        match examples {
            Some(examples) => measure(generator, &writer, prompts, &examples, &arguments),
            None => complete(generator, &writer, prompts, &arguments),
        }
    })
}

fn examples(arguments: &Arguments) -> Result<Vec<Example>> {
    let files = Files { flag: "--test", paths: &arguments.test };
    let mut examples = files.read(arguments.examples.format, split_of(files.flag))?;
    if let Some(limit) = arguments.limit {
        positive("limit", limit)?;
        examples.truncate(limit);
    }
    Ok(examples)
}

/// How prompts become tokens.
struct Prompts<'a> {
    encoder: Encoder<'a>,
    /// Tokens of a prompt in its template, at most.
    most: usize,
    long: Long,
}

impl Prompts<'_> {
    fn encode(&mut self, prompt: &str, place: impl Fn() -> String) -> Result<Vec<u32>> {
        let before = self.encoder.shortened.prompts;
        let tokens = self.encoder.prompt(prompt, self.most)?;
        if tokens.is_empty() {
            bad_input!("{}: the prompt has no token", place());
        }
        if self.encoder.shortened.prompts > before && self.long == Long::Refuse {
            bad_input!(
                "{}: the prompt has more tokens than the {} that there is room for (--long refuse)",
                place(),
                self.most
            );
        }
        Ok(tokens)
    }

    /// Tells a person how many were shortened.
    fn say(&self) {
        let shortened = self.encoder.shortened.prompts;
        if shortened > 0 {
            output::note(&format!("{} prompts were too long and are shortened", thousands(shortened as u64)));
        }
    }
}

/// Completes examples, and measures.
fn measure<O: Ops>(
    mut generator: Generator<O>,
    writer: &Writer,
    mut prompts: Prompts,
    examples: &[Example],
    arguments: &Arguments,
) -> Result<()> {
    let mut encoded = Vec::with_capacity(examples.len());
    for (number, example) in (1..).zip(examples) {
        encoded.push(prompts.encode(&example.prompt, || format!("example {number}"))?);
    }
    prompts.say();
    signals::catch()?;
    let begun = Instant::now();
    let written: Vec<String> =
        writer.write(&mut generator, &encoded)?.iter().map(|text| line(text)).collect();
    let seconds = begun.elapsed().as_secs_f64();
    if written.len() < examples.len() {
        output::warn(&format!("stopped: {} of {} prompts are completed", written.len(), examples.len()));
    }
    if let Some(out) = &arguments.out {
        folder::write_file(out, (written.join("\n") + "\n").as_bytes())?;
    }
    let report = Report::new(written.iter().map(String::as_str).zip(examples));
    let measured = Measured { report: &report, seconds };
    output::print(arguments.json, &measured, || format!("{} in {}", report.lines(), duration(seconds)))
}

/// Completes lines as they come.
fn complete<O: Ops>(
    mut generator: Generator<O>,
    writer: &Writer,
    mut prompts: Prompts,
    arguments: &Arguments,
) -> Result<()> {
    let (source, reader): (String, Box<dyn BufRead>) = match &arguments.file {
        None => ("standard input".into(), Box::new(BufReader::new(stdin()))),
        Some(path) => (path.display().to_string(), open_text(path)?),
    };
    for (number, prompt) in (1_u64..).zip(reader.lines()) {
        let place = || format!("{source}: line {number}");
        let prompt = match prompt {
            Ok(prompt) => prompt,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                bad_input!("{} is not UTF-8", place())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {source}")),
        };
        if prompt.trim().is_empty() {
            bad_input!("{} is empty: there is nothing to complete", place());
        }
        let tokens = prompts.encode(&prompt, place)?;
        for completion in writer.write(&mut generator, &[tokens])? {
            let completed = Completed { prompt: &prompt, completion: &completion };
            output::print(arguments.json, &completed, || line(&completion))?;
        }
    }
    prompts.say();
    Ok(())
}
