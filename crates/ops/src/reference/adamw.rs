//! The optimizer: sums, the global gradient norm and AdamW (Loshchilov and Hutter 2019).

use crate::AdamW;
use crate::host::Float;

/// Σ inp. Added up in float64: in f32, what is added to a sum of millions loses most of its digits.
pub fn sum<F: Float>(inp: &[F]) -> F {
    F::of(inp.iter().map(|x| x.wide()).sum())
}

/// ‖grads‖₂, added up in float64 too.
pub fn global_norm<F: Float>(grads: &[F]) -> F {
    F::of(grads.iter().map(|g| g.wide() * g.wide()).sum::<f64>().sqrt())
}

/// What [`AdamW::clip`] multiplies gradients of this norm by; nothing if the norm is not finite.
pub fn clip_factor<F: Float>(norm: F, clip: Option<f32>) -> Option<F> {
    let limit = F::from_f32(clip.unwrap_or(f32::INFINITY));
    norm.is_finite().then(|| if norm > limit { limit / norm } else { F::one() })
}

/// m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; params ← params − lr·(m̂/(√v̂ + eps) + decay·params), where
/// m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ) undo the bias that m and v have from starting at 0.
pub fn adamw<F: Float>(params: &mut [F], m: &mut [F], v: &mut [F], grads: &[F], norm: F, constants: AdamW) {
    let Some(factor) = clip_factor(norm, constants.clip) else { return };
    let [lr, beta1, beta2, eps, decay] =
        [constants.lr, constants.beta1, constants.beta2, constants.eps, constants.weight_decay]
            .map(F::from_f32);
    let (correction1, correction2) = constants.corrections();
    for (i, p) in params.iter_mut().enumerate() {
        let g = grads[i] * factor;
        m[i] = beta1 * m[i] + (F::one() - beta1) * g;
        v[i] = beta2 * v[i] + (F::one() - beta2) * g * g;
        let (m_hat, v_hat) = (m[i] / F::of(correction1), v[i] / F::of(correction2));
        *p = *p - lr * (m_hat / (v_hat.sqrt() + eps) + decay * *p);
    }
}
