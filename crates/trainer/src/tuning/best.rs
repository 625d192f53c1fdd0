//! The best checkpoint of a run, and when to stop looking for a better one.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::Trainer;
use wikigpt_gpt::files::{Checkpoint, Checkpoints};
use wikigpt_ops::Ops;

use super::Score;
use crate::run_folder::RunFolder;
use crate::train::save::save;

/// What a checkpoint of fine-tuning says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Updates made: steps without those that were skipped.
    pub updates: u64,
    /// The validation loss; none where the run was stopped before the first validation.
    pub loss: Option<f64>,
    /// Further figures of the validation.
    pub scores: std::collections::BTreeMap<String, f64>,
}

/// Keeps the best.
pub struct Best {
    checkpoints: Checkpoints,
    patience: u64,
    /// The step of the best checkpoint, and its merit.
    best: Option<(u64, f64)>,
    /// Validations since.
    since: u64,
}

impl Best {
    /// None yet; after `patience` validations that are no better it is enough, if that is not 0.
    pub fn new(run: &RunFolder, patience: u64) -> Best {
        Best { checkpoints: Checkpoints::of(run.path()), patience, best: None, since: 0 }
    }

    /// The step of the best, and its merit.
    pub fn best(&self) -> Option<(u64, f64)> {
        self.best
    }

    /// Where the checkpoint of a step is.
    pub fn path(&self, step: u64) -> PathBuf {
        self.checkpoints.path(step)
    }

    /// Looks at a score: saves the model if it is the best so far. Whether it was.
    pub fn judge<O: Ops>(
        &mut self,
        trainer: &mut Trainer<O>,
        state: &State,
        score: &Score,
        tokenizer: &Tokenizer,
    ) -> Result<bool> {
        // A merit that is no number is never better.
        let better = match self.best {
            Some((_, merit)) => score.merit > merit,
            None => !score.merit.is_nan(),
        };
        if better {
            self.save(trainer, state, tokenizer)?;
            self.best = Some((state.step, score.merit));
            self.since = 0;
        } else {
            self.since += 1;
        }
        Ok(better)
    }

    /// Saves the model as the only checkpoint.
    pub fn save<O: Ops>(&self, trainer: &mut Trainer<O>, state: &State, tokenizer: &Tokenizer) -> Result<()> {
        save(trainer, &self.checkpoints, state.step, state, tokenizer)?;
        Ok(self.checkpoints.prune(1)?)
    }

    /// Whether there is no hope left.
    pub fn is_enough(&self) -> bool {
        self.patience > 0 && self.since >= self.patience
    }

    /// Puts the parameters of a step's checkpoint back into the model.
    pub fn load<O: Ops>(&self, trainer: &mut Trainer<O>, step: u64) -> Result<()> {
        let checkpoint = Checkpoint::open(&self.checkpoints.path(step))?;
        Ok(checkpoint.read(|array, start, values| trainer.write(array, start, values))?)
    }
}
