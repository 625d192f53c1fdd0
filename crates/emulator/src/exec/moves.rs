//! mov, selp, logic on predicates, special registers.

use super::lanes::{ALL, blend};
use super::sreg::Sreg;
use super::{Context, Decoded, Flow};
use crate::fault::Fault;
use crate::program::{Class, Decoder, Modifiers, Predicate, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Error, Result, Type};

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// `mov` of this many rows.
    Copy {
        /// First row written.
        dst: Slot,
        /// First row read.
        src: Slot,
        /// 1, 2 or 4.
        rows: u8,
    },
    /// `mov.b64 d, {a, b}` and its like.
    Pack(Box<Parts>),
    /// `mov.b64 {a, b}, d` and its like.
    Unpack(Box<Parts>),
    /// `selp`
    Select {
        /// First row written.
        dst: Slot,
        /// Where the predicate holds.
        a: Slot,
        /// Where it does not.
        b: Slot,
        /// 1 or 2.
        rows: u8,
        /// Which it is.
        predicate: Predicate,
    },
    /// `mov.pred`, `not.pred`
    Predicate {
        /// Predicate written.
        dst: u32,
        /// Predicate read.
        src: Predicate,
    },
    /// `and.pred`, `or.pred`, `xor.pred`
    Logic {
        /// Which.
        logic: Logic,
        /// Predicate written.
        dst: u32,
        /// First operand.
        a: Predicate,
        /// Second operand.
        b: Predicate,
    },
    /// A special register into one or two rows.
    Special {
        /// First row written.
        dst: Slot,
        /// Which.
        sreg: Sreg,
    },
    /// A special register that is a predicate.
    SpecialPredicate {
        /// Predicate written.
        dst: u32,
        /// Which.
        sreg: Sreg,
    },
}

/// A value and what it consists of, from the lowest bits up.
#[derive(Debug)]
pub struct Parts {
    /// First row of the value.
    whole: Slot,
    /// Bits of each part.
    bits: u32,
    /// First row of each part.
    parts: Vec<Slot>,
}

/// Of two predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    /// Both.
    And,
    /// One at least.
    Or,
    /// One alone.
    Xor,
}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let mut modifiers = Modifiers::new(inst);
    let op = match inst.opcode {
        "mov" => {
            let ty = modifiers.ty()?;
            modifiers.finish()?;
            decoder.expect(inst, 2..=2)?;
            mov(inst, decoder, ty)?
        }
        "selp" => {
            let ty = modifiers.ty()?;
            modifiers.finish()?;
            decoder.expect(inst, 4..=4)?;
            if !matches!(ty.bits(), 16 | 32 | 64) {
                return Err(modifiers.invalid("it selects 16, 32 or 64 bits"));
            }
            Op::Select {
                dst: decoder.dst(inst, &inst.operands[0], ty)?,
                a: decoder.src(inst, &inst.operands[1], ty)?,
                b: decoder.src(inst, &inst.operands[2], ty)?,
                rows: ty.slots() as u8,
                predicate: decoder.predicate(inst, &inst.operands[3])?,
            }
        }
        "and" | "or" | "xor" | "not" if inst.modifiers == ["pred"] => {
            if inst.opcode == "not" {
                decoder.expect(inst, 2..=2)?;
                let src = decoder.predicate(inst, &inst.operands[1])?;
                let src = Predicate { negated: !src.negated, ..src };
                Op::Predicate { dst: decoder.predicate_dst(inst, &inst.operands[0])?, src }
            } else {
                decoder.expect(inst, 3..=3)?;
                Op::Logic {
                    logic: match inst.opcode {
                        "and" => Logic::And,
                        "or" => Logic::Or,
                        _ => Logic::Xor,
                    },
                    dst: decoder.predicate_dst(inst, &inst.operands[0])?,
                    a: decoder.predicate(inst, &inst.operands[1])?,
                    b: decoder.predicate(inst, &inst.operands[2])?,
                }
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(Decoded::new(super::Op::Moves(op), Class::Move)))
}

fn mov<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, ty: Type) -> Result<Op> {
    let (to, from) = (&inst.operands[0], &inst.operands[1]);
    if let Operand::Name(name, 0) = from
        && decoder.lookup(name).is_none()
        && let Some(sreg) = Sreg::parse(name)
    {
        if sreg.ty().bits() != ty.bits() {
            return Err(Error::invalid(
                inst.line,
                format!("mov.{}: {name} is .{}", ty.name(), sreg.ty().name()),
            ));
        }
        return Ok(if ty == Type::Pred {
            Op::SpecialPredicate { dst: decoder.predicate_dst(inst, to)?, sreg }
        } else {
            Op::Special { dst: decoder.dst(inst, to, ty)?, sreg }
        });
    }
    if ty == Type::Pred {
        return Ok(Op::Predicate {
            dst: decoder.predicate_dst(inst, to)?,
            src: decoder.predicate(inst, from)?,
        });
    }
    if !matches!(ty.bits(), 16 | 32 | 64 | 128) {
        return Err(Error::invalid(inst.line, format!("mov.{}: there is no such move", ty.name())));
    }
    match (to, from) {
        (_, Operand::Vector(parts)) => {
            let element = element(inst, ty, parts.len())?;
            let parts = parts.iter().map(|part| decoder.src(inst, part, element)).collect::<Result<_>>()?;
            let whole = decoder.dst(inst, to, ty)?;
            Ok(Op::Pack(Box::new(Parts { whole, bits: element.bits(), parts })))
        }
        (Operand::Vector(parts), _) => {
            let element = element(inst, ty, parts.len())?;
            let parts = parts.iter().map(|part| decoder.dst(inst, part, element)).collect::<Result<_>>()?;
            let whole = decoder.src(inst, from, ty)?;
            Ok(Op::Unpack(Box::new(Parts { whole, bits: element.bits(), parts })))
        }
        _ => Ok(Op::Copy {
            dst: decoder.dst(inst, to, ty)?,
            src: decoder.src(inst, from, ty)?,
            rows: ty.slots() as u8,
        }),
    }
}

