//! atom and red: lanes one after another, lowest first; each element of a vector for itself.

mod decode;
mod update;

use std::sync::atomic::{Ordering, fence};

use super::memory::form::{Place, acquires, releases};
use super::memory::reach::{OFFSET, RANK_SHIFT, Reach, Request};
use super::memory::thread;
use super::{Context, Flow};
use crate::check::{Access, Order};
use crate::exec::lanes::lanes;
use crate::fault::Fault;
use crate::memory::Allocation;
use crate::program::Slot;

pub use decode::decode;
pub use update::{Operation, Update};

/// An instruction of this family.
#[derive(Debug)]
pub struct Op {
    place: Place,
    order: Order,
    update: Update,
    request: Request,
    /// Of each element: where the old value goes, and the operands.
    elements: Vec<Element>,
}

/// Registers of an element.
#[derive(Clone, Copy, Debug)]
struct Element {
    /// `None` for `red`.
    dst: Option<Slot>,
    b: Slot,
    /// The same as `b` where there is no third operand.
    c: Slot,
}

impl Op {
    /// Bytes of an element.
    fn bytes(&self) -> u32 {
        self.update.ty.bytes()
    }

    /// An operand of a lane.
    fn value(&self, cx: &Context, slot: Slot, lane: usize) -> u128 {
        let slots = self.bytes().div_ceil(4);
        (0..slots).fold(0, |value, index| value | u128::from(cx.warp.row(slot + index)[lane]) << (32 * index))
    }

    /// Gives a lane the old value.
    fn set(&self, cx: &mut Context, element: Element, lane: usize, old: u128) {
        let Some(dst) = element.dst else { return };
        for index in 0..self.bytes().div_ceil(4) {
            cx.warp.rows[(dst + index) as usize][lane] = (old >> (32 * index)) as u32;
        }
    }
}

/// Runs one.
///
/// # Errors
/// An address that leads nowhere or where no atomics are, or what the checker found.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    let addresses = cx.warp.addresses(op.place.address);
    let reach = Reach::new(op.place.room, cx.warp, active, addresses, op.request)?;
    for (wrong, window, space) in [
        (reach.local, crate::memory::LOCAL_WINDOW, "global or shared"),
        (reach.param, crate::memory::PARAM_WINDOW, "global or shared"),
        (if op.elements.len() > 1 { reach.shared } else { 0 }, crate::memory::SHARED_WINDOW, "global"),
    ] {
        if let Some(lane) = lanes(wrong).next() {
            return Err(op.request.misplaced(lane, reach.at[lane] + window, space));
        }
    }
    if releases(op.order) {
        fence(Ordering::Release);
    }
    cx.cluster.counters.atomics += u64::from(active.count_ones());
    if reach.global != 0 {
        global(op, cx, &reach)?;
    }
    if reach.shared != 0 {
        shared(op, cx, &reach)?;
    }
    if acquires(op.order) {
        fence(Ordering::Acquire);
    }
    Ok(Flow::Next)
}

fn global(op: &Op, cx: &mut Context, reach: &Reach) -> Result<(), Fault> {
    let (request, at) = (op.request, &reach.at);
    request.aligned(reach.global, at, "")?;
    cx.cluster.counters.global(Access::Atomic, at, reach.global, request.bytes);
    let mut left = reach.global;
    while left != 0 {
        let (allocation, here) = cx.warp.lookups.find(cx.launch.memory, cx.pc, request, left, at)?;
        for lane in lanes(here) {
            let offset = at[lane] - allocation.base;
            let (who, bytes) = (thread(cx, lane), request.bytes);
            cx.cluster.checker.global(who, &allocation, offset, bytes, Access::Atomic, op.order, cx.pc)?;
            let mut place = offset;
            for element in &op.elements {
                let (b, c) = (op.value(cx, element.b, lane), op.value(cx, element.c, lane));
                let (old, new) = replace(&allocation, place, op.update, b, c);
                cx.cluster.altered += u64::from(old != new);
                op.set(cx, *element, lane, old);
                place += u64::from(op.bytes());
            }
        }
        cx.warp.lookups.back(cx.pc, allocation);
        left &= !here;
    }
    Ok(())
}

/// Updates a place in global memory; returns its old value and its new one.
fn replace(allocation: &Allocation, offset: u64, update: Update, b: u128, c: u128) -> (u128, u128) {
    match update.ty.bytes() {
        16 => {
            let old = allocation.update_wide(offset, |old| update.wide(old, b, c));
            (old, update.wide(old, b, c))
        }
        bytes => {
            let new = |old| update.apply(old, b as u64, c as u64, true);
            let old = allocation.update(offset, bytes, new);
            (old.into(), new(old).into())
        }
    }
}

fn shared(op: &Op, cx: &mut Context, reach: &Reach) -> Result<(), Fault> {
    let (request, at) = (op.request, &reach.at);
    request.aligned(reach.shared, at, " of shared memory")?;
    request.data_in_shared(cx.cluster, cx.launch, cx.warp.block, reach.shared, at)?;
    cx.cluster.counters.shared(Access::Atomic, at, reach.shared, request.bytes);
    let element = op.elements[0];
    for lane in lanes(reach.shared) {
        let (rank, offset) = ((at[lane] >> RANK_SHIFT) as u32, (at[lane] & OFFSET) as u32);
        let who = thread(cx, lane);
        cx.cluster.checker.shared(who, rank, offset, request.bytes, Access::Atomic, op.order, cx.pc)?;
        let (b, c) = (op.value(cx, element.b, lane), op.value(cx, element.c, lane));
        let bytes = op.bytes() as usize;
        let place = &mut cx.cluster.blocks[rank as usize].shared[offset as usize..][..bytes];
        let mut old = [0; 16];
        old[..bytes].copy_from_slice(place);
        let old = u128::from_le_bytes(old);
        let new = match bytes {
            16 => op.update.wide(old, b, c),
            _ => op.update.apply(old as u64, b as u64, c as u64, false).into(),
        };
        place.copy_from_slice(&new.to_le_bytes()[..bytes]);
        cx.cluster.altered += u64::from(old != new);
        op.set(cx, element, lane, old);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
