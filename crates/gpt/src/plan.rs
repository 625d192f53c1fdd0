//! What a model takes, before anything is allocated.

use serde::Serialize;

use crate::activations::{Purpose, lay_out};
use crate::batch::Uploaded;
use crate::generator::Room;
use crate::lora::{AdapterLayout, Lora};
use crate::shape::Shape;
use crate::{Config, Error, Layout, Result};

/// What a [`Trainer`](crate::Trainer) or an [`Evaluator`](crate::Evaluator) takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Parameters, without padding.
    pub parameters: u64,
    /// FLOPs of a training step per token, by the formula usual for model FLOPs utilisation (Chowdhery et al. 2022,
    /// appendix B): 6·(parameters that multiply, the head over V among them) + 12·L·C·T. A multiplication is 2 FLOPs
    /// forward and 4 backward; the second term is the attention's two products with all T positions, masked or not.
    /// Embedding rows, biases and layer norms multiply nothing; a forward alone takes a third.
    pub flops_per_token: u64,
    /// Memory.
    pub bytes: Bytes,
}

/// Bytes of device memory by use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Parameters.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimizer's two moments, and the master weights where parameters have less than f32.
    pub optimizer: u64,
    /// Activations, their gradients, statistics, losses and the batch.
    pub activations: u64,
    /// All of them.
    pub total: u64,
}

impl Plan {
    /// What micro-batches of B sequences of T tokens take, with elements of `act_bytes` and gradients of
    /// parameters of `grad_bytes` bytes ([`Ops::act_bytes`](wikigpt_ops::Ops::act_bytes)); statistics, moments and master weights have
    /// four at least.
    ///
    /// # Errors
    /// [`Error::Config`] when the shape is impossible or too large to count.
    pub fn new(
        config: &Config,
        B: usize,
        T: usize,
        training: bool,
        act_bytes: usize,
        grad_bytes: usize,
    ) -> Result<Plan> {
        let layout = Layout::new(config)?;
        let shape = Shape::new(config, B, T)?;
        let trained = if training { layout.len } else { 0 };
        let elements = Elements { weights: layout.len, gradients: trained, trained };
        let purpose = if training { Purpose::Train } else { Purpose::Evaluate };
        Ok(Plan {
            parameters: layout.parameters() as u64,
            flops_per_token: flops_per_token(config, &layout, T),
            bytes: Bytes::of(config, shape, purpose, elements, [act_bytes, grad_bytes])?,
        })
    }
}

/// What there is beside activations.
struct Elements {
    weights: usize,
    gradients: usize,
    /// Of which the optimizer keeps moments.
    trained: usize,
}

impl Bytes {
    /// What a trainer of adapters takes, as in [`Plan::new`]: only adapters have gradients and moments.
    ///
    /// # Errors
    /// Those of [`Plan::new`], and [`Error::Config`] when the model can have no such adapters.
    pub fn with_adapters(
        config: &Config,
        lora: &Lora,
        B: usize,
        T: usize,
        act_bytes: usize,
        grad_bytes: usize,
    ) -> Result<Bytes> {
        let shape = Shape::new(config, B, T)?.with_rank(lora.rank);
        let trained = AdapterLayout::new(config, lora)?.len;
        let weights = Layout::new(config)?.len.saturating_add(trained);
        let elements = Elements { weights, gradients: trained + 2 * config.n_embd, trained };
        Bytes::of(config, shape, Purpose::Train, elements, [act_bytes, grad_bytes])
    }

    /// What a [`Generator`](crate::Generator) of so many slots takes beside the weights, with elements of `act_bytes` bytes and
    /// adapters of rank R, or 0.
    ///
    /// # Errors
    /// [`Error::Config`] when the shape is impossible or too large to count.
    pub fn of_generator(config: &Config, R: usize, slots: usize, act_bytes: usize) -> Result<u64> {
        let Room { kv, acts, stats, toks, knobs, .. } = Room::new(config, R, slots)?;
        let (act, stat) = (act_bytes as u64, act_bytes.max(size_of::<f32>()) as u64);
        let parts = [(kv, act), (acts, act), (stats, stat), (knobs, stat), (toks, size_of::<u32>() as u64)];
        let add = |sum: u64, (len, size): &(usize, u64)| sum.checked_add((*len as u64).checked_mul(*size)?);
        parts.iter().try_fold(0, add).ok_or_else(too_large)
    }

    fn of(
        config: &Config,
        shape: Shape,
        purpose: Purpose,
        elements: Elements,
        [act_bytes, grad_bytes]: [usize; 2],
    ) -> Result<Bytes> {
        let a = lay_out(shape, config.n_layer, purpose, 0, 0)?;
        let (act, stat) = (act_bytes as u64, act_bytes.max(size_of::<f32>()) as u64);
        let bytes = |len: usize, size: u64| (len as u64).checked_mul(size);
        let sum = |parts: &[Option<u64>]| {
            parts.iter().try_fold(0_u64, |sum, part| sum.checked_add((*part)?)).ok_or_else(too_large)
        };
        let weights = sum(&[bytes(elements.weights, act)])?;
        let gradients = sum(&[bytes(elements.gradients, grad_bytes as u64)])?;
        let moments = bytes(elements.trained, stat);
        let master = if act < stat { moments } else { Some(0) };
        let optimizer = sum(&[moments, moments, master])?;
        let batch = bytes(shape.N, Uploaded::BYTES as u64);
        let activations = sum(&[bytes(a.act_len, act), bytes(a.stat_len, stat), batch])?;
        let total = sum(&[Some(weights), Some(gradients), Some(optimizer), Some(activations)])?;
        Ok(Bytes { weights, gradients, optimizer, activations, total })
    }
}

