//! f32 and f64: what IEEE 754 defines, in all roundings.
//!
//! Nothing is fused that the text does not fuse. NaN results of f32 are 0x7fffffff. f64 arithmetic hands on the first source
//! that is NaN, made quiet, and makes 0xfff8000000000000 of numbers. `neg`, `abs` and `copysign` work on the sign
//! bit alone. With `.ftz`, f32 sources that are subnormal become zeros of their sign, and so do results that are below the
//! normal numbers when they are rounded to 24 bits.
//!
//! Seen in what ptxas 13.0 folds, or in its own slow paths: 0x7fffffff of `add.f32` and `sqrt.f32`; 0xfff8000000000000 of
//! `sqrt.f64`; the NaN that `rcp.f64` hands on; the smallest results of `mul.ftz` and `div.ftz`. Which of several NaN sources f64
//! hands on is not known.

#[cfg(test)]
mod tests;

use super::forms::{class_of, no_type, source, type_of, value, value_with};
use super::per_lane::{Args, Op as Lanes, Outcome, choose, lanes, tests};
use super::{Context, Decoded, Flow, per_lane};
use crate::fault::Fault;
use crate::num::fast::{self, NAN32, canonical, canonical64, directed, flush_if, saturate};
use crate::num::{F64, Rounding, exact};
use crate::program::{Decoder, Modifiers};
use crate::ptx::ast::Instruction;
use crate::ptx::{Result, Type};

pub use super::per_lane::Op;

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let Some(ty) = type_of(inst) else { return Ok(None) };
    let float = matches!(ty, Type::F32 | Type::F64);
    let op = match inst.opcode {
        "add" | "sub" | "mul" | "fma" | "mad" if float => arithmetic(inst, decoder)?,
        "abs" | "neg" | "copysign" if float => sign(inst, decoder)?,
        "min" | "max" if float => extreme(inst, decoder)?,
        "testp" => property(inst, decoder)?,
        "slct" => select(inst, decoder)?,
        _ => return Ok(None),
    };
    Ok(Some(Decoded::new(super::Op::Float(op), class_of(ty))))
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
#[inline(always)]
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    per_lane::execute(op, cx, active)
}

/// `.ftz`, in [`Args::imm`], where functions are not compiled for it.
const FTZ: u32 = 1;
/// `.sat`
const SAT: u32 = 2;
/// `.NaN`
const NAN: u32 = 4;
/// `.xorsign.abs`
const XOR: u32 = 8;
/// The opcode is `max`.
const MAX: u32 = 16;

#[inline(always)]
fn flush(x: f32, flags: u32) -> f32 {
    if flags & FTZ != 0 { fast::flush(x) } else { x }
}

#[inline(always)]
fn finish_if(x: f32, flags: u32) -> f32 {
    let x = flush(canonical(x), flags);
    if flags & SAT != 0 { saturate(x) } else { x }
}

/// A result: canonical, flushed, clamped.
#[inline(always)]
fn finish<const FTZ: bool, const SAT: bool>(x: f32) -> f32 {
    let x = flush_if::<FTZ>(x);
    if SAT { saturate(x) } else { canonical(x) }
}

/// For functions whose tiny results are exact.
pub(super) fn never_tiny(_: Rounding) -> bool {
    false
}

/// The smallest normal number, of either sign: `.ftz` asks whether the exact result was below it.
#[inline(always)]
pub(super) fn is_smallest(x: f32) -> bool {
    x.to_bits() & 0x7fff_ffff == 0x0080_0000
}

