//! [`Ops`] over [`Kernels`]: each method checks its arguments, looks up their slices and calls the kernel.

use super::memory::{Arg, indices, rows};
use super::{Host, Kernels};
use crate::reference::attention::Heads;
use crate::{Act, AdamW, Dropout, Error, Kind, Ops, Result, Slot, Stat, Tok, Update};

/// The view of an argument that may be missing.
fn present<F>(view: &[F]) -> Option<&[F]> {
    (!view.is_empty()).then_some(view)
}

/// The same for one that is written.
fn present_mut<F>(view: &mut [F]) -> Option<&mut [F]> {
    (!view.is_empty()).then_some(view)
}

/// Refuses a vocabulary that its padded size does not hold.
fn vocabulary(op: &'static str, V: usize, Vp: usize) -> Result {
    if (1..=Vp).contains(&V) {
        return Ok(());
    }
    Err(Error::Argument { op, message: format!("V must be between 1 and Vp = {Vp}, got {V}") })
}

impl<K: Kernels> Ops for Host<K> {
    fn device(&self) -> String {
        self.kernels.device()
    }

    fn act_bytes(&self) -> usize {
        size_of::<K::F>()
    }

    fn alloc<S: Kind>(&mut self, len: usize) -> Result<Slot<S>> {
        self.memory.alloc(&self.kernels.device(), len)
    }

    fn free<S: Kind>(&mut self, slot: Slot<S>) -> Result {
        self.memory.free(slot)
    }

    fn upload<S: Kind>(&mut self, dst: Slot<S>, src: &[S::Host]) -> Result {
        self.memory.upload(dst, src)
    }

    fn download<S: Kind>(&mut self, dst: &mut [S::Host], src: Slot<S>) -> Result {
        self.memory.download(dst, src)
    }

    fn copy<S: Kind>(&mut self, dst: Slot<S>, src: Slot<S>) -> Result {
        self.memory.copy(dst, src)
    }

    fn zero<S: Kind>(&mut self, dst: Slot<S>) -> Result {
        self.memory.zero(dst)
    }

