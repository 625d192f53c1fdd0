//! Causal softmax, and the row functions that the fused attention shares with it.

use crate::CpuKernels;
use crate::simd::{LANES, dot, exp, largest, total, vectorised};
use crate::threads::Parts;

vectorised! {
    /// row = exp(scale·(row − m)) with the largest element m; gives m and the sum. The row's length is best a multiple of the
    /// lanes.
    pub fn row_exp(row: &mut [f32], scale: f32) -> (f32, f32) {
        let m = largest(row);
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for l in 0..LANES {
                chunk[l] = exp::<FMA>((chunk[l] - m) * scale);
                lanes[l] += chunk[l];
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *x = exp::<FMA>((*x - m) * scale);
            *lane += *x;
        }
        (m, total(lanes))
    }
}

vectorised! {
    /// row *= factor.
    pub fn row_scale(row: &mut [f32], factor: f32) {
        for x in row {
            *x *= factor;
        }
    }
}

vectorised! {
    /// dscores = probs ∘ (dprobs − Σ probs·dprobs).
    fn row_backward(dscores: &mut [f32], dprobs: &[f32], probs: &[f32]) {
        let p_dp = dot::<FMA>(probs, dprobs);
        for ((ds, dp), p) in dscores.iter_mut().zip(dprobs).zip(probs) {
            *ds = *p * (*dp - p_dp);
        }
    }
}

/// probs\[t,t2\] = exp(scores\[t,t2\]) / Σ_{t3 ≤ t} exp(scores\[t,t3\]), 0 for t2 > t.
pub fn forward(cpu: &mut CpuKernels, probs: &mut [f32], scores: &[f32], T: usize) {
    let level = cpu.level;
    let probs = Parts::new(probs);
    cpu.rows(scores.len() / T, T, |row| {
        let live = row % T + 1;
        // SAFETY: each row is one task's.
        let probs = unsafe { probs.part(row * T, T) };
        let (p, rest) = probs.split_at_mut(live);
        p.copy_from_slice(&scores[row * T..][..live]);
        let (_, total) = row_exp(level, p, 1.0);
        row_scale(level, p, 1.0 / total);
        rest.fill(0.0);
    });
}

/// dscores = probs ∘ (dprobs − Σ probs·dprobs) over t2 ≤ t, 0 above.
pub fn backward(cpu: &mut CpuKernels, dscores: &mut [f32], dprobs: &[f32], probs: &[f32], T: usize) {
    let level = cpu.level;
    let dscores = Parts::new(dscores);
    cpu.rows(probs.len() / T, T, |row| {
        let live = row % T + 1;
        // SAFETY: each row is one task's.
        let (ds, rest) = unsafe { dscores.part(row * T, T) }.split_at_mut(live);
        row_backward(level, ds, &dprobs[row * T..][..live], &probs[row * T..][..live]);
        rest.fill(0.0);
    });
}