/// A function of f32 sources, rounded to nearest, compiled for `.ftz` and `.sat`; in other roundings for those. The last says
/// whether the exact result is below the normal numbers.
macro_rules! f32_in_all_roundings {
    ($rounding:expr, $ftz:expr, $sat:expr; |$($x:ident),+| $function:ident($($argument:expr),+);
        $tiny:path, $($exact:expr),*) => {
        match $rounding {
            Rounding::Zero => f32_in_all_roundings!(@ZERO |$($x),+| $function($($argument),+); $tiny, $($exact),*),
            Rounding::Down => f32_in_all_roundings!(@DOWN |$($x),+| $function($($argument),+); $tiny, $($exact),*),
            Rounding::Up => f32_in_all_roundings!(@UP |$($x),+| $function($($argument),+); $tiny, $($exact),*),
            _ => choose!(FTZ = $ftz, SAT = $sat => lanes!(_flags; |$($x: f32),+| f32: {
                $(let $x = flush_if::<FTZ>($x);)+
                finish::<FTZ, SAT>(fast::$function::<{ directed::NEAREST }>($($argument),+))
            }; again |value| FTZ && is_smallest(value) => {
                $(let $x = flush_if::<FTZ>($x);)+
                let _ = ($($x,)+);
                if $tiny($($exact,)* Rounding::Nearest) { 0f32.copysign(value) } else { value }
            })),
        }
    };
    (@$mode:ident |$($x:ident),+| $function:ident($($argument:expr),+); $tiny:path, $($exact:expr),*) => {
        lanes!(flags; |$($x: f32),+| f32: {
            $(let $x = flush($x, flags);)+
            finish_if(fast::$function::<{ directed::$mode }>($($argument),+), flags)
        }; again |value| flags & 1 != 0 && is_smallest(value) => {
            $(let $x = flush($x, flags);)+
            let _ = ($($x,)+);
            let tiny = $tiny($($exact,)* directed::rounding(directed::$mode));
            if tiny { 0f32.copysign(value) } else { value }
        })
    };
}

/// A function of f64 sources: one for round to nearest, one for the others.
macro_rules! f64_in_all_roundings {
    ($rounding:expr; |$($x:ident),+| $nearest:expr, $function:ident($($argument:expr),+)) => {
        match $rounding {
            Rounding::Nearest => lanes!(|$($x: f64),+| f64: canonical64($nearest, [$($x),+])),
            Rounding::Zero => f64_in_all_roundings!(@Zero |$($x),+| $function($($argument),+)),
            Rounding::Down => f64_in_all_roundings!(@Down |$($x),+| $function($($argument),+)),
            _ => f64_in_all_roundings!(@Up |$($x),+| $function($($argument),+)),
        }
    };
    (@$mode:ident |$($x:ident),+| $function:ident($($argument:expr),+)) => {
        lanes!(|$($x: f64),+| f64: {
            let bits = exact::$function(F64, $($argument.to_bits()),+, Rounding::$mode);
            canonical64(f64::from_bits(bits), [$($x),+])
        })
    };
}

pub(super) use {f32_in_all_roundings, f64_in_all_roundings};

/// `add`, `sub`, `mul`, `fma`, `mad`.
fn arithmetic<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Lanes> {
    let mut modifiers = Modifiers::new(inst);
    let ty = modifiers.ty()?;
    let suffix = modifiers.take_any(&["rn", "rz", "rm", "rp"]).and_then(Rounding::parse);
    let (ftz, sat) = (modifiers.take("ftz"), modifiers.take("sat"));
    let fused = matches!(inst.opcode, "fma" | "mad");
    if fused && suffix.is_none() {
        return Err(modifiers.invalid("its rounding is missing"));
    }
    modifiers.finish()?;
    let rounding = suffix.unwrap_or(Rounding::Nearest);
    let sources = if fused { 3 } else { 2 };
    let run = match (ty, inst.opcode) {
        (Type::F64, _) if ftz || sat => return Err(modifiers.invalid("there is no .ftz or .sat for .f64")),
        (Type::F64, "add") => f64_in_all_roundings!(rounding; |a, b| a + b, add(a, b)),
        (Type::F64, "sub") => f64_in_all_roundings!(rounding; |a, b| a - b, add(a, (-b))),
        (Type::F64, "mul") => f64_in_all_roundings!(rounding; |a, b| a * b, mul(a, b)),
        (Type::F64, _) => f64_in_all_roundings!(rounding; |a, b, c| a.mul_add(b, c), fma(a, b, c)),
        (_, "add") => f32_in_all_roundings!(rounding, ftz, sat; |a, b| add(a, b); never_tiny,),
        (_, "sub") => f32_in_all_roundings!(rounding, ftz, sat; |a, b| add(a, -b); never_tiny,),
        (_, "mul") => {
            f32_in_all_roundings!(rounding, ftz, sat; |a, b| mul(a, b); exact::fma_is_tiny, a, b, 0.0)
        }
        (_, _) => {
            f32_in_all_roundings!(rounding, ftz, sat; |a, b, c| fma(a, b, c); exact::fma_is_tiny, a, b, c)
        }
    };
    let flags = if ftz { FTZ } else { 0 } | if sat { SAT } else { 0 };
    value_with(inst, decoder, run, ty, &[ty; 3][..sources], flags)
}

