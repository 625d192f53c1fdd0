//! Sums, products, quotients, extremes.

use super::super::forms::{no_type, value, value_with};
use super::super::per_lane::{Op, Run, lanes};
use crate::program::{Decoder, Modifiers};
use crate::ptx::ast::Instruction;
use crate::ptx::{Kind, Result, Type};

/// By the size of the type alone.
macro_rules! sized {
    ($ty:expr; |$($x:ident),+| $body:expr) => {
        match $ty {
            Type::U16 | Type::S16 => Some(lanes!(|$($x: u16),+| u16: $body)),
            Type::U32 | Type::S32 => Some(lanes!(|$($x: u32),+| u32: $body)),
            Type::U64 | Type::S64 => Some(lanes!(|$($x: u64),+| u64: $body)),
            _ => None,
        }
    };
}

/// By size and sign.
macro_rules! typed {
    ($ty:expr; |$($x:ident),+| $body:expr) => {
        match $ty {
            Type::U16 => Some(lanes!(|$($x: u16),+| u16: $body)),
            Type::S16 => Some(lanes!(|$($x: i16),+| i16: $body)),
            Type::U32 => Some(lanes!(|$($x: u32),+| u32: $body)),
            Type::S32 => Some(lanes!(|$($x: i32),+| i32: $body)),
            Type::U64 => Some(lanes!(|$($x: u64),+| u64: $body)),
            Type::S64 => Some(lanes!(|$($x: i64),+| i64: $body)),
            _ => None,
        }
    };
}

/// By size, for signed types alone.
macro_rules! signed {
    ($ty:expr; |$($x:ident),+| $body:expr) => {
        match $ty {
            Type::S16 => Some(lanes!(|$($x: i16),+| i16: $body)),
            Type::S32 => Some(lanes!(|$($x: i32),+| i32: $body)),
            Type::S64 => Some(lanes!(|$($x: i64),+| i64: $body)),
            _ => None,
        }
    };
}

/// Which part of a product is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Low,
    High,
    Wide,
}

fn part(modifiers: &mut Modifiers) -> Result<Part> {
    match modifiers.take_any(&["lo", "hi", "wide"]) {
        Some("lo") => Ok(Part::Low),
        Some("hi") => Ok(Part::High),
        Some(_) => Ok(Part::Wide),
        None => Err(modifiers.invalid("one of .lo, .hi and .wide is missing")),
    }
}

/// Decodes all but dot products.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Op> {
    let mut modifiers = Modifiers::new(inst);
    let ty = modifiers.ty()?;
    match inst.opcode {
        "mul" | "mad" => return product(inst, decoder, modifiers, ty),
        "mul24" | "mad24" => return product24(inst, decoder, modifiers, ty),
        _ => {}
    }
    let saturate = modifiers.take("sat");
    let relu = modifiers.take("relu");
    let run = match inst.opcode {
        "add" if saturate => only_s32(ty, lanes!(|a: i32, b: i32| i32: a.saturating_add(b))),
        "sub" if saturate => only_s32(ty, lanes!(|a: i32, b: i32| i32: a.saturating_sub(b))),
        _ if saturate => None,
        "min" | "max" => extreme(inst.opcode, ty, relu),
        _ if relu => None,
        "add" if matches!(ty, Type::U16x2 | Type::S16x2) => {
            Some(lanes!(|a: u32, b: u32| u32: pairs(a, b, |a, b| a.wrapping_add(b))))
        }
        "add" => sized!(ty; |a, b| a.wrapping_add(b)),
        "sub" => sized!(ty; |a, b| a.wrapping_sub(b)),
        "div" => typed!(ty; |a, b| if b == 0 { !0 } else { a.wrapping_div(b) }),
        "rem" => typed!(ty; |a, b| if b == 0 { !0 } else { a.wrapping_rem(b) }),
        "abs" => signed!(ty; |a| a.wrapping_abs()),
        "neg" => signed!(ty; |a| a.wrapping_neg()),
        "sad" => {
            typed!(ty; |a, b, c| c.wrapping_add(if a < b { b.wrapping_sub(a) } else { a.wrapping_sub(b) }))
        }
        _ => None,
    };
    let run = run.ok_or_else(|| no_type(&modifiers, ty))?;
    modifiers.finish()?;
    match inst.opcode {
        "abs" | "neg" => value(inst, decoder, run, ty, &[ty]),
        "sad" => value(inst, decoder, run, ty, &[ty; 3]),
        _ => value(inst, decoder, run, ty, &[ty; 2]),
    }
}

