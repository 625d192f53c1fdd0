//! A model that is only run forward.

use wikigpt_ops::Ops;

use crate::activations::Purpose;
use crate::network::Network;
use crate::{Batch, Config, Result};

/// A model without gradients and optimizer, whose blocks share one block's activations: see
/// [`Plan`](crate::Plan) with `training` false.
pub struct Evaluator<O: Ops> {
    ops: O,
    net: Network,
}

impl<O: Ops> Evaluator<O> {
    /// Allocates a model for B sequences of T tokens; `params` in the order of [`crate::Layout`].
    ///
    /// # Errors
    /// [`crate::Error::Config`] when the shape is impossible or `params` are not as many as the model has;
    /// [`crate::Error::Ops`] when there is no memory.
    pub fn new(mut ops: O, config: &Config, params: &[f32], B: usize, T: usize) -> Result<Evaluator<O>> {
        let net = Network::new(&mut ops, config, B, T, Purpose::Evaluate, 0)?;
        net.set_params(&mut ops, params)?;
        Ok(Evaluator { ops, net })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.net.config
    }

    /// From now on batches are B sequences of T tokens, in the memory of those that the evaluator was made for.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when there is not room enough, or the model cannot take them.
    pub fn reshape(&mut self, B: usize, T: usize) -> Result {
        self.net.reshape(B, T)
    }

    /// The mean loss in nats over the targets of a batch (B,T) that are not [`IGNORE`](wikigpt_ops::IGNORE), weighted by its
    /// weights; 0 where all are.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when a length is not B·T, a token is not in the vocabulary, or a start or weight is none.
    pub fn forward(&mut self, batch: Batch) -> Result<f64> {
        self.net.forward(&mut self.ops, batch)
    }

    /// The losses (B,T) of the last forward, each times its weight, 0 where the target is [`IGNORE`](wikigpt_ops::IGNORE).
    ///
    /// # Errors
    /// [`crate::Error::Ops`] when the device fails.
    pub fn losses(&mut self) -> Result<&[f32]> {
        self.net.losses(&mut self.ops)
    }

    /// The logits (B,T,V) of `inputs` (B,T), texts that begin at `starts` as in a [`Batch`].
    ///
    /// # Errors
    /// Those of [`forward`](Evaluator::forward).
    pub fn logits(&mut self, inputs: &[u32], starts: Option<&[u32]>) -> Result<Vec<f32>> {
        self.net.logits(&mut self.ops, inputs, starts)
    }

    /// The logits (positions,V) of `inputs` (B,T) at some positions b·T + t.
    ///
    /// # Errors
    /// Those of [`forward`](Evaluator::forward).
    ///
    /// # Panics
    /// When a position is not in the batch.
    pub fn logits_at(&mut self, inputs: &[u32], positions: &[usize]) -> Result<Vec<f32>> {
        self.net.logits_at(&mut self.ops, inputs, None, positions.iter().copied())
    }
}
