//! A launch from its first block to its last.
//!
//! Clusters run on as many threads of the host as are given. Some wait for others through global memory, so one that
//! goes round in vain, or has run for long, makes room for another as long as a device would hold both.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::cluster::{State, add_up, changes};
use super::run::Count;
use super::{Cluster, Launch};
use crate::check;
use crate::counters::Counters;
use crate::fault::Report;

/// How a launch is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads of the host.
    pub threads: usize,
    /// What is checked.
    pub check: check::Options,
    /// How many instructions of warps may run in loops that wait, without any thread changing anything, before this is
    /// called a deadlock; in other loops ten times as many.
    pub patience: u64,
}

impl Options {
    /// [`Options::patience`] where nothing asks for another.
    pub const PATIENCE: u64 = 200_000_000;
}

/// Instructions of a cluster before others have their turn.
const SHARE: u64 = 1 << 22;

/// Runs a launch. What it prints goes to `output`, block by block. Where findings do not end it
/// ([`check::Options::report`]), `tell` gets one of each.
///
/// # Errors
/// The first fault.
pub fn run(
    launch: &Launch,
    options: &Options,
    output: &mut (dyn Write + Send),
    tell: &mut (dyn FnMut(&Report) + Send),
) -> Result<Counters, Box<Report>> {
    let total = launch.clusters();
    let queue = Queue {
        next: 0,
        ready: VecDeque::new(),
        in_vain: VecDeque::new(),
        running: 0,
        picks: 0,
        vain: 0,
        failed: None,
        counters: Counters::default(),
        output,
        told: HashSet::new(),
        tell,
    };
    let grid = Grid {
        launch,
        options,
        total,
        resident: resident(launch),
        queue: Mutex::new(queue),
        changed: Condvar::new(),
    };
    let workers = options.threads.clamp(1, usize::try_from(total).unwrap_or(usize::MAX).max(1));
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(|| grid.work());
        }
        grid.work();
    });
    let queue = grid.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    match queue.failed {
        Some(report) => Err(report),
        None => Ok(queue.counters),
    }
}

/// Clusters that the device holds at once.
fn resident(launch: &Launch) -> u64 {
    let device = launch.device;
    let shared = launch.shared().max(device.reserved_shared).max(1);
    let blocks = device
        .blocks_per_multiprocessor
        .min(device.threads_per_multiprocessor / (launch.warps() * 32).max(1))
        .min(device.shared_per_multiprocessor / shared);
    let blocks = u64::from(blocks) * u64::from(device.multiprocessors);
    (blocks / launch.cluster.iter().map(|blocks| u64::from(*blocks)).product::<u64>().max(1)).max(1)
}

struct Grid<'g> {
    launch: &'g Launch<'g>,
    options: &'g Options,
    total: u64,
    /// Clusters that may have begun and not ended.
    resident: u64,
    queue: Mutex<Queue<'g>>,
    changed: Condvar,
}

struct Queue<'g> {
    /// The first cluster that has not begun.
    next: u64,
    /// Clusters that had their share.
    ready: VecDeque<Cluster>,
    /// Clusters that went round in vain.
    in_vain: VecDeque<Cluster>,
    running: u64,
    picks: u64,
    /// Instructions since a thread last changed something.
    vain: u64,
    failed: Option<Box<Report>>,
    counters: Counters,
    output: &'g mut (dyn Write + Send),
    /// Findings that were told.
    told: HashSet<check::Key>,
    tell: &'g mut (dyn FnMut(&Report) + Send),
}

/// What a thread of the host does next.
enum Pick {
    Begin(u64),
    Resume(Box<Cluster>),
    Wait,
    End,
}

impl Queue<'_> {
    fn pick(&mut self, total: u64, resident: u64) -> Pick {
        if self.failed.is_some() {
            return Pick::End;
        }
        self.picks += 1;
        let begun = self.running + (self.ready.len() + self.in_vain.len()) as u64;
        let may_begin = self.next < total && begun < resident;
        // What has begun is ended first, which takes less memory; but what it does may depend on all others.
        let fair = self.picks.is_multiple_of(8);
        if !fair && let Some(cluster) = self.ready.pop_front() {
            return Pick::Resume(Box::new(cluster));
        }
        if may_begin {
            self.next += 1;
            return Pick::Begin(self.next - 1);
        }
        match self.in_vain.pop_front().or_else(|| self.ready.pop_front()) {
            Some(cluster) => Pick::Resume(Box::new(cluster)),
            None if self.running > 0 => Pick::Wait,
            None => Pick::End,
        }
    }
}

impl<'g> Grid<'g> {
    fn lock(&self) -> MutexGuard<'_, Queue<'g>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs clusters until none is left.
    fn work(&self) {
        let (launch, program) = (self.launch, self.launch.program);
        let mut counts = vec![Count::default(); program.code.len()];
        let mut queue = self.lock();
        loop {
            let pick = queue.pick(self.total, self.resident);
            let mut cluster = match pick {
                Pick::End => break,
                Pick::Wait => {
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Pick::Begin(number) => {
                    queue.running += 1;
                    drop(queue);
                    Box::new(Cluster::new(launch, number, self.options.check))
                }
                Pick::Resume(cluster) => {
                    queue.running += 1;
                    drop(queue);
                    cluster
                }
            };
            let before = changes(program, &counts) + cluster.altered;
            let outcome = cluster.run(launch, &mut counts, SHARE);
            let changed = changes(program, &counts) + cluster.altered != before;
            let findings = cluster.checker.findings();
            queue = self.lock();
            queue.running -= 1;
            for finding in findings {
                if queue.told.insert(finding.key) {
                    (queue.tell)(&cluster.report(launch, finding.warp, finding.pc, finding.fault));
                }
            }
            // Nothing can be done about an output that is closed.
            let _ = queue.output.write_all(&cluster.output);
            cluster.output.clear();
            match outcome {
                Ok((State::Ended, _)) => {
                    queue.counters.merge(&cluster.counters);
                    queue.vain = 0;
                }
                Ok((state, ran)) => {
                    let vain = if state == State::Spins { ran } else { ran / 10 };
                    queue.vain = if changed { 0 } else { queue.vain + vain };
                    if queue.vain > self.options.patience && queue.failed.is_none() {
                        let mut others: Vec<Cluster> = queue.in_vain.drain(..).collect();
                        others.extend(queue.ready.drain(..));
                        let others = others.iter_mut().flat_map(|other| other.waiting(launch)).collect();
                        queue.failed = Some(cluster.livelock(launch, others));
                    } else if state == State::Spins {
                        queue.in_vain.push_back(*cluster);
                    } else {
                        queue.ready.push_back(*cluster);
                    }
                }
                Err(report) => {
                    queue.failed.get_or_insert(report);
                }
            }
            self.changed.notify_all();
        }
        add_up(program, &counts, &mut queue.counters);
        let _ = queue.output.flush();
    }
}
