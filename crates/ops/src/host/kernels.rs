//! What a backend in host memory computes, on slices whose lengths have been checked.

use super::Float;
use crate::reference::{
    adamw, attention, attention::Heads, cross_entropy, dropout, embedding, gelu, layernorm, matmul, residual,
    sample, softmax,
};
use crate::{AdamW, Dropout, Update};

/// The ops on slices: formulas and shapes are [`Ops`](crate::Ops)'. Lengths, indices and overlaps have been checked.
///
/// Each method has the reference's plain loop as its body, so that a backend overrides what it does better.
pub trait Kernels {
    /// What is computed in.
    type F: Float;

    /// What computes, in words.
    fn device(&self) -> String;

    /// See [`Ops::embedding_forward`](crate::Ops::embedding_forward).
    fn embedding_forward(
        &mut self,
        out: &mut [Self::F],
        tokens: &[u32],
        positions: Option<&[u32]>,
        wte: &[Self::F],
        wpe: &[Self::F],
        T: usize,
        C: usize,
    ) {
        embedding::forward(out, tokens, positions, wte, wpe, T, C);
    }

    /// See [`Ops::embedding_backward`](crate::Ops::embedding_backward).
    fn embedding_backward(
        &mut self,
        dwte: &mut [Self::F],
        dwpe: &mut [Self::F],
        dout: &[Self::F],
        tokens: &[u32],
        positions: Option<&[u32]>,
        T: usize,
        C: usize,
        update: Update,
    ) {
        embedding::backward(dwte, dwpe, dout, tokens, positions, T, C, update);
    }

    /// See [`Ops::layernorm_forward`](crate::Ops::layernorm_forward).
    fn layernorm_forward(
        &mut self,
        out: &mut [Self::F],
        mean: &mut [Self::F],
        rstd: &mut [Self::F],
        inp: &[Self::F],
        weight: &[Self::F],
        bias: Option<&[Self::F]>,
        C: usize,
        eps: f32,
    ) {
        layernorm::forward(out, mean, rstd, inp, weight, bias, C, eps);
    }

