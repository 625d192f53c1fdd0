//! cp.async and its groups.
//!
//! A copy runs when a wait needs it, not before: a program that forgets to wait sees the old bytes.

use std::sync::Arc;

use super::lanes::{WideRow, lanes};
use super::memory::form::{Place, Room, hints, policy};
use super::memory::reach::{OFFSET, RANK_SHIFT, Reach, Request};
use super::memory::thread;
use super::{Block, Cluster, Context, Decoded, Flow, Warp};
use crate::check::{self, Access, Asynchronous, Flight, Object};
use crate::fault::{Fault, FaultKind};
use crate::memory::Allocation;
use crate::program::{Class, Decoder, Modifiers, Predicate, Slot, Symbol};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// `cp.async`
    Copy(Copy),
    /// `cp.async.commit_group`
    Commit,
    /// `cp.async.wait_group`: all but so many of the latest groups.
    Wait(u32),
    /// `cp.async.wait_all`
    WaitAll,
}

/// A copy of 4, 8 or 16 bytes for each lane.
#[derive(Debug)]
pub struct Copy {
    dst: Place,
    src: Place,
    bytes: u32,
    /// How many are read; zeros follow.
    size: Option<Slot>,
    /// Where true, nothing is read.
    ignore: Option<Predicate>,
}

/// The copies of a warp's lanes that are in flight.
#[derive(Debug, Default)]
pub struct Groups {
    /// How many groups each lane has committed.
    committed: [u32; 32],
    flying: Vec<Flying>,
}

/// Copies that one instruction started, from one allocation.
#[derive(Debug)]
struct Flying {
    lanes: u32,
    /// The number of each lane's group.
    group: [u32; 32],
    /// Where to: `rank << 24 | offset`.
    dst: WideRow,
    bytes: u32,
    /// Where from; `None` where nothing is read.
    src: Option<(Arc<Allocation>, WideRow)>,
    /// How many bytes are read.
    sizes: [u32; 32],
    flights: [Flight; 32],
}

/// Decodes an instruction of this family: `cp.async` without `.bulk`.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let bulk = inst.modifiers.iter().any(|name| matches!(*name, "bulk" | "reduce"));
    if inst.opcode != "cp" || bulk || !inst.modifiers.contains(&"async") {
        return Ok(None);
    }
    let mut modifiers = Modifiers::new(inst);
    modifiers.take("async");
    let op = match modifiers.take_any(&["commit_group", "wait_group", "wait_all", "mbarrier"]) {
        Some("commit_group") => {
            decoder.expect(inst, 0..=0)?;
            Op::Commit
        }
        Some("wait_all") => {
            decoder.expect(inst, 0..=0)?;
            Op::WaitAll
        }
        Some("wait_group") => {
            decoder.expect(inst, 1..=1)?;
            match decoder.operand(inst, 0)? {
                Operand::Int(count) => Op::Wait((*count).min(u32::MAX.into()) as u32),
                _ => return Err(modifiers.invalid("the number of groups is a constant")),
            }
        }
        Some(_) => return Err(modifiers.unsupported("arrival of copies at an mbarrier is not known")),
        None => Op::Copy(decode_copy(inst, decoder, &mut modifiers)?),
    };
    modifiers.finish()?;
    Ok(Some(Decoded::new(super::Op::Copy(op), Class::Async)))
}

