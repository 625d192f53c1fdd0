//! shfl, vote, match, redux, elect and activemask: what lanes of a warp tell one another.
//!
//! Lanes of a fragment may name different masks; each set of lanes that names the same one exchanges among itself.

use super::lanes::{LANES, Row, lanes, mask_of};
use super::{Context, Decoded, Flow};
use crate::fault::{Fault, FaultKind};
use crate::program::{Class, Decoder, Meet, Modifiers, Predicate, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// `shfl.sync`
    Shuffle(Box<Shuffle>),
    /// `vote.sync.{all,any,uni}`
    Vote {
        /// Which.
        vote: Vote,
        /// Predicate written.
        dst: u32,
        /// What is voted on.
        src: Predicate,
        /// Row of the masks.
        mask: Slot,
    },
    /// `vote.sync.ballot`
    Ballot {
        /// Row written.
        dst: Slot,
        /// What is voted on.
        src: Predicate,
        /// Row of the masks.
        mask: Slot,
    },
    /// `match.sync`
    Match {
        /// Row written.
        dst: Slot,
        /// Whether all have the same value.
        all: Option<u32>,
        /// Whether all must have it (`.all`).
        every: bool,
        /// First row compared.
        src: Slot,
        /// 1 or 2.
        rows: u8,
        /// Row of the masks.
        mask: Slot,
    },
    /// `redux.sync`
    Reduce {
        /// Which.
        reduction: Reduction,
        /// Row written.
        dst: Slot,
        /// Row read.
        src: Slot,
        /// Row of the masks.
        mask: Slot,
    },
    /// `elect.sync`
    Elect {
        /// Row that gets the leader's lane.
        dst: Slot,
        /// Predicate that is true in the leader alone.
        leader: u32,
        /// Row of the masks.
        mask: Slot,
    },
    /// `activemask`
    Active {
        /// Row written.
        dst: Slot,
    },
}

/// `shfl.sync`
#[derive(Debug)]
pub struct Shuffle {
    mode: Mode,
    dst: Slot,
    valid: Option<u32>,
    src: Slot,
    lane: Slot,
    clamp: Slot,
    mask: Slot,
}

/// From which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    Down,
    Butterfly,
    Index,
}

