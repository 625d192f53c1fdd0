//! Bulk copies: cp.async.bulk and its like, which a thread starts and a unit of its own carries out (TMA).
//!
//! An operation is checked and its ranges are told to the [checker](crate::check) when it is issued. It then stays in [`Flights`]
//! until [`advance`] completes it: its source is read and its destination written as late as that, and the destination holds
//! [`POISON`] meanwhile, so that a thread which does not wait sees wrong bytes. Stores to global memory complete in two steps,
//! reading and writing, because programs can wait for either.
//!
//! Also here: tensor maps that a kernel edits, `setmaxnreg`, `griddepcontrol`.

mod flights;
mod issue;
mod maps;
mod place;
mod reduce;
mod registers;
mod syntax;
mod tile;

#[cfg(test)]
mod tests;

use super::lanes::lanes;
use super::{Context, Decoded, Flow, Op as AnyOp};
use crate::check::Thread;
use crate::fault::Fault;
use crate::program::{Class, Decoder, Meet};
use crate::ptx::Result;
use crate::ptx::ast::Instruction;

pub(in crate::exec) use flights::Random;
pub use flights::{Flights, POISON, advance, at_exit};

use syntax::Kind;

/// An instruction of this family.
#[derive(Debug)]
pub struct Op(Kind);

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let Some(kind) = syntax::decode(inst, decoder)? else {
        return Ok(None);
    };
    let meet = match kind {
        Kind::Registers { .. } | Kind::CopyMap { .. } => Meet::Warp,
        _ => Meet::Nobody,
    };
    Ok(Some(Decoded::new(AnyOp::Bulk(Op(kind)), Class::Async).meeting(meet)))
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match &op.0 {
        Kind::Transfer(transfer) => each(cx, active, |cx, lane| issue::transfer(transfer, cx, lane)),
        Kind::Values(values) => each(cx, active, |cx, lane| issue::values(values, cx, lane)),
        Kind::Commit => {
            for lane in lanes(active) {
                let thread = thread(cx, lane);
                cx.cluster.flights.commit(thread);
            }
            Ok(Flow::Next)
        }
        Kind::Wait { pending, reads_only } => Ok(flights::wait(cx, active, *pending, *reads_only)),
        Kind::PrefetchTensor { map, coordinates } => {
            each(cx, active, |cx, lane| maps::prefetch(cx, lane, *map, Some(coordinates.len())))
        }
        Kind::PrefetchMap(map) => each(cx, active, |cx, lane| maps::prefetch(cx, lane, *map, None)),
        Kind::Replace { map, field, value } => {
            each(cx, active, |cx, lane| maps::replace(cx, lane, *map, *field, *value))
        }
        // All lanes copy the same map, together.
        Kind::CopyMap { to, from } => {
            let lane = active.trailing_zeros() as usize;
            maps::copy(cx, lane, *to, *from).map(|()| Flow::Next)
        }
        Kind::Registers { increase, count } => registers::set(cx, *increase, *count),
        Kind::MapFence { scope, acquire } => {
            let warp = cx.warp.number(cx.launch);
            cx.cluster.checker.fence(warp, active, *scope);
            if *acquire {
                cx.cluster.checker.map_fence(warp, active);
            }
            Ok(Flow::Next)
        }
        Kind::Nothing => Ok(Flow::Next),
    }
}

/// Runs `f` for each lane, and says whose fault it is.
fn each(
    cx: &mut Context,
    active: u32,
    f: impl Fn(&mut Context, usize) -> Result<(), Fault>,
) -> Result<Flow, Fault> {
    for lane in lanes(active) {
        f(cx, lane).map_err(|fault| Fault { lane: Some(lane as u32), ..fault })?;
    }
    Ok(Flow::Next)
}

/// A lane of the warp that runs, by the warp's index in the cluster.
fn thread(cx: &Context, lane: usize) -> Thread {
    Thread { warp: cx.warp.block * cx.launch.warps() + cx.warp.index, lane: lane as u32 }
}
