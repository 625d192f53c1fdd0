//! What the elements of a product are, as numbers.
//!
//! Every element of 32 bits or fewer is exact in f64, and so is the product of two. Sums are rounded to their type where an
//! instruction ends.

use half::f16;

/// The type of A's or B's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
    S4,
    U4,
}

impl Element {
    /// The type of a suffix without its dot, if a product can have it.
    pub fn parse(name: &str) -> Option<Element> {
        Some(match name {
            "f16" => Element::F16,
            "bf16" => Element::Bf16,
            "tf32" => Element::Tf32,
            "e4m3" => Element::E4m3,
            "e5m2" => Element::E5m2,
            "s8" => Element::S8,
            "u8" => Element::U8,
            "s4" => Element::S4,
            "u4" => Element::U4,
            _ => return None,
        })
    }

    /// Its bits.
    pub const fn bits(self) -> usize {
        match self {
            Element::Tf32 => 32,
            Element::F16 | Element::Bf16 => 16,
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 8,
            Element::S4 | Element::U4 => 4,
        }
    }

    /// How many a register of 32 bits holds.
    pub const fn per_register(self) -> usize {
        32 / self.bits()
    }

    /// Whether it is an integer.
    pub const fn is_integer(self) -> bool {
        matches!(self, Element::S8 | Element::U8 | Element::S4 | Element::U4)
    }

    /// Whether two elements can be multiplied with one another.
    pub fn agrees(self, other: Element) -> bool {
        let alike = |all: [Element; 2]| all.contains(&self) && all.contains(&other);
        self == other
            || alike([Element::E4m3, Element::E5m2])
            || alike([Element::S8, Element::U8])
            || alike([Element::S4, Element::U4])
    }
}

/// An element's type as a type, so that loops over elements are compiled for it.
pub trait Format {
    /// Bits of an element.
    const BITS: usize;
    /// The number that the low bits stand for; bits above are to be ignored.
    fn value(bits: u32) -> f64;
}

/// Calls a generic function for the format of an element.
macro_rules! for_format {
    ($element:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $element {
            $crate::exec::tensor::elements::Element::F16 => $function::<$crate::exec::tensor::elements::F16>($($argument),*),
            $crate::exec::tensor::elements::Element::Bf16 => $function::<$crate::exec::tensor::elements::Bf16>($($argument),*),
            $crate::exec::tensor::elements::Element::Tf32 => $function::<$crate::exec::tensor::elements::Tf32>($($argument),*),
            $crate::exec::tensor::elements::Element::E4m3 => $function::<$crate::exec::tensor::elements::E4m3>($($argument),*),
            $crate::exec::tensor::elements::Element::E5m2 => $function::<$crate::exec::tensor::elements::E5m2>($($argument),*),
            $crate::exec::tensor::elements::Element::S8 => $function::<$crate::exec::tensor::elements::S8>($($argument),*),
            $crate::exec::tensor::elements::Element::U8 => $function::<$crate::exec::tensor::elements::U8>($($argument),*),
            $crate::exec::tensor::elements::Element::S4 => $function::<$crate::exec::tensor::elements::S4>($($argument),*),
            $crate::exec::tensor::elements::Element::U4 => $function::<$crate::exec::tensor::elements::U4>($($argument),*),
        }
    };
}
pub(super) use for_format;

macro_rules! formats {
    ($($name:ident, $bits:expr, $value:expr;)*) => {$(
        #[doc = concat!("[`Element::", stringify!($name), "`] as a type.")]
        #[derive(Debug)]
        pub struct $name;

        impl Format for $name {
            const BITS: usize = $bits;

            #[inline(always)]
            fn value(bits: u32) -> f64 {
                let value: fn(u32) -> f64 = $value;
                value(bits)
            }
        }
    )*};
}

formats! {
    F16, 16, |bits| f64::from(half_value(bits as u16));
    Bf16, 16, |bits| f64::from(f32::from_bits(bits << 16));
    // The low 13 bits of the f32 are not looked at.
    Tf32, 32, |bits| f64::from(f32::from_bits(bits & !0x1fff));
    E4m3, 8, |bits| f64::from(E4M3[bits as usize & 0xff]);
    // Its bits are the upper half of an f16's.
    E5m2, 8, |bits| f64::from(half_value((bits << 8) as u16));
    S8, 8, |bits| f64::from(bits as i8);
    U8, 8, |bits| f64::from(bits as u8);
    S4, 4, |bits| f64::from((bits << 4) as i8 >> 4);
    U4, 4, |bits| f64::from(bits & 15);
}

