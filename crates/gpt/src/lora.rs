//! Low-rank adapters, "LoRA" (Hu et al. 2021): a linear layer whose weight stays as it is learns a product of two thin matrices
//! beside it.
//!
//! With `a` (R,C) and `b` (OC,R), R far below C and OC, the layer computes
//!
//! ```text
//! out = inp·(weight + b·a)ᵀ + bias = inp·weightᵀ + bias + (inp·aᵀ)·bᵀ
//! ```
//!
//! `b` begins at 0, so that the model begins as it was; `a` is drawn. The right-hand form is computed in training: it needs no gradient of
//! the weight, which is a third of a linear layer's work, nor moments for it. Afterwards the product can be added to the weight:
//! [`merge`].
//!
//! The paper scales the product by α/R. Here `b` holds the scaled factor (α/R)·B. AdamW moves an element by about the learning rate however
//! large its gradient is, so that B at the learning rate lr moves `b` as a learning rate of (α/R)·lr does, and that is what
//! [`Trainer`](crate::Trainer) gives it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use wikigpt_ops::{Act, Grad, Kind, Ops, Slot, Update};

use crate::layout::{Builder, check_len};
use crate::{Config, Error, Layout, Result, Tensor, init};

/// A linear layer of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    /// Queries, keys and values.
    CAttn,
    /// The attention's output.
    AttnCProj,
    /// Up to the hidden layer.
    CFc,
    /// Down from it.
    MlpCProj,
}

impl Projection {
    /// All, in the order of the forward.
    pub const ALL: [Projection; 4] =
        [Projection::CAttn, Projection::AttnCProj, Projection::CFc, Projection::MlpCProj];

    /// Hugging Face's name of it: `attn.c_attn`.
    pub fn name(self) -> &'static str {
        match self {
            Projection::CAttn => "attn.c_attn",
            Projection::AttnCProj => "attn.c_proj",
            Projection::CFc => "mlp.c_fc",
            Projection::MlpCProj => "mlp.c_proj",
        }
    }

    /// OC and C of the weight.
    fn shape(self, C: usize) -> [usize; 2] {
        match self {
            Projection::CAttn => [3 * C, C],
            Projection::AttnCProj => [C, C],
            Projection::CFc => [4 * C, C],
            Projection::MlpCProj => [C, 4 * C],
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Projection {
    type Err = Error;

    fn from_str(name: &str) -> Result<Projection> {
        let found = Projection::ALL.into_iter().find(|projection| projection.name() == name);
        found.ok_or_else(|| {
            let names = Projection::ALL.map(Projection::name).join(", ");
            Error::Config(format!("there is no layer '{name}' to adapt: choose among {names}"))
        })
    }
}

/// Which layers have adapters, and of what size.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// R.
    pub rank: usize,
    /// α: the product counts α/R times.
    pub alpha: f64,
    /// The layers of a block that have one.
    pub targets: Vec<Projection>,
    /// So many of the lowest blocks have none.
    pub frozen: usize,
}

impl Lora {
    /// Adapters of rank R in every linear layer of every block, with α = 2·R.
    pub fn new(rank: usize) -> Lora {
        Lora { rank, alpha: 2.0 * rank as f64, targets: Projection::ALL.to_vec(), frozen: 0 }
    }

    /// α/R.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Refuses what a model cannot have.
    ///
    /// # Errors
    /// [`Error::Config`], saying what it is.
    pub fn validate(&self, config: &Config) -> Result {
        let refuse = |message: String| Err(Error::Config(message));
        let (R, C, L) = (self.rank, config.n_embd, config.n_layer);
        if !(1..=C).contains(&R) {
            return refuse(format!(
                "the rank of adapters must be between 1 and the model's {C} channels, got {R}"
            ));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return refuse(format!("the alpha of adapters must be above 0, and finite, got {}", self.alpha));
        }
        if !(self.scale() as f32).is_normal() {
            return refuse(format!("an alpha of {} is too far from the rank, {R}", self.alpha));
        }
        if self.targets.is_empty() {
            return refuse("adapters need a layer at least to be in".into());
        }
        if self.frozen >= L {
            return refuse(format!(
                "with {} of the model's {L} blocks left as they are, none is left for adapters",
                self.frozen
            ));
        }
        Ok(())
    }
}

/// Where an adapter lies: `a` (R,C), `b` (OC,R).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterRange {
    /// From the input down to R.
    pub a: Range<usize>,
    /// From R up to the output.
    pub b: Range<usize>,
}

