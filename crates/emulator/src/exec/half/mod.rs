//! f16 and bf16, and pairs of them: sums, products, extremes, rounded to nearest even.
//!
//! f16 results are NaN 0x7fff where they are NaN; so are bf16 ones. bf16 keeps subnormals: there is no `.ftz` for it.
//! `fma.rn.oob`, whose pattern of a NaN out of bounds is not documented, is refused.

#[cfg(test)]
mod tests;

use super::forms::{is_half, type_of, value_with};
use super::per_lane::{Run, lanes};
use super::{Context, Decoded, Flow, per_lane};
use crate::fault::Fault;
use crate::num::Rounding;
use crate::num::fast::{self, NAN16, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::program::{Class, Decoder, Modifiers};
use crate::ptx::ast::Instruction;
use crate::ptx::{Result, Type};

pub use super::per_lane::Op;

/// `.ftz`, in [`Args::imm`](per_lane::Args), as the following.
const FTZ: u32 = 1;
/// `.sat`
const SAT: u32 = 2;
/// `.relu`
const RELU: u32 = 4;
/// `.NaN`
const NAN: u32 = 8;
/// `.xorsign.abs`
const XOR: u32 = 16;
/// The opcode is `max`.
const MAX: u32 = 32;

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let known = matches!(inst.opcode, "add" | "sub" | "mul" | "fma" | "neg" | "abs" | "min" | "max");
    if !known || !type_of(inst).is_some_and(is_half) {
        return Ok(None);
    }
    let mut modifiers = Modifiers::new(inst);
    let ty = modifiers.ty()?;
    let rounding = modifiers.take_any(&["rn", "rz", "rm", "rp"]).and_then(Rounding::parse);
    if rounding.is_some_and(|rounding| rounding != Rounding::Nearest) {
        return Err(modifiers.invalid("16-bit floats are rounded to nearest alone"));
    }
    if inst.opcode == "fma" && rounding.is_none() {
        return Err(modifiers.invalid("its rounding is missing"));
    }
    let mut flags = 0;
    for (name, flag) in [("ftz", FTZ), ("sat", SAT), ("relu", RELU), ("NaN", NAN), ("xorsign", XOR)] {
        if modifiers.take(name) {
            flags |= flag;
        }
    }
    if flags & XOR != 0 && !modifiers.take("abs") {
        return Err(modifiers.invalid(".xorsign is written .xorsign.abs"));
    }
    let bf16 = matches!(ty, Type::Bf16 | Type::Bf16x2);
    let known = match inst.opcode {
        "fma" if bf16 => RELU,
        "fma" => FTZ | SAT | RELU,
        "add" | "sub" | "mul" if bf16 => 0,
        "add" | "sub" | "mul" => FTZ | SAT,
        "neg" | "abs" if bf16 => 0,
        "neg" | "abs" => FTZ,
        _ if bf16 => NAN | XOR,
        _ => FTZ | NAN | XOR,
    };
    let arithmetic = matches!(inst.opcode, "add" | "sub" | "mul" | "fma");
    if flags & !known != 0 || flags & (SAT | RELU) == SAT | RELU || rounding.is_some() && !arithmetic {
        return Err(modifiers.invalid("these modifiers do not go together"));
    }
    if inst.opcode == "max" {
        flags |= MAX;
    }
    modifiers.finish()?;
    let run = if bf16 { of_bf16(inst.opcode, ty.bits() == 32) } else { of_f16(inst.opcode, ty.bits() == 32) };
    let sources = match inst.opcode {
        "neg" | "abs" => 1,
        "fma" => 3,
        _ => 2,
    };
    let op = value_with(inst, decoder, run, ty, &[ty; 3][..sources], flags)?;
    Ok(Some(Decoded::new(super::Op::Half(op), Class::Half)))
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
#[inline(always)]
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    per_lane::execute(op, cx, active)
}

/// `f` of both halves.
#[inline(always)]
fn both<const N: usize>(words: [u32; N], f: impl Fn([u16; N]) -> u16) -> u32 {
    let low = f(words.map(|word| word as u16));
    let high = f(words.map(|word| (word >> 16) as u16));
    u32::from(low) | u32::from(high) << 16
}

/// A run for f16 or bf16, or one for pairs of them, from what is done to their bits.
macro_rules! single_or_packed {
    ($packed:expr, $flags:ident; |$($x:ident),+| $body:expr) => {
        if $packed {
            lanes!($flags; |$($x: u32),+| u32: both([$($x),+], |[$($x),+]| $body))
        } else {
            lanes!($flags; |$($x: u16),+| u16: $body)
        }
    };
}

