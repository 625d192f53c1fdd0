//! Faults of `sum`, `global_norm` and `adamw`.

use wikigpt_ops::AdamW;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::adamw;

use crate::fault::{Fault, Faults, but, but_mut};

pub const FAULTS: Faults = &[
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

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn sum(&mut self, inp: &[F]) -> F {
        let total = adamw::sum(inp);
        match self.0.of("sum") {
            "last element skipped" => total - inp[inp.len() - 1],
            "of absolute values" => inp.iter().map(|x| x.abs()).sum(),
            "mean" => total / F::of(inp.len() as f64),
            _ => total,
        }
    }

    fn global_norm(&mut self, grads: &[F]) -> F {
        let norm = adamw::global_norm(grads);
        match self.0.of("global_norm") {
            "not rooted" => norm * norm,
            "root of the mean" => norm / F::of(grads.len() as f64).sqrt(),
            "of absolute values" => grads.iter().map(|g| g.abs()).sum(),
            "last element skipped" => adamw::global_norm(but(grads, 1)),
            _ => norm,
        }
    }

    fn adamw(&mut self, params: &mut [F], m: &mut [F], v: &mut [F], grads: &[F], norm: F, constants: AdamW) {
        let fault = self.0.of("adamw");
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