/// Where everything lies that is trained with adapters, in a flat array of its own: the adapters, and a classifier's head.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterLayout {
    /// What they are.
    pub lora: Lora,
    /// The adapters of each block's layers, in the order of [`Projection::ALL`].
    pub blocks: Vec<[Option<AdapterRange>; 4]>,
    /// A classifier's head, which is trained whole.
    pub head: Option<Range<usize>>,
    /// Every tensor, in the order of the array: `h.0.attn.c_attn.lora_A.weight`, `h.0.attn.c_attn.lora_B.weight`, …, `score.weight`.
    pub tensors: Vec<Tensor>,
    /// Elements of the array.
    pub len: usize,
}

impl AdapterLayout {
    /// Lays adapters of a model out.
    ///
    /// # Errors
    /// [`Error::Config`] when it can have none of this kind.
    pub fn new(config: &Config, lora: &Lora) -> Result<AdapterLayout> {
        config.validate()?;
        lora.validate(config)?;
        let (R, C) = (lora.rank, config.n_embd);
        let mut b = Builder::new(false);
        let mut block = |layer: usize| {
            Projection::ALL.map(|projection| {
                let adapted = layer >= lora.frozen && lora.targets.contains(&projection);
                let [OC, C] = projection.shape(C);
                let mut tensor = |part: &str, [rows, columns]: [usize; 2]| {
                    b.tensor(format!("h.{layer}.{projection}.{part}.weight"), vec![rows, columns], rows)
                };
                adapted.then(|| AdapterRange { a: tensor("lora_A", [R, C]), b: tensor("lora_B", [OC, R]) })
            })
        };
        let blocks = (0..config.n_layer).map(&mut block).collect();
        let head = config
            .is_classifier()
            .then(|| b.tensor("score.weight".into(), vec![config.outputs(), C], config.padded_outputs()));
        let (tensors, len) = b.finish()?;
        Ok(AdapterLayout { lora: lora.clone(), blocks, head, tensors, len })
    }

    /// Adapters that change nothing yet, for a model with these parameters: `a` drawn from N(0, 1/3C), the variance of Hugging
    /// Face's PEFT, `b` 0, and a classifier's head as it is.
    ///
    /// # Errors
    /// [`Error::Config`] when the parameters are not as many as the model has.
    pub fn init(&self, config: &Config, params: &[f32], seed: u64) -> Result<Vec<f32>> {
        let base = Layout::new(config)?;
        check_len(params, base.len)?;
        let deviation = |tensor: &Tensor| {
            tensor.name.ends_with("lora_A.weight").then(|| (1.0 / (3.0 * tensor.shape[1] as f64)).sqrt())
        };
        let mut adapters = vec![0.0; self.len];
        init::draw(&mut adapters, &self.tensors, deviation, seed, init::ADAPTERS);
        if let Some(head) = &self.head {
            adapters[head.clone()].copy_from_slice(&params[base.head()]);
        }
        Ok(adapters)
    }
}

