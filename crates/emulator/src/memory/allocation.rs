//! A piece of memory that kernels reach.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::mapping::Mapping;
use super::written::Written;
use crate::check::Shadow;
use crate::exec::lanes::{LANES, Row};

/// A piece of global memory.
#[derive(Debug)]
pub struct Allocation {
    /// Its address on the device.
    pub base: u64,
    /// Its bytes.
    pub len: u64,
    /// What kernels did to it, for the checker.
    pub shadow: Arc<Shadow>,
    data: *mut u8,
    /// Keeps `data` alive; `None` for memory of the host, which its owner keeps.
    mapping: Option<Mapping>,
    written: Written,
}

// SAFETY: `data` is memory that lives as long as the allocation and is touched by atomic operations alone.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Allocation {
    /// Memory of its own; `None` when the host has no room.
    pub(super) fn new(base: u64, len: u64) -> Option<Allocation> {
        let mapping = Mapping::new(len)?;
        let data = mapping.data();
        Some(Allocation {
            base,
            len,
            shadow: Arc::default(),
            data,
            mapping: Some(mapping),
            written: Written::new(len, false),
        })
    }

    /// Memory of the host at its own address.
    ///
    /// # Safety
    /// It is valid for reads and writes as long as the allocation lives.
    pub(super) unsafe fn foreign(data: *mut u8, len: u64) -> Allocation {
        Allocation {
            base: data as u64,
            len,
            shadow: Arc::default(),
            data,
            mapping: None,
            written: Written::new(len, true),
        }
    }

    /// Whether it is memory of the host.
    pub fn is_foreign(&self) -> bool {
        self.mapping.is_none()
    }

    /// Whether `len` bytes from the device's `address` are all its own.
    #[inline]
    pub fn holds(&self, address: u64, len: u64) -> bool {
        address >= self.base && address - self.base <= self.len && len <= self.len - (address - self.base)
    }

    /// Notes that `len` bytes from `offset` were written. [`write`](Self::write) and [`fill`](Self::fill) do so by themselves; for
    /// [`store`](Self::store) and [`update`](Self::update), which are what kernels do, the checker calls it where reads of unwritten memory are checked.
    ///
    /// # Panics
    /// Where the allocation does not hold them.
    #[inline]
    pub fn mark_written(&self, offset: u64, len: u64) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        self.written.mark(offset, len);
    }

    /// Whether all of `len` bytes from `offset` were written. Memory of the host always was.
    ///
    /// # Panics
    /// Where the allocation does not hold them.
    #[inline]
    pub fn written(&self, offset: u64, len: u64) -> bool {
        self.first_unwritten(offset, len).is_none()
    }

    /// The first of `len` bytes from `offset` that nobody wrote.
    ///
    /// # Panics
    /// Where the allocation does not hold them.
    #[inline]
    pub fn first_unwritten(&self, offset: u64, len: u64) -> Option<u64> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        self.written.first_clear(offset, len)
    }

    /// Loads 1, 2, 4 or 8 bytes from `offset`; their device address is a multiple of their number.
    ///
    /// # Panics
    /// Where the allocation does not hold them, they are not aligned, or `bytes` is another number.
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

    /// Stores the low 1, 2, 4 or 8 bytes of `value` to `offset`.
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

    /// [`load`](Self::load)s of 4 bytes for all lanes, each `stride` bytes behind the one before, from `offset` on.
    ///
    /// # Panics
    /// Where the allocation does not hold them, or they are not aligned.
    #[inline]
    pub fn load_row(&self, offset: u64, stride: u64, row: &mut Row) {
        let first = self.words(offset, stride);
        for (lane, value) in row.iter_mut().enumerate() {
            // SAFETY: `words` gave an aligned pointer to the first of as many words of the mapping, which only atomics touch.
            *value =
                unsafe { (*first.add(lane * stride as usize).cast::<AtomicU32>()).load(Ordering::Relaxed) };
        }
    }

    /// [`store`](Self::store)s of 4 bytes, likewise.
    ///
    /// # Panics
    /// As [`Allocation::load_row`].
    #[inline]
    pub fn store_row(&self, offset: u64, stride: u64, row: &Row) {
        let first = self.words(offset, stride);
        for (lane, value) in row.iter().enumerate() {
            // SAFETY: as in `load_row`.
            unsafe {
                (*first.add(lane * stride as usize).cast::<AtomicU32>()).store(*value, Ordering::Relaxed)
            };
        }
    }

    /// Where words of all lanes lie.
    #[inline]
    fn words(&self, offset: u64, stride: u64) -> *mut u8 {
        assert!(stride.is_multiple_of(4) && stride <= self.len);
        let last = offset.checked_add((LANES as u64 - 1) * stride);
        // The first is aligned, and so are those that lie whole words behind it.
        last.map(|last| self.at(last, 4)).expect("an address of the allocation");
        self.at(offset, 4)
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

    /// [`update`](Self::update) of the 16 bytes at `offset`: at once for all others that come this way.
    ///
    /// # Panics
    /// Where the allocation does not hold them, or they are not aligned to 8.
    pub fn update_wide(&self, offset: u64, f: impl FnOnce(u128) -> u128) -> u128 {
        // No host has 16-byte atomics that Rust offers: whoever wants one takes turns, by the place.
        static TURNS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];
        let turn = &TURNS[((self.base + offset) / 16 % 64) as usize];
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = u128::from(self.load(offset, 8)) | u128::from(self.load(offset + 8, 8)) << 64;
        let new = f(old);
        if new != old {
            self.store(offset, 8, new as u64);
            self.store(offset + 8, 8, (new >> 64) as u64);
        }
        old
    }

    /// Copies bytes out, from any offset.
    ///
    /// # Panics
    /// Where the allocation does not hold them.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        let (head, words) = split(self.base + offset, out.len());
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
        let (head, words) = split(self.base + offset, bytes.len());
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
        self.mark_written(offset, bytes.len() as u64);
    }

    /// Repeats `pattern` over `len` bytes from `offset`; a part of it at the end where `len` is no multiple of its length.
    ///
    /// # Panics
    /// Where the allocation does not hold them, or the pattern is empty.
    pub fn fill(&self, offset: u64, len: u64, pattern: &[u8]) {
        let repeat = (4096 / pattern.len()).max(1);
        let chunk = pattern.repeat(repeat);
        let mut done = 0;
        while done < len {
            let now = (len - done).min(chunk.len() as u64);
            self.write(offset + done, &chunk[..now as usize]);
            done += now;
        }
        self.mark_written(offset, len);
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

    #[inline]
    fn at(&self, offset: u64, bytes: u32) -> *mut u8 {
        // The host's address is as aligned as the device's: mappings and allocations start at pages, registered memory has one address.
        assert!(
            matches!(bytes, 1 | 2 | 4 | 8)
                && (self.base.wrapping_add(offset)).is_multiple_of(u64::from(bytes))
        );
        assert!(offset.checked_add(u64::from(bytes)).is_some_and(|end| end <= self.len));
        // SAFETY: within the mapping, as just checked.
        unsafe { self.data.add(offset as usize) }
    }
}

/// Bytes from `address` to the first multiple of 8, and whole words after it.
fn split(address: u64, len: usize) -> (usize, usize) {
    let head = ((address.next_multiple_of(8) - address) as usize).min(len);
    (head, (len - head) / 8)
}