fn only_s32(ty: Type, run: Run) -> Option<Run> {
    (ty == Type::S32).then_some(run)
}

/// `min` and `max`; with `relu` what is negative becomes 0.
fn extreme(opcode: &str, ty: Type, relu: bool) -> Option<Run> {
    match (opcode, ty, relu) {
        ("min", Type::S32, true) => Some(lanes!(|a: i32, b: i32| i32: a.min(b).max(0))),
        (_, Type::S32, true) => Some(lanes!(|a: i32, b: i32| i32: a.max(b).max(0))),
        ("min", Type::S16x2, true) => {
            Some(lanes!(|a: u32, b: u32| u32: pairs(a, b, |a, b| (a as i16).min(b as i16).max(0) as u16)))
        }
        (_, Type::S16x2, true) => {
            Some(lanes!(|a: u32, b: u32| u32: pairs(a, b, |a, b| (a as i16).max(b as i16).max(0) as u16)))
        }
        (_, _, true) => None,
        ("min", Type::S16x2, false) => {
            Some(lanes!(|a: u32, b: u32| u32: pairs(a, b, |a, b| (a as i16).min(b as i16) as u16)))
        }
        (_, Type::S16x2, false) => {
            Some(lanes!(|a: u32, b: u32| u32: pairs(a, b, |a, b| (a as i16).max(b as i16) as u16)))
        }
        ("min", Type::U16x2, false) => Some(lanes!(|a: u32, b: u32| u32: pairs(a, b, |a, b| a.min(b)))),
        (_, Type::U16x2, false) => Some(lanes!(|a: u32, b: u32| u32: pairs(a, b, |a, b| a.max(b)))),
        ("min", _, false) => typed!(ty; |a, b| a.min(b)),
        (_, _, false) => typed!(ty; |a, b| a.max(b)),
    }
}

