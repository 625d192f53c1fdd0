//! The blocks of a cluster, which run on one thread of the host, and what all clusters of a launch share.

use super::barrier::{self, Barriers, ClusterBarrier};
use super::lanes::ALL;
use super::run::{Count, Turn, run};
use super::{Context, Op, Warp, bulk, copy};
use crate::check::{self, Checker};
use crate::counters::Counters;
use crate::fault::{Fault, FaultKind, Place, Report};
use crate::memory::Memory;
use crate::program::Program;

/// What is the same for all blocks of a launch.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What runs.
    pub program: &'a Program,
    /// The parameters' bytes.
    pub params: &'a [u8],
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// Global memory.
    pub memory: &'a Memory,
    /// The device that is played.
    pub device: &'a crate::device::Device,
    /// Number of the launch in the process, from 1.
    pub number: u64,
    /// Address of the words at which the blocks of a cooperative launch meet, 0 in another.
    pub workspace: u64,
}

impl Launch<'_> {
    /// Warps of a block.
    pub fn warps(&self) -> u32 {
        let [x, y, z] = self.threads;
        (x * y * z).div_ceil(32)
    }

    /// Bytes from address 0 of a block's shared memory to the end of the dynamic one.
    pub fn shared(&self) -> u32 {
        let base = self.device.shared_base();
        if self.dynamic_shared == 0 {
            return base + self.program.shared_bytes;
        }
        self.program.dynamic_base(base) + self.dynamic_shared
    }

    /// `%tid` of a lane.
    pub fn thread(&self, warp: u32, lane: u32) -> [u32; 3] {
        let [x, y, _] = self.threads;
        let thread = warp * 32 + lane;
        [thread % x, thread / x % y, thread / x / y]
    }

    /// Clusters of the grid.
    pub fn clusters(&self) -> u64 {
        self.grid.iter().zip(self.cluster).map(|(blocks, of)| u64::from(blocks / of)).product()
    }
}

/// A block: its shared memory and its barriers.
#[derive(Debug)]
pub struct Block {
    /// `%ctaid`.
    pub index: [u32; 3],
    /// Shared memory from address 0 of its window on, static and dynamic.
    pub shared: Vec<u8>,
    /// Barriers 0..16.
    pub barriers: Barriers,
    /// mbarrier objects, by their offset in shared memory.
    pub mbarriers: super::mbarrier::Objects,
}

/// Blocks that run together.
#[derive(Debug)]
pub struct Cluster {
    /// Its number in the grid.
    pub number: u64,
    /// By rank.
    pub blocks: Vec<Block>,
    /// Of all blocks, block by block; the one that runs is taken out meanwhile (`None`). Those that ended have no live lane.
    pub warps: Vec<Option<Warp>>,
    /// The barrier of the cluster.
    pub barrier: ClusterBarrier,
    /// Asynchronous operations in flight.
    pub flights: bulk::Flights,
    /// Arrivals that wait for copies of threads.
    pub arrivals: copy::Arrivals,
    /// What is checked.
    pub checker: Checker,
    /// What is counted.
    pub counters: Counters,
    /// What was printed and has not been written out.
    pub output: Vec<u8>,
    /// Set while nothing can run but what waits with a limit of time: `mbarrier.try_wait` then gives up.
    pub stalled: bool,
    /// How often it stalled since a thread last changed something.
    pub stalls: u32,
    /// How many instructions had changed something when it stalled last.
    changed: u64,
    /// Places whose value atomics changed. One that fails to take a lock changes nothing.
    pub altered: u64,
}

/// What a cluster came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// All its threads have exited.
    Ended,
    /// Its threads go round in vain: another cluster may have to run.
    Spins,
    /// It had its share of instructions.
    Used,
}

/// What shared memory holds before anything is written there: nothing that looks like a result.
const UNWRITTEN: u8 = 0xa5;
/// Instructions of a warp before the next one has its turn.
const QUANTUM: u64 = 20_000;
/// Rounds of all warps in vain before another cluster has its turn.
const ROUNDS: u32 = 8;
/// Times that all threads give up waiting, one after the other, until it is called a deadlock.
const STALLS: u32 = 64;

impl Cluster {
    /// A cluster of a launch before its first instruction.
    pub fn new(launch: &Launch, number: u64, check: check::Options) -> Cluster {
        let program = launch.program;
        let (ranks, warps) = (launch.cluster.iter().product::<u32>(), launch.warps());
        let threads: u32 = launch.threads.iter().product();
        let lanes_of = |warp: u32| match threads - warp * 32 {
            left @ 0..32 => (1 << left) - 1,
            _ => ALL,
        };
        let live: Vec<u32> = (0..warps).map(lanes_of).collect();
        let block = |rank| Block {
            index: index(launch, number, rank),
            shared: vec![UNWRITTEN; launch.shared() as usize],
            barriers: Barriers::new(live.clone()),
            mbarriers: Default::default(),
        };
        let warp =
            |at: u32| Some(Warp::new(program, at / warps, at % warps, lanes_of(at % warps).count_ones()));
        Cluster {
            number,
            blocks: (0..ranks).map(block).collect(),
            warps: (0..ranks * warps).map(warp).collect(),
            barrier: ClusterBarrier::new(live.repeat(ranks as usize)),
            flights: Default::default(),
            arrivals: Default::default(),
            checker: Checker::new(check, launch.number, number, ranks, warps, launch.shared()),
            counters: Counters::default(),
            output: Vec::new(),
            stalled: false,
            stalls: 0,
            changed: 0,
            altered: 0,
        }
    }

