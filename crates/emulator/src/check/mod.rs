//! What no tool on hardware can see: order between accesses, and memory that nobody wrote.
//!
//! A happens-before engine. Instructions tell it what they touch ([`Checker::shared`], [`Checker::global`]), what orders
//! them ([`Checker::release`], [`Checker::acquire`], [`Checker::fence`]) and what goes on by itself
//! ([`Checker::issue`], [`Checker::asynchronous`], [`Checker::complete`]). It answers with a [`Fault`] where two accesses
//! have no order. It does not wait for a race to do harm: what matters is whether anything in the program orders the two, not
//! which came first this time.
//!
//! # The model
//!
//! That of PTX, as far as its manual goes, byte by byte. Two accesses of a byte, one of them a write, are a race unless one happens
//! before the other, or both are strong (atomic, `.relaxed`, `.volatile`, `.acquire`, `.release`) and the scope of each holds the
//! other's thread. One happens before another
//!
//! - in the program of one thread. Lanes of a warp are threads like any others: that they run side by side orders nothing;
//! - from before `bar.sync`, `bar.red`, `bar.arrive`, `barrier.cluster.arrive` (but not its `.relaxed` form) and `mbarrier.arrive` to behind the wait of the same phase, and
//!   among the lanes of `bar.warp.sync`. `shfl`, `vote` and `match` order nothing;
//! - from a release of a place in memory to an acquire that finds its value, or one that atomics made of it; `fence` and a strong
//!   write are a release, a strong read and `fence` an acquire. Both scopes have to hold the other's thread;
//! - from a `fence.sc` behind which a strong read finds a value to the `fence.sc` behind the strong write that replaces it (Dekker's pattern);
//! - from a thread to the asynchronous operations that it issues, and from their end to who waited for it: `cp.async.wait_group`,
//!   `cp.async.bulk.wait_group` (with `.read`, its reads alone), `wgmma.wait_group`, or the mbarrier that they complete on;
//! - from one launch to the next.
//!
//! Bulk operations and `wgmma` go through the async proxy. What threads wrote comes before their accesses only if
//! `fence.proxy.async` stands between: by the writer before the barrier, or by the issuer behind it. (The manual asks for the former. The
//! latter is what some kernels do, and it works.)
//!
//! # What is reported
//!
//! | | |
//! |---|---|
//! | [`Race`](crate::fault::FaultKind::Race) | Two accesses without order, in shared or global memory, in a block, a cluster or the grid. Atomics of too narrow a scope. Lanes of one instruction that store different values to one place. Memory that is read by `ld.global.nc` and written in the same launch |
//! | [`Async`](crate::fault::FaultKind::Async) | Memory touched while an operation in flight writes it, or written while one reads it: a missing wait, the wrong phase or mbarrier, a wait for the reads of what should have been written. A missing proxy fence, of tensor maps too |
//! | [`Uninitialized`](crate::fault::FaultKind::Uninitialized) | A read of shared or global memory that neither the host nor a kernel wrote |
//!
//! With [`Options::report`] none of these ends the launch: each is kept as a [`Finding`], once for an instruction, and the kernel goes on.
//!
//! # What is not
//!
//! Silence says that this run of the program on this input was in order. Another path through it may not be, and the engine sees less
//! than the model in these places:
//!
//! - What a fence made visible stays so for who learns of it at a barrier: each thread of a block may fence, and one of them raise the flag
//!   behind the barrier. That any two `fence.sc` are ordered in some way is not taken for order between the accesses around them, or
//!   `__threadfence()` without a flag would hide every race: only what the program reads proves which came first.
//! - Threads that store the same value to a place are let pass: by the model they race, and no device cares; so are atomics of different sizes that overlap.
//! - What an asynchronous operation reads in global memory counts as read when it is issued: a store there before it has ended is seen
//!   only if nothing orders it after the issue.
//! - A store that is not strong leaves what was released at its place, as if it had not been made.
//! - Of accesses to a byte that no order relates, 8 are remembered in global memory and 64 in shared memory: of a place that so many threads read,
//!   a later write that is ordered after just these is let pass.
//! - An atomic of the device's scope whose result is used (`atom`, not `red`) acquires, without a fence behind it: a block that counts itself the
//!   last by one, or takes a lock, rarely has one in the programs that are about. That others raise such a count behind a fence is asked for.
//! - A plain load whose value an `atom.cas` compares is as good as a relaxed one, whatever it loads from.
//! - Threads that have exited are taken to have come to every barrier that ends after: what they did before happens before what is behind it.
//! - A release by an mbarrier in the default scope `.cta` orders blocks of a cluster too, as kernels rely on.
//! - A group of copies that nobody waits for is reported where its bytes are used, not where its thread ends.
//! - Memory counts as written from the first store on, whatever was stored: copying what was never written makes it written.
//! - Local memory and registers are not its business; the interpreter itself looks after them.
//!
//! # How it works
//!
//! As FastTrack does: every thread has a vector clock, every byte remembers the accesses that a later one can still race with, each
//! as an actor and its time, and a new access is held against them. Threads of a warp nearly always know the same, so a warp has one clock until its lanes
//! learn different things; a line of 64 bytes that warps touch in rows, each lane its own part, has one history until something else
//! touches it. The unit tests hold all of this against a model that keeps every access of every byte and a clock of every thread.

