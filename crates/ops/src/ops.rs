//! The list of operations.

use crate::{Act, AdamW, Dropout, Grad, Kind, Result, Slot, Stat, Ticket, Tok, Update};

/// The operations. See the crate's documentation for the names of dimensions.
///
/// A method's outputs come first, then inputs, then dimensions. Outputs may hold anything before (NaN
/// included) unless an [`Update::Add`] or the words *in place* say otherwise. Inputs may be one and the same
/// slot, and a slot may begin at any element of its allocation. What is *kept* is what the forward leaves for
/// its backward.
///
/// Every method returns [`Error::Argument`](crate::Error::Argument), and changes nothing, when a slot's
/// length is not what the dimensions ask for, a dimension is 0, an output overlaps another argument, an
/// index names no row, or a start lies beyond its position.
///
/// Results do not depend on chance: the same inputs on the same machine give the same bits.
///
/// The derivations write dx for ∂loss/∂x and use one rule: if y depends on x, then dxᵢ = Σⱼ dyⱼ·∂yⱼ/∂xᵢ.
///
/// All but the memory ops can be called through a `dyn Ops`.
pub trait Ops {
    /// What computes, in words: `cpu (2 threads)`.
    fn device(&self) -> String;

    /// Bytes that an element of `Act` takes.
    fn act_bytes(&self) -> usize;

    /// Bytes that an element of `Grad` takes.
    fn grad_bytes(&self) -> usize;

    // ---- memory

    /// Allocates `len` elements, all zero. No two allocations of a backend's life have the same number.
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

    // ---- without waiting

    /// Asks for a copy to host memory, of what `src` will hold once everything asked for before is done; it
    /// does not wait for that. [`collect`](Ops::collect) gives it.
    fn fetch(&mut self, src: Slot<Stat>) -> Result<Ticket>;

    /// Whether [`collect`](Ops::collect) would not have to wait.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device).
    fn fetched(&mut self, ticket: &Ticket) -> Result<bool>;

    /// Waits for a copy and gives it; `dst` is as long as its source was.
    fn collect(&mut self, dst: &mut [f32], ticket: Ticket) -> Result;

    /// Begins a sequence of ops that is asked for again and again, each time with the same shapes, though perhaps
    /// with other slots and constants: a backend may record it and hand it to the device as one. `number`
    /// tells sequences apart. Until [`submit`](Ops::submit) nothing is allocated, freed, uploaded, downloaded or
    /// waited for.
    fn record(&mut self, number: u32) -> Result {
        let _ = number;
        Ok(())
    }

    /// Ends the sequence; only now is it certain to be on its way.
    fn submit(&mut self) -> Result {
        Ok(())
    }

    // ---- embedding

    /// out\[b,t\] = wte\[tokens\[b,t\]\] + wpe\[positions\[b,t\]\].
    ///
    /// Without `positions`, position t of a sequence is its number t. They are for a row of the batch that holds
    /// several texts, each of which begins at position 0, and for a text that goes on after a cache.
    ///
    /// `out` (B,T,C), `tokens`, `positions` (B,T), `wte` (any number of rows,C), `wpe` (any number of rows,C, at
    /// least T without `positions`). Kept: `tokens`, `positions`.
    fn embedding_forward(
        &mut self,
        out: Slot<Act>,
        tokens: Slot<Tok>,
        positions: Option<Slot<Tok>>,
        wte: Slot<Act>,
        wpe: Slot<Act>,
        B: usize,
        T: usize,
        C: usize,
    ) -> Result;

    /// dwte\[v\] += Σ_{tokens\[b,t\] = v} dout\[b,t\], always added, since a tied head adds to the same
    /// tensor; dwpe\[p\] (set or added) Σ_{positions\[b,t\] = p} dout\[b,t\], which without `positions` is
    /// dwpe\[t\] = Σ_b dout\[b,t\].
    ///
    /// A row of a table is a summand of every position that reads it, so it collects the gradients of those
    /// positions. Rows of `dwpe` that none reads become zero with [`Update::Set`]. `dwte`, `dwpe`, `tokens`,
    /// `positions` as in the forward, `dout` (B,T,C).
    fn embedding_backward(
        &mut self,
        dwte: Slot<Grad>,
        dwpe: Slot<Grad>,
        dout: Slot<Act>,
        tokens: Slot<Tok>,
        positions: Option<Slot<Tok>>,
        B: usize,
        T: usize,
        C: usize,
        update: Update,
    ) -> Result;

