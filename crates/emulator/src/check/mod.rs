//! What no tool on hardware can see: order between accesses, and memory that nobody wrote.
//!
//! A happens-before engine. Instructions tell it what they touch ([`Checker::shared`], [`Checker::global`]), what orders
//! them ([`Checker::release`], [`Checker::acquire`], [`Checker::fence`]) and what goes on by itself
//! ([`Checker::issue`], [`Checker::asynchronous`], [`Checker::complete`]). It answers with a [`Fault`](crate::fault::Fault) where two accesses
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

mod accesses;
mod clock;
mod findings;
mod flights;
mod hash;
mod history;
mod instruction;
mod location;
mod meeting;
mod report;
mod shadow;
mod strong;
mod terms;
#[cfg(test)]
mod tests;
mod threads;
mod written;

use clock::Clock;
use findings::Findings;
use flights::Flying;
use hash::Map;
use history::{LINE, Line};
use location::Location;
use meeting::Meeting;
use threads::Lanes;
use written::Written;

pub use findings::{Finding, Key};
pub use shadow::Shadow;
pub use terms::{Access, Asynchronous, Flight, Object, Order, Place, Scope, Thread};

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

    /// The number of an actor that is no warp.
    fn actor(&mut self, actor: Actor) -> u16 {
        number(&mut self.actors, self.lanes.len(), actor)
    }

    /// The block of a warp.
    fn block(&self, warp: u32) -> (u32, u32) {
        (self.cluster, warp / u32::from(self.warps))
    }
}

/// The number of an actor that is no warp: they come behind the warps.
fn number(actors: &mut Map<Actor, u16>, warps: usize, actor: Actor) -> u16 {
    let next = warps + actors.len();
    *actors.entry(actor).or_insert(next as u16)
}