    fn synchronize(&mut self) -> Result {
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "embedding_forward";
        let words = rows(OP, "wte", wte, C, 1)?;
        rows(OP, "wpe", wpe, C, pos.saturating_add(T))?;
        let write = [Arg::shaped(OP, "out", out, &[B, T, C])?];
        let read = [Arg::shaped(OP, "wte", wte, &[wte.len])?, Arg::shaped(OP, "wpe", wpe, &[wpe.len])?];
        let ([out], [wte, wpe], [tokens]) =
            self.memory.views(OP, write, read, [Arg::shaped(OP, "tokens", tokens, &[B, T])?])?;
        indices(OP, "tokens", tokens, words, false)?;
        self.kernels.embedding_forward(out, tokens, wte, wpe, T, C, pos);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "embedding_backward";
        let words = rows(OP, "dwte", dwte, C, 1)?;
        rows(OP, "dwpe", dwpe, C, T)?;
        let write =
            [Arg::shaped(OP, "dwte", dwte, &[dwte.len])?, Arg::shaped(OP, "dwpe", dwpe, &[dwpe.len])?];
        let read = [Arg::shaped(OP, "dout", dout, &[B, T, C])?];
        let ([dwte, dwpe], [dout], [tokens]) =
            self.memory.views(OP, write, read, [Arg::shaped(OP, "tokens", tokens, &[B, T])?])?;
        indices(OP, "tokens", tokens, words, false)?;
        self.kernels.embedding_backward(dwte, dwpe, dout, tokens, T, C, update);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "layernorm_forward";

        let write = [
            Arg::shaped(OP, "out", out, &[N, C])?,
            Arg::shaped(OP, "mean", mean, &[N])?,
            Arg::shaped(OP, "rstd", rstd, &[N])?,
        ];
        let read = [
            Arg::shaped(OP, "inp", inp, &[N, C])?,
            Arg::shaped(OP, "weight", weight, &[C])?,
            Arg::optional(OP, "bias", bias, &[C])?,
        ];
        let ([out, mean, rstd], [inp, weight, bias], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.layernorm_forward(out, mean, rstd, inp, weight, present(bias), C, eps);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "layernorm_backward";

        let write = [
            Arg::shaped(OP, "dinp", dinp, &[N, C])?,
            Arg::shaped(OP, "dweight", dweight, &[C])?,
            Arg::optional(OP, "dbias", dbias, &[C])?,
        ];
        let read = [
            Arg::shaped(OP, "dout", dout, &[N, C])?,
            Arg::shaped(OP, "inp", inp, &[N, C])?,
            Arg::shaped(OP, "weight", weight, &[C])?,
            Arg::shaped(OP, "mean", mean, &[N])?,
            Arg::shaped(OP, "rstd", rstd, &[N])?,
        ];
        let ([dinp, dweight, dbias], [dout, inp, weight, mean, rstd], []) =
            self.memory.views(OP, write, read, [])?;

        self.kernels.layernorm_backward(
            dinp,
            dweight,
            present_mut(dbias),
            dout,
            inp,
            weight,
            mean,
            rstd,
            C,
            update_inp,
            update,
        );
        Ok(())
    }

    fn residual_forward(&mut self, out: Slot<Act>, a: Slot<Act>, b: Slot<Act>) -> Result {
        const OP: &str = "residual_forward";

        let write = [Arg::shaped(OP, "out", out, &[out.len])?];
        let read = [Arg::shaped(OP, "a", a, &[out.len])?, Arg::shaped(OP, "b", b, &[out.len])?];
        let ([out], [a, b], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.residual_forward(out, a, b);
        Ok(())
    }

    fn residual_backward(&mut self, da: Slot<Act>, dout: Slot<Act>, update: Update) -> Result {
        const OP: &str = "residual_backward";

        let write = [Arg::shaped(OP, "da", da, &[da.len])?];
        let read = [Arg::shaped(OP, "dout", dout, &[da.len])?];
        let ([da], [dout], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.residual_backward(da, dout, update);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "residual_layernorm_forward";

        let write = [
            Arg::shaped(OP, "res", res, &[N, C])?,
            Arg::shaped(OP, "out", out, &[N, C])?,
            Arg::shaped(OP, "mean", mean, &[N])?,
            Arg::shaped(OP, "rstd", rstd, &[N])?,
        ];
        let read = [
            Arg::shaped(OP, "a", a, &[N, C])?,
            Arg::shaped(OP, "b", b, &[N, C])?,
            Arg::shaped(OP, "weight", weight, &[C])?,
            Arg::optional(OP, "bias", bias, &[C])?,
        ];
        let ([res, out, mean, rstd], [a, b, weight, bias], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.residual_layernorm_forward(res, out, mean, rstd, a, b, weight, present(bias), C, eps);
        Ok(())
    }

    fn matmul_forward(
        &mut self,
        out: Slot<Act>,
        inp: Slot<Act>,
        weight: Slot<Act>,
        bias: Option<Slot<Act>>,
        N: usize,
        C: usize,
        OC: usize,
    ) -> Result {
        const OP: &str = "matmul_forward";

        let write = [Arg::shaped(OP, "out", out, &[N, OC])?];
        let read = [
            Arg::shaped(OP, "inp", inp, &[N, C])?,
            Arg::shaped(OP, "weight", weight, &[OC, C])?,
            Arg::optional(OP, "bias", bias, &[OC])?,
        ];
        let ([out], [inp, weight, bias], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.matmul_forward(out, inp, weight, present(bias), C, OC);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "matmul_gelu_forward";

        let write = [Arg::shaped(OP, "out", out, &[N, OC])?, Arg::shaped(OP, "pre", pre, &[N, OC])?];
        let read = [
            Arg::shaped(OP, "inp", inp, &[N, C])?,
            Arg::shaped(OP, "weight", weight, &[OC, C])?,
            Arg::optional(OP, "bias", bias, &[OC])?,
        ];
        let ([out, pre], [inp, weight, bias], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.matmul_gelu_forward(out, pre, inp, weight, present(bias), C, OC);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "matmul_residual_forward";

        let write = [Arg::shaped(OP, "out", out, &[N, OC])?];
        let read = [
            Arg::shaped(OP, "residual", residual, &[N, OC])?,
            Arg::shaped(OP, "inp", inp, &[N, C])?,
            Arg::shaped(OP, "weight", weight, &[OC, C])?,
            Arg::optional(OP, "bias", bias, &[OC])?,
        ];
        let ([out], [residual, inp, weight, bias], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.matmul_residual_forward(out, residual, inp, weight, present(bias), C, OC);
        Ok(())
    }

    fn matmul_backward_input(
        &mut self,
        dinp: Slot<Act>,
        dout: Slot<Act>,
        weight: Slot<Act>,
        N: usize,
        C: usize,
        OC: usize,
        update: Update,
    ) -> Result {
        const OP: &str = "matmul_backward_input";

        let write = [Arg::shaped(OP, "dinp", dinp, &[N, C])?];
        let read = [Arg::shaped(OP, "dout", dout, &[N, OC])?, Arg::shaped(OP, "weight", weight, &[OC, C])?];
        let ([dinp], [dout, weight], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.matmul_backward_input(dinp, dout, weight, C, OC, update);
        Ok(())
    }

    fn matmul_gelu_backward_input(
        &mut self,
        dpre: Slot<Act>,
        dout: Slot<Act>,
        weight: Slot<Act>,
        pre: Slot<Act>,
        N: usize,
        C: usize,
        OC: usize,
    ) -> Result {
        const OP: &str = "matmul_gelu_backward_input";

        let write = [Arg::shaped(OP, "dpre", dpre, &[N, C])?];
        let read = [
            Arg::shaped(OP, "dout", dout, &[N, OC])?,
            Arg::shaped(OP, "weight", weight, &[OC, C])?,
            Arg::shaped(OP, "pre", pre, &[N, C])?,
        ];
        let ([dpre], [dout, weight, pre], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.matmul_gelu_backward_input(dpre, dout, weight, pre, C, OC);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "matmul_backward_weight";

        let write =
            [Arg::shaped(OP, "dweight", dweight, &[OC, C])?, Arg::optional(OP, "dbias", dbias, &[OC])?];
        let read = [Arg::shaped(OP, "dout", dout, &[N, OC])?, Arg::shaped(OP, "inp", inp, &[N, C])?];
        let ([dweight, dbias], [dout, inp], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.matmul_backward_weight(dweight, present_mut(dbias), dout, inp, C, OC, update);
        Ok(())
    }

    fn bias_forward(&mut self, x: Slot<Act>, bias: Slot<Act>, N: usize, OC: usize) -> Result {
        const OP: &str = "bias_forward";

        let write = [Arg::shaped(OP, "x", x, &[N, OC])?];
        let read = [Arg::shaped(OP, "bias", bias, &[OC])?];
        let ([x], [bias], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.bias_forward(x, bias);
        Ok(())
    }

    fn bias_backward(
        &mut self,
        dbias: Slot<Act>,
        dout: Slot<Act>,
        N: usize,
        OC: usize,
        update: Update,
    ) -> Result {
        const OP: &str = "bias_backward";

        let write = [Arg::shaped(OP, "dbias", dbias, &[OC])?];
        let read = [Arg::shaped(OP, "dout", dout, &[N, OC])?];
        let ([dbias], [dout], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.bias_backward(dbias, dout, update);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "attention_forward";
        dropout.check(OP)?;
        let write =
            [Arg::shaped(OP, "out", out, &[B, T, NH, HS])?, Arg::shaped(OP, "lse", lse, &[B, NH, T])?];
        let read = [Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?];
        let ([out, lse], [qkv], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.attention_forward(out, lse, qkv, B, Heads { T, NH, HS }, dropout);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "attention_backward";
        dropout.check(OP)?;
        let write = [Arg::shaped(OP, "dqkv", dqkv, &[B, T, 3, NH, HS])?];
        let read = [
            Arg::shaped(OP, "dout", dout, &[B, T, NH, HS])?,
            Arg::shaped(OP, "out", out, &[B, T, NH, HS])?,
            Arg::shaped(OP, "lse", lse, &[B, NH, T])?,
            Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?,
        ];
        let ([dqkv], [dout, out, lse, qkv], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.attention_backward(dqkv, dout, out, lse, qkv, B, Heads { T, NH, HS }, dropout);
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "attention_cached_forward";
        if pos.checked_add(Tn).is_none_or(|end| end > Tmax) {
            let message = format!("{Tn} new positions after {pos} do not fit a cache of {Tmax}");
            return Err(Error::Argument { op: OP, message });
        }
        let write = [
            Arg::shaped(OP, "out", out, &[B, Tn, NH, HS])?,
            Arg::shaped(OP, "kcache", kcache, &[B, Tmax, NH, HS])?,
            Arg::shaped(OP, "vcache", vcache, &[B, Tmax, NH, HS])?,
        ];
        let read = [Arg::shaped(OP, "qkv", qkv, &[B, Tn, 3, NH, HS])?];
        let ([out, kcache, vcache], [qkv], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.attention_cached_forward(
            out,
            kcache,
            vcache,
            qkv,
            B,
            pos,
            Tmax,
            Heads { T: Tn, NH, HS },
        );
        Ok(())
    }

    fn attention_scores_forward(
        &mut self,
        scores: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result {
        const OP: &str = "attention_scores_forward";

        let write = [Arg::shaped(OP, "scores", scores, &[B, NH, T, T])?];
        let read = [Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?];
        let ([scores], [qkv], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.attention_scores_forward(scores, qkv, B, Heads { T, NH, HS });
        Ok(())
    }

    fn attention_scores_backward(
        &mut self,
        dqkv: Slot<Act>,
        dscores: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result {
        const OP: &str = "attention_scores_backward";

        let write = [Arg::shaped(OP, "dqkv", dqkv, &[B, T, 3, NH, HS])?];
        let read = [
            Arg::shaped(OP, "dscores", dscores, &[B, NH, T, T])?,
            Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?,
        ];
        let ([dqkv], [dscores, qkv], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.attention_scores_backward(dqkv, dscores, qkv, B, Heads { T, NH, HS });
        Ok(())
    }

    fn softmax_forward(&mut self, probs: Slot<Act>, scores: Slot<Act>, R: usize, T: usize) -> Result {
        const OP: &str = "softmax_forward";

        let write = [Arg::shaped(OP, "probs", probs, &[R, T, T])?];
        let read = [Arg::shaped(OP, "scores", scores, &[R, T, T])?];
        let ([probs], [scores], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.softmax_forward(probs, scores, T);
        Ok(())
    }

    fn softmax_backward(
        &mut self,
        dscores: Slot<Act>,
        dprobs: Slot<Act>,
        probs: Slot<Act>,
        R: usize,
        T: usize,
    ) -> Result {
        const OP: &str = "softmax_backward";

        let write = [Arg::shaped(OP, "dscores", dscores, &[R, T, T])?];
        let read =
            [Arg::shaped(OP, "dprobs", dprobs, &[R, T, T])?, Arg::shaped(OP, "probs", probs, &[R, T, T])?];
        let ([dscores], [dprobs, probs], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.softmax_backward(dscores, dprobs, probs, T);
        Ok(())
    }

    fn attention_values_forward(
        &mut self,
        out: Slot<Act>,
        probs: Slot<Act>,
        qkv: Slot<Act>,
        B: usize,
        T: usize,
        NH: usize,
        HS: usize,
    ) -> Result {
        const OP: &str = "attention_values_forward";

        let write = [Arg::shaped(OP, "out", out, &[B, T, NH, HS])?];
        let read = [
            Arg::shaped(OP, "probs", probs, &[B, NH, T, T])?,
            Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?,
        ];
        let ([out], [probs, qkv], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.attention_values_forward(out, probs, qkv, B, Heads { T, NH, HS });
        Ok(())
    }

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
    ) -> Result {
        const OP: &str = "attention_values_backward";

        let write = [
            Arg::shaped(OP, "dprobs", dprobs, &[B, NH, T, T])?,
            Arg::shaped(OP, "dqkv", dqkv, &[B, T, 3, NH, HS])?,
        ];
        let read = [
            Arg::shaped(OP, "dout", dout, &[B, T, NH, HS])?,
            Arg::shaped(OP, "probs", probs, &[B, NH, T, T])?,
            Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?,
        ];
        let ([dprobs, dqkv], [dout, probs, qkv], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.attention_values_backward(dprobs, dqkv, dout, probs, qkv, B, Heads { T, NH, HS });
        Ok(())
    }

    fn gelu_forward(&mut self, out: Slot<Act>, inp: Slot<Act>) -> Result {
        const OP: &str = "gelu_forward";

        let write = [Arg::shaped(OP, "out", out, &[out.len])?];
        let read = [Arg::shaped(OP, "inp", inp, &[out.len])?];
        let ([out], [inp], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.gelu_forward(out, inp);
        Ok(())
    }

    fn gelu_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, inp: Slot<Act>) -> Result {
        const OP: &str = "gelu_backward";

        let write = [Arg::shaped(OP, "dinp", dinp, &[dinp.len])?];
        let read = [Arg::shaped(OP, "dout", dout, &[dinp.len])?, Arg::shaped(OP, "inp", inp, &[dinp.len])?];
        let ([dinp], [dout, inp], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.gelu_backward(dinp, dout, inp);
        Ok(())
    }

    fn dropout_forward(&mut self, out: Slot<Act>, inp: Slot<Act>, dropout: Dropout) -> Result {
        const OP: &str = "dropout_forward";
        dropout.check(OP)?;
        let write = [Arg::shaped(OP, "out", out, &[out.len])?];
        let read = [Arg::shaped(OP, "inp", inp, &[out.len])?];
        let ([out], [inp], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.dropout_forward(out, inp, dropout);
        Ok(())
    }

    fn dropout_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, dropout: Dropout) -> Result {
        const OP: &str = "dropout_backward";
        dropout.check(OP)?;
        let write = [Arg::shaped(OP, "dinp", dinp, &[dinp.len])?];
        let read = [Arg::shaped(OP, "dout", dout, &[dinp.len])?];
        let ([dinp], [dout], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.dropout_backward(dinp, dout, dropout);
        Ok(())
    }

    fn cross_entropy_forward(
        &mut self,
        losses: Slot<Stat>,
        logits: Slot<Act>,
        targets: Slot<Tok>,
        N: usize,
        V: usize,
        Vp: usize,
    ) -> Result {
        const OP: &str = "cross_entropy_forward";
        vocabulary(OP, V, Vp)?;
        let write = [Arg::shaped(OP, "losses", losses, &[N])?];
        let read = [Arg::shaped(OP, "logits", logits, &[N, Vp])?];
        let ([losses], [logits], [targets]) =
            self.memory.views(OP, write, read, [Arg::shaped(OP, "targets", targets, &[N])?])?;
        indices(OP, "targets", targets, V, true)?;
        self.kernels.cross_entropy_forward(losses, logits, targets, V, Vp);
        Ok(())
    }

    fn cross_entropy_forward_backward(
        &mut self,
        losses: Slot<Stat>,
        logits: Slot<Act>,
        targets: Slot<Tok>,
        N: usize,
        V: usize,
        Vp: usize,
        scale: f32,
    ) -> Result {
        const OP: &str = "cross_entropy_forward_backward";
        vocabulary(OP, V, Vp)?;
        let write = [Arg::shaped(OP, "losses", losses, &[N])?, Arg::shaped(OP, "logits", logits, &[N, Vp])?];
        let read = [];
        let ([losses, logits], [], [targets]) =
            self.memory.views(OP, write, read, [Arg::shaped(OP, "targets", targets, &[N])?])?;
        indices(OP, "targets", targets, V, true)?;
        self.kernels.cross_entropy_forward_backward(losses, logits, targets, V, Vp, scale);
        Ok(())
    }

    fn sum(&mut self, out: Slot<Stat>, inp: Slot<Stat>) -> Result {
        const OP: &str = "sum";

        let write = [Arg::shaped(OP, "out", out, &[1])?];
        let read = [Arg::shaped(OP, "inp", inp, &[inp.len])?];
        let ([out], [inp], []) = self.memory.views(OP, write, read, [])?;

        out[0] = self.kernels.sum(inp);
        Ok(())
    }

    fn global_norm(&mut self, out: Slot<Stat>, grads: Slot<Act>) -> Result {
        const OP: &str = "global_norm";

        let write = [Arg::shaped(OP, "out", out, &[1])?];
        let read = [Arg::shaped(OP, "grads", grads, &[grads.len])?];
        let ([out], [grads], []) = self.memory.views(OP, write, read, [])?;

        out[0] = self.kernels.global_norm(grads);
        Ok(())
    }

    fn adamw(
        &mut self,
        params: Slot<Act>,
        m: Slot<Stat>,
        v: Slot<Stat>,
        grads: Slot<Act>,
        norm: Slot<Stat>,
        constants: AdamW,
    ) -> Result {
        const OP: &str = "adamw";
        constants.check(OP)?;
        let write = [
            Arg::shaped(OP, "params", params, &[grads.len])?,
            Arg::shaped(OP, "m", m, &[grads.len])?,
            Arg::shaped(OP, "v", v, &[grads.len])?,
        ];
        let read = [Arg::shaped(OP, "grads", grads, &[grads.len])?, Arg::shaped(OP, "norm", norm, &[1])?];
        let ([params, m, v], [grads, norm], []) = self.memory.views(OP, write, read, [])?;

        self.kernels.adamw(params, m, v, grads, norm[0], constants);
        Ok(())
    }
}
