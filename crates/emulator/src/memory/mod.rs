//! Global memory: allocations of their own, at addresses that no host pointer has.
//!
//! Memory is bytes that many blocks touch at once, so every access is atomic for its size (relaxed, which costs nothing on
//! x86-64 and AArch64): a race in a kernel is a report, never undefined behaviour here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

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

/// A piece of global memory.
#[derive(Debug)]
pub struct Allocation {
    /// Its address on the device.
    pub base: u64,
    /// Its bytes.
    pub len: u64,
    /// What kernels did to it, for the checker.
    pub shadow: Arc<crate::check::Shadow>,
    data: *mut u8,
}

// SAFETY: `data` is memory that lives as long as the allocation and is touched by atomic operations alone.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Allocation {
    fn new(base: u64, len: u64) -> Option<Allocation> {
        let bytes = usize::try_from(len.max(1)).ok()?;
        // SAFETY: an anonymous mapping of its own; the result is checked.
        let data = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        (data != libc::MAP_FAILED).then_some(Allocation {
            base,
            len,
            shadow: Arc::default(),
            data: data.cast(),
        })
    }

    /// Loads 1, 2, 4 or 8 bytes from `offset`, a multiple of their number.
    ///
    /// # Panics
    /// Where the allocation does not hold them, or `bytes` is another number.
    #[inline]
    pub fn load(&self, offset: u64, bytes: u32) -> u64 {
        let at = self.at(offset, bytes);
        // SAFETY: `at` gave an aligned pointer to that many bytes of the mapping, which only atomics touch.
        unsafe {
            match bytes {
                1 => u64::from((*at.cast::<AtomicU8>()).load(Ordering::Relaxed)),
                2 => u64::from((*at.cast::<AtomicU16>()).load(Ordering::Relaxed)),
                4 => u64::from((*at.cast::<AtomicU32>()).load(Ordering::Relaxed)),
                _ => (*at.cast::<AtomicU64>()).load(Ordering::Relaxed),
            }
        }
    }

    /// Stores the low 1, 2, 4 or 8 bytes of `value` to `offset`, a multiple of their number.
    ///
    /// # Panics
    /// As [`Allocation::load`].
    #[inline]
    pub fn store(&self, offset: u64, bytes: u32, value: u64) {
        let at = self.at(offset, bytes);
        // SAFETY: as in `load`.
        unsafe {
            match bytes {
                1 => (*at.cast::<AtomicU8>()).store(value as u8, Ordering::Relaxed),
                2 => (*at.cast::<AtomicU16>()).store(value as u16, Ordering::Relaxed),
                4 => (*at.cast::<AtomicU32>()).store(value as u32, Ordering::Relaxed),
                _ => (*at.cast::<AtomicU64>()).store(value, Ordering::Relaxed),
            }
        }
    }

    /// Replaces the value at `offset` by `f` of it, at once for all threads of the host; returns the old one.
    ///
    /// # Panics
    /// As [`Allocation::load`].
    pub fn update(&self, offset: u64, bytes: u32, f: impl Fn(u64) -> u64) -> u64 {
        let mut old = self.load(offset, bytes);
        while let Err(found) = self.exchange(offset, bytes, old, f(old)) {
            old = found;
        }
        old
    }

    /// Copies bytes out, from any offset.
    ///
    /// # Panics
    /// Where the allocation does not hold them.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        let (head, words) = split(offset, out.len());
        let (first, rest) = out.split_at_mut(head);
        let (middle, last) = rest.split_at_mut(words * 8);
        let mut at = offset;
        for byte in first {
            *byte = self.load(at, 1) as u8;
            at += 1;
        }
        for word in middle.chunks_exact_mut(8) {
            word.copy_from_slice(&self.load(at, 8).to_le_bytes());
            at += 8;
        }
        for byte in last {
            *byte = self.load(at, 1) as u8;
            at += 1;
        }
    }

    /// Copies bytes in, to any offset.
    ///
    /// # Panics
    /// As [`Allocation::read`].
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let (head, words) = split(offset, bytes.len());
        let (first, rest) = bytes.split_at(head);
        let (middle, last) = rest.split_at(words * 8);
        let mut at = offset;
        for byte in first {
            self.store(at, 1, u64::from(*byte));
            at += 1;
        }
        for word in middle.chunks_exact(8) {
            self.store(at, 8, u64::from_le_bytes(word.try_into().expect("8 bytes")));
            at += 8;
        }
        for byte in last {
            self.store(at, 1, u64::from(*byte));
            at += 1;
        }
    }

    fn exchange(&self, offset: u64, bytes: u32, old: u64, new: u64) -> Result<u64, u64> {
        const DONE: Ordering = Ordering::AcqRel;
        const FAILED: Ordering = Ordering::Acquire;
        let at = self.at(offset, bytes);
        // SAFETY: as in `load`.
        unsafe {
            match bytes {
                1 => (*at.cast::<AtomicU8>())
                    .compare_exchange(old as u8, new as u8, DONE, FAILED)
                    .map(u64::from)
                    .map_err(u64::from),
                2 => (*at.cast::<AtomicU16>())
                    .compare_exchange(old as u16, new as u16, DONE, FAILED)
                    .map(u64::from)
                    .map_err(u64::from),
                4 => (*at.cast::<AtomicU32>())
                    .compare_exchange(old as u32, new as u32, DONE, FAILED)
                    .map(u64::from)
                    .map_err(u64::from),
                _ => (*at.cast::<AtomicU64>()).compare_exchange(old, new, DONE, FAILED),
            }
        }
    }

    fn at(&self, offset: u64, bytes: u32) -> *mut u8 {
        assert!(matches!(bytes, 1 | 2 | 4 | 8) && offset.is_multiple_of(u64::from(bytes)));
        assert!(offset.checked_add(u64::from(bytes)).is_some_and(|end| end <= self.len));
        // SAFETY: within the mapping, as just checked.
        unsafe { self.data.add(offset as usize) }
    }
}

