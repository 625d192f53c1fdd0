//! Parameters, or their gradients, as slots of a backend: the [`Layout`] put onto an allocation.

use std::ops::Range;

use wikigpt_ops::{Act, Grad, Kind, Ops, Slot, Stat, Update};

use crate::activations::Low;
use crate::lora::{Adapter, AdapterLayout};
use crate::{Config, Layout, Result};

/// A layer norm: `weight`, `bias` (C).
#[derive(Clone, Copy, Debug)]
pub struct Norm<K: Kind = Act> {
    pub weight: Slot<K>,
    pub bias: Option<Slot<K>>,
}

/// A linear layer: `weight` (OC,C), `bias` (OC). A gradient's weight is (0) where the layer stays as it is, but for an adapter.
#[derive(Clone, Copy, Debug)]
pub struct Linear<K: Kind = Act> {
    pub weight: Slot<K>,
    pub bias: Option<Slot<K>>,
    pub adapter: Option<Adapter<K>>,
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
            adapter: None,
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
            head: Linear {
                weight: slot(&layout.head()),
                bias: None,
                adapter: None,
                C,
                OC: config.padded_outputs(),
            },
            tied: config.tied,
        }
    }

    /// The same with adapters, and with the head that is trained beside them, on an allocation of `layout.len` elements.
    pub fn with_adapters(mut self, layout: &AdapterLayout, whole: Slot<K>) -> Tensors<K> {
        let R = layout.lora.rank;
        for (block, ranges) in self.blocks.iter_mut().zip(&layout.blocks) {
            let Block { c_attn, attn_c_proj, c_fc, mlp_c_proj, .. } = block;
            for (linear, range) in [c_attn, attn_c_proj, c_fc, mlp_c_proj].into_iter().zip(ranges) {
                let slot = |range: &Range<usize>| whole.slice(range.clone());
                linear.adapter = range.as_ref().map(|at| Adapter { a: slot(&at.a), b: slot(&at.b), R });
            }
        }
        if let Some(head) = &layout.head {
            self.head.weight = whole.slice(head.clone());
        }
        self
    }

    /// The layer norm that a block begins with, ln_1; after the last block, ln_f.
    pub fn norm_before(&self, layer: usize) -> Norm<K> {
        self.blocks.get(layer).map_or(self.ln_f, |block| block.ln_1)
    }
}

impl Linear {
    /// out = inp·weightᵀ + bias, with an adapter + (inp·aᵀ)·bᵀ. `out` (N,OC), `inp` (N,C).
    pub fn forward<O: Ops>(&self, ops: &mut O, out: Slot<Act>, inp: Slot<Act>, low: Low) -> Result {
        let Linear { weight, bias, adapter, C, OC } = *self;
        let N = inp.len / C;
        let Some(adapter) = adapter else {
            return Ok(ops.matmul_forward(out, inp, weight, bias, N, C, OC)?);
        };
        let delta = low.delta.slice(0..N * OC);
        adapter.forward(ops, delta, low.low, inp, [N, C, OC])?;
        Ok(ops.matmul_residual_forward(out, delta, inp, weight, bias, N, C, OC)?)
    }

    /// dweight = doutᵀ·inp, dbias = Σ_n dout\[n\] (set or added), where they are trained, and those of an adapter; dinp = dout·weight,
    /// with an adapter + (dout·b)·a.
    pub fn backward<O: Ops>(
        &self,
        ops: &mut O,
        dinp: Slot<Act>,
        d: &Linear<Grad>,
        dout: Slot<Act>,
        inp: Slot<Act>,
        low: Low,
        update: Update,
    ) -> Result {
        self.backward_weight(ops, d, dout, inp, low, update)?;
        self.backward_input(ops, dinp, dout, low)
    }

    /// The input's half of [`backward`](Linear::backward), after the other.
    pub fn backward_input<O: Ops>(&self, ops: &mut O, dinp: Slot<Act>, dout: Slot<Act>, low: Low) -> Result {
        let Linear { weight, adapter, C, OC, .. } = *self;
        let N = dinp.len / C;
        ops.matmul_backward_input(dinp, dout, weight, N, C, OC, Update::Set)?;
        adapter.map_or(Ok(()), |adapter| adapter.backward_input(ops, dinp, low.dlow, [N, C]))
    }

    /// The other half of [`backward`](Linear::backward).
    pub fn backward_weight<O: Ops>(
        &self,
        ops: &mut O,
        d: &Linear<Grad>,
        dout: Slot<Act>,
        inp: Slot<Act>,
        low: Low,
        update: Update,
    ) -> Result {
        let Linear { adapter, C, OC, .. } = *self;
        let N = inp.len / C;
        if d.is_trained() {
            ops.matmul_backward_weight(d.weight, d.bias, dout, inp, N, C, OC, update)?;
        }
        match (adapter, &d.adapter) {
            (Some(adapter), Some(d)) => {
                adapter.backward(ops, low.dlow, d, dout, low.low, inp, [N, C, OC], update)
            }
            _ => Ok(()),
        }
    }
}

impl Linear<Grad> {
    /// Whether the layer's own weight and bias are trained.
    pub fn is_trained(&self) -> bool {
        self.weight.len > 0
    }
}

impl Tensors<Grad> {
    /// The gradients of a model that stays as it is: none. The backward of a layer norm always writes those of its parameters: they go
    /// to `spare` (2,C), which nobody reads.
    pub fn frozen(config: &Config, spare: Slot<Grad>) -> Tensors<Grad> {
        let C = config.n_embd;
        let none = spare.slice(0..0);
        let linear = |C: usize, OC: usize| Linear { weight: none, bias: None, adapter: None, C, OC };
        let norm = Norm { weight: spare.slice(0..C), bias: config.bias.then(|| spare.slice(C..2 * C)) };
        let block = Block {
            ln_1: norm,
            c_attn: linear(C, 3 * C),
            attn_c_proj: linear(C, C),
            ln_2: norm,
            c_fc: linear(C, 4 * C),
            mlp_c_proj: linear(4 * C, C),
        };
        Tensors {
            wte: none,
            wpe: none,
            blocks: vec![block; config.n_layer],
            ln_f: norm,
            head: linear(C, config.padded_outputs()),
            tied: config.tied,
        }
    }

    /// Whether the model itself stays as it is, and only what it is given besides is trained.
    pub fn is_frozen(&self) -> bool {
        self.wte.len == 0
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
