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

impl Counters {
    /// Adds another's counts.
    pub fn merge(&mut self, other: &Counters) {
        let each = |own: &mut [u64], other: &[u64]| {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        };
        each(&mut self.warp_instructions, &other.warp_instructions);
        each(&mut self.lane_instructions, &other.lane_instructions);
        self.global_load_bytes += other.global_load_bytes;
        self.global_store_bytes += other.global_store_bytes;
        self.global_load_sectors += other.global_load_sectors;
        self.global_store_sectors += other.global_store_sectors;
        self.global_load_requests += other.global_load_requests;
        self.global_store_requests += other.global_store_requests;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_conflicts += other.shared_conflicts;
        self.tensor_flops += other.tensor_flops;
        self.special_operations += other.special_operations;
        self.atomics += other.atomics;
        self.barriers += other.barriers;
        self.bulk_load_bytes += other.bulk_load_bytes;
        self.bulk_store_bytes += other.bulk_store_bytes;
    }
}
