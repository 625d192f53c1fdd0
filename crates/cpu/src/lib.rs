#![doc = "The operations in f32 on CPU threads."]
//!
//! [`cpu`] makes a backend. Each op has a file of its name, where its loop stands as near its formula as vectors and threads
//! let it; the formulas and the derivations of the backward passes are in [`wikigpt_ops::reference`], to which every
//! op here is held. What they share:
//!
//! - `threads`: a fixed team of threads that share out the tasks of one op at a time;
//! - `simd`: loops compiled for several instruction sets, one chosen at run time; the exponential;
//! - `gemm`: the matrix product;
//! - `scratch`: memory that is grown at first use and kept. A step that has run before allocates nothing.
//!
//! Results do not depend on the number of threads: work is cut at places that depend on the shapes alone.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod adamw;
mod attention;
mod cross_entropy;
mod dropout;
mod embedding;
mod gelu;
mod gemm;
mod layernorm;
mod matmul;
mod residual;
mod sample;
mod scratch;
mod share;
mod simd;
mod softmax;
mod threads;
mod unfused;

use wikigpt_ops::host::{Host, Kernels};
use wikigpt_ops::reference::attention::Heads;
use wikigpt_ops::{AdamW, Dropout, Update};

use scratch::{Buffer, PerWorker};
pub use simd::Level;
use threads::Threads;

/// The backend: [`Ops`](wikigpt_ops::Ops) in f32 on CPU threads.
pub type Cpu = Host<CpuKernels>;

/// A backend on `threads` threads, the caller's among them; 0 asks for one per core.
///
/// # Errors
/// [`Error::Threads`].
pub fn cpu(threads: usize) -> Result<Cpu, Error> {
    Ok(Host::with(CpuKernels::new(threads, Level::best())?))
}

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system would not start the threads.
    #[error(
        "the system did not start the threads that were asked for ({threads}; 0 means one per core): {source}"
    )]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// The processor lacks an instruction set.
    #[error("this processor does not have the instruction set {0:?}")]
    Level(Level),
}

/// The kernels of [`Cpu`].
pub struct CpuKernels {
    level: Level,
    threads: Threads,
    /// Scratch that all threads see: packed operands, partial sums.
    shared: Buffer,
    workers: PerWorker,
    candidates: sample::Scratch,
}

