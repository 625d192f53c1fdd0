//! Softmax and cross-entropy over a vocabulary of V, in rows padded to Vp.

use wikigpt_ops::IGNORE;

use crate::CpuKernels;
use crate::simd::{exp, largest, sum, vectorised};
use crate::threads::Parts;

/// Elements looked at together: their largest is found and their exponentials are summed while they are in the first-level
/// cache, so that a row of 50 thousand is read once for both.
const BLOCK: usize = 1024;

vectorised! {
    /// log Σ exp(row). The sum so far is held relative to the largest so far (Milakov and Gimelshein 2018).
    fn log_sum_exp(row: &[f32]) -> f32 {
        let (mut m, mut total) = (f32::NEG_INFINITY, 0.0_f64);
        for block in row.chunks(BLOCK) {
            let block_m = largest(block);
            if block_m > m {
                total *= f64::from(exp::<FMA>(m - block_m));
                m = block_m;
            }
            // All −∞ so far: nothing to add, and −∞ − −∞ would be NaN. A NaN is passed over by `largest`, not here.
            if m == f32::NEG_INFINITY && !block.iter().any(|x| x.is_nan()) {
                continue;
            }
            total += f64::from(sum(block, |x| exp::<FMA>(x - m)));
        }
        m + total.ln() as f32
    }
}

vectorised! {
    /// row = scale·exp(row − lse).
    fn row_probabilities(row: &mut [f32], lse: f32, scale: f32) {
        for x in row {
            *x = scale * exp::<FMA>(*x - lse);
        }
    }
}

/// What row n counts.
fn weight(weights: Option<&[f32]>, n: usize) -> f32 {
    weights.map_or(1.0, |weights| weights[n])
}

/// losses\[n\] = weights\[n\]·(log Σ_v exp(logits\[n,v\]) − logits\[n,targets\[n\]\]); 0 where the target is [`IGNORE`].
pub fn forward(
    cpu: &mut CpuKernels,
    losses: &mut [f32],
    logits: &[f32],
    targets: &[u32],
    weights: Option<&[f32]>,
    V: usize,
    Vp: usize,
) {
    let level = cpu.level;
    let losses = Parts::new(losses);
    cpu.rows(targets.len(), Vp, |n| {
        // SAFETY: each row is one task's.
        let loss = unsafe { losses.part(n, 1) };
        let row = &logits[n * Vp..][..V];
        loss[0] = match targets[n] {
            IGNORE => 0.0,
            target => weight(weights, n) * (log_sum_exp(level, row) - row[target as usize]),
        };
    });
}

/// The losses, and in place of the logits scale·weights\[n\]·(softmax − onehot).
pub fn forward_backward(
    cpu: &mut CpuKernels,
    losses: &mut [f32],
    logits: &mut [f32],
    targets: &[u32],
    weights: Option<&[f32]>,
    V: usize,
    Vp: usize,
    scale: f32,
) {
    let level = cpu.level;
    let (losses, logits) = (Parts::new(losses), Parts::new(logits));
    cpu.rows(targets.len(), Vp, |n| {
        // SAFETY: each row is one task's.
        let (loss, row) = unsafe { (losses.part(n, 1), logits.part(n * Vp, Vp)) };
        if targets[n] == IGNORE {
            loss[0] = 0.0;
            row.fill(0.0);
            return;
        }
        let (row, padding) = row.split_at_mut(V);
        padding.fill(0.0);
        let target = targets[n] as usize;
        let lse = log_sum_exp(level, row);
        let (its_loss, weight) = (lse - row[target], weight(weights, n));
        loss[0] = weight * its_loss;
        let scale = scale * weight;
        // Where the model is sure of the target, its softmax − 1 is −(1 − e^−loss), of which the subtraction keeps little.
        let gradient = scale * f64::exp_m1(-f64::from(its_loss)) as f32;
        row_probabilities(level, row, lse, scale);
        row[target] = gradient;
    });
}
