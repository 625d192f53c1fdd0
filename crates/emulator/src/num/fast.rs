//! What kernels do all the time, without branches: every function here is meant to be inlined into a loop over lanes.
//!
//! f16 and bf16 are passed as their bits. NaN results are the canonical ones of the device.

use super::Rounding;

/// The canonical NaN of f32.
pub const NAN32: f32 = f32::from_bits(0x7fff_ffff);
/// The NaN that f64 arithmetic makes of numbers.
pub const NAN64: f64 = f64::from_bits(0xfff8_0000_0000_0000);
/// The canonical NaN of f16 and of bf16.
pub const NAN16: u16 = 0x7fff;

/// `.ftz`: a subnormal number becomes the zero of its sign.
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// [`flush`], or nothing.
#[inline(always)]
pub fn flush_if<const FTZ: bool>(x: f32) -> f32 {
    if FTZ { flush(x) } else { x }
}

/// Any NaN becomes the canonical one.
///
/// By its bits: the compiler takes one NaN for as good as another where it sees that floats are compared.
#[inline(always)]
pub fn canonical(x: f32) -> f32 {
    let bits = x.to_bits() as i32;
    if bits & i32::MAX > 0x7f80_0000 { NAN32 } else { x }
}

/// Whether it is NaN, by its bits.
#[inline(always)]
fn is_nan64(x: f64) -> bool {
    x.to_bits() as i64 & i64::MAX > 0x7ff0_0000_0000_0000
}

/// A NaN, quiet.
#[inline(always)]
pub fn quiet64(x: f64) -> f64 {
    f64::from_bits(x.to_bits() | 0x0008_0000_0000_0000)
}

/// What f64 arithmetic gives instead of a NaN `result`: the first source that is NaN, quiet, or else [`NAN64`].
#[inline(always)]
pub fn canonical64<const N: usize>(result: f64, sources: [f64; N]) -> f64 {
    let mut value = if is_nan64(result) { NAN64 } else { result };
    for source in sources.into_iter().rev() {
        value = if is_nan64(source) { quiet64(source) } else { value };
    }
    value
}

/// As an f64. A NaN keeps its sign and what it carries.
#[inline(always)]
pub fn f32_to_f64(x: f32) -> f64 {
    let bits = u64::from(x.to_bits());
    let nan = (bits & 0x8000_0000) << 32 | 0x7ff8_0000_0000_0000 | (bits & 0x007f_ffff) << 29;
    let is_nan = bits as i32 & i32::MAX > 0x7f80_0000;
    if is_nan { f64::from_bits(nan) } else { f64::from(x) }
}

/// The f32 nearest to an f64. A NaN keeps its sign and the upper bits of what it carries.
#[inline(always)]
pub fn f64_to_f32(x: f64) -> f32 {
    if is_nan64(x) { nan_to_f32(x.to_bits()) } else { x as f32 }
}

/// A NaN of f64 as one of f32.
#[inline(always)]
pub fn nan_to_f32(bits: u64) -> f32 {
    f32::from_bits((bits >> 32) as u32 & 0x8000_0000 | 0x7fc0_0000 | (bits >> 29) as u32 & 0x007f_ffff)
}

/// `.sat`: clamped to [+0, 1]; NaN becomes +0.
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    if positive < 1.0 { positive } else { 1.0 }
}

/// [`saturate`] for f64.
#[inline(always)]
pub fn saturate64(x: f64) -> f64 {
    let positive = if x > 0.0 { x } else { 0.0 };
    if positive < 1.0 { positive } else { 1.0 }
}

/// `.relu`: what is negative becomes +0, NaN stays.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

/// An f16's value.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    // The product moves the exponent to f32's bias and normalises subnormals; it is exact.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let special = f32::from_bits(0x7f80_0000 | magnitude << 13);
    let value = if magnitude >= 0x7c00 { special } else { finite };
    f32::from_bits(value.to_bits() | sign)
}

/// The f16 nearest to an f32, ties to even.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // Half a unit of the last place less a bit, and that bit where the last place is odd: ties go to even.
    let odd = (magnitude >> 13) & 1;
    let normal = (magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + odd)) >> 13;
    // 0.5 has f16's smallest subnormal as its unit in the last place: the addition rounds.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let value = if magnitude >= 0x4780_0000 { 0x7c00 } else { finite };
    let value = if magnitude > 0x7f80_0000 { u32::from(NAN16) } else { value | sign };
    value as u16
}

