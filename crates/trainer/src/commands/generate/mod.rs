//! `wikigpt generate`.

mod prompts;
mod text;

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::{Beam, Generator, Job, Sampling};
use wikigpt_ops::Ops;

use crate::device::{MachineFlags, with_backend};
use crate::fault::bad_input;
use crate::sampling::SamplingFlags;
use crate::stop::Stops;
use crate::{corpus, model, output};
use prompts::{Prompt, prompts};
use text::{Finish, Text};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt generate runs/001 --prompt \"The river\"
  wikigpt generate gpt2/ --prompt-file start.txt --max-new-tokens 400 --temperature 0.9 --top-p 0.95 --seed 7
  wikigpt generate runs/001 --prompts lines.txt --samples 4 --stop \"\\n\" --repetition-penalty 1.2
  wikigpt generate runs/001 --prompt \"The river\" --beams 5

The prompt is printed, then the text as it comes, never half a character. Without a prompt the model begins after an \
end of text, or after a line break where its tokenizer has no end of text. Several texts are written at the same time and printed one \
after the other.";

/// Flags of `wikigpt generate`.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What the text begins with; again for another text
    #[arg(long, value_name = "TEXT", group = "start", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// File that holds what the text begins with
    #[arg(long, value_name = "F", group = "start")]
    prompt_file: Option<PathBuf>,
    /// File of which each line is what a text begins with
    #[arg(long, value_name = "F", group = "start")]
    prompts: Option<PathBuf>,
    /// The same as numbers of tokens, separated by spaces
    #[arg(long, value_name = "IDS", group = "start")]
    prompt_ids: Option<String>,
    /// Tokens to write; an end of text ends it sooner
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_new_tokens: usize,
    /// Go on after an end of text
    #[arg(long)]
    no_stop: bool,
    /// Stop before this string, of which no part is shown; `\n` and `\t` are a line break and a tab. Again for another
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// Texts for each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: usize,
    /// Texts that are written at the same time
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Instead of drawing tokens, look for the N likeliest texts, by beam search
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["temperature", "top_k", "top_p", "repetition_penalty", "seed", "samples", "stop"]
    )]
    beams: Option<usize>,
    /// Of beam search: texts are compared by log p / length^X
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "beams", allow_negative_numbers = true)]
    length_penalty: f64,
    #[command(flatten)]
    machine: MachineFlags,
    /// One JSON object at the end instead of the text as it comes
    #[arg(long)]
    json: bool,
}

/// What `generate --json` prints of a text.
#[derive(Serialize)]
struct Written {
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    /// The prompt and what was written.
    text: String,
    finish: Finish,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Of a beam search.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

/// How fast it went.
#[derive(Serialize)]
struct Speed {
    /// Of the prompt's pass and the first token's choice; null if there are no tokens.
    first_token_ms: Option<f64>,
    /// Of all tokens, the prompts' passes included.
    seconds: f64,
    /// All tokens by `seconds`.
    tokens_per_second: f64,
    /// Tokens after the first, by their time; null if there are none.
    decode_tokens_per_second: Option<f64>,
}

/// One text, or several under `texts`.
#[derive(Serialize)]
#[serde(untagged)]
enum Texts {
    One(Written),
    Several { texts: Vec<Written> },
}

/// What `generate --json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    texts: Texts,
    #[serde(flatten)]
    speed: Speed,
}

/// Writes text as it comes.
pub fn run(arguments: Arguments) -> Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let sampling = arguments.sampling.resolve(0.8, now)?;
    check_counts(&arguments)?;
    let machine = arguments.machine.resolve()?;
    let model = model::open_language(&arguments.model)?;
    let tokenizer = corpus::tokenizer_of(&model.folder, &model.config)?;
    let prompts = prompts(&arguments, &tokenizer, &model.config)?;
    let drawn = arguments.beams.is_none() && sampling.temperature > 0.0;
    if !arguments.sampling.has_seed() && drawn {
        output::note(&format!("--seed {}", sampling.seed));
    }
    let slots = arguments.beams.unwrap_or((prompts.len() * arguments.samples).clamp(1, arguments.batch));
    let (written, speed) = with_backend!(machine.open()?, ops => {
        let generator = Generator::new(ops, &model.config, &model.params, slots)?;
        // The backend has its own copy.
        drop(model);
        match arguments.beams {
            Some(width) => search(generator, &tokenizer, prompts, width, &arguments)?,
            None => write(generator, &tokenizer, prompts, sampling, &arguments)?,
        }
    });
    let tokens: usize = written.iter().map(|written| written.ids.len()).sum();
    output::note(&format!(
        "{tokens} tokens in {:.2} s: {:.1} tokens/s",
        speed.seconds, speed.tokens_per_second
    ));
    if !arguments.json {
        return Ok(());
    }
    let one = written.len() == 1;
    let mut texts = written;
    let texts = match texts.pop() {
        Some(text) if one => Texts::One(text),
        last => {
            texts.extend(last);
            Texts::Several { texts }
        }
    };
    output::print(true, &Report { texts, speed }, String::new)
}

