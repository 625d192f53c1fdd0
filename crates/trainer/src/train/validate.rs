//! Validation during training: the first batches of the validation split, in order.

use anyhow::Result;
use wikigpt_dataset::{Batches, Dataset, Order, Position, Split};
use wikigpt_gpt::{Batch, Trainer};
use wikigpt_ops::Ops;

use crate::settings::Settings;
use crate::{metrics, signals};

/// Evaluates a model on the validation split.
pub struct Validation {
    batches: Batches,
    count: u64,
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

impl Validation {
    /// Prepares it, or nothing if settings ask for none.
    pub fn new(settings: &Settings, dataset: &Dataset) -> Result<Option<Self>> {
        if settings.eval_every == 0 {
            return Ok(None);
        }
        let tokens = dataset.tokens(Split::Valid)?;
        let buffer = vec![0; settings.micro_tokens()];
        Ok(Some(Validation {
            batches: Batches::new(&tokens, settings.batch, settings.context, Order::Sequential, 0, 0, 1)?,
            count: settings.eval_batches,
            inputs: buffer.clone(),
            targets: buffer,
        }))
    }

    /// The mean loss before step `step`; nothing if a signal came meanwhile.
    pub fn run<O: Ops>(&mut self, trainer: &mut Trainer<O>, step: u64) -> Result<Option<metrics::Valid>> {
        self.batches.seek(Position::default())?;
        let mut sum = 0.0;
        for _ in 0..self.count {
            if signals::stop_requested() {
                return Ok(None);
            }
            self.batches.next(&mut self.inputs, &mut self.targets);
            sum += trainer.forward(Batch::new(&self.inputs, &self.targets))?;
        }
        let tokens = self.count * self.targets.len() as u64;
        Ok(Some(metrics::Valid { step, loss: sum / self.count as f64, tokens, scores: Default::default() }))
    }
}
