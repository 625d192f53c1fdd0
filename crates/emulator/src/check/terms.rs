//! The words in which instructions tell the checker what they do.

use crate::memory::Allocation;

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

impl Access {
    /// Whether it depends on what is there.
    pub(super) fn reads(self) -> bool {
        self != Access::Write
    }

    /// Whether it changes what is there.
    pub(super) fn writes(self) -> bool {
        matches!(self, Access::Write | Access::Atomic)
    }
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
    /// `.nc`: of what nobody may write as long as the launch goes on.
    Constant,
    /// Of a tensor map, by a copy.
    Map,
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
