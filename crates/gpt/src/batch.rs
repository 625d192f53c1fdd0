//! What a pass reads.

use wikigpt_ops::args::{wrong_start, wrong_start_is};
use wikigpt_ops::{IGNORE, Ops, Slot, Stat, Tok};

use crate::shape::Shape;
use crate::{Config, Error, Result};

/// Rows of tokens and what is to follow each of them: all (B,T).
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The tokens that the model reads.
    pub inputs: &'a [u32],
    /// The token that is to follow each; [`IGNORE`] where none counts.
    pub targets: &'a [u32],
    /// Where a row holds several texts, the position in the row at which each token's text begins: texts do not see each other, and
    /// each has positions from 0 on. Without, a row is one text.
    pub starts: Option<&'a [u32]>,
    /// What the loss of each position is multiplied by, for classes that count differently. Without, 1.
    pub weights: Option<&'a [f32]>,
}

impl<'a> Batch<'a> {
    /// Rows of one text each, whose targets count alike.
    pub fn new(inputs: &'a [u32], targets: &'a [u32]) -> Batch<'a> {
        Batch { inputs, targets, starts: None, weights: None }
    }

    /// By how much its losses count altogether: as many targets as are not [`IGNORE`], or the sum of their weights. The mean loss
    /// of a step is one with gradients scaled by 1 over this sum of all its batches.
    pub fn count(&self) -> f64 {
        let counts = |target: &u32| *target != IGNORE;
        match self.weights {
            None => self.targets.iter().filter(|target| counts(target)).count() as f64,
            Some(weights) => {
                let counting = weights.iter().zip(self.targets).filter(|(_, target)| counts(target));
                counting.map(|(weight, _)| f64::from(*weight)).sum()
            }
        }
    }

    /// Refuses what is not (B,T), tokens outside the vocabulary, and starts and weights that are none.
    fn check(&self, shape: Shape, config: &Config) -> Result {
        let Shape { B, T, N, V, .. } = shape;
        let known = config.vocab_size;
        let refuse = |message: String| Err(Error::Config(message));
        for (name, tokens, V, ignore) in
            [("inputs", self.inputs, known, false), ("targets", self.targets, V, true)]
        {
            if tokens.len() != N {
                return refuse(format!("{name} must hold B·T = {B}·{T} tokens, got {}", tokens.len()));
            }
            let outside = |token: &u32| *token as usize >= V && !(ignore && *token == IGNORE);
            if let Some(at) = tokens.iter().position(outside) {
                let token = tokens[at];
                return refuse(if config.is_classifier() && ignore {
                    format!("{name} hold label {token} at position {at}, but the model has {V} labels")
                } else {
                    format!(
                        "{name} hold token {token} at position {at}, but the model's vocabulary has {V} tokens"
                    )
                });
            }
        }
        if let Some(starts) = self.starts {
            if starts.len() != N {
                return refuse(format!("starts must be as many as B·T = {B}·{T}, got {}", starts.len()));
            }
            if let Some(at) = wrong_start(starts, T) {
                return refuse(format!("the start of position {at} {}", wrong_start_is(starts, T, at)));
            }
        }
        if let Some(weights) = self.weights {
            if weights.len() != N {
                return refuse(format!("weights must be as many as B·T = {B}·{T}, got {}", weights.len()));
            }
            if let Some(at) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
                return refuse(format!(
                    "weights must be 0 or more, and finite, got {} at position {at}",
                    weights[at]
                ));
            }
        }
        Ok(())
    }
}

/// What a pass reads of a text, on the backend: all (B,T).
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub tokens: Slot<Tok>,
    /// Where what each token sees begins; at its row's beginning without.
    pub starts: Option<Slot<Tok>>,
    /// The row of wpe that each token reads; its own number in the row without.
    pub positions: Option<Slot<Tok>>,
}

/// What losses are made of besides logits, on the backend: all (B,T).
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    pub tokens: Slot<Tok>,
    pub weights: Option<Slot<Stat>>,
}

/// A batch in a backend's memory.
pub struct Uploaded {
    inputs: Slot<Tok>,
    targets: Slot<Tok>,
    starts: Slot<Tok>,
    positions: Slot<Tok>,
    weights: Slot<Stat>,
    /// Positions on their way.
    staging: Vec<u32>,
}

impl Uploaded {
    /// Bytes a position takes.
    pub const BYTES: usize = 4 * size_of::<u32>() + size_of::<f32>();

    /// Room for one of N positions.
    pub fn new<O: Ops>(ops: &mut O, N: usize) -> Result<Uploaded> {
        Ok(Uploaded {
            inputs: ops.alloc(N)?,
            targets: ops.alloc(N)?,
            starts: ops.alloc(N)?,
            positions: ops.alloc(N)?,
            weights: ops.alloc(N)?,
            staging: vec![0; N],
        })
    }

    /// Checks a batch and uploads it.
    pub fn set<O: Ops>(
        &mut self,
        ops: &mut O,
        shape: Shape,
        config: &Config,
        batch: Batch,
    ) -> Result<(Text, Targets)> {
        batch.check(shape, config)?;
        // Smaller passes use a part of the room.
        let part = |slot: Slot<Tok>| slot.slice(0..shape.N);
        let (tokens, targets) = (part(self.inputs), part(self.targets));
        ops.upload(tokens, batch.inputs)?;
        ops.upload(targets, batch.targets)?;
        let mut text = Text { tokens, starts: None, positions: None };
        if let Some(starts) = batch.starts {
            for (n, (position, start)) in self.staging.iter_mut().zip(starts).enumerate() {
                *position = (n % shape.T) as u32 - start;
            }
            let (slot, positions) = (part(self.starts), part(self.positions));
            ops.upload(slot, starts)?;
            ops.upload(positions, &self.staging[..shape.N])?;
            (text.starts, text.positions) = (Some(slot), Some(positions));
        }
        let mut targets = Targets { tokens: targets, weights: None };
        if let Some(weights) = batch.weights {
            let slot = self.weights.slice(0..shape.N);
            ops.upload(slot, weights)?;
            targets.weights = Some(slot);
        }
        Ok((text, targets))
    }
}
