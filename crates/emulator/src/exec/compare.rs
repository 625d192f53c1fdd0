//! `setp` and `set`, of all types.

use super::Decoded;
use super::forms::{class_of, is_bits, is_half, is_integer, source};
use super::per_lane::{Args, Join, Op, Outcome, Test, choose, tests};
use crate::num::fast::{bf16_to_f32, f16_to_f32, flush_bf16, flush_f16, flush_if};
use crate::num::{BF16, F16, F32};
use crate::program::{Decoder, Modifiers};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Kind, Result, Type};

const LESS: u32 = 1;
const EQUAL: u32 = 2;
const GREATER: u32 = 4;
const UNORDERED: u32 = 8;

/// In which of four cases a comparison holds: less, equal, greater, and one of them NaN.
pub(super) fn relation(name: &str) -> Option<u32> {
    Some(match name {
        "eq" => EQUAL,
        "ne" => LESS | GREATER,
        "lt" | "lo" => LESS,
        "le" | "ls" => LESS | EQUAL,
        "gt" | "hi" => GREATER,
        "ge" | "hs" => GREATER | EQUAL,
        "equ" => EQUAL | UNORDERED,
        "neu" => LESS | GREATER | UNORDERED,
        "ltu" => LESS | UNORDERED,
        "leu" => LESS | EQUAL | UNORDERED,
        "gtu" => GREATER | UNORDERED,
        "geu" => GREATER | EQUAL | UNORDERED,
        "num" => LESS | EQUAL | GREATER,
        "nan" => UNORDERED,
        _ => return None,
    })
}

/// Whether a relation that stands in `cases` holds.
#[inline(always)]
fn holds<T: PartialOrd>(cases: u32, a: T, b: T) -> bool {
    let (less, equal, greater) = (a < b, a == b, a > b);
    let unordered = !(less | equal | greater);
    (cases & LESS != 0) & less
        | (cases & EQUAL != 0) & equal
        | (cases & GREATER != 0) & greater
        | (cases & UNORDERED != 0) & unordered
}

/// What compares elements of a type; for pairs the low and the high ones.
fn comparison(ty: Type, ftz: bool) -> Option<[Test; 2]> {
    let one = match ty {
        Type::B16 | Type::U16 => tests!(cases; |a: u16, b: u16| holds(cases, a, b)),
        Type::S16 => tests!(cases; |a: i16, b: i16| holds(cases, a, b)),
        Type::B32 | Type::U32 => tests!(cases; |a: u32, b: u32| holds(cases, a, b)),
        Type::S32 => tests!(cases; |a: i32, b: i32| holds(cases, a, b)),
        Type::B64 | Type::U64 => tests!(cases; |a: u64, b: u64| holds(cases, a, b)),
        Type::S64 => tests!(cases; |a: i64, b: i64| holds(cases, a, b)),
        Type::F32 => {
            choose!(FTZ = ftz => tests!(cases; |a: f32, b: f32| holds(cases, flush_if::<FTZ>(a), flush_if::<FTZ>(b))))
        }
        Type::F64 => tests!(cases; |a: f64, b: f64| holds(cases, a, b)),
        Type::F16 => {
            choose!(FTZ = ftz => tests!(cases; |a: u16, b: u16| holds(cases, f16::<FTZ>(a), f16::<FTZ>(b))))
        }
        Type::Bf16 => {
            choose!(FTZ = ftz => tests!(cases; |a: u16, b: u16| holds(cases, bf16::<FTZ>(a), bf16::<FTZ>(b))))
        }
        Type::F16x2 => {
            return Some(choose!(FTZ = ftz => [
                tests!(cases; |a: u32, b: u32| holds(cases, f16::<FTZ>(a as u16), f16::<FTZ>(b as u16))),
                tests!(cases; |a: u32, b: u32| holds(cases, f16::<FTZ>((a >> 16) as u16), f16::<FTZ>((b >> 16) as u16))),
            ]));
        }
        Type::Bf16x2 => {
            return Some(choose!(FTZ = ftz => [
                tests!(cases; |a: u32, b: u32| holds(cases, bf16::<FTZ>(a as u16), bf16::<FTZ>(b as u16))),
                tests!(cases; |a: u32, b: u32| holds(cases, bf16::<FTZ>((a >> 16) as u16), bf16::<FTZ>((b >> 16) as u16))),
            ]));
        }
        _ => return None,
    };
    Some([one, one])
}

#[inline(always)]
fn f16<const FTZ: bool>(bits: u16) -> f32 {
    f16_to_f32(if FTZ { flush_f16(bits) } else { bits })
}

