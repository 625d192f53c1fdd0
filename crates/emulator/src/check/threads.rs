//! What the lanes of a warp know.

use std::sync::Arc;

use super::Scope;
use super::clock::{Clock, Published};
use super::shadow::Locations;
use crate::exec::lanes::{ALL, LANES, lanes};

/// Levels of scopes that are told apart: block, cluster, device with all beyond.
pub(super) const LEVELS: usize = 3;

/// The level of a scope.
pub(super) fn level(scope: Scope) -> usize {
    (scope as usize).min(LEVELS - 1)
}

/// A strong read of global memory. What it acquires is looked up when its warp goes on: only then has it been made, and whatever
/// value it found, the release that came before that value's store is there.
#[derive(Debug)]
pub(super) struct Observation {
    pub lane: u32,
    pub scope: Scope,
    /// Whether it acquires by itself, without a fence.
    pub acquire: bool,
    pub locations: Arc<Locations>,
    pub offset: u64,
}

/// A warp's lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    time: u32,
    /// Whether the next access gets a time of its own: others have been told of what was done up to now.
    told: bool,
    /// Lanes that know the same.
    groups: Vec<(u32, Arc<Clock>)>,
    /// What lanes knew, and the time, at their last fence, by level.
    fences: [Vec<(u32, Arc<Clock>, u32)>; LEVELS],
    /// The same at their last `fence.sc`.
    total: [Vec<(u32, Arc<Clock>, u32)>; LEVELS],
    /// What the next `fence.sc` comes after: those of threads that read places before these lanes wrote there, by level.
    behind: [Option<Box<[Published; LEVELS]>>; LANES],
    /// Where each lane read last behind a `fence.sc`, and the time of that: a loop that waits says it once.
    read_last: [(usize, u64, u32); LANES],
    /// What lanes read, which a fence turns into knowledge, by level.
    read: [Option<Box<[Published; LEVELS]>>; LANES],
    /// Strong reads to look up.
    pub observations: Vec<Observation>,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes {
            time: 1,
            told: false,
            groups: vec![(ALL, Arc::default())],
            fences: Default::default(),
            total: Default::default(),
            behind: Default::default(),
            read_last: Default::default(),
            read: Default::default(),
            observations: Vec::new(),
        }
    }
}

impl Lanes {
    /// The time of an access.
    #[inline]
    pub(super) fn now(&mut self) -> u32 {
        self.time += u32::from(std::mem::take(&mut self.told));
        self.time
    }

    /// The time up to which others are told of what was done, from now on.
    pub(super) fn tell(&mut self) -> u32 {
        self.told = true;
        self.time
    }

    /// What a lane knows, and the lanes that know the same.
    #[inline]
    pub(super) fn clock(&self, lane: u32) -> (u32, &Arc<Clock>) {
        let (mask, clock) =
            self.groups.iter().find(|(mask, _)| mask >> lane & 1 == 1).unwrap_or(&self.groups[0]);
        (*mask, clock)
    }

    /// Lanes of `mask` by what they know.
    pub(super) fn clocks(&self, mask: u32) -> impl Iterator<Item = (u32, &Arc<Clock>)> {
        self.groups.iter().map(move |(group, clock)| (group & mask, clock)).filter(|(group, _)| *group != 0)
    }

    /// Changes what the lanes of `mask` know.
    pub(super) fn update(&mut self, mask: u32, change: impl Fn(&mut Clock, u32)) {
        for index in 0..self.groups.len() {
            let (group, clock) = &mut self.groups[index];
            let inside = *group & mask;
            if inside == *group {
                change(Arc::make_mut(clock), inside);
            } else if inside != 0 {
                let mut part = Clock::clone(clock);
                change(&mut part, inside);
                *group &= !mask;
                self.groups.push((inside, Arc::new(part)));
            }
        }
        if self.groups.len() > 1 {
            self.unite();
        }
    }

    /// Puts lanes together that know the same.
    fn unite(&mut self) {
        let mut index = 1;
        while index < self.groups.len() {
            let (mask, clock) = &self.groups[index];
            let (mask, same) = (
                *mask,
                self.groups[..index]
                    .iter()
                    .position(|(_, other)| Arc::ptr_eq(other, clock) || other == clock),
            );
            match same {
                Some(other) => {
                    self.groups[other].0 |= mask;
                    self.groups.swap_remove(index);
                }
                None => index += 1,
            }
        }
    }

