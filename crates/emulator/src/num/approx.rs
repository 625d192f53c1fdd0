//! The special function unit's functions, in f64 and rounded to f32: closer than the device, within every bound that its
//! manual gives.

use super::fast::{NAN32, canonical};

/// 2^x for |x| below 2000, to about 1e-15.
#[inline(always)]
fn exp2(x: f64) -> f64 {
    // Adding 1.5 · 2^52 rounds to an integer, which then stands in the lowest bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let shifted = x + SHIFT;
    let whole = shifted - SHIFT;
    let f = (x - whole) * std::f64::consts::LN_2;
    // e^f for |f| < 0.35 by its series; the next term is below 1e-16.
    let mut sum = 1.0 / 479_001_600.0;
    for factor in [
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * f + factor;
    }
    // 2^whole in two factors, each of which has a normal exponent.
    let whole = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
    let half = whole >> 1;
    let power = |n: i32| f64::from_bits(u64::from((n + 1023) as u32) << 52);
    sum * power(half) * power(whole - half)
}

/// `ex2`: 2^x.
#[inline(always)]
pub fn ex2(x: f32) -> f32 {
    let clamped = if x < -300.0 { -300.0 } else { x };
    let clamped = if clamped > 300.0 { 300.0 } else { clamped };
    let value = exp2(f64::from(if x.is_nan() { 0.0 } else { clamped })) as f32;
    if x.is_nan() { NAN32 } else { value }
}

/// `lg2`: the logarithm to base 2. -inf for zeros, NaN for what is negative.
#[inline(always)]
pub fn lg2(x: f32) -> f32 {
    let bits = f64::from(x).to_bits();
    // The fraction between √½ and √2, and its exponent.
    let offset = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd);
    let exponent = (offset as i64) >> 52;
    let m = f64::from_bits(bits.wrapping_sub((exponent as u64) << 52));
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 1.0 / 19.0;
    for n in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / n;
    }
    let value = (f64::from(exponent as i32) + 2.0 * std::f64::consts::LOG2_E * s * sum) as f32;
    let value = if x == f32::INFINITY { f32::INFINITY } else { value };
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    if x < 0.0 || x.is_nan() { NAN32 } else { value }
}

/// A number of turns to its fraction in [-0.5, 0.5], as the device does: the angle times 1/2π in f32, cut off.
#[inline(always)]
fn turns(x: f32) -> f64 {
    // f32's 1/2π; the f64 product of two f32 is exact.
    let product = f64::from(x) * f64::from(f32::from_bits(0x3e22_f983));
    let nearest = product as f32;
    let over = f64::from(nearest).abs() > product.abs();
    let turns = f64::from(f32::from_bits(nearest.to_bits().wrapping_sub(u32::from(over))));
    turns - turns.round_ties_even()
}

/// sin(2πt) for |t| up to 0.5.
#[inline(always)]
fn sin_turns(t: f64) -> f64 {
    // Folded to |t| up to 0.25, where sin(π - x) = sin(x).
    let folded = if t > 0.25 { 0.5 - t } else { t };
    let folded = if folded < -0.25 { -0.5 - folded } else { folded };
    let x = folded * std::f64::consts::TAU;
    let square = x * x;
    // 1 - x²/2·3 + …, where n is 20·21, 18·19 and so on.
    let mut sum = 1.0;
    for n in [420.0, 342.0, 272.0, 210.0, 156.0, 110.0, 72.0, 42.0, 20.0, 6.0] {
        sum = 1.0 - sum * square * (1.0 / n);
    }
    x * sum
}

/// `sin`
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    let value = sin_turns(turns(x)) as f32;
    // A zero keeps its sign.
    let value = if x == 0.0 { x } else { value };
    if x.is_finite() { value } else { NAN32 }
}

/// `cos`
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    let t = turns(x);
    // cos(2πt) = sin(2π(1/4 - |t|))
    let value = sin_turns(0.25 - t.abs()) as f32;
    if x.is_finite() { value } else { NAN32 }
}

/// `tanh`
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let wide = f64::from(x);
    let clamped = if wide.abs() > 20.0 { 20.0f64.copysign(wide) } else { wide };
    let clamped = if x.is_nan() { 0.0 } else { clamped };
    let power = exp2(clamped * (2.0 * std::f64::consts::LOG2_E));
    let large = (power - 1.0) / (power + 1.0);
    // Near 0 the difference cancels; there the series is short.
    let square = clamped * clamped;
    let small = clamped * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let value = (if clamped.abs() < 0.02 { small } else { large }) as f32;
    if x.is_nan() { NAN32 } else { value }
}

/// `rsqrt`: 1/√x. Infinity of its sign for zeros, NaN for what is negative.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    canonical((1.0 / f64::from(x).sqrt()) as f32)
}