/// `.ftz`, if it is asked for.
#[inline(always)]
fn flush(bits: u16, flags: u32) -> u16 {
    if flags & FTZ != 0 { fast::flush_f16(bits) } else { bits }
}

/// The value of an f16 source.
#[inline(always)]
fn source(bits: u16, flags: u32) -> f32 {
    f16_to_f32(flush(bits, flags))
}

/// An f16 result: `.ftz`, `.sat` and `.relu`.
#[inline(always)]
fn finish(bits: u16, flags: u32) -> u16 {
    let bits = flush(bits, flags);
    let negative = bits & 0x8000 != 0;
    // Clamped to [+0, 1], where NaN becomes +0.
    let one = 0x3c00;
    let clamped = if bits > one { one } else { bits };
    let clamped = if negative || bits > 0x7c00 { 0 } else { clamped };
    let bits = if flags & SAT != 0 { clamped } else { bits };
    relu(bits, flags)
}

/// `.relu`: what is negative becomes +0; NaN is positive and stays.
#[inline(always)]
fn relu(bits: u16, flags: u32) -> u16 {
    if flags & RELU != 0 && bits & 0x8000 != 0 { 0 } else { bits }
}

/// On f16. Sums and products are computed in f32, which has more than twice the bits: they are rounded as if once.
fn of_f16(opcode: &str, packed: bool) -> Run {
    match opcode {
        "add" => single_or_packed!(packed, flags; |a, b|
            finish(f32_to_f16(source(a, flags) + source(b, flags)), flags)),
        "sub" => single_or_packed!(packed, flags; |a, b|
            finish(f32_to_f16(source(a, flags) - source(b, flags)), flags)),
        "mul" => single_or_packed!(packed, flags; |a, b|
            finish(f32_to_f16(source(a, flags) * source(b, flags)), flags)),
        "fma" => single_or_packed!(packed, flags; |a, b, c|
            finish(fast::fma_f16(flush(a, flags), flush(b, flags), flush(c, flags)), flags)),
        "neg" => single_or_packed!(packed, flags; |a| flush(a, flags) ^ 0x8000),
        "abs" => single_or_packed!(packed, flags; |a| flush(a, flags) & 0x7fff),
        _ => {
            single_or_packed!(packed, flags; |a, b| extreme(flush(a, flags), flush(b, flags), 0x7c00, flags))
        }
    }
}

/// On bf16. Products are computed in f64, where those of the smallest numbers are exact too.
fn of_bf16(opcode: &str, packed: bool) -> Run {
    match opcode {
        "add" => single_or_packed!(packed, _flags; |a, b| f32_to_bf16(bf16_to_f32(a) + bf16_to_f32(b))),
        "sub" => single_or_packed!(packed, _flags; |a, b| f32_to_bf16(bf16_to_f32(a) - bf16_to_f32(b))),
        "mul" => single_or_packed!(packed, _flags; |a, b|
            f32_to_bf16(fast::to_odd_f32(f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b))))),
        "fma" => single_or_packed!(packed, flags; |a, b, c| relu(fast::fma_bf16(a, b, c), flags)),
        "neg" => single_or_packed!(packed, _flags; |a| a ^ 0x8000),
        "abs" => single_or_packed!(packed, _flags; |a| a & 0x7fff),
        _ => single_or_packed!(packed, flags; |a, b| extreme(a, b, 0x7f80, flags)),
    }
}

/// An f16 or bf16 as an integer of the same order, NaN aside: -0 is below +0.
#[inline(always)]
fn ordered(bits: u16) -> i16 {
    let bits = bits as i16;
    bits ^ (bits >> 15 & 0x7fff)
}

/// `min` or `max` of bits whose magnitudes above `infinity` are NaN.
#[inline(always)]
fn extreme(a: u16, b: u16, infinity: u16, flags: u32) -> u16 {
    let (nan_a, nan_b) = (a & 0x7fff > infinity, b & 0x7fff > infinity);
    let xor = flags & XOR != 0;
    let sign = (a ^ b) & 0x8000;
    let (a, b) = if xor { (a & 0x7fff, b & 0x7fff) } else { (a, b) };
    let a_first = ordered(a) < ordered(b);
    let number = if a_first == (flags & MAX == 0) { a } else { b };
    let number = if nan_a { b } else { number };
    let number = if nan_b { a } else { number };
    let number = if xor { number | sign } else { number };
    let nan = nan_a & nan_b | (flags & NAN != 0) & (nan_a | nan_b);
    if nan { NAN16 } else { number }
}
