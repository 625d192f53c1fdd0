//! What a launch did, counted.
//!
//! Counts are kept by cluster, without locks, and summed up over the launch with [`Counters::merge`]; [`Counters::json`]
//! writes them as one line.

mod json;
mod lines;
mod shared;

use std::ops::Range;

use crate::check::Access;
use crate::exec::lanes::{WideRow, lanes, side_by_side};
use crate::program::Class;

pub use lines::Sectors;

/// Bytes of a sector, the unit in which global memory is moved.
pub const SECTOR: u64 = 32;

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
    /// Sectors that were loaded at all, each counted once for the launch: what DRAM must deliver at least.
    pub global_loaded: Sectors,
    /// Sectors that were stored at all.
    pub global_stored: Sectors,
    /// Bytes that lanes loaded from local memory.
    pub local_load_bytes: u64,
    /// Bytes that lanes stored to local memory.
    pub local_store_bytes: u64,
    /// Bytes that lanes loaded from shared memory.
    pub shared_load_bytes: u64,
    /// Bytes that lanes stored to shared memory.
    pub shared_store_bytes: u64,
    /// Requests of warps to shared memory.
    pub shared_requests: u64,
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
    /// Bytes that `cp.async` copied from global to shared memory; they are among the loaded bytes and sectors too.
    pub copy_bytes: u64,
    /// Bytes that bulk copies loaded from global memory.
    pub bulk_load_bytes: u64,
    /// Bytes that bulk copies stored to global memory.
    pub bulk_store_bytes: u64,
}

impl Counters {
    /// A warp's request to global memory: the lanes of `active` touch `bytes` bytes each at their addresses. An atomic is a load and a
    /// store of the sectors, and no bytes of either.
    pub fn global(&mut self, access: Access, addresses: &WideRow, active: u32, bytes: u32) {
        let total = u64::from(active.count_ones() * bytes);
        let mut ids = [0; 64];
        let found = if side_by_side(addresses, active, bytes) {
            Request::Run(addresses[0] / SECTOR..(addresses[0] + total).div_ceil(SECTOR))
        } else {
            Request::Each(sectors(addresses, active, bytes, &mut ids))
        };
        if access != Access::Write {
            self.global_load_requests += 1;
            self.global_load_sectors += found.insert(&mut self.global_loaded);
        }
        if access != Access::Read {
            self.global_store_requests += 1;
            self.global_store_sectors += found.insert(&mut self.global_stored);
        }
        match access {
            Access::Read => self.global_load_bytes += total,
            Access::Write => self.global_store_bytes += total,
            Access::Atomic => {}
        }
    }

    /// `len` bytes of global memory from `address`, moved by a bulk copy: distinct sectors and bytes, no warp's request.
    pub fn bulk(&mut self, access: Access, address: u64, len: u64) {
        if len == 0 {
            return;
        }
        let range = address / SECTOR..(address + len).div_ceil(SECTOR);
        if access != Access::Write {
            self.global_loaded.insert_range(range.clone());
        }
        if access != Access::Read {
            self.global_stored.insert_range(range);
        }
        match access {
            Access::Read => self.bulk_load_bytes += len,
            Access::Write | Access::Atomic => self.bulk_store_bytes += len,
        }
    }

    /// A warp's request to shared memory: the lanes of `active` touch `bytes` bytes each at their offsets.
    pub fn shared(&mut self, access: Access, offsets: &WideRow, active: u32, bytes: u32) {
        let total = u64::from(active.count_ones() * bytes);
        match access {
            Access::Read => self.shared_load_bytes += total,
            Access::Write => self.shared_store_bytes += total,
            Access::Atomic => {}
        }
        let exclusive = access == Access::Atomic;
        let simple = side_by_side(offsets, active, bytes) && !(exclusive && bytes < 4);
        let (passes, needed) = match simple {
            // 128 bytes in a row are in all banks.
            true => (u64::from(bytes.div_ceil(4)), u64::from(bytes.div_ceil(4))),
            false => shared::passes(offsets, active, bytes, exclusive),
        };
        self.shared_requests += 1;
        self.shared_wavefronts += passes;
        self.shared_conflicts += passes - needed;
    }