mod clock;
mod findings;
mod flights;
mod hash;
mod history;
mod instruction;
mod location;
mod report;
mod shadow;
mod strong;
#[cfg(test)]
mod tests;
mod threads;
mod written;

use crate::exec::lanes::{ALL, LANES, Row, WideRow, lanes, side_by_side};
use crate::fault::Fault;
use crate::memory::Allocation;
use clock::Clock;
use findings::{Findings, Leniency};
use flights::Flying;
use hash::Map;
use history::{CONSTANT, LINE, Line, MAP, Stamp, WRITE};
use instruction::Instruction;
use location::Location;
use threads::Lanes;
use written::Written;

pub use findings::{Finding, Key};
pub use shadow::Shadow;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Races, asynchronous hazards.
    pub races: bool,
    /// Missing fences between the generic and the async proxy.
    pub proxy: bool,
    /// Reads of memory that nobody wrote.
    pub uninitialized: bool,
    /// What is found is kept as a [`Finding`], and the kernel goes on.
    pub report: bool,
}

impl Options {
    /// Nothing.
    pub const NONE: Options = Options { races: false, proxy: false, uninitialized: false, report: false };
    /// Everything; what is found ends the launch.
    pub const ALL: Options = Options { races: true, proxy: true, uninitialized: true, report: false };

    /// Whether anything is checked that needs to know the order of accesses.
    fn order(self) -> bool {
        self.races || self.proxy
    }
}

/// A thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Index of its warp in the cluster.
    pub warp: u32,
    /// Its lane.
    pub lane: u32,
}

/// What is done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `ld`
    Read,
    /// `st`
    Write,
    /// `atom`, `red`
    Atomic,
}

impl Access {
    /// Whether it depends on what is there.
    fn reads(self) -> bool {
        self != Access::Write
    }

    /// Whether it changes what is there.
    fn writes(self) -> bool {
        matches!(self, Access::Write | Access::Atomic)
    }
}

/// Who sees an operation as ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The block.
    Block,
    /// The cluster.
    Cluster,
    /// The device.
    Device,
    /// All.
    System,
}

/// Memory order of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A plain one.
    Weak,
    /// `.nc`: of what nobody may write as long as the launch goes on.
    Constant,
    /// Of a tensor map, by a copy.
    Map,
    /// `.relaxed`, `.volatile`.
    Relaxed(Scope),
    /// `.acquire`
    Acquire(Scope),
    /// `.release`
    Release(Scope),
    /// `.acq_rel`
    AcquireRelease(Scope),
}

