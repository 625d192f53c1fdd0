//! What the special function unit has a part in: quotients, roots, exponentials, angles.
//!
//! `.rn`, `.rz`, `.rm` and `.rp` are exact. The approximations are computed in f64 and rounded to f32 or less: they are closer
//! to the truth than the device's, and within every bound of its manual, so a kernel must not count on their last
//! bits. Corner cases are the manual's. What it says and what is done:
//!
//! | | bound | here |
//! |---|---|---|
//! | `div.approx.f32` | 2 ulp for divisors of 2^-126 to 2^126; beyond 2^126 it is 0 | a · (1 / b), each rounded |
//! | `div.full.f32` | 2 ulp | rounded to nearest |
//! | `rcp.approx.f32`, `sqrt.approx.f32`, `rsqrt.approx.f32` | 1 ulp, 2^-23, 2^-22.9 | rounded to nearest |
//! | `ex2.approx.f32` | 2 ulp | 1/2 ulp and a hair |
//! | `lg2.approx.f32` | 2^-22 absolute on (1/2, 2), relative elsewhere | 1/2 ulp and a hair |
//! | `sin.approx.f32`, `cos.approx.f32` | 2^-20.5 absolute in [-2π, 2π], 2^-14.7 in [-100π, 100π] | exact of the angle times 1/2π, which is cut to f32 as on the device |
//! | `tanh.approx` | 2^-11 relative | 1/2 ulp and a hair |
//! | `ex2.approx` of f16, bf16 | 2^-9.9, 2^-7 relative | rounded to nearest |
//! | `rcp.approx.ftz.f64`, `rsqrt.approx.ftz.f64` | from and to the upper 32 bits | cut off there |

#[cfg(test)]
mod tests;

use super::float::{f32_in_all_roundings, f64_in_all_roundings, is_smallest, never_tiny};
use super::forms::{class_of, no_type, type_of, value_with};
use super::per_lane::{self, Run, choose, lanes};
use super::{Context, Decoded, Flow};
use crate::fault::Fault;
use crate::num::fast::{
    self, bf16_to_f32, canonical, canonical64, directed, f16_to_f32, f32_to_bf16, f32_to_f16, flush_bf16,
    flush_if, saturate,
};
use crate::num::{F64, Rounding, approx, exact};
use crate::program::{Class, Decoder, Modifiers};
use crate::ptx::ast::Instruction;
use crate::ptx::{Result, Type};

/// An instruction of this family.
#[derive(Clone, Debug)]
pub struct Op {
    /// What it does.
    pub(super) op: per_lane::Op,
    /// How many operations of the unit that is for a lane.
    operations: u32,
}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let Some(ty) = type_of(inst) else { return Ok(None) };
    let mut modifiers = Modifiers::new(inst);
    let run = match inst.opcode {
        "div" if !matches!(ty, Type::F32 | Type::F64) => return Ok(None),
        "div" | "rcp" | "sqrt" | "rsqrt" => quotient_or_root(inst, &mut modifiers)?,
        "ex2" | "lg2" | "sin" | "cos" | "tanh" => function(inst, &mut modifiers)?,
        _ => return Ok(None),
    };
    modifiers.finish()?;
    let flags = u32::from(inst.modifiers.contains(&"ftz"));
    let sources = if inst.opcode == "div" { 2 } else { 1 };
    let op = value_with(inst, decoder, run, ty, &[ty; 2][..sources], flags)?;
    let operations = if matches!(ty, Type::F16x2 | Type::Bf16x2) { 2 } else { 1 };
    let class = if ty == Type::F64 { class_of(ty) } else { Class::Special };
    Ok(Some(Decoded::new(super::Op::Special(Op { op, operations }), class)))
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
#[inline(always)]
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    cx.cluster.counters.special_operations += u64::from(active.count_ones() * op.operations);
    per_lane::execute(&op.op, cx, active)
}

/// `.ftz`, in [`Args::imm`](per_lane::Args), where functions are not compiled for it.
#[inline(always)]
fn flush(x: f32, flags: u32) -> f32 {
    if flags & 1 != 0 { fast::flush(x) } else { x }
}

