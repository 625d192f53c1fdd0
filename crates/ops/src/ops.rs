//! The list of operations.

use crate::{Act, AdamW, Dropout, Kind, Result, Slot, Stat, Tok, Update};

/// The operations. See the crate's documentation for the names of dimensions.
///
/// A method's outputs come first, then inputs, then dimensions. Outputs may hold anything before (NaN included)
/// unless an [`Update::Add`] or the word *in place* says otherwise. Every method returns [`Error::Argument`](crate::Error::Argument) when a
/// slot's length is not what the dimensions ask for, or an output overlaps another argument.
///
/// Results do not depend on chance: the same inputs on the same machine give the same bits.
pub trait Ops {
    /// What computes, in words: `cpu (2 threads)`.
    fn device(&self) -> String;

    /// Bytes that an element of `Act` takes.
    fn act_bytes(&self) -> usize;

    // ---- memory

    /// Allocates `len` elements, all zero.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn alloc<K: Kind>(&mut self, len: usize) -> Result<Slot<K>>
    where
        Self: Sized;

    /// Gives an allocation back. The slot must be the whole of it; later use of it is an error.
    fn free<K: Kind>(&mut self, slot: Slot<K>) -> Result
    where
        Self: Sized;

    /// Copies from host memory, rounding to the backend's precision.
    fn upload<K: Kind>(&mut self, dst: Slot<K>, src: &[K::Host]) -> Result
    where
        Self: Sized;

    /// Copies to host memory once everything asked for before is done.
    fn download<K: Kind>(&mut self, dst: &mut [K::Host], src: Slot<K>) -> Result
    where
        Self: Sized;

    /// Copies between slots.
    fn copy<K: Kind>(&mut self, dst: Slot<K>, src: Slot<K>) -> Result
    where
        Self: Sized;

    /// Sets every element to zero.
    fn zero<K: Kind>(&mut self, dst: Slot<K>) -> Result
    where
        Self: Sized;

    /// Waits until everything asked for before is done.
    fn synchronize(&mut self) -> Result;

    // ---- embedding

    /// out\[b,t\] = wte\[tokens\[b,t\]\] + wpe\[pos + t\].
    /// `out` (B,T,C), `tokens` (B,T), `wte` (rows,C), `wpe` (rows,C).
    fn embedding_forward(
        &mut self,
        out: Slot<Act>,
        tokens: Slot<Tok>,
        wte: Slot<Act>,
        wpe: Slot<Act>,
        B: usize,
        T: usize,
        C: usize,
        pos: usize,
    ) -> Result;

    /// dwte\[tokens\[b,t\]\] += dout\[b,t\], always added; dwpe\[t\] (set or added) Σ_b dout\[b,t\] (pos = 0).
    /// With [`Update::Set`] rows of `dwpe` from T on become zero.
    fn embedding_backward(
        &mut self,
        dwte: Slot<Act>,
        dwpe: Slot<Act>,
        dout: Slot<Act>,
        tokens: Slot<Tok>,
        B: usize,
        T: usize,
        C: usize,
        update: Update,
    ) -> Result;

    // ---- layernorm

    /// out = (inp − mean)·rstd·weight + bias per row. `out`, `inp` (N,C); `mean`, `rstd` (N); `weight`, `bias` (C).
    fn layernorm_forward(
        &mut self,
        out: Slot<Act>,
        mean: Slot<Stat>,
        rstd: Slot<Stat>,
        inp: Slot<Act>,
        weight: Slot<Act>,
        bias: Option<Slot<Act>>,
        N: usize,
        C: usize,
        eps: f32,
    ) -> Result;

    /// `update_inp` holds for `dinp`, `update` for `dweight` and `dbias`.
    fn layernorm_backward(
        &mut self,
        dinp: Slot<Act>,
        dweight: Slot<Act>,
        dbias: Option<Slot<Act>>,
        dout: Slot<Act>,
        inp: Slot<Act>,
        weight: Slot<Act>,
        mean: Slot<Stat>,
        rstd: Slot<Stat>,
        N: usize,
        C: usize,
        update_inp: Update,
        update: Update,
    ) -> Result;

    // ---- residual

    /// out = a + b, all of one length.
    fn residual_forward(&mut self, out: Slot<Act>, a: Slot<Act>, b: Slot<Act>) -> Result;

    /// da (set or added) dout. Call once for each summand.
    fn residual_backward(&mut self, da: Slot<Act>, dout: Slot<Act>, update: Update) -> Result;

