//! GELU in its tanh form.
//!
//! (1 + tanh u)/2 = σ(2u), so gelu(x) = x·σ(2u) with u = √(2/π)·(x + 0.044715·x³), and no tanh is needed; in the tail of negative x
//! it also keeps the digits that 1 + tanh u cancels.

use wikigpt_ops::reference::gelu::{CUBIC, SQRT_2_OVER_PI};

use crate::CpuKernels;
use crate::simd::{exp, madd, vectorised};
use crate::threads::Parts;

const LINEAR: f32 = (2.0 * SQRT_2_OVER_PI) as f32;
const CUBED: f32 = (2.0 * SQRT_2_OVER_PI * CUBIC) as f32;

/// 2u.
#[inline(always)]
fn argument<const FMA: bool>(x: f32) -> f32 {
    x * madd::<FMA>(CUBED * x, x, LINEAR)
}

/// gelu(x).
#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    x / (1.0 + exp::<FMA>(-argument::<FMA>(x)))
}

/// gelu′(x) = σ + x·σ·(1 − σ)·(2u)′, where σ′ = σ·(1 − σ); with e = e⁻²ᵘ, σ = 1/(1 + e) and 1 − σ = e·σ.
#[inline(always)]
fn derivative<const FMA: bool>(x: f32) -> f32 {
    // Beyond ±10 the result is 0 (10⁻³⁵) or 1, and neither x² nor e may overflow.
    let x = if x > 10.0 { 10.0 } else { x };
    let x = if x < -10.0 { -10.0 } else { x };
    let e = exp::<FMA>(-argument::<FMA>(x));
    let s = 1.0 / (1.0 + e);
    let du = madd::<FMA>(3.0 * CUBED * x, x, LINEAR);
    madd::<FMA>(x * (e * s * s), du, s)
}

vectorised! {
    /// out = gelu(inp).
    pub fn row_forward(out: &mut [f32], inp: &[f32]) {
        for (out, x) in out.iter_mut().zip(inp) {
            *out = gelu::<FMA>(*x);
        }
    }
}

vectorised! {
    /// dinp = dout ∘ gelu′(inp).
    fn row_backward(dinp: &mut [f32], dout: &[f32], inp: &[f32]) {
        for ((dx, d), x) in dinp.iter_mut().zip(dout).zip(inp) {
            *dx = *d * derivative::<FMA>(*x);
        }
    }
}

vectorised! {
    /// dx = dx ∘ gelu′(inp).
    pub fn row_scale(dx: &mut [f32], inp: &[f32]) {
        for (dx, x) in dx.iter_mut().zip(inp) {
            *dx *= derivative::<FMA>(*x);
        }
    }
}

pub fn forward(cpu: &mut CpuKernels, out: &mut [f32], inp: &[f32]) {
    let level = cpu.level;
    let out = Parts::new(out);
    cpu.chunks(inp.len(), |start, len| {
        // SAFETY: chunks do not overlap.
        row_forward(level, unsafe { out.part(start, len) }, &inp[start..][..len]);
    });
}

pub fn backward(cpu: &mut CpuKernels, dinp: &mut [f32], dout: &[f32], inp: &[f32]) {
    let level = cpu.level;
    let dinp = Parts::new(dinp);
    cpu.chunks(inp.len(), |start, len| {
        // SAFETY: chunks do not overlap.
        let dinp = unsafe { dinp.part(start, len) };
        row_backward(level, dinp, &dout[start..][..len], &inp[start..][..len]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;
    use wikigpt_ops::reference::gelu as reference;

    /// Against the reference in float64, from the far tails to subnormals; the derivative's own scale is 1.
    #[test]
    fn near_the_reference_everywhere() {
        let mut inp: Vec<f32> = (-120_000..=120_000).map(|i| i as f32 * 1e-4).collect();
        inp.extend([
            0.0,
            -0.0,
            f32::from_bits(1),
            -f32::from_bits(1),
            1e-20,
            -1e-20,
            30.0,
            -30.0,
            1e30,
            -1e30,
        ]);
        inp.extend([f32::INFINITY, f32::MAX, f32::MIN, -39.9, -40.1]);
        for level in Level::available() {
            let (mut y, mut dx) = (vec![f32::NAN; inp.len()], vec![f32::NAN; inp.len()]);
            row_forward(level, &mut y, &inp);
            row_backward(level, &mut dx, &vec![1.0; inp.len()], &inp);
            for (i, x) in inp.iter().enumerate() {
                let exact = reference::gelu(f64::from(*x));
                let off = (f64::from(y[i]) - exact).abs();
                // In the tail the rounding of u counts as often as u is large.
                let tolerance = 4e-7 * exact.abs() * (1.0 + f64::from(x.abs())) + 1e-9;
                assert!(
                    off <= tolerance || f64::from(y[i]) == exact,
                    "{level:?} gelu({x}) = {}, not {exact}",
                    y[i]
                );
                if x.abs() < 1e18 {
                    let exact = reference::derivative(f64::from(*x));
                    assert!(
                        (f64::from(dx[i]) - exact).abs() <= 5e-7,
                        "{level:?} gelu'({x}) = {}, not {exact}",
                        dx[i]
                    );
                }
            }
            let mut out = [0.0; 2];
            row_forward(level, &mut out, &[f32::NAN, f32::INFINITY]);
            assert!(out[0].is_nan() && out[1] == f32::INFINITY);
            row_backward(level, &mut out, &[1.0, 1.0], &[f32::NAN, f32::NEG_INFINITY]);
            assert!(out[0].is_nan() && out[1].abs() < 1e-30);
        }
    }
}