#[inline(always)]
fn finish_if(x: f32, flags: u32) -> f32 {
    flush(canonical(x), flags)
}

#[inline(always)]
fn finish<const FTZ: bool, const SAT: bool>(x: f32) -> f32 {
    let x = flush_if::<FTZ>(canonical(x));
    if SAT { saturate(x) } else { x }
}

/// `1 / a`, for the macros that name functions of [`exact`].
mod reciprocal {
    use crate::num::{F64, Format, Rounding, exact};

    pub fn of(format: Format, a: u64, rounding: Rounding) -> u64 {
        exact::div(format, F64.one(), a, rounding)
    }
}

/// `a · (1 / b)`: where the reciprocal is subnormal, the device's is 0.
#[inline(always)]
fn approximate_quotient(a: f32, b: f32) -> f32 {
    let large = b.abs() > f32::from_bits(0x7e80_0000) && b.is_finite();
    let reciprocal = if large { 0.0f32.copysign(b) } else { 1.0 / b };
    a * reciprocal
}

/// The upper 32 bits of an f64, as the f64 with the lower ones 0; subnormals become zeros.
#[inline(always)]
fn upper(x: f64) -> f64 {
    let bits = x.to_bits() & 0xffff_ffff_0000_0000;
    f64::from_bits(if bits & 0x7ff0_0000_0000_0000 == 0 { bits & F64.sign() } else { bits })
}

/// What the gross approximations of f64 give: the upper half of the result.
#[inline(always)]
fn upper_result(x: f64) -> f64 {
    if x.is_nan() { f64::from_bits(0x7fff_ffff_0000_0000) } else { upper(x) }
}

/// `div`, `rcp`, `sqrt`, `rsqrt`.
fn quotient_or_root(inst: &Instruction, modifiers: &mut Modifiers) -> Result<Run> {
    let ty = modifiers.ty()?;
    let how = modifiers.take_any(&["approx", "full", "rn", "rz", "rm", "rp"]);
    let ftz = modifiers.take("ftz");
    let Some(how) = how else { return Err(modifiers.invalid("how it is rounded is missing")) };
    if ty == Type::F64 && ftz && how != "approx" {
        return Err(modifiers.invalid("there is no .ftz for .f64"));
    }
    if let Some(rounding) = Rounding::parse(how) {
        return match (ty, inst.opcode) {
            (Type::F32, "div") => {
                Ok(f32_in_all_roundings!(rounding, ftz, false; |a, b| div(a, b); exact::div_is_tiny, a, b))
            }
            (Type::F32, "rcp") => {
                Ok(f32_in_all_roundings!(rounding, ftz, false; |a| div(1.0, a); exact::div_is_tiny, 1.0, a))
            }
            (Type::F32, "sqrt") => Ok(f32_in_all_roundings!(rounding, ftz, false; |a| sqrt(a); never_tiny,)),
            (Type::F64, "div") => Ok(f64_in_all_roundings!(rounding; |a, b| a / b, div(a, b))),
            (Type::F64, "rcp") => {
                use reciprocal as exact;
                Ok(f64_in_all_roundings!(rounding; |a| 1.0 / a, of(a)))
            }
            (Type::F64, "sqrt") => Ok(f64_in_all_roundings!(rounding; |a| a.sqrt(), sqrt(a))),
            _ => Err(no_type(modifiers, ty)),
        };
    }
    match (inst.opcode, how, ty) {
        ("div", "approx", Type::F32) => Ok(choose!(FTZ = ftz => lanes!(|a: f32, b: f32| f32:
            finish::<FTZ, false>(approximate_quotient(flush_if::<FTZ>(a), flush_if::<FTZ>(b)))))),
        ("div", "full", Type::F32) => Ok(choose!(FTZ = ftz => lanes!(|a: f32, b: f32| f32:
            finish::<FTZ, false>(flush_if::<FTZ>(a) / flush_if::<FTZ>(b))))),
        ("rcp", "approx", Type::F32) => Ok(choose!(FTZ = ftz => lanes!(|a: f32| f32:
            finish::<FTZ, false>(1.0 / flush_if::<FTZ>(a))))),
        ("sqrt", "approx", Type::F32) => Ok(choose!(FTZ = ftz => lanes!(|a: f32| f32:
            finish::<FTZ, false>(flush_if::<FTZ>(a).sqrt())))),
        ("rsqrt", "approx", Type::F32) => Ok(choose!(FTZ = ftz => lanes!(|a: f32| f32:
            finish::<FTZ, false>(approx::rsqrt(flush_if::<FTZ>(a)))))),
        ("rcp", "approx", Type::F64) if ftz => Ok(lanes!(|a: f64| f64: upper_result(1.0 / upper(a)))),
        ("rsqrt", "approx", Type::F64) if ftz => {
            Ok(lanes!(|a: f64| f64: upper_result(1.0 / upper(a).sqrt())))
        }
        ("rsqrt", "approx", Type::F64) => Ok(lanes!(|a: f64| f64: canonical64(1.0 / a.sqrt(), [a]))),
        _ => Err(modifiers.invalid(&format!("there is no .{how} for .{}", ty.name()))),
    }
}

