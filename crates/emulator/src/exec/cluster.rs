//! The blocks of a cluster, which run on one thread of the host, and what all clusters of a launch share.

use super::Warp;
use crate::check::Checker;
use crate::counters::Counters;
use crate::memory::Memory;
use crate::program::Program;

/// What is the same for all blocks of a launch.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What runs.
    pub program: &'a Program,
    /// The parameters' bytes.
    pub params: &'a [u8],
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// Global memory.
    pub memory: &'a Memory,
    /// The device that is played.
    pub device: &'a crate::device::Device,
    /// Number of the launch in the process, from 1.
    pub number: u64,
}

/// A block: its shared memory and its barriers.
#[derive(Debug)]
pub struct Block {
    /// `%ctaid`.
    pub index: [u32; 3],
    /// Shared memory from address 0 of its window on, static and dynamic.
    pub shared: Vec<u8>,
    /// Barriers 0..16.
    pub barriers: super::barrier::Barriers,
    /// mbarrier objects, by their offset in shared memory.
    pub mbarriers: super::mbarrier::Objects,
}

/// Blocks that run together.
#[derive(Debug)]
pub struct Cluster {
    /// By rank.
    pub blocks: Vec<Block>,
    /// Of all blocks, block by block; the one that runs is taken out meanwhile (`None`).
    pub warps: Vec<Option<Warp>>,
    /// The barrier of the cluster.
    pub barrier: super::barrier::ClusterBarrier,
    /// Asynchronous operations in flight.
    pub flights: super::bulk::Flights,
    /// What is checked.
    pub checker: Checker,
    /// What is counted.
    pub counters: Counters,
    /// Set while nothing can run but what waits with a limit of time: `mbarrier.try_wait` then gives up.
    pub stalled: bool,
}