/// What threads meet at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// Barrier `id` of block `block`.
    Barrier {
        /// Rank of the block.
        block: u32,
        /// 0..16.
        id: u32,
    },
    /// The cluster's barrier.
    Cluster,
    /// The mbarrier at an offset in a block's shared memory.
    Mbarrier {
        /// Rank of the block.
        block: u32,
        /// Byte offset.
        offset: u32,
    },
    /// The lanes of a warp (`bar.warp.sync`).
    Warp(u32),
}

/// What goes on by itself after it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asynchronous {
    /// cp.async: generic proxy.
    Copy,
    /// cp.async.bulk, st.async, red.async: async proxy.
    Bulk,
    /// wgmma: async proxy, not ordered after its issuer's earlier accesses by itself.
    Product,
}

/// An operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flight(pub u32);

/// Where an asynchronous operation reads or writes.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Shared memory of a block.
    Shared {
        /// Rank of the block.
        block: u32,
        /// Byte offset.
        offset: u32,
    },
    /// An allocation, from a byte on.
    Global(&'a Allocation, u64),
}

/// Where threads meet: what was released there.
#[derive(Debug, Default)]
struct Meeting {
    /// Its own number among the actors: in its name stand the operations that complete there.
    actor: u16,
    /// How many did.
    time: u32,
    /// Released in the phase that goes on.
    open: Clock,
    /// Released in the phases that have ended.
    done: Clock,
    /// Whether somebody says when phases end.
    phased: bool,
    /// Whether the last to come here acquired.
    left: bool,
    /// Of an mbarrier, the times at which its last two phases ended, in its own name.
    ends: [u32; 2],
    /// The last of those that a warp has seen.
    seen: Map<u32, u32>,
}

/// Shared memory of a block.
#[derive(Debug, Default)]
struct Shared {
    lines: Vec<Line>,
    written: Written,
    /// What threads of the block did that have exited.
    exited: Clock,
}

/// What an actor is that is no warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Actor {
    /// The asynchronous copies of a warp's lanes.
    Copies(u32),
    /// The matrix products of a warp.
    Products(u32),
    /// An object: the operations that complete there.
    Object(Object),
}

/// Order and marks of one cluster.
#[derive(Debug)]
pub struct Checker {
    options: Options,
    launch: u64,
    /// Its number in the launch.
    cluster: u32,
    /// Warps of a block.
    warps: u16,
    blocks: Vec<Shared>,
    lanes: Vec<Lanes>,
    meetings: Map<Object, Meeting>,
    /// Actors that are no warps, after the warps.
    actors: Map<Actor, u16>,
    /// Places in shared memory at which threads synchronise.
    locations: Map<(u32, u32), Location>,
    flights: Map<u32, Flying>,
    issued: u32,
    /// Who issued the last of them, by which instruction.
    issuer: (Thread, u32),
    findings: Findings,
}

impl Default for Checker {
    fn default() -> Checker {
        Checker::new(Options::NONE, 0, 0, 0, 0, 0)
    }
}

/// Accesses that a cell of shared memory remembers.
const SHARED_CAP: usize = 64;

impl Checker {
    /// For a cluster of `blocks` blocks with `warps` warps and `shared` bytes of shared memory each. `cluster` is its number in the
    /// launch numbered `launch`.
    pub fn new(options: Options, launch: u64, cluster: u64, blocks: u32, warps: u32, shared: u32) -> Checker {
        let lines = if options.order() { shared.div_ceil(LINE) as usize } else { 0 };
        let block = || {
            let mut all = Vec::new();
            all.resize_with(lines, Line::default);
            Shared {
                lines: all,
                written: Written::new(if options.uninitialized { shared } else { 0 }),
                exited: Clock::default(),
            }
        };
        let threads = if options.order() { blocks * warps } else { 0 };
        Checker {
            options,
            launch,
            cluster: cluster as u32,
            warps: warps.max(1) as u16,
            blocks: (0..blocks).map(|_| block()).collect(),
            lanes: (0..threads).map(|_| Lanes::default()).collect(),
            meetings: Map::default(),
            actors: Map::default(),
            locations: Map::default(),
            flights: Map::default(),
            issued: 0,
            issuer: (Thread { warp: 0, lane: 0 }, 0),
            findings: Findings::default(),
        }
    }

