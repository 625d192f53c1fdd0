//! Where the activations of a pass lie: one arena of working precision, one of statistics.
//!
//! For training, a block keeps what its backward reads, 16·C values a token: x and ln_1 (2·C), qkv (3·C), att (C), mid and
//! ln_2 (2·C), pre and hidden (8·C). Gradients of activations live only until the stage before has read them, so one
//! small scratch serves all blocks; and as the logits are no longer needed once the head's backward is done, most of it
//! shares their memory. Without a backward all blocks share one block's memory. Adapters add what they bring down to rank R, 4·R a
//! token and block.

use wikigpt_ops::{Act, Slot, Stat};

use crate::Result;
use crate::arena::Arena;
use crate::shape::Shape;
use crate::tensors::Point;

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward and backward.
    Train,
    /// Forward, and the loss at every position.
    Evaluate,
    /// Forward, and the logits of the last position of each sequence.
    Generate,
}

/// One block's activations.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// x enters; its norm is ln_1.
    pub inp: Point,
    /// Queries, keys, values: (B,T,3C).
    pub qkv: Slot<Act>,
    /// What the heads gather: (B,T,C).
    pub att: Slot<Act>,
    /// log Σ exp of the scores: (B,NH,T).
    pub lse: Slot<Stat>,
    /// The stream between attention and MLP; its norm is ln_2.
    pub mid: Point,
    /// Before GELU: (N,4C).
    pub pre: Slot<Act>,
    /// After GELU: (N,4C).
    pub hidden: Slot<Act>,
    /// Those of adapters.
    pub low: Lows,
}

/// The activations of the adapters of a block.
#[derive(Clone, Copy, Debug)]
pub struct Lows {
    pub c_attn: Low,
    pub attn_c_proj: Low,
    pub c_fc: Low,
    pub mlp_c_proj: Low,
}

/// The activations of an adapter.
#[derive(Clone, Copy, Debug)]
pub struct Low {
    /// The input brought down to rank R, which the backward reads: (N,R).
    pub low: Slot<Act>,
    /// Forward: what it adds to its layer's output (N,OC), in so much of this (N,4C).
    pub delta: Slot<Act>,
    /// Backward: the gradient of `low` (N,R).
    pub dlow: Slot<Act>,
}

impl Low {
    /// Of a layer that never has an adapter.
    pub const NONE: Low = Low { low: NONE, delta: NONE, dlow: NONE };
}

/// No memory.
const NONE: Slot<Act> = Slot::whole(0, 0);

/// All activations of a pass.
#[derive(Clone, Debug)]
pub struct Activations {
    /// One a block; without a backward they are all the same.
    pub blocks: Vec<Block>,
    /// The stream after the last block; its norm is ln_f.
    pub out: Point,
    /// (N,Vp), of the last positions only (B,Vp) for [`Purpose::Generate`]; the backward turns them into dlogits in place.
    pub logits: Slot<Act>,
    /// The last positions of ln_f (B,C), for [`Purpose::Generate`].
    pub last: Slot<Act>,
    /// (N).
    pub losses: Slot<Stat>,
    pub scratch: Scratch,
    /// Elements of the two arenas.
    pub act_len: usize,
    pub stat_len: usize,
}

impl Activations {
    /// Where a block begins, and the one before it ends; after the last block, the end of the stream.
    pub fn before(&self, layer: usize) -> Point {
        self.blocks.get(layer).map_or(self.out, |block| block.inp)
    }
}

/// What is read once and then overwritten.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// Forward: what a branch adds to the stream (N,C).
    pub branch: Slot<Act>,
    /// Forward: the same after dropout (N,C).
    pub dropped: Slot<Act>,
    /// Backward: the gradient of the residual stream (N,C), in the memory of `branch`.
    pub dx: Slot<Act>,
    /// Backward: the gradient of a norm, and of a branch before dropout (N,C), in the memory of `dropped`.
    pub dnorm: Slot<Act>,
    /// Backward: the gradient of the attention's gathered values (B,T,C).
    pub datt: Slot<Act>,
    /// Backward: (B,T,3C).
    pub dqkv: Slot<Act>,
    /// Backward: (N,4C), in the memory of `datt` and `dqkv`.
    pub dpre: Slot<Act>,
}

/// Lays activations out in two allocations of these numbers.
///
/// # Errors
/// [`crate::Error::Config`] when they are larger than this machine can count.
pub fn lay_out(shape: Shape, n_layer: usize, purpose: Purpose, acts: u32, stats: u32) -> Result<Activations> {
    if purpose == Purpose::Train {
        return lay_out_training(shape, n_layer, acts, stats);
    }
    let (block, rest) = lay_out_forward(shape, purpose, acts, stats)?;
    Ok(Activations { blocks: vec![block; n_layer], ..rest })
}

impl Activations {
    /// Lays those of another pass for [`Purpose::Generate`] out in their place, and allocates nothing.
    ///
    /// # Errors
    /// Those of [`lay_out`].
    pub fn lay_out_again(&mut self, shape: Shape, acts: u32, stats: u32) -> Result {
        let (block, rest) = lay_out_forward(shape, Purpose::Generate, acts, stats)?;
        let mut blocks = std::mem::take(&mut self.blocks);
        blocks.fill(block);
        *self = Activations { blocks, ..rest };
        Ok(())
    }
}

