//! The plain loops broken in one place: a sign, a term, a mask, an index.

use std::marker::PhantomData;

use crate::attention::{Bent, STRAIGHT, forward as bent_attention};
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::attention::Heads;
use wikigpt_ops::reference::{
    adamw, attention, cross_entropy, dropout, embedding, gelu, layernorm, matmul, residual, softmax,
};
use wikigpt_ops::{AdamW, Dropout, IGNORE, Update};

/// The plain loops with one fault in one op.
pub struct Mutant<F> {
    op: &'static str,
    fault: &'static str,
    float: PhantomData<F>,
}

/// Every op and its faults.
pub const FAULTS: &[(&str, &[&str])] = &[
    ("embedding_forward", &["no position", "pos ignored", "last row skipped"]),
    (
        "embedding_backward",
        &["dwte set", "update reversed", "first sequence only", "rows from T on kept", "one token each"],
    ),
    (
        "layernorm_forward",
        &[
            "eps outside the root",
            "one pass",
            "variance over C - 1",
            "no bias",
            "rstd inverted",
            "mean not taken off",
            "no eps",
        ],
    ),
    (
        "layernorm_backward",
        &[
            "mean of g missing",
            "mean of g·x̂ missing",
            "no weight",
            "dinp update reversed",
            "update reversed",
            "no dbias",
            "sign",
        ],
    ),
    ("residual_forward", &["minus", "b missing"]),
    ("residual_backward", &["update reversed", "sign"]),
    ("residual_layernorm_forward", &["normalises a alone", "res is a", "no bias"]),
    ("matmul_forward", &["no bias", "last row skipped", "last input channel skipped", "weight as (C,OC)"]),
    ("matmul_gelu_forward", &["pre is out", "no gelu", "bias after gelu"]),
    ("matmul_residual_forward", &["no residual", "no bias", "bias twice"]),
    ("matmul_backward_input", &["update reversed", "last output channel skipped", "weight as (C,OC)"]),
    ("matmul_gelu_backward_input", &["no derivative", "gelu for its derivative", "derivative at gelu"]),
    ("matmul_backward_weight", &["update reversed", "dbias always set", "last row skipped", "no dbias"]),
    ("bias_forward", &["set", "last row skipped"]),
    ("bias_backward", &["update reversed", "mean for sum", "last row skipped"]),
    (
        "attention_forward",
        &[
            "t2 < t",
            "sees the future",
            "no scale",
            "maximum not taken off",
            "no dropout",
            "dropout not scaled up",
            "dropout of one head for all",
            "lse not a logarithm",
        ],
    ),
    (
        "attention_backward",
        &[
            "row term missing",
            "no scale",
            "no dropout",
            "dropout of another site",
            "dq and dk exchanged",
            "dv of the first sequence only",
        ],
    ),
    (
        "attention_cached_forward",
        &[
            "pos one less",
            "pos ignored",
            "vcache not written",
            "last position skipped",
            "sees all new positions",
        ],
    ),
    ("attention_scores_forward", &["no scale", "diagonal skipped", "keys for queries"]),
    ("attention_scores_backward", &["no scale", "no dk", "clears dv", "reads above the diagonal"]),
    ("softmax_forward", &["maximum not taken off", "above the diagonal kept", "whole row", "t2 < t"]),
    ("softmax_backward", &["sum missing", "above the diagonal kept", "no probs"]),
    ("attention_values_forward", &["t2 < t", "probs transposed", "last row skipped"]),
    ("attention_values_backward", &["above the diagonal kept", "clears dq", "dv of the last row only"]),
    ("gelu_forward", &["cubic 0.44715", "sigmoid form", "not halved"]),
    ("gelu_backward", &["slope of tanh missing", "cubic without its 3", "derivative at 0"]),
    ("dropout_forward", &["not scaled up", "inverted", "next element's", "site ignored"]),
    ("dropout_backward", &["not scaled up", "no mask", "another site's", "half of the seed"]),
    (
        "cross_entropy_forward",
        &["V is Vp", "IGNORE counted", "maximum not taken off", "sign", "target missing"],
    ),
    (
        "cross_entropy_forward_backward",
        &[
            "padding kept",
            "ignored rows kept",
            "no one-hot",
            "no scale",
            "losses scaled",
            "maximum not taken off",
        ],
    ),
    ("sum", &["last element skipped", "of absolute values", "mean"]),
    ("global_norm", &["not rooted", "root of the mean", "of absolute values", "last element skipped"]),
    (
        "adamw",
        &[
            "no bias correction",
            "step always 1",
            "eps inside the root",
            "decay in the gradient",
            "decay not times lr",
            "no clip",
            "clip always",
            "norm not looked at",
            "v of the gradient itself",
            "last element skipped",
        ],
    ),
];

