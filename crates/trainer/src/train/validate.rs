//! Validation during training: the first batches of the validation split, in order.

use anyhow::Result;
use wikigpt_dataset::{Batches, Dataset, Order, Split};
use wikigpt_gpt::Gpt;
use wikigpt_ops::Ops;

use crate::metrics;
use crate::settings::Settings;
use crate::signals;

/// Evaluates a model on the validation split.
pub struct Validation<'a> {
    batches: Batches<'a>,
    count: u64,
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

impl<'a> Validation<'a> {
    /// Prepares it, or nothing if settings ask for none.
    pub fn new(settings: &Settings, dataset: &'a Dataset) -> Result<Option<Self>> {
        if settings.eval_every == 0 {
            return Ok(None);
        }
        let tokens = dataset.tokens(Split::Valid)?;
        let batches = Batches::new(tokens, settings.batch, settings.context, Order::Sequential, 0, 1)?;
        let buffer = vec![0; settings.micro_tokens()];
        Ok(Some(Validation {
            batches,
            count: settings.eval_batches,
            inputs: buffer.clone(),
            targets: buffer,
        }))
    }

    /// The mean loss before step `step`; nothing if a signal came meanwhile.
    pub fn run<O: Ops>(&mut self, gpt: &mut Gpt<O>, step: u64) -> Result<Option<metrics::Valid>> {
        let (mut sum, mut tokens) = (0.0, 0);
        for index in 0..self.count {
            if signals::stop_requested() {
                return Ok(None);
            }
            self.batches.fill(index, &mut self.inputs, &mut self.targets)?;
            sum +=
                gpt.evaluate(&self.inputs, &self.targets)?.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            tokens += self.targets.len() as u64;
        }
        Ok(Some(metrics::Valid { step, loss: sum / tokens as f64, tokens }))
    }
}