/// An f16 as f32, without a branch but for what is not finite.
#[inline(always)]
fn half_value(bits: u16) -> f32 {
    // As an f32 of the same fields it is too small by the difference of the biases, 2^112, subnormals too.
    let small = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let infinite = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(small.to_bits() | infinite | u32::from(bits & 0x8000) << 16)
}

const E4M3: [f32; 256] = {
    let mut all = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        all[bits] = e4m3_value(bits as u32);
        bits += 1;
    }
    all
};

/// Bias 7, no infinity: only with all bits of exponent and fraction set is it not a number.
const fn e4m3_value(bits: u32) -> f32 {
    let (sign, exponent, fraction) = (bits >> 7, bits >> 3 & 15, bits & 7);
    let magnitude = match (exponent, fraction) {
        (15, 7) => f32::NAN,
        (0, _) => fraction as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | fraction << 20),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// The type of C's and D's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Rounded to f16, two in a register.
    F16,
    /// Rounded to f32.
    F32,
    /// Wraps, or is clamped.
    S32 {
        /// `.satfinite`
        saturate: bool,
    },
}

impl Sum {
    /// How many a register of 32 bits holds.
    pub const fn per_register(self) -> usize {
        if matches!(self, Sum::F16) { 2 } else { 1 }
    }

    /// The number in the low bits of a register.
    #[inline(always)]
    pub fn value(self, bits: u32) -> f64 {
        match self {
            Sum::F16 => f64::from(half_value(bits as u16)),
            Sum::F32 => f64::from(f32::from_bits(bits)),
            Sum::S32 { .. } => f64::from(bits as i32),
        }
    }

    /// The number of this type that an exact or nearly exact sum becomes: to the nearest, ties to even.
    #[inline(always)]
    pub fn round(self, sum: f64) -> f64 {
        match self {
            Sum::F16 => f64::from(to_f16(sum)),
            Sum::F32 => f64::from(sum as f32),
            Sum::S32 { saturate: true } => f64::from(sum as i32),
            Sum::S32 { saturate: false } => f64::from(sum as i64 as i32),
        }
    }

    /// The bits of that number; what is none has the canonical bits.
    #[inline(always)]
    pub fn bits(self, sum: f64) -> u32 {
        match self {
            Sum::F16 if sum.is_nan() => 0x7fff,
            Sum::F16 => u32::from(to_f16(sum).to_bits()),
            Sum::F32 if sum.is_nan() => 0x7fff_ffff,
            Sum::F32 => (sum as f32).to_bits(),
            Sum::S32 { saturate: true } => sum as i32 as u32,
            Sum::S32 { saturate: false } => sum as i64 as u32,
        }
    }
}

