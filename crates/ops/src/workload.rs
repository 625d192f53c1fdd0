//! Each op at a model's shapes: what benchmarks time, and what reports count.

use crate::{Act, AdamW, Dropout, Grad, Kind, Knobs, Ops, Result, Slot, Stat, Tok, Update};

/// The sizes that an op sees.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sequences.
    pub B: usize,
    /// Tokens of a sequence.
    pub T: usize,
    /// Heads.
    pub NH: usize,
    /// Channels of a head.
    pub HS: usize,
    /// Tokens of the vocabulary.
    pub V: usize,
    /// The same, padded.
    pub Vp: usize,
    /// Elements that the optimizer walks; at most so many, for the time per element does not change.
    pub parameters: usize,
}

impl Shape {
    /// The same widths with few rows, which the reference can do.
    pub fn reduced(self) -> Shape {
        Shape { B: 1, T: 24, parameters: 1 << 12, ..self }
    }

    /// Rows.
    pub fn N(self) -> usize {
        self.B * self.T
    }

    /// Channels.
    pub fn C(self) -> usize {
        self.NH * self.HS
    }

    /// Tokens of a text where a row holds four.
    fn text(self) -> usize {
        self.T.div_ceil(4)
    }
}

/// An op, and with what weight where there are several.
#[allow(missing_docs)] // named as the ops are
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    EmbeddingForward,
    EmbeddingBackward,
    LayernormForward,
    ResidualLayernormForward,
    LayernormBackward,
    MatmulQkv,
    MatmulGelu,
    MatmulResidual,
    MatmulLogits,
    MatmulOneRow,
    MatmulLogitsOneRow,
    MatmulBackwardInput,
    MatmulGeluBackwardInput,
    MatmulBackwardWeight,
    MatmulLogitsBackwardInput,
    MatmulLogitsBackwardWeight,
    AttentionForward,
    AttentionBackward,
    AttentionForwardPacked,
    AttentionBackwardPacked,
    AttentionCachedPrefill,
    AttentionCachedOneRow,
    ResidualForward,
    ResidualBackward,
    BiasForward,
    BiasBackward,
    AttentionScoresForward,
    AttentionScoresBackward,
    SoftmaxForward,
    SoftmaxBackward,
    AttentionValuesForward,
    AttentionValuesBackward,
    GeluForward,
    GeluBackward,
    DropoutForward,
    DropoutBackward,
    CrossEntropyForward,
    CrossEntropy,
    Sample,
    Sum,
    GlobalNorm,
    AdamW,
}

/// Every op and its name.
pub const OPS: [(Op, &str); 42] = [
    (Op::EmbeddingForward, "embedding_forward"),
    (Op::EmbeddingBackward, "embedding_backward"),
    (Op::LayernormForward, "layernorm_forward"),
    (Op::ResidualLayernormForward, "residual_layernorm_forward"),
    (Op::LayernormBackward, "layernorm_backward"),
    (Op::MatmulQkv, "matmul_forward (C to 3C)"),
    (Op::MatmulGelu, "matmul_gelu_forward (C to 4C)"),
    (Op::MatmulResidual, "matmul_residual_forward (4C to C)"),
    (Op::MatmulLogits, "matmul_forward (C to Vp)"),
    (Op::MatmulOneRow, "matmul_forward (C to 4C, one row)"),
    (Op::MatmulLogitsOneRow, "matmul_forward (C to Vp, one row)"),
    (Op::MatmulBackwardInput, "matmul_backward_input (C to 4C)"),
    (Op::MatmulGeluBackwardInput, "matmul_gelu_backward_input (4C to C)"),
    (Op::MatmulBackwardWeight, "matmul_backward_weight (C to 4C)"),
    (Op::MatmulLogitsBackwardInput, "matmul_backward_input (C to Vp)"),
    (Op::MatmulLogitsBackwardWeight, "matmul_backward_weight (C to Vp)"),
    (Op::AttentionForward, "attention_forward"),
    (Op::AttentionBackward, "attention_backward"),
    (Op::AttentionForwardPacked, "attention_forward (four texts a row)"),
    (Op::AttentionBackwardPacked, "attention_backward (four texts a row)"),
    (Op::AttentionCachedPrefill, "attention_cached_forward (prefill)"),
    (Op::AttentionCachedOneRow, "attention_cached_forward (one row)"),
    (Op::ResidualForward, "residual_forward"),
    (Op::ResidualBackward, "residual_backward"),
    (Op::BiasForward, "bias_forward"),
    (Op::BiasBackward, "bias_backward"),
    (Op::AttentionScoresForward, "attention_scores_forward"),
    (Op::SoftmaxForward, "softmax_forward"),
    (Op::AttentionValuesForward, "attention_values_forward"),
    (Op::AttentionValuesBackward, "attention_values_backward"),
    (Op::SoftmaxBackward, "softmax_backward"),
    (Op::AttentionScoresBackward, "attention_scores_backward"),
    (Op::GeluForward, "gelu_forward"),
    (Op::GeluBackward, "gelu_backward"),
    (Op::DropoutForward, "dropout_forward"),
    (Op::DropoutBackward, "dropout_backward"),
    (Op::CrossEntropyForward, "cross_entropy_forward"),
    (Op::CrossEntropy, "cross_entropy_forward_backward"),
    (Op::Sample, "sample"),
    (Op::Sum, "sum"),
    (Op::GlobalNorm, "global_norm"),
    (Op::AdamW, "adamw"),
];