    // ---- layernorm

    /// out = (inp − mean)·rstd·weight + bias, row by row, with mean = Σ_c inp/C and rstd = 1/√(Σ_c (inp −
    /// mean)²/C + eps) (Ba, Kiros, Hinton 2016).
    ///
    /// `out`, `inp` (N,C); `mean`, `rstd` (N); `weight`, `bias` (C). Kept: `inp`, `mean`, `rstd`.
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

    /// With x̂ = (inp − mean)·rstd and g = dout∘weight: dinpᵢ = rstd·(gᵢ − Σⱼ gⱼ/C − x̂ᵢ·Σⱼ gⱼ·x̂ⱼ/C) per
    /// row; dweight = Σ_n dout∘x̂; dbias = Σ_n dout.
    ///
    /// From out = x̂∘weight + bias, the last two and dx̂ = g follow at once. Mean μ and r = rstd depend on
    /// every element of the row: ∂μ/∂xᵢ = 1/C, and from r = (σ² + eps)^(−1/2) with ∂σ²/∂xᵢ = 2·(xᵢ − μ)/C
    /// comes ∂r/∂xᵢ = −r³·(xᵢ − μ)/C = −r²·x̂ᵢ/C. So ∂x̂ⱼ/∂xᵢ = r·(δᵢⱼ − 1/C) + (xⱼ − μ)·∂r/∂xᵢ = r·(δᵢⱼ −
    /// 1/C − x̂ᵢ·x̂ⱼ/C), and summing gⱼ·∂x̂ⱼ/∂xᵢ over j gives dinp.
    ///
    /// `update_inp` holds for `dinp` (added where the residual path has brought a gradient already), `update`
    /// for `dweight` and `dbias`. Shapes as in the forward, a gradient's that of its tensor.
    fn layernorm_backward(
        &mut self,
        dinp: Slot<Act>,
        dweight: Slot<Grad>,
        dbias: Option<Slot<Grad>>,
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

    /// out = a + b, all of one length. Kept: nothing.
    fn residual_forward(&mut self, out: Slot<Act>, a: Slot<Act>, b: Slot<Act>) -> Result;

    /// da (set or added) dout. ∂out/∂a = ∂out/∂b = 1, so each summand receives the gradient whole: call once
    /// for each.
    fn residual_backward(&mut self, da: Slot<Act>, dout: Slot<Act>, update: Update) -> Result;

    /// Fused: res = a + b; out = layernorm(res).
    ///
    /// `res`, `out`, `a`, `b` (N,C), the others as in [`layernorm_forward`](Ops::layernorm_forward). Kept:
    /// `res`, `mean`, `rstd`. The backward is [`layernorm_backward`](Ops::layernorm_backward) with inp = res,
    /// added to the gradient of `res` that is there, which is then that of `a` and of `b`.
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

    /// out\[n,o\] = Σ_c inp\[n,c\]·weight\[o,c\] + bias\[o\], or out = inp·weightᵀ + bias.
    ///
    /// `out` (N,OC), `inp` (N,C), `weight` (OC,C), `bias` (OC). Kept: `inp`. The backward is
    /// [`matmul_backward_input`](Ops::matmul_backward_input) and
    /// [`matmul_backward_weight`](Ops::matmul_backward_weight).
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

    /// Fused: pre = inp·weightᵀ + bias; out = gelu(pre).
    ///
    /// `pre` (N,OC), the others as in [`matmul_forward`](Ops::matmul_forward). Kept: `inp`, `pre`.
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

    /// Fused: out = residual + inp·weightᵀ + bias.
    ///
    /// `residual` (N,OC), the others as in [`matmul_forward`](Ops::matmul_forward). Kept: `inp`.
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

    /// dinp\[n,c\] (set or added) Σ_o dout\[n,o\]·weight\[o,c\], or dout·weight.
    ///
    /// inp\[n,c\] is in every out\[n,o\] of its row, with ∂out\[n,o\]/∂inp\[n,c\] = weight\[o,c\]. `dinp`
    /// (N,C), `dout` (N,OC), `weight` (OC,C).
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

    /// Fused, for inp = gelu(pre): dpre = (dout·weight)∘gelu′(pre), the chain rule through
    /// [`matmul_backward_input`](Ops::matmul_backward_input) and [`gelu_backward`](Ops::gelu_backward).
    ///
    /// `dpre`, `pre` (N,C), `dout` (N,OC), `weight` (OC,C).
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

    /// dweight\[o,c\] (set or added) Σ_n dout\[n,o\]·inp\[n,c\], or doutᵀ·inp; dbias\[o\] (set or added) Σ_n
    /// dout\[n,o\].
    ///
    /// Every row uses the weight and the bias once: ∂out\[n,o\]/∂weight\[o,c\] = inp\[n,c\] and
    /// ∂out\[n,o\]/∂bias\[o\] = 1, summed over n. `dweight` (OC,C), `dbias` (OC), `dout` (N,OC), `inp` (N,C).
    fn matmul_backward_weight(
        &mut self,
        dweight: Slot<Grad>,
        dbias: Option<Slot<Grad>>,
        dout: Slot<Act>,
        inp: Slot<Act>,
        N: usize,
        C: usize,
        OC: usize,
        update: Update,
    ) -> Result;

    // ---- bias

    /// x\[n\] += bias, in place. `x` (N,OC), `bias` (OC). Kept: nothing; the gradient of `x` passes
    /// unchanged.
    fn bias_forward(&mut self, x: Slot<Act>, bias: Slot<Act>, N: usize, OC: usize) -> Result;

    /// dbias (set or added) Σ_n dout\[n\]: every row adds the bias once. `dbias` (OC), `dout` (N,OC).
    fn bias_backward(
        &mut self,
        dbias: Slot<Grad>,
        dout: Slot<Act>,
        N: usize,
        OC: usize,
        update: Update,
    ) -> Result;

    // ---- attention

    /// Causal self-attention (Vaswani et al. 2017) without a (T,T) matrix. For each head, with scores
    /// s\[t,t2\] = q\[t\]·k\[t2\]/√HS, lse\[t\] = log Σ_{t2} exp s\[t,t2\] and probabilities p\[t,t2\] =
    /// exp(s\[t,t2\] − lse\[t\]): out\[t\] = Σ_{t2} m\[t,t2\]·p\[t,t2\]·v\[t2\]. The sums go over what position
    /// t of sequence b sees: starts\[b,t\] ≤ t2 ≤ t, and 0 ≤ t2 ≤ t without `starts`.
    ///
    /// With `starts` a row of the batch holds several texts that do not see each other: every position of a
    /// text has the text's first position as its start. They are never beyond their position, and never less
    /// than that of the position before.
    ///
    /// `out` (B,T,C), `lse` (B,NH,T), `qkv` (B,T,3C) with C = NH·HS, each row q then k then v, each of NH
    /// heads of HS; `starts` (B,T). m is the dropout factor (0 or 1/(1 − p)) of element ((b·NH + h)·T + t)·T +
    /// t2. Kept: `qkv`, `starts`, `out`, `lse`, from which p is computed anew.
    fn attention_forward(
        &mut self,
        out: Slot<Act>,
        lse: Slot<Stat>,
        qkv: Slot<Act>,
        starts: Option<Slot<Tok>>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
        dropout: Dropout,
    ) -> Result;

    /// With dp\[t,t2\] = m\[t,t2\]·(dout\[t\]·v\[t2\]) and ds\[t,t2\] = p\[t,t2\]·(dp\[t,t2\] −
    /// dout\[t\]·out\[t\]) where t sees t2: dv\[t2\] = Σ_t m·p·dout\[t\]; dq\[t\] = Σ_{t2}
    /// ds\[t,t2\]·k\[t2\]/√HS; dk\[t2\] = Σ_t ds\[t,t2\]·q\[t\]/√HS.
    ///
    /// out is linear in v, and in p with ∂out\[t\]/∂p\[t,t2\] = m·v\[t2\]: dv and dp. The softmax (see
    /// [`softmax_backward`](Ops::softmax_backward)) gives ds = p·(dp − Σ p·dp) over the row, and that sum
    /// needs no pass over the row: Σ_{t2} p·dp = Σ_{t2} m·p·(dout·v\[t2\]) = dout·Σ_{t2} m·p·v\[t2\] =
    /// dout·out (Dao et al. 2022). s is bilinear in q and k: dq and dk.
    ///
    /// `dqkv` (B,T,3C) is set, `dout` (B,T,C); the others, and `dropout`, are the forward's.
    fn attention_backward(
        &mut self,
        dqkv: Slot<Act>,
        dout: Slot<Act>,
        out: Slot<Act>,
        lse: Slot<Stat>,
        qkv: Slot<Act>,
        starts: Option<Slot<Tok>>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
        dropout: Dropout,
    ) -> Result;

    /// Attention of `Tn` new positions of each of B sequences over a cache that holds pos\[b\] positions of sequence b:
    /// the new keys and values become rows pos\[b\]..pos\[b\] + Tn of row rows\[b\] of the cache, then out\[b,i\] attends to
    /// its rows 0..=pos\[b\] + i as in [`attention_forward`](Ops::attention_forward) without dropout.
    ///
    /// Without `rows`, sequence b has row b. With them, a cache keeps more sequences than take part: which those are, and
    /// in what order, may change from call to call. No two are the same.
    ///
    /// `out` (B,Tn,C), `kcache`, `vcache` (any number of rows,Tmax,C; B without `rows`) in place with pos\[b\] + Tn ≤ Tmax,
    /// `qkv` (B,Tn,3C), `pos`, `rows` (B). For generation: no backward.
    fn attention_cached_forward(
        &mut self,
        out: Slot<Act>,
        kcache: Slot<Act>,
        vcache: Slot<Act>,
        qkv: Slot<Act>,
        pos: Slot<Tok>,
        rows: Option<Slot<Tok>>,
        B: usize,
        Tn: usize,
        Tmax: usize,
        NH: usize,
        HS: usize,
    ) -> Result;

    // ---- attention, unfused: what a reader starts with, and what the fused op is checked against

    /// scores\[b,h,t,t2\] = q\[b,t,h\]·k\[b,t2,h\]/√HS for t2 ≤ t; what lies above the diagonal is
    /// unspecified.
    ///
    /// `scores` (B,NH,T,T), `qkv` (B,T,3C). Kept: `qkv`.
    fn attention_scores_forward(
        &mut self,
        scores: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result;

    /// dq\[t\] = Σ_{t2 ≤ t} dscores\[t,t2\]·k\[t2\]/√HS; dk\[t2\] = Σ_{t ≥ t2} dscores\[t,t2\]·q\[t\]/√HS.
    ///
    /// ∂scores\[t,t2\]/∂q\[t\] = k\[t2\]/√HS, and the other way round. Sets the q and k parts of `dqkv`
    /// (B,T,3C), leaves the v part alone. `dscores` (B,NH,T,T) is not read above the diagonal; `qkv` is the
    /// forward's.
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

    /// Causal softmax: probs\[r,t,t2\] = exp scores\[r,t,t2\] / Σ_{t3 ≤ t} exp scores\[r,t,t3\] for t2 ≤ t,
    /// and 0 above the diagonal, where `scores` is not read. The largest score is taken off first, so that
    /// nothing overflows.
    ///
    /// `probs`, `scores` (R,T,T), R = B·NH. Kept: `probs`.
    fn softmax_forward(&mut self, probs: Slot<Act>, scores: Slot<Act>, R: usize, T: usize) -> Result;

    /// dscores = probs∘(dprobs − Σ_{t2} probs·dprobs), the sum over the row; 0 above the diagonal, as probs
    /// is.
    ///
    /// From pᵢ = exp sᵢ/Σ exp s comes ∂pᵢ/∂sⱼ = pᵢ·(δᵢⱼ − pⱼ), so dsⱼ = Σᵢ dpᵢ·pᵢ·(δᵢⱼ − pⱼ) = pⱼ·(dpⱼ − Σᵢ
    /// pᵢ·dpᵢ). All (R,T,T).
    fn softmax_backward(
        &mut self,
        dscores: Slot<Act>,
        dprobs: Slot<Act>,
        probs: Slot<Act>,
        R: usize,
        T: usize,
    ) -> Result;

    /// out\[b,t,h\] = Σ_{t2 ≤ t} probs\[b,h,t,t2\]·v\[b,t2,h\].
    ///
    /// `out` (B,T,C), `probs` (B,NH,T,T) with 0 above the diagonal, `qkv` (B,T,3C). Kept: `probs`, `qkv`.
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

    /// dprobs\[t,t2\] = dout\[t\]·v\[t2\] for t2 ≤ t, and 0 above the diagonal; dv\[t2\] = Σ_{t ≥ t2}
    /// probs\[t,t2\]·dout\[t\].
    ///
    /// out\[t\] is linear in both, with ∂out\[t\]/∂probs\[t,t2\] = v\[t2\] and ∂out\[t\]/∂v\[t2\] =
    /// probs\[t,t2\]. Sets `dprobs` and the v part of `dqkv`, leaves the q and k parts alone. `dout` (B,T,C),
    /// the others as in the forward.
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

    /// out = x/2·(1 + tanh u) with x = inp and u = √(2/π)·(x + 0.044715·x³): GELU in its tanh form (Hendrycks
    /// and Gimpel 2016), as GPT-2 has it. All of one length. Kept: `inp`.
    fn gelu_forward(&mut self, out: Slot<Act>, inp: Slot<Act>) -> Result;

    /// dinp = dout∘gelu′(inp), gelu′(x) = (1 + tanh u)/2 + x/2·(1 − tanh² u)·u′ with u′ = √(2/π)·(1 +
    /// 3·0.044715·x²).
    ///
    /// The product rule on x/2·(1 + tanh u), and tanh′ = 1 − tanh².
    fn gelu_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, inp: Slot<Act>) -> Result;

    // ---- dropout

    /// out = inp∘mask/(1 − p) (Srivastava et al. 2014); the mask is [`Dropout`]'s. What is kept is scaled up,
    /// so that evaluation needs no scaling. Of one length. Kept: nothing, as the mask can be generated anew.
    fn dropout_forward(&mut self, out: Slot<Act>, inp: Slot<Act>, dropout: Dropout) -> Result;

    /// dinp = dout∘mask/(1 − p), the forward's mask: out is linear in inp with that diagonal matrix.
    fn dropout_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, dropout: Dropout) -> Result;