/// Adds adapters to the weights of their model, weight ← weight + b·a, and puts a classifier's head in its place.
///
/// # Errors
/// [`Error::Config`] when an array is not as long as its layout.
pub fn merge(config: &Config, params: &mut [f32], layout: &AdapterLayout, adapters: &[f32]) -> Result {
    let base = Layout::new(config)?;
    check_len(params, base.len)?;
    if adapters.len() != layout.len || layout.blocks.len() != base.blocks.len() {
        return Err(Error::Config(format!(
            "adapters of {} blocks and {} values do not belong to this model",
            layout.blocks.len(),
            adapters.len()
        )));
    }
    let R = layout.lora.rank;
    for (block, ranges) in base.blocks.iter().zip(&layout.blocks) {
        let weights = [&block.c_attn, &block.attn_c_proj, &block.c_fc, &block.mlp_c_proj];
        for (linear, range) in weights.into_iter().zip(ranges) {
            let Some(AdapterRange { a, b }) = range else { continue };
            let (a, b) = (&adapters[a.clone()], &adapters[b.clone()]);
            let C = a.len() / R;
            let mut row = vec![0.0_f64; C];
            for (weight, b) in params[linear.weight.clone()].chunks_exact_mut(C).zip(b.chunks_exact(R)) {
                row.iter_mut().zip(&*weight).for_each(|(sum, weight)| *sum = f64::from(*weight));
                for (b, a) in b.iter().zip(a.chunks_exact(C)) {
                    row.iter_mut().zip(a).for_each(|(sum, a)| *sum += f64::from(*b) * f64::from(*a));
                }
                weight.iter_mut().zip(&row).for_each(|(weight, sum)| *weight = *sum as f32);
            }
        }
    }
    if let Some(head) = &layout.head {
        params[base.head()].copy_from_slice(&adapters[head.clone()]);
    }
    Ok(())
}

/// The two factors of an adapter, or their gradients: `a` (R,C), `b` (OC,R).
#[derive(Clone, Copy, Debug)]
pub struct Adapter<K: Kind = Act> {
    pub a: Slot<K>,
    pub b: Slot<K>,
    pub R: usize,
}

impl Adapter {
    /// delta = (inp·aᵀ)·bᵀ. `delta` (N,OC), `low` (N,R), `inp` (N,C). Kept: `inp`, `low`.
    pub fn forward<O: Ops>(
        &self,
        ops: &mut O,
        delta: Slot<Act>,
        low: Slot<Act>,
        inp: Slot<Act>,
        [N, C, OC]: [usize; 3],
    ) -> Result {
        // 1   low = inp·aᵀ
        ops.matmul_forward(low, inp, self.a, None, N, C, self.R)?;
        // 2   delta = low·bᵀ
        Ok(ops.matmul_forward(delta, low, self.b, None, N, self.R, OC)?)
    }

    /// From `dout` (N,OC), which is the gradient of delta too, to db (OC,R) and da (R,C), set or added, and `dlow` (N,R).
    pub fn backward<O: Ops>(
        &self,
        ops: &mut O,
        dlow: Slot<Act>,
        d: &Adapter<Grad>,
        dout: Slot<Act>,
        low: Slot<Act>,
        inp: Slot<Act>,
        [N, C, OC]: [usize; 3],
        update: Update,
    ) -> Result {
        // 2   dlow = dout·b; db = doutᵀ·low
        ops.matmul_backward_input(dlow, dout, self.b, N, self.R, OC, Update::Set)?;
        ops.matmul_backward_weight(d.b, None, dout, low, N, self.R, OC, update)?;
        // 1   da = dlowᵀ·inp
        Ok(ops.matmul_backward_weight(d.a, None, dlow, inp, N, C, self.R, update)?)
    }

    /// 1 of the [`backward`](Adapter::backward) for the input: dinp += dlow·a. `dinp` (N,C), `dlow` (N,R).
    pub fn backward_input<O: Ops>(
        &self,
        ops: &mut O,
        dinp: Slot<Act>,
        dlow: Slot<Act>,
        [N, C]: [usize; 2],
    ) -> Result {
        Ok(ops.matmul_backward_input(dinp, dlow, self.a, N, C, self.R, Update::Add)?)
    }
}
