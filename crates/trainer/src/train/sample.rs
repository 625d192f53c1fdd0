//! A sample of what the model writes, during training.

use anyhow::Result;
use wikigpt_dataset::{StreamDecoder, Tokenizer};
use wikigpt_gpt::{Sampler, Sampling, Trainer};
use wikigpt_ops::Ops;

use crate::settings::Settings;
use crate::signals;

/// Tokens in a sample.
const LENGTH: usize = 160;

/// Lets the model write from the start of a paragraph.
pub fn sample<O: Ops>(
    trainer: &mut Trainer<O>,
    tokenizer: &Tokenizer,
    settings: &Settings,
) -> Result<String> {
    let mut prompt = tokenizer.encode("\n The ")?;
    prompt.truncate(settings.config.context);
    let sampling = Sampling { temperature: 0.8, top_k: Some(50), seed: settings.seed, ..Sampling::GREEDY };
    let mut sampler = Sampler::new(sampling)?;
    let mut decoder = StreamDecoder::new(tokenizer);
    let mut text: String = prompt.iter().map(|token| decoder.push(*token)).collect();
    let mut generator = trainer.generator(1)?;
    generator.prefill(0, &prompt)?;
    for _ in 0..LENGTH {
        if signals::stop_requested() {
            break;
        }
        let token = generator.draw(0, &mut sampler)?;
        text += &decoder.push(token);
        generator.step(&[(0, token)])?;
    }
    text += &decoder.finish();
    Ok(text.trim().to_owned())
}
