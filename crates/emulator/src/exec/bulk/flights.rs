//! Operations in flight: when they complete, what they then move, and who waits for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use super::reduce::Reduction;
use super::registers::Registers;
use super::tile::{Piece, Tile};
use crate::check::{self, Access, Object, Thread};
use crate::exec::lanes::lanes;
use crate::exec::{Cluster, Context, Flow, Launch, Wait, mbarrier};
use crate::fault::{Fault, FaultKind};
use crate::memory::Allocation;
use crate::ptx::Type;

/// What each byte of a destination holds while the operation is in flight: NaN in every floating-point type.
pub const POISON: u8 = 0xff;

/// The operations in flight of a cluster, and the bulk groups of its threads.
#[derive(Debug, Default)]
pub struct Flights {
    operations: BTreeMap<u64, Operation>,
    /// When each is due, and its number.
    due: BTreeSet<(u64, u64)>,
    /// Operations so far.
    started: u64,
    /// Turns of the scheduler so far.
    clock: u64,
    random: Option<Random>,
    /// By warp in the cluster and lane.
    groups: BTreeMap<(u32, u32), Groups>,
    /// What `setmaxnreg` gives and takes.
    pub(super) registers: Registers,
}

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    /// Its name.
    pub what: &'static str,
    /// Line of the PTX text.
    pub line: u32,
    /// Who issued it.
    pub who: Thread,
    /// The rank of its block.
    pub block: u32,
    /// What is read.
    pub from: Source,
    /// What is written.
    pub to: Target,
    /// How it lies in shared memory.
    pub tile: Tile,
    /// How the destination changes, unless it is replaced.
    pub reduction: Option<(Reduction, Type)>,
    /// For the checker: one, or one for each block that gets the bytes.
    pub flights: Vec<check::Flight>,
    /// What was read, where writing comes later.
    pub data: Option<Vec<u8>>,
}

/// Where an operation reads.
#[derive(Debug)]
pub(super) enum Source {
    /// Pieces of an allocation (none where all is out of bounds).
    Global(Option<Arc<Allocation>>, Vec<Piece>),
    /// Shared memory of a block from an offset on.
    Shared(u32, u32),
    /// Bytes of registers.
    Values(Vec<u8>),
}

/// Where an operation writes.
#[derive(Debug)]
pub(super) enum Target {
    /// Pieces of an allocation.
    Global(Option<Arc<Allocation>>, Vec<Piece>),
    /// The same place in each of these blocks.
    Shared {
        /// Ranks.
        blocks: Vec<u32>,
        /// Offset of the data.
        offset: u32,
        /// Offset of the mbarrier that gets the bytes.
        barrier: u32,
    },
}

/// The bulk groups of a thread.
#[derive(Debug, Default)]
struct Groups {
    block: u32,
    open: Vec<Member>,
    committed: VecDeque<Group>,
}

#[derive(Debug)]
struct Group {
    members: Vec<Member>,
    /// Whether the thread knows that the sources were read.
    read: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    number: u64,
    flight: check::Flight,
    line: u32,
}

/// A sequence of numbers that look random (SplitMix64).
#[derive(Debug)]
pub(in crate::exec) struct Random(u64);

impl Random {
    /// For the cluster of a launch whose first block this is; `WIKIGPT_EMU_SEED` changes it.
    pub(in crate::exec) fn of(launch: &Launch, first: [u32; 3]) -> Random {
        let [x, y, z] = first.map(u64::from);
        Random([launch.number, x, y, z].into_iter().fold(seed(), |mixed, part| Random(mixed ^ part).next()))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Turns until an operation is due: mostly a few; one in four stays until a wait needs it, or nearly so.
    pub(in crate::exec) fn delay(&mut self) -> u64 {
        let number = self.next();
        if number & 3 == 0 { 256 } else { 1 + (number >> 2) % 32 }
    }
}

/// `WIKIGPT_EMU_SEED`, or else 0.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        std::env::var("WIKIGPT_EMU_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0)
    })
}

impl Flights {
    /// Starts an operation.
    pub(super) fn start(&mut self, launch: &Launch, cluster: [u32; 3], operation: Operation) {
        let number = self.started;
        self.started += 1;
        let random = self.random.get_or_insert_with(|| Random::of(launch, cluster));
        self.due.insert((self.clock + random.delay(), number));
        if let Target::Global(..) = operation.to {
            let Operation { who, block, line, .. } = operation;
            let groups = self.groups.entry((who.warp, who.lane)).or_default();
            groups.block = block;
            groups.open.push(Member { number, flight: operation.flights[0], line });
        }
        self.operations.insert(number, operation);
    }