    /// What a lane makes known at a release.
    pub(super) fn publish(&self, warp: u16, lane: u32, cluster: u32) -> Published {
        with_own(self.clock(lane).1, warp, 1 << lane, self.time).publish(cluster)
    }

    /// What a lane made known by its last fence of at least `level` at a strong write; `None` without one.
    pub(super) fn fenced(&self, warp: u16, lane: u32, level: usize, cluster: u32) -> Option<Published> {
        let (_, clock, time) = self.fences[level].iter().find(|(mask, ..)| mask >> lane & 1 == 1)?;
        Some(with_own(clock, warp, 1 << lane, *time).publish(cluster))
    }

    /// What lanes knew, and the time, at their last fence of at least a scope.
    pub(super) fn fences_of(&self, mask: u32, scope: Scope) -> impl Iterator<Item = (u32, &Clock, u32)> {
        let fences =
            self.fences[level(scope)].iter().map(move |(group, clock, time)| (group & mask, &**clock, *time));
        fences.filter(|(group, ..)| *group != 0)
    }

    /// What a lane's strong read at `level` found, if a fence turns it into knowledge.
    pub(super) fn found(&mut self, lane: u32, level: usize, what: Published) {
        if !what.is_empty() {
            self.read[lane as usize].get_or_insert_default()[level].join(&what);
        }
    }

    /// What a lane knows that fences, of others too, have made visible to all.
    pub(super) fn visible(&self, warp: u16, lane: u32, cluster: u32) -> Published {
        with_own(self.clock(lane).1, warp, 1 << lane, self.time).publish_visible(cluster)
    }

    /// What a lane's last `fence.sc` of at least each level covered, for a strong read of a place; nothing where the lane has
    /// said so already.
    pub(super) fn read_behind(
        &mut self,
        warp: u16,
        lane: u32,
        cluster: u32,
        place: (usize, u64),
    ) -> Vec<(usize, Published)> {
        let mut all = Vec::new();
        for (level, fences) in self.total.iter().enumerate() {
            let Some((_, clock, time)) = fences.iter().find(|(mask, ..)| mask >> lane & 1 == 1) else {
                continue;
            };
            let last = (place.0, place.1, *time);
            if level == 0 && std::mem::replace(&mut self.read_last[lane as usize], last) == last {
                return Vec::new();
            }
            all.push((level, with_own(clock, warp, 1 << lane, *time).publish(cluster)));
        }
        all
    }

    /// A lane wrote where others had read behind fences that covered this: its own next `fence.sc` comes after those.
    pub(super) fn wrote_behind(&mut self, lane: u32, level: usize, covered: Published) {
        self.behind[lane as usize].get_or_insert_default()[level].join(&covered);
    }

    /// A fence; `total` if it is `fence.sc`.
    pub(super) fn fence(&mut self, warp: u16, mask: u32, scope: Scope, cluster: u32, total: bool) {
        for lane in lanes(if total { mask } else { 0 }) {
            if let Some(behind) = self.behind[lane].take() {
                self.update(1 << lane, |clock, _| clock.absorb(&behind[level(scope)], cluster));
                if level(scope) + 1 < LEVELS {
                    self.behind[lane] = Some(behind);
                }
            }
        }
        for lane in lanes(mask) {
            if let Some(read) = self.read[lane].take() {
                self.update(1 << lane, |clock, _| clock.absorb(&read[level(scope)], cluster));
                if level(scope) + 1 < LEVELS {
                    self.read[lane] = Some(read);
                }
            }
        }
        let time = self.tell();
        let clocks: Vec<_> =
            self.clocks(mask).map(|(group, clock)| (group, Arc::clone(clock), time)).collect();
        for level in 0..=level(scope) {
            for fences in [Some(&mut self.fences[level]), total.then_some(&mut self.total[level])] {
                let Some(fences) = fences else { continue };
                fences.retain_mut(|(group, ..)| {
                    *group &= !mask;
                    *group != 0
                });
                fences.extend(clocks.iter().cloned());
            }
        }
        if level(scope) + 1 == LEVELS {
            self.update(mask, |clock, inside| clock.fence_device(warp, inside, time));
        }
    }
}

/// A clock, with what lanes of the warp itself did up to `time`.
pub(super) fn with_own(clock: &Clock, warp: u16, mask: u32, time: u32) -> Clock {
    let mut clock = clock.clone();
    clock.own.known.raise(warp, mask, time);
    clock
}