/// What bounds an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// FLOPs of products.
    Flops(usize),
    /// Bytes of memory.
    Bytes(usize),
}

/// Bytes of an element by its kind.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of weights, activations and their gradients.
    pub act: usize,
    /// Of gradients of parameters.
    pub grad: usize,
}

impl Sizes {
    /// A backend's.
    pub fn of(ops: &impl Ops) -> Sizes {
        Sizes { act: ops.act_bytes(), grad: ops.grad_bytes() }
    }
}

impl Op {
    /// What the op must do: FLOPs of products, a causal product counted by half; or bytes of the tensors that it reads and
    /// writes, each once.
    pub fn work(self, s: Shape, sizes: Sizes) -> Work {
        let (N, C, Vp, P) = (s.N(), s.C(), s.Vp, s.parameters);
        let product = |rows: usize, wide: usize| Work::Flops(2 * rows * C * wide);
        let causal = s.B * s.NH * s.T * (s.T + 1) * s.HS;
        let packed = s.B * s.NH * s.T * (s.text() + 1) * s.HS;
        let elements = |count: usize| Work::Bytes(sizes.act * count);
        let square = s.B * s.NH * s.T * s.T;
        // A master weight is read and written where parameters are narrower.
        let master = if sizes.act < 4 { 8 } else { 0 };
        match self {
            Op::EmbeddingForward => elements(3 * N * C),
            Op::EmbeddingBackward => elements(3 * N * C),
            Op::LayernormForward => elements(2 * N * C),
            Op::ResidualLayernormForward => elements(4 * N * C),
            Op::LayernormBackward => elements(4 * N * C),
            Op::MatmulQkv => product(N, 3 * C),
            Op::MatmulGelu
            | Op::MatmulResidual
            | Op::MatmulBackwardInput
            | Op::MatmulGeluBackwardInput
            | Op::MatmulBackwardWeight => product(N, 4 * C),
            Op::MatmulLogits | Op::MatmulLogitsBackwardInput | Op::MatmulLogitsBackwardWeight => {
                product(N, Vp)
            }
            Op::MatmulOneRow => elements(4 * C * C),
            Op::MatmulLogitsOneRow => elements(Vp * C),
            Op::AttentionForward | Op::AttentionCachedPrefill => Work::Flops(2 * causal),
            Op::AttentionBackward => Work::Flops(5 * causal),
            Op::AttentionForwardPacked => Work::Flops(2 * packed),
            Op::AttentionBackwardPacked => Work::Flops(5 * packed),
            Op::AttentionCachedOneRow => elements(2 * N * C),
            Op::ResidualForward | Op::ResidualBackward => elements(3 * N * C),
            Op::BiasForward => elements(2 * N * 4 * C),
            Op::BiasBackward => elements(N * 4 * C),
            Op::AttentionScoresForward | Op::AttentionValuesForward => Work::Flops(causal),
            Op::AttentionScoresBackward | Op::AttentionValuesBackward => Work::Flops(2 * causal),
            // Of scores, half are read.
            Op::SoftmaxForward => elements(square + square / 2),
            Op::SoftmaxBackward => elements(2 * square),
            Op::GeluForward => elements(2 * N * 4 * C),
            Op::GeluBackward => elements(3 * N * 4 * C),
            Op::DropoutForward | Op::DropoutBackward => elements(2 * N * C),
            Op::CrossEntropyForward => elements(N * Vp),
            Op::CrossEntropy => elements(2 * N * Vp),
            Op::Sample => elements(s.B * Vp),
            Op::Sum => Work::Bytes(4 * N),
            Op::GlobalNorm => Work::Bytes(sizes.grad * P),
            Op::AdamW => Work::Bytes((2 * sizes.act + sizes.grad + 16 + master) * P),
        }
    }
}