/// Does something to both halves.
#[inline(always)]
fn pairs(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// The upper half of a product of 64 bits by 64.
#[inline(always)]
fn high_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

#[inline(always)]
fn high_i64(a: i64, b: i64) -> i64 {
    ((i128::from(a) * i128::from(b)) >> 64) as i64
}

/// `mul` and `mad`.
fn product<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    mut modifiers: Modifiers,
    ty: Type,
) -> Result<Op> {
    let part = part(&mut modifiers)?;
    let saturate = modifiers.take("sat");
    let add = inst.opcode == "mad";
    if saturate && !(add && part == Part::High && ty == Type::S32) {
        return Err(modifiers.invalid(".sat is for mad.hi.s32 alone"));
    }
    modifiers.finish()?;
    let run = match (part, add) {
        (Part::Low, false) => sized!(ty; |a, b| a.wrapping_mul(b)),
        (Part::Low, true) => sized!(ty; |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        (Part::High, false) => match ty {
            Type::U16 => Some(lanes!(|a: u16, b: u16| u16: ((u32::from(a) * u32::from(b)) >> 16) as u16)),
            Type::S16 => Some(lanes!(|a: i16, b: i16| i16: ((i32::from(a) * i32::from(b)) >> 16) as i16)),
            Type::U32 => Some(lanes!(|a: u32, b: u32| u32: ((u64::from(a) * u64::from(b)) >> 32) as u32)),
            Type::S32 => Some(lanes!(|a: i32, b: i32| i32: ((i64::from(a) * i64::from(b)) >> 32) as i32)),
            Type::U64 => Some(lanes!(|a: u64, b: u64| u64: high_u64(a, b))),
            Type::S64 => Some(lanes!(|a: i64, b: i64| i64: high_i64(a, b))),
            _ => None,
        },
        (Part::High, true) => match ty {
            Type::S32 if saturate => Some(
                lanes!(|a: i32, b: i32, c: i32| i32: (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c)),
            ),
            Type::U16 => Some(
                lanes!(|a: u16, b: u16, c: u16| u16: (((u32::from(a) * u32::from(b)) >> 16) as u16).wrapping_add(c)),
            ),
            Type::S16 => Some(
                lanes!(|a: i16, b: i16, c: i16| i16: (((i32::from(a) * i32::from(b)) >> 16) as i16).wrapping_add(c)),
            ),
            Type::U32 => Some(
                lanes!(|a: u32, b: u32, c: u32| u32: (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)),
            ),
            Type::S32 => Some(
                lanes!(|a: i32, b: i32, c: i32| i32: (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)),
            ),
            Type::U64 => Some(lanes!(|a: u64, b: u64, c: u64| u64: high_u64(a, b).wrapping_add(c))),
            Type::S64 => Some(lanes!(|a: i64, b: i64, c: i64| i64: high_i64(a, b).wrapping_add(c))),
            _ => None,
        },
        (Part::Wide, false) => match ty {
            Type::U16 => Some(lanes!(|a: u16, b: u16| u32: u32::from(a) * u32::from(b))),
            Type::S16 => Some(lanes!(|a: i16, b: i16| i32: i32::from(a) * i32::from(b))),
            Type::U32 => Some(lanes!(|a: u32, b: u32| u64: u64::from(a) * u64::from(b))),
            Type::S32 => Some(lanes!(|a: i32, b: i32| i64: i64::from(a) * i64::from(b))),
            _ => None,
        },
        (Part::Wide, true) => match ty {
            Type::U16 => {
                Some(lanes!(|a: u16, b: u16, c: u32| u32: (u32::from(a) * u32::from(b)).wrapping_add(c)))
            }
            Type::S16 => {
                Some(lanes!(|a: i16, b: i16, c: i32| i32: (i32::from(a) * i32::from(b)).wrapping_add(c)))
            }
            Type::U32 => {
                Some(lanes!(|a: u32, b: u32, c: u64| u64: (u64::from(a) * u64::from(b)).wrapping_add(c)))
            }
            Type::S32 => {
                Some(lanes!(|a: i32, b: i32, c: i64| i64: (i64::from(a) * i64::from(b)).wrapping_add(c)))
            }
            _ => None,
        },
    };
    let run = run.ok_or_else(|| no_type(&modifiers, ty))?;
    let result = match (part, ty.kind(), ty.bits()) {
        (Part::Wide, Kind::Signed, 16) => Type::S32,
        (Part::Wide, Kind::Signed, _) => Type::S64,
        (Part::Wide, _, 16) => Type::U32,
        (Part::Wide, _, _) => Type::U64,
        _ => ty,
    };
    let sources = [ty, ty, result];
    value(inst, decoder, run, result, &sources[..if add { 3 } else { 2 }])
}

#[inline(always)]
fn u24(a: u32) -> u64 {
    u64::from(a & 0xff_ffff)
}

#[inline(always)]
fn s24(a: i32) -> i64 {
    i64::from(a << 8 >> 8)
}

/// `mul24` and `mad24`: products of 48 bits, of which `.lo` takes the lower 32 and `.hi` the upper.
fn product24<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    mut modifiers: Modifiers,
    ty: Type,
) -> Result<Op> {
    let part = part(&mut modifiers)?;
    let saturate = modifiers.take("sat");
    let add = inst.opcode == "mad24";
    if saturate && !(add && part == Part::High && ty == Type::S32) {
        return Err(modifiers.invalid(".sat is for mad24.hi.s32 alone"));
    }
    modifiers.finish()?;
    let run = match (part, ty, add) {
        (Part::Low, Type::U32, false) => lanes!(|a: u32, b: u32| u32: (u24(a) * u24(b)) as u32),
        (Part::Low, Type::S32, false) => lanes!(|a: i32, b: i32| i32: (s24(a) * s24(b)) as i32),
        (Part::High, Type::U32, false) => lanes!(|a: u32, b: u32| u32: ((u24(a) * u24(b)) >> 16) as u32),
        (Part::High, Type::S32, false) => lanes!(|a: i32, b: i32| i32: ((s24(a) * s24(b)) >> 16) as i32),
        (Part::Low, Type::U32, true) => {
            lanes!(|a: u32, b: u32, c: u32| u32: ((u24(a) * u24(b)) as u32).wrapping_add(c))
        }
        (Part::Low, Type::S32, true) => {
            lanes!(|a: i32, b: i32, c: i32| i32: ((s24(a) * s24(b)) as i32).wrapping_add(c))
        }
        (Part::High, Type::U32, true) => {
            lanes!(|a: u32, b: u32, c: u32| u32: (((u24(a) * u24(b)) >> 16) as u32).wrapping_add(c))
        }
        (Part::High, Type::S32, true) if saturate => {
            lanes!(|a: i32, b: i32, c: i32| i32: (((s24(a) * s24(b)) >> 16) as i32).saturating_add(c))
        }
        (Part::High, Type::S32, true) => {
            lanes!(|a: i32, b: i32, c: i32| i32: (((s24(a) * s24(b)) >> 16) as i32).wrapping_add(c))
        }
        _ => return Err(no_type(&modifiers, ty)),
    };
    value(inst, decoder, run, ty, &[ty; 3][..if add { 3 } else { 2 }])
}