    /// See [`Ops::layernorm_backward`](crate::Ops::layernorm_backward).
    fn layernorm_backward(
        &mut self,
        dinp: &mut [Self::F],
        dweight: &mut [Self::F],
        dbias: Option<&mut [Self::F]>,
        dout: &[Self::F],
        inp: &[Self::F],
        weight: &[Self::F],
        mean: &[Self::F],
        rstd: &[Self::F],
        C: usize,
        update_inp: Update,
        update: Update,
    ) {
        layernorm::backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd, C, update_inp, update);
    }

    /// See [`Ops::residual_forward`](crate::Ops::residual_forward).
    fn residual_forward(&mut self, out: &mut [Self::F], a: &[Self::F], b: &[Self::F]) {
        residual::forward(out, a, b);
    }

    /// See [`Ops::residual_backward`](crate::Ops::residual_backward).
    fn residual_backward(&mut self, da: &mut [Self::F], dout: &[Self::F], update: Update) {
        residual::backward(da, dout, update);
    }

    /// See [`Ops::residual_layernorm_forward`](crate::Ops::residual_layernorm_forward).
    fn residual_layernorm_forward(
        &mut self,
        res: &mut [Self::F],
        out: &mut [Self::F],
        mean: &mut [Self::F],
        rstd: &mut [Self::F],
        a: &[Self::F],
        b: &[Self::F],
        weight: &[Self::F],
        bias: Option<&[Self::F]>,
        C: usize,
        eps: f32,
    ) {
        self.residual_forward(res, a, b);
        self.layernorm_forward(out, mean, rstd, res, weight, bias, C, eps);
    }

    /// See [`Ops::matmul_forward`](crate::Ops::matmul_forward).
    fn matmul_forward(
        &mut self,
        out: &mut [Self::F],
        inp: &[Self::F],
        weight: &[Self::F],
        bias: Option<&[Self::F]>,
        C: usize,
        OC: usize,
    ) {
        matmul::forward(out, inp, weight, bias, C, OC);
    }

    /// See [`Ops::matmul_gelu_forward`](crate::Ops::matmul_gelu_forward).
    fn matmul_gelu_forward(
        &mut self,
        out: &mut [Self::F],
        pre: &mut [Self::F],
        inp: &[Self::F],
        weight: &[Self::F],
        bias: Option<&[Self::F]>,
        C: usize,
        OC: usize,
    ) {
        self.matmul_forward(pre, inp, weight, bias, C, OC);
        self.gelu_forward(out, pre);
    }

    /// See [`Ops::matmul_residual_forward`](crate::Ops::matmul_residual_forward).
    fn matmul_residual_forward(
        &mut self,
        out: &mut [Self::F],
        residual: &[Self::F],
        inp: &[Self::F],
        weight: &[Self::F],
        bias: Option<&[Self::F]>,
        C: usize,
        OC: usize,
    ) {
        self.matmul_forward(out, inp, weight, bias, C, OC);
        self.residual_backward(out, residual, Update::Add);
    }

    /// See [`Ops::matmul_backward_input`](crate::Ops::matmul_backward_input).
    fn matmul_backward_input(
        &mut self,
        dinp: &mut [Self::F],
        dout: &[Self::F],
        weight: &[Self::F],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        matmul::backward_input(dinp, dout, weight, C, OC, update);
    }

    /// See [`Ops::matmul_gelu_backward_input`](crate::Ops::matmul_gelu_backward_input).
    fn matmul_gelu_backward_input(
        &mut self,
        dpre: &mut [Self::F],
        dout: &[Self::F],
        weight: &[Self::F],
        pre: &[Self::F],
        C: usize,
        OC: usize,
    ) {
        self.matmul_backward_input(dpre, dout, weight, C, OC, Update::Set);
        for (dx, x) in dpre.iter_mut().zip(pre) {
            *dx *= gelu::derivative(*x);
        }
    }

    /// See [`Ops::matmul_backward_weight`](crate::Ops::matmul_backward_weight).
    fn matmul_backward_weight(
        &mut self,
        dweight: &mut [Self::F],
        dbias: Option<&mut [Self::F]>,
        dout: &[Self::F],
        inp: &[Self::F],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        matmul::backward_weight(dweight, dbias, dout, inp, C, OC, update);
    }

    /// See [`Ops::bias_forward`](crate::Ops::bias_forward).
    fn bias_forward(&mut self, x: &mut [Self::F], bias: &[Self::F]) {
        matmul::bias_forward(x, bias);
    }

    /// See [`Ops::bias_backward`](crate::Ops::bias_backward).
    fn bias_backward(&mut self, dbias: &mut [Self::F], dout: &[Self::F], update: Update) {
        matmul::bias_backward(dbias, dout, update);
    }

    /// See [`Ops::attention_forward`](crate::Ops::attention_forward).
    fn attention_forward(
        &mut self,
        out: &mut [Self::F],
        lse: &mut [Self::F],
        qkv: &[Self::F],
        starts: Option<&[u32]>,
        B: usize,
        heads: Heads,
        dropout: Dropout,
    ) {
        attention::forward(out, lse, qkv, starts, B, heads, dropout);
    }

    /// See [`Ops::attention_backward`](crate::Ops::attention_backward).
    fn attention_backward(
        &mut self,
        dqkv: &mut [Self::F],
        dout: &[Self::F],
        out: &[Self::F],
        lse: &[Self::F],
        qkv: &[Self::F],
        starts: Option<&[u32]>,
        B: usize,
        heads: Heads,
        dropout: Dropout,
    ) {
        attention::backward(dqkv, dout, out, lse, qkv, starts, B, heads, dropout);
    }

    /// See [`Ops::attention_cached_forward`](crate::Ops::attention_cached_forward).
    fn attention_cached_forward(
        &mut self,
        out: &mut [Self::F],
        kcache: &mut [Self::F],
        vcache: &mut [Self::F],
        qkv: &[Self::F],
        pos: &[u32],
        rows: Option<&[u32]>,
        Tmax: usize,
        heads: Heads,
    ) {
        attention::cached_forward(out, kcache, vcache, qkv, pos, rows, Tmax, heads);
    }

    /// See [`Ops::attention_scores_forward`](crate::Ops::attention_scores_forward).
    fn attention_scores_forward(&mut self, scores: &mut [Self::F], qkv: &[Self::F], B: usize, heads: Heads) {
        attention::scores_forward(scores, qkv, B, heads);
    }

    /// See [`Ops::attention_scores_backward`](crate::Ops::attention_scores_backward).
    fn attention_scores_backward(
        &mut self,
        dqkv: &mut [Self::F],
        dscores: &[Self::F],
        qkv: &[Self::F],
        B: usize,
        heads: Heads,
    ) {
        attention::scores_backward(dqkv, dscores, qkv, B, heads);
    }

    /// See [`Ops::softmax_forward`](crate::Ops::softmax_forward).
    fn softmax_forward(&mut self, probs: &mut [Self::F], scores: &[Self::F], T: usize) {
        softmax::forward(probs, scores, T);
    }

    /// See [`Ops::softmax_backward`](crate::Ops::softmax_backward).
    fn softmax_backward(&mut self, dscores: &mut [Self::F], dprobs: &[Self::F], probs: &[Self::F], T: usize) {
        softmax::backward(dscores, dprobs, probs, T);
    }

    /// See [`Ops::attention_values_forward`](crate::Ops::attention_values_forward).
    fn attention_values_forward(
        &mut self,
        out: &mut [Self::F],
        probs: &[Self::F],
        qkv: &[Self::F],
        B: usize,
        heads: Heads,
    ) {
        attention::values_forward(out, probs, qkv, B, heads);
    }

    /// See [`Ops::attention_values_backward`](crate::Ops::attention_values_backward).
    fn attention_values_backward(
        &mut self,
        dprobs: &mut [Self::F],
        dqkv: &mut [Self::F],
        dout: &[Self::F],
        probs: &[Self::F],
        qkv: &[Self::F],
        B: usize,
        heads: Heads,
    ) {
        attention::values_backward(dprobs, dqkv, dout, probs, qkv, B, heads);
    }

    /// See [`Ops::gelu_forward`](crate::Ops::gelu_forward).
    fn gelu_forward(&mut self, out: &mut [Self::F], inp: &[Self::F]) {
        gelu::forward(out, inp);
    }

    /// See [`Ops::gelu_backward`](crate::Ops::gelu_backward).
    fn gelu_backward(&mut self, dinp: &mut [Self::F], dout: &[Self::F], inp: &[Self::F]) {
        gelu::backward(dinp, dout, inp);
    }

    /// See [`Ops::dropout_forward`](crate::Ops::dropout_forward).
    fn dropout_forward(&mut self, out: &mut [Self::F], inp: &[Self::F], dropout: Dropout) {
        dropout::forward(out, inp, dropout);
    }

    /// See [`Ops::dropout_backward`](crate::Ops::dropout_backward).
    fn dropout_backward(&mut self, dinp: &mut [Self::F], dout: &[Self::F], dropout: Dropout) {
        self.dropout_forward(dinp, dout, dropout);
    }

    /// See [`Ops::cross_entropy_forward`](crate::Ops::cross_entropy_forward).
    fn cross_entropy_forward(
        &mut self,
        losses: &mut [Self::F],
        logits: &[Self::F],
        targets: &[u32],
        weights: Option<&[Self::F]>,
        V: usize,
        Vp: usize,
    ) {
        cross_entropy::forward(losses, logits, targets, weights, V, Vp);
    }

    /// See [`Ops::cross_entropy_forward_backward`](crate::Ops::cross_entropy_forward_backward).
    fn cross_entropy_forward_backward(
        &mut self,
        losses: &mut [Self::F],
        logits: &mut [Self::F],
        targets: &[u32],
        weights: Option<&[Self::F]>,
        V: usize,
        Vp: usize,
        scale: f32,
    ) {
        cross_entropy::forward_backward(losses, logits, targets, weights, V, Vp, scale);
    }

    /// See [`Ops::sample`](crate::Ops::sample).
    fn sample(
        &mut self,
        tokens: &mut [u32],
        seen: Option<&mut [u32]>,
        logits: &[Self::F],
        knobs: &[Self::F],
        uniforms: &[u32],
        rows: Option<&[u32]>,
        V: usize,
        Vp: usize,
    ) {
        sample::forward(tokens, seen, logits, knobs, uniforms, rows, V, Vp);
    }

    /// See [`Ops::sum`](crate::Ops::sum).
    fn sum(&mut self, inp: &[Self::F]) -> Self::F {
        adamw::sum(inp)
    }

    /// See [`Ops::global_norm`](crate::Ops::global_norm).
    fn global_norm(&mut self, grads: &[Self::F]) -> Self::F {
        adamw::global_norm(grads)
    }

    /// See [`Ops::adamw`](crate::Ops::adamw).
    fn adamw(
        &mut self,
        params: &mut [Self::F],
        m: &mut [Self::F],
        v: &mut [Self::F],
        grads: &[Self::F],
        norm: Self::F,
        constants: AdamW,
    ) {
        adamw::adamw(params, m, v, grads, norm, constants);
    }
}
