//! What goes on by itself: copies and matrix products in flight.
//!
//! Matrix products and `cp.async` complete in the order in which a thread issued them, so that each thread's are an actor with a
//! time of its own, which others know up to what they waited for. Bulk operations complete in any order: their accesses are
//! marked as in flight, which comes before nothing, and become those of the mbarrier that they complete on, or of the thread that waits for them.

use std::sync::Arc;

use super::accesses::SHARED_CAP;
use super::clock::Clock;
use super::findings::Leniency;
use super::history::{ASYNC, FLIGHT, IN_FLIGHT, LINE, Line, Stamp, Touch, WRITE};
use super::shadow::Shadow;
use super::{Access, Actor, Asynchronous, Checker, Flight, Object, Place, Thread, report};
use crate::exec::lanes::ALL;
use crate::fault::Fault;

/// An operation in flight.
#[derive(Debug)]
pub(super) struct Flying {
    pub kind: Asynchronous,
    pub who: Thread,
    pc: u32,
    /// What its issuer knew.
    clock: Arc<Clock>,
    /// Its issuer's time.
    time: u32,
    /// As its accesses are remembered: actor, lanes, time.
    mark: (u16, u32, u32),
    shared: Vec<(u32, u32, u32)>,
    global: Vec<(Arc<Shadow>, u64, u64, u64)>,
}

impl Checker {
    /// A thread starts an asynchronous operation.
    pub fn issue(&mut self, who: Thread, kind: Asynchronous, pc: u32) -> Flight {
        self.issuer = (who, pc);
        if !self.options.order() {
            return Flight(0);
        }
        self.settle(who.warp);
        self.issued += 1;
        let number = self.issued;
        let mark = match kind {
            Asynchronous::Copy => (self.actor(Actor::Copies(who.warp)), 1 << who.lane, number),
            Asynchronous::Product => (self.actor(Actor::Products(who.warp)), 1, number),
            Asynchronous::Bulk => (IN_FLIGHT, number, u32::MAX),
        };
        let of = &mut self.lanes[who.warp as usize];
        let clock = Arc::clone(of.clock(who.lane).1);
        let time = of.tell();
        let (shared, global) = (Vec::new(), Vec::new());
        self.flights.insert(number, Flying { kind, who, pc, clock, time, mark, shared, global });
        Flight(number)
    }

    /// The operation, issued last, reads or writes a place at some time from now until it completes.
    ///
    /// # Errors
    /// Where another access has no order with it, or a fence between the proxies is missing.
    pub fn asynchronous(
        &mut self,
        flight: Flight,
        place: Place,
        len: u32,
        access: Access,
    ) -> Result<(), Fault> {
        if self.options.uninitialized {
            let (who, pc) = self.issuer;
            if let Err(fault) = self.written(place, len, access, who.lane) {
                self.tolerate(who.warp, pc, fault)?;
            }
        }
        let Some(flying) = self.flights.get_mut(&flight.0) else { return Ok(()) };
        let proxy = if flying.kind == Asynchronous::Copy { 0 } else { ASYNC };
        let strength = if access == Access::Atomic { 3 } else { 0 };
        let (actor, lanes, time) = flying.mark;
        let flags = Stamp::with_strength(FLIGHT | proxy | if access.writes() { WRITE } else { 0 }, strength);
        let stamp = Stamp { time, lanes, pc: flying.pc, cluster: self.cluster, actor, flags, shift: 6 };
        let origin = (flying.who.warp as u16, 1 << flying.who.lane, flying.time);
        let (twin, idle) = (|_, _| None, |_| false);
        let lenient = Leniency::new(self.options);
        let (clock, warps) = (&*flying.clock, self.warps);
        let mut touch = Touch { stamp, clock, origin, warps, twin: &twin, idle: &idle, lenient: &lenient };
        let touch_line = |line: &mut Line, low, high, touch: &Touch, cap| {
            if high - low == LINE { line.touch_whole(touch, cap) } else { line.touch(low, high, touch, cap) }
        };
        let result = match place {
            Place::Shared { block, offset } => {
                if flying.kind == Asynchronous::Bulk {
                    flying.shared.push((block, offset, len));
                }
                let lines = &mut self.blocks[block as usize].lines;
                pieces(offset.into(), len.into()).try_for_each(|(at, low, high)| {
                    touch_line(&mut lines[(at / u64::from(LINE)) as usize], low, high, &touch, SHARED_CAP)
                })
            }
            Place::Global(allocation, offset) => {
                // Reads count as made when they were issued.
                if !access.writes() {
                    let (warp, lanes, time) = origin;
                    touch.stamp = Stamp { actor: warp, lanes, time, flags: proxy, ..stamp };
                } else if flying.kind == Asynchronous::Bulk {
                    flying.global.push((Arc::clone(&allocation.shadow), allocation.len, offset, len.into()));
                }
                let shadow = &allocation.shadow;
                shadow.visit(allocation.len, self.launch, offset, len.into(), |_, line, low, high| {
                    touch_line(line, low, high, &touch, Shadow::CAP)
                })
            }
        };
        let (kind, who, pc) = (flying.kind, flying.who, flying.pc);
        result.map_err(|clash| self.clash_flight(kind, who.lane, place, len, access, clash))?;
        for clash in lenient.found() {
            let fault = self.clash_flight(kind, who.lane, place, len, access, clash);
            self.keep(who.warp, pc, Some(clash.why), fault);
        }
        Ok(())
    }

