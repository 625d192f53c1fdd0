//! Faults of `cross_entropy`.

use wikigpt_ops::IGNORE;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::cross_entropy;

use crate::fault::{Fault, Faults};

pub const FAULTS: Faults = &[
    (
        "cross_entropy_forward",
        &[
            "V is Vp",
            "IGNORE counted",
            "maximum not taken off",
            "sign",
            "target missing",
            "weights ignored",
            "weight of the first row for all",
            "divides by the weights",
        ],
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
            "weights of losses ignored",
            "weights of the gradient ignored",
            "weight of the first row for all",
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

    fn cross_entropy_forward(
        &mut self,
        losses: &mut [F],
        logits: &[F],
        targets: &[u32],
        weights: Option<&[F]>,
        V: usize,
        Vp: usize,
    ) {
        let fault = self.0.of("cross_entropy_forward");
        let altered = altered(fault, weights);
        let weights = if fault == "weights ignored" { None } else { altered.as_deref() };
        match fault {
            "V is Vp" => cross_entropy::forward(losses, logits, targets, weights, Vp, Vp),
            "IGNORE counted" => {
                let targets: Vec<u32> = targets.iter().map(|t| if *t == IGNORE { 0 } else { *t }).collect();
                cross_entropy::forward(losses, logits, &targets, weights, V, Vp);
            }
            _ => cross_entropy::forward(losses, logits, targets, weights, V, Vp),
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
        weights: Option<&[F]>,
        V: usize,
        Vp: usize,
        scale: f32,
    ) {
        let fault = self.0.of("cross_entropy_forward_backward");
        let altered = altered(fault, weights);
        let weights = altered.as_deref();
        let before = logits.to_vec();
        let factor = if fault == "no scale" { 1.0 } else { scale };
        match fault {
            "weights of the gradient ignored" => {
                cross_entropy::forward(losses, &before, targets, weights, V, Vp);
                let mut unweighted = losses.to_vec();
                cross_entropy::forward_backward(&mut unweighted, logits, targets, None, V, Vp, factor);
            }
            _ => cross_entropy::forward_backward(losses, logits, targets, weights, V, Vp, factor),
        }
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
        if fault == "weights of losses ignored" {
            cross_entropy::forward(losses, &before, targets, None, V, Vp);
        }
        if fault == "losses scaled" {
            losses.iter_mut().for_each(|loss| *loss *= F::from_f32(scale));
        }
    }
}

/// The weights as a fault has them.
fn altered<F: Float>(fault: &str, weights: Option<&[F]>) -> Option<Vec<F>> {
    let weights = weights?;
    let total: F = weights.iter().copied().sum();
    Some(match fault {
        "weight of the first row for all" => vec![weights[0]; weights.len()],
        "divides by the weights" => weights.iter().map(|w| *w / total).collect(),
        _ => weights.to_vec(),
    })
}
