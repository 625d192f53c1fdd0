//! Any conversion, one number at a time.

use crate::num::exact::{Finite, Value};
use crate::num::fast::{NAN32, f32_to_f64, nan_to_f32};
use crate::num::{BF16, E4M3, E5M2, F16, F32, F64, Format, Rounding, TF32};
use crate::ptx::{Kind, Type};

/// A conversion between scalars, as [`Args::imm`](super::super::per_lane::Args) holds it packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// Type of the source.
    pub from: Type,
    /// Of the result.
    pub to: Type,
    /// How it is rounded.
    pub rounding: Rounding,
    /// To a whole number, where the result is a float.
    pub whole: bool,
    /// `.ftz`
    pub ftz: bool,
    /// `.sat`
    pub sat: bool,
    /// `.relu`
    pub relu: bool,
    /// `.satfinite`
    pub finite: bool,
    /// Bits of the register that it goes to.
    pub register: u32,
}

const TYPES: [Type; 15] = [
    Type::U8,
    Type::S8,
    Type::U16,
    Type::S16,
    Type::U32,
    Type::S32,
    Type::U64,
    Type::S64,
    Type::F16,
    Type::Bf16,
    Type::Tf32,
    Type::F32,
    Type::F64,
    Type::E4m3,
    Type::E5m2,
];

const ROUNDINGS: [Rounding; 5] =
    [Rounding::Nearest, Rounding::NearestAway, Rounding::Zero, Rounding::Down, Rounding::Up];

fn position<T: PartialEq>(all: &[T], one: T) -> u32 {
    all.iter().position(|other| *other == one).unwrap_or(0) as u32
}

impl Conversion {
    /// In 32 bits. The types are those that scalar conversions have.
    pub fn pack(self) -> u32 {
        let flags = [self.whole, self.ftz, self.sat, self.relu, self.finite];
        let flags = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u32::from(*flag));
        position(&TYPES, self.from)
            | position(&TYPES, self.to) << 4
            | position(&ROUNDINGS, self.rounding) << 8
            | flags << 12
            | self.register << 24
    }

    /// From [`pack`](Self::pack).
    pub fn unpack(bits: u32) -> Conversion {
        let flag = |at: u32| bits >> (12 + at) & 1 == 1;
        Conversion {
            from: TYPES[(bits & 15) as usize % TYPES.len()],
            to: TYPES[(bits >> 4 & 15) as usize % TYPES.len()],
            rounding: ROUNDINGS[(bits >> 8 & 7) as usize % ROUNDINGS.len()],
            whole: flag(0),
            ftz: flag(1),
            sat: flag(2),
            relu: flag(3),
            finite: flag(4),
            register: bits >> 24,
        }
    }
}

fn format(ty: Type) -> Option<Format> {
    Some(match ty {
        Type::F16 => F16,
        Type::Bf16 => BF16,
        Type::Tf32 => TF32,
        Type::F32 => F32,
        Type::F64 => F64,
        Type::E4m3 => E4M3,
        Type::E5m2 => E5M2,
        _ => return None,
    })
}

/// The low `bits` of a value.
fn low(value: u64, bits: u32) -> u64 {
    if bits >= 64 { value } else { value & ((1 << bits) - 1) }
}

/// An f32's bits, subnormals as zeros.
fn flush(bits: u64) -> u64 {
    if bits & F32.infinity() == 0 { bits & F32.sign() } else { bits }
}

/// Converts the low bits of a source register to what the destination register holds.
pub fn convert(conversion: Conversion, source: u64) -> u64 {
    let Conversion { from, to, rounding, .. } = conversion;
    let source = low(source, from.bits());
    if let Some(nan) = nan_kept(conversion, source) {
        return nan;
    }
    let value = match format(from) {
        Some(format) if conversion.ftz && from == Type::F32 => Value::decode(format, flush(source)),
        Some(format) => Value::decode(format, source),
        None => Value::Finite(Finite::integer(integer(from, source))),
    };
    let Some(format) = format(to) else {
        return low(to_integer(conversion, value), conversion.register);
    };
    let value = if conversion.whole { whole(value, rounding) } else { value };
    let bits = value.encode(format, rounding, conversion.finite);
    let bits = if conversion.ftz && to == Type::F32 { flush(bits) } else { bits };
    let negative = bits & format.sign() != 0;
    if conversion.sat && (negative || format.is_nan(bits)) {
        return 0;
    }
    if conversion.sat && bits > format.one() {
        return format.one();
    }
    if conversion.relu && negative && !format.is_nan(bits) { 0 } else { bits }
}

/// A NaN that keeps its sign and what it carries.
fn nan_kept(conversion: Conversion, source: u64) -> Option<u64> {
    let Conversion { from, to, whole, sat, .. } = conversion;
    if sat || !format(from)?.is_nan(source) {
        return None;
    }
    match (from, to) {
        (Type::F32, Type::F64) => Some(f32_to_f64(f32::from_bits(source as u32)).to_bits()),
        (Type::F16 | Type::Bf16, Type::F64) => Some(f32_to_f64(NAN32).to_bits()),
        (Type::F64, Type::F32) => Some(nan_to_f32(source).to_bits().into()),
        _ if from == to && !whole => Some(source),
        _ => None,
    }
}

/// An integer of a type.
fn integer(ty: Type, bits: u64) -> i128 {
    let shift = 64 - ty.bits();
    match ty.kind() {
        Kind::Signed => i128::from((bits << shift) as i64 >> shift),
        _ => i128::from(bits),
    }
}

/// The whole number to which a number is rounded; a zero keeps its sign.
fn whole(value: Value, rounding: Rounding) -> Value {
    match value {
        Value::Finite(finite) if finite.exponent < 0 => {
            let rounded = Finite::integer(finite.to_integer(rounding));
            Value::Finite(Finite { negative: finite.negative, ..rounded })
        }
        other => other,
    }
}

/// The integer, extended to 64 bits.
fn to_integer(conversion: Conversion, value: Value) -> u64 {
    let Conversion { from, to, rounding, .. } = conversion;
    let bits = to.bits();
    let (least, greatest) = match to.kind() {
        Kind::Signed => (-1 << (bits - 1), (1 << (bits - 1)) - 1),
        _ => (0, (1 << bits) - 1),
    };
    let float = format(from).is_some();
    let number: i128 = match value {
        Value::Nan if from == Type::F64 || bits == 64 => 1 << (bits - 1),
        Value::Nan => 0,
        Value::Infinite(true) => least,
        Value::Infinite(false) => greatest,
        Value::Finite(finite) if float || conversion.sat => {
            finite.to_integer(rounding).clamp(least, greatest)
        }
        Value::Finite(finite) => finite.to_integer(rounding),
    };
    let number = low(number as u64, bits);
    integer(to, number) as u64
}