/// `abs`, `neg`, `copysign`.
fn sign<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Lanes> {
    let mut modifiers = Modifiers::new(inst);
    let ty = modifiers.ty()?;
    let ftz = modifiers.take("ftz");
    modifiers.finish()?;
    if ftz && (ty == Type::F64 || inst.opcode == "copysign") {
        return Err(modifiers.invalid("there is no .ftz for it"));
    }
    let run = match (ty, inst.opcode) {
        (Type::F64, "abs") => lanes!(|a: u64| u64: a & !F64.sign()),
        (Type::F64, "neg") => lanes!(|a: u64| u64: a ^ F64.sign()),
        (Type::F64, _) => lanes!(|a: u64, b: u64| u64: a & F64.sign() | b & !F64.sign()),
        (_, "abs") => choose!(FTZ = ftz => lanes!(|a: f32| u32: flush_if::<FTZ>(a).to_bits() & 0x7fff_ffff)),
        (_, "neg") => choose!(FTZ = ftz => lanes!(|a: f32| u32: flush_if::<FTZ>(a).to_bits() ^ 0x8000_0000)),
        (_, _) => lanes!(|a: u32, b: u32| u32: a & 0x8000_0000 | b & 0x7fff_ffff),
    };
    value(inst, decoder, run, ty, &[ty; 2][..if inst.opcode == "copysign" { 2 } else { 1 }])
}

/// A number as an integer of the same order, NaN aside: -0 is below +0.
#[inline(always)]
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ (bits >> 31 & 0x7fff_ffff)
}

#[inline(always)]
fn ordered64(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    bits ^ (bits >> 63 & i64::MAX)
}

#[inline(always)]
fn extreme_of(a: f32, b: f32, flags: u32) -> f32 {
    let (nan_a, nan_b) = (a.is_nan(), b.is_nan());
    let xor = flags & XOR != 0;
    let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
    let (a, b) = if xor { (a.abs(), b.abs()) } else { (a, b) };
    let a_first = ordered(a) < ordered(b);
    let number = if a_first == (flags & MAX == 0) { a } else { b };
    let number = if nan_a { b } else { number };
    let number = if nan_b { a } else { number };
    let number = if xor { f32::from_bits(number.to_bits() | sign) } else { number };
    let nan = nan_a & nan_b | (flags & NAN != 0) & (nan_a | nan_b);
    if nan { NAN32 } else { number }
}

#[inline(always)]
fn extreme_of64(a: f64, b: f64, max: bool) -> f64 {
    let a_first = ordered64(a) < ordered64(b);
    let number = if a_first != max { a } else { b };
    let number = if a.is_nan() { b } else { number };
    let number = if b.is_nan() { a } else { number };
    if a.is_nan() & b.is_nan() { fast::quiet64(a) } else { number }
}

/// `min` and `max`. Where one source is NaN the other is the result, unless `.NaN` asks for NaN.
fn extreme<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Lanes> {
    let mut modifiers = Modifiers::new(inst);
    let ty = modifiers.ty()?;
    let mut flags = if inst.opcode == "max" { MAX } else { 0 };
    for (name, flag) in [("ftz", FTZ), ("NaN", NAN), ("xorsign", XOR)] {
        if modifiers.take(name) {
            flags |= flag;
        }
    }
    if flags & XOR != 0 && !modifiers.take("abs") {
        return Err(modifiers.invalid(".xorsign is written .xorsign.abs"));
    }
    modifiers.finish()?;
    if inst.operands.len() == 4 {
        return Err(modifiers.unsupported("with three sources it needs sm_100"));
    }
    let run = match ty {
        Type::F32 => lanes!(flags; |a: f32, b: f32| f32: extreme_of(flush(a, flags), flush(b, flags), flags)),
        Type::F64 if flags & !MAX == 0 => {
            lanes!(flags; |a: f64, b: f64| f64: extreme_of64(a, b, flags & MAX != 0))
        }
        _ => return Err(modifiers.invalid("there are no modifiers for .f64")),
    };
    value_with(inst, decoder, run, ty, &[ty; 2], flags)
}

