//! What orders threads: objects that they release and acquire, and fences.

use super::clock::Clock;
use super::hash::Map;
use super::{Actor, Checker, Object, Scope, number, threads};
use crate::exec::lanes::{ALL, lanes};

/// Where threads meet: what was released there.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    /// Its own number among the actors: in its name stand the operations that complete there.
    pub(super) actor: u16,
    /// How many did.
    pub(super) time: u32,
    /// Released in the phase that goes on.
    pub(super) open: Clock,
    /// Released in the phases that have ended.
    pub(super) done: Clock,
    /// Whether somebody says when phases end.
    pub(super) phased: bool,
    /// Whether the last to come here acquired.
    pub(super) left: bool,
    /// Of an mbarrier, the times at which its last two phases ended, in its own name.
    pub(super) ends: [u32; 2],
    /// The last of those that a warp has seen.
    pub(super) seen: Map<u32, u32>,
}

impl Checker {
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

    /// The meeting at an object.
    pub(super) fn meeting(&mut self, object: Object) -> &mut Meeting {
        meeting(&mut self.meetings, &mut self.actors, self.lanes.len(), object)
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
