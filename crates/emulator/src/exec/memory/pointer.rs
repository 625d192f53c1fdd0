//! Arithmetic on addresses: cvta, isspacep, mapa, getctarank.

use super::form::Room;
use super::reach::{OFFSET, RANK_SHIFT, window};
use crate::exec::lanes::{lanes, mask_of};
use crate::exec::{Context, Decoded};
use crate::fault::{Fault, FaultKind};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use crate::program::{Class, Decoder, Modifiers, Slot};
use crate::ptx::ast::{Instruction, Operand, Space};
use crate::ptx::{Result, Type};

/// An instruction on addresses.
#[derive(Debug)]
pub enum Op {
    /// `cvta`: from a space to the generic one.
    ToGeneric {
        /// The result.
        dst: Slot,
        /// The address.
        src: Slot,
        /// Its space.
        room: Room,
    },
    /// `cvta.to`
    FromGeneric {
        /// The result.
        dst: Slot,
        /// The address.
        src: Slot,
        /// The result's space.
        room: Room,
    },
    /// `isspacep`
    Is {
        /// The result.
        dst: u32,
        /// The address.
        src: Slot,
        /// The space that is asked for.
        room: Room,
    },
    /// `mapa`: the same place in another block of the cluster.
    Map {
        /// The result.
        dst: Slot,
        /// The address.
        src: Slot,
        /// The block's rank.
        rank: Slot,
        /// Whether addresses have 64 bits.
        wide: bool,
        /// Whether they are generic.
        generic: bool,
    },
    /// `getctarank`
    Rank {
        /// The result.
        dst: Slot,
        /// The address.
        src: Slot,
        /// Whether the address has 64 bits.
        wide: bool,
        /// Whether it is generic.
        generic: bool,
    },
}

/// Decodes cvta, isspacep, mapa, getctarank.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Decoded> {
    let mut modifiers = Modifiers::new(inst);
    let op = match inst.opcode {
        "cvta" => cvta(inst, decoder, &mut modifiers)?,
        "isspacep" => {
            decoder.expect(inst, 2..=2)?;
            let room = Room::take(&mut modifiers);
            match room {
                Room::Generic => return Err(modifiers.invalid("its space is missing")),
                Room::Const => return Err(modifiers.unsupported("constants are not told from global memory")),
                _ => {}
            }
            let dst = decoder.predicate_dst(inst, decoder.operand(inst, 0)?)?;
            let src = decoder.src(inst, decoder.operand(inst, 1)?, Type::B64)?;
            Op::Is { dst, src, room }
        }
        "mapa" => {
            decoder.expect(inst, 3..=3)?;
            let (ty, generic) = cluster_form(&mut modifiers)?;
            let src = shared_address(inst, decoder, &modifiers, ty)?;
            let rank = decoder.src(inst, decoder.operand(inst, 2)?, Type::U32)?;
            let dst = decoder.dst(inst, decoder.operand(inst, 0)?, ty)?;
            Op::Map { dst, src, rank, wide: ty == Type::U64, generic }
        }
        _ => {
            decoder.expect(inst, 2..=2)?;
            let (ty, generic) = cluster_form(&mut modifiers)?;
            let src = shared_address(inst, decoder, &modifiers, ty)?;
            let dst = decoder.dst(inst, decoder.operand(inst, 0)?, Type::U32)?;
            Op::Rank { dst, src, wide: ty == Type::U64, generic }
        }
    };
    modifiers.finish()?;
    Ok(Decoded::new(crate::exec::Op::Memory(super::Op::Pointer(op)), Class::Integer))
}

fn cvta<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, modifiers: &mut Modifiers) -> Result<Op> {
    decoder.expect(inst, 2..=2)?;
    let to = modifiers.take("to");
    let room = Room::take(modifiers);
    match (room, modifiers.ty()?) {
        (Room::Generic, _) => return Err(modifiers.invalid("its space is missing")),
        (_, Type::U64) => {}
        (_, Type::U32) => return Err(modifiers.unsupported("generic addresses have 64 bits")),
        _ => return Err(modifiers.invalid("it converts .u64 or .u32")),
    }
    let src = decoder.src(inst, decoder.operand(inst, 1)?, Type::U64)?;
    let dst = decoder.dst(inst, decoder.operand(inst, 0)?, Type::U64)?;
    // Parameters of calls, though named by .param, lie in local memory.
    let called = decoder.callee || variable(inst, decoder, 1) == Some(Space::Local);
    let room = if called && room == Room::Param { Room::Local } else { room };
    Ok(if to { Op::FromGeneric { dst, src, room } } else { Op::ToGeneric { dst, src, room } })
}

/// The space of the variable that an operand names, if it names one.
fn variable<'a>(inst: &Instruction<'a>, decoder: &Decoder<'a>, operand: usize) -> Option<Space> {
    match inst.operands.get(operand)? {
        Operand::Name(name, _) => match decoder.lookup(name)? {
            crate::program::Symbol::Variable(space, _) => Some(*space),
            _ => None,
        },
        _ => None,
    }
}