/// Byte `index` of a word, extended.
#[inline(always)]
fn byte(word: u32, index: u32, signed: bool) -> u32 {
    let byte = (word >> (8 * index)) as u8;
    if signed { byte as i8 as u32 } else { u32::from(byte) }
}

/// Half `index` of a word, extended.
#[inline(always)]
fn half(word: u32, index: u32, signed: bool) -> u32 {
    let half = (word >> (16 * index)) as u16;
    if signed { half as i16 as u32 } else { u32::from(half) }
}

/// Four products of bytes, and a sum.
#[inline(always)]
fn dot4(a: u32, b: u32, c: u32, imm: u32) -> u32 {
    let (signed_a, signed_b) = (imm & 1 != 0, imm & 2 != 0);
    (0..4).fold(c, |sum, i| sum.wrapping_add(byte(a, i, signed_a).wrapping_mul(byte(b, i, signed_b))))
}

/// Two products of a half and a byte, and a sum.
#[inline(always)]
fn dot2(a: u32, b: u32, c: u32, imm: u32) -> u32 {
    let (signed_a, signed_b, high) = (imm & 1 != 0, imm & 2 != 0, imm & 4 != 0);
    (0..2).fold(c, |sum, i| {
        let byte = byte(b, i + if high { 2 } else { 0 }, signed_b);
        sum.wrapping_add(half(a, i, signed_a).wrapping_mul(byte))
    })
}

/// `dp4a` and `dp2a`.
pub fn decode_dot<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Op> {
    let mut modifiers = Modifiers::new(inst);
    let (a, b) = (modifiers.ty()?, modifiers.ty()?);
    for ty in [a, b] {
        if !matches!(ty, Type::U32 | Type::S32) {
            return Err(no_type(&modifiers, ty));
        }
    }
    let mut imm = u32::from(a == Type::S32) | u32::from(b == Type::S32) << 1;
    let run = if inst.opcode == "dp2a" {
        match modifiers.take_any(&["lo", "hi"]) {
            Some("hi") => imm |= 4,
            Some(_) => {}
            None => return Err(modifiers.invalid("one of .lo and .hi is missing")),
        }
        lanes!(imm; |a: u32, b: u32, c: u32| u32: dot2(a, b, c, imm))
    } else {
        lanes!(imm; |a: u32, b: u32, c: u32| u32: dot4(a, b, c, imm))
    };
    modifiers.finish()?;
    value_with(inst, decoder, run, Type::B32, &[Type::B32; 3], imm)
}
