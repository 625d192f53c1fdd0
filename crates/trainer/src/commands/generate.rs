//! `wikigpt generate`.

use std::fs;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use wikigpt_dataset::{StreamDecoder, Tokenizer};
use wikigpt_gpt::{Config, Generator, Sampler, Sampling};
use wikigpt_ops::Ops;

use crate::device::{MachineFlags, with_backend};
use crate::fault::bad_input;
use crate::{corpus, model, output};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt generate runs/001 --prompt \"The river\"
  wikigpt generate gpt2/ --prompt-file start.txt --max-new-tokens 400 --temperature 0.9 --top-p 0.95 --seed 7

The prompt is printed, then the text as it comes, never half a character. Without a prompt the model begins after an \
end of text, or after a line break where its tokenizer has no end of text.";

/// Flags of `wikigpt generate`.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What the text begins with
    #[arg(long, value_name = "TEXT", group = "start")]
    prompt: Option<String>,
    /// File that holds what the text begins with
    #[arg(long, value_name = "F", group = "start")]
    prompt_file: Option<PathBuf>,
    /// The same as numbers of tokens, separated by spaces
    #[arg(long, value_name = "IDS", group = "start")]
    prompt_ids: Option<String>,
    /// Tokens to write; an end of text ends it sooner
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_new_tokens: usize,
    /// Go on after an end of text
    #[arg(long)]
    no_stop: bool,
    /// Divides the logits: below 1 more likely tokens, 0 always the likeliest
    #[arg(long, value_name = "X", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from the K likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest tokens whose probabilities sum to P only
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Repeats a text [default: from the time, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    machine: MachineFlags,
    /// One JSON object at the end instead of the text as it comes
    #[arg(long)]
    json: bool,
}

/// What `generate --json` prints.
#[derive(Serialize)]
struct Report {
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    /// The prompt and what was written.
    text: String,
    seed: u64,
    /// Of the prompt's pass and the first token's choice.
    first_token_ms: f64,
    /// Of all tokens, the prompt's pass included.
    seconds: f64,
    /// `ids` by `seconds`.
    tokens_per_second: f64,
    /// Tokens after the first, by their time; null if there are none.
    decode_tokens_per_second: Option<f64>,
}

/// Writes text as it comes.
pub fn run(arguments: Arguments) -> Result<()> {
    let sampling = sampling(&arguments)?;
    let machine = arguments.machine.resolve()?;
    let model = model::open_language(&arguments.model)?;
    let tokenizer = corpus::tokenizer_of(&model.folder, &model.config)?;
    let prompt = prompt(&arguments, &tokenizer, &model.config)?;
    if arguments.seed.is_none() && sampling.temperature > 0.0 {
        output::note(&format!("--seed {}", sampling.seed));
    }
    let report = with_backend!(machine.open()?, ops => {
        let generator = Generator::new(ops, &model.config, &model.params, 1)?;
        // The backend has its own copy.
        drop(model);
        write(generator, &tokenizer, prompt, sampling, &arguments)?
    });
    output::note(&format!(
        "{} tokens in {:.2} s: {:.1} tokens/s",
        report.ids.len(),
        report.seconds,
        report.tokens_per_second
    ));
    if arguments.json { output::print(true, &report, String::new) } else { Ok(()) }
}

/// What the text begins with.
struct Prompt {
    /// Printed before what the model writes.
    text: String,
    /// Seen by the model.
    ids: Vec<u32>,
}