/// A function of f16 and its pair form.
macro_rules! f16_function {
    ($packed:expr, $function:path) => {
        if $packed {
            lanes!(|a: u32| u32: {
                let low = f32_to_f16($function(f16_to_f32(a as u16)));
                let high = f32_to_f16($function(f16_to_f32((a >> 16) as u16)));
                u32::from(low) | u32::from(high) << 16
            })
        } else {
            lanes!(|a: u16| u16: f32_to_f16($function(f16_to_f32(a))))
        }
    };
}

/// A function of bf16 and its pair form; `$flush` is what is done to sources and results.
macro_rules! bf16_function {
    ($packed:expr, $flush:path, $function:path) => {
        if $packed {
            lanes!(|a: u32| u32: {
                let low = $flush(f32_to_bf16($function(bf16_to_f32($flush(a as u16)))));
                let high = $flush(f32_to_bf16($function(bf16_to_f32($flush((a >> 16) as u16)))));
                u32::from(low) | u32::from(high) << 16
            })
        } else {
            lanes!(|a: u16| u16: $flush(f32_to_bf16($function(bf16_to_f32($flush(a))))))
        }
    };
}

#[inline(always)]
fn keep(bits: u16) -> u16 {
    bits
}

macro_rules! f32_function {
    ($ftz:expr, $function:path) => {
        choose!(FTZ = $ftz => lanes!(|a: f32| f32: finish::<FTZ, false>($function(flush_if::<FTZ>(a)))))
    };
}

/// `ex2`, `lg2`, `sin`, `cos`, `tanh`.
fn function(inst: &Instruction, modifiers: &mut Modifiers) -> Result<Run> {
    let ty = modifiers.ty()?;
    if !modifiers.take("approx") {
        return Err(modifiers.invalid(".approx is missing"));
    }
    let ftz = modifiers.take("ftz");
    let packed = ty.bits() == 32;
    Ok(match (inst.opcode, ty, ftz) {
        ("ex2", Type::F32, _) => f32_function!(ftz, approx::ex2),
        ("lg2", Type::F32, _) => f32_function!(ftz, approx::lg2),
        ("sin", Type::F32, _) => f32_function!(ftz, approx::sin),
        ("cos", Type::F32, _) => f32_function!(ftz, approx::cos),
        ("tanh", Type::F32, false) => f32_function!(false, approx::tanh),
        ("ex2", Type::F16 | Type::F16x2, false) => f16_function!(packed, approx::ex2),
        ("tanh", Type::F16 | Type::F16x2, false) => f16_function!(packed, approx::tanh),
        ("ex2", Type::Bf16 | Type::Bf16x2, true) => bf16_function!(packed, flush_bf16, approx::ex2),
        ("tanh", Type::Bf16 | Type::Bf16x2, false) => bf16_function!(packed, keep, approx::tanh),
        _ => return Err(no_type(modifiers, ty)),
    })
}