/// The type of each of `count` parts of a value.
fn element(inst: &Instruction, ty: Type, count: usize) -> Result<Type> {
    match (ty.bits(), count) {
        (16, 2) | (32, 4) => Ok(Type::B8),
        (32, 2) | (64, 4) => Ok(Type::B16),
        (64, 2) | (128, 4) => Ok(Type::B32),
        (128, 2) => Ok(Type::B64),
        _ => {
            Err(Error::invalid(inst.line, format!("mov.{}: it does not consist of {count} parts", ty.name())))
        }
    }
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    let warp = &mut *cx.warp;
    match op {
        Op::Copy { dst, src, rows } => {
            for row in 0..u32::from(*rows) {
                copy(&mut warp.rows, dst + row, src + row, active);
            }
        }
        Op::Pack(pack) => {
            if pack.bits >= 32 {
                let rows = pack.bits / 32;
                for (at, part) in (pack.whole..).step_by(rows as usize).zip(&pack.parts) {
                    for row in 0..rows {
                        copy(&mut warp.rows, at + row, part + row, active);
                    }
                }
            } else {
                for (at, parts) in (pack.whole..).zip(pack.parts.chunks((32 / pack.bits) as usize)) {
                    let mut value = [0; 32];
                    for (part, shift) in parts.iter().zip((0..).step_by(pack.bits as usize)) {
                        for (value, part) in value.iter_mut().zip(warp.row(*part)) {
                            *value |= (part & ((1 << pack.bits) - 1)) << shift;
                        }
                    }
                    warp.set_row(at, &value, active);
                }
            }
        }
        Op::Unpack(unpack) => {
            if unpack.bits >= 32 {
                let rows = unpack.bits / 32;
                for (at, part) in (unpack.whole..).step_by(rows as usize).zip(&unpack.parts) {
                    for row in 0..rows {
                        copy(&mut warp.rows, part + row, at + row, active);
                    }
                }
            } else {
                for (at, parts) in (unpack.whole..).zip(unpack.parts.chunks((32 / unpack.bits) as usize)) {
                    let whole = *warp.row(at);
                    for (part, shift) in parts.iter().zip((0..).step_by(unpack.bits as usize)) {
                        let value = whole.map(|whole| whole >> shift & ((1 << unpack.bits) - 1));
                        warp.set_row(*part, &value, active);
                    }
                }
            }
        }
        Op::Select { dst, a, b, rows, predicate } => {
            let chosen = warp.predicate(*predicate);
            for row in 0..u32::from(*rows) {
                let mut value = *warp.row(b + row);
                blend(&mut value, warp.row(a + row), chosen);
                warp.set_row(dst + row, &value, active);
            }
        }
        Op::Predicate { dst, src } => {
            let value = warp.predicate(*src);
            warp.set_predicate(*dst, value, active);
        }
        Op::Logic { logic, dst, a, b } => {
            let (a, b) = (warp.predicate(*a), warp.predicate(*b));
            let value = match logic {
                Logic::And => a & b,
                Logic::Or => a | b,
                Logic::Xor => a ^ b,
            };
            warp.set_predicate(*dst, value, active);
        }
        Op::Special { dst, sreg } => {
            let value = sreg.value(cx.launch, cx.cluster, warp);
            if sreg.ty().slots() == 2 {
                warp.set_wide(*dst, &value, active);
            } else {
                warp.set_row(*dst, &value.map(|value| value as u32), active);
            }
        }
        Op::SpecialPredicate { dst, sreg } => {
            let value = sreg.value(cx.launch, cx.cluster, warp);
            let value = super::lanes::mask_of(|lane| value[lane] != 0);
            warp.set_predicate(*dst, value, active);
        }
    }
    Ok(Flow::Next)
}

/// Copies lanes of one row to another.
#[inline(always)]
fn copy(rows: &mut [[u32; 32]], to: Slot, from: Slot, mask: u32) {
    if mask == ALL {
        rows.copy_within(from as usize..from as usize + 1, to as usize);
    } else {
        let value = rows[from as usize];
        blend(&mut rows[to as usize], &value, mask);
    }
}
