//! Faults in words.

use super::history::{ASYNC, Clash, FLIGHT, Stamp, WRITE, Why};
use super::{Access, Actor, Asynchronous, Checker, Object, Place};
use crate::exec::lanes::{Row, WideRow};
use crate::fault::{Fault, FaultKind, Other};
use crate::memory::Allocation;

impl Checker {
    /// A lane's access of shared memory does not go with an earlier one.
    #[cold]
    pub(super) fn clash_shared(
        &self,
        block: u32,
        offsets: &Row,
        len: u32,
        access: Access,
        clash: Clash,
    ) -> Fault {
        let lane = clash.lanes.trailing_zeros();
        let what = format!("{} {}", verb(access), in_shared(block, offsets[lane as usize], len));
        self.clash(lane, what, clash)
    }

    /// A lane's access of global memory does not go with an earlier one.
    #[cold]
    pub(super) fn clash_global(
        &self,
        allocation: &Allocation,
        offsets: &WideRow,
        len: u32,
        access: Access,
        clash: Clash,
    ) -> Fault {
        let lane = clash.lanes.trailing_zeros();
        let what = format!("{} {}", verb(access), in_global(allocation, offsets[lane as usize], len));
        self.clash(lane, what, clash)
    }

    /// An access of an asynchronous operation does not go with an earlier one.
    #[cold]
    pub(super) fn clash_flight(
        &self,
        kind: Asynchronous,
        lane: u32,
        place: Place,
        len: u32,
        access: Access,
        clash: Clash,
    ) -> Fault {
        let place = match place {
            Place::Shared { block, offset } => in_shared(block, offset, len),
            Place::Global(allocation, offset) => in_global(allocation, offset, len),
        };
        let what = format!("{} of an {} {place}", verb(access), kind.name());
        self.clash(lane, what, clash)
    }

    fn clash(&self, lane: u32, what: String, clash: Clash) -> Fault {
        let Clash { other, why, .. } = clash;
        let flight = other.is(FLIGHT);
        let (kind, why) = match why {
            Why::Unordered if flight => (FaultKind::Async, self.unawaited(&other)),
            Why::Unordered => {
                let reason = if other.cluster == self.cluster {
                    "no barrier or other synchronisation orders the two"
                } else {
                    "it is of another block, and no release and acquire order the two"
                };
                (FaultKind::Race, format!("races with an earlier {}: {reason}", noun(&other)))
            }
            Why::Scope => (
                FaultKind::Race,
                format!(
                    "races with an earlier {}: the scope of one does not hold the other's thread",
                    noun(&other)
                ),
            ),
            Why::Proxy => (
                FaultKind::Async,
                format!(
                    "comes after a {} through the generic proxy, but no fence.proxy.async stands between them",
                    noun(&other)
                ),
            ),
            Why::Map => (
                FaultKind::Async,
                format!(
                    "as a tensor map comes after a {} through the generic proxy, but no \
                     fence.proxy.tensormap::generic.acquire of who knew of it stands between them",
                    noun(&other)
                ),
            ),
            Why::Constant => (
                FaultKind::Race,
                format!(
                    "does not go with an earlier {}: what ld.global.nc reads must not be written in the same launch",
                    noun(&other)
                ),
            ),
            Why::Lanes => (
                FaultKind::Race,
                "races with that of another lane of the instruction, which stores another value".into(),
            ),
        };
        let thread = self.thread(&other);
        let other = Other { cluster: other.cluster.into(), thread, pc: other.pc };
        Fault { other: Some(other), ..Fault::at(kind, lane, format!("{what} {why}")) }
    }

    /// What would have ordered an access after that of an asynchronous operation.
    fn unawaited(&self, other: &Stamp) -> String {
        let doing = if other.is(WRITE) { "writes" } else { "reads" };
        let actor = self.actors.iter().find(|(_, number)| **number == other.actor).map(|(actor, _)| *actor);
        match actor.filter(|_| other.cluster == self.cluster) {
            Some(Actor::Copies(_)) => {
                format!("while a cp.async {doing} there: its completion was not waited for")
            }
            Some(Actor::Products(_)) => {
                format!("while a wgmma {doing} there: wgmma.wait_group was not passed")
            }
            Some(Actor::Object(Object::Mbarrier { block, offset })) => format!(
                "while a bulk copy {doing} there: the phase of the mbarrier at {offset:#x} of block {block} that it completed was not waited for"
            ),
            _ => format!("while a bulk copy {doing} there: its completion was not waited for"),
        }
    }

    /// The thread of an access, where one is known.
    fn thread(&self, stamp: &Stamp) -> Option<(u32, u32)> {
        let lane = stamp.lanes.trailing_zeros();
        if stamp.cluster != self.cluster {
            return (!stamp.is(FLIGHT)).then_some((stamp.actor.into(), lane));
        }
        if usize::from(stamp.actor) < self.lanes.len() {
            return Some((stamp.actor.into(), lane));
        }
        if let Some(flying) =
            self.flights.get(&stamp.lanes).filter(|_| stamp.actor == super::history::IN_FLIGHT)
        {
            return Some((flying.who.warp, flying.who.lane));
        }
        match self.actors.iter().find(|(_, number)| **number == stamp.actor)?.0 {
            Actor::Copies(warp) | Actor::Products(warp) => Some((*warp, lane)),
            Actor::Object(_) => None,
        }
    }
}

/// A read of shared memory that nobody wrote.
#[cold]
pub(super) fn unwritten_shared(lane: u32, block: u32, offset: u32, len: u32, first: u32) -> Fault {
    let place = in_shared(block, offset, len);
    Fault::at(FaultKind::Uninitialized, lane, format!("a read {place}: nobody has written byte {first:#x}"))
}

/// A read of global memory that nobody wrote.
#[cold]
pub(super) fn unwritten_global(
    lane: u32,
    allocation: &Allocation,
    offset: u64,
    len: u32,
    first: u64,
) -> Fault {
    let (place, first) = (in_global(allocation, offset, len), allocation.base + first);
    Fault::at(FaultKind::Uninitialized, lane, format!("a read {place}: nobody has written byte {first:#x}"))
}

impl Asynchronous {
    fn name(self) -> &'static str {
        match self {
            Asynchronous::Copy => "asynchronous copy",
            Asynchronous::Bulk => "asynchronous bulk operation",
            Asynchronous::Product => "asynchronous matrix product",
        }
    }
}

fn in_shared(block: u32, offset: u32, len: u32) -> String {
    format!("of {len} bytes at {offset:#x} of the shared memory of block {block} of its cluster")
}

fn in_global(allocation: &Allocation, offset: u64, len: u32) -> String {
    let Allocation { base, len: bytes, .. } = allocation;
    format!("of {len} bytes at {:#x} (byte {offset} of the {bytes} allocated at {base:#x})", base + offset)
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "a read",
        Access::Write => "a write",
        Access::Atomic => "an atomic operation",
    }
}

fn noun(stamp: &Stamp) -> &'static str {
    match (stamp.is(WRITE), stamp.is(ASYNC)) {
        (true, true) => "asynchronous write",
        (true, false) => "write",
        (false, true) => "asynchronous read",
        (false, false) => "read",
    }
}
