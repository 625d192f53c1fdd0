//! cp.async and its groups.
//!
//! A copy runs when a wait needs it, not before: a program that forgets to wait sees the old bytes. What an mbarrier is to
//! hear of happens some turns of the scheduler after `cp.async.mbarrier.arrive`, or when nothing else can go on.

use std::sync::Arc;

use crate::check::{self, Access, Asynchronous, Flight, Object};
use crate::exec::bulk::Random;
use crate::exec::lanes::{WideRow, lanes};
use crate::exec::memory::form::{Place, Room, hints, policy};
use crate::exec::memory::reach::{OFFSET, RANK_SHIFT, Reach, Request, gone};
use crate::exec::memory::thread;
use crate::exec::{Block, Cluster, Context, Decoded, Flow, Launch, Warp, mbarrier};
use crate::fault::{Fault, FaultKind};
use crate::memory::{Allocation, LOCAL_WINDOW, PARAM_WINDOW};
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
    /// `cp.async.mbarrier.arrive`
    Arrive {
        /// The mbarrier.
        place: Place,
        /// Whether its count has room for the arrival already (`.noinc`).
        counted: bool,
    },
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
    /// How many were started.
    started: u64,
}

/// Arrivals of a cluster that wait for copies.
#[derive(Debug, Default)]
pub struct Arrivals {
    pending: Vec<Arrival>,
    /// Turns of the scheduler so far.
    clock: u64,
    random: Option<Random>,
}

/// `cp.async.mbarrier.arrive` of some lanes at one mbarrier.
#[derive(Debug)]
struct Arrival {
    /// Index of the warp in the cluster.
    warp: u32,
    lanes: u32,
    /// Copies started before it.
    before: u64,
    rank: u32,
    offset: u32,
    /// The turn in which it happens.
    due: u64,
    /// Of the PTX text.
    line: u32,
}

/// Copies that one instruction started, from one allocation.
#[derive(Debug)]
struct Flying {
    /// Its number among those of the warp.
    number: u64,
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
        Some(_) => decode_arrive(inst, decoder, &mut modifiers)?,
        None => Op::Copy(decode_copy(inst, decoder, &mut modifiers)?),
    };
    modifiers.finish()?;
    Ok(Some(Decoded::new(crate::exec::Op::Copy(op), Class::Async)))
}

fn decode_arrive<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers,
) -> Result<Op> {
    decoder.expect(inst, 1..=1)?;
    if !modifiers.take("arrive") {
        return Err(modifiers.invalid("it is .mbarrier.arrive"));
    }
    let counted = modifiers.take("noinc");
    let room = Room::take(modifiers);
    if !matches!(room, Room::Generic | Room::Shared) || modifiers.ty()? != Type::B64 {
        return Err(modifiers.invalid("it arrives at a .b64 in the block's shared memory"));
    }
    let place = Place::decode(inst, decoder, modifiers, decoder.operand(inst, 0)?, room)?;
    Ok(Op::Arrive { place, counted })
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
        Op::Arrive { place, counted } => arrive(*place, *counted, cx, active)?,
    }
    Ok(Flow::Next)
}

/// Has the mbarrier told when the lanes' copies are done.
fn arrive(place: Place, counted: bool, cx: &mut Context, active: u32) -> Result<(), Fault> {
    let request = Request { verb: "arrives at", bytes: 8, align: 8 };
    let addresses = cx.warp.addresses(place.address);
    let reach = Reach::new(place.room, cx.warp, active, addresses, request)?;
    for (wrong, base) in [(reach.global, 0), (reach.local, LOCAL_WINDOW), (reach.param, PARAM_WINDOW)] {
        if let Some(lane) = lanes(wrong).next() {
            return Err(request.misplaced(lane, reach.at[lane] + base, "shared"));
        }
    }
    let at = reach.at;
    request.aligned(active, &at, " of shared memory")?;
    request.in_shared(cx.cluster, cx.launch, cx.warp.block, active, &at)?;
    let first = cx.cluster.blocks[0].index;
    let mut left = active;
    while left != 0 {
        let place = at[left.trailing_zeros() as usize];
        let here = lanes(left).filter(|lane| at[*lane] == place).map(|lane| 1 << lane).sum::<u32>();
        let (rank, offset) = ((place >> RANK_SHIFT) as u32, (place & OFFSET) as u32);
        if !counted {
            mbarrier::add_pending(cx.cluster, rank, offset, here.count_ones())?;
        }
        let arrivals = &mut cx.cluster.arrivals;
        let random = arrivals.random.get_or_insert_with(|| Random::of(cx.launch, first));
        arrivals.pending.push(Arrival {
            warp: cx.warp.number(cx.launch),
            lanes: here,
            before: cx.warp.copies.started,
            rank,
            offset,
            due: arrivals.clock + random.delay(),
            line: cx.inst.line,
        });
        left &= !here;
    }
    Ok(())
}

/// Lets time pass for the arrivals that wait for copies: called by the scheduler between turns. They happen when they are due; with
/// `force`, because nothing else can go on, the one that is due first does at least. Whether any did.
///
/// # Errors
/// What an arrival did wrong.
pub fn advance(cluster: &mut Cluster, launch: &Launch, force: bool) -> Result<bool, Fault> {
    let Arrivals { pending, clock, .. } = &mut cluster.arrivals;
    if pending.is_empty() {
        return Ok(false);
    }
    *clock += 1;
    let mut moved = false;
    loop {
        let Arrivals { pending, clock, .. } = &mut cluster.arrivals;
        let next = pending.iter().enumerate().min_by_key(|(index, arrival)| (arrival.due, *index));
        let Some((index, _)) = next.filter(|(_, next)| next.due <= *clock || force && !moved) else {
            return Ok(moved);
        };
        let arrival = pending.remove(index);
        moved = true;
        tell(cluster, launch, &arrival)?;
    }
}

/// Completes the copies that an arrival waits for, and arrives.
fn tell(cluster: &mut Cluster, launch: &Launch, arrival: &Arrival) -> Result<(), Fault> {
    let Arrival { warp: index, lanes, before, rank, offset, line, .. } = *arrival;
    let object = Object::Mbarrier { block: rank, offset };
    let mut warp = cluster.warps[index as usize].take().expect("no warp runs between turns");
    land(
        &mut warp,
        cluster,
        Some(object),
        |flying| if flying.number < before { flying.lanes & lanes } else { 0 },
    );
    let (number, lane) = (warp.index, lanes.trailing_zeros());
    cluster.warps[index as usize] = Some(warp);
    // Where the whole block has ended meanwhile, nobody is left to wait for it.
    if gone(cluster, rank as usize) {
        return Ok(());
    }
    mbarrier::arrive(cluster, rank, offset, lanes.count_ones()).map_err(|fault| {
        let [x, y, z] = launch.thread(number, lane);
        let message = format!(
            "{}, when the copies of thread ({x},{y},{z}) of block {rank} of the cluster were done, of which cp.async.mbarrier.arrive of PTX line {line} tells it",
            fault.message
        );
        Fault { message, ..fault }
    })
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
    writes.data_in_shared(cx.cluster, cx.launch, cx.warp.block, active, &dst)?;
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
        let (number, bytes, flights) = (cx.warp.copies.started, copy.bytes, [Flight(0); 32]);
        let mut flying = Flying { number, lanes, group, dst, bytes, src, sizes, flights };
        flying.announce(cx)?;
        cx.warp.copies.started += 1;
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

#[cfg(test)]
mod tests;
