//! What a launch did, counted.

use crate::program::Class;

/// Counts of a cluster, summed up over the launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Instructions of warps, by [`Class`].
    pub warp_instructions: [u64; Class::ALL.len()],
    /// The same, times the lanes that ran them.
    pub lane_instructions: [u64; Class::ALL.len()],
    /// Bytes that lanes loaded from global memory.
    pub global_load_bytes: u64,
    /// Bytes that lanes stored to global memory.
    pub global_store_bytes: u64,
    /// 32-byte sectors of loads, each warp's request for itself.
    pub global_load_sectors: u64,
    /// 32-byte sectors of stores.
    pub global_store_sectors: u64,
    /// Requests of warps that load.
    pub global_load_requests: u64,
    /// Requests of warps that store.
    pub global_store_requests: u64,
    /// Passes that shared memory took: 1 a request without conflicts for up to 128 bytes.
    pub shared_wavefronts: u64,
    /// Passes beyond those that the bytes alone would take.
    pub shared_conflicts: u64,
    /// Multiplications and additions of mma and wgmma.
    pub tensor_flops: u64,
    /// Operations of the special function unit, by lane.
    pub special_operations: u64,
    /// Atomics, by lane.
    pub atomics: u64,
    /// Arrivals of warps at barriers.
    pub barriers: u64,
    /// Bytes that bulk copies loaded from global memory.
    pub bulk_load_bytes: u64,
    /// Bytes that bulk copies stored to global memory.
    pub bulk_store_bytes: u64,
}