    /// Adds what another cluster of the same launch counted.
    pub fn merge(&mut self, other: &Counters) {
        // Taken apart, so that a new field cannot be forgotten here.
        let Counters {
            warp_instructions,
            lane_instructions,
            global_load_bytes,
            global_store_bytes,
            global_load_sectors,
            global_store_sectors,
            global_load_requests,
            global_store_requests,
            global_loaded,
            global_stored,
            local_load_bytes,
            local_store_bytes,
            shared_load_bytes,
            shared_store_bytes,
            shared_requests,
            shared_wavefronts,
            shared_conflicts,
            tensor_flops,
            special_operations,
            atomics,
            barriers,
            copy_bytes,
            bulk_load_bytes,
            bulk_store_bytes,
        } = other;
        for (sum, more) in self.warp_instructions.iter_mut().zip(warp_instructions) {
            *sum += more;
        }
        for (sum, more) in self.lane_instructions.iter_mut().zip(lane_instructions) {
            *sum += more;
        }
        self.global_load_bytes += global_load_bytes;
        self.global_store_bytes += global_store_bytes;
        self.global_load_sectors += global_load_sectors;
        self.global_store_sectors += global_store_sectors;
        self.global_load_requests += global_load_requests;
        self.global_store_requests += global_store_requests;
        self.global_loaded.merge(global_loaded);
        self.global_stored.merge(global_stored);
        self.local_load_bytes += local_load_bytes;
        self.local_store_bytes += local_store_bytes;
        self.shared_load_bytes += shared_load_bytes;
        self.shared_store_bytes += shared_store_bytes;
        self.shared_requests += shared_requests;
        self.shared_wavefronts += shared_wavefronts;
        self.shared_conflicts += shared_conflicts;
        self.tensor_flops += tensor_flops;
        self.special_operations += special_operations;
        self.atomics += atomics;
        self.barriers += barriers;
        self.copy_bytes += copy_bytes;
        self.bulk_load_bytes += bulk_load_bytes;
        self.bulk_store_bytes += bulk_store_bytes;
    }
}

/// The sectors of a request.
enum Request<'a> {
    /// All of a range.
    Run(Range<u64>),
    /// These.
    Each(&'a [u64]),
}

impl Request<'_> {
    /// Adds them to a set; returns how many they are.
    fn insert(&self, set: &mut Sectors) -> u64 {
        match self {
            Request::Run(range) => {
                set.insert_range(range.clone());
                range.end - range.start
            }
            Request::Each(sectors) => {
                set.insert(sectors);
                sectors.len() as u64
            }
        }
    }
}

/// The distinct sectors of a request, in order. An access of up to 32 bytes lies in at most two.
fn sectors<'a>(addresses: &WideRow, active: u32, bytes: u32, out: &'a mut [u64; 64]) -> &'a [u64] {
    let mut count = 0;
    let mut sorted = true;
    for lane in lanes(active) {
        let first = addresses[lane] / SECTOR;
        let last = addresses[lane].wrapping_add(u64::from(bytes) - 1) / SECTOR;
        for sector in [first, last] {
            // Neighbours mostly share a sector: what is left is sorted only where lanes go backwards.
            if count == 0 || out[count - 1] != sector {
                sorted &= count == 0 || out[count - 1] < sector;
                out[count] = sector;
                count += 1;
            }
        }
    }
    if !sorted {
        out[..count].sort_unstable();
        let mut kept = 1;
        for index in 1..count {
            if out[index] != out[kept - 1] {
                out[kept] = out[index];
                kept += 1;
            }
        }
        count = kept;
    }
    &out[..count]
}

#[cfg(test)]
mod tests;
