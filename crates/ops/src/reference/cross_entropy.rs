//! Softmax and cross-entropy over a vocabulary of V, in rows padded to Vp.

use crate::IGNORE;
use crate::host::Float;

/// log Σ exp(row), the largest taken off first.
fn log_sum_exp<F: Float>(row: &[F]) -> F {
    let largest = row.iter().copied().fold(F::neg_infinity(), F::max);
    largest + row.iter().map(|x| (*x - largest).exp()).sum::<F>().ln()
}

/// What row n counts.
fn weight<F: Float>(weights: Option<&[F]>, n: usize) -> F {
    weights.map_or(F::one(), |weights| weights[n])
}

/// losses\[n\] = weights\[n\]·(log Σ_v exp(logits\[n,v\]) − logits\[n,targets\[n\]\]); 0 where the target is [`IGNORE`].
pub fn forward<F: Float>(
    losses: &mut [F],
    logits: &[F],
    targets: &[u32],
    weights: Option<&[F]>,
    V: usize,
    Vp: usize,
) {
    for (n, row) in logits.chunks_exact(Vp).enumerate() {
        losses[n] = match targets[n] {
            IGNORE => F::zero(),
            target => weight(weights, n) * (log_sum_exp(&row[..V]) - row[target as usize]),
        };
    }
}

/// The same losses, and logits ← scale·weights\[n\]·(softmax(logits) − onehot(target)).
/// [Derivation](crate::Ops::cross_entropy_forward_backward).
pub fn forward_backward<F: Float>(
    losses: &mut [F],
    logits: &mut [F],
    targets: &[u32],
    weights: Option<&[F]>,
    V: usize,
    Vp: usize,
    scale: f32,
) {
    for (n, row) in logits.chunks_exact_mut(Vp).enumerate() {
        let (row, padding) = row.split_at_mut(V);
        padding.fill(F::zero());
        if targets[n] == IGNORE {
            losses[n] = F::zero();
            row.fill(F::zero());
            continue;
        }
        let target = targets[n] as usize;
        let lse = log_sum_exp(row);
        let weight = weight(weights, n);
        losses[n] = weight * (lse - row[target]);
        for (v, x) in row.iter_mut().enumerate() {
            let onehot = if v == target { F::one() } else { F::zero() };
            *x = F::from_f32(scale) * weight * ((*x - lse).exp() - onehot);
        }
    }
}