/// The tensors of a layer, its neighbours and the optimizer, named as in the model.
pub struct Tensors<O> {
    ops: O,
    shape: Shape,
    tokens: Slot<Tok>,
    starts: Slot<Tok>,
    /// Of an empty cache, then of one that has room for one position more.
    pos: Slot<Tok>,
    x: Slot<Act>,
    y: Slot<Act>,
    z: Slot<Act>,
    qkv: Slot<Act>,
    dqkv: Slot<Act>,
    scores: Slot<Act>,
    probs: Slot<Act>,
    dprobs: Slot<Act>,
    h: Slot<Act>,
    pre: Slot<Act>,
    weight: Slot<Act>,
    dweight: Slot<Grad>,
    bias: Slot<Act>,
    dbias: Slot<Grad>,
    wte: Slot<Act>,
    dwte: Slot<Grad>,
    wpe: Slot<Act>,
    dwpe: Slot<Grad>,
    logits: Slot<Act>,
    /// Of a token for each sequence: what is drawn, by which knobs and numbers, and what its text holds.
    drawn: Slot<Tok>,
    seen: Slot<Tok>,
    knobs: Slot<Stat>,
    uniforms: Slot<Tok>,
    kcache: Slot<Act>,
    vcache: Slot<Act>,
    mean: Slot<Stat>,
    rstd: Slot<Stat>,
    lse: Slot<Stat>,
    losses: Slot<Stat>,
    norm: Slot<Stat>,
    params: Slot<Act>,
    master: Option<Slot<Stat>>,
    grads: Slot<Grad>,
    m: Slot<Stat>,
    v: Slot<Stat>,
}

/// Allocates, with numbers in [low, low + 2).
fn numbers<O: Ops, K: Kind<Host = f32>>(ops: &mut O, len: usize, low: f32) -> Result<Slot<K>> {
    let mut state = len as u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 + low
    };
    let data: Vec<f32> = (0..len).map(|_| next()).collect();
    let slot = ops.alloc(len)?;
    ops.upload(slot, &data)?;
    Ok(slot)
}

