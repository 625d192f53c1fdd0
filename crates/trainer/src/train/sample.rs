//! A sample of what the model writes, during training.

use anyhow::Result;
use wikigpt_dataset::{Dataset, StreamDecoder};
use wikigpt_gpt::Gpt;
use wikigpt_gpt::generate::{Generator, Sampling};
use wikigpt_ops::Ops;

use crate::settings::Settings;
use crate::signals;

/// Tokens in a sample.
const LENGTH: usize = 120;

/// Lets the model write from the start of a paragraph.
pub fn sample<O: Ops>(gpt: &mut Gpt<O>, dataset: &Dataset, settings: &Settings) -> Result<String> {
    let tokenizer = dataset.tokenizer();
    let mut prompt = tokenizer.encode("\n The ");
    prompt.truncate(settings.context);
    let sampling = Sampling { temperature: 0.8, top_k: Some(50), top_p: None, seed: settings.seed };
    let mut decoder = StreamDecoder::new(tokenizer);
    let mut text = String::new();
    for &token in &prompt {
        text += &decoder.push(token);
    }
    let mut generator = Generator::new(gpt, &prompt, sampling)?;
    for _ in 0..LENGTH {
        if signals::stop_requested() {
            break;
        }
        text += &decoder.push(generator.next()?);
    }
    text += &decoder.finish();
    Ok(text.trim().to_owned())
}
