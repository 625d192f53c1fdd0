//! Anonymous memory of the host, which costs nothing until it is touched.

/// Zeroed bytes with a fixed address.
#[derive(Debug)]
pub(super) struct Mapping {
    data: *mut u8,
    len: usize,
}

// SAFETY: plain memory of its own; whoever hands out access to it sees to it that only atomic operations touch it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes, at least one; `None` when the host has no room.
    pub fn new(len: u64) -> Option<Mapping> {
        let len = usize::try_from(len.max(1)).ok()?;
        // SAFETY: an anonymous mapping of its own; the result is checked.
        let data = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        (data != libc::MAP_FAILED).then_some(Mapping { data: data.cast(), len })
    }

    /// Its first byte.
    pub fn data(&self) -> *mut u8 {
        self.data
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nobody can reach any more.
        unsafe { libc::munmap(self.data.cast(), self.len) };
    }
}
