//! Which bytes of shared memory were written.

/// A bit a byte.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Vec<u64>);

impl Written {
    /// Of memory that nobody wrote.
    pub(super) fn new(bytes: u32) -> Written {
        Written(vec![0; bytes.div_ceil(64) as usize])
    }

    /// `len` bytes from `offset` are written.
    #[inline]
    pub(super) fn mark(&mut self, offset: u32, len: u32) {
        for (word, bits) in words(offset, len) {
            self.0[word] |= bits;
        }
    }

    /// The first of `len` bytes from `offset` that is not.
    #[inline]
    pub(super) fn first_clear(&self, offset: u32, len: u32) -> Option<u32> {
        words(offset, len).find_map(|(word, bits)| {
            let clear = !self.0[word] & bits;
            (clear != 0).then(|| word as u32 * 64 + clear.trailing_zeros())
        })
    }
}

/// The words that hold these bits, and which of each.
#[inline]
fn words(offset: u32, len: u32) -> impl Iterator<Item = (usize, u64)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (low, count) = (at % 64, (64 - at % 64).min(end - at));
        let word = (at / 64) as usize;
        at += count;
        Some((word, (u64::MAX >> (64 - count)) << low))
    })
}
