//! [`Ops`] on a GPU: each method checks its arguments, looks up where they lie and asks for the kernels.

use wikigpt_ops::args::signatures as args;
use wikigpt_ops::{Act, AdamW, Dropout, Error, Grad, Kind, Ops, Result, Slot, Stat, Ticket, Tok, Update};

use crate::{
    Gpu, adamw, attention, bias, cross_entropy, dropout, embedding, gelu, layernorm, matmul, reduce,
    residual, sample, softmax, unfused,
};

impl Ops for Gpu {
    fn device(&self) -> String {
        format!("cuda:{} ({})", self.device.ordinal, self.device.name)
    }

    fn act_bytes(&self) -> usize {
        self.precision.bytes()
    }

    fn grad_bytes(&self) -> usize {
        self.grads.bytes()
    }

    fn alloc<K: Kind>(&mut self, len: usize) -> Result<Slot<K>> {
        let done = self.memory.alloc(&self.device.name, len);
        done.map_err(|error| self.blame(error))
    }

    fn free<K: Kind>(&mut self, slot: Slot<K>) -> Result {
        let done = self.memory.free(&self.device.name, slot);
        done.map_err(|error| self.blame(error))
    }

    fn upload<K: Kind>(&mut self, dst: Slot<K>, src: &[K::Host]) -> Result {
        let done = self.memory.upload(&self.device.name, dst, src);
        done.map_err(|error| self.blame(error))
    }

    fn download<K: Kind>(&mut self, dst: &mut [K::Host], src: Slot<K>) -> Result {
        self.synchronize()?;
        self.memory.download(&self.device.name, dst, src)
    }

    fn copy<K: Kind>(&mut self, dst: Slot<K>, src: Slot<K>) -> Result {
        let done = self.memory.copy(&self.device.name, dst, src);
        done.map_err(|error| self.blame(error))
    }

    fn zero<K: Kind>(&mut self, dst: Slot<K>) -> Result {
        let done = self.memory.zero(&self.device.name, dst);
        done.map_err(|error| self.blame(error))
    }

    fn synchronize(&mut self) -> Result {
        self.graphs.abandon();
        self.stream.synchronize().map_err(|error| self.failed_since("synchronize", error))?;
        self.log.all_done();
        self.free_outgrown();
        Ok(())
    }

    fn fetch(&mut self, src: Slot<Stat>) -> Result<Ticket> {
        let ([], [src], []) = self.memory.tensors(&args::fetch(src)?)?;
        self.fetched.put(&self.stream, src).map_err(|error| self.failed_since("fetch", error))
    }

    fn fetched(&mut self, ticket: &Ticket) -> Result<bool> {
        self.fetched.ready(ticket).map_err(|error| self.failed_since("fetched", error))
    }