impl<O: Ops> Tensors<O> {
    /// Allocates them, with numbers that look random.
    ///
    /// # Errors
    /// [`Error`](crate::Error), when there is no memory.
    pub fn new(mut ops: O, shape: Shape) -> Result<Self> {
        let (N, C, V, Vp, P) = (shape.N(), shape.C(), shape.V, shape.Vp, shape.parameters);
        let tokens = ops.alloc(N)?;
        let ids: Vec<u32> = (0..N).map(|n| (n * 7919 % V) as u32).collect();
        ops.upload(tokens, &ids)?;
        let starts = ops.alloc(N)?;
        let begins: Vec<u32> = (0..N).map(|n| (n % shape.T / shape.text() * shape.text()) as u32).collect();
        ops.upload(starts, &begins)?;
        let pos = ops.alloc(2 * shape.B)?;
        ops.upload(pos.slice(shape.B..2 * shape.B), &vec![shape.T as u32 - 1; shape.B])?;
        let drawn = ops.alloc(shape.B)?;
        let seen = ops.alloc(shape.B * V.div_ceil(32))?;
        let uniforms = ops.alloc(shape.B)?;
        let spread: Vec<u32> = (1..=shape.B as u32).map(|b| b.wrapping_mul(0x9E37_79B9)).collect();
        ops.upload(uniforms, &spread)?;
        let knobs = ops.alloc(shape.B * Knobs::LEN)?;
        let every = Knobs { temperature: 0.8, top_k: 200.0, top_p: 0.95, penalty: 1.2 };
        ops.upload(knobs, &every.row().repeat(shape.B))?;
        let mut act = |len| numbers::<_, Act>(&mut ops, len, -1.0);
        let (x, y, z) = (act(N * C)?, act(N * C)?, act(N * C)?);
        let (qkv, dqkv, h, pre) = (act(N * 3 * C)?, act(N * 3 * C)?, act(N * 4 * C)?, act(N * 4 * C)?);
        let (weight, bias, wte, wpe) = (act(4 * C * C)?, act(4 * C)?, act(Vp * C)?, act(shape.T * C)?);
        let (logits, kcache, vcache) = (act(N * Vp)?, act(N * C)?, act(N * C)?);
        let params = act(P)?;
        let square = shape.B * shape.NH * shape.T * shape.T;
        let (scores, probs, dprobs) = (act(square)?, act(square)?, act(square)?);
        let mut grad = |len| numbers::<_, Grad>(&mut ops, len, -1.0);
        let (dweight, dbias, dwte, dwpe) =
            (grad(4 * C * C)?, grad(4 * C)?, grad(Vp * C)?, grad(shape.T * C)?);
        let grads = grad(P)?;
        let mut stat = |len| numbers::<_, Stat>(&mut ops, len, 0.0);
        let (mean, rstd, lse) = (stat(N)?, stat(N)?, stat(N * shape.NH)?);
        let (losses, norm, m, v) = (stat(N)?, stat(1)?, stat(P)?, stat(P)?);
        let master = if ops.act_bytes() < 4 { Some(numbers::<_, Stat>(&mut ops, P, -1.0)?) } else { None };
        Ok(Tensors {
            ops,
            shape,
            tokens,
            starts,
            pos,
            x,
            y,
            z,
            qkv,
            dqkv,
            scores,
            probs,
            dprobs,
            h,
            pre,
            weight,
            dweight,
            bias,
            dbias,
            wte,
            dwte,
            wpe,
            dwpe,
            logits,
            drawn,
            seen,
            knobs,
            uniforms,
            kcache,
            vcache,
            mean,
            rstd,
            lse,
            losses,
            norm,
            params,
            master,
            grads,
            m,
            v,
        })
    }

    /// The backend.
    pub fn backend(&mut self) -> &mut O {
        &mut self.ops
    }

