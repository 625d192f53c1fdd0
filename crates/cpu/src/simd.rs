//! What the compiler vectorises: instruction sets chosen at run time, an exponential, sums in lanes.
//!
//! The crate is built for any x86-64 (or other) processor, so a loop that is worth it is compiled once per instruction
//! set by [`vectorised!`] and the set is chosen when it is called. Sums run in [`LANES`] lanes whatever the width of a
//! register, so results do not depend on the vector width.

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the build's target guarantees.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, VL, BW, DQ, with AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// All that this machine has, the best last.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)] // other machines have one only
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                levels.push(Level::Avx2);
                if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") {
                    levels.push(Level::Avx512);
                }
            }
        }
        levels
    }

    /// The best that this machine has.
    pub fn best() -> Level {
        *Level::available().last().unwrap_or(&Level::Portable)
    }
}

/// Compiles a function's body for every [`Level`], and gives the function that level as its first argument. In the body
/// the constant `FMA` tells whether the processor fuses a multiplication with an addition; see [`madd`].
///
/// A level that the machine does not have must not be passed: the crate takes its levels from [`Level::available`].
macro_rules! vectorised {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name(level: $crate::simd::Level, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)] // not every body multiplies and adds
            fn body<const FMA: bool>($($arg: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $result)? {
                body::<true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            fn avx512($($arg: $type),*) $(-> $result)? {
                body::<true>($($arg),*)
            }
            match level {
                $crate::simd::Level::Portable => body::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
                // SAFETY: a backend's level is one of `Level::available`, which asked the processor for these features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use vectorised;

/// a·b + c, in one rounding where the processor can; elsewhere `f32::mul_add` would call a function.
#[inline(always)]
pub fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Lanes in which sums and maxima run.
pub const LANES: usize = 16;

/// The next multiple of [`LANES`].
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(LANES)
}

/// The sum of the lanes, as a tree.
#[inline(always)]
pub fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Σ f(x).
#[inline(always)]
pub fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] += f(chunk[l]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    total(lanes)
}

/// Σ x·y.
#[inline(always)]
pub fn dot<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            lanes[l] = madd::<FMA>(x[l], y[l], lanes[l]);
        }
    }
    for (l, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        lanes[l] = madd::<FMA>(*x, *y, lanes[l]);
    }
    total(lanes)
}

/// The largest element, −∞ if there is none; NaN is passed over.
#[inline(always)]
pub fn largest(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    // Written as the instruction does it: `f32::max` asks for more where an operand is NaN.
    let max = |a: f32, b: f32| if b > a { b } else { a };
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = max(lanes[l], chunk[l]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = max(*lane, *x);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] = max(lanes[l], lanes[l + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// eˣ, with 0 for results below 2⁻¹²⁶ and ∞ for those above 2¹²⁷·√2.
///
/// x = n·ln 2 + r with n whole and |r| ≤ ln 2/2: eˣ = 2ⁿ·eʳ, and eʳ is a polynomial of degree 6, the minimax coefficients
/// of Cephes' `expf`. Within 2 units in the last place; NaN stays NaN.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5·2²³ leaves the nearest whole number in the low bits of the significand.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has so few bits that n times it is exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // n from −127 to 128, whose powers below are 0 and ∞. Written so that NaN passes.
    let x = if x < -88.0 { -88.0 } else { x };
    let x = if x > 88.5 { 88.5 } else { x };
    let rounded = madd::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = madd::<FMA>(n, -LN2_HIGH, x);
    let r = madd::<FMA>(n, -LN2_LOW, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = madd::<FMA>(p, r, coefficient);
    }
    let p = madd::<FMA>(p * r, r, r) + 1.0;
    // 2ⁿ: the exponent's bits are n + 127.
    let n = (rounded.to_bits()).wrapping_sub(ROUND.to_bits() - 127);
    p * f32::from_bits(n << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    vectorised! {
        fn exp_all(out: &mut [f32], inp: &[f32]) {
            for (out, x) in out.iter_mut().zip(inp) {
                *out = exp::<FMA>(*x);
            }
        }
    }

    /// Distance in representable numbers.
    fn ulps(a: f32, b: f32) -> i64 {
        i64::from(a.to_bits() as i32).abs_diff(i64::from(b.to_bits() as i32)) as i64
    }

    #[test]
    fn exp_is_within_two_ulps() {
        // Every 1021st float of either sign: some two million.
        let inp: Vec<f32> =
            (0..104.0_f32.to_bits()).step_by(1021).map(f32::from_bits).flat_map(|x| [x, -x]).collect();
        let mut out = vec![f32::NAN; inp.len()];
        for level in Level::available() {
            exp_all(level, &mut out, &inp);
            let mut worst = (0, 0.0);
            for (x, y) in inp.iter().zip(&out) {
                let exact = f64::from(*x).exp() as f32;
                if *x < -87.33 {
                    // Between the smallest normal number and where n becomes −127 either is right.
                    assert!(*y == 0.0 || ulps(*y, exact) <= 2, "{level:?}: exp({x}) = {y}");
                } else if *x > 88.37 {
                    assert!(*y == f32::INFINITY || ulps(*y, exact) <= 2, "{level:?}: exp({x}) = {y}");
                } else {
                    let off = ulps(*y, exact);
                    worst = if off > worst.0 { (off, *x) } else { worst };
                }
            }
            println!("{level:?}: {} ulps at most, at {}", worst.0, worst.1);
            assert!(worst.0 <= 2, "{level:?}: exp({}) is {} ulps off", worst.1, worst.0);
        }
    }

    #[test]
    fn exp_at_the_edges() {
        let tiny = f32::from_bits(1);
        let inp = [0.0, -0.0, tiny, -tiny, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 88.3, -87.3];
        let mut want = inp.map(|x| f64::from(x).exp() as f32);
        want[4] = f32::INFINITY;
        for level in Level::available() {
            let mut out = [f32::NAN; 10];
            exp_all(level, &mut out, &inp);
            for i in 0..inp.len() {
                assert!(
                    ulps(out[i], want[i]) <= 2,
                    "{level:?}: exp({}) = {}, not {}",
                    inp[i],
                    out[i],
                    want[i]
                );
            }
            let mut nan = [0.0; 3];
            exp_all(level, &mut nan, &[f32::NAN, -f32::NAN, 0.0]);
            assert!(nan[0].is_nan() && nan[1].is_nan() && nan[2] == 1.0);
        }
    }

    #[test]
    fn sums_of_every_length() {
        for len in 0..70 {
            let x: Vec<f32> = (0..len).map(|i| (i * 7 % 5) as f32 - 2.5).collect();
            let y: Vec<f32> = (0..len).map(|i| (i * 3 % 7) as f32).collect();
            assert_eq!(sum(&x, |x| x), x.iter().sum::<f32>());
            assert_eq!(dot::<false>(&x, &y), x.iter().zip(&y).map(|(x, y)| x * y).sum::<f32>());
            assert_eq!(largest(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
