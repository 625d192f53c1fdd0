//! [`Ops`] over [`Kernels`]: each method checks its arguments, looks up their slices and calls the kernel.

use super::{Float, Host, Kernels};
use crate::args::signatures as args;
use crate::reference::attention::Heads;
use crate::{Act, AdamW, Dropout, Grad, Kind, Ops, Result, Slot, Stat, Ticket, Tok, Update};

/// The view of an argument that may be missing.
fn present<F>(view: &[F]) -> Option<&[F]> {
    (!view.is_empty()).then_some(view)
}

/// The same for one that is written.
fn present_mut<F>(view: &mut [F]) -> Option<&mut [F]> {
    (!view.is_empty()).then_some(view)
}

impl<K: Kernels> Ops for Host<K> {
    fn device(&self) -> String {
        self.kernels.device()
    }

    fn act_bytes(&self) -> usize {
        size_of::<K::F>()
    }

    fn grad_bytes(&self) -> usize {
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

    fn fetch(&mut self, src: Slot<Stat>) -> Result<Ticket> {
        let ([], [src], []) = self.memory.views(args::fetch(src)?)?;
        Ok(self.fetched.put(src))
    }

    fn fetched(&mut self, _: &Ticket) -> Result<bool> {
        Ok(true)
    }

    fn collect(&mut self, dst: &mut [f32], ticket: Ticket) -> Result {
        args::collect(dst, &ticket)?;
        self.fetched.take(dst, ticket)
    }

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
    ) -> Result {
        let ([out], [wte, wpe], [tokens, positions]) =
            self.memory.views(args::embedding_forward(out, tokens, positions, wte, wpe, B, T, C)?)?;
        self.kernels.embedding_forward(out, tokens, present(positions), wte, wpe, T, C);
        Ok(())
    }

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
    ) -> Result {
        let ([dwte, dwpe], [dout], [tokens, positions]) =
            self.memory.views(args::embedding_backward(dwte, dwpe, dout, tokens, positions, B, T, C)?)?;
        self.kernels.embedding_backward(dwte, dwpe, dout, tokens, present(positions), T, C, update);
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
        let ([out, mean, rstd], [inp, weight, bias], []) =
            self.memory.views(args::layernorm_forward(out, mean, rstd, inp, weight, bias, N, C)?)?;
        self.kernels.layernorm_forward(out, mean, rstd, inp, weight, present(bias), C, eps);
        Ok(())
    }

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
    ) -> Result {
        let ([dinp, dweight, dbias], [dout, inp, weight, mean, rstd], []) = self
            .memory
            .views(args::layernorm_backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd, N, C)?)?;
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
        let ([out], [a, b], []) = self.memory.views(args::residual_forward(out, a, b)?)?;
        self.kernels.residual_forward(out, a, b);
        Ok(())
    }

    fn residual_backward(&mut self, da: Slot<Act>, dout: Slot<Act>, update: Update) -> Result {
        let ([da], [dout], []) = self.memory.views(args::residual_backward(da, dout)?)?;
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
        let ([res, out, mean, rstd], [a, b, weight, bias], []) = self
            .memory
            .views(args::residual_layernorm_forward(res, out, mean, rstd, a, b, weight, bias, N, C)?)?;
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
        let ([out], [inp, weight, bias], []) =
            self.memory.views(args::matmul_forward(out, inp, weight, bias, N, C, OC)?)?;
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
        let ([out, pre], [inp, weight, bias], []) =
            self.memory.views(args::matmul_gelu_forward(out, pre, inp, weight, bias, N, C, OC)?)?;
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
        let ([out], [residual, inp, weight, bias], []) =
            self.memory.views(args::matmul_residual_forward(out, residual, inp, weight, bias, N, C, OC)?)?;
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
        let ([dinp], [dout, weight], []) =
            self.memory.views(args::matmul_backward_input(dinp, dout, weight, N, C, OC)?)?;
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
        let ([dpre], [dout, weight, pre], []) =
            self.memory.views(args::matmul_gelu_backward_input(dpre, dout, weight, pre, N, C, OC)?)?;
        self.kernels.matmul_gelu_backward_input(dpre, dout, weight, pre, C, OC);
        Ok(())
    }

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
    ) -> Result {
        let ([dweight, dbias], [dout, inp], []) =
            self.memory.views(args::matmul_backward_weight(dweight, dbias, dout, inp, N, C, OC)?)?;
        self.kernels.matmul_backward_weight(dweight, present_mut(dbias), dout, inp, C, OC, update);
        Ok(())
    }

    fn bias_forward(&mut self, x: Slot<Act>, bias: Slot<Act>, N: usize, OC: usize) -> Result {
        let ([x], [bias], []) = self.memory.views(args::bias_forward(x, bias, N, OC)?)?;
        self.kernels.bias_forward(x, bias);
        Ok(())
    }

    fn bias_backward(
        &mut self,
        dbias: Slot<Grad>,
        dout: Slot<Act>,
        N: usize,
        OC: usize,
        update: Update,
    ) -> Result {
        let ([dbias], [dout], []) = self.memory.views(args::bias_backward(dbias, dout, N, OC)?)?;
        self.kernels.bias_backward(dbias, dout, update);
        Ok(())
    }

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
    ) -> Result {
        let ([out, lse], [qkv], [starts]) =
            self.memory.views(args::attention_forward(out, lse, qkv, starts, B, T, NH, HS, dropout)?)?;
        self.kernels.attention_forward(out, lse, qkv, present(starts), B, Heads { T, NH, HS }, dropout);
        Ok(())
    }

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
    ) -> Result {
        let ([dqkv], [dout, out, lse, qkv], [starts]) = self
            .memory
            .views(args::attention_backward(dqkv, dout, out, lse, qkv, starts, B, T, NH, HS, dropout)?)?;
        self.kernels.attention_backward(
            dqkv,
            dout,
            out,
            lse,
            qkv,
            present(starts),
            B,
            Heads { T, NH, HS },
            dropout,
        );
        Ok(())
    }

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
    ) -> Result {
        let ([out, kcache, vcache], [qkv], [pos, rows]) = self.memory.views(
            args::attention_cached_forward(out, kcache, vcache, qkv, pos, rows, B, Tn, Tmax, NH, HS)?,
        )?;
        let heads = Heads { T: Tn, NH, HS };
        self.kernels.attention_cached_forward(out, kcache, vcache, qkv, pos, present(rows), Tmax, heads);
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
        let ([scores], [qkv], []) =
            self.memory.views(args::attention_scores_forward(scores, qkv, B, T, NH, HS)?)?;
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
        let ([dqkv], [dscores, qkv], []) =
            self.memory.views(args::attention_scores_backward(dqkv, dscores, qkv, B, T, NH, HS)?)?;
        self.kernels.attention_scores_backward(dqkv, dscores, qkv, B, Heads { T, NH, HS });
        Ok(())
    }

    fn softmax_forward(&mut self, probs: Slot<Act>, scores: Slot<Act>, R: usize, T: usize) -> Result {
        let ([probs], [scores], []) = self.memory.views(args::softmax_forward(probs, scores, R, T)?)?;
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
        let ([dscores], [dprobs, probs], []) =
            self.memory.views(args::softmax_backward(dscores, dprobs, probs, R, T)?)?;
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
        let ([out], [probs, qkv], []) =
            self.memory.views(args::attention_values_forward(out, probs, qkv, B, T, NH, HS)?)?;
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
        let ([dprobs, dqkv], [dout, probs, qkv], []) = self
            .memory
            .views(args::attention_values_backward(dprobs, dqkv, dout, probs, qkv, B, T, NH, HS)?)?;
        self.kernels.attention_values_backward(dprobs, dqkv, dout, probs, qkv, B, Heads { T, NH, HS });
        Ok(())
    }

    fn gelu_forward(&mut self, out: Slot<Act>, inp: Slot<Act>) -> Result {
        let ([out], [inp], []) = self.memory.views(args::gelu_forward(out, inp)?)?;
        self.kernels.gelu_forward(out, inp);
        Ok(())
    }

    fn gelu_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, inp: Slot<Act>) -> Result {
        let ([dinp], [dout, inp], []) = self.memory.views(args::gelu_backward(dinp, dout, inp)?)?;
        self.kernels.gelu_backward(dinp, dout, inp);
        Ok(())
    }

    fn dropout_forward(&mut self, out: Slot<Act>, inp: Slot<Act>, dropout: Dropout) -> Result {
        let ([out], [inp], []) = self.memory.views(args::dropout_forward(out, inp, dropout)?)?;
        self.kernels.dropout_forward(out, inp, dropout);
        Ok(())
    }

    fn dropout_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, dropout: Dropout) -> Result {
        let ([dinp], [dout], []) = self.memory.views(args::dropout_backward(dinp, dout, dropout)?)?;
        self.kernels.dropout_backward(dinp, dout, dropout);
        Ok(())
    }

    fn cross_entropy_forward(
        &mut self,
        losses: Slot<Stat>,
        logits: Slot<Act>,
        targets: Slot<Tok>,
        weights: Option<Slot<Stat>>,
        N: usize,
        V: usize,
        Vp: usize,
    ) -> Result {
        let ([losses], [logits, weights], [targets]) =
            self.memory.views(args::cross_entropy_forward(losses, logits, targets, weights, N, V, Vp)?)?;
        self.kernels.cross_entropy_forward(losses, logits, targets, present(weights), V, Vp);
        Ok(())
    }

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
    ) -> Result {
        let ([losses, logits], [weights], [targets]) = self
            .memory
            .views(args::cross_entropy_forward_backward(losses, logits, targets, weights, N, V, Vp)?)?;
        self.kernels.cross_entropy_forward_backward(losses, logits, targets, present(weights), V, Vp, scale);
        Ok(())
    }

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
    ) -> Result {
        let ([tokens, seen], [logits, knobs], [uniforms, rows]) =
            self.memory.token_views(args::sample(tokens, seen, logits, knobs, uniforms, rows, B, V, Vp)?)?;
        self.kernels.sample(tokens, present_mut(seen), logits, knobs, uniforms, present(rows), V, Vp);
        Ok(())
    }

    fn sum(&mut self, out: Slot<Stat>, inp: Slot<Stat>) -> Result {
        let ([out], [inp], []) = self.memory.views(args::sum(out, inp)?)?;
        out[0] = self.kernels.sum(inp);
        Ok(())
    }

    fn global_norm(&mut self, out: Slot<Stat>, grads: Slot<Grad>) -> Result {
        let ([out], [grads], []) = self.memory.views(args::global_norm(out, grads)?)?;
        out[0] = self.kernels.global_norm(grads);
        Ok(())
    }

    fn adamw(
        &mut self,
        params: Slot<Act>,
        master: Option<Slot<Stat>>,
        m: Slot<Stat>,
        v: Slot<Stat>,
        grads: Slot<Grad>,
        norm: Slot<Stat>,
        constants: AdamW,
    ) -> Result {
        let ([params, master, m, v], [grads, norm], []) =
            self.memory.views(args::adamw(params, master, m, v, grads, norm, constants)?)?;
        // Floats of a host backend are never narrower than the master's.
        match present_mut(master) {
            None => self.kernels.adamw(params, m, v, grads, norm[0], constants),
            Some(master) => {
                self.kernels.adamw(master, m, v, grads, norm[0], constants);
                if norm[0].wide().is_finite() {
                    params.copy_from_slice(master);
                }
            }
        }
        Ok(())
    }
}