/// `{.shared::cluster}.{u32,u64}`: the type, and whether addresses are generic.
fn cluster_form(modifiers: &mut Modifiers) -> Result<(Type, bool)> {
    let generic = match Room::take(modifiers) {
        Room::Generic => true,
        Room::Cluster => false,
        _ => return Err(modifiers.invalid("its space is .shared::cluster or none")),
    };
    match modifiers.ty()? {
        ty @ Type::U64 => Ok((ty, generic)),
        // Of 32 bits there are no generic addresses: the compiler takes them as those of the window.
        ty @ Type::U32 => Ok((ty, false)),
        _ => Err(modifiers.invalid("its type is .u32 or .u64")),
    }
}

/// An address in shared memory, or the name of a variable there.
fn shared_address<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &Modifiers,
    ty: Type,
) -> Result<Slot> {
    if !matches!(variable(inst, decoder, 1), None | Some(Space::Shared)) {
        return Err(modifiers.invalid("the variable is not in shared memory"));
    }
    decoder.src(inst, decoder.operand(inst, 1)?, ty)
}

/// Runs one.
///
/// # Errors
/// `mapa` to a block that the cluster does not have, or of an address that is not in shared memory.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<(), Fault> {
    let own = u64::from(cx.warp.block) << RANK_SHIFT;
    match *op {
        Op::ToGeneric { dst, src, room } => {
            let at = cx.warp.wide(src);
            let generic = at.map(|at| match room {
                // An address of the block's own names the block from here on.
                Room::Shared => SHARED_WINDOW + (own | at & OFFSET),
                Room::Cluster => SHARED_WINDOW.wrapping_add(at),
                Room::Local => LOCAL_WINDOW.wrapping_add(at),
                Room::Param => PARAM_WINDOW.wrapping_add(at),
                Room::Global | Room::Const | Room::Generic => at,
            });
            cx.warp.set_wide(dst, &generic, active);
        }
        Op::FromGeneric { dst, src, room } => {
            let base = match room {
                Room::Shared | Room::Cluster => SHARED_WINDOW,
                Room::Local => LOCAL_WINDOW,
                Room::Param => PARAM_WINDOW,
                Room::Global | Room::Const | Room::Generic => 0,
            };
            let at = cx.warp.wide(src).map(|at| at.wrapping_sub(base));
            cx.warp.set_wide(dst, &at, active);
        }
        Op::Is { dst, src, room } => {
            let at = cx.warp.wide(src);
            let found = mask_of(|lane| match (window(at[lane]), room) {
                (None, Room::Global) => true,
                (Some(Room::Shared), Room::Shared) => (at[lane] - SHARED_WINDOW) & !OFFSET == own,
                (Some(Room::Shared), Room::Cluster) => true,
                (found, room) => found == Some(room),
            });
            cx.warp.set_predicate(dst, found, active);
        }
        Op::Map { dst, src, rank, wide, generic } => {
            let at = if wide { cx.warp.wide(src) } else { cx.warp.row(src).map(u64::from) };
            let ranks = *cx.warp.row(rank);
            let blocks = cx.cluster.blocks.len();
            let mut mapped = at;
            for lane in lanes(active) {
                if ranks[lane] as usize >= blocks {
                    let (kind, rank) = (FaultKind::Instruction, ranks[lane]);
                    let text = format!("mapa asks for block {rank} of a cluster of {blocks}");
                    return Err(Fault::at(kind, lane as u32, text));
                }
                if (generic && window(at[lane]) != Some(Room::Shared)) || (!generic && at[lane] >= WINDOW) {
                    let text = format!("mapa of {:#x}, which is no address of shared memory", at[lane]);
                    return Err(Fault::at(FaultKind::AddressSpace, lane as u32, text));
                }
                let window = if generic { SHARED_WINDOW } else { 0 };
                mapped[lane] = window | u64::from(ranks[lane]) << RANK_SHIFT | at[lane] & OFFSET;
            }
            if wide {
                cx.warp.set_wide(dst, &mapped, active);
            } else {
                cx.warp.set_row(dst, &mapped.map(|at| at as u32), active);
            }
        }
        Op::Rank { dst, src, wide, generic } => {
            let at = if wide { cx.warp.wide(src) } else { cx.warp.row(src).map(u64::from) };
            for lane in lanes(active) {
                if (generic && window(at[lane]) != Some(Room::Shared)) || (!generic && at[lane] >= WINDOW) {
                    let text = format!("getctarank of {:#x}, which is no address of shared memory", at[lane]);
                    return Err(Fault::at(FaultKind::AddressSpace, lane as u32, text));
                }
            }
            let ranks = at.map(|at| (at & (WINDOW - 1)) as u32 >> RANK_SHIFT);
            cx.warp.set_row(dst, &ranks, active);
        }
    }
    Ok(())
}