/// `testp`. Zeros count as normal numbers, as the manual has it.
fn property<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Lanes> {
    let mut modifiers = Modifiers::new(inst);
    let names = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
    let Some(name) = modifiers.take_any(&names) else {
        return Err(modifiers.invalid("what it tests is missing"));
    };
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let test = match (name, ty) {
        ("finite", Type::F32) => tests!(|a: f32| a.is_finite()),
        ("infinite", Type::F32) => tests!(|a: f32| a.is_infinite()),
        ("number", Type::F32) => tests!(|a: f32| !a.is_nan()),
        ("notanumber", Type::F32) => tests!(|a: f32| a.is_nan()),
        ("normal", Type::F32) => tests!(|a: f32| a.is_normal() || a == 0.0),
        ("subnormal", Type::F32) => tests!(|a: f32| a.is_subnormal()),
        ("finite", Type::F64) => tests!(|a: f64| a.is_finite()),
        ("infinite", Type::F64) => tests!(|a: f64| a.is_infinite()),
        ("number", Type::F64) => tests!(|a: f64| !a.is_nan()),
        ("notanumber", Type::F64) => tests!(|a: f64| a.is_nan()),
        ("normal", Type::F64) => tests!(|a: f64| a.is_normal() || a == 0.0),
        ("subnormal", Type::F64) => tests!(|a: f64| a.is_subnormal()),
        _ => return Err(no_type(&modifiers, ty)),
    };
    decoder.expect(inst, 2..=2)?;
    let p = decoder.predicate_dst(inst, decoder.operand(inst, 0)?)?;
    let a = source(inst, decoder, decoder.operand(inst, 1)?, ty)?;
    let args = Args { src: [a, 0, 0, 0], ..Args::default() };
    Ok(Lanes::Compare { tests: [test, test], args, join: None, outcome: Outcome::Predicates { p, q: None } })
}

/// `slct`: the first source where the third is not negative; NaN counts as negative, -0 does not.
fn select<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Lanes> {
    let mut modifiers = Modifiers::new(inst);
    let (ty, by) = (modifiers.ty()?, modifiers.ty()?);
    // A subnormal that is flushed is a zero, and zeros select the first.
    let ftz = modifiers.take("ftz");
    modifiers.finish()?;
    if ftz && by != Type::F32 {
        return Err(modifiers.invalid("there is no .ftz for it"));
    }
    let run = match (ty.bits(), by) {
        (16, Type::S32) => lanes!(|a: u16, b: u16, c: i32| u16: if c >= 0 { a } else { b }),
        (32, Type::S32) => lanes!(|a: u32, b: u32, c: i32| u32: if c >= 0 { a } else { b }),
        (64, Type::S32) => lanes!(|a: u64, b: u64, c: i32| u64: if c >= 0 { a } else { b }),
        (16, Type::F32) => choose!(FTZ = ftz =>
            lanes!(|a: u16, b: u16, c: f32| u16: if flush_if::<FTZ>(c) >= 0.0 { a } else { b })),
        (32, Type::F32) => choose!(FTZ = ftz =>
            lanes!(|a: u32, b: u32, c: f32| u32: if flush_if::<FTZ>(c) >= 0.0 { a } else { b })),
        (64, Type::F32) => choose!(FTZ = ftz =>
            lanes!(|a: u64, b: u64, c: f32| u64: if flush_if::<FTZ>(c) >= 0.0 { a } else { b })),
        _ => return Err(no_type(&modifiers, by)),
    };
    value(inst, decoder, run, ty, &[ty, ty, by])
}