/// To the nearest f16, ties to even: by way of an f32 rounded to odd, which keeps what decides a tie.
fn to_f16(value: f64) -> f16 {
    let near = value as f32;
    let back = f64::from(near);
    let bits = near.to_bits();
    let odd = match bits & 1 == 0 && back != value && !value.is_nan() {
        true if back.abs() > value.abs() => bits - 1,
        true => bits + 1,
        false => bits,
    };
    f16::from_f32(f32::from_bits(odd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn every_f16_and_bf16_is_what_half_says() {
        for bits in 0..=u16::MAX {
            let wanted = f64::from(f16::from_bits(bits));
            assert!(same(F16::value(u32::from(bits)), wanted), "f16 {bits:04x}");
            let wanted = f64::from(bf16::from_bits(bits));
            assert!(same(Bf16::value(u32::from(bits) | 0x5a5a_0000), wanted), "bf16 {bits:04x}");
        }
    }

    /// Exponent and fraction taken apart, in f64.
    fn small_float(bits: u32, exponent_bits: u32, bias: i32, has_infinity: bool) -> f64 {
        let fraction_bits = 7 - exponent_bits;
        let exponent = (bits >> fraction_bits & ((1 << exponent_bits) - 1)) as i32;
        let fraction = bits & ((1 << fraction_bits) - 1);
        let ones = (1 << exponent_bits) - 1;
        let part = f64::from(fraction) / f64::from(1 << fraction_bits);
        let magnitude = match exponent {
            _ if has_infinity && exponent == ones && fraction == 0 => f64::INFINITY,
            _ if has_infinity && exponent == ones => f64::NAN,
            _ if exponent == ones && fraction == (1 << fraction_bits) - 1 => f64::NAN,
            0 => part * 2f64.powi(1 - bias),
            _ => (1.0 + part) * 2f64.powi(exponent - bias),
        };
        if bits & 0x80 != 0 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_number_of_8_and_4_bits_is_what_its_fields_say() {
        for bits in 0..256 {
            let above = 0xabcd_ef00 | bits;
            assert!(same(E4m3::value(above), small_float(bits, 4, 7, false)), "e4m3 {bits:02x}");
            assert!(same(E5m2::value(above), small_float(bits, 5, 15, true)), "e5m2 {bits:02x}");
            let signed = if bits < 128 { f64::from(bits) } else { f64::from(bits) - 256.0 };
            assert!(S8::value(above) == signed && U8::value(above) == f64::from(bits), "s8, u8 {bits}");
            let nibble = bits & 15;
            let signed = if nibble < 8 { f64::from(nibble) } else { f64::from(nibble) - 16.0 };
            assert!(S4::value(bits) == signed && U4::value(bits) == f64::from(nibble), "s4, u4 {bits}");
        }
        assert_eq!(E4m3::value(0x7e), 448.0);
        assert_eq!(E5m2::value(0x7b), 57344.0);
    }

    #[test]
    fn tf32_looks_at_19_bits() {
        for bits in [0x3f80_1fff_u32, 0x3f80_2000, 0x8000_0001, 0x7f80_0000, 0x0000_2000] {
            assert!(same(Tf32::value(bits), f64::from(f32::from_bits(bits >> 13 << 13))));
        }
    }

    /// The nearest of all finite f16, by distance; a tie goes to the even one.
    fn nearest_f16(value: f64) -> u16 {
        if value.abs() >= 65520.0 {
            return if value < 0.0 { 0xfc00 } else { 0x7c00 };
        }
        let distance = |bits: &u16| (f64::from(f16::from_bits(*bits)) - value.abs()).abs();
        let low = (0..0x7bff).rfind(|bits| f64::from(f16::from_bits(*bits)) <= value.abs()).unwrap_or(0);
        let by_distance = distance(&low).total_cmp(&distance(&(low + 1)));
        let near = if by_distance.then((low & 1).cmp(&0)).is_le() { low } else { low + 1 };
        near | if value.is_sign_negative() { 0x8000 } else { 0 }
    }

    #[test]
    fn f64_to_f16_rounds_once() {
        let tie = 1.0 + 2f64.powi(-11);
        let values = [
            0.0,
            -0.0,
            1.0,
            tie,
            tie + 2f64.powi(-40),
            tie - 2f64.powi(-40),
            tie + 2f64.powi(-11),
            65504.0,
            65519.9,
            65520.0,
            1e30,
            2f64.powi(-24),
            2f64.powi(-25),
            2f64.powi(-25) + 2f64.powi(-60),
            2f64.powi(-26),
            1e-300,
            0.1,
            1234.56,
            6.0e-5,
            3.0 * 2f64.powi(-25),
            3.0 * 2f64.powi(-25) - 2f64.powi(-70),
        ];
        for value in values.into_iter().flat_map(|value| [value, -value]) {
            assert_eq!(to_f16(value).to_bits(), nearest_f16(value), "{value:e}");
        }
        assert!(to_f16(f64::NAN).is_nan());
    }

    #[test]
    fn sums_wrap_or_saturate_and_give_the_canonical_nan() {
        let (wraps, clamps) = (Sum::S32 { saturate: false }, Sum::S32 { saturate: true });
        for (sum, wrapped, clamped) in [
            (2147483648.0, i32::MIN, i32::MAX),
            (-2147483649.0, i32::MAX, i32::MIN),
            (4294967301.0, 5, i32::MAX),
            (-7.0, -7, -7),
        ] {
            assert_eq!((wraps.bits(sum) as i32, wraps.round(sum)), (wrapped, f64::from(wrapped)));
            assert_eq!((clamps.bits(sum) as i32, clamps.round(sum)), (clamped, f64::from(clamped)));
        }
        assert_eq!(Sum::F32.bits(-f64::NAN), 0x7fff_ffff);
        assert_eq!(Sum::F16.bits(f64::NAN), 0x7fff);
        assert_eq!(Sum::F32.bits(1e39), f32::INFINITY.to_bits());
    }
}