    // ---- cross-entropy

    /// losses\[n\] = weights\[n\]·(log Σ_{v < V} exp logits\[n,v\] − logits\[n,targets\[n\]\]); 0 where the
    /// target is [`IGNORE`](crate::IGNORE). The largest logit is taken off before the exponential.
    ///
    /// Without `weights`, every row counts once. Nothing divides by their sum: that is the caller's.
    ///
    /// `losses`, `targets`, `weights` (N), `logits` (N,Vp); columns from V on are not read.
    fn cross_entropy_forward(
        &mut self,
        losses: Slot<Stat>,
        logits: Slot<Act>,
        targets: Slot<Tok>,
        weights: Option<Slot<Stat>>,
        N: usize,
        V: usize,
        Vp: usize,
    ) -> Result;

    /// Fused: the same losses, and in place of the logits their gradient
    /// scale·weights\[n\]·(softmax(logits\[n\]) − onehot(target)).
    ///
    /// Without the weight ∂losses\[n\]/∂logits\[n,v\] = exp logits\[n,v\]/Σ exp − \[v = target\]: the logarithm's
    /// derivative is the softmax, and the target's logit is subtracted once. `scale` is the gradient of the loss with
    /// respect to each of `losses`: 1/N for their mean. Columns from V on, and rows whose target is
    /// [`IGNORE`](crate::IGNORE), become 0. Shapes as in
    /// [`cross_entropy_forward`](Ops::cross_entropy_forward); nothing else is kept.
    fn cross_entropy_forward_backward(
        &mut self,
        losses: Slot<Stat>,
        logits: Slot<Act>,
        targets: Slot<Tok>,
        weights: Option<Slot<Stat>>,
        N: usize,
        V: usize,
        Vp: usize,
        scale: f32,
    ) -> Result;