    /// Runs an op.
    ///
    /// # Errors
    /// The op's.
    pub fn run(&mut self, op: Op) -> Result {
        let Shape { B, T, NH, HS, V, Vp, .. } = self.shape;
        let (N, C) = (self.shape.N(), self.shape.C());
        let ops = &mut self.ops;
        let (set, none) = (Update::Set, Dropout::NONE);
        let (narrow, wide) = (self.bias.slice(0..C), self.bias);
        let one = |slot: Slot<Act>, width: usize| slot.slice(0..width);
        match op {
            Op::EmbeddingForward => {
                ops.embedding_forward(self.z, self.tokens, None, self.wte, self.wpe, B, T, C)
            }
            Op::EmbeddingBackward => {
                ops.embedding_backward(self.dwte, self.dwpe, self.x, self.tokens, None, B, T, C, set)
            }
            Op::LayernormForward => {
                ops.layernorm_forward(self.z, self.mean, self.rstd, self.x, narrow, Some(narrow), N, C, 1e-5)
            }
            Op::ResidualLayernormForward => {
                let (res, out) = (self.h.slice(0..N * C), self.z);
                ops.residual_layernorm_forward(
                    res,
                    out,
                    self.mean,
                    self.rstd,
                    self.x,
                    self.y,
                    narrow,
                    Some(narrow),
                    N,
                    C,
                    1e-5,
                )
            }
            Op::LayernormBackward => {
                let (dweight, dbias) = (self.dweight.slice(0..C), Some(self.dbias.slice(0..C)));
                let (mean, rstd) = (self.mean, self.rstd);
                ops.layernorm_backward(
                    self.z,
                    dweight,
                    dbias,
                    self.y,
                    self.x,
                    narrow,
                    mean,
                    rstd,
                    N,
                    C,
                    Update::Add,
                    set,
                )
            }
            Op::MatmulQkv => {
                let (weight, bias) = (self.weight.slice(0..3 * C * C), Some(self.bias.slice(0..3 * C)));
                ops.matmul_forward(self.dqkv, self.x, weight, bias, N, C, 3 * C)
            }
            Op::MatmulGelu => {
                ops.matmul_gelu_forward(self.h, self.pre, self.x, self.weight, Some(wide), N, C, 4 * C)
            }
            Op::MatmulResidual => {
                ops.matmul_residual_forward(self.z, self.y, self.h, self.weight, Some(narrow), N, 4 * C, C)
            }
            Op::MatmulLogits => ops.matmul_forward(self.logits, self.x, self.wte, None, N, C, Vp),
            Op::MatmulOneRow => {
                ops.matmul_forward(one(self.h, 4 * C), one(self.x, C), self.weight, Some(wide), 1, C, 4 * C)
            }
            Op::MatmulLogitsOneRow => {
                ops.matmul_forward(one(self.logits, Vp), one(self.x, C), self.wte, None, 1, C, Vp)
            }
            Op::MatmulBackwardInput => {
                ops.matmul_backward_input(self.z, self.pre, self.weight, N, C, 4 * C, set)
            }
            Op::MatmulGeluBackwardInput => {
                ops.matmul_gelu_backward_input(self.h, self.x, self.weight, self.pre, N, 4 * C, C)
            }
            Op::MatmulBackwardWeight => {
                ops.matmul_backward_weight(self.dweight, Some(self.dbias), self.pre, self.x, N, C, 4 * C, set)
            }
            Op::MatmulLogitsBackwardInput => {
                ops.matmul_backward_input(self.z, self.logits, self.wte, N, C, Vp, set)
            }
            Op::MatmulLogitsBackwardWeight => {
                ops.matmul_backward_weight(self.dwte, None, self.logits, self.x, N, C, Vp, set)
            }
            Op::AttentionForward => {
                ops.attention_forward(self.y, self.lse, self.qkv, None, B, T, NH, HS, none)
            }
            Op::AttentionBackward => ops
                .attention_backward(self.dqkv, self.x, self.y, self.lse, self.qkv, None, B, T, NH, HS, none),
            Op::AttentionForwardPacked => {
                ops.attention_forward(self.y, self.lse, self.qkv, Some(self.starts), B, T, NH, HS, none)
            }
            Op::AttentionBackwardPacked => {
                let starts = Some(self.starts);
                ops.attention_backward(
                    self.dqkv, self.x, self.y, self.lse, self.qkv, starts, B, T, NH, HS, none,
                )
            }
            Op::AttentionCachedPrefill => {
                let pos = self.pos.slice(0..B);
                let (kcache, vcache) = (self.kcache, self.vcache);
                ops.attention_cached_forward(self.z, kcache, vcache, self.qkv, pos, None, B, T, T, NH, HS)
            }
            Op::AttentionCachedOneRow => {
                let (out, qkv) = (one(self.z, B * C), one(self.qkv, B * 3 * C));
                let (kcache, vcache, pos) = (self.kcache, self.vcache, self.pos.slice(B..2 * B));
                ops.attention_cached_forward(out, kcache, vcache, qkv, pos, None, B, 1, T, NH, HS)
            }
            Op::ResidualForward => ops.residual_forward(self.z, self.x, self.y),
            Op::ResidualBackward => ops.residual_backward(self.z, self.x, Update::Add),
            Op::BiasForward => ops.bias_forward(self.h, wide, N, 4 * C),
            Op::BiasBackward => ops.bias_backward(self.dbias, self.pre, N, 4 * C, set),
            Op::AttentionScoresForward => ops.attention_scores_forward(self.scores, self.qkv, B, T, NH, HS),
            Op::SoftmaxForward => ops.softmax_forward(self.probs, self.scores, B * NH, T),
            Op::AttentionValuesForward => {
                ops.attention_values_forward(self.y, self.probs, self.qkv, B, T, NH, HS)
            }
            Op::AttentionValuesBackward => ops.attention_values_backward(
                self.dprobs,
                self.dqkv,
                self.x,
                self.probs,
                self.qkv,
                B,
                T,
                NH,
                HS,
            ),
            Op::SoftmaxBackward => ops.softmax_backward(self.scores, self.dprobs, self.probs, B * NH, T),
            Op::AttentionScoresBackward => {
                ops.attention_scores_backward(self.dqkv, self.scores, self.qkv, B, T, NH, HS)
            }
            Op::GeluForward => ops.gelu_forward(self.h, self.pre),
            Op::GeluBackward => {
                // One tensor stands for both inputs: the time is the same.
                ops.gelu_backward(self.h, self.pre, self.pre)
            }
            Op::DropoutForward => ops.dropout_forward(self.z, self.x, Dropout { p: 0.1, seed: 1, site: 0 }),
            Op::DropoutBackward => ops.dropout_backward(self.z, self.x, Dropout { p: 0.1, seed: 1, site: 0 }),
            Op::CrossEntropyForward => {
                ops.cross_entropy_forward(self.losses, self.logits, self.tokens, None, N, V, Vp)
            }
            Op::CrossEntropy => {
                let scale = 1.0 / N as f32;
                ops.cross_entropy_forward_backward(
                    self.losses,
                    self.logits,
                    self.tokens,
                    None,
                    N,
                    V,
                    Vp,
                    scale,
                )
            }
            Op::Sample => {
                let (logits, seen) = (one(self.logits, B * Vp), Some(self.seen));
                ops.sample(self.drawn, seen, logits, self.knobs, self.uniforms, None, B, V, Vp)
            }
            Op::Sum => ops.sum(self.norm, self.losses),
            Op::GlobalNorm => ops.global_norm(self.norm, self.grads),
            Op::AdamW => {
                let constants = AdamW { step: 10, ..AdamW::default() };
                ops.adamw(self.params, self.master, self.m, self.v, self.grads, self.norm, constants)
            }
        }
    }