    /// Runs until it ends, spins or has run about `share` instructions; returns how many it ran.
    pub(super) fn run(
        &mut self,
        launch: &Launch,
        counts: &mut [Count],
        share: u64,
    ) -> Result<(State, u64), Box<Report>> {
        let (mut vain, mut total) = (0, 0);
        loop {
            let (mut ran, mut works, mut live) = (0, false, false);
            for at in 0..self.warps.len() {
                let Some(mut warp) = self.warps[at].take_if(|warp| warp.live != 0) else { continue };
                let mut left = QUANTUM;
                let mut cx = Context {
                    launch,
                    cluster: self,
                    warp: &mut warp,
                    inst: &launch.program.code[0],
                    pc: 0,
                    token: None,
                    converged: 0,
                };
                let turn = run(&mut cx, counts, &mut left);
                let pc = cx.pc;
                let turn = match turn {
                    Ok(turn) => turn,
                    Err(fault) => return Err(self.report(launch, at as u32, pc, fault)),
                };
                ran += QUANTUM - left;
                works |= matches!(turn, Turn::Used | Turn::Ended) || turn == Turn::Waits && left != QUANTUM;
                live |= turn != Turn::Ended;
                if turn == Turn::Ended {
                    warp.rows = Vec::new();
                    let (block, mut others) = (warp.block, self.warps.iter().flatten());
                    let last = others.all(|other| other.block != block || other.live == 0);
                    if last
                        && let Err(fault) = bulk::at_exit(self, block)
                        && let Err(fault) = self.checker.tolerate(at as u32, pc, fault)
                    {
                        return Err(self.report(launch, at as u32, pc, fault));
                    }
                }
                self.warps[at] = Some(warp);
                if let Err(fault) = self.advance(launch, false) {
                    return Err(self.report_at(launch, at, fault));
                }
            }
            self.stalled = false;
            if !live {
                return self.end(launch).map(|()| (State::Ended, total));
            }
            if ran == 0 {
                // Looked at only here, as it takes time.
                let changed = changes(launch.program, counts) + self.altered;
                if changed != self.changed {
                    self.changed = changed;
                    self.stalls = 0;
                }
                match self.advance(launch, true) {
                    Ok(true) => continue,
                    Ok(false) => self.stalls += 1,
                    Err(fault) => return Err(self.report_at(launch, 0, fault)),
                }
                if self.stalls > STALLS || self.stalls > 1 && !self.gives_up(launch) {
                    return Err(self.deadlock(launch));
                }
                self.stalled = true;
                continue;
            }
            total += ran;
            vain = if works { 0 } else { vain + 1 };
            if vain >= ROUNDS {
                return Ok((State::Spins, total));
            }
            if total >= share {
                return Ok((State::Used, total));
            }
        }
    }

    /// Lets time pass for what is in flight; with `force`, something of it happens. Whether anything did.
    fn advance(&mut self, launch: &Launch, force: bool) -> Result<bool, Fault> {
        let moved = bulk::advance(self, launch, force)?;
        Ok(copy::advance(self, launch, force && !moved)? || moved)
    }

    /// Whether an instruction waits that gives up after a while.
    fn gives_up(&self, launch: &Launch) -> bool {
        let fragments = self.warps.iter().flatten().flat_map(|warp| &warp.fragments);
        fragments
            .filter(|fragment| fragment.wait.is_some())
            .any(|fragment| matches!(launch.program.code[fragment.pc as usize].op, Op::Mbarrier(_)))
    }