    /// Fused: res = a + b; out = layernorm(res). `res`, `out`, `a`, `b` (N,C).
    fn residual_layernorm_forward(
        &mut self,
        res: Slot<Act>,
        out: Slot<Act>,
        mean: Slot<Stat>,
        rstd: Slot<Stat>,
        a: Slot<Act>,
        b: Slot<Act>,
        weight: Slot<Act>,
        bias: Option<Slot<Act>>,
        N: usize,
        C: usize,
        eps: f32,
    ) -> Result;

    // ---- matmul

    /// out = inp·weightᵀ + bias. `out` (N,OC), `inp` (N,C), `weight` (OC,C), `bias` (OC).
    fn matmul_forward(
        &mut self,
        out: Slot<Act>,
        inp: Slot<Act>,
        weight: Slot<Act>,
        bias: Option<Slot<Act>>,
        N: usize,
        C: usize,
        OC: usize,
    ) -> Result;

    /// Fused: pre = inp·weightᵀ + bias; out = gelu(pre). `pre` is kept for the backward.
    fn matmul_gelu_forward(
        &mut self,
        out: Slot<Act>,
        pre: Slot<Act>,
        inp: Slot<Act>,
        weight: Slot<Act>,
        bias: Option<Slot<Act>>,
        N: usize,
        C: usize,
        OC: usize,
    ) -> Result;

    /// Fused: out = residual + inp·weightᵀ + bias. `residual` (N,OC).
    fn matmul_residual_forward(
        &mut self,
        out: Slot<Act>,
        residual: Slot<Act>,
        inp: Slot<Act>,
        weight: Slot<Act>,
        bias: Option<Slot<Act>>,
        N: usize,
        C: usize,
        OC: usize,
    ) -> Result;

    /// dinp (set or added) dout·weight. `dinp` (N,C), `dout` (N,OC), `weight` (OC,C).
    fn matmul_backward_input(
        &mut self,
        dinp: Slot<Act>,
        dout: Slot<Act>,
        weight: Slot<Act>,
        N: usize,
        C: usize,
        OC: usize,
        update: Update,
    ) -> Result;

    /// Fused, for inp = gelu(pre): dpre = (dout·weight) ∘ gelu′(pre). `dpre`, `pre` (N,C), `dout` (N,OC), `weight` (OC,C).
    fn matmul_gelu_backward_input(
        &mut self,
        dpre: Slot<Act>,
        dout: Slot<Act>,
        weight: Slot<Act>,
        pre: Slot<Act>,
        N: usize,
        C: usize,
        OC: usize,
    ) -> Result;

    /// dweight (set or added) doutᵀ·inp; dbias (set or added) Σ_n dout\[n\].
    fn matmul_backward_weight(
        &mut self,
        dweight: Slot<Act>,
        dbias: Option<Slot<Act>>,
        dout: Slot<Act>,
        inp: Slot<Act>,
        N: usize,
        C: usize,
        OC: usize,
        update: Update,
    ) -> Result;

    // ---- bias

    /// x\[n\] += bias, in place. `x` (N,OC), `bias` (OC).
    fn bias_forward(&mut self, x: Slot<Act>, bias: Slot<Act>, N: usize, OC: usize) -> Result;

    /// dbias (set or added) Σ_n dout\[n\].
    fn bias_backward(
        &mut self,
        dbias: Slot<Act>,
        dout: Slot<Act>,
        N: usize,
        OC: usize,
        update: Update,
    ) -> Result;

    // ---- attention

    /// Causal self-attention without a (T,T) matrix. `out` (B,T,C), `lse` (B,NH,T), `qkv` (B,T,3C) with C = NH·HS,
    /// each row q then k then v, each of NH heads of HS. Dropout applies to the probabilities, element index
    /// ((b·NH + h)·T + t)·T + t2.
    fn attention_forward(
        &mut self,
        out: Slot<Act>,
        lse: Slot<Stat>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
        dropout: Dropout,
    ) -> Result;

    /// `dqkv` (B,T,3C) is set. `out` and `lse` are the forward's.
    fn attention_backward(
        &mut self,
        dqkv: Slot<Act>,
        dout: Slot<Act>,
        out: Slot<Act>,
        lse: Slot<Stat>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
        dropout: Dropout,
    ) -> Result;

    /// Attention of `Tn` new positions over a cache: writes the new keys and values to rows pos..pos+Tn of `kcache` and `vcache`
    /// (B,Tmax,C), then out\[b,i\] attends to rows 0..=pos+i. `out` (B,Tn,C), `qkv` (B,Tn,3C). No backward.
    fn attention_cached_forward(
        &mut self,
        out: Slot<Act>,
        kcache: Slot<Act>,
        vcache: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        Tn: usize,
        pos: usize,
        Tmax: usize,
        NH: usize,
        HS: usize,
    ) -> Result;