fn decode_copy<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers,
) -> Result<Copy> {
    let operator = modifiers.take_any(&["ca", "cg"]);
    if modifiers.take_any(&["shared", "shared::cta"]).is_none() || !modifiers.take("global") {
        return Err(modifiers.invalid("it copies from .global to .shared"));
    }
    let hinted = hints(modifiers, &[]);
    let last = 3 + usize::from(hinted);
    decoder.expect(inst, last..=last + 1)?;
    if hinted {
        policy(inst, decoder, inst.operands.len() - 1)?;
    }
    let bytes = match (operator, decoder.operand(inst, 2)?) {
        (Some("ca"), Operand::Int(bytes @ (4 | 8 | 16))) | (Some("cg"), Operand::Int(bytes @ 16)) => *bytes,
        (None, _) => return Err(modifiers.invalid("it is .ca or .cg")),
        _ => return Err(modifiers.invalid(".ca copies 4, 8 or 16 bytes, .cg copies 16")),
    };
    let (mut size, mut ignore) = (None, None);
    if inst.operands.len() > last {
        let operand = decoder.operand(inst, 3)?;
        let predicate = match operand {
            Operand::Not(_) => true,
            Operand::Name(name, 0) => matches!(decoder.lookup(name), Some(Symbol::Predicate(_))),
            _ => false,
        };
        if predicate {
            ignore = Some(decoder.predicate(inst, operand)?);
        } else {
            size = Some(decoder.src(inst, operand, Type::U32)?);
        }
    }
    let dst = Place::decode(inst, decoder, modifiers, decoder.operand(inst, 0)?, Room::Shared)?;
    let src = Place::decode(inst, decoder, modifiers, decoder.operand(inst, 1)?, Room::Global)?;
    Ok(Copy { dst, src, bytes: bytes as u32, size, ignore })
}

/// Runs one.
///
/// # Errors
/// An address that leads nowhere, or what the checker found.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match op {
        Op::Copy(copy) => issue(copy, cx, active)?,
        Op::Commit => commit(&mut cx.warp.copies, active),
        Op::Wait(left) => wait(cx, active, *left),
        Op::WaitAll => {
            commit(&mut cx.warp.copies, active);
            wait(cx, active, 0);
        }
    }
    Ok(Flow::Next)
}

fn commit(groups: &mut Groups, active: u32) {
    for lane in lanes(active) {
        groups.committed[lane] += 1;
    }
}

fn issue(copy: &Copy, cx: &mut Context, active: u32) -> Result<(), Fault> {
    let writes = Request { verb: "writes", bytes: copy.bytes, align: copy.bytes };
    let addresses = cx.warp.addresses(copy.dst.address);
    let dst = Reach::new(Room::Shared, cx.warp, active, addresses, writes)?.at;
    writes.aligned(active, &dst, " of shared memory")?;
    writes.in_shared(cx.cluster, cx.launch, cx.warp.block, active, &dst)?;
    cx.cluster.counters.shared(Access::Write, &dst, active, copy.bytes);

    let sizes = sizes(copy, cx, active)?;
    let reads = Request { verb: "reads", bytes: copy.bytes, align: copy.bytes };
    let src = cx.warp.addresses(copy.src.address);
    let reading = lanes(active).filter(|lane| sizes[*lane] > 0).map(|lane| 1 << lane).sum::<u32>();
    reads.aligned(reading, &src, "")?;
    let copied: u64 = lanes(reading).map(|lane| u64::from(sizes[lane])).sum();
    if reading != 0 {
        let counters = &mut cx.cluster.counters;
        counters.global(Access::Read, &src, reading, copy.bytes);
        // What is not read of a lane's bytes was counted too.
        counters.global_load_bytes -= u64::from(reading.count_ones() * copy.bytes) - copied;
        counters.copy_bytes += copied;
    }

    let group = cx.warp.copies.committed;
    let start = |cx: &mut Context, lanes, src| -> Result<(), Fault> {
        let mut flying =
            Flying { lanes, group, dst, bytes: copy.bytes, src, sizes, flights: [Flight(0); 32] };
        flying.announce(cx)?;
        cx.warp.copies.flying.push(flying);
        Ok(())
    };
    if active & !reading != 0 {
        start(cx, active & !reading, None)?;
    }
    let mut left = reading;
    while left != 0 {
        // Only what is read must exist: a row's last piece may be cut short by its size.
        let first = left.trailing_zeros() as usize;
        let same = lanes(left).filter(|lane| sizes[*lane] == sizes[first]).map(|lane| 1 << lane).sum::<u32>();
        let request = Request { bytes: sizes[first], ..reads };
        let (allocation, here) = cx.warp.lookups.find(cx.launch.memory, cx.pc, request, same, &src)?;
        start(cx, here, Some((Arc::clone(&allocation), src)))?;
        cx.warp.lookups.back(cx.pc, allocation);
        left &= !here;
    }
    Ok(())
}