    /// Lets what is in flight arrive after the last thread has exited.
    fn end(&mut self, launch: &Launch) -> Result<(), Box<Report>> {
        loop {
            match self.advance(launch, true) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => return Err(self.report_at(launch, 0, fault)),
            }
        }
        let warps = launch.warps() as usize;
        let left = self.blocks.iter().map(|block| block.mbarriers.unfinished());
        match left.enumerate().find_map(|(rank, left)| Some((rank, left?))) {
            None => Ok(()),
            Some((rank, left)) => {
                let fault = Fault::new(FaultKind::Barrier, format!("the block has ended, and {left}"));
                Err(self.report_at(launch, rank * warps, fault))
            }
        }
    }

    /// A fault with its place, where no instruction is at fault that runs.
    fn report_at(&mut self, launch: &Launch, at: usize, fault: Fault) -> Box<Report> {
        let first = self.warps[at].as_ref().and_then(|warp| warp.fragments.first());
        let pc = first.map_or(0, |fragment| fragment.pc);
        self.report(launch, at as u32, pc, fault)
    }

    /// A fault with its place; `warp` is the warp's index in the cluster.
    pub(super) fn report(&self, launch: &Launch, warp: u32, pc: u32, fault: Fault) -> Box<Report> {
        let program = launch.program;
        let place = |block, thread, pc: u32| Place {
            kernel: program.name.clone(),
            block,
            thread,
            ptx_line: program.code.get(pc as usize).map_or(0, |inst| inst.line),
            ptx: program.text(pc).to_owned(),
            source: program.source(pc),
        };
        let thread = launch.thread(warp % launch.warps(), fault.lane.unwrap_or(0));
        let mut fault = fault;
        let mut earlier = None;
        if let Some(other) = fault.other {
            match other.thread {
                Some((warp, lane)) => {
                    let block = index(launch, other.cluster, warp / launch.warps());
                    let thread = launch.thread(warp % launch.warps(), lane);
                    earlier = Some(place(block, thread, other.pc));
                }
                None => fault.notes.push(format!("the earlier one: {}", program.place(other.pc))),
            }
        }
        let place = place(self.blocks[(warp / launch.warps()) as usize].index, thread, pc);
        Box::new(Report { fault, place, other: earlier })
    }

    /// That nothing can run any more.
    fn deadlock(&mut self, launch: &Launch) -> Box<Report> {
        let waiting = self.waiting(launch);
        self.standstill(launch, "deadlock: no thread of the cluster can go on", waiting)
    }

    /// That something has gone on for too long without a change.
    pub(super) fn livelock(&mut self, launch: &Launch, others: Vec<String>) -> Box<Report> {
        let waiting = self.waiting(launch).into_iter().chain(others).collect();
        let message =
            "deadlock: threads go round in loops, and none has changed anything for a very long time";
        self.standstill(launch, message, waiting)
    }

    fn standstill(&mut self, launch: &Launch, message: &str, mut notes: Vec<String>) -> Box<Report> {
        const MOST: usize = 64;
        let more = notes.len().saturating_sub(MOST);
        notes.truncate(MOST);
        if more > 0 {
            notes.push(format!("and {more} more"));
        }
        let live = |warp: &Option<Warp>| warp.as_ref().is_some_and(|warp| warp.live != 0);
        let at = self.warps.iter().position(live).unwrap_or(0);
        let lane = self.warps[at]
            .as_ref()
            .map_or(0, |warp| warp.fragments.first().map_or(0, |fragment| fragment.mask.trailing_zeros()));
        let fault = Fault { notes, ..Fault::at(FaultKind::Deadlock, lane, message) };
        self.report_at(launch, at, fault)
    }

    /// Where each live warp is and what it waits for, a line for each of its fragments.
    pub(super) fn waiting(&mut self, launch: &Launch) -> Vec<String> {
        let mut found = Vec::new();
        for at in 0..self.warps.len() {
            let Some(warp) = self.warps[at].take_if(|warp| warp.live != 0) else { continue };
            for fragment in warp.fragments.clone() {
                let [x, y, z] = self.blocks[warp.block as usize].index;
                let inst = &launch.program.code[fragment.pc as usize];
                let mut line = format!(
                    "block ({x},{y},{z}), warp {}, lanes {:#010x}, at {}",
                    warp.index,
                    fragment.mask,
                    launch.program.place(fragment.pc)
                );
                let mut what = fragment.wait.map(|wait| wait.what);
                if let Op::Barrier(op) = &inst.op
                    && what.is_some()
                {
                    what = barrier::describe(op, self, &warp, fragment.mask).or(what);
                }
                let missing = fragment.meeting & warp.live & !fragment.mask;
                if missing != 0 {
                    what = Some(format!("lanes {missing:#010x} of its warp"));
                }
                if let Some(what) = what {
                    line.push_str(", waits for ");
                    line.push_str(&what);
                }
                found.push(line);
            }
            self.warps[at] = Some(warp);
        }
        found
    }
}

/// `%ctaid` of a block.
fn index(launch: &Launch, cluster: u64, rank: u32) -> [u32; 3] {
    let [cx, cy, _] = launch.cluster;
    let clusters = [launch.grid[0] / cx, launch.grid[1] / cy].map(u64::from);
    let of =
        [cluster % clusters[0], cluster / clusters[0] % clusters[1], cluster / clusters[0] / clusters[1]];
    let within = [rank % cx, rank / cx % cy, rank / cx / cy];
    std::array::from_fn(|axis| of[axis] as u32 * launch.cluster[axis] + within[axis])
}

/// How many instructions ran that change what others can see.
pub(super) fn changes(program: &Program, counts: &[Count]) -> u64 {
    program
        .details
        .iter()
        .zip(counts)
        .filter(|(detail, _)| detail.changes)
        .map(|(_, count)| count.warps)
        .sum()
}

/// Adds what ran to the counters, by class.
pub(super) fn add_up(program: &Program, counts: &[Count], counters: &mut Counters) {
    for ((inst, detail), count) in program.code.iter().zip(&program.details).zip(counts) {
        if !detail.implied {
            counters.warp_instructions[inst.class as usize] += count.warps;
            counters.lane_instructions[inst.class as usize] += count.lanes;
        }
    }
}