impl<F: Float> Mutant<F> {
    pub fn of(op: &'static str, fault: &'static str) -> Self {
        Mutant { op, fault, float: PhantomData }
    }

    /// The fault of an op, or nothing.
    fn fault(&self, op: &str) -> &'static str {
        if op == self.op { self.fault } else { "" }
    }
}

fn reversed(update: Update) -> Update {
    match update {
        Update::Set => Update::Add,
        Update::Add => Update::Set,
    }
}

/// The update, reversed if the fault says so.
fn perhaps(fault: &str, update: Update) -> Update {
    if fault == "update reversed" { reversed(update) } else { update }
}

/// Rows of `C` elements as columns: a (C,OC) weight taken for an (OC,C) one.
fn reread<F: Float>(weight: &[F], C: usize, OC: usize) -> Vec<F> {
    (0..C * OC).map(|i| weight[i % C * OC + i / C]).collect()
}

/// All but the last `n` elements.
fn but<F>(x: &[F], n: usize) -> &[F] {
    &x[..x.len() - n]
}

fn but_mut<F>(x: &mut [F], n: usize) -> &mut [F] {
    let len = x.len() - n;
    &mut x[..len]
}

fn zeros<F: Float>(len: usize) -> Vec<F> {
    vec![F::zero(); len]
}

/// Attention with a scale of 1 for 1/√HS: its queries are √HS times as large.
fn unscaled<F: Float>(qkv: &[F], heads: Heads) -> Vec<F> {
    let C = heads.NH * heads.HS;
    let root = F::of(heads.HS as f64).sqrt();
    qkv.iter().enumerate().map(|(i, x)| if i % (3 * C) < C { *x * root } else { *x }).collect()
}