    /// Whether reads of memory that nobody wrote are faults.
    pub fn reads_written(&self) -> bool {
        self.options.uninitialized
    }

    /// Whether races are checked.
    pub fn races(&self) -> bool {
        self.options.races
    }

    /// A thread touches shared memory: `len` bytes from `offset` in the block of rank `block`. To be called before it does. Lanes that
    /// store to the same place by the same instruction are taken to store the same value: [`Checker::shared_warp`] asks.
    ///
    /// # Errors
    /// A race, a read of what nobody wrote, or of what is in flight.
    #[inline]
    pub fn shared(
        &mut self,
        who: Thread,
        block: u32,
        offset: u32,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
    ) -> Result<(), Fault> {
        let mut offsets = [0; LANES];
        offsets[who.lane as usize] = offset;
        self.shared_lanes(who.warp, 1 << who.lane, block, &offsets, len, access, order, pc, None)
    }

    /// The lanes of `active` touch shared memory by one instruction: `len` bytes from their offset in the block of rank `block` each.
    /// To be called before they do. `differ` says of two lanes that store to the same place whether their values differ, and of a
    /// lane and itself whether its store changes what is there; it is not asked otherwise.
    ///
    /// # Errors
    /// As [`Checker::shared`].
    pub fn shared_warp(
        &mut self,
        warp: u32,
        active: u32,
        block: u32,
        offsets: &Row,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: &dyn Fn(usize, usize) -> bool,
    ) -> Result<(), Fault> {
        self.shared_lanes(warp, active, block, offsets, len, access, order, pc, Some(differ))
    }

    fn shared_lanes(
        &mut self,
        warp: u32,
        active: u32,
        block: u32,
        offsets: &Row,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: Option<&dyn Fn(usize, usize) -> bool>,
    ) -> Result<(), Fault> {
        let wide = offsets.map(u64::from);
        let beside = side_by_side(&wide, active, len);
        if self.options.uninitialized {
            let written = &mut self.blocks[block as usize].written;
            let all = LANES as u32 * len;
            // What is not clear for all lanes at once is looked at lane by lane.
            let known = !access.reads() || beside && written.first_clear(offsets[0], all).is_none();
            let clear = |lane: usize| Some((lane, written.first_clear(offsets[lane], len)?));
            let unwritten = if known { None } else { lanes(active).find_map(clear) };
            match access.writes() {
                true if beside => written.mark(offsets[0], all),
                true => lanes(active).for_each(|lane| written.mark(offsets[lane], len)),
                false => {}
            }
            if let Some((lane, first)) = unwritten.filter(|_| !self.is_known(Key(pc, None))) {
                let fault = report::unwritten_shared(lane as u32, block, offsets[lane], len, first);
                self.tolerate(warp, pc, fault)?;
            }
        }
        if !self.options.order() {
            return Ok(());
        }
        self.settle(warp);
        let lenient = Leniency::new(self.options);
        let instruction =
            self.instruction(warp, active, &wide, beside, len, access, order, pc, differ, &lenient);
        let lines = &mut self.blocks[block as usize].lines;
        let result = instruction.pieces(&self.lanes[warp as usize], |piece| {
            let (mut at, end) = (piece.offset, piece.offset + u64::from(piece.len));
            while at < end {
                let line = at / u64::from(LINE);
                let low = (at % u64::from(LINE)) as u32;
                let high = (end - line * u64::from(LINE)).min(u64::from(LINE)) as u32;
                piece.touch(at, &mut lines[line as usize], low, high, SHARED_CAP)?;
                at += u64::from(high - low);
            }
            Ok(())
        });
        if let Err(clash) = result {
            return Err(self.clash_shared(block, offsets, len, access, clash));
        }
        for clash in lenient.found() {
            if !self.is_known(Key(pc, Some(clash.why))) {
                let fault = self.clash_shared(block, offsets, len, access, clash);
                self.keep(warp, pc, Some(clash.why), fault);
            }
        }
        if strong::strength(access, order) != 0 {
            for lane in lanes(active) {
                self.strong_shared(warp, lane as u32, (block, offsets[lane]), access, order);
            }
        }
        Ok(())
    }

