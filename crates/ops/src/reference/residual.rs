//! The residual connection.

use crate::Update;
use crate::host::Float;

use super::put;

/// out = a + b.
pub fn forward<F: Float>(out: &mut [F], a: &[F], b: &[F]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = a[i] + b[i];
    }
}

/// A sum hands its gradient on to each summand unchanged.
pub fn backward<F: Float>(da: &mut [F], dout: &[F], update: Update) {
    for (da, d) in da.iter_mut().zip(dout) {
        put(da, *d, update);
    }
}
