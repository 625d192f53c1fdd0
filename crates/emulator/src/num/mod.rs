//! Binary floating-point formats, and arithmetic whose exact result is rounded once.
//!
//! Two ways to the same numbers: [`exact`] works on any format with any rounding, slowly and obviously; [`fast`] has what
//! kernels do all the time, in loops that the compiler vectorises. The tests hold one against the other.

pub mod approx;
pub mod exact;
pub mod fast;

#[cfg(test)]
mod tests;

/// How a result that a format cannot hold is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// `.rn`: to the nearest, ties to the even one.
    Nearest,
    /// `.rna`: to the nearest, ties away from zero.
    NearestAway,
    /// `.rz`: towards zero.
    Zero,
    /// `.rm`: down.
    Down,
    /// `.rp`: up.
    Up,
}

impl Rounding {
    /// Of the suffixes `rn`, `rna`, `rz`, `rm` and `rp`; with an `i` behind them they round to an integer.
    pub fn parse(suffix: &str) -> Option<Rounding> {
        match suffix {
            "rn" | "rni" => Some(Rounding::Nearest),
            "rna" => Some(Rounding::NearestAway),
            "rz" | "rzi" => Some(Rounding::Zero),
            "rm" | "rmi" => Some(Rounding::Down),
            "rp" | "rpi" => Some(Rounding::Up),
            _ => None,
        }
    }
}

/// A binary floating-point format: a sign, an exponent, a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bits of the exponent.
    pub exponent: u32,
    /// Bits of the fraction.
    pub fraction: u32,
    /// Bits below the fraction, always 0.
    pub padding: u32,
    /// Whether the largest exponent is kept for infinities and NaNs; else only its largest fraction is a NaN.
    pub infinities: bool,
    /// The NaN of arithmetic on numbers.
    pub nan: u64,
}

/// IEEE binary64.
pub const F64: Format =
    Format { exponent: 11, fraction: 52, padding: 0, infinities: true, nan: 0xfff8_0000_0000_0000 };
/// IEEE binary32.
pub const F32: Format = Format { exponent: 8, fraction: 23, padding: 0, infinities: true, nan: 0x7fff_ffff };
/// IEEE binary16.
pub const F16: Format = Format { exponent: 5, fraction: 10, padding: 0, infinities: true, nan: 0x7fff };
/// The upper half of a binary32.
pub const BF16: Format = Format { exponent: 8, fraction: 7, padding: 0, infinities: true, nan: 0x7fff };
/// The upper 19 bits of a binary32, in 32 bits.
pub const TF32: Format =
    Format { exponent: 8, fraction: 10, padding: 13, infinities: true, nan: 0x7fff_ffff };
/// 8 bits without infinities; its largest number is 448.
pub const E4M3: Format = Format { exponent: 4, fraction: 3, padding: 0, infinities: false, nan: 0x7f };
/// 8 bits; its largest number is 57344.
pub const E5M2: Format = Format { exponent: 5, fraction: 2, padding: 0, infinities: true, nan: 0x7f };

impl Format {
    /// Bits of a value.
    pub const fn bits(self) -> u32 {
        1 + self.exponent + self.fraction + self.padding
    }

    /// The sign bit.
    pub const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }

    /// What is subtracted from the exponent's bits.
    pub const fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    /// Positive infinity; without infinities, NaN.
    pub const fn infinity(self) -> u64 {
        if self.infinities { ((1 << self.exponent) - 1) << (self.fraction + self.padding) } else { self.nan }
    }

    /// The largest number.
    pub const fn max(self) -> u64 {
        self.infinity() - (1 << self.padding)
    }

    /// 1.
    pub const fn one(self) -> u64 {
        (self.bias() as u64) << (self.fraction + self.padding)
    }

    /// Whether these bits are a NaN.
    pub const fn is_nan(self, bits: u64) -> bool {
        let magnitude = bits & (self.sign() - 1);
        if self.infinities { magnitude > self.infinity() } else { magnitude >= self.nan }
    }
}
