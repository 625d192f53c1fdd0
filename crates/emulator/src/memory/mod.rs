//! Global memory: allocations of their own, at addresses that no host pointer has, and registered memory of the host, at its own.
//!
//! Memory is bytes that many blocks touch at once, so every access is atomic for its size (relaxed, which costs nothing on
//! x86-64 and AArch64): a race in a kernel is a report, never undefined behaviour here.

mod allocation;
mod mapping;
mod nowhere;
mod written;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

pub use allocation::Allocation;
pub use nowhere::Nowhere;
pub(crate) use nowhere::beside;

/// Base of the window of shared memory in the generic address space; a block's rank in its cluster stands in bits 24 and up.
pub const SHARED_WINDOW: u64 = 0x7000_0000_0000;
/// Base of the window of local memory.
pub const LOCAL_WINDOW: u64 = 0x7100_0000_0000;
/// Base of the window of kernel parameters.
pub const PARAM_WINDOW: u64 = 0x7200_0000_0000;
/// Where allocations start.
pub const GLOBAL_BASE: u64 = 0x7300_0000_0000;
/// Bytes of a window.
pub const WINDOW: u64 = 1 << 32;

/// All global memory of a device.
#[derive(Debug, Default)]
pub struct Memory {
    table: RwLock<Table>,
    /// How often something was freed.
    frees: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, u64>,
    used: u64,
    next: u64,
}

impl Memory {
    /// What an allocation's address is a multiple of.
    pub const ALIGN: u64 = 512;
    /// Left free behind each allocation, so that what passes its end lands nowhere.
    const GAP: u64 = 4096;

    /// Allocates. Addresses are never given out twice, so that a freed one is known as such.
    ///
    /// Returns `None` when the host has no room.
    pub fn allocate(&self, len: u64) -> Option<Arc<Allocation>> {
        let mut table = self.table.write().expect("no panic while the table is changed");
        let base = GLOBAL_BASE + table.next;
        let allocation = Arc::new(Allocation::new(base, len)?);
        table.next += (len + Self::GAP).next_multiple_of(Self::ALIGN);
        table.used += len;
        table.live.insert(base, Arc::clone(&allocation));
        Some(allocation)
    }

    /// Makes memory of the host reachable from kernels, at its own address (pinned and mapped memory). It counts as written.
    ///
    /// Returns `None` when a part of it is reachable already, or it is empty.
    ///
    /// # Safety
    /// The `len` bytes at `host` are valid for reads and writes, and nobody unmaps them, until [`Memory::free`] has been called
    /// with their address and no [`Allocation`] of them is held any more.
    pub unsafe fn register(&self, host: *mut u8, len: u64) -> Option<Arc<Allocation>> {
        let base = host as u64;
        let end = base.checked_add(len).filter(|end| *end > base && base != 0)?;
        let mut table = self.table.write().expect("no panic while the table is changed");
        if table.live.range(..end).next_back().is_some_and(|(_, last)| last.base + last.len.max(1) > base) {
            return None;
        }
        // The host gives addresses out again: what stood here before is forgotten.
        table.freed.retain(|at, len| *at >= end || at + *len <= base);
        // SAFETY: the caller's promise.
        let allocation = Arc::new(unsafe { Allocation::foreign(host, len) });
        table.live.insert(base, Arc::clone(&allocation));
        Some(allocation)
    }

    /// Frees the allocation that starts at `base`, or ends the registration of the host's memory there.
    ///
    /// # Errors
    /// What is there instead.
    pub fn free(&self, base: u64) -> Result<(), Nowhere> {
        let mut table = self.table.write().expect("no panic while the table is changed");
        match table.live.remove(&base) {
            Some(allocation) => {
                if !allocation.is_foreign() {
                    table.used -= allocation.len;
                }
                table.freed.insert(base, allocation.len);
                self.frees.fetch_add(1, Ordering::Release);
                Ok(())
            }
            None => Err(table.nowhere(base)),
        }
    }

    /// The allocation that holds `len` bytes from `address`.
    ///
    /// # Errors
    /// What is there instead.
    pub fn find(&self, address: u64, len: u64) -> Result<Arc<Allocation>, Nowhere> {
        let table = self.table.read().expect("no panic while the table is changed");
        table
            .live
            .range(..=address)
            .next_back()
            .map(|(_, allocation)| allocation)
            .filter(|found| found.holds(address, len))
            .map(Arc::clone)
            .ok_or_else(|| table.nowhere(address))
    }

    /// Changes whenever something was freed: what [`find`](Self::find) said before may be kept as long as it stays the same.
    #[inline]
    pub fn frees(&self) -> u64 {
        self.frees.load(Ordering::Acquire)
    }

    /// Bytes of all allocations together; registered memory of the host is not the device's.
    pub fn used(&self) -> u64 {
        self.table.read().expect("no panic while the table is changed").used
    }
}

impl Table {
    fn nowhere(&self, address: u64) -> Nowhere {
        if let Some((base, len)) = self.freed.range(..=address).next_back()
            && address - base < (*len).max(1)
        {
            return Nowhere::Freed { base: *base, len: *len };
        }
        let place = |(base, found): (&u64, &Arc<Allocation>)| (*base, found.len);
        Nowhere::Outside {
            before: self.live.range(..=address).next_back().map(place),
            after: self.live.range(address..).find(|(base, _)| **base > address).map(place),
        }
    }
}

#[cfg(test)]
mod tests;