    /// A thread touches `len` bytes of an allocation from byte `offset`. To be called before it does.
    ///
    /// # Errors
    /// As [`Checker::shared`].
    #[inline]
    pub fn global(
        &mut self,
        who: Thread,
        allocation: &Allocation,
        offset: u64,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
    ) -> Result<(), Fault> {
        let mut offsets = [0; LANES];
        offsets[who.lane as usize] = offset;
        self.global_lanes(who.warp, 1 << who.lane, allocation, &offsets, len, access, order, pc, None)
    }

    /// The lanes of `active` touch an allocation by one instruction, as in [`Checker::shared_warp`].
    ///
    /// # Errors
    /// As [`Checker::shared`].
    pub fn global_warp(
        &mut self,
        warp: u32,
        active: u32,
        allocation: &Allocation,
        offsets: &WideRow,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: &dyn Fn(usize, usize) -> bool,
    ) -> Result<(), Fault> {
        self.global_lanes(warp, active, allocation, offsets, len, access, order, pc, Some(differ))
    }

    fn global_lanes(
        &mut self,
        warp: u32,
        active: u32,
        allocation: &Allocation,
        offsets: &WideRow,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: Option<&dyn Fn(usize, usize) -> bool>,
    ) -> Result<(), Fault> {
        let beside = side_by_side(offsets, active, len);
        if self.options.uninitialized {
            let all = LANES as u64 * u64::from(len);
            let known = !access.reads() || beside && allocation.first_unwritten(offsets[0], all).is_none();
            let clear = |lane: usize| Some((lane, allocation.first_unwritten(offsets[lane], len.into())?));
            let unwritten = if known { None } else { lanes(active).find_map(clear) };
            match access.writes() {
                true if beside => allocation.mark_written(offsets[0], all),
                true => lanes(active).for_each(|lane| allocation.mark_written(offsets[lane], len.into())),
                false => {}
            }
            if let Some((lane, first)) = unwritten.filter(|_| !self.is_known(Key(pc, None))) {
                let fault = report::unwritten_global(lane as u32, allocation, offsets[lane], len, first);
                self.tolerate(warp, pc, fault)?;
            }
        }
        if !self.options.order() {
            return Ok(());
        }
        self.settle(warp);
        let lenient = Leniency::new(self.options);
        let instruction =
            self.instruction(warp, active, offsets, beside, len, access, order, pc, differ, &lenient);
        let launch = self.launch;
        let result = instruction.pieces(&self.lanes[warp as usize], |piece| {
            let shadow = &allocation.shadow;
            shadow.visit(allocation.len, launch, piece.offset, piece.len.into(), |at, line, low, high| {
                piece.touch(at, line, low, high, Shadow::CAP)
            })
        });
        if let Err(clash) = result {
            return Err(self.clash_global(allocation, offsets, len, access, clash));
        }
        for clash in lenient.found() {
            if !self.is_known(Key(pc, Some(clash.why))) {
                let fault = self.clash_global(allocation, offsets, len, access, clash);
                self.keep(warp, pc, Some(clash.why), fault);
            }
        }
        if strong::strength(access, order) != 0 {
            for lane in lanes(active) {
                self.strong_global(warp, lane as u32, allocation, offsets[lane], access, order);
            }
        }
        Ok(())
    }

