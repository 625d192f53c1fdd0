//! Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up, so that evaluation needs no scaling.

use crate::Dropout;
use crate::host::Float;

/// out = inp∘mask/(1 − p). Linear with a diagonal matrix, so the backward is the same map on the gradient.
pub fn forward<F: Float>(out: &mut [F], inp: &[F], dropout: Dropout) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = inp[i] * F::of(dropout.factor(i as u64));
    }
}