/// Bytes before the first multiple of 8, and whole words after it.
fn split(offset: u64, len: usize) -> (usize, usize) {
    let head = ((offset.next_multiple_of(8) - offset) as usize).min(len);
    (head, (len - head) / 8)
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nobody can reach any more.
        unsafe { libc::munmap(self.data.cast(), self.len.max(1) as usize) };
    }
}

/// All global memory of a device.
#[derive(Debug, Default)]
pub struct Memory {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, u64>,
    used: u64,
    next: u64,
}

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// It never belonged to an allocation, or the access passes the end of one.
    Outside {
        /// The allocation that lies before it: its address and length.
        before: Option<(u64, u64)>,
    },
    /// It belonged to an allocation that was freed.
    Freed {
        /// Its address.
        base: u64,
        /// Its length.
        len: u64,
    },
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

    /// Frees the allocation that starts at `base`.
    ///
    /// # Errors
    /// What is there instead.
    pub fn free(&self, base: u64) -> Result<(), Nowhere> {
        let mut table = self.table.write().expect("no panic while the table is changed");
        match table.live.remove(&base) {
            Some(allocation) => {
                table.used -= allocation.len;
                table.freed.insert(base, allocation.len);
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
            .filter(|found| address - found.base <= found.len && len <= found.len - (address - found.base))
            .map(Arc::clone)
            .ok_or_else(|| table.nowhere(address))
    }

    /// Bytes of all allocations together.
    pub fn used(&self) -> u64 {
        self.table.read().expect("no panic while the table is changed").used
    }
}

impl Table {
    fn nowhere(&self, address: u64) -> Nowhere {
        let before = self.live.range(..=address).next_back().map(|(base, found)| (*base, found.len));
        match self.freed.range(..=address).next_back() {
            Some((base, len)) if address - base < (*len).max(1) => Nowhere::Freed { base: *base, len: *len },
            _ => Nowhere::Outside { before },
        }
    }
}
