//! GELU in its tanh form (Hendrycks and Gimpel 2016), as GPT-2 has it.

use crate::host::Float;

/// √(2/π).
pub const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The cubic term's coefficient.
pub const CUBIC: f64 = 0.044_715;

/// gelu(x) = x/2·(1 + tanh u), u = √(2/π)·(x + 0.044715·x³).
pub fn gelu<F: Float>(x: F) -> F {
    let u = F::of(SQRT_2_OVER_PI) * (x + F::of(CUBIC) * x * x * x);
    F::of(0.5) * x * (F::one() + u.tanh())
}

/// gelu′(x) = (1 + tanh u)/2 + x/2·(1 − tanh² u)·u′, u′ = √(2/π)·(1 + 3·0.044715·x²).
pub fn derivative<F: Float>(x: F) -> F {
    let tanh = (F::of(SQRT_2_OVER_PI) * (x + F::of(CUBIC) * x * x * x)).tanh();
    let du = F::of(SQRT_2_OVER_PI) * (F::one() + F::of(3.0 * CUBIC) * x * x);
    F::of(0.5) * (F::one() + tanh) + F::of(0.5) * x * (F::one() - tanh * tanh) * du
}

/// out = gelu(inp).
pub fn forward<F: Float>(out: &mut [F], inp: &[F]) {
    for (out, x) in out.iter_mut().zip(inp) {
        *out = gelu(*x);
    }
}

/// dinp = dout∘gelu′(inp).
pub fn backward<F: Float>(dinp: &mut [F], dout: &[F], inp: &[F]) {
    for (i, dx) in dinp.iter_mut().enumerate() {
        *dx = dout[i] * derivative(inp[i]);
    }
}
