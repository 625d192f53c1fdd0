//! The sixteen barriers of a block.
//!
//! A barrier counts in warps: one has arrived when all its threads that have not exited did, and counts 32, as PTX says.

use crate::fault::{Fault, FaultKind};

/// What comes to a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `.sync`
    Sync,
    /// `.arrive`: does not wait.
    Arrive,
    /// `.red.popc`
    Count,
    /// `.red.and`
    And,
    /// `.red.or`
    Or,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Sync => "sync",
            Kind::Arrive => "arrive",
            Kind::Count => "red.popc",
            Kind::And => "red.and",
            Kind::Or => "red.or",
        }
    }

    fn reduces(self) -> bool {
        matches!(self, Kind::Count | Kind::And | Kind::Or)
    }
}

/// Lanes of a warp that arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub kind: Kind,
    /// Threads that take part; `None`: all of the block.
    pub count: Option<u32>,
    /// Index of the warp in the block.
    pub warp: u32,
    pub lanes: u32,
    /// Lanes for which the reduced predicate holds.
    pub value: u32,
}

/// Barriers 0 to 15 of a block.
#[derive(Debug, Default)]
pub struct Barriers {
    ids: [Barrier; 16],
    /// Lanes of each warp that have not exited.
    live: Vec<u32>,
}

#[derive(Debug, Default)]
struct Barrier {
    /// How many times it completed.
    phase: u64,
    /// What those who came first in this phase asked for.
    kind: Option<Kind>,
    count: Option<u32>,
    /// Threads that have arrived, in whole warps.
    arrived: u32,
    /// Warps that have.
    whole: u32,
    /// Lanes of warps of which others are missing.
    partial: Vec<(u32, u32)>,
    /// Threads that brought true, and that came at all.
    holds: u32,
    came: u32,
    /// Results of phases, for as many threads as have not fetched them.
    results: Vec<(u64, u32, u32)>,
}

impl Barriers {
    /// Those of a block with these warps, of which each has these lanes.
    pub fn new(live: Vec<u32>) -> Barriers {
        Barriers { ids: Default::default(), live }
    }

    /// Lets lanes arrive; returns the phase they have to see completed.
    ///
    /// # Errors
    /// Where the barrier is used against its rules.
    pub(super) fn arrive(&mut self, id: u32, arrival: Arrival) -> Result<u64, Fault> {
        let Barriers { ids, live } = self;
        let barrier = &mut ids[id as usize];
        let refuse = |message| Err(Fault::at(FaultKind::Barrier, arrival.lanes.trailing_zeros(), message));
        match barrier.kind {
            None => {
                barrier.kind = Some(arrival.kind);
                barrier.count = arrival.count;
            }
            Some(_) if barrier.count != arrival.count => {
                let (found, own) = (in_words(barrier.count), in_words(arrival.count));
                return refuse(format!("barrier {id} for {own}, while others wait there for {found}"));
            }
            Some(kind) if kind != arrival.kind && (kind.reduces() || arrival.kind.reduces()) => {
                let (found, own) = (kind.name(), arrival.kind.name());
                return refuse(format!("barrier.{own} at barrier {id}, which others came to with {found}"));
            }
            Some(_) => {}
        }
        let phase = barrier.phase;
        barrier.holds += arrival.value.count_ones();
        barrier.came += arrival.lanes.count_ones();
        match barrier.partial.iter_mut().find(|(warp, _)| *warp == arrival.warp) {
            Some((_, lanes)) if *lanes & arrival.lanes != 0 => {
                return refuse(format!("a thread arrives twice at barrier {id} in one phase"));
            }
            Some((_, lanes)) => *lanes |= arrival.lanes,
            None => barrier.partial.push((arrival.warp, arrival.lanes)),
        }
        barrier.settle(arrival.warp, live);
        Ok(phase)
    }

    /// Takes note that lanes of a warp have exited: they hold up no barrier any more. Returns the barriers at which this
    /// completes a phase.
    pub fn exited(&mut self, warp: u32, lanes: u32) -> u32 {
        self.live[warp as usize] &= !lanes;
        let mut completed = 0;
        for (id, barrier) in self.ids.iter_mut().enumerate() {
            if barrier.kind.is_some() {
                completed |= u32::from(barrier.settle(warp, &self.live)) << id;
            }
        }
        completed
    }

    /// Whether a phase has completed.
    pub(super) fn passed(&self, id: u32, phase: u64) -> bool {
        self.ids[id as usize].phase > phase
    }

    /// What a phase's reduction came to, fetched by as many lanes as are set.
    pub(super) fn result(&mut self, id: u32, phase: u64, lanes: u32) -> u32 {
        let results = &mut self.ids[id as usize].results;
        let Some(at) = results.iter().position(|(of, _, _)| *of == phase) else { return 0 };
        let (_, result, left) = &mut results[at];
        let result = *result;
        *left -= lanes.count_ones();
        if *left == 0 {
            results.swap_remove(at);
        }
        result
    }

    /// Who is missing, in words.
    pub(super) fn describe(&self, id: u32) -> String {
        let Some(barrier) = self.ids.get(id as usize) else { return format!("barrier {id}") };
        let missing: Vec<String> = (0..)
            .zip(&self.live)
            .filter(|(warp, live)| **live != 0 && barrier.whole >> warp & 1 == 0)
            .map(|(warp, _)| warp.to_string())
            .collect();
        let arrived = barrier.arrived;
        match barrier.count {
            Some(count) => format!("barrier {id} ({arrived} of {count} threads have arrived)"),
            None => format!("barrier {id} (missing: warps {})", missing.join(", ")),
        }
    }
}

impl Barrier {
    /// Counts a warp whose lanes have all arrived, and completes the phase where all have; whether it did.
    fn settle(&mut self, warp: u32, live: &[u32]) -> bool {
        if let Some(at) = self.partial.iter().position(|(of, _)| *of == warp)
            && live[warp as usize] & !self.partial[at].1 == 0
        {
            self.partial.swap_remove(at);
            self.arrived += 32;
            self.whole |= 1 << warp;
        }
        let complete = match self.count {
            Some(count) => self.arrived >= count,
            None => (0..).zip(live).all(|(warp, live)| *live == 0 || self.whole >> warp & 1 == 1),
        };
        if !complete || self.arrived == 0 {
            return false;
        }
        let result = match self.kind {
            Some(Kind::Count) => Some(self.holds),
            Some(Kind::And) => Some(u32::from(self.holds == self.came)),
            Some(Kind::Or) => Some(u32::from(self.holds != 0)),
            _ => None,
        };
        self.results.extend(result.map(|result| (self.phase, result, self.came)));
        self.phase += 1;
        self.kind = None;
        self.count = None;
        self.arrived = 0;
        self.whole = 0;
        self.holds = 0;
        self.came = 0;
        true
    }
}

fn in_words(count: Option<u32>) -> String {
    count.map_or("all threads".to_owned(), |count| format!("{count} threads"))
}