    // ---- sampling

    /// Draws the token that comes next, tokens\[b\], from each of B rows of logits, by the [`Knobs`](crate::Knobs) of its row and by u =
    /// uniforms\[b\]/2³², a number in [0, 1).
    ///
    /// Of the logits x\[v\] of a row, v < V, in this order:
    ///
    /// 1. A token that the text holds already has its logit divided by the penalty where that is above 0, else multiplied (Keskar et al.
    ///    2019); rounded to f32, to the largest where it is beyond it. Bit v mod 32 of word v/32 in the row's set, rows\[b\] of
    ///    `seen`, says whether the text holds v.
    /// 2. At temperature 0 the token is the first with the largest logit, and this is all.
    /// 3. Top-k: a token is kept if fewer than k have a larger logit.
    /// 4. Weights w\[v\] = exp((x\[v\] − max x)/temperature). Top-p (Holtzman et al. 2020): a token is kept if the weights of those
    ///    that are likelier sum to less than p·Σ w, both sums over what top-k has kept.
    /// 5. The token is the first of those kept, in the order of their numbers, up to which the weights sum to more than u·Σ w.
    ///
    /// −∞ excludes a token. Where a logit is NaN or +∞, or none is finite, tokens\[b\] is [`IGNORE`](crate::IGNORE), which is no token;
    /// else the token's bit is set in the row's set. Sums may be rounded, logits are compared as they are: what is as likely as the
    /// last one kept is kept.
    ///
    /// `tokens`, `uniforms` (B), `seen` in place (any number of rows,⌈V/32⌉; B without `rows`), `logits` (B,Vp), of which columns from V
    /// on are not read, `knobs` (B,[`Knobs::LEN`](crate::Knobs::LEN)), `rows` (B), no two of them the same, which without `seen` there
    /// are none of. Without `seen` nothing is penalized. What was drawn is for the host: an op may refuse to read tokens that are not
    /// uploaded.
    fn sample(
        &mut self,
        tokens: Slot<Tok>,
        seen: Option<Slot<Tok>>,
        logits: Slot<Act>,
        knobs: Slot<Stat>,
        uniforms: Slot<Tok>,
        rows: Option<Slot<Tok>>,
        B: usize,
        V: usize,
        Vp: usize,
    ) -> Result;