    /// What the tensors hold that an op writes.
    ///
    /// # Errors
    /// [`Error`](crate::Error), when the device fails.
    pub fn written(&mut self, op: Op) -> Result<Vec<Vec<f32>>> {
        self.ops.synchronize()?;
        let (act, grad, stat): (&[Slot<Act>], &[Slot<Grad>], &[Slot<Stat>]) = match op {
            Op::EmbeddingForward | Op::MatmulResidual | Op::MatmulBackwardInput => (&[self.z], &[], &[]),
            Op::EmbeddingBackward => (&[], &[self.dwte, self.dwpe], &[]),
            Op::LayernormForward => (&[self.z], &[], &[self.mean, self.rstd]),
            Op::ResidualLayernormForward => (&[self.h, self.z], &[], &[self.mean, self.rstd]),
            Op::LayernormBackward => (&[self.z], &[self.dweight, self.dbias], &[]),
            Op::MatmulQkv | Op::AttentionBackward | Op::AttentionBackwardPacked => (&[self.dqkv], &[], &[]),
            Op::MatmulGelu => (&[self.h, self.pre], &[], &[]),
            Op::MatmulLogits | Op::MatmulLogitsOneRow => (&[self.logits], &[], &[]),
            Op::MatmulOneRow | Op::MatmulGeluBackwardInput | Op::GeluForward | Op::GeluBackward => {
                (&[self.h], &[], &[])
            }
            Op::MatmulBackwardWeight => (&[], &[self.dweight, self.dbias], &[]),
            Op::MatmulLogitsBackwardInput
            | Op::ResidualForward
            | Op::ResidualBackward
            | Op::DropoutForward
            | Op::DropoutBackward => (&[self.z], &[], &[]),
            Op::BiasForward => (&[self.h], &[], &[]),
            Op::BiasBackward => (&[], &[self.dbias], &[]),
            // Above the diagonal scores are unspecified.
            Op::AttentionScoresForward => (&[], &[], &[]),
            // Another token is not a little off: conformance knows which are right.
            Op::Sample => (&[], &[], &[]),
            Op::SoftmaxForward => (&[self.probs], &[], &[]),
            Op::AttentionValuesForward => (&[self.y], &[], &[]),
            Op::AttentionValuesBackward => (&[self.dprobs, self.dqkv], &[], &[]),
            Op::SoftmaxBackward => (&[self.scores], &[], &[]),
            Op::AttentionScoresBackward => (&[self.dqkv], &[], &[]),
            Op::CrossEntropyForward => (&[], &[], &[self.losses]),
            Op::Sum => (&[], &[], &[self.norm]),
            Op::MatmulLogitsBackwardWeight => (&[], &[self.dwte], &[]),
            Op::AttentionForward | Op::AttentionForwardPacked => (&[self.y], &[], &[self.lse]),
            Op::AttentionCachedPrefill | Op::AttentionCachedOneRow => {
                (&[self.z, self.kcache, self.vcache], &[], &[])
            }
            Op::CrossEntropy => (&[self.logits], &[], &[self.losses]),
            Op::GlobalNorm => (&[], &[], &[self.norm]),
            Op::AdamW => (&[self.params], &[], &[self.m, self.v]),
        };
        let act = act.iter().map(|slot| download(&mut self.ops, *slot)).collect::<Vec<_>>();
        let grad = grad.iter().map(|slot| download(&mut self.ops, *slot)).collect::<Vec<_>>();
        let stat = stat.iter().map(|slot| download(&mut self.ops, *slot));
        act.into_iter().chain(grad).chain(stat).collect()
    }
}