    /// `cp.async.bulk.commit_group` of a thread.
    pub(super) fn commit(&mut self, thread: Thread) {
        let groups = self.groups.entry((thread.warp, thread.lane)).or_default();
        let members = std::mem::take(&mut groups.open);
        groups.committed.push_back(Group { members, read: false });
    }

    /// Operations that have not completed.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether all have completed.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Whether an operation has come as far as a wait for it asks.
    fn done(&self, member: &Member, reads_only: bool) -> bool {
        self.operations.get(&member.number).is_none_or(|operation| reads_only && operation.data.is_some())
    }
}

/// `cp.async.bulk.wait_group`
pub(super) fn wait(cx: &mut Context, active: u32, pending: u32, reads_only: bool) -> Flow {
    let Cluster { flights, checker, .. } = &mut *cx.cluster;
    let warp = cx.warp.block * cx.launch.warps() + cx.warp.index;
    let before = |groups: &Groups| groups.committed.len().saturating_sub(pending as usize);
    for lane in lanes(active) {
        let Some(groups) = flights.groups.get(&(warp, lane as u32)) else { continue };
        let mut members = groups.committed.iter().take(before(groups)).flat_map(|group| &group.members);
        if let Some(member) = members.find(|member| !flights.done(member, reads_only)) {
            if cx.token.is_some() {
                return Flow::Still;
            }
            let what = if reads_only { "the source to be read" } else { "the end" };
            let what = format!("{what} of the bulk store of PTX line {}", member.line);
            return Flow::Wait(Wait { what, token: 0 });
        }
    }
    for lane in lanes(active) {
        let Some(groups) = flights.groups.get_mut(&(warp, lane as u32)) else { continue };
        let count = before(groups);
        for group in groups.committed.iter_mut().take(count).filter(|group| !(reads_only && group.read)) {
            group.read = true;
            for member in &group.members {
                checker.wait(warp, 1 << lane, member.flight, reads_only);
            }
        }
        if !reads_only {
            groups.committed.drain(..count);
        }
    }
    Flow::Next
}

/// Lets time pass for the operations in flight: called by the scheduler between turns, and after the last warp of the
/// cluster has exited with `force` until it returns `false`.
///
/// Operations complete when they are due; with `force`, because nothing else can go on, the one that is due first does at least. Returns whether
/// anything happened that a waiting warp may have waited for.
///
/// # Errors
/// What an operation did wrong, most likely to its mbarrier.
pub fn advance(cluster: &mut Cluster, launch: &Launch, force: bool) -> Result<bool, Fault> {
    if cluster.flights.operations.is_empty() {
        return Ok(false);
    }
    cluster.flights.clock += 1;
    let mut moved = false;
    loop {
        let Flights { due, clock, .. } = &mut cluster.flights;
        match due.first().copied() {
            Some((at, number)) if at <= *clock || force && !moved => {
                due.remove(&(at, number));
                step(cluster, launch, number)?;
                moved = true;
            }
            _ => return Ok(moved),
        }
    }
}

/// Takes one operation a step on.
fn step(cluster: &mut Cluster, launch: &Launch, number: u64) -> Result<(), Fault> {
    let Some(mut operation) = cluster.flights.operations.remove(&number) else { return Ok(()) };
    let data = match operation.data.take() {
        Some(data) => data,
        None => {
            let data = read(cluster, &operation);
            if let Target::Global(..) = operation.to {
                operation.data = Some(data);
                let flights = &mut cluster.flights;
                let delay = flights.random.as_mut().map_or(1, Random::delay);
                flights.due.insert((flights.clock + delay, number));
                flights.operations.insert(number, operation);
                return Ok(());
            }
            data
        }
    };
    write(cluster, &operation, &data);
    let Target::Shared { blocks, barrier, .. } = &operation.to else {
        operation.flights.iter().for_each(|flight| cluster.checker.complete(*flight, None));
        return Ok(());
    };
    for (block, flight) in blocks.iter().zip(&operation.flights) {
        let object = Object::Mbarrier { block: *block, offset: *barrier };
        cluster.checker.complete(*flight, Some(object));
        mbarrier::complete_tx(cluster, *block, *barrier, data.len() as u32)
            .map_err(|fault| told(fault, &operation, launch))?;
    }
    Ok(())
}

/// A fault with the operation it came from, because the instruction that runs has nothing to do with it.
fn told(fault: Fault, operation: &Operation, launch: &Launch) -> Fault {
    let warp = operation.who.warp - operation.block * launch.warps();
    let [x, y, z] = launch.thread(warp, operation.who.lane);
    let Operation { what, line, block, .. } = operation;
    let message = format!(
        "{}, when the {what} of PTX line {line} completed, issued by thread ({x},{y},{z}) of block {block} of the cluster",
        fault.message
    );
    Fault { message, ..fault }
}