/// The e4m3 nearest to an f32, ties to even; what is too large becomes the largest, 448.
#[inline(always)]
pub fn f32_to_e4m3(x: f32) -> u8 {
    to_8_bits(x, 20, 0x3c00_0000, 16384.0, 0x7e)
}

/// The e5m2 nearest to an f32, likewise; the largest is 57344.
#[inline(always)]
pub fn f32_to_e5m2(x: f32) -> u8 {
    to_8_bits(x, 21, 0x3800_0000, 128.0, 0x7b)
}

/// As [`f32_to_f16`], where `drop` bits fall off the fraction, `bias` is what the exponents differ by, and `unit` has the smallest
/// subnormal as its unit in the last place.
#[inline(always)]
fn to_8_bits(x: f32, drop: u32, bias: u32, unit: f32, largest: u32) -> u8 {
    let bits = x.to_bits();
    let sign = (bits >> 24) & 0x80;
    let magnitude = bits & 0x7fff_ffff;
    let odd = (magnitude >> drop) & 1;
    let half = (1 << (drop - 1)) - 1;
    let normal = magnitude.wrapping_sub(bias).wrapping_add(half + odd) >> drop;
    let subnormal = (f32::from_bits(magnitude) + unit).to_bits().wrapping_sub(unit.to_bits());
    let finite = if magnitude < bias + 0x80_0000 { subnormal } else { normal };
    let value = if finite > largest { largest } else { finite };
    (if magnitude > 0x7f80_0000 { 0x7f } else { value | sign }) as u8
}

/// An e4m3's value as an f16.
#[inline(always)]
pub fn e4m3_to_f16(bits: u8) -> u16 {
    let magnitude = u16::from(bits & 0x7f);
    // In f16's places; the exponents differ by 8.
    let value = f32_to_f16(f16_to_f32(magnitude << 7) * 256.0);
    if magnitude == 0x7f { NAN16 } else { value | u16::from(bits & 0x80) << 8 }
}

/// An e5m2's value as an f16.
#[inline(always)]
pub fn e5m2_to_f16(bits: u8) -> u16 {
    if bits & 0x7f > 0x7c { NAN16 } else { u16::from(bits) << 8 }
}

/// A bf16's value.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bf16 nearest to an f32, ties to even.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    (if x.is_nan() { u32::from(NAN16) } else { rounded }) as u16
}

/// The bf16 next to an f32 on the way to zero.
#[inline(always)]
pub fn f32_to_bf16_rz(x: f32) -> u16 {
    if x.is_nan() { NAN16 } else { (x.to_bits() >> 16) as u16 }
}

/// An f64 as an f32 from which formats of at most 22 bits can be rounded as if from the f64: cut off, and odd where
/// something was cut.
#[inline(always)]
pub fn to_odd_f32(x: f64) -> f32 {
    let nearest = x as f32;
    let over = f64::from(nearest).abs() > x.abs();
    let cut = f32::from_bits(nearest.to_bits().wrapping_sub(u32::from(over)));
    let inexact = f64::from(cut) != x && !x.is_nan();
    f32::from_bits(cut.to_bits() | u32::from(inexact))
}

/// The sum of two f64, odd where it is not exact: what it is rounded to later is rounded once.
#[inline(always)]
pub fn odd_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let error = sum_error(a, b, sum);
    let bits = sum.to_bits();
    let even = bits & 1 == 0;
    // Towards the error is away from zero where both have one sign.
    let step = if (error > 0.0) == (sum > 0.0) { 1 } else { u64::MAX };
    let inexact = error.abs() > 0.0;
    f64::from_bits(if inexact && even { bits.wrapping_add(step) } else { bits })
}

/// [`odd_sum`] of f32.
#[inline(always)]
pub fn odd_sum32(a: f32, b: f32) -> f32 {
    let sum = a + b;
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    let bits = sum.to_bits();
    let step = if (error > 0.0) == (sum > 0.0) { 1 } else { u32::MAX };
    let inexact = error.abs() > 0.0;
    f32::from_bits(if inexact && bits & 1 == 0 { bits.wrapping_add(step) } else { bits })
}

