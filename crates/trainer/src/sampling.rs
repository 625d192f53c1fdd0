//! The flags by which commands that write draw tokens.

use anyhow::Result;
use clap::Args;
use wikigpt_gpt::Sampling;

use crate::fault::bad_input;

/// How tokens are drawn.
#[derive(Args, Clone, Debug)]
pub struct SamplingFlags {
    /// Divides the logits: below 1 more likely tokens, 0 always the likeliest [default: 0.8 for generate, 0 for complete]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw from the K likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest tokens whose probabilities sum to P only
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Above 1, makes tokens less likely that the text holds already
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// Repeats a text; of several, the first has this seed, the next the next [default: from the time, and printed, for generate; 1 for complete]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingFlags {
    /// What they say; the temperature and the seed where they do not.
    pub fn resolve(&self, temperature: f64, seed: impl FnOnce() -> u64) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(temperature),
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed.unwrap_or_else(seed),
        };
        // What is wrong begins with its name, which is the flag's.
        if let Err(error) = sampling.check() {
            bad_input!("--{error}");
        }
        Ok(sampling)
    }

    /// Whether a seed was given.
    pub fn has_seed(&self) -> bool {
        self.seed.is_some()
    }
}
