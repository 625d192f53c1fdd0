//! `cvt`, in all its forms.
//!
//! Registers may be wider than the types: of a source the low bits are read, a result is extended by its type's sign.
//! Floats become integers clamped to what the integer holds. NaN becomes 0, but 1 followed by zeros where the source is an
//! f64 or the integer has 64 bits. NaNs that stay floats are canonical; between f32 and f64 they keep their sign and the
//! upper bits of what they carry (ptxas 13.0 folds them so), and from a type to itself, with neither rounding nor `.sat`, all.

mod general;

#[cfg(test)]
mod tests;

use super::forms::{source, value_with};
use super::per_lane::{Args, Op as Lanes, Run, choose, lanes};
use super::{Context, Decoded, Flow, per_lane};
use crate::fault::Fault;
use crate::num::Rounding;
use crate::num::fast::{
    self, bf16_to_f32, canonical, f16_to_f32, f32_to_bf16, f32_to_bf16_rz, f32_to_f16, f32_to_f64,
    f64_to_f32, flush_if, relu, saturate,
};
use crate::program::{Class, Decoder, Modifiers};
use crate::ptx::ast::Instruction;
use crate::ptx::{Kind, Result, Type};
use general::{Conversion, convert};

pub use super::per_lane::Op;

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    if inst.opcode != "cvt" {
        return Ok(None);
    }
    let mut modifiers = Modifiers::new(inst);
    let op = if modifiers.take("pack") {
        pack(inst, decoder, modifiers)?
    } else {
        scalar_or_packed(inst, decoder, modifiers)?
    };
    Ok(Some(Decoded::new(super::Op::Convert(op), Class::Convert)))
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
#[inline(always)]
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    per_lane::execute(op, cx, active)
}

fn is_integer(ty: Type) -> bool {
    matches!(ty.kind(), Kind::Unsigned | Kind::Signed) && !matches!(ty, Type::U16x2 | Type::S16x2)
}

/// Whether it is one float, not a pair.
fn is_float(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::Bf16 | Type::Tf32 | Type::F32 | Type::F64)
}

/// Element and bits of an element of a pair.
fn element(ty: Type) -> Option<Type> {
    match ty {
        Type::F16x2 => Some(Type::F16),
        Type::Bf16x2 => Some(Type::Bf16),
        Type::E4m3x2 => Some(Type::E4m3),
        Type::E5m2x2 => Some(Type::E5m2),
        _ => None,
    }
}