impl CpuKernels {
    /// Kernels that use one instruction set, on `threads` threads (0: one per core).
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(threads: usize, level: Level) -> Result<Self, Error> {
        if !Level::available().contains(&level) {
            return Err(Error::Level(level));
        }
        let team = Threads::new(threads).map_err(|source| Error::Threads { threads, source })?;
        let workers = PerWorker::new(team.count());
        let candidates = sample::scratch(team.count());
        Ok(CpuKernels { level, threads: team, shared: Buffer::default(), workers, candidates })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// The instruction set in use.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Kernels for CpuKernels {
    type F = f32;

    fn device(&self) -> String {
        match self.threads() {
            1 => "cpu (1 thread)".into(),
            threads => format!("cpu ({threads} threads)"),
        }
    }

    fn embedding_forward(
        &mut self,
        out: &mut [f32],
        tokens: &[u32],
        positions: Option<&[u32]>,
        wte: &[f32],
        wpe: &[f32],
        T: usize,
        C: usize,
    ) {
        embedding::forward(self, out, tokens, positions, wte, wpe, T, C);
    }

    fn embedding_backward(
        &mut self,
        dwte: &mut [f32],
        dwpe: &mut [f32],
        dout: &[f32],
        tokens: &[u32],
        positions: Option<&[u32]>,
        T: usize,
        C: usize,
        update: Update,
    ) {
        embedding::backward(self, dwte, dwpe, dout, tokens, positions, T, C, update);
    }

    fn layernorm_forward(
        &mut self,
        out: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
        inp: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        C: usize,
        eps: f32,
    ) {
        layernorm::forward(self, out, mean, rstd, inp, weight, bias, C, eps);
    }

    fn layernorm_backward(
        &mut self,
        dinp: &mut [f32],
        dweight: &mut [f32],
        dbias: Option<&mut [f32]>,
        dout: &[f32],
        inp: &[f32],
        weight: &[f32],
        mean: &[f32],
        rstd: &[f32],
        C: usize,
        update_inp: Update,
        update: Update,
    ) {
        layernorm::backward(self, dinp, dweight, dbias, dout, inp, weight, mean, rstd, C, update_inp, update);
    }

    fn residual_forward(&mut self, out: &mut [f32], a: &[f32], b: &[f32]) {
        residual::forward(self, out, a, b);
    }

    fn residual_backward(&mut self, da: &mut [f32], dout: &[f32], update: Update) {
        residual::backward(self, da, dout, update);
    }

    fn residual_layernorm_forward(
        &mut self,
        res: &mut [f32],
        out: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
        a: &[f32],
        b: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        C: usize,
        eps: f32,
    ) {
        layernorm::residual_forward(self, res, out, mean, rstd, a, b, weight, bias, C, eps);
    }

    fn matmul_forward(
        &mut self,
        out: &mut [f32],
        inp: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        C: usize,
        OC: usize,
    ) {
        matmul::forward(self, out, inp, weight, bias, C, OC);
    }

    fn matmul_gelu_forward(
        &mut self,
        out: &mut [f32],
        pre: &mut [f32],
        inp: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        C: usize,
        OC: usize,
    ) {
        matmul::gelu_forward(self, out, pre, inp, weight, bias, C, OC);
    }

    fn matmul_residual_forward(
        &mut self,
        out: &mut [f32],
        residual: &[f32],
        inp: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        C: usize,
        OC: usize,
    ) {
        matmul::residual_forward(self, out, residual, inp, weight, bias, C, OC);
    }

    fn matmul_backward_input(
        &mut self,
        dinp: &mut [f32],
        dout: &[f32],
        weight: &[f32],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        matmul::backward_input(self, dinp, dout, weight, C, OC, update);
    }

    fn matmul_gelu_backward_input(
        &mut self,
        dpre: &mut [f32],
        dout: &[f32],
        weight: &[f32],
        pre: &[f32],
        C: usize,
        OC: usize,
    ) {
        matmul::gelu_backward_input(self, dpre, dout, weight, pre, C, OC);
    }

    fn matmul_backward_weight(
        &mut self,
        dweight: &mut [f32],
        dbias: Option<&mut [f32]>,
        dout: &[f32],
        inp: &[f32],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        matmul::backward_weight(self, dweight, dbias, dout, inp, C, OC, update);
    }

    fn bias_forward(&mut self, x: &mut [f32], bias: &[f32]) {
        matmul::bias_forward(self, x, bias);
    }

    fn bias_backward(&mut self, dbias: &mut [f32], dout: &[f32], update: Update) {
        matmul::bias_backward(self, dbias, dout, update);
    }

    fn attention_forward(
        &mut self,
        out: &mut [f32],
        lse: &mut [f32],
        qkv: &[f32],
        starts: Option<&[u32]>,
        B: usize,
        heads: Heads,
        dropout: Dropout,
    ) {
        attention::forward(self, out, lse, qkv, starts, B, heads, dropout);
    }

    fn attention_backward(
        &mut self,
        dqkv: &mut [f32],
        dout: &[f32],
        out: &[f32],
        lse: &[f32],
        qkv: &[f32],
        starts: Option<&[u32]>,
        B: usize,
        heads: Heads,
        dropout: Dropout,
    ) {
        attention::backward(self, dqkv, dout, out, lse, qkv, starts, B, heads, dropout);
    }

    fn attention_cached_forward(
        &mut self,
        out: &mut [f32],
        kcache: &mut [f32],
        vcache: &mut [f32],
        qkv: &[f32],
        pos: &[u32],
        rows: Option<&[u32]>,
        Tmax: usize,
        heads: Heads,
    ) {
        attention::cached_forward(self, out, kcache, vcache, qkv, pos, rows, Tmax, heads);
    }

    fn attention_scores_forward(&mut self, scores: &mut [f32], qkv: &[f32], B: usize, heads: Heads) {
        unfused::scores_forward(self, scores, qkv, B, heads);
    }

    fn attention_scores_backward(
        &mut self,
        dqkv: &mut [f32],
        dscores: &[f32],
        qkv: &[f32],
        B: usize,
        heads: Heads,
    ) {
        unfused::scores_backward(self, dqkv, dscores, qkv, B, heads);
    }

    fn softmax_forward(&mut self, probs: &mut [f32], scores: &[f32], T: usize) {
        softmax::forward(self, probs, scores, T);
    }

    fn softmax_backward(&mut self, dscores: &mut [f32], dprobs: &[f32], probs: &[f32], T: usize) {
        softmax::backward(self, dscores, dprobs, probs, T);
    }

    fn attention_values_forward(
        &mut self,
        out: &mut [f32],
        probs: &[f32],
        qkv: &[f32],
        B: usize,
        heads: Heads,
    ) {
        unfused::values_forward(self, out, probs, qkv, B, heads);
    }

    fn attention_values_backward(
        &mut self,
        dprobs: &mut [f32],
        dqkv: &mut [f32],
        dout: &[f32],
        probs: &[f32],
        qkv: &[f32],
        B: usize,
        heads: Heads,
    ) {
        unfused::values_backward(self, dprobs, dqkv, dout, probs, qkv, B, heads);
    }

    fn gelu_forward(&mut self, out: &mut [f32], inp: &[f32]) {
        gelu::forward(self, out, inp);
    }

    fn gelu_backward(&mut self, dinp: &mut [f32], dout: &[f32], inp: &[f32]) {
        gelu::backward(self, dinp, dout, inp);
    }

    fn dropout_forward(&mut self, out: &mut [f32], inp: &[f32], dropout: Dropout) {
        dropout::forward(self, out, inp, dropout);
    }

    fn cross_entropy_forward(
        &mut self,
        losses: &mut [f32],
        logits: &[f32],
        targets: &[u32],
        weights: Option<&[f32]>,
        V: usize,
        Vp: usize,
    ) {
        cross_entropy::forward(self, losses, logits, targets, weights, V, Vp);
    }

    fn cross_entropy_forward_backward(
        &mut self,
        losses: &mut [f32],
        logits: &mut [f32],
        targets: &[u32],
        weights: Option<&[f32]>,
        V: usize,
        Vp: usize,
        scale: f32,
    ) {
        cross_entropy::forward_backward(self, losses, logits, targets, weights, V, Vp, scale);
    }

    fn sample(
        &mut self,
        tokens: &mut [u32],
        seen: Option<&mut [u32]>,
        logits: &[f32],
        knobs: &[f32],
        uniforms: &[u32],
        rows: Option<&[u32]>,
        V: usize,
        Vp: usize,
    ) {
        sample::forward(self, tokens, seen, logits, knobs, uniforms, rows, V, Vp);
    }

    fn sum(&mut self, inp: &[f32]) -> f32 {
        adamw::sum(inp)
    }

    fn global_norm(&mut self, grads: &[f32]) -> f32 {
        adamw::global_norm(self, grads)
    }

    fn adamw(
        &mut self,
        params: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        grads: &[f32],
        norm: f32,
        constants: AdamW,
    ) {
        adamw::adamw(self, params, m, v, grads, norm, constants);
    }
}