    // ---- attention, unfused: what a reader starts with, and what the fused op is checked against

    /// scores\[b,h,t,t2\] = q·k/√HS for t2 ≤ t; what lies above the diagonal is unspecified. `scores` (B,NH,T,T), `qkv` (B,T,3C).
    fn attention_scores_forward(
        &mut self,
        scores: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result;

    /// Sets the q and k parts of `dqkv` from `dscores` (above the diagonal not read); leaves the v part alone.
    fn attention_scores_backward(
        &mut self,
        dqkv: Slot<Act>,
        dscores: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result;

    /// Causal softmax: probs\[r,t,t2\] = softmax over t2 ≤ t, 0 above the diagonal. `probs`, `scores` (R,T,T), R = B·NH.
    fn softmax_forward(&mut self, probs: Slot<Act>, scores: Slot<Act>, R: usize, T: usize) -> Result;

    /// dscores = probs ∘ (dprobs − Σ probs·dprobs), 0 above the diagonal.
    fn softmax_backward(
        &mut self,
        dscores: Slot<Act>,
        dprobs: Slot<Act>,
        probs: Slot<Act>,
        R: usize,
        T: usize,
    ) -> Result;

    /// out\[b,t,h\] = Σ_{t2 ≤ t} probs\[b,h,t,t2\]·v\[b,t2,h\]. `out` (B,T,C), `probs` (B,NH,T,T), `qkv` (B,T,3C).
    fn attention_values_forward(
        &mut self,
        out: Slot<Act>,
        probs: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result;

    /// Sets `dprobs` (0 above the diagonal) and the v part of `dqkv`; leaves the q and k parts alone.
    fn attention_values_backward(
        &mut self,
        dprobs: Slot<Act>,
        dqkv: Slot<Act>,
        dout: Slot<Act>,
        probs: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result;

    // ---- gelu

    /// out = gelu(inp), the tanh form.
    fn gelu_forward(&mut self, out: Slot<Act>, inp: Slot<Act>) -> Result;

    /// dinp = dout ∘ gelu′(inp).
    fn gelu_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, inp: Slot<Act>) -> Result;

    // ---- dropout

    /// out = inp ∘ mask/(1 − p); see [`Dropout`]. The backward is the same map on the gradient.
    fn dropout_forward(&mut self, out: Slot<Act>, inp: Slot<Act>, dropout: Dropout) -> Result;

    /// dinp = dout ∘ mask/(1 − p), the forward's mask generated anew.
    fn dropout_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, dropout: Dropout) -> Result;

    // ---- cross-entropy

    /// losses\[n\] = log Σ_v exp(logits\[n,v\]) − logits\[n,targets\[n\]\], v < V; 0 where the target is [`IGNORE`](crate::IGNORE).
    /// `losses`, `targets` (N), `logits` (N,Vp); columns from V on are not read.
    fn cross_entropy_forward(
        &mut self,
        losses: Slot<Stat>,
        logits: Slot<Act>,
        targets: Slot<Tok>,
        N: usize,
        V: usize,
        Vp: usize,
    ) -> Result;

    /// The same losses, and in place of the logits their gradient scale·(softmax − onehot); columns from V on, and
    /// rows whose target is [`IGNORE`](crate::IGNORE), become 0.
    fn cross_entropy_forward_backward(
        &mut self,
        losses: Slot<Stat>,
        logits: Slot<Act>,
        targets: Slot<Tok>,
        N: usize,
        V: usize,
        Vp: usize,
        scale: f32,
    ) -> Result;

    // ---- optimizer

    /// out\[0\] = Σ inp.
    fn sum(&mut self, out: Slot<Stat>, inp: Slot<Stat>) -> Result;

    /// out\[0\] = ‖grads‖₂.
    fn global_norm(&mut self, out: Slot<Stat>, grads: Slot<Act>) -> Result;

    /// One AdamW update of `params` and the moments `m`, `v`, in place; all of one length. `norm` (1) is the global norm of
    /// all gradients, by which [`AdamW::clip`] scales; if it is not finite, nothing is changed.
    fn adamw(
        &mut self,
        params: Slot<Act>,
        m: Slot<Stat>,
        v: Slot<Stat>,
        grads: Slot<Act>,
        norm: Slot<Stat>,
        constants: AdamW,
    ) -> Result;
}
