//! A model on a backend: its parameters, the memory of a pass, and the forward with its loss.

use wikigpt_ops::{Act, IGNORE, Ops, Slot, Stat};

use crate::activations::{Activations, Low, Purpose, lay_out};
use crate::batch::{Batch, Targets, Text, Uploaded};
use crate::layout::check_len;
use crate::lora::AdapterLayout;
use crate::model::{self, Regularize};
use crate::shape::Shape;
use crate::tensors::Tensors;
use crate::{Config, Error, Layout, Result};

/// Parameters and one pass's activations in a backend's memory. Every method takes the backend that it was made with.
pub struct Network {
    pub config: Config,
    pub layout: Layout,
    pub shape: Shape,
    pub params: Slot<Act>,
    /// Where adapters lie in an array of their own, if the model has any.
    pub adapters: Option<AdapterLayout>,
    pub w: Tensors,
    pub a: Activations,
    batch: Uploaded,
    /// What was allocated for the largest pass.
    room: Room,
    /// The sum of a pass's losses.
    total: Slot<Stat>,
    /// The losses in host memory.
    losses: Vec<f32>,
}

/// The memory of passes, whatever their shape.
struct Room {
    purpose: Purpose,
    acts: Slot<Act>,
    stats: Slot<Stat>,
    /// B·T of the largest.
    N: usize,
}

impl Network {
    /// Allocates for passes of B sequences of T tokens, or fewer, with adapters of rank R or 0; parameters are 0.
    pub fn new<O: Ops>(
        ops: &mut O,
        config: &Config,
        B: usize,
        T: usize,
        purpose: Purpose,
        R: usize,
    ) -> Result<Network> {
        let layout = Layout::new(config)?;
        let shape = Shape::new(config, B, T)?.with_rank(R);
        let planned = lay_out(shape, config.n_layer, purpose, 0, 0)?;
        let params = ops.alloc(layout.len)?;
        let room = Room {
            purpose,
            acts: ops.alloc(planned.act_len)?,
            stats: ops.alloc(planned.stat_len)?,
            N: shape.N,
        };
        let a = lay_out(shape, config.n_layer, purpose, room.acts.allocation, room.stats.allocation)?;
        Ok(Network {
            config: config.clone(),
            w: Tensors::new(config, &layout, params),
            adapters: None,
            layout,
            shape,
            params,
            a,
            batch: Uploaded::new(ops, shape.N)?,
            room,
            total: ops.alloc(1)?,
            losses: vec![0.0; shape.N],
        })
    }

    /// Gives the model adapters of the rank that there is room for; they are 0.
    pub fn adapt<O: Ops>(&mut self, ops: &mut O, layout: AdapterLayout) -> Result<Slot<Act>> {
        let slot = ops.alloc(layout.len)?;
        self.w = self.w.clone().with_adapters(&layout, slot);
        self.adapters = Some(layout);
        Ok(slot)
    }

    /// Lays passes of B sequences of T tokens out in the memory of larger ones.
    pub fn reshape(&mut self, B: usize, T: usize) -> Result {
        if (B, T) == (self.shape.B, self.shape.T) {
            return Ok(());
        }
        let shape = Shape::new(&self.config, B, T)?.with_rank(self.shape.R);
        let Room { purpose, acts, stats, N } = self.room;
        let a = lay_out(shape, self.config.n_layer, purpose, acts.allocation, stats.allocation)?;
        if shape.N > N || a.act_len > acts.len || a.stat_len > stats.len {
            return Err(Error::Config(format!(
                "{B} sequences of {T} tokens do not fit into memory that was allocated for {N} tokens"
            )));
        }
        (self.shape, self.a) = (shape, a);
        Ok(())
    }

    /// Uploads the parameters.
    pub fn set_params<O: Ops>(&self, ops: &mut O, params: &[f32]) -> Result {
        check_len(params, self.layout.len)?;
        Ok(ops.upload(self.params, params)?)
    }

    /// Checks a batch and uploads it.
    pub fn set_batch<O: Ops>(&mut self, ops: &mut O, batch: Batch) -> Result<(Text, Targets)> {
        self.batch.set(ops, self.shape, &self.config, batch)
    }

    /// The mean loss over the targets that count, without dropout.
    pub fn forward<O: Ops>(&mut self, ops: &mut O, batch: Batch) -> Result<f64> {
        let (text, targets) = self.set_batch(ops, batch)?;
        model::forward(ops, self.shape, &self.w, &self.a, text, Regularize::NONE)?;
        model::losses_forward(ops, self.shape, &self.w, &self.a, targets)?;
        ops.sum(self.total, self.a.losses)?;
        let mut total = [0.0];
        ops.download(&mut total, self.total)?;
        Ok(mean(total[0].into(), batch.count()))
    }

    /// The losses of the last pass.
    pub fn losses<O: Ops>(&mut self, ops: &mut O) -> Result<&[f32]> {
        let losses = &mut self.losses[..self.shape.N];
        ops.download(losses, self.a.losses)?;
        Ok(losses)
    }

    /// The logits (B,T,V) of rows of tokens.
    pub fn logits<O: Ops>(
        &mut self,
        ops: &mut O,
        inputs: &[u32],
        starts: Option<&[u32]>,
    ) -> Result<Vec<f32>> {
        self.logits_at(ops, inputs, starts, 0..self.shape.N)
    }

    /// The logits (positions,V) of rows of tokens at some of their positions n, from 0 to N − 1.
    pub fn logits_at<O: Ops>(
        &mut self,
        ops: &mut O,
        inputs: &[u32],
        starts: Option<&[u32]>,
        positions: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Vec<f32>> {
        let Shape { N, V, Vp, .. } = self.shape;
        let targets = vec![IGNORE; N];
        let (text, _) = self.set_batch(ops, Batch { starts, ..Batch::new(inputs, &targets) })?;
        model::forward(ops, self.shape, &self.w, &self.a, text, Regularize::NONE)?;
        self.w.head.forward(ops, self.a.logits, self.a.out.norm, Low::NONE)?;
        let mut logits = vec![0.0; positions.len() * V];
        for (row, n) in logits.chunks_exact_mut(V).zip(positions) {
            ops.download(row, self.a.logits.slice(n * Vp..n * Vp + V))?;
        }
        Ok(logits)
    }
}

/// The mean of losses that count so much altogether; 0 where nothing counts.
pub fn mean(total: f64, count: f64) -> f64 {
    if count > 0.0 { total / count } else { 0.0 }
}