fn lay_out_training(shape: Shape, n_layer: usize, acts: u32, stats: u32) -> Result<Activations> {
    let Shape { B, T, N, C, NH, Vp, R, .. } = shape;
    let (mut acts, mut stats) = (Arena::new(acts), Arena::new(stats));
    let (branch, dropped) = (acts.tensor(&[N, C])?, acts.tensor(&[N, C])?);
    let dlow = acts.tensor(&[N, R])?;
    // Written by the head, read by its backward, before any block's backward begins.
    let shared = acts.here();
    let logits = acts.tensor(&[N, Vp])?;
    acts.back_to(shared);
    let dpre = acts.tensor(&[N, 4 * C])?;
    acts.back_to(shared);
    let (datt, dqkv) = (acts.tensor(&[B, T, C])?, acts.tensor(&[B, T, 3 * C])?);
    acts.past_all();
    let scratch = Scratch { branch, dropped, dx: branch, dnorm: dropped, datt, dqkv, dpre };
    let mut blocks = Vec::new();
    for _ in 0..n_layer {
        blocks.push(Block {
            inp: point(shape, &mut acts, &mut stats)?,
            qkv: acts.tensor(&[B, T, 3 * C])?,
            att: acts.tensor(&[B, T, C])?,
            lse: stats.tensor(&[B, NH, T])?,
            mid: point(shape, &mut acts, &mut stats)?,
            pre: acts.tensor(&[N, 4 * C])?,
            hidden: acts.tensor(&[N, 4 * C])?,
            // Adapters add before the head writes, and so before `dpre` is.
            low: lows(shape, &mut acts, dpre, dlow)?,
        });
    }
    let out = point(shape, &mut acts, &mut stats)?;
    let (last, losses) = (NONE, stats.tensor(&[N])?);
    Ok(Activations { blocks, out, logits, last, losses, scratch, act_len: acts.len(), stat_len: stats.len() })
}

/// Without a backward: the one block, and the rest.
fn lay_out_forward(shape: Shape, purpose: Purpose, acts: u32, stats: u32) -> Result<(Block, Activations)> {
    let Shape { B, T, N, C, NH, Vp, R, .. } = shape;
    let (mut acts, mut stats) = (Arena::new(acts), Arena::new(stats));
    let branch = acts.tensor(&[N, C])?;
    let delta = if R > 0 { acts.tensor(&[N, 4 * C])? } else { NONE };
    let low = lows(shape, &mut acts, delta, NONE)?;
    let inp = point(shape, &mut acts, &mut stats)?;
    // ln_1 is read before ln_2 is written, and so is ln_2 before the next norm.
    let mid = Point { x: acts.tensor(&[N, C])?, ..inp };
    let last = acts.tensor(&[B, C])?;
    let lse = stats.tensor(&[B, NH, T])?;
    // What lives in the attention, in the MLP and in the head never lives at once. Of a text that is written, though, the last
    // block's queries may be asked for when the pass is over.
    let mut shared = acts.here();
    let qkv = acts.tensor(&[B, T, 3 * C])?;
    if purpose == Purpose::Generate {
        shared = acts.here();
    }
    let att = acts.tensor(&[B, T, C])?;
    acts.back_to(shared);
    let (pre, hidden) = (acts.tensor(&[N, 4 * C])?, acts.tensor(&[N, 4 * C])?);
    acts.back_to(shared);
    let logits = acts.tensor(&[if purpose == Purpose::Generate { B } else { N }, Vp])?;
    let scratch =
        Scratch { branch, dropped: NONE, dx: NONE, dnorm: NONE, datt: NONE, dqkv: NONE, dpre: NONE };
    let losses = stats.tensor(&[N])?;
    let (act_len, stat_len) = (acts.len(), stats.len());
    let rest = Activations { blocks: Vec::new(), out: inp, logits, last, losses, scratch, act_len, stat_len };
    Ok((Block { inp, qkv, att, lse, mid, pre, hidden, low }, rest))
}

/// Those of adapters, all with the same scratch.
fn lows(shape: Shape, acts: &mut Arena, delta: Slot<Act>, dlow: Slot<Act>) -> Result<Lows> {
    let Shape { N, R, .. } = shape;
    let mut low = || -> Result<Low> { Ok(Low { low: acts.tensor(&[N, R])?, delta, dlow }) };
    Ok(Lows { c_attn: low()?, attn_c_proj: low()?, c_fc: low()?, mlp_c_proj: low()? })
}

/// A point of the stream and its norm.
fn point(shape: Shape, acts: &mut Arena, stats: &mut Arena) -> Result<Point> {
    let Shape { N, C, .. } = shape;
    Ok(Point {
        x: acts.tensor(&[N, C])?,
        norm: acts.tensor(&[N, C])?,
        mean: stats.tensor(&[N])?,
        rstd: stats.tensor(&[N])?,
    })
}
