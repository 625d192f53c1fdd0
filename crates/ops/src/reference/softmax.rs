//! Causal softmax: row t of each (T,T) matrix over its columns up to t.

use crate::host::Float;

/// probs\[t,t2\] = exp(scores\[t,t2\]) / Σ_{t3 ≤ t} exp(scores\[t,t3\]), 0 for t2 > t. The largest score is taken off first, so
/// that nothing overflows.
pub fn forward<F: Float>(probs: &mut [F], scores: &[F], T: usize) {
    for (row, (probs, scores)) in probs.chunks_exact_mut(T).zip(scores.chunks_exact(T)).enumerate() {
        let scores = &scores[..=row % T];
        let largest = scores.iter().copied().fold(F::neg_infinity(), F::max);
        let total: F = scores.iter().map(|s| (*s - largest).exp()).sum();
        probs.fill(F::zero());
        for (p, s) in probs.iter_mut().zip(scores) {
            *p = (*s - largest).exp() / total;
        }
    }
}

/// dscores = probs∘(dprobs − Σ probs·dprobs). [Derivation](crate::Ops::softmax_backward).
pub fn backward<F: Float>(dscores: &mut [F], dprobs: &[F], probs: &[F], T: usize) {
    for (row, dscores) in dscores.chunks_exact_mut(T).enumerate() {
        let live = row % T + 1;
        let (p, dp) = (&probs[row * T..][..live], &dprobs[row * T..][..live]);
        let p_dp: F = p.iter().zip(dp).map(|(p, dp)| *p * *dp).sum();
        dscores.fill(F::zero());
        for i in 0..live {
            dscores[i] = p[i] * (dp[i] - p_dp);
        }
    }
}