    fn collect(&mut self, dst: &mut [f32], ticket: Ticket) -> Result {
        args::collect(dst, &ticket)?;
        match self.fetched.take(dst, ticket) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = "this copy was not fetched from this backend".to_owned();
                Err(Error::Argument { op: "collect", message })
            }
            Err(error) => Err(self.failed_since("collect", error)),
        }
    }

    fn record(&mut self, number: u32) -> Result {
        self.graphs.record(number).map_err(|error| self.failed_since("record", error))
    }

    fn submit(&mut self) -> Result {
        self.graphs.submit().map_err(|error| self.failed_since("submit", error))
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
            self.memory.tensors(&args::embedding_forward(out, tokens, positions, wte, wpe, B, T, C)?)?;
        embedding::embedding_forward(self, out, tokens, positions.present(), wte, wpe, B, T, C)
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
        let table = dwpe;
        let ([dwte, dwpe], [dout], [tokens, positions]) =
            self.memory.tensors(&args::embedding_backward(dwte, dwpe, dout, tokens, positions, B, T, C)?)?;
        // Rows that are chosen are added to.
        if positions.present().is_some() && update == Update::Set {
            self.zero(table)?;
        }
        embedding::embedding_backward(self, dwte, dwpe, dout, tokens, positions.present(), B, T, C, update)
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
            self.memory.tensors(&args::layernorm_forward(out, mean, rstd, inp, weight, bias, N, C)?)?;
        layernorm::layernorm_forward(self, out, mean, rstd, inp, weight, bias.present(), N, C, eps)
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
            .tensors(&args::layernorm_backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd, N, C)?)?;
        layernorm::layernorm_backward(
            self,
            dinp,
            dweight,
            dbias.present(),
            dout,
            inp,
            weight,
            mean,
            rstd,
            N,
            C,
            update_inp,
            update,
        )
    }

    fn residual_forward(&mut self, out: Slot<Act>, a: Slot<Act>, b: Slot<Act>) -> Result {
        let ([out], [a, b], []) = self.memory.tensors(&args::residual_forward(out, a, b)?)?;
        residual::residual_forward(self, out, a, b)
    }

    fn residual_backward(&mut self, da: Slot<Act>, dout: Slot<Act>, update: Update) -> Result {
        let ([da], [dout], []) = self.memory.tensors(&args::residual_backward(da, dout)?)?;
        residual::residual_backward(self, da, dout, update)
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
            .tensors(&args::residual_layernorm_forward(res, out, mean, rstd, a, b, weight, bias, N, C)?)?;
        layernorm::residual_layernorm_forward(
            self,
            res,
            out,
            mean,
            rstd,
            a,
            b,
            weight,
            bias.present(),
            N,
            C,
            eps,
        )
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
            self.memory.tensors(&args::matmul_forward(out, inp, weight, bias, N, C, OC)?)?;
        matmul::matmul_forward(self, out, inp, weight, bias.present(), N, C, OC)
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
            self.memory.tensors(&args::matmul_gelu_forward(out, pre, inp, weight, bias, N, C, OC)?)?;
        matmul::matmul_gelu_forward(self, out, pre, inp, weight, bias.present(), N, C, OC)
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
        let ([out], [residual, inp, weight, bias], []) = self
            .memory
            .tensors(&args::matmul_residual_forward(out, residual, inp, weight, bias, N, C, OC)?)?;
        matmul::matmul_residual_forward(self, out, residual, inp, weight, bias.present(), N, C, OC)
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
            self.memory.tensors(&args::matmul_backward_input(dinp, dout, weight, N, C, OC)?)?;
        matmul::matmul_backward_input(self, dinp, dout, weight, N, C, OC, update)
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
            self.memory.tensors(&args::matmul_gelu_backward_input(dpre, dout, weight, pre, N, C, OC)?)?;
        matmul::matmul_gelu_backward_input(self, dpre, dout, weight, pre, N, C, OC)
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
            self.memory.tensors(&args::matmul_backward_weight(dweight, dbias, dout, inp, N, C, OC)?)?;
        matmul::matmul_backward_weight(self, dweight, dbias.present(), dout, inp, N, C, OC, update)
    }

    fn bias_forward(&mut self, x: Slot<Act>, bias: Slot<Act>, N: usize, OC: usize) -> Result {
        let ([x], [bias], []) = self.memory.tensors(&args::bias_forward(x, bias, N, OC)?)?;
        bias::bias_forward(self, x, bias, N, OC)
    }

    fn bias_backward(
        &mut self,
        dbias: Slot<Grad>,
        dout: Slot<Act>,
        N: usize,
        OC: usize,
        update: Update,
    ) -> Result {
        let ([dbias], [dout], []) = self.memory.tensors(&args::bias_backward(dbias, dout, N, OC)?)?;
        bias::bias_backward(self, dbias, dout, N, OC, update)
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
            self.memory.tensors(&args::attention_forward(out, lse, qkv, starts, B, T, NH, HS, dropout)?)?;
        attention::attention_forward(self, out, lse, qkv, starts.present(), B, T, NH, HS, dropout)
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
            .tensors(&args::attention_backward(dqkv, dout, out, lse, qkv, starts, B, T, NH, HS, dropout)?)?;
        attention::attention_backward(
            self,
            dqkv,
            dout,
            out,
            lse,
            qkv,
            starts.present(),
            B,
            T,
            NH,
            HS,
            dropout,
        )
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
        let ([out, kcache, vcache], [qkv], [pos, rows]) = self.memory.tensors(
            &args::attention_cached_forward(out, kcache, vcache, qkv, pos, rows, B, Tn, Tmax, NH, HS)?,
        )?;
        let rows = rows.present();
        attention::attention_cached_forward(self, out, kcache, vcache, qkv, pos, rows, B, Tn, Tmax, NH, HS)
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
            self.memory.tensors(&args::attention_scores_forward(scores, qkv, B, T, NH, HS)?)?;
        unfused::attention_scores_forward(self, scores, qkv, B, T, NH, HS)
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
            self.memory.tensors(&args::attention_scores_backward(dqkv, dscores, qkv, B, T, NH, HS)?)?;
        unfused::attention_scores_backward(self, dqkv, dscores, qkv, B, T, NH, HS)
    }

    fn softmax_forward(&mut self, probs: Slot<Act>, scores: Slot<Act>, R: usize, T: usize) -> Result {
        let ([probs], [scores], []) = self.memory.tensors(&args::softmax_forward(probs, scores, R, T)?)?;
        softmax::softmax_forward(self, probs, scores, R, T)
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
            self.memory.tensors(&args::softmax_backward(dscores, dprobs, probs, R, T)?)?;
        softmax::softmax_backward(self, dscores, dprobs, probs, R, T)
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
            self.memory.tensors(&args::attention_values_forward(out, probs, qkv, B, T, NH, HS)?)?;
        unfused::attention_values_forward(self, out, probs, qkv, B, T, NH, HS)
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
            .tensors(&args::attention_values_backward(dprobs, dqkv, dout, probs, qkv, B, T, NH, HS)?)?;
        unfused::attention_values_backward(self, dprobs, dqkv, dout, probs, qkv, B, T, NH, HS)
    }

    fn gelu_forward(&mut self, out: Slot<Act>, inp: Slot<Act>) -> Result {
        let ([out], [inp], []) = self.memory.tensors(&args::gelu_forward(out, inp)?)?;
        gelu::gelu_forward(self, out, inp)
    }

    fn gelu_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, inp: Slot<Act>) -> Result {
        let ([dinp], [dout, inp], []) = self.memory.tensors(&args::gelu_backward(dinp, dout, inp)?)?;
        gelu::gelu_backward(self, dinp, dout, inp)
    }

    fn dropout_forward(&mut self, out: Slot<Act>, inp: Slot<Act>, dropout: Dropout) -> Result {
        let ([out], [inp], []) = self.memory.tensors(&args::dropout_forward(out, inp, dropout)?)?;
        dropout::dropout_forward(self, out, inp, dropout)
    }

    fn dropout_backward(&mut self, dinp: Slot<Act>, dout: Slot<Act>, dropout: Dropout) -> Result {
        let ([dinp], [dout], []) = self.memory.tensors(&args::dropout_backward(dinp, dout, dropout)?)?;
        dropout::dropout_backward(self, dinp, dout, dropout)
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
            self.memory.tensors(&args::cross_entropy_forward(losses, logits, targets, weights, N, V, Vp)?)?;
        cross_entropy::cross_entropy_forward(self, losses, logits, targets, weights.present(), N, V, Vp)
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
            .tensors(&args::cross_entropy_forward_backward(losses, logits, targets, weights, N, V, Vp)?)?;
        cross_entropy::cross_entropy_forward_backward(
            self,
            losses,
            logits,
            targets,
            weights.present(),
            N,
            V,
            Vp,
            scale,
        )
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
            self.memory.tensors(&args::sample(tokens, seen, logits, knobs, uniforms, rows, B, V, Vp)?)?;
        let (seen, rows) = (seen.present(), rows.present());
        sample::sample(self, tokens, seen, logits, knobs, uniforms, rows, B, V, Vp)
    }

    fn sum(&mut self, out: Slot<Stat>, inp: Slot<Stat>) -> Result {
        let ([out], [inp], []) = self.memory.tensors(&args::sum(out, inp)?)?;
        reduce::sum(self, out, inp)
    }

    fn global_norm(&mut self, out: Slot<Stat>, grads: Slot<Grad>) -> Result {
        let ([out], [grads], []) = self.memory.tensors(&args::global_norm(out, grads)?)?;
        reduce::global_norm(self, out, grads)
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
            self.memory.tensors(&args::adamw(params, master, m, v, grads, norm, constants)?)?;
        adamw::adamw(self, params, master.present(), m, v, grads, norm, constants)
    }
}