/// Which part of a row of `qkv` element `i` belongs to: q, k or v.
fn part(i: usize, heads: Heads) -> usize {
    i / (heads.NH * heads.HS) % 3
}

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        format!("{} with the fault {:?}", self.op, self.fault)
    }

    fn embedding_forward(
        &mut self,
        out: &mut [F],
        tokens: &[u32],
        wte: &[F],
        wpe: &[F],
        T: usize,
        C: usize,
        pos: usize,
    ) {
        match self.fault("embedding_forward") {
            "no position" => embedding::forward(out, tokens, wte, &zeros(wpe.len()), T, C, pos),
            "pos ignored" => embedding::forward(out, tokens, wte, wpe, T, C, 0),
            "last row skipped" => embedding::forward(but_mut(out, C), tokens, wte, wpe, T, C, pos),
            _ => embedding::forward(out, tokens, wte, wpe, T, C, pos),
        }
    }

    fn embedding_backward(
        &mut self,
        dwte: &mut [F],
        dwpe: &mut [F],
        dout: &[F],
        tokens: &[u32],
        T: usize,
        C: usize,
        update: Update,
    ) {
        let fault = self.fault("embedding_backward");
        match fault {
            "dwte set" => dwte.fill(F::zero()),
            "first sequence only" => {
                return embedding::backward(dwte, dwpe, &dout[..T * C], &tokens[..T], T, C, update);
            }
            "rows from T on kept" => {
                return embedding::backward(dwte, &mut dwpe[..T * C], dout, tokens, T, C, update);
            }
            "one token each" => {
                let before = dwte.to_vec();
                embedding::backward(dwte, dwpe, dout, tokens, T, C, update);
                for (dout, token) in dout.chunks_exact(C).zip(tokens) {
                    let row = *token as usize * C;
                    dwte[row..][..C].copy_from_slice(&before[row..][..C]);
                    residual::backward(&mut dwte[row..][..C], dout, Update::Add);
                }
                return;
            }
            _ => {}
        }
        embedding::backward(dwte, dwpe, dout, tokens, T, C, perhaps(fault, update));
    }

    fn layernorm_forward(
        &mut self,
        out: &mut [F],
        mean: &mut [F],
        rstd: &mut [F],
        inp: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        eps: f32,
    ) {
        let fault = self.fault("layernorm_forward");
        let bias = bias.filter(|_| fault != "no bias");
        layernorm::forward(out, mean, rstd, inp, weight, bias, C, if fault == "no eps" { 0.0 } else { eps });
        let e = F::from_f32(eps);
        for (n, x) in inp.chunks_exact(C).enumerate() {
            let (mu, r) = (mean[n], rstd[n]);
            let variance = F::one() / (r * r) - e;
            let count = F::of(C as f64);
            let wrong = match fault {
                "eps outside the root" => F::one() / (variance.sqrt() + e),
                "one pass" => {
                    let square = x.iter().map(|x| *x * *x).sum::<F>() / count;
                    F::one() / (square - mu * mu + e).sqrt()
                }
                "variance over C - 1" => F::one() / (variance * count / (count - F::one()) + e).sqrt(),
                _ => r,
            };
            for c in 0..C {
                let centred = if fault == "mean not taken off" { x[c] } else { x[c] - mu };
                out[n * C + c] = centred * wrong * weight[c] + bias.map_or(F::zero(), |bias| bias[c]);
            }
            rstd[n] = if fault == "rstd inverted" { F::one() / r } else { wrong };
        }
    }

    fn layernorm_backward(
        &mut self,
        dinp: &mut [F],
        dweight: &mut [F],
        dbias: Option<&mut [F]>,
        dout: &[F],
        inp: &[F],
        weight: &[F],
        mean: &[F],
        rstd: &[F],
        C: usize,
        update_inp: Update,
        update: Update,
    ) {
        let fault = self.fault("layernorm_backward");
        let ones = vec![F::one(); C];
        let weight = if fault == "no weight" { &ones } else { weight };
        let update_inp = if fault == "dinp update reversed" { reversed(update_inp) } else { update_inp };
        let update = perhaps(fault, update);
        let dbias = dbias.filter(|_| fault != "no dbias");
        layernorm::backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd, C, update_inp, update);
        for (n, dinp) in dinp.chunks_exact_mut(C).enumerate() {
            let normalised = |c: usize| (inp[n * C + c] - mean[n]) * rstd[n];
            let gradient = |c: usize| dout[n * C + c] * weight[c];
            let mean_g = (0..C).map(gradient).sum::<F>() / F::of(C as f64);
            let mean_gx = (0..C).map(|c| gradient(c) * normalised(c)).sum::<F>() / F::of(C as f64);
            for (c, dx) in dinp.iter_mut().enumerate() {
                match fault {
                    "mean of g missing" => *dx += rstd[n] * mean_g,
                    "mean of g·x̂ missing" => *dx += rstd[n] * normalised(c) * mean_gx,
                    "sign" => *dx = -*dx,
                    _ => {}
                }
            }
        }
    }

    fn residual_forward(&mut self, out: &mut [F], a: &[F], b: &[F]) {
        match self.fault("residual_forward") {
            "minus" => out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = *a - *b),
            "b missing" => out.copy_from_slice(a),
            _ => residual::forward(out, a, b),
        }
    }

    fn residual_backward(&mut self, da: &mut [F], dout: &[F], update: Update) {
        let fault = self.fault("residual_backward");
        let negative: Vec<F> = dout.iter().map(|d| -*d).collect();
        residual::backward(da, if fault == "sign" { &negative } else { dout }, perhaps(fault, update));
    }

    fn residual_layernorm_forward(
        &mut self,
        res: &mut [F],
        out: &mut [F],
        mean: &mut [F],
        rstd: &mut [F],
        a: &[F],
        b: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        eps: f32,
    ) {
        let fault = self.fault("residual_layernorm_forward");
        let bias = bias.filter(|_| fault != "no bias");
        residual::forward(res, a, b);
        let normalised = if fault == "normalises a alone" { a } else { &*res };
        layernorm::forward(out, mean, rstd, normalised, weight, bias, C, eps);
        if fault == "res is a" {
            res.copy_from_slice(a);
        }
    }

    fn matmul_forward(
        &mut self,
        out: &mut [F],
        inp: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        OC: usize,
    ) {
        let fault = self.fault("matmul_forward");
        match fault {
            "no bias" => matmul::forward(out, inp, weight, None, C, OC),
            "last row skipped" => matmul::forward(but_mut(out, OC), inp, weight, bias, C, OC),
            "last input channel skipped" => {
                let mut inp = inp.to_vec();
                inp.chunks_exact_mut(C).for_each(|x| x[C - 1] = F::zero());
                matmul::forward(out, &inp, weight, bias, C, OC);
            }
            "weight as (C,OC)" => matmul::forward(out, inp, &reread(weight, C, OC), bias, C, OC),
            _ => matmul::forward(out, inp, weight, bias, C, OC),
        }
    }

    fn matmul_gelu_forward(
        &mut self,
        out: &mut [F],
        pre: &mut [F],
        inp: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        OC: usize,
    ) {
        let fault = self.fault("matmul_gelu_forward");
        if fault == "bias after gelu" {
            matmul::forward(pre, inp, weight, None, C, OC);
            gelu::forward(out, pre);
            bias.into_iter().for_each(|bias| matmul::bias_forward(out, bias));
            return;
        }
        matmul::forward(pre, inp, weight, bias, C, OC);
        gelu::forward(out, pre);
        match fault {
            "pre is out" => pre.copy_from_slice(out),
            "no gelu" => out.copy_from_slice(pre),
            _ => {}
        }
    }

    fn matmul_residual_forward(
        &mut self,
        out: &mut [F],
        residual: &[F],
        inp: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        OC: usize,
    ) {
        let fault = self.fault("matmul_residual_forward");
        matmul::forward(out, inp, weight, bias.filter(|_| fault != "no bias"), C, OC);
        if fault != "no residual" {
            residual::backward(out, residual, Update::Add);
        }
        if fault == "bias twice" {
            bias.into_iter().for_each(|bias| matmul::bias_forward(out, bias));
        }
    }

    fn matmul_backward_input(
        &mut self,
        dinp: &mut [F],
        dout: &[F],
        weight: &[F],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        let fault = self.fault("matmul_backward_input");
        let (mut dout, mut weight) = (dout.to_vec(), weight.to_vec());
        match fault {
            "last output channel skipped" => dout.chunks_exact_mut(OC).for_each(|d| d[OC - 1] = F::zero()),
            "weight as (C,OC)" => weight = reread(&weight, C, OC),
            _ => {}
        }
        matmul::backward_input(dinp, &dout, &weight, C, OC, perhaps(fault, update));
    }

    fn matmul_gelu_backward_input(
        &mut self,
        dpre: &mut [F],
        dout: &[F],
        weight: &[F],
        pre: &[F],
        C: usize,
        OC: usize,
    ) {
        let fault = self.fault("matmul_gelu_backward_input");
        matmul::backward_input(dpre, dout, weight, C, OC, Update::Set);
        for (dx, x) in dpre.iter_mut().zip(pre) {
            *dx *= match fault {
                "no derivative" => F::one(),
                "gelu for its derivative" => gelu::gelu(*x),
                "derivative at gelu" => gelu::derivative(gelu::gelu(*x)),
                _ => gelu::derivative(*x),
            };
        }
    }

    fn matmul_backward_weight(
        &mut self,
        dweight: &mut [F],
        mut dbias: Option<&mut [F]>,
        dout: &[F],
        inp: &[F],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        let fault = self.fault("matmul_backward_weight");
        let dout = if fault == "last row skipped" { but(dout, OC) } else { dout };
        match (fault, &mut dbias) {
            ("dbias always set", Some(dbias)) => dbias.fill(F::zero()),
            ("no dbias", _) => dbias = None,
            _ => {}
        }
        matmul::backward_weight(dweight, dbias, dout, inp, C, OC, perhaps(fault, update));
    }

    fn bias_forward(&mut self, x: &mut [F], bias: &[F]) {
        match self.fault("bias_forward") {
            "set" => x.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)),
            "last row skipped" => matmul::bias_forward(but_mut(x, bias.len()), bias),
            _ => matmul::bias_forward(x, bias),
        }
    }

    fn bias_backward(&mut self, dbias: &mut [F], dout: &[F], update: Update) {
        let fault = self.fault("bias_backward");
        let rows = F::of((dout.len() / dbias.len()) as f64);
        let dout: Vec<F> = match fault {
            "mean for sum" => dout.iter().map(|d| *d / rows).collect(),
            "last row skipped" => but(dout, dbias.len()).to_vec(),
            _ => dout.to_vec(),
        };
        matmul::bias_backward(dbias, &dout, perhaps(fault, update));
    }

    fn attention_forward(
        &mut self,
        out: &mut [F],
        lse: &mut [F],
        qkv: &[F],
        B: usize,
        heads: Heads,
        dropout: Dropout,
    ) {
        let fault = self.fault("attention_forward");
        let mut bent = STRAIGHT;
        match fault {
            "t2 < t" => bent.rows = |t, _| t.max(1),
            "sees the future" => bent.rows = |_, T| T,
            "maximum not taken off" => bent.stable = false,
            "dropout of one head for all" => {
                bent.index = |b, _, t, t2, heads| (STRAIGHT.index)(b, 0, t, t2, heads)
            }
            "no scale" => {
                return attention::forward(out, lse, &unscaled(qkv, heads), B, heads, dropout);
            }
            "no dropout" => return attention::forward(out, lse, qkv, B, heads, Dropout::NONE),
            _ => {}
        }
        bent_attention(bent, out, lse, qkv, heads, dropout);
        match fault {
            "dropout not scaled up" => {
                let kept = F::of(1.0 / dropout.scale());
                out.iter_mut().for_each(|x| *x *= kept);
            }
            "lse not a logarithm" => lse.iter_mut().for_each(|x| *x = x.exp()),
            _ => {}
        }
    }

    fn attention_backward(
        &mut self,
        dqkv: &mut [F],
        dout: &[F],
        out: &[F],
        lse: &[F],
        qkv: &[F],
        B: usize,
        heads: Heads,
        dropout: Dropout,
    ) {
        let fault = self.fault("attention_backward");
        let none = zeros(out.len());
        let out = if fault == "row term missing" { &none } else { out };
        let dropout = match fault {
            "no dropout" => Dropout::NONE,
            "dropout of another site" => Dropout { site: dropout.site ^ 1, ..dropout },
            _ => dropout,
        };
        attention::backward(dqkv, dout, out, lse, qkv, B, heads, dropout);
        let (C, root) = (heads.NH * heads.HS, F::of(heads.HS as f64).sqrt());
        match fault {
            "no scale" => {
                dqkv.iter_mut()
                    .enumerate()
                    .filter(|(i, _)| part(*i, heads) < 2)
                    .for_each(|(_, x)| *x *= root);
            }
            "dq and dk exchanged" => dqkv.chunks_exact_mut(3 * C).for_each(|row| {
                let (q, rest) = row.split_at_mut(C);
                q.swap_with_slice(&mut rest[..C]);
            }),
            "dv of the first sequence only" => {
                let later = dqkv.iter_mut().enumerate().skip(heads.T * 3 * C);
                later.filter(|(i, _)| part(*i, heads) == 2).for_each(|(_, x)| *x = F::zero());
            }
            _ => {}
        }
    }

    fn attention_cached_forward(
        &mut self,
        out: &mut [F],
        kcache: &mut [F],
        vcache: &mut [F],
        qkv: &[F],
        B: usize,
        pos: usize,
        Tmax: usize,
        heads: Heads,
    ) {
        let Heads { T: Tn, NH, HS } = heads;
        let C = NH * HS;
        match self.fault("attention_cached_forward") {
            "pos one less" => {
                attention::cached_forward(out, kcache, vcache, qkv, B, pos.saturating_sub(1), Tmax, heads);
            }
            "pos ignored" => attention::cached_forward(out, kcache, vcache, qkv, B, 0, Tmax, heads),
            "vcache not written" => {
                let mut vcache = vcache.to_vec();
                attention::cached_forward(out, kcache, &mut vcache, qkv, B, pos, Tmax, heads);
            }
            "last position skipped" => {
                attention::cached_forward(out, kcache, vcache, qkv, B, pos, Tmax, heads);
                out.chunks_exact_mut(Tn * C).for_each(|rows| rows[(Tn - 1) * C..].fill(F::zero()));
            }
            "sees all new positions" => {
                attention::cached_forward(out, kcache, vcache, qkv, B, pos, Tmax, heads);
                if pos == 0 {
                    let mut lse = zeros(B * NH * Tn);
                    let bent = Bent { rows: |_, T| T, ..STRAIGHT };
                    bent_attention(bent, out, &mut lse, qkv, heads, Dropout::NONE);
                }
            }
            _ => attention::cached_forward(out, kcache, vcache, qkv, B, pos, Tmax, heads),
        }
    }

    fn attention_scores_forward(&mut self, scores: &mut [F], qkv: &[F], B: usize, heads: Heads) {
        let C = heads.NH * heads.HS;
        match self.fault("attention_scores_forward") {
            "no scale" => attention::scores_forward(scores, &unscaled(qkv, heads), B, heads),
            "diagonal skipped" => {
                attention::scores_forward(scores, qkv, B, heads);
                scores
                    .chunks_exact_mut(heads.T)
                    .enumerate()
                    .for_each(|(t, row)| row[t % heads.T] = F::zero());
            }
            "keys for queries" => {
                let mut qkv = qkv.to_vec();
                qkv.chunks_exact_mut(3 * C).for_each(|row| row.copy_within(C..2 * C, 0));
                attention::scores_forward(scores, &qkv, B, heads);
            }
            _ => attention::scores_forward(scores, qkv, B, heads),
        }
    }

    fn attention_scores_backward(
        &mut self,
        dqkv: &mut [F],
        dscores: &[F],
        qkv: &[F],
        B: usize,
        heads: Heads,
    ) {
        attention::scores_backward(dqkv, dscores, qkv, B, heads);
        let root = F::of(heads.HS as f64).sqrt();
        let fault = self.fault("attention_scores_backward");
        let above: F = dscores
            .chunks_exact(heads.T)
            .enumerate()
            .flat_map(|(t, row)| &row[t % heads.T + 1..])
            .copied()
            .sum();
        for (i, x) in dqkv.iter_mut().enumerate() {
            match (fault, part(i, heads)) {
                ("no scale", 0 | 1) => *x *= root,
                ("no dk", 1) | ("clears dv", 2) => *x = F::zero(),
                ("reads above the diagonal", 0) => *x += above,
                _ => {}
            }
        }
    }

    fn softmax_forward(&mut self, probs: &mut [F], scores: &[F], T: usize) {
        let fault = self.fault("softmax_forward");
        let before = probs.to_vec();
        softmax::forward(probs, scores, T);
        for (r, row) in probs.chunks_exact_mut(T).enumerate() {
            let (live, scores) = (r % T + 1, &scores[r * T..][..T]);
            let (reach, exact) = match fault {
                "maximum not taken off" => (live, true),
                "whole row" => (T, true),
                "t2 < t" => ((live - 1).max(1), true),
                "above the diagonal kept" => {
                    row[live..].copy_from_slice(&before[r * T + live..][..T - live]);
                    continue;
                }
                _ => (live, false),
            };
            if exact {
                let total: F = scores[..reach].iter().map(|s| s.exp()).sum();
                row.fill(F::zero());
                row.iter_mut().zip(&scores[..reach]).for_each(|(p, s)| *p = s.exp() / total);
            }
        }
    }

    fn softmax_backward(&mut self, dscores: &mut [F], dprobs: &[F], probs: &[F], T: usize) {
        let fault = self.fault("softmax_backward");
        let before = dscores.to_vec();
        softmax::backward(dscores, dprobs, probs, T);
        for i in 0..dscores.len() {
            let above = i % T > i / T % T;
            match fault {
                "sum missing" => dscores[i] = probs[i] * dprobs[i],
                "above the diagonal kept" if above => dscores[i] = before[i],
                "no probs" if !above => dscores[i] = dscores[i] / probs[i],
                _ => {}
            }
        }
    }

    fn attention_values_forward(&mut self, out: &mut [F], probs: &[F], qkv: &[F], B: usize, heads: Heads) {
        let T = heads.T;
        let mut probs = probs.to_vec();
        match self.fault("attention_values_forward") {
            "t2 < t" => probs.chunks_exact_mut(T).enumerate().for_each(|(t, row)| row[t % T] = F::zero()),
            "probs transposed" => {
                let matrices = probs.clone();
                probs.iter_mut().enumerate().for_each(|(i, p)| {
                    let (matrix, t, t2) = (i / (T * T) * T * T, i / T % T, i % T);
                    *p = matrices[matrix + t2 * T + t];
                });
            }
            "last row skipped" => {
                let len = probs.len();
                probs[len - T..].fill(F::zero());
            }
            _ => {}
        }
        attention::values_forward(out, &probs, qkv, B, heads);
    }

    fn attention_values_backward(
        &mut self,
        dprobs: &mut [F],
        dqkv: &mut [F],
        dout: &[F],
        probs: &[F],
        qkv: &[F],
        B: usize,
        heads: Heads,
    ) {
        let fault = self.fault("attention_values_backward");
        let T = heads.T;
        let before = dprobs.to_vec();
        let mut probs = probs.to_vec();
        if fault == "dv of the last row only" {
            probs
                .chunks_exact_mut(T)
                .enumerate()
                .filter(|(t, _)| t % T + 1 < T)
                .for_each(|(_, row)| row.fill(F::zero()));
        }
        attention::values_backward(dprobs, dqkv, dout, &probs, qkv, B, heads);
        if fault == "above the diagonal kept" {
            for (t, row) in dprobs.chunks_exact_mut(T).enumerate() {
                row[t % T + 1..].copy_from_slice(&before[t * T + t % T + 1..(t + 1) * T]);
            }
        }
        for (i, x) in dqkv.iter_mut().enumerate() {
            if fault == "clears dq" && part(i, heads) == 0 {
                *x = F::zero();
            }
        }
    }

    fn gelu_forward(&mut self, out: &mut [F], inp: &[F]) {
        let fault = self.fault("gelu_forward");
        for (out, x) in out.iter_mut().zip(inp) {
            let (half, one) = (F::of(0.5), F::one());
            *out = match fault {
                "cubic 0.44715" => {
                    let u = F::of(gelu::SQRT_2_OVER_PI) * (*x + F::of(10.0 * gelu::CUBIC) * *x * *x * *x);
                    half * *x * (one + u.tanh())
                }
                "sigmoid form" => *x / (one + (-F::of(1.702) * *x).exp()),
                "not halved" => gelu::gelu(*x) / half,
                _ => gelu::gelu(*x),
            };
        }
    }

    fn gelu_backward(&mut self, dinp: &mut [F], dout: &[F], inp: &[F]) {
        let fault = self.fault("gelu_backward");
        for (i, x) in inp.iter().copied().enumerate() {
            let (half, one) = (F::of(0.5), F::one());
            let root = F::of(gelu::SQRT_2_OVER_PI);
            let tanh = (root * (x + F::of(gelu::CUBIC) * x * x * x)).tanh();
            let du = root * (one + F::of(gelu::CUBIC) * x * x);
            dinp[i] = dout[i]
                * match fault {
                    "slope of tanh missing" => half * (one + tanh),
                    "cubic without its 3" => half * (one + tanh) + half * x * (one - tanh * tanh) * du,
                    "derivative at 0" => gelu::derivative(F::zero()),
                    _ => gelu::derivative(x),
                };
        }
    }

    fn dropout_forward(&mut self, out: &mut [F], inp: &[F], dropout: Dropout) {
        let fault = self.fault("dropout_forward");
        for (i, out) in out.iter_mut().enumerate() {
            let i = i as u64;
            let factor = match fault {
                "not scaled up" => dropout.factor(i) / dropout.scale(),
                "inverted" => dropout.scale() - dropout.factor(i),
                "next element's" => dropout.factor(i + 1),
                "site ignored" => Dropout { site: 0, ..dropout }.factor(i),
                _ => dropout.factor(i),
            };
            *out = inp[i as usize] * F::of(factor);
        }
    }

    fn dropout_backward(&mut self, dinp: &mut [F], dout: &[F], dropout: Dropout) {
        let fault = self.fault("dropout_backward");
        let dropout = match fault {
            "no mask" => Dropout::NONE,
            "another site's" => Dropout { site: dropout.site ^ 1, ..dropout },
            "half of the seed" => Dropout { seed: dropout.seed & 0xFFFF_FFFF, ..dropout },
            _ => dropout,
        };
        dropout::forward(dinp, dout, dropout);
        if fault == "not scaled up" {
            dinp.iter_mut().for_each(|x| *x = *x / F::of(dropout.scale()));
        }
    }

    fn cross_entropy_forward(
        &mut self,
        losses: &mut [F],
        logits: &[F],
        targets: &[u32],
        V: usize,
        Vp: usize,
    ) {
        let fault = self.fault("cross_entropy_forward");
        match fault {
            "V is Vp" => cross_entropy::forward(losses, logits, targets, Vp, Vp),
            "IGNORE counted" => {
                let targets: Vec<u32> = targets.iter().map(|t| if *t == IGNORE { 0 } else { *t }).collect();
                cross_entropy::forward(losses, logits, &targets, V, Vp);
            }
            _ => cross_entropy::forward(losses, logits, targets, V, Vp),
        }
        for n in (0..losses.len()).filter(|n| targets[*n] != IGNORE) {
            let target = logits[n * Vp + targets[n] as usize];
            match fault {
                "maximum not taken off" => {
                    losses[n] = logits[n * Vp..][..V].iter().map(|x| x.exp()).sum::<F>().ln() - target;
                }
                "sign" => losses[n] = -losses[n],
                "target missing" => losses[n] += target,
                _ => {}
            }
        }
    }

    fn cross_entropy_forward_backward(
        &mut self,
        losses: &mut [F],
        logits: &mut [F],
        targets: &[u32],
        V: usize,
        Vp: usize,
        scale: f32,
    ) {
        let fault = self.fault("cross_entropy_forward_backward");
        let before = logits.to_vec();
        let factor = if fault == "no scale" { 1.0 } else { scale };
        cross_entropy::forward_backward(losses, logits, targets, V, Vp, factor);
        for (i, x) in logits.iter_mut().enumerate() {
            let (n, v) = (i / Vp, i % Vp);
            match fault {
                "padding kept" if v >= V => *x = before[i],
                "ignored rows kept" if targets[n] == IGNORE => *x = before[i],
                "no one-hot" if v == targets[n] as usize => *x += F::from_f32(scale),
                "maximum not taken off" if v < V && targets[n] != IGNORE => {
                    let total: F = before[n * Vp..][..V].iter().map(|x| x.exp()).sum();
                    let onehot = if v == targets[n] as usize { F::one() } else { F::zero() };
                    *x = F::from_f32(scale) * (before[i].exp() / total - onehot);
                }
                _ => {}
            }
        }
        if fault == "losses scaled" {
            losses.iter_mut().for_each(|loss| *loss *= F::from_f32(scale));
        }
    }

    fn sum(&mut self, inp: &[F]) -> F {
        let total = adamw::sum(inp);
        match self.fault("sum") {
            "last element skipped" => total - inp[inp.len() - 1],
            "of absolute values" => inp.iter().map(|x| x.abs()).sum(),
            "mean" => total / F::of(inp.len() as f64),
            _ => total,
        }
    }

    fn global_norm(&mut self, grads: &[F]) -> F {
        let norm = adamw::global_norm(grads);
        match self.fault("global_norm") {
            "not rooted" => norm * norm,
            "root of the mean" => norm / F::of(grads.len() as f64).sqrt(),
            "of absolute values" => grads.iter().map(|g| g.abs()).sum(),
            "last element skipped" => adamw::global_norm(but(grads, 1)),
            _ => norm,
        }
    }

    fn adamw(&mut self, params: &mut [F], m: &mut [F], v: &mut [F], grads: &[F], norm: F, constants: AdamW) {
        let fault = self.fault("adamw");
        let AdamW { lr, beta2, weight_decay, clip, .. } = constants;
        let (rate, decay) = (F::from_f32(lr), F::from_f32(weight_decay));
        let before = v.to_vec();
        match fault {
            "step always 1" => adamw::adamw(params, m, v, grads, norm, AdamW { step: 1, ..constants }),
            // 1 − βᵗ is 1 once t is large.
            "no bias correction" => {
                adamw::adamw(params, m, v, grads, norm, AdamW { step: 1 << 40, ..constants })
            }
            "eps inside the root" => {
                let old = params.to_vec();
                adamw::adamw(params, m, v, grads, norm, constants);
                let (first, second) = constants.corrections();
                for i in 0..params.len() {
                    let root = (v[i] / F::of(second) + F::from_f32(constants.eps)).sqrt();
                    params[i] = old[i] - rate * (m[i] / F::of(first) / root + decay * old[i]);
                }
            }
            "decay in the gradient" => {
                let grads: Vec<F> = grads.iter().zip(&*params).map(|(g, p)| *g + decay * *p).collect();
                adamw::adamw(params, m, v, &grads, norm, AdamW { weight_decay: 0.0, ..constants });
            }
            "decay not times lr" => {
                adamw::adamw(
                    params,
                    m,
                    v,
                    grads,
                    norm,
                    AdamW { weight_decay: weight_decay / lr, ..constants },
                );
            }
            "no clip" => adamw::adamw(params, m, v, grads, norm, AdamW { clip: None, ..constants }),
            "clip always" => {
                let factor = clip.map_or(F::one(), |clip| F::from_f32(clip) / norm);
                let grads: Vec<F> = grads.iter().map(|g| *g * factor).collect();
                adamw::adamw(params, m, v, &grads, norm, AdamW { clip: None, ..constants });
            }
            "norm not looked at" => adamw::adamw(params, m, v, grads, F::one(), constants),
            "v of the gradient itself" => {
                adamw::adamw(params, m, v, grads, norm, constants);
                let beta2 = F::from_f32(beta2);
                v.iter_mut()
                    .enumerate()
                    .for_each(|(i, v)| *v = beta2 * before[i] + (F::one() - beta2) * grads[i].abs());
            }
            "last element skipped" => adamw::adamw(but_mut(params, 1), m, v, grads, norm, constants),
            _ => adamw::adamw(params, m, v, grads, norm, constants),
        }
    }
}