    /// What lanes of a warp did so far happens before what others do after they [`acquire`](Self::acquire) the object.
    pub fn release(&mut self, warp: u32, lanes: u32, object: Object) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        let meeting = meeting(&mut self.meetings, &mut self.actors, self.lanes.len(), object);
        let (of, who) = (&mut self.lanes[warp as usize], warp as u16);
        let time = of.tell();
        if std::mem::take(&mut meeting.left) && matches!(object, Object::Warp(_)) {
            meeting.open = Clock::default();
        }
        for (group, clock) in of.clocks(lanes) {
            meeting.open.join(clock);
            meeting.open.own.known.raise(who, group, time);
        }
    }

    /// What a fence of these lanes covered, of this scope or beyond, happens before what others do after they
    /// [`acquire`](Self::acquire) the object: an arrival that is `.relaxed`, behind a fence.
    pub fn release_fenced(&mut self, warp: u32, lanes: u32, object: Object, scope: Scope) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        let meeting = meeting(&mut self.meetings, &mut self.actors, self.lanes.len(), object);
        for (group, clock, time) in self.lanes[warp as usize].fences_of(lanes, scope) {
            meeting.open.join(clock);
            meeting.open.own.known.raise(warp as u16, group, time);
        }
    }

    /// What was released into the object happens before what these lanes do from now on.
    pub fn acquire(&mut self, warp: u32, lanes: u32, object: Object) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        if let Some(meeting) = self.meetings.get_mut(&object) {
            meeting.left = true;
            let seen = if meeting.phased { &meeting.done } else { &meeting.open };
            self.lanes[warp as usize].update(lanes, |clock, _| clock.join(seen));
        }
    }

    /// As [`acquire`](Self::acquire) of a wait that is `.relaxed`: once these lanes come to a fence.
    pub fn acquire_at_fence(&mut self, warp: u32, active: u32, object: Object) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        let Some(meeting) = self.meetings.get(&object) else { return };
        let seen = if meeting.phased { &meeting.done } else { &meeting.open };
        let seen = seen.publish(self.cluster);
        let of = &mut self.lanes[warp as usize];
        for lane in lanes(active) {
            (0..threads::LEVELS).for_each(|level| of.found(lane as u32, level, seen.clone()));
        }
    }

    /// A warp arrives at an mbarrier or learns that a phase has ended: from now on it knows of those that ended before.
    pub fn notice(&mut self, warp: u32, object: Object) {
        if let Some(meeting) = self.meetings.get_mut(&object).filter(|meeting| meeting.ends[1] != 0) {
            let end = meeting.ends[1];
            meeting.seen.insert(warp, end);
        }
    }

    /// Whether a lane knows that the phase of an mbarrier before its last one has ended, as who waits for a phase by its
    /// parity has to: to who does not, that phase and the one that goes on now look the same.
    pub fn keeps_up(&mut self, warp: u32, lane: u32, object: Object) -> bool {
        if !self.options.order() {
            return true;
        }
        self.settle(warp);
        let Some(meeting) = self.meetings.get(&object) else { return true };
        let end = meeting.ends[0];
        let heard =
            || self.lanes[warp as usize].clock(lane).1.own.known.covers(meeting.actor, 1 << lane, end);
        end == 0 || meeting.seen.get(&warp).is_some_and(|seen| *seen >= end) || heard()
    }

    /// The phase of a barrier or an mbarrier ends, which [`release`](Self::release)s went into: from now on it is what acquires see, and no release that
    /// comes later belongs to it. Of an object for which this is never called, acquires see all releases before them.
    pub fn phase(&mut self, object: Object) {
        if !self.options.order() {
            return;
        }
        let gone = match object {
            Object::Barrier { block, .. } => self.blocks.get(block as usize..=block as usize),
            Object::Cluster => Some(&self.blocks[..]),
            _ => None,
        };
        let gone = gone.unwrap_or_default().iter().map(|block| &block.exited);
        let gone: Vec<Clock> = gone.filter(|clock| **clock != Clock::default()).cloned().collect();
        let meeting = self.meeting(object);
        meeting.phased = true;
        if matches!(object, Object::Mbarrier { .. }) {
            meeting.time += 1;
            meeting.open.own.known.raise(meeting.actor, ALL, meeting.time);
            meeting.ends = [meeting.ends[1], meeting.time];
        }
        let open = std::mem::take(&mut meeting.open);
        meeting.done.join(&open);
        gone.iter().for_each(|clock| meeting.done.join(clock));
    }

    /// Lanes of a warp have exited: barriers do not wait for them any more.
    pub fn exit(&mut self, warp: u32, lanes: u32) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        let block = (warp / u32::from(self.warps)) as usize;
        let (of, exited) = (&mut self.lanes[warp as usize], &mut self.blocks[block].exited);
        let time = of.tell();
        for (group, clock) in of.clocks(lanes) {
            exited.join(clock);
            exited.own.known.raise(warp as u16, group, time);
        }
    }

    /// `fence.acq_rel`.
    pub fn fence(&mut self, warp: u32, lanes: u32, scope: Scope) {
        self.any_fence(warp, lanes, scope, false);
    }

    /// `fence.sc` and membar: as [`fence`](Self::fence), and after every other one that what was read proves to come before.
    pub fn total_fence(&mut self, warp: u32, lanes: u32, scope: Scope) {
        self.any_fence(warp, lanes, scope, true);
    }

    fn any_fence(&mut self, warp: u32, lanes: u32, scope: Scope, total: bool) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        self.lanes[warp as usize].fence(warp as u16, lanes, scope, self.cluster, total);
    }

    /// `fence.proxy.tensormap::generic.acquire`: what these lanes know to be written may be read as tensor maps by copies that are
    /// ordered after.
    pub fn map_fence(&mut self, warp: u32, lanes: u32) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        let of = &mut self.lanes[warp as usize];
        let time = of.tell();
        of.update(lanes, |clock, inside| clock.fence_maps(warp as u16, inside, time));
    }

    /// `fence.proxy.async`: what these lanes wrote may be read by asynchronous operations that are ordered after.
    pub fn proxy_fence(&mut self, warp: u32, lanes: u32) {
        if !self.options.order() {
            return;
        }
        self.settle(warp);
        let of = &mut self.lanes[warp as usize];
        let time = of.tell();
        of.update(lanes, |clock, inside| clock.fence_proxy(warp as u16, inside, time));
    }

    fn instruction<'a>(
        &mut self,
        warp: u32,
        active: u32,
        offsets: &'a WideRow,
        beside: bool,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: Option<&'a dyn Fn(usize, usize) -> bool>,
        lenient: &'a Leniency,
    ) -> Instruction<'a> {
        let time = self.lanes[warp as usize].now();
        let kind = match access {
            Access::Read if order == Order::Constant => CONSTANT,
            Access::Read if order == Order::Map => MAP,
            Access::Read => 0,
            Access::Write | Access::Atomic => WRITE,
        };
        let flags = Stamp::with_strength(kind, strong::strength(access, order));
        let stamp = Stamp { time, lanes: 0, pc, cluster: self.cluster, actor: warp as u16, flags, shift: 0 };
        Instruction { stamp, warps: self.warps, active, offsets, beside, len, differ, lenient }
    }

    /// The meeting at an object.
    fn meeting(&mut self, object: Object) -> &mut Meeting {
        meeting(&mut self.meetings, &mut self.actors, self.lanes.len(), object)
    }

    /// The number of an actor that is no warp.
    fn actor(&mut self, actor: Actor) -> u16 {
        number(&mut self.actors, self.lanes.len(), actor)
    }

    /// The block of a warp.
    fn block(&self, warp: u32) -> (u32, u32) {
        (self.cluster, warp / u32::from(self.warps))
    }
}

/// The meeting at an object, among `warps` warps.
fn meeting<'m>(
    meetings: &'m mut Map<Object, Meeting>,
    actors: &mut Map<Actor, u16>,
    warps: usize,
    object: Object,
) -> &'m mut Meeting {
    let make = || Meeting { actor: number(actors, warps, Actor::Object(object)), ..Meeting::default() };
    meetings.entry(object).or_insert_with(make)
}

/// The number of an actor that is no warp: they come behind the warps.
fn number(actors: &mut Map<Actor, u16>, warps: usize, actor: Actor) -> u16 {
    let next = warps + actors.len();
    *actors.entry(actor).or_insert(next as u16)
}
