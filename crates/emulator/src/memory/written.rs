//! Which bytes of an allocation were ever written: a bit each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::mapping::Mapping;

/// A bit per byte, all clear at first.
#[derive(Debug)]
pub(super) struct Written {
    len: u64,
    /// Set once for all, so that memory which a host copy filled as a whole needs no bits.
    whole: AtomicBool,
    /// `None` inside where the host had no room for them: then everything counts as written, so that nobody is accused wrongly.
    bits: OnceLock<Option<Mapping>>,
}

impl Written {
    /// For `len` bytes, of which none was written, or all when `whole`.
    pub fn new(len: u64, whole: bool) -> Written {
        Written { len, whole: AtomicBool::new(whole), bits: OnceLock::new() }
    }

    /// Marks `len` bytes from `offset`, which lie within.
    #[inline]
    pub fn mark(&self, offset: u64, len: u64) {
        if len == 0 || self.whole.load(Ordering::Relaxed) {
            return;
        }
        if len == self.len {
            self.whole.store(true, Ordering::Relaxed);
            return;
        }
        for (index, mask) in pieces(offset, len) {
            let Some(word) = self.word(index) else { return };
            if word.load(Ordering::Relaxed) & mask == mask {
                continue;
            }
            if mask == u64::MAX {
                word.store(mask, Ordering::Relaxed);
            } else {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    /// The first of `len` bytes from `offset` that was not written.
    #[inline]
    pub fn first_clear(&self, offset: u64, len: u64) -> Option<u64> {
        if len == 0 || self.whole.load(Ordering::Relaxed) {
            return None;
        }
        for (index, mask) in pieces(offset, len) {
            let missing = !self.word(index)?.load(Ordering::Relaxed) & mask;
            if missing != 0 {
                return Some(index * 64 + u64::from(missing.trailing_zeros()));
            }
        }
        None
    }

    fn word(&self, index: u64) -> Option<&AtomicU64> {
        let words = self.len.div_ceil(64);
        let bits = self.bits.get_or_init(|| Mapping::new(words * 8)).as_ref()?;
        assert!(index < words, "byte {} of {} bytes", index * 64, self.len);
        // SAFETY: within the mapping, as just checked; aligned, as mappings start at pages; only atomics touch it.
        Some(unsafe { &*bits.data().cast::<AtomicU64>().add(index as usize) })
    }
}

/// The words of 64 bits that `len` bits from `offset` lie in, and which of each.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + len;
    (offset / 64..end.div_ceil(64)).map(move |index| {
        let low = offset.saturating_sub(index * 64).min(63);
        let high = (end - index * 64).min(64);
        (index, u64::MAX >> (64 - high) & u64::MAX << low)
    })
}

#[cfg(test)]
mod tests {
    use super::Written;

    #[test]
    fn marks_exactly_the_bytes_of_a_range_across_words() {
        for (offset, len) in [(0, 1), (63, 2), (60, 140), (64, 64), (128, 1), (191, 9)] {
            let written = Written::new(200, false);
            written.mark(offset, len);
            for byte in 0..200 {
                let expected = (offset..offset + len).contains(&byte);
                assert_eq!(written.first_clear(byte, 1).is_none(), expected, "{offset}+{len}: byte {byte}");
            }
            assert_eq!(written.first_clear(0, 200), Some(if offset == 0 { len } else { 0 }));
        }
    }

    #[test]
    fn finds_the_first_byte_that_is_missing() {
        let written = Written::new(256, false);
        written.mark(0, 130);
        written.mark(131, 125);
        assert_eq!(written.first_clear(0, 256), Some(130));
        assert_eq!(written.first_clear(131, 125), None);
        written.mark(130, 1);
        assert_eq!(written.first_clear(0, 256), None);
    }

    #[test]
    fn all_at_once_needs_no_bits() {
        let written = Written::new(1 << 40, false);
        assert_eq!(written.first_clear(5, 1 << 39), Some(5));
        written.mark(0, 1 << 40);
        assert_eq!(written.first_clear(0, 1 << 40), None);
        assert_eq!(Written::new(8, true).first_clear(0, 8), None);
    }
}