fn too_large() -> Error {
    Error::Config("the model takes more memory than this machine can count".into())
}

/// See [`Plan::flops_per_token`].
fn flops_per_token(config: &Config, layout: &Layout, T: usize) -> u64 {
    let C = config.n_embd;
    let embeddings = [&layout.wte, &layout.wpe];
    let multiply = |tensor: &&crate::Tensor| tensor.decays() && !embeddings.contains(&&tensor.range);
    let blocks: usize = layout.tensors.iter().filter(multiply).map(crate::Tensor::size).sum();
    let tied_head = if config.tied { config.vocab_size * C } else { 0 };
    6 * (blocks + tied_head) as u64 + 12 * (config.n_layer * C) as u64 * T as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_124m() {
        let config = Config::preset("gpt2", 50_257).unwrap();
        let plan = Plan::new(&config, 2, 256, true, 4, 4).unwrap();
        assert_eq!(plan.parameters, 124_439_808);
        // 12 blocks of 12·C² and the head of V·C; 12·L·C·T.
        let multiply = 12 * 12 * 768 * 768 + 50_257 * 768;
        assert_eq!(plan.flops_per_token, 6 * multiply + 12 * 12 * 768 * 256);
        let layout = Layout::new(&config).unwrap();
        assert_eq!(plan.bytes.weights, 4 * layout.len as u64);
        assert_eq!(plan.bytes.gradients, plan.bytes.weights);
        assert_eq!(plan.bytes.optimizer, 2 * plan.bytes.weights);
        let parts = plan.bytes.weights + plan.bytes.gradients + plan.bytes.optimizer + plan.bytes.activations;
        assert_eq!(plan.bytes.total, parts);
        // 16·C a block and token, the stream's end and its norm, the scratch of 2·C, and the logits, which cover the rest.
        let (N, C, Vp) = (512, 768, 50_304);
        let acts = N * (12 * 16 * C + 2 * C + 2 * C + Vp);
        let stats = N * (12 * (4 + 12) + 2 + 1);
        assert_eq!(plan.bytes.activations, 4 * (acts + stats + 5 * N));
    }

    #[test]
    fn a_generator_keeps_keys_and_values_of_every_position() {
        let config = Config::preset("gpt2", 50_257).unwrap();
        let [one, three] = [1, 3].map(|slots| Bytes::of_generator(&config, 0, slots, 2).unwrap());
        // 12 blocks of 2·1024·C in bf16; of the numbers, two a slot, two and four knobs to draw by, and a bit a token. The largest pass
        // is a piece of a prompt in both.
        assert_eq!(three - one, 2 * (12 * 2 * 1024 * 768 * 2 + 4 * (2 + 2 + 4 + 1571)));
        // That pass: one block's activations, the end of the stream, its norm and scratch, and the logits of one position.
        assert!((one - 12 * 2 * 1024 * 768 * 2) < 128 * 40 * 768 * 2 + 50_304 * 2);
        let error = Bytes::of_generator(&config, 0, usize::MAX / 2048, 2).unwrap_err().to_string();
        assert!(error.contains("larger than this machine can count"), "{error}");
    }

    #[test]
    fn an_untied_head_multiplies_as_often_and_is_counted_once() {
        let tied = Config::preset("tiny", 300).unwrap();
        let untied = Config { tied: false, ..tied.clone() };
        let plan = |config: &Config| Plan::new(config, 1, 64, true, 4, 4).unwrap();
        assert_eq!(plan(&tied).flops_per_token, plan(&untied).flops_per_token);
        assert_eq!(plan(&tied).parameters + 300 * 64, plan(&untied).parameters);
    }

    #[test]
    fn a_forward_alone_takes_one_blocks_activations() {
        let shallow = Config::preset("small", 256).unwrap();
        let deep = Config { n_layer: 40, ..shallow.clone() };
        let plan = |config: &Config| Plan::new(config, 4, 128, false, 4, 4).unwrap().bytes;
        assert_eq!(plan(&shallow).activations, plan(&deep).activations);
        assert_eq!((plan(&deep).gradients, plan(&deep).optimizer), (0, 0));
    }

    #[test]
    fn sizes_without_end_are_refused_and_not_allocated() {
        let config = Config::preset("gpt2", 50_257).unwrap();
        let error = Plan::new(&config, usize::MAX / 1024, 1024, true, 4, 4).unwrap_err().to_string();
        assert!(error.contains("larger than this machine can count"), "{error}");
        let error = Plan::new(&config, 1, 2048, true, 4, 4).unwrap_err().to_string();
        assert!(error.contains("longer than the model's context of 1024"), "{error}");
        let error = Plan::new(&config, 0, 1024, true, 4, 4).unwrap_err().to_string();
        assert!(error.contains("at least one sequence"), "{error}");
    }
}
