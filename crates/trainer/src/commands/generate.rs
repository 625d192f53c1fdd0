//! `wikigpt generate`.

use std::fs;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use wikigpt_dataset::{StreamDecoder, Tokenizer};
use wikigpt_gpt::generate::{Generator, Sampling};

use crate::fault::bad_input;
use crate::model::Model;
use crate::{corpus, device, output};

/// Flags of `wikigpt generate`.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a checkpoint or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What the text begins with
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// File that holds what the text begins with
    #[arg(long, value_name = "F")]
    prompt_file: Option<PathBuf>,
    /// Tokens to write; an end of text ends it sooner
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_new_tokens: usize,
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
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Writes text as it comes.
pub fn run(arguments: Arguments) -> Result<()> {
    let sampling = sampling(&arguments)?;
    let model = Model::open(&arguments.model)?;
    let tokenizer = corpus::tokenizer_of(&model.folder, &model.config)?;
    let prompt = prompt(&arguments)?;
    let ids = prompt_tokens(&tokenizer, &prompt, model.config.context);
    let mut gpt = model.load(device::open_cpu(arguments.threads)?, 1, model.config.context)?;
    // Room for the model itself in another layout is what is left of its memory.
    drop(model);
    if arguments.seed.is_none() && sampling.temperature > 0.0 {
        eprintln!("--seed {}", sampling.seed);
    }

    output::stream(&prompt)?;
    let mut generator = Generator::new(&mut gpt, &ids, sampling)?;
    let mut decoder = StreamDecoder::new(&tokenizer);
    let (begun, mut count) = (Instant::now(), 0u32);
    for _ in 0..arguments.max_new_tokens {
        let token = generator.next()?;
        count += 1;
        if Some(token) == tokenizer.end_of_text() {
            break;
        }
        output::stream(&decoder.push(token))?;
    }
    output::line(&decoder.finish())?;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{count} tokens in {seconds:.1} s: {:.1} tokens/s", f64::from(count) / seconds);
    Ok(())
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
        temperature: temperature as f32,
        top_k: arguments.top_k,
        top_p: arguments.top_p.map(|p| p as f32),
        seed: arguments.seed.unwrap_or_else(now),
    })
}

fn prompt(arguments: &Arguments) -> Result<String> {
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

/// The prompt's tokens; a prompt longer than the context keeps its end. A model has to begin somewhere: without a
/// prompt, after an end of text, or a line break where there is none.
fn prompt_tokens(tokenizer: &Tokenizer, prompt: &str, context: usize) -> Vec<u32> {
    let mut ids = tokenizer.encode(prompt);
    if ids.is_empty() {
        ids = tokenizer.end_of_text().map_or_else(|| tokenizer.encode("\n"), |token| vec![token]);
    }
    if ids.is_empty() {
        ids = vec![0];
    }
    if ids.len() > context {
        eprintln!("the prompt has {} tokens, the model's context {context}: its end is kept", ids.len());
        ids.drain(..ids.len() - context);
    }
    ids
}