/// Draws texts: one is shown as it comes, several one after the other.
fn write<O: Ops>(
    mut generator: Generator<O>,
    tokenizer: &Tokenizer,
    prompts: Vec<Prompt>,
    sampling: Sampling,
    arguments: &Arguments,
) -> Result<(Vec<Written>, Speed)> {
    let end = tokenizer.end_of_text().filter(|_| !arguments.no_stop);
    let stops = Stops::new(arguments.stop.iter().map(|string| unescaped(string)));
    let copies = prompts.into_iter().flat_map(|prompt| vec![prompt; arguments.samples]);
    let mut texts: Vec<Text> = copies
        .zip(0..)
        .map(|(prompt, i)| Text::new(tokenizer, prompt, sampling.seed.wrapping_add(i), end, stops.clone()))
        .collect();
    let jobs: Vec<Job> = texts
        .iter()
        .map(|text| Job {
            prompt: text.prompt.ids.clone(),
            sampling: Sampling { seed: text.seed, ..sampling },
            most: arguments.max_new_tokens,
        })
        .collect();
    let stream = texts.len() == 1 && !arguments.json;
    if stream {
        output::stream(&texts[0].text)?;
    }
    let begun = Instant::now();
    let (mut first, mut broken) = (None, None);
    wikigpt_gpt::write(&mut generator, jobs, |job, token| {
        let (shown, mut flow) = texts[job].push(token);
        first.get_or_insert_with(|| begun.elapsed());
        if stream && let Err(error) = output::stream(&shown) {
            broken = Some(error);
            flow = std::ops::ControlFlow::Break(());
        }
        flow
    })?;
    if let Some(error) = broken {
        return Err(error);
    }
    let whole = begun.elapsed();
    let several = texts.len() > 1;
    for (i, text) in texts.iter_mut().enumerate() {
        let rest = text.finish();
        if stream {
            output::stream(&(rest + "\n"))?;
        } else if several && !arguments.json {
            output::line(&format!("--- text {} (seed {})\n{}", i + 1, text.seed, text.text))?;
        }
    }
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    let (seconds, first) = (whole.as_secs_f64(), first.map(|first| first.as_secs_f64()));
    let after = first.filter(|_| tokens > 1).map(|first| (tokens - 1) as f64 / (seconds - first));
    let speed = Speed {
        first_token_ms: first.map(|first| first * 1e3),
        seconds,
        tokens_per_second: if tokens == 0 { 0.0 } else { tokens as f64 / seconds },
        decode_tokens_per_second: after,
    };
    let written = texts.into_iter().map(|text| Written {
        prompt_ids: text.prompt.ids,
        ids: text.ids,
        text: text.text,
        finish: text.finish,
        seed: Some(text.seed),
        log_probability: None,
        score: None,
    });
    Ok((written.collect(), speed))
}

/// Looks for the likeliest texts of each prompt.
fn search<O: Ops>(
    mut generator: Generator<O>,
    tokenizer: &Tokenizer,
    prompts: Vec<Prompt>,
    width: usize,
    arguments: &Arguments,
) -> Result<(Vec<Written>, Speed)> {
    let end = tokenizer.end_of_text().filter(|_| !arguments.no_stop);
    let beam = Beam { width, most: arguments.max_new_tokens, end, length_penalty: arguments.length_penalty };
    let begun = Instant::now();
    let mut all = Vec::new();
    for prompt in prompts {
        for (i, found) in beam.search(&mut generator, &prompt.ids)?.into_iter().enumerate() {
            let mut text = Text::new(tokenizer, prompt.clone(), 0, end, Stops::default());
            found.tokens.iter().for_each(|token| _ = text.push(*token));
            text.finish();
            if !arguments.json {
                output::line(&format!(
                    "--- text {} (log p {:.3}, score {:.4})\n{}",
                    i + 1,
                    found.log_probability,
                    found.score,
                    text.text
                ))?;
            }
            all.push(Written {
                prompt_ids: text.prompt.ids,
                ids: text.ids,
                text: text.text,
                finish: text.finish,
                seed: None,
                log_probability: Some(found.log_probability),
                score: Some(found.score),
            });
        }
    }
    let (seconds, tokens) =
        (begun.elapsed().as_secs_f64(), all.iter().map(|text| text.ids.len()).sum::<usize>());
    let speed = Speed {
        first_token_ms: None,
        seconds,
        tokens_per_second: if tokens == 0 { 0.0 } else { tokens as f64 / seconds },
        decode_tokens_per_second: None,
    };
    Ok((all, speed))
}

/// A string of `--stop` with its escapes.
fn unescaped(string: &str) -> String {
    string.replace("\\n", "\n").replace("\\t", "\t")
}

/// Refuses counts that leave nothing to do.
fn check_counts(arguments: &Arguments) -> Result<()> {
    let counts = [
        ("--samples", Some(arguments.samples)),
        ("--batch", Some(arguments.batch)),
        ("--beams", arguments.beams),
    ];
    for (flag, count) in counts {
        match count {
            Some(0) => bad_input!("{flag} 0: at least one is needed"),
            Some(count) if count > 4096 => bad_input!("{flag} {count}: at most 4096"),
            _ => {}
        }
    }
    if arguments.stop.iter().any(String::is_empty) {
        bad_input!("--stop \"\": every text would stop before it begins; leave it out");
    }
    if !arguments.length_penalty.is_finite() {
        bad_input!("--length-penalty {}: must be a finite number", arguments.length_penalty);
    }
    Ok(())
}
