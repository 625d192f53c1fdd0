//! Faults of `layernorm`, alone and behind a residual.

use wikigpt_ops::Update;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::{layernorm, residual};

use crate::fault::{Fault, Faults, perhaps, reversed};

pub const FAULTS: Faults = &[
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
    ("residual_layernorm_forward", &["normalises a alone", "res is a", "no bias"]),
];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
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
        let fault = self.0.of("layernorm_forward");
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
        let fault = self.0.of("layernorm_backward");
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
        let fault = self.0.of("residual_layernorm_forward");
        let bias = bias.filter(|_| fault != "no bias");
        residual::forward(res, a, b);
        let normalised = if fault == "normalises a alone" { a } else { &*res };
        layernorm::forward(out, mean, rstd, normalised, weight, bias, C, eps);
        if fault == "res is a" {
            res.copy_from_slice(a);
        }
    }
}