fn read(cluster: &mut Cluster, operation: &Operation) -> Vec<u8> {
    let mut data = vec![0; operation.tile.bytes() as usize];
    match &operation.from {
        Source::Global(allocation, pieces) => {
            for (allocation, piece) in
                allocation.iter().flat_map(|found| pieces.iter().map(move |p| (found, p)))
            {
                allocation.read(piece.at, &mut data[piece.start as usize..][..piece.len as usize]);
                cluster.counters.bulk(Access::Read, allocation.base + piece.at, piece.len.into());
            }
        }
        Source::Shared(block, offset) => {
            let shared = &cluster.blocks[*block as usize].shared;
            operation.tile.chunks(*offset, 0, data.len() as u32, |at, start, len| {
                data[start as usize..][..len as usize]
                    .copy_from_slice(&shared[at as usize..][..len as usize]);
            });
        }
        Source::Values(values) => data.copy_from_slice(values),
    }
    data
}

fn write(cluster: &mut Cluster, operation: &Operation, data: &[u8]) {
    match &operation.to {
        Target::Global(allocation, pieces) => {
            for (allocation, piece) in
                allocation.iter().flat_map(|found| pieces.iter().map(move |p| (found, p)))
            {
                let bytes = &data[piece.start as usize..][..piece.len as usize];
                let access = if operation.reduction.is_some() { Access::Atomic } else { Access::Write };
                cluster.counters.bulk(access, allocation.base + piece.at, piece.len.into());
                let Some((reduction, ty)) = operation.reduction else {
                    allocation.write(piece.at, bytes);
                    continue;
                };
                let mut at = piece.at;
                for element in bytes.chunks_exact(ty.bytes() as usize) {
                    allocation.update(at, ty.bytes(), |old| reduction.apply(ty, old, number(element)));
                    at += u64::from(ty.bytes());
                }
            }
        }
        Target::Shared { blocks, offset, .. } => {
            for block in blocks {
                let shared = &mut cluster.blocks[*block as usize].shared;
                operation.tile.chunks(*offset, 0, data.len() as u32, |at, start, len| {
                    let old = &mut shared[at as usize..][..len as usize];
                    let new = &data[start as usize..][..len as usize];
                    let Some((reduction, ty)) = operation.reduction else { return old.copy_from_slice(new) };
                    let size = ty.bytes() as usize;
                    for (old, new) in old.chunks_exact_mut(size).zip(new.chunks_exact(size)) {
                        let value = reduction.apply(ty, number(old), number(new));
                        old.copy_from_slice(&value.to_le_bytes()[..size]);
                    }
                });
            }
        }
    }
}

/// Up to 8 bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// What is wrong, where races are checked, with a block's operations at the moment when its last thread has exited: its shared memory is given to the next block, so
/// nothing may touch it any more.
///
/// # Errors
/// Where an operation still reads or writes it, or the threads have not waited for the reads of their stores, whether or
/// not these happened to be done; where the bytes that an mbarrier was told of do not add up.
pub fn at_exit(cluster: &mut Cluster, block: u32) -> Result<(), Fault> {
    let flights = &mut cluster.flights;
    if !cluster.checker.races() {
        flights.groups.retain(|_, groups| groups.block != block);
        return Ok(());
    }
    let fault = |message: String| Err(Fault::new(FaultKind::Async, message));
    for operation in flights.operations.values() {
        let Operation { what, line, .. } = operation;
        if let Target::Shared { blocks, .. } = &operation.to
            && blocks.contains(&block)
        {
            return fault(format!(
                "a block ends while the {what} of PTX line {line} still writes to its shared memory"
            ));
        }
        if let (Source::Shared(from, _), Target::Shared { .. }) = (&operation.from, &operation.to)
            && *from == block
        {
            return fault(format!(
                "a block ends while the {what} of PTX line {line} still reads its shared memory"
            ));
        }
    }
    for groups in flights.groups.values().filter(|groups| groups.block == block) {
        if let Some(Member { line, .. }) = groups.open.first() {
            return fault(format!(
                "a block ends, and the bulk store of PTX line {line} belongs to no group that could be waited for: \
                 cp.async.bulk.commit_group is missing"
            ));
        }
        let mut unread = groups.committed.iter().filter(|group| !group.read).flat_map(|group| &group.members);
        if let Some(Member { line, .. }) = unread.next() {
            return fault(format!(
                "a block ends while the bulk store of PTX line {line} may still read its shared memory: \
                 its thread has not waited for it (cp.async.bulk.wait_group.read)"
            ));
        }
    }
    flights.groups.retain(|_, groups| groups.block != block);
    match cluster.blocks[block as usize].mbarriers.unfinished() {
        Some(message) => Err(Fault::new(FaultKind::Barrier, format!("a block ends, and {message}"))),
        None => Ok(()),
    }
}