/// What a sum has lost by rounding: exact unless it overflowed.
#[inline(always)]
fn sum_error(a: f64, b: f64, sum: f64) -> f64 {
    let part = sum - a;
    (a - (sum - part)) + (b - part)
}

/// Rounds `value + error` to f32, where `value` is the f64 nearest to the exact number and only the sign of `error` counts.
///
/// `MODE` is one of [`directed`]'s.
#[inline(always)]
fn narrow<const MODE: u8>(value: f64, error: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    let above = back > value || back == value && error < 0.0;
    let below = back < value || back == value && error > 0.0;
    let down = if above { nearest.next_down() } else { nearest };
    let up = if below { nearest.next_up() } else { nearest };
    match MODE {
        directed::DOWN => down,
        directed::UP => up,
        directed::ZERO => {
            if nearest.is_sign_negative() {
                up
            } else {
                down
            }
        }
        _ => nearest,
    }
}

/// Directed roundings as constants, for functions that are compiled once for each.
pub mod directed {
    use super::Rounding;

    /// `.rn`
    pub const NEAREST: u8 = 0;
    /// `.rz`
    pub const ZERO: u8 = 1;
    /// `.rm`
    pub const DOWN: u8 = 2;
    /// `.rp`
    pub const UP: u8 = 3;

    /// The constant as a [`Rounding`].
    pub const fn rounding(mode: u8) -> Rounding {
        match mode {
            ZERO => Rounding::Zero,
            DOWN => Rounding::Down,
            UP => Rounding::Up,
            _ => Rounding::Nearest,
        }
    }
}

/// `a · b + c`, rounded once.
#[inline(always)]
pub fn fma<const MODE: u8>(a: f32, b: f32, c: f32) -> f32 {
    if MODE == directed::NEAREST {
        return a.mul_add(b, c);
    }
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    let rounded = narrow::<MODE>(sum, sum_error(product, c, sum));
    let negative = product.is_sign_negative() || c.is_sign_negative();
    if MODE == directed::DOWN && sum == 0.0 && negative { -0.0 } else { rounded }
}

/// `a + b`
#[inline(always)]
pub fn add<const MODE: u8>(a: f32, b: f32) -> f32 {
    if MODE == directed::NEAREST {
        return a + b;
    }
    fma::<MODE>(a, 1.0, b)
}

/// `a · b`
#[inline(always)]
pub fn mul<const MODE: u8>(a: f32, b: f32) -> f32 {
    if MODE == directed::NEAREST {
        return a * b;
    }
    narrow::<MODE>(f64::from(a) * f64::from(b), 0.0)
}

/// `a / b`
#[inline(always)]
pub fn div<const MODE: u8>(a: f32, b: f32) -> f32 {
    if MODE == directed::NEAREST {
        return a / b;
    }
    let (a, b) = (f64::from(a), f64::from(b));
    let quotient = a / b;
    let rest = (-quotient).mul_add(b, a);
    narrow::<MODE>(quotient, if b < 0.0 { -rest } else { rest })
}

/// `√a`
#[inline(always)]
pub fn sqrt<const MODE: u8>(a: f32) -> f32 {
    if MODE == directed::NEAREST {
        return a.sqrt();
    }
    let a = f64::from(a);
    let root = a.sqrt();
    narrow::<MODE>(root, (-root).mul_add(root, a))
}

/// `a · b + c` of f16.
#[inline(always)]
pub fn fma_f16(a: u16, b: u16, c: u16) -> u16 {
    // The product has 22 bits and is no smaller than 2^-48: f32 holds it.
    f32_to_f16(odd_sum32(f16_to_f32(a) * f16_to_f32(b), f16_to_f32(c)))
}

/// `a · b + c` of bf16.
#[inline(always)]
pub fn fma_bf16(a: u16, b: u16, c: u16) -> u16 {
    let product = f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b));
    f32_to_bf16(to_odd_f32(odd_sum(product, f64::from(bf16_to_f32(c)))))
}

/// `.ftz` of f16.
#[inline(always)]
pub fn flush_f16(bits: u16) -> u16 {
    if bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }
}

/// `.ftz` of bf16.
#[inline(always)]
pub fn flush_bf16(bits: u16) -> u16 {
    if bits & 0x7f80 == 0 { bits & 0x8000 } else { bits }
}