/// How many bytes each lane reads.
fn sizes(copy: &Copy, cx: &Context, active: u32) -> Result<[u32; 32], Fault> {
    let mut sizes = match copy.size {
        Some(slot) => *cx.warp.row(slot),
        None => [copy.bytes; 32],
    };
    let ignored = copy.ignore.map_or(0, |predicate| cx.warp.predicate(predicate));
    for lane in lanes(active) {
        if sizes[lane] > copy.bytes {
            let text = format!("copies {} bytes from a source of {}", copy.bytes, sizes[lane]);
            return Err(Fault::at(FaultKind::Instruction, lane as u32, text));
        }
        if ignored >> lane & 1 == 1 {
            sizes[lane] = 0;
        }
    }
    Ok(sizes)
}

/// Completes the active lanes' groups, all but the `left` latest ones that they committed.
fn wait(cx: &mut Context, active: u32, left: u32) {
    let committed = cx.warp.copies.committed;
    land(cx.warp, cx.cluster, None, |flying| {
        let due = |lane: &usize| {
            flying.group[*lane].checked_add(left).is_some_and(|latest| latest < committed[*lane])
        };
        lanes(flying.lanes & active).filter(due).map(|lane| 1 << lane).sum()
    });
}

/// Completes whatever is in flight of the lanes of `mask`, committed or not: where they end, or where an mbarrier at `object` is told.
pub fn finish(warp: &mut Warp, cluster: &mut Cluster, mask: u32, object: Option<Object>) {
    land(warp, cluster, object, |flying| flying.lanes & mask);
}

/// Completes the copies of those lanes that `due` picks.
fn land(warp: &mut Warp, cluster: &mut Cluster, object: Option<Object>, due: impl Fn(&Flying) -> u32) {
    let index = warp.block * (cluster.warps.len() / cluster.blocks.len()) as u32 + warp.index;
    for flying in &mut warp.copies.flying {
        let done = due(flying);
        for lane in lanes(done) {
            flying.perform(&mut cluster.blocks, lane);
            let flight = flying.flights[lane];
            cluster.checker.complete(flight, object);
            if object.is_none() {
                cluster.checker.wait(index, 1 << lane, flight, false);
            }
        }
        flying.lanes &= !done;
    }
    warp.copies.flying.retain(|flying| flying.lanes != 0);
}

impl Flying {
    /// Tells the checker what each lane's copy will touch.
    fn announce(&mut self, cx: &mut Context) -> Result<(), Fault> {
        for lane in lanes(self.lanes) {
            let who = thread(cx, lane);
            let flight = cx.cluster.checker.issue(who, Asynchronous::Copy, cx.pc);
            self.flights[lane] = flight;
            if let Some((allocation, src)) = &self.src {
                let place = check::Place::Global(allocation, src[lane] - allocation.base);
                cx.cluster.checker.asynchronous(flight, place, self.sizes[lane], Access::Read)?;
            }
            let (block, offset) = ((self.dst[lane] >> RANK_SHIFT) as u32, (self.dst[lane] & OFFSET) as u32);
            let place = check::Place::Shared { block, offset };
            cx.cluster.checker.asynchronous(flight, place, self.bytes, Access::Write)?;
        }
        Ok(())
    }

    /// Copies a lane's bytes.
    fn perform(&self, blocks: &mut [Block], lane: usize) {
        let mut bytes = [0; 16];
        if let Some((allocation, src)) = &self.src {
            allocation.read(src[lane] - allocation.base, &mut bytes[..self.sizes[lane] as usize]);
        }
        let (rank, offset) = (self.dst[lane] >> RANK_SHIFT, (self.dst[lane] & OFFSET) as usize);
        let len = self.bytes as usize;
        blocks[rank as usize].shared[offset..offset + len].copy_from_slice(&bytes[..len]);
    }
}