/// Which vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// True in all.
    All,
    /// True in one at least.
    Any,
    /// The same in all.
    Uniform,
}

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Sum modulo 2³².
    Add,
    /// Least unsigned.
    MinUnsigned,
    /// Least signed.
    MinSigned,
    /// Greatest unsigned.
    MaxUnsigned,
    /// Greatest signed.
    MaxSigned,
    /// Bits that all have.
    And,
    /// Bits that one has at least.
    Or,
    /// Parity of each bit.
    Xor,
}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let mut modifiers = Modifiers::new(inst);
    let (op, mask) = match inst.opcode {
        "shfl" => {
            sync(&mut modifiers)?;
            let mode = match modifiers.take_any(&["up", "down", "bfly", "idx"]) {
                Some("up") => Mode::Up,
                Some("down") => Mode::Down,
                Some("bfly") => Mode::Butterfly,
                Some(_) => Mode::Index,
                None => return Err(modifiers.invalid("its mode is missing")),
            };
            typed(&mut modifiers, &[Type::B32])?;
            decoder.expect(inst, 5..=5)?;
            let (dst, valid) = pair(inst, decoder, &inst.operands[0])?;
            let shuffle = Shuffle {
                mode,
                dst,
                valid,
                src: decoder.src(inst, &inst.operands[1], Type::B32)?,
                lane: decoder.src(inst, &inst.operands[2], Type::B32)?,
                clamp: decoder.src(inst, &inst.operands[3], Type::B32)?,
                mask: decoder.src(inst, &inst.operands[4], Type::B32)?,
            };
            let mask = shuffle.mask;
            (Op::Shuffle(Box::new(shuffle)), Some(mask))
        }
        "vote" => {
            sync(&mut modifiers)?;
            let mode = modifiers.take_any(&["all", "any", "uni", "ballot"]);
            let ty = if mode == Some("ballot") { Type::B32 } else { Type::Pred };
            typed(&mut modifiers, &[ty])?;
            decoder.expect(inst, 3..=3)?;
            let src = decoder.predicate(inst, &inst.operands[1])?;
            let mask = decoder.src(inst, &inst.operands[2], Type::B32)?;
            let vote = match mode {
                Some("all") => Vote::All,
                Some("any") => Vote::Any,
                Some("uni") => Vote::Uniform,
                Some(_) => {
                    let dst = decoder.dst(inst, &inst.operands[0], Type::B32)?;
                    return meeting(Op::Ballot { dst, src, mask }, Some(mask));
                }
                None => return Err(modifiers.invalid("its mode is missing")),
            };
            (Op::Vote { vote, dst: decoder.predicate_dst(inst, &inst.operands[0])?, src, mask }, Some(mask))
        }
        "match" => {
            let every = match modifiers.take_any(&["any", "all"]) {
                Some(mode) => mode == "all",
                None => return Err(modifiers.invalid("its mode is missing")),
            };
            sync(&mut modifiers)?;
            let ty = typed(&mut modifiers, &[Type::B32, Type::B64])?;
            decoder.expect(inst, 3..=3)?;
            let (dst, all) = pair(inst, decoder, &inst.operands[0])?;
            if all.is_some() && !every {
                return Err(modifiers.invalid("match.any gives no predicate"));
            }
            let src = decoder.src(inst, &inst.operands[1], ty)?;
            let mask = decoder.src(inst, &inst.operands[2], Type::B32)?;
            (Op::Match { dst, all, every, src, rows: ty.slots() as u8, mask }, Some(mask))
        }
        "redux" => {
            sync(&mut modifiers)?;
            let name = modifiers.take_any(&["add", "min", "max", "and", "or", "xor"]);
            let ty = modifiers.ty()?;
            modifiers.finish()?;
            let reduction = match (name, ty) {
                (Some("add"), Type::U32 | Type::S32) => Reduction::Add,
                (Some("min"), Type::U32) => Reduction::MinUnsigned,
                (Some("min"), Type::S32) => Reduction::MinSigned,
                (Some("max"), Type::U32) => Reduction::MaxUnsigned,
                (Some("max"), Type::S32) => Reduction::MaxSigned,
                (Some("and"), Type::B32) => Reduction::And,
                (Some("or"), Type::B32) => Reduction::Or,
                (Some("xor"), Type::B32) => Reduction::Xor,
                _ => return Err(modifiers.unsupported("this reduction is not known here")),
            };
            decoder.expect(inst, 3..=3)?;
            let dst = decoder.dst(inst, &inst.operands[0], ty)?;
            let src = decoder.src(inst, &inst.operands[1], ty)?;
            let mask = decoder.src(inst, &inst.operands[2], Type::B32)?;
            (Op::Reduce { reduction, dst, src, mask }, Some(mask))
        }
        "elect" => {
            sync(&mut modifiers)?;
            modifiers.finish()?;
            decoder.expect(inst, 2..=2)?;
            let Operand::Pair(dst, leader) = &inst.operands[0] else {
                return Err(modifiers.invalid("it gives a register and a predicate"));
            };
            let dst = decoder.dst(inst, dst, Type::B32)?;
            let leader = decoder.predicate_dst(inst, leader)?;
            let mask = decoder.src(inst, &inst.operands[1], Type::B32)?;
            (Op::Elect { dst, leader, mask }, Some(mask))
        }
        "activemask" => {
            typed(&mut modifiers, &[Type::B32])?;
            decoder.expect(inst, 1..=1)?;
            (Op::Active { dst: decoder.dst(inst, &inst.operands[0], Type::B32)? }, None)
        }
        _ => return Ok(None),
    };
    meeting(op, mask)
}

fn meeting(op: Op, mask: Option<Slot>) -> Result<Option<Decoded>> {
    let meet = mask.map_or(Meet::Nobody, Meet::Mask);
    Ok(Some(Decoded::new(super::Op::Shuffle(op), Class::Warp).meeting(meet)))
}

fn sync(modifiers: &mut Modifiers) -> Result<()> {
    if modifiers.take("sync") {
        return Ok(());
    }
    Err(modifiers.invalid("without .sync it is not for sm_70 and newer"))
}

fn typed(modifiers: &mut Modifiers, allowed: &[Type]) -> Result<Type> {
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    if allowed.contains(&ty) { Ok(ty) } else { Err(modifiers.invalid("there is no such type for it")) }
}

/// `d` or `d|p`
fn pair<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    operand: &Operand<'a>,
) -> Result<(Slot, Option<u32>)> {
    match operand {
        Operand::Pair(dst, predicate) => {
            Ok((decoder.dst(inst, dst, Type::B32)?, Some(decoder.predicate_dst(inst, predicate)?)))
        }
        _ => Ok((decoder.dst(inst, operand, Type::B32)?, None)),
    }
}

