//! Strong accesses: what they release to a place in memory, and acquire from it.

use std::sync::Arc;

use super::clock::Published;
use super::location::{BlockId, Location};
use super::threads::{LEVELS, Lanes, Observation, level};
use super::{Access, Checker, Order, Scope};
use crate::memory::Allocation;

/// The scope of each level.
const SCOPES: [Scope; LEVELS] = [Scope::Block, Scope::Cluster, Scope::Device];

/// 0 for a weak access, then its scope from the narrowest. Atomics are never weak: their default is the device.
pub(super) fn strength(access: Access, order: Order) -> u8 {
    if matches!(order, Order::Weak | Order::Constant | Order::Map) && access != Access::Atomic {
        0
    } else {
        level(scope(order)) as u8 + 1
    }
}

fn scope(order: Order) -> Scope {
    match order {
        Order::Weak | Order::Constant | Order::Map => Scope::Device,
        Order::Relaxed(scope)
        | Order::Acquire(scope)
        | Order::Release(scope)
        | Order::AcquireRelease(scope) => scope,
    }
}

fn acquires(order: Order) -> bool {
    matches!(order, Order::Acquire(_) | Order::AcquireRelease(_))
}

/// What a strong write makes known, and to which scope: what a release or, before it, a fence covers.
fn releases(of: &mut Lanes, warp: u32, lane: u32, cluster: u32, order: Order) -> Vec<(Scope, Published)> {
    let warp = warp as u16;
    let mut all = Vec::new();
    if matches!(order, Order::Release(_) | Order::AcquireRelease(_)) {
        all.push((scope(order), of.publish(warp, lane, cluster)));
        of.tell();
    }
    for (level, scope) in SCOPES.iter().enumerate().take(level(scope(order)) + 1) {
        if let Some(clock) = of.fenced(warp, lane, level, cluster) {
            all.push((*scope, clock));
        }
    }
    if scope(order) >= Scope::Device {
        let visible = of.visible(warp, lane, cluster);
        if !visible.is_empty() {
            all.push((Scope::Device, visible));
        }
    }
    all
}

/// What `fence.sc` covered behind which a lane reads a place at `scope`.
fn fences(
    of: &mut Lanes,
    warp: u32,
    lane: u32,
    cluster: u32,
    scope: Scope,
    place: (usize, u64),
) -> Vec<(Scope, Published)> {
    let found = of.read_behind(warp as u16, lane, cluster, place);
    found.into_iter().map(|(level, clock)| (SCOPES[level].min(scope), clock)).collect()
}

/// A lane writes over what others read behind `fence.sc`.
fn wrote_over(of: &mut Lanes, location: &Location, block: BlockId, lane: u32) {
    for (level, scope) in SCOPES.iter().enumerate() {
        if let Some(covered) = location.read_before(block, *scope) {
            of.wrote_behind(lane, level, covered);
        }
    }
}

impl Checker {
    /// A strong access of shared memory. A cluster runs on one thread of the host, so that it counts as made.
    pub(super) fn strong_shared(
        &mut self,
        warp: u32,
        lane: u32,
        at: (u32, u32),
        access: Access,
        order: Order,
    ) {
        let (block, cluster) = (self.block(warp), self.cluster);
        let of = &mut self.lanes[warp as usize];
        if access.writes()
            && let Some(location) = self.locations.get(&at)
        {
            wrote_over(of, location, block, lane);
        }
        if access.reads() {
            let scope = scope(order);
            if let Some(location) = self.locations.get(&at) {
                for (level, at_most) in SCOPES.iter().enumerate() {
                    of.found(lane, level, location.visible(block, scope.min(*at_most)));
                }
                if acquires(order) {
                    let seen = location.visible(block, scope);
                    of.update(1 << lane, |clock, _| clock.absorb(&seen, cluster));
                }
            }
            let fences = fences(of, warp, lane, cluster, scope, (0, u64::from(at.0) << 32 | u64::from(at.1)));
            if !fences.is_empty() {
                self.locations.entry(at).or_default().read_behind(block, &fences);
            }
        }
        if access.writes() {
            let released = releases(of, warp, lane, cluster, order);
            if !released.is_empty() || self.locations.contains_key(&at) {
                self.locations.entry(at).or_default().write(block, access == Access::Write, &released);
            }
        }
    }

    /// A strong access of global memory, about to be made.
    pub(super) fn strong_global(
        &mut self,
        warp: u32,
        lane: u32,
        allocation: &Allocation,
        offset: u64,
        access: Access,
        order: Order,
    ) {
        let (block, cluster) = (self.block(warp), self.cluster);
        let of = &mut self.lanes[warp as usize];
        let locations = allocation.shadow.locations();
        if access.writes() {
            let released = releases(of, warp, lane, cluster, order);
            let store = access == Access::Write;
            if !released.is_empty() {
                locations.write(self.launch, |table| {
                    let location = table.entry(offset).or_default();
                    wrote_over(of, location, block, lane);
                    location.write(block, store, &released);
                });
            } else {
                locations.read(self.launch, |table| {
                    if let Some(location) = table.get_mut(&offset) {
                        wrote_over(of, location, block, lane);
                        location.write(block, store, &released);
                    }
                });
            }
        }
        if access.reads() {
            let place = (Arc::as_ptr(locations) as usize, offset);
            let fences = fences(of, warp, lane, cluster, scope(order), place);
            if !fences.is_empty() {
                locations.write(self.launch, |table| {
                    table.entry(offset).or_default().read_behind(block, &fences);
                });
            }
            of.observations.push(Observation {
                lane,
                scope: scope(order),
                acquire: acquires(order),
                locations: Arc::clone(locations),
                offset,
            });
        }
    }

    /// Looks up what a warp's strong reads of global memory found.
    #[inline]
    pub(super) fn settle(&mut self, warp: u32) {
        if !self.lanes[warp as usize].observations.is_empty() {
            self.look_up(warp);
        }
    }

    #[cold]
    fn look_up(&mut self, warp: u32) {
        let (block, cluster) = (self.block(warp), self.cluster);
        let of = &mut self.lanes[warp as usize];
        for Observation { lane, scope, acquire, locations, offset } in std::mem::take(&mut of.observations) {
            let mut seen: Option<[Published; LEVELS]> = None;
            locations.read(self.launch, |table| {
                seen = table
                    .get(&offset)
                    .map(|place| SCOPES.map(|at_most| place.visible(block, scope.min(at_most))));
            });
            let Some(seen) = seen else { continue };
            if acquire {
                of.update(1 << lane, |clock, _| clock.absorb(&seen[level(scope)], cluster));
            }
            for (level, found) in seen.into_iter().enumerate() {
                of.found(lane, level, found);
            }
        }
    }
}