    /// Sees that what is read was written.
    fn written(&mut self, place: Place, len: u32, access: Access, lane: u32) -> Result<(), Fault> {
        match place {
            Place::Shared { block, offset } => {
                let written = &mut self.blocks[block as usize].written;
                if access.reads()
                    && let Some(first) = written.first_clear(offset, len)
                {
                    return Err(report::unwritten_shared(lane, block, offset, len, first));
                }
                if access.writes() {
                    written.mark(offset, len);
                }
            }
            Place::Global(allocation, offset) => {
                if access.reads()
                    && let Some(first) = allocation.first_unwritten(offset, len.into())
                {
                    return Err(report::unwritten_global(lane, allocation, offset, len, first));
                }
                if access.writes() {
                    allocation.mark_written(offset, len.into());
                }
            }
        }
        Ok(())
    }

    /// The operation has completed. Its accesses happen before what acquires `object`, or, without one, before what
    /// [`wait`](Self::wait)s for it.
    pub fn complete(&mut self, flight: Flight, object: Option<Object>) {
        let (Some(object), true) = (object, self.flights.contains_key(&flight.0)) else { return };
        let meeting = self.meeting(object);
        meeting.time += 1;
        let (actor, time) = (meeting.actor, meeting.time);
        meeting.open.own.known.raise(actor, ALL, time);
        let Some(flying) = self.flights.get_mut(&flight.0) else { return };
        if flying.kind == Asynchronous::Bulk {
            self.land(flight, (actor, 1, time), false);
            self.flights.remove(&flight.0);
            return;
        }
        let (actor, lanes, time) = flying.mark;
        self.meeting(object).open.own.known.raise(actor, lanes, time);
    }

    /// These lanes waited for the operation (cp.async.wait_group and its like). With `reads_only`, for its reads alone.
    pub fn wait(&mut self, warp: u32, lanes: u32, flight: Flight, reads_only: bool) {
        let Some(flying) = self.flights.get(&flight.0) else { return };
        let (kind, who, (actor, mark, time)) = (flying.kind, flying.who, flying.mark);
        self.settle(warp);
        let of = &mut self.lanes[warp as usize];
        if kind != Asynchronous::Bulk {
            of.update(lanes, |clock, _| clock.own.known.raise(actor, mark, time));
            if kind == Asynchronous::Copy {
                self.flights.remove(&flight.0);
            }
            return;
        }
        of.tell();
        let now = of.now();
        // Only who issued it can wait for it.
        self.land(flight, (who.warp as u16, 1 << who.lane, now), reads_only);
        if !reads_only {
            self.flights.remove(&flight.0);
        }
    }

    /// The accesses of a bulk operation become those of `mark`.
    fn land(&mut self, flight: Flight, mark: (u16, u32, u32), reads_only: bool) {
        let Some(flying) = self.flights.get_mut(&flight.0) else { return };
        let (actor, lanes, time) = mark;
        let land = |stamp: &mut Stamp| {
            if !(reads_only && stamp.is(WRITE)) {
                *stamp = Stamp { actor, lanes, time, ..*stamp };
            }
        };
        for (block, offset, len) in &flying.shared {
            for (at, ..) in pieces((*offset).into(), (*len).into()) {
                self.blocks[*block as usize].lines[(at / u64::from(LINE)) as usize].land(flight.0, land);
            }
        }
        if !reads_only {
            for (shadow, bytes, offset, len) in &flying.global {
                let landed = shadow.visit(*bytes, self.launch, *offset, *len, |_, line, _, _| {
                    line.land(flight.0, land);
                    Ok(())
                });
                debug_assert!(landed.is_ok());
            }
        }
    }
}

/// `len` bytes from `offset` line by line: where each part starts, and its ends within the line.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, u32, u32)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        let low = (at % u64::from(LINE)) as u32;
        let high = (end - (at - u64::from(low))).min(u64::from(LINE)) as u32;
        let piece = (at, low, high);
        (at < end).then(|| {
            at += u64::from(high - low);
            piece
        })
    })
}
