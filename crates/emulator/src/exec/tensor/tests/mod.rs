//! Products against exact integers, and layouts against the manual's formulas, which are written down here once more.

mod descriptor;
mod mma;
mod wgmma;
mod wmma;

use super::elements::{Element, Sum};

/// splitmix64
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Fractions are counted in units of 2^-UNIT, sums of products in its square.
const UNIT: i32 = 20;

/// A random element: its bits, and its exact value in units of 2^-UNIT (of 1 for integers).
pub fn element(of: Element, random: &mut Random) -> (u32, i128) {
    let float = |random: &mut Random, fraction: u32, bias: u32, exponents: u64| {
        let exponent = (bias + random.below(exponents) as u32) - exponents as u32 / 2;
        let significand = random.below(1 << fraction) as u32;
        let sign = random.below(2) as u32;
        let value = i128::from((1 << fraction) + significand)
            << (UNIT + exponent as i32 - bias as i32 - fraction as i32);
        let value = if sign == 1 { -value } else { value };
        (exponent << fraction | significand, sign, value)
    };
    match of {
        Element::F16 => {
            let (bits, sign, value) = float(random, 10, 15, 11);
            (sign << 15 | bits, value)
        }
        Element::Bf16 => {
            let (bits, sign, value) = float(random, 7, 127, 13);
            (sign << 15 | bits, value)
        }
        Element::Tf32 => {
            let (bits, sign, value) = float(random, 10, 127, 11);
            // What stands below is not looked at.
            (sign << 31 | bits << 13 | random.below(1 << 13) as u32, value)
        }
        Element::E4m3 => {
            let (bits, sign, value) = float(random, 3, 7, 13);
            (sign << 7 | bits, value)
        }
        Element::E5m2 => {
            let (bits, sign, value) = float(random, 2, 15, 13);
            (sign << 7 | bits, value)
        }
        Element::S8 => {
            let value = [-128, 127, random.below(256) as i32 - 128][random.below(3) as usize];
            (value as u32 & 0xff, i128::from(value))
        }
        Element::U8 => {
            let value = [255, random.below(256) as u32][random.below(2) as usize];
            (value, i128::from(value))
        }
        Element::S4 => {
            let value = random.below(16) as i32 - 8;
            (value as u32 & 15, i128::from(value))
        }
        Element::U4 => {
            let value = random.below(16) as u32;
            (value, i128::from(value))
        }
    }
}

/// A random element of C: its bits, and its exact value in units of 2^(-2·UNIT) (of 1 for integers).
pub fn sum(of: Sum, random: &mut Random) -> (u32, i128) {
    match of {
        Sum::F32 => {
            let value = random.below(1 << 24) as i32 - (1 << 23);
            let shift = random.below(9) as i32;
            ((value as f32 * 2f32.powi(shift - 20)).to_bits(), i128::from(value) << (2 * UNIT + shift - 20))
        }
        Sum::F16 => {
            let value = random.below(1 << 11) as i32 - (1 << 10);
            let half = half::f16::from_f32(value as f32 / 64.0);
            (u32::from(half.to_bits()), i128::from(value) << (2 * UNIT - 6))
        }
        Sum::S32 { .. } => {
            let value = [i32::MAX, i32::MIN, random.next() as i32, random.below(100) as i32]
                [random.below(4) as usize];
            (value as u32, i128::from(value))
        }
    }
}

/// The bits of an exact sum in the type of D.
pub fn rounded(of: Sum, exact: i128) -> u32 {
    match of {
        Sum::F32 => nearest(exact, 24, -149).map_or(0, |value| (value as f32).to_bits()),
        Sum::F16 => nearest(exact, 11, -24).map_or(0, |value| match value.abs() {
            65520.0.. => u32::from(value < 0.0) << 15 | 0x7c00,
            _ => u32::from(half::f16::from_f32(value as f32).to_bits()),
        }),
        Sum::S32 { saturate: true } => exact.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as u32,
        Sum::S32 { saturate: false } => exact as u32,
    }
}

/// To the nearest number of so many bits that is a multiple of 2^lowest, ties to even; `None` for 0.
fn nearest(exact: i128, bits: i32, lowest: i32) -> Option<f64> {
    let magnitude = exact.unsigned_abs();
    let length = 128 - magnitude.leading_zeros() as i32;
    let drop = (length - bits).max(lowest + 2 * UNIT).max(0);
    let (kept, rest) = (magnitude >> drop, magnitude & ((1 << drop) - 1));
    let up = drop > 0 && (rest > 1 << (drop - 1) || rest == 1 << (drop - 1) && kept & 1 == 1);
    let value = (kept + u128::from(up)) as f64 * 2f64.powi(drop - 2 * UNIT);
    (exact != 0).then_some(if exact < 0 { -value } else { value })
}

/// All forms of sums that a pair of element types has.
pub fn sums(a: Element) -> Vec<Sum> {
    match a {
        Element::F16 | Element::E4m3 | Element::E5m2 => vec![Sum::F32, Sum::F16],
        Element::Bf16 | Element::Tf32 => vec![Sum::F32],
        _ => vec![Sum::S32 { saturate: false }, Sum::S32 { saturate: true }],
    }
}

/// The suffix of an element's type.
pub fn name(of: Element) -> &'static str {
    match of {
        Element::F16 => "f16",
        Element::Bf16 => "bf16",
        Element::Tf32 => "tf32",
        Element::E4m3 => "e4m3",
        Element::E5m2 => "e5m2",
        Element::S8 => "s8",
        Element::U8 => "u8",
        Element::S4 => "s4",
        Element::U4 => "u4",
    }
}

/// The suffix of a sum's type, and `.satfinite` where it has that.
pub fn sum_name(of: Sum) -> (&'static str, &'static str) {
    match of {
        Sum::F16 => ("f16", ""),
        Sum::F32 => ("f32", ""),
        Sum::S32 { saturate: false } => ("s32", ""),
        Sum::S32 { saturate: true } => ("s32", ".satfinite"),
    }
}