    // ---- optimizer

    /// out\[0\] = Σ inp. `out` (1), `inp` of any length.
    fn sum(&mut self, out: Slot<Stat>, inp: Slot<Stat>) -> Result;

    /// out\[0\] = ‖grads‖₂ = √(Σ grads²). `out` (1), `grads` of any length.
    fn global_norm(&mut self, out: Slot<Stat>, grads: Slot<Grad>) -> Result;

    /// One AdamW update (Loshchilov and Hutter 2019) of `params` and of the moments `m` and `v`, in place,
    /// step t of [`AdamW::step`]: g = grads·min(1, clip/norm); m ← β₁·m + (1 − β₁)·g; v ← β₂·v + (1 − β₂)·g²;
    /// params ← params − lr·(m̂/(√v̂ + eps) + weight_decay·params), with m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 −
    /// β₂ᵗ).
    ///
    /// m and v start at 0 and are then averages whose weights sum to 1 − βᵗ: m̂ and v̂ divide that out.
    /// With `master`, the parameters in full precision, the update is `master`'s, and `params` are `master`
    /// rounded to the working precision ([`AdamW::rounding`]): in bf16 most updates are too small to change a
    /// parameter, and would be lost.
    ///
    /// `params`, `master`, `m`, `v`, `grads` of one length; `norm` (1) is the global norm of all gradients. If
    /// it is not finite, nothing is changed.
    fn adamw(
        &mut self,
        params: Slot<Act>,
        master: Option<Slot<Stat>>,
        m: Slot<Stat>,
        v: Slot<Stat>,
        grads: Slot<Grad>,
        norm: Slot<Stat>,
        constants: AdamW,
    ) -> Result;
}