#[inline(always)]
fn bf16<const FTZ: bool>(bits: u16) -> f32 {
    bf16_to_f32(if FTZ { flush_bf16(bits) } else { bits })
}

/// Decodes `setp` and `set`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let mut modifiers = Modifiers::new(inst);
    let names = [
        "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu",
        "num", "nan",
    ];
    let Some(name) = modifiers.take_any(&names) else {
        return Err(modifiers.invalid("its comparison is missing"));
    };
    let join = modifiers.take_any(&["and", "or", "xor"]).and_then(Join::parse);
    let ftz = modifiers.take("ftz");
    let result = if inst.opcode == "set" { Some(modifiers.ty()?) } else { None };
    let ty = modifiers.ty()?;
    let allowed = match ty.kind() {
        Kind::Float => !matches!(name, "lo" | "ls" | "hi" | "hs"),
        Kind::Unsigned => matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "lo" | "ls" | "hi" | "hs"),
        Kind::Signed => matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge"),
        _ => is_bits(ty) && matches!(name, "eq" | "ne"),
    };
    if !allowed {
        return Err(modifiers.invalid(&format!("there is no .{name} for .{}", ty.name())));
    }
    if ftz && !(ty == Type::F32 || is_half(ty)) {
        return Err(modifiers.invalid("there is no .ftz for this type"));
    }
    modifiers.finish()?;
    let Some(tests) = comparison(ty, ftz) else {
        return Err(modifiers.invalid(&format!("there is none for .{}", ty.name())));
    };
    let count = if join.is_some() { 4 } else { 3 };
    decoder.expect(inst, count..=count)?;
    let packed = matches!(ty, Type::F16x2 | Type::Bf16x2);
    let first = decoder.operand(inst, 0)?;
    let (dst, outcome) = match result {
        Some(result) => {
            let Some(outcome) = outcome_of_set(result, ty) else {
                return Err(modifiers.invalid(&format!(
                    "there is none to .{} from .{}",
                    result.name(),
                    ty.name()
                )));
            };
            (decoder.dst(inst, first, result)?, outcome)
        }
        None => (0, outcome_of_setp(inst, decoder, first, packed, &modifiers)?),
    };
    let a = source(inst, decoder, decoder.operand(inst, 1)?, ty)?;
    let b = source(inst, decoder, decoder.operand(inst, 2)?, ty)?;
    let join = match join {
        Some(join) => Some((join, decoder.predicate(inst, decoder.operand(inst, 3)?)?)),
        None => None,
    };
    let args = Args { dst, src: [a, b, 0, 0], imm: relation(name).unwrap_or(0) };
    let op = Op::Compare { tests, args, join, outcome };
    Ok(Some(Decoded::new(super::Op::Integer(op), class_of(ty))))
}

fn outcome_of_setp<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    operand: &Operand<'a>,
    packed: bool,
    modifiers: &Modifiers,
) -> Result<Outcome> {
    match operand {
        Operand::Pair(p, q) => {
            let (p, q) = (decoder.predicate_dst(inst, p)?, decoder.predicate_dst(inst, q)?);
            Ok(if packed { Outcome::Both { p, q } } else { Outcome::Predicates { p, q: Some(q) } })
        }
        _ if packed => Err(modifiers.invalid("expected two predicates, p|q")),
        operand => Ok(Outcome::Predicates { p: decoder.predicate_dst(inst, operand)?, q: None }),
    }
}

/// What `set` writes where a comparison of `ty` holds.
fn outcome_of_set(result: Type, ty: Type) -> Option<Outcome> {
    let plain = is_integer(ty) || is_bits(ty) || matches!(ty, Type::F16 | Type::Bf16 | Type::F32 | Type::F64);
    let half = matches!(ty, Type::F16 | Type::Bf16);
    match (result, ty) {
        (Type::U32 | Type::S32, Type::F16x2 | Type::Bf16x2) => Some(Outcome::Halves(0xffff)),
        (Type::F16x2, Type::F16x2) => Some(Outcome::Halves(F16.one() as u32)),
        (Type::Bf16x2, Type::Bf16x2) => Some(Outcome::Halves(BF16.one() as u32)),
        (Type::U32 | Type::S32, _) if plain => Some(Outcome::Register(!0)),
        (Type::U16 | Type::S16, _) if half => Some(Outcome::Register(0xffff)),
        (Type::F32, _) if plain && !half => Some(Outcome::Register(F32.one() as u32)),
        (Type::F16, _) if plain => Some(Outcome::Register(F16.one() as u32)),
        (Type::Bf16, _) if plain => Some(Outcome::Register(BF16.one() as u32)),
        _ => None,
    }
}