/// All but `cvt.pack`.
fn scalar_or_packed<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    mut modifiers: Modifiers,
) -> Result<Lanes> {
    let (to, from) = (modifiers.ty()?, modifiers.ty()?);
    let suffix = modifiers.take_any(&["rn", "rna", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi"]);
    let whole = suffix.is_some_and(|suffix| suffix.ends_with('i'));
    let rounding = suffix.and_then(Rounding::parse);
    let conversion = Conversion {
        from,
        to,
        rounding: rounding.unwrap_or(Rounding::Nearest),
        whole,
        ftz: modifiers.take("ftz"),
        sat: modifiers.take("sat"),
        relu: modifiers.take("relu"),
        finite: modifiers.take("satfinite"),
        register: 0,
    };
    modifiers.finish()?;
    if element(to).is_some() || element(from).is_some() {
        return packed(inst, decoder, &modifiers, conversion, rounding);
    }
    if !(is_integer(to) || is_float(to)) || !(is_integer(from) || is_float(from)) || from == Type::Tf32 {
        return Err(modifiers.invalid(&format!("there is none from .{} to .{}", from.name(), to.name())));
    }
    check(&modifiers, conversion, rounding)?;
    decoder.expect(inst, 2..=2)?;
    let (dst, register) = decoder.wide(inst, decoder.operand(inst, 0)?, to)?;
    let operand = decoder.operand(inst, 1)?;
    let src = match decoder.register(inst, operand) {
        Ok((slot, of)) if of.bits() >= from.bits() => slot,
        // Constants and what is wrong.
        _ => source(inst, decoder, operand, from)?,
    };
    let conversion = Conversion { register: register.bits(), ..conversion };
    let (run, imm) = scalar(conversion);
    Ok(Lanes::Value { run, args: Args { dst, src: [src, 0, 0, 0], imm } })
}

/// Whether a scalar conversion's modifiers are those that it has.
fn check(modifiers: &Modifiers, conversion: Conversion, rounding: Option<Rounding>) -> Result<()> {
    let Conversion { from, to, whole, ftz, sat, relu, finite, .. } = conversion;
    let narrowing = is_float(to) && is_float(from) && from != to && (to.bits() <= from.bits());
    let rounds = match (is_float(from), is_float(to)) {
        (true, false) => rounding.is_some() && whole,
        (false, true) => rounding.is_some() && !whole,
        (false, false) => rounding.is_none(),
        (true, true) if narrowing => rounding.is_some() && !whole,
        (true, true) if from == to => rounding.is_none() || whole,
        (true, true) => rounding.is_none(),
    };
    if !rounds {
        return Err(modifiers.invalid("its rounding is missing, or is none that it has"));
    }
    let away = rounding == Some(Rounding::NearestAway);
    if away && to != Type::Tf32 || to == Type::Tf32 && from != Type::F32 {
        return Err(modifiers.invalid(".rna goes from .f32 to .tf32 alone"));
    }
    if ftz && from != Type::F32 && to != Type::F32 {
        return Err(modifiers.invalid(".ftz is for .f32 alone"));
    }
    let special = matches!(to, Type::F16 | Type::Bf16 | Type::Tf32) && from == Type::F32;
    if (relu || finite) && !special || sat && matches!(to, Type::Bf16 | Type::Tf32) {
        return Err(modifiers.invalid("these modifiers do not go together"));
    }
    Ok(())
}

/// The common conversions each by a function of its own.
macro_rules! pick {
    ($conversion:expr; $($to:ident $from:ident $rounding:ident $whole:literal: $run:expr;)+) => {
        match ($conversion.to, $conversion.from, $conversion.rounding, $conversion.whole) {
            $((Type::$to, Type::$from, Rounding::$rounding, $whole) => Some($run),)+
            _ => None,
        }
    };
}

/// What runs a scalar conversion, and what it has to know.
fn scalar(conversion: Conversion) -> (Run, u32) {
    let Conversion { from, to, ftz, sat, relu: relu_too, finite, register, rounding, .. } = conversion;
    if is_integer(from) && is_integer(to) && !sat {
        return integers(conversion);
    }
    let plain = !sat && !relu_too && !finite && register == to.bits();
    let special = if plain && !ftz { unflushed(conversion) } else { None };
    let special = special.or_else(|| if plain { flushable(conversion, ftz) } else { None });
    let special = special.or_else(|| match (from, to, rounding) {
        (Type::F32, Type::F16, Rounding::Nearest) if relu_too && !finite && !sat && !ftz => {
            Some(lanes!(|a: f32| u16: f32_to_f16(relu(a))))
        }
        (Type::F32, Type::Bf16, Rounding::Nearest) if relu_too && !finite && !ftz => {
            Some(lanes!(|a: f32| u16: f32_to_bf16(relu(a))))
        }
        (Type::F32, Type::Tf32, Rounding::NearestAway) if !finite && !relu_too && !ftz => {
            Some(lanes!(|a: u32| u32: {
                let finite = a & 0x7fff_ffff < 0x7f80_0000;
                (if finite { a.wrapping_add(0x1000) } else { a }) & 0xffff_e000
            }))
        }
        (Type::F32, Type::F32, _) if sat && !conversion.whole => {
            Some(choose!(FTZ = ftz => lanes!(|a: f32| f32: saturate(flush_if::<FTZ>(a)))))
        }
        _ => None,
    });
    if let Some(run) = special {
        return (run, 0);
    }
    let run = match (from.slots(), register > 32) {
        (1, false) => lanes!(imm; |a: u32| u32: convert(Conversion::unpack(imm), a.into()) as u32),
        (1, true) => lanes!(imm; |a: u32| u64: convert(Conversion::unpack(imm), a.into())),
        (_, false) => lanes!(imm; |a: u64| u32: convert(Conversion::unpack(imm), a) as u32),
        (_, true) => lanes!(imm; |a: u64| u64: convert(Conversion::unpack(imm), a)),
    };
    (run, conversion.pack())
}

/// Conversions without modifiers to registers of their type's size.
fn unflushed(conversion: Conversion) -> Option<Run> {
    pick! { conversion;
        F32 F16 Nearest false: lanes!(|a: u16| f32: canonical(f16_to_f32(a)));
        F32 Bf16 Nearest false: lanes!(|a: u16| f32: canonical(bf16_to_f32(a)));
        F16 F32 Nearest false: lanes!(|a: f32| u16: f32_to_f16(a));
        Bf16 F32 Nearest false: lanes!(|a: f32| u16: f32_to_bf16(a));
        Bf16 F32 Zero false: lanes!(|a: f32| u16: f32_to_bf16_rz(a));
        F64 F32 Nearest false: lanes!(|a: f32| f64: f32_to_f64(a));
        F32 F64 Nearest false: lanes!(|a: f64| f32: f64_to_f32(a));
        F32 S32 Nearest false: lanes!(|a: i32| f32: a as f32);
        F32 U32 Nearest false: lanes!(|a: u32| f32: a as f32);
        F32 S16 Nearest false: lanes!(|a: i16| f32: f32::from(a));
        F32 U16 Nearest false: lanes!(|a: u16| f32: f32::from(a));
        F32 S8 Nearest false: lanes!(|a: i8| f32: f32::from(a));
        F32 U8 Nearest false: lanes!(|a: u8| f32: f32::from(a));
        F32 S64 Nearest false: lanes!(|a: i64| f32: a as f32);
        F32 U64 Nearest false: lanes!(|a: u64| f32: a as f32);
        F64 S32 Nearest false: lanes!(|a: i32| f64: f64::from(a));
        F64 U32 Nearest false: lanes!(|a: u32| f64: f64::from(a));
        F64 S64 Nearest false: lanes!(|a: i64| f64: a as f64);
        F64 U64 Nearest false: lanes!(|a: u64| f64: a as f64);
    }
}

/// The same from f32 to integers and whole numbers, with `.ftz` or without.
fn flushable(conversion: Conversion, ftz: bool) -> Option<Run> {
    choose!(FTZ = ftz => pick! { conversion;
        S32 F32 Zero true: lanes!(|a: f32| i32: flush_if::<FTZ>(a) as i32);
        S32 F32 Nearest true: lanes!(|a: f32| i32: flush_if::<FTZ>(a).round_ties_even() as i32);
        S32 F32 Down true: lanes!(|a: f32| i32: flush_if::<FTZ>(a).floor() as i32);
        S32 F32 Up true: lanes!(|a: f32| i32: flush_if::<FTZ>(a).ceil() as i32);
        U32 F32 Zero true: lanes!(|a: f32| u32: flush_if::<FTZ>(a) as u32);
        U32 F32 Nearest true: lanes!(|a: f32| u32: flush_if::<FTZ>(a).round_ties_even() as u32);
        F32 F32 Zero true: lanes!(|a: f32| f32: canonical(flush_if::<FTZ>(a).trunc()));
        F32 F32 Nearest true: lanes!(|a: f32| f32: canonical(flush_if::<FTZ>(a).round_ties_even()));
        F32 F32 Down true: lanes!(|a: f32| f32: canonical(flush_if::<FTZ>(a).floor()));
        F32 F32 Up true: lanes!(|a: f32| f32: canonical(flush_if::<FTZ>(a).ceil()));
    })
}

/// How far the value is shifted up and down again: first for the source's type, then for the result's.
#[inline(always)]
fn extend(bits: u32, signed: bool, x: u64) -> u64 {
    let shift = 64 - bits;
    if signed { ((x << shift) as i64 >> shift) as u64 } else { x << shift >> shift }
}

/// Fields of [`Args::imm`] of [`integers`]: bits less 1, and whether they are signed, of source, result and register.
#[inline(always)]
fn resize(imm: u32, x: u64) -> u64 {
    let from = extend((imm & 63) + 1, imm & 64 != 0, x);
    let to = extend((imm >> 8 & 63) + 1, imm >> 8 & 64 != 0, from);
    extend((imm >> 16 & 63) + 1, false, to)
}

/// [`resize`] for registers of 32 bits.
#[inline(always)]
fn resize_narrow(imm: u32, x: u32) -> u32 {
    let extend = |field: u32, signed: bool, x: u32| {
        let shift = 31 - (field & 31);
        if signed { ((x << shift) as i32 >> shift) as u32 } else { x << shift >> shift }
    };
    let from = extend(imm, imm & 64 != 0, x);
    let to = extend(imm >> 8, imm >> 8 & 64 != 0, from);
    extend(imm >> 16, false, to)
}

/// From integers to integers: bits are dropped or added.
fn integers(conversion: Conversion) -> (Run, u32) {
    let Conversion { from, to, register, .. } = conversion;
    let field = |ty: Type| (ty.bits() - 1) | if ty.kind() == Kind::Signed { 64 } else { 0 };
    let imm = field(from) | field(to) << 8 | (register - 1) << 16;
    let run = match (from, to, register) {
        (Type::U32, Type::U64 | Type::S64, _) => lanes!(|a: u32| u64: a.into()),
        (Type::S32, Type::U64 | Type::S64, _) => lanes!(|a: i32| i64: a.into()),
        (Type::U64 | Type::S64, Type::U32 | Type::S32, 32) => lanes!(|a: u64| u32: a as u32),
        _ if from.bits() <= 32 && register <= 32 => lanes!(imm; |a: u32| u32: resize_narrow(imm, a)),
        _ if from.bits() <= 32 => lanes!(imm; |a: u32| u64: resize(imm, a.into())),
        _ if register <= 32 => lanes!(imm; |a: u64| u32: resize(imm, a) as u32),
        _ => lanes!(imm; |a: u64| u64: resize(imm, a)),
    };
    (run, imm)
}

/// Two results of 16 bits, the first source's above.
#[inline(always)]
fn join(high: u16, low: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// To e4m3 or e5m2.
#[inline(always)]
fn to_8_bits<const E4M3: bool, const RELU: bool>(x: f32) -> u8 {
    let bits = if E4M3 { fast::f32_to_e4m3(x) } else { fast::f32_to_e5m2(x) };
    if RELU && bits & 0x80 != 0 { 0 } else { bits }
}

/// From e4m3 or e5m2 to f16.
#[inline(always)]
fn from_8_bits<const E4M3: bool, const RELU: bool>(bits: u8) -> u16 {
    let bits = if E4M3 { fast::e4m3_to_f16(bits) } else { fast::e5m2_to_f16(bits) };
    if RELU && bits & 0x8000 != 0 { 0 } else { bits }
}

/// Conversions from or to pairs.
fn packed<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &Modifiers,
    conversion: Conversion,
    rounding: Option<Rounding>,
) -> Result<Lanes> {
    let Conversion { from, to, ftz, sat, relu: relu_too, finite, .. } = conversion;
    let none = || modifiers.invalid(&format!("there is none from .{} to .{}", from.name(), to.name()));
    if ftz || sat || conversion.whole {
        return Err(modifiers.invalid("these modifiers do not go together"));
    }
    let one = Conversion { from: element(from).unwrap_or(from), to: element(to).unwrap_or(to), ..conversion };
    let one = Conversion { register: one.to.bits(), ..one };
    let imm = one.pack();
    let run = match (to, from, rounding) {
        (Type::F16x2, Type::F32, Some(Rounding::Nearest)) if !finite => {
            choose!(RELU = relu_too => lanes!(|a: f32, b: f32| u32: {
                let (a, b) = if RELU { (relu(a), relu(b)) } else { (a, b) };
                join(f32_to_f16(a), f32_to_f16(b))
            }))
        }
        (Type::Bf16x2, Type::F32, Some(Rounding::Nearest)) if !finite => {
            choose!(RELU = relu_too => lanes!(|a: f32, b: f32| u32: {
                let (a, b) = if RELU { (relu(a), relu(b)) } else { (a, b) };
                join(f32_to_bf16(a), f32_to_bf16(b))
            }))
        }
        (Type::F16x2 | Type::Bf16x2, Type::F32, Some(Rounding::Nearest | Rounding::Zero)) => {
            lanes!(imm; |a: u32, b: u32| u32: {
                let one = Conversion::unpack(imm);
                join(convert(one, a.into()) as u16, convert(one, b.into()) as u16)
            })
        }
        (Type::E4m3x2 | Type::E5m2x2, Type::F32, Some(Rounding::Nearest)) if finite => {
            let e4m3 = to == Type::E4m3x2;
            choose!(E4M3 = e4m3, RELU = relu_too => lanes!(|a: f32, b: f32| u16: {
                u16::from(to_8_bits::<E4M3, RELU>(a)) << 8 | u16::from(to_8_bits::<E4M3, RELU>(b))
            }))
        }
        (Type::E4m3x2 | Type::E5m2x2, Type::F16x2, Some(Rounding::Nearest)) if finite => {
            let e4m3 = to == Type::E4m3x2;
            choose!(E4M3 = e4m3, RELU = relu_too => lanes!(|a: u32| u16: {
                let [low, high] = [a as u16, (a >> 16) as u16].map(f16_to_f32);
                u16::from(to_8_bits::<E4M3, RELU>(high)) << 8 | u16::from(to_8_bits::<E4M3, RELU>(low))
            }))
        }
        (Type::F16x2, Type::E4m3x2 | Type::E5m2x2, Some(Rounding::Nearest)) if !finite => {
            let e4m3 = from == Type::E4m3x2;
            choose!(E4M3 = e4m3, RELU = relu_too => lanes!(|a: u16| u32: {
                join(from_8_bits::<E4M3, RELU>((a >> 8) as u8), from_8_bits::<E4M3, RELU>(a as u8))
            }))
        }
        (_, _, None) => return Err(modifiers.invalid("its rounding is missing")),
        _ => return Err(none()),
    };
    let sources: &[Type] = if from == Type::F32 { &[Type::F32, Type::F32] } else { &[from] };
    value_with(inst, decoder, run, to, sources, imm)
}

/// `cvt.pack`: two integers clamped and put side by side; bytes above the low half of a third source.
fn pack<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Lanes> {
    if !modifiers.take("sat") {
        return Err(modifiers.invalid(".sat is missing"));
    }
    let (to, from) = (modifiers.ty()?, modifiers.ty()?);
    let with = modifiers.optional_type();
    modifiers.finish()?;
    if from != Type::S32 || with.is_some_and(|with| with != Type::B32) {
        return Err(modifiers.invalid("its sources are .s32, and .b32 the third"));
    }
    let run = match (to, with) {
        (Type::U16, None) => {
            lanes!(|a: i32, b: i32| u32: join(a.clamp(0, 0xffff) as u16, b.clamp(0, 0xffff) as u16))
        }
        (Type::S16, None) => lanes!(|a: i32, b: i32| u32: {
            join(a.clamp(-0x8000, 0x7fff) as u16, b.clamp(-0x8000, 0x7fff) as u16)
        }),
        (Type::U8, Some(_)) => lanes!(|a: i32, b: i32, c: u32| u32: {
            c << 16 | (a.clamp(0, 0xff) as u32) << 8 | b.clamp(0, 0xff) as u32
        }),
        (Type::S8, Some(_)) => lanes!(|a: i32, b: i32, c: u32| u32: {
            c << 16 | (a.clamp(-0x80, 0x7f) as u32 & 0xff) << 8 | b.clamp(-0x80, 0x7f) as u32 & 0xff
        }),
        _ => return Err(modifiers.invalid(&format!("there is none to .{}", to.name()))),
    };
    let sources = [Type::S32, Type::S32, Type::B32];
    value_with(inst, decoder, run, Type::B32, &sources[..if with.is_some() { 3 } else { 2 }], 0)
}
