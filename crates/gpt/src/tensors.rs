//! Parameters, or their gradients, as slots of a backend: the [`Layout`] put onto an allocation.

use std::ops::Range;

use wikigpt_ops::{Act, Grad, Kind, Ops, Slot, Stat, Update};

use crate::{Config, Layout, Result};

/// A layer norm: `weight`, `bias` (C).
#[derive(Clone, Copy, Debug)]
pub struct Norm<K: Kind = Act> {
    pub weight: Slot<K>,
    pub bias: Option<Slot<K>>,
}

/// A linear layer: `weight` (OC,C), `bias` (OC).
#[derive(Clone, Copy, Debug)]
pub struct Linear<K: Kind = Act> {
    pub weight: Slot<K>,
    pub bias: Option<Slot<K>>,
    pub C: usize,
    pub OC: usize,
}

/// The parameters of one block.
#[derive(Clone, Copy, Debug)]
pub struct Block<K: Kind = Act> {
    pub ln_1: Norm<K>,
    pub c_attn: Linear<K>,
    pub attn_c_proj: Linear<K>,
    pub ln_2: Norm<K>,
    pub c_fc: Linear<K>,
    pub mlp_c_proj: Linear<K>,
}

/// All parameters. Gradients mirror them in another kind of slot, so one type serves both.
#[derive(Clone, Debug)]
pub struct Tensors<K: Kind = Act> {
    /// (Vp,C).
    pub wte: Slot<K>,
    /// (context,C).
    pub wpe: Slot<K>,
    pub blocks: Vec<Block<K>>,
    pub ln_f: Norm<K>,
    /// (Vp,C): `wte` itself where the head is tied, `score.weight` of a classifier.
    pub head: Linear<K>,
    /// Whether the head shares `wte`.
    pub tied: bool,
}

impl<K: Kind> Tensors<K> {
    /// Puts the layout onto an allocation of `layout.len` elements.
    pub fn new(config: &Config, layout: &Layout, whole: Slot<K>) -> Tensors<K> {
        let C = config.n_embd;
        let slot = |range: &Range<usize>| whole.slice(range.clone());
        let norm = |at: &crate::Norm| Norm { weight: slot(&at.weight), bias: at.bias.as_ref().map(slot) };
        let linear = |at: &crate::Linear, C: usize, OC: usize| Linear {
            weight: slot(&at.weight),
            bias: at.bias.as_ref().map(slot),
            C,
            OC,
        };
        let block = |at: &crate::Block| Block {
            ln_1: norm(&at.ln_1),
            c_attn: linear(&at.c_attn, C, 3 * C),
            attn_c_proj: linear(&at.attn_c_proj, C, C),
            ln_2: norm(&at.ln_2),
            c_fc: linear(&at.c_fc, C, 4 * C),
            mlp_c_proj: linear(&at.mlp_c_proj, 4 * C, C),
        };
        Tensors {
            wte: slot(&layout.wte),
            wpe: slot(&layout.wpe),
            blocks: layout.blocks.iter().map(block).collect(),
            ln_f: norm(&layout.ln_f),
            head: Linear { weight: slot(&layout.head()), bias: None, C, OC: config.padded_outputs() },
            tied: config.tied,
        }
    }

    /// The layer norm that a block begins with, ln_1; after the last block, ln_f.
    pub fn norm_before(&self, layer: usize) -> Norm<K> {
        self.blocks.get(layer).map_or(self.ln_f, |block| block.ln_1)
    }
}

impl Linear {
    /// out = inp·weightᵀ + bias. `out` (N,OC), `inp` (N,C).
    pub fn forward<O: Ops>(&self, ops: &mut O, out: Slot<Act>, inp: Slot<Act>) -> Result {
        let N = inp.len / self.C;
        Ok(ops.matmul_forward(out, inp, self.weight, self.bias, N, self.C, self.OC)?)
    }

    /// dweight = doutᵀ·inp, dbias = Σ_n dout\[n\] (set or added); dinp = dout·weight.
    pub fn backward<O: Ops>(
        &self,
        ops: &mut O,
        dinp: Slot<Act>,
        d: &Linear<Grad>,
        dout: Slot<Act>,
        inp: Slot<Act>,
        update: Update,
    ) -> Result {
        self.backward_weight(ops, d, dout, inp, update)?;
        self.backward_input(ops, dinp, dout)
    }

    /// The input's half of [`backward`](Linear::backward).
    pub fn backward_input<O: Ops>(&self, ops: &mut O, dinp: Slot<Act>, dout: Slot<Act>) -> Result {
        let N = dinp.len / self.C;
        Ok(ops.matmul_backward_input(dinp, dout, self.weight, N, self.C, self.OC, Update::Set)?)
    }

    /// The weight's half of [`backward`](Linear::backward).
    pub fn backward_weight<O: Ops>(
        &self,
        ops: &mut O,
        d: &Linear<Grad>,
        dout: Slot<Act>,
        inp: Slot<Act>,
        update: Update,
    ) -> Result {
        let N = inp.len / self.C;
        Ok(ops.matmul_backward_weight(d.weight, d.bias, dout, inp, N, self.C, self.OC, update)?)
    }
}

/// A point of the residual stream and the layer norm of it, which the next layers read.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The stream: (N,C).
    pub x: Slot<Act>,
    /// layernorm(x): (N,C).
    pub norm: Slot<Act>,
    /// (N).
    pub mean: Slot<Stat>,
    /// (N).
    pub rstd: Slot<Stat>,
}

impl Norm {
    /// norm = layernorm(x).
    pub fn forward<O: Ops>(&self, ops: &mut O, at: Point, eps: f32) -> Result {
        let C = self.weight.len;
        let N = at.x.len / C;
        Ok(ops.layernorm_forward(at.norm, at.mean, at.rstd, at.x, self.weight, self.bias, N, C, eps)?)
    }

    /// dx (set or added) the gradient that comes through the norm; its weight's and bias's beside it.
    pub fn backward<O: Ops>(
        &self,
        ops: &mut O,
        dx: Slot<Act>,
        d: &Norm<Grad>,
        dnorm: Slot<Act>,
        at: Point,
        update_x: Update,
        update: Update,
    ) -> Result {
        let C = self.weight.len;
        let N = at.x.len / C;
        Ok(ops.layernorm_backward(
            dx,
            d.weight,
            d.bias,
            dnorm,
            at.x,
            self.weight,
            at.mean,
            at.rstd,
            N,
            C,
            update_x,
            update,
        )?)
    }
}
