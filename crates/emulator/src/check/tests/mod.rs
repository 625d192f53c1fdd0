//! Order in a launch, edge by edge and hazard by hazard, each with its twin that is in order.

mod edges;
mod hazards;
mod model;
mod random;

use super::*;
use crate::exec::lanes::{LANES, WideRow, lanes};
use crate::fault::{Fault, FaultKind};
use crate::memory::{Allocation, Memory};
use std::sync::Arc;

const RACES: Options = Options { races: true, proxy: true, ..Options::NONE };
/// All lanes.
const WARP: u32 = u32::MAX;

/// A cluster of two blocks with two warps each and 4 KiB of shared memory.
fn cluster() -> Checker {
    Checker::new(RACES, 1, 0, 2, 2, 4096)
}

/// Cluster `number` of a launch, the same otherwise.
fn cluster_of(launch: u64, number: u64) -> Checker {
    Checker::new(RACES, launch, number, 2, 2, 4096)
}

fn thread(warp: u32, lane: u32) -> Thread {
    Thread { warp, lane }
}

fn allocation(bytes: u64) -> Arc<Allocation> {
    Memory::default().allocate(bytes).expect("room")
}

/// Short forms: 4 bytes in block 0 at an offset.
impl Checker {
    fn read(&mut self, who: Thread, offset: u32) -> Result<(), Fault> {
        self.shared(who, 0, offset, 4, Access::Read, Order::Weak, 1)
    }

    fn write(&mut self, who: Thread, offset: u32) -> Result<(), Fault> {
        self.shared(who, 0, offset, 4, Access::Write, Order::Weak, 2)
    }

    fn strong(&mut self, who: Thread, offset: u32, access: Access, order: Order) -> Result<(), Fault> {
        self.shared(who, 0, offset, 4, access, order, 3)
    }

    /// bar.sync of these warps.
    fn barrier(&mut self, warps: &[u32]) {
        let object = Object::Barrier { block: 0, id: 0 };
        warps.iter().for_each(|warp| self.release(*warp, WARP, object));
        self.phase(object);
        warps.iter().for_each(|warp| self.acquire(*warp, WARP, object));
    }

    /// bar.warp.sync
    fn warp_barrier(&mut self, warp: u32, mask: u32) {
        self.release(warp, mask, Object::Warp(warp));
        self.acquire(warp, mask, Object::Warp(warp));
    }
}

/// Says what went wrong and where the other access was.
#[track_caller]
fn refused(result: Result<(), Fault>, kind: FaultKind, other: Option<(u32, u32)>, pc: u32) {
    let fault = result.expect_err("a fault");
    assert_eq!(fault.kind, kind, "{}", fault.message);
    let found = fault.other.expect("another access");
    assert_eq!((found.thread, found.pc), (other, pc), "{}", fault.message);
}

#[track_caller]
fn silent(result: Result<(), Fault>) {
    if let Err(fault) = result {
        panic!("{}", fault.message);
    }
}