fn write<O: Ops>(
    mut generator: Generator<O>,
    tokenizer: &Tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    arguments: &Arguments,
) -> Result<Report> {
    let mut sampler = Sampler::new(sampling)?;
    let mut decoder = StreamDecoder::new(tokenizer);
    let mut text = String::new();
    let mut say = |piece: &str| -> Result<()> {
        text.push_str(piece);
        if arguments.json { Ok(()) } else { output::stream(piece) }
    };
    say(&prompt.text)?;
    let mut ids = Vec::new();
    let begun = Instant::now();
    let mut first = begun.elapsed();
    for index in 0..arguments.max_new_tokens {
        if index == 0 {
            generator.prefill(0, &prompt.ids)?;
        } else {
            generator.step(&[(0, ids[index - 1])])?;
        }
        let token = sampler.sample(generator.logits(0))?;
        ids.push(token);
        if index == 0 {
            first = begun.elapsed();
        }
        if Some(token) == tokenizer.end_of_text() && !arguments.no_stop {
            break;
        }
        say(&decoder.push(token))?;
    }
    let whole = begun.elapsed();
    say(&decoder.finish())?;
    if !arguments.json {
        output::stream("\n")?;
    }
    let (seconds, after) = (whole.as_secs_f64(), (whole - first).as_secs_f64());
    Ok(Report {
        prompt_ids: prompt.ids,
        text,
        seed: sampling.seed,
        first_token_ms: first.as_secs_f64() * 1e3,
        seconds,
        tokens_per_second: if ids.is_empty() { 0.0 } else { ids.len() as f64 / seconds },
        decode_tokens_per_second: (ids.len() > 1).then(|| (ids.len() - 1) as f64 / after),
        ids,
    })
}

fn sampling(arguments: &Arguments) -> Result<Sampling> {
    let temperature = arguments.temperature;
    if !(temperature.is_finite() && temperature >= 0.0) {
        bad_input!("--temperature {temperature}: must be a number not below 0");
    }
    if arguments.top_k == Some(0) {
        bad_input!("--top-k 0: at least one token has to be left");
    }
    if let Some(p) = arguments.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
        bad_input!("--top-p {p}: must be above 0 and at most 1");
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    Ok(Sampling {
        temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        seed: arguments.seed.unwrap_or_else(now),
    })
}

/// The prompt as text and tokens. A prompt longer than the context keeps its end. A model has to begin somewhere:
/// without a prompt, after an end of text, or a line break where there is none.
fn prompt(arguments: &Arguments, tokenizer: &Tokenizer, config: &Config) -> Result<Prompt> {
    let (text, mut ids) = match &arguments.prompt_ids {
        Some(list) => {
            let ids = token_ids(list, config.vocab_size)?;
            (String::from_utf8_lossy(&tokenizer.decode(&ids)).into_owned(), ids)
        }
        None => {
            let text = prompt_text(arguments)?;
            let ids = tokenizer.encode(&text)?;
            (text, ids)
        }
    };
    if ids.is_empty() {
        ids = match tokenizer.end_of_text() {
            Some(token) => vec![token],
            None => tokenizer.encode("\n")?,
        };
    }
    if let Some(token) = ids.iter().find(|token| **token as usize >= config.vocab_size) {
        bad_input!("the prompt has token {token}, but the model's vocabulary {} tokens", config.vocab_size);
    }
    if ids.is_empty() {
        bad_input!("the prompt has no tokens: say what the text is to begin with");
    }
    let context = config.context;
    if ids.len() > context {
        output::note(&format!(
            "the prompt has {} tokens, the model's context {context}: the model sees its end",
            ids.len()
        ));
        ids.drain(..ids.len() - context);
    }
    Ok(Prompt { text, ids })
}

fn token_ids(list: &str, vocab_size: usize) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for word in list.split_whitespace() {
        match word.parse() {
            Ok(id) if (id as usize) < vocab_size => ids.push(id),
            _ => bad_input!(
                "--prompt-ids: {word} is not a token of the model, which are 0 to {}",
                vocab_size - 1
            ),
        }
    }
    Ok(ids)
}

fn prompt_text(arguments: &Arguments) -> Result<String> {
    let Some(path) = &arguments.prompt_file else { return Ok(arguments.prompt.clone().unwrap_or_default()) };
    let bytes = fs::read(path).with_context(|| format!("cannot read --prompt-file {}", path.display()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            bad_input!("--prompt-file {}: not UTF-8 from byte {at} on", path.display())
        }
    }
}
