//! What a checkpoint holds, and how it is put into a model again.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use wikigpt_dataset::{Position, Tokenizer};
use wikigpt_gpt::files::{Base, Checkpoints, Extras};
use wikigpt_gpt::{Error, Trainer};
use wikigpt_ops::Ops;

/// How far training has come: with the parameters and moments, all that the next step depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Steps done; the number of the step that comes next.
    pub step: u64,
    /// Updates that the optimizer has made: steps without those that were skipped.
    pub updates: u64,
    /// Micro-batches done.
    pub micro_batches: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Where in the data the next micro-batch begins.
    pub position: Position,
}

/// Saves what is trained, its optimizer, how far it has come, which step's was the `best`, and its tokenizer. Of adapters, `base` is the
/// model that they are for.
pub fn save<O: Ops>(
    trainer: &mut Trainer<O>,
    checkpoints: &Checkpoints,
    step: u64,
    best: Option<u64>,
    base: Option<&Base>,
    state: &impl Serialize,
    tokenizer: &Tokenizer,
) -> Result<PathBuf> {
    let config = trainer.config().clone();
    let end_of_text = tokenizer.end_of_text();
    let extras = Extras {
        bos_token_id: end_of_text,
        eos_token_id: end_of_text,
        tokenizer_json: None,
        fill: Some(&|folder| Ok(tokenizer.save(folder)?)),
        best,
    };
    let adapters = trainer.adapters().cloned();
    let read = |array, start, out: &mut [f32]| trainer.read(array, start, out);
    let saved = match (&adapters, base) {
        (Some(layout), Some(base)) => {
            checkpoints.save_adapters(step, &config, layout, base, state, &extras, read)
        }
        (Some(_), None) => bail!("adapters are not saved without the model that they are for"),
        (None, _) => checkpoints.save(step, &config, state, &extras, read),
    };
    saved.map_err(|error| match error {
        // Values that are not finite: training is at fault, not what it was given.
        Error::File { .. } => anyhow::anyhow!("cannot save the checkpoint of step {step}: {error}"),
        other => anyhow::Error::new(other).context(format!("cannot save the checkpoint of step {step}")),
    })
}
