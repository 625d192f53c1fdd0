//! Prints what a model computes, for other programs to compare with: `{"tokens":[…],"logits":[[…],…]}`.
//!
//! `cargo run --package wikigpt-gpt --example logits -- MODEL`

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use std::error::Error;
use std::io::stdout;
use std::path::PathBuf;

use wikigpt_gpt::Evaluator;
use wikigpt_gpt::files::load_model;

/// Tokens given to the model, where its context holds as many.
const TOKENS: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).ok_or("which model? logits MODEL")?);
    let model = load_model(&path)?;
    let V = model.config.vocab_size;
    // Steps of a prime: spread over the vocabulary, not many equal.
    let tokens: Vec<u32> =
        (0..TOKENS.min(model.config.context)).map(|i| ((7919 * i + 13) % V) as u32).collect();
    let cpu = wikigpt_cpu::cpu(0)?;
    let logits = Evaluator::new(cpu, &model.config, &model.params, 1, tokens.len())?.logits(&tokens, None)?;
    // A classifier's are those of a text that ends there.
    let rows: Vec<&[f32]> = logits.chunks_exact(model.config.outputs()).collect();
    serde_json::to_writer(stdout().lock(), &serde_json::json!({ "tokens": tokens, "logits": rows }))?;
    Ok(())
}