fn download<O: Ops, K: Kind<Host = f32>>(ops: &mut O, slot: Slot<K>) -> Result<Vec<f32>> {
    let mut data = vec![0.0; slot.len];
    ops.download(&mut data, slot)?;
    Ok(data)
}

/// ‖got − want‖/‖want‖, the largest over all tensors; NaN where one of them holds one.
pub fn relative_error(got: &[Vec<f32>], want: &[Vec<f32>]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = |(got, want): (&Vec<f32>, &Vec<f32>)| {
        let off = norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(*g) - f64::from(*w)));
        off / norm(&mut want.iter().map(|w| f64::from(*w))).max(f64::MIN_POSITIVE)
    };
    // `max` would pass over NaN.
    got.iter()
        .zip(want)
        .map(error)
        .fold(0.0, |most, error| if error.is_nan() || error > most { error } else { most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_error_counts_and_nan_most_of_all() {
        let want = [vec![3.0, 4.0], vec![1.0]];
        assert_eq!(relative_error(&want, &want), 0.0);
        assert_eq!(relative_error(&[vec![3.0, 4.0], vec![1.5]], &want), 0.5);
        assert_eq!(relative_error(&[vec![0.0, 4.0], vec![1.5]], &want), 0.6);
        for at in [0, 1] {
            let mut got = want.clone();
            got[at][0] = f32::NAN;
            assert!(relative_error(&got, &want).is_nan(), "{at}");
        }
    }
}