/// What a lane gets of one that is not there: PTX leaves it undefined, so it should not look like a result.
const ABSENT: u32 = u32::MAX;

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match op {
        Op::Shuffle(shuffle) => shuffle.execute(cx, active)?,
        Op::Vote { vote, dst, src, mask } => {
            let value = cx.warp.predicate(*src);
            let mut out = 0;
            groups(cx, *mask, active, |group| {
                let holds = match vote {
                    Vote::All => value & group == group,
                    Vote::Any => value & group != 0,
                    Vote::Uniform => value & group == group || value & group == 0,
                };
                out |= if holds { group } else { 0 };
            })?;
            cx.warp.set_predicate(*dst, out, active);
        }
        Op::Ballot { dst, src, mask } => {
            let value = cx.warp.predicate(*src);
            let mut out = [0; LANES];
            groups(cx, *mask, active, |group| fill(&mut out, group, value & group))?;
            cx.warp.set_row(*dst, &out, active);
        }
        Op::Match { dst, all, every, src, rows, mask } => {
            let low = *cx.warp.row(*src);
            let high = if *rows == 2 { *cx.warp.row(src + 1) } else { [0; LANES] };
            let mut out = [0; LANES];
            let mut same = 0;
            groups(cx, *mask, active, |group| {
                for lane in lanes(group) {
                    let equal = mask_of(|other| low[other] == low[lane] && high[other] == high[lane]) & group;
                    if *every {
                        same |= u32::from(equal == group) << lane;
                        out[lane] = if equal == group { group } else { 0 };
                    } else {
                        out[lane] = equal;
                    }
                }
            })?;
            cx.warp.set_row(*dst, &out, active);
            if let Some(all) = all {
                cx.warp.set_predicate(*all, same, active);
            }
        }
        Op::Reduce { reduction, dst, src, mask } => {
            let value = *cx.warp.row(*src);
            let mut out = [0; LANES];
            groups(cx, *mask, active, |group| {
                let result = lanes(group).map(|lane| value[lane]).reduce(|a, b| reduction.of(a, b));
                fill(&mut out, group, result.unwrap_or(0));
            })?;
            cx.warp.set_row(*dst, &out, active);
        }
        Op::Elect { dst, leader, mask } => {
            let mut out = [0; LANES];
            let mut leaders = 0;
            groups(cx, *mask, active, |group| {
                let lowest = group.trailing_zeros();
                leaders |= 1 << lowest;
                fill(&mut out, group, lowest);
            })?;
            cx.warp.set_row(*dst, &out, active);
            cx.warp.set_predicate(*leader, leaders, active);
        }
        Op::Active { dst } => cx.warp.set_row(*dst, &[active; LANES], active),
    }
    Ok(Flow::Next)
}

impl Shuffle {
    fn execute(&self, cx: &mut Context, active: u32) -> Result<(), Fault> {
        let warp = &mut *cx.warp;
        let (from, clamps, masks) = (warp.row(self.lane), warp.row(self.clamp), warp.row(self.mask));
        let value = warp.row(self.src);
        let mut out = [0; LANES];
        let mut valid = 0;
        for lane in lanes(active) {
            let (mask, offset) = (masks[lane], from[lane] & 31);
            if mask >> lane & 1 == 0 {
                return Err(stranger(lane, mask));
            }
            let at = lane as u32;
            let (clamp, segment) = (clamps[lane] & 31, clamps[lane] >> 8 & 31);
            let highest = at & segment | clamp & !segment;
            let lowest = at & segment;
            let (source, holds) = match self.mode {
                // Below 0 the lane is none: the comparison is one of signed numbers.
                Mode::Up => (at.wrapping_sub(offset), at as i32 - offset as i32 >= highest as i32),
                Mode::Down => (at + offset, at + offset <= highest),
                Mode::Butterfly => (at ^ offset, at ^ offset <= highest),
                Mode::Index => {
                    let source = lowest | offset & !segment;
                    (source, source <= highest)
                }
            };
            let source = if holds { source } else { at };
            valid |= u32::from(holds) << lane;
            let there = mask >> source & active >> source & 1 == 1 && masks[source as usize] == mask;
            out[lane] = if there { value[source as usize] } else { ABSENT };
        }
        warp.set_row(self.dst, &out, active);
        if let Some(predicate) = self.valid {
            warp.set_predicate(predicate, valid, active);
        }
        Ok(())
    }
}

impl Reduction {
    fn of(self, a: u32, b: u32) -> u32 {
        match self {
            Reduction::Add => a.wrapping_add(b),
            Reduction::MinUnsigned => a.min(b),
            Reduction::MinSigned => (a as i32).min(b as i32) as u32,
            Reduction::MaxUnsigned => a.max(b),
            Reduction::MaxSigned => (a as i32).max(b as i32) as u32,
            Reduction::And => a & b,
            Reduction::Or => a | b,
            Reduction::Xor => a ^ b,
        }
    }
}

fn fill(row: &mut Row, group: u32, value: u32) {
    for lane in lanes(group) {
        row[lane] = value;
    }
}

/// Calls `run` with each set of active lanes that name the same mask.
fn groups(cx: &Context, mask: Slot, active: u32, mut run: impl FnMut(u32)) -> Result<(), Fault> {
    let masks = cx.warp.row(mask);
    let mut left = active;
    while left != 0 {
        let mask = masks[left.trailing_zeros() as usize];
        let group = left & mask_of(|lane| masks[lane] == mask);
        if let Some(lane) = lanes(group & !mask).next() {
            return Err(stranger(lane, mask));
        }
        run(group);
        left &= !group;
    }
    Ok(())
}

fn stranger(lane: usize, mask: u32) -> Fault {
    let message = format!("lane {lane} executes it, though its membermask {mask:#010x} does not name it");
    Fault::at(FaultKind::Barrier, lane as u32, message)
}
