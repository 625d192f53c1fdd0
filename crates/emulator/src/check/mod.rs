//! What no tool on hardware can see: order between accesses, and memory that nobody wrote.
//!
//! A happens-before engine. Instructions tell it what they touch ([`Checker::shared`], [`Checker::global`]), what orders
//! them ([`Checker::release`], [`Checker::acquire`], [`Checker::fence`]) and what goes on by itself
//! ([`Checker::issue`], [`Checker::asynchronous`], [`Checker::complete`]). It answers with a [`Fault`] where two accesses
//! have no order.

use crate::fault::Fault;
use crate::memory::Allocation;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Races, asynchronous hazards.
    pub races: bool,
    /// Reads of memory that nobody wrote.
    pub uninitialized: bool,
}

/// A thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Index of its warp in the cluster.
    pub warp: u32,
    /// Its lane.
    pub lane: u32,
}

/// What is done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `ld`
    Read,
    /// `st`
    Write,
    /// `atom`, `red`
    Atomic,
}

/// Who sees an operation as ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The block.
    Block,
    /// The cluster.
    Cluster,
    /// The device.
    Device,
    /// All.
    System,
}

/// Memory order of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A plain one.
    Weak,
    /// `.relaxed`, `.volatile`.
    Relaxed(Scope),
    /// `.acquire`
    Acquire(Scope),
    /// `.release`
    Release(Scope),
    /// `.acq_rel`
    AcquireRelease(Scope),
}

/// What threads meet at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// Barrier `id` of block `block`.
    Barrier {
        /// Rank of the block.
        block: u32,
        /// 0..16.
        id: u32,
    },
    /// The cluster's barrier.
    Cluster,
    /// The mbarrier at an offset in a block's shared memory.
    Mbarrier {
        /// Rank of the block.
        block: u32,
        /// Byte offset.
        offset: u32,
    },
    /// The lanes of a warp (`bar.warp.sync`).
    Warp(u32),
}

/// What goes on by itself after it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asynchronous {
    /// cp.async: generic proxy.
    Copy,
    /// cp.async.bulk, st.async, red.async: async proxy.
    Bulk,
    /// wgmma: async proxy, not ordered after its issuer's earlier accesses by itself.
    Product,
}

/// An operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flight(pub u32);

/// Where an asynchronous operation reads or writes.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Shared memory of a block.
    Shared {
        /// Rank of the block.
        block: u32,
        /// Byte offset.
        offset: u32,
    },
    /// An allocation, from a byte on.
    Global(&'a Allocation, u64),
}

/// Order and marks of one cluster.
#[derive(Debug, Default)]
pub struct Checker {}

#[allow(unused_variables)]
impl Checker {
    /// For a cluster of `blocks` blocks with `warps` warps and `shared` bytes of shared memory each. `cluster` is its number in the
    /// launch numbered `launch`.
    pub fn new(options: Options, launch: u64, cluster: u64, blocks: u32, warps: u32, shared: u32) -> Checker {
        Checker {}
    }

    /// A thread touches shared memory: `len` bytes from `offset` in the block of rank `block`.
    ///
    /// # Errors
    /// A race, a read of what nobody wrote, or of what is in flight.
    #[inline]
    pub fn shared(
        &mut self,
        who: Thread,
        block: u32,
        offset: u32,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// A thread touches `len` bytes of an allocation from byte `offset`.
    ///
    /// # Errors
    /// As [`Checker::shared`].
    #[inline]
    pub fn global(
        &mut self,
        who: Thread,
        allocation: &Allocation,
        offset: u64,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// What lanes of a warp did so far happens before what others do after they [`acquire`](Self::acquire) the object.
    pub fn release(&mut self, warp: u32, lanes: u32, object: Object) {}

    /// What was released into the object happens before what these lanes do from now on.
    pub fn acquire(&mut self, warp: u32, lanes: u32, object: Object) {}

    /// `fence.acq_rel`, `fence.sc` and membar.
    pub fn fence(&mut self, warp: u32, lanes: u32, scope: Scope) {}

    /// `fence.proxy.async`: what these lanes wrote may be read by asynchronous operations that are ordered after.
    pub fn proxy_fence(&mut self, warp: u32, lanes: u32) {}

    /// A thread starts an asynchronous operation.
    pub fn issue(&mut self, who: Thread, kind: Asynchronous, pc: u32) -> Flight {
        Flight(0)
    }

    /// The operation reads or writes a place at some time from now until it completes.
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
        Ok(())
    }

    /// The operation has completed. Its accesses happen before what acquires `object`, or, without one, before what
    /// [`wait`](Self::wait)s for it.
    pub fn complete(&mut self, flight: Flight, object: Option<Object>) {}

    /// These lanes waited for the operation (cp.async.wait_group and its like). With `reads_only`, for its reads alone.
    pub fn wait(&mut self, warp: u32, lanes: u32, flight: Flight, reads_only: bool) {}
}
