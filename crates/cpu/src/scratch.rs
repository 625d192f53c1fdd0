//! Scratch memory: grown at first use and kept, so that a step which has run before allocates nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A cache line: what packed operands start on, so that no vector load touches two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

// SAFETY: an array of f32, which all bits are valid for; 64 bytes aligned to 64 leave no padding.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above; `Line` is Copy and 'static.
unsafe impl bytemuck::Pod for Line {}

/// Memory of which anybody may ask for any length; what it holds is unspecified.
#[derive(Default)]
pub struct Buffer(Vec<Line>);

impl Buffer {
    /// The first `len` elements.
    pub fn get(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.clear();
            self.0.resize(lines, Line([0.0; 16]));
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }
}

/// A buffer for each worker. A worker runs one task at a time, so the locks never wait.
pub struct PerWorker(Vec<Mutex<Buffer>>);

impl PerWorker {
    /// Buffers for `count` workers.
    pub fn new(count: usize) -> Self {
        PerWorker((0..count).map(|_| Mutex::default()).collect())
    }

    /// Grows every worker's buffer to `len` elements: which worker meets which task first is left to chance, and later
    /// steps must not allocate.
    pub fn reserve(&mut self, len: usize) {
        for buffer in &mut self.0 {
            buffer.get_mut().unwrap_or_else(PoisonError::into_inner).get(len);
        }
    }

    /// A worker's buffer, held until it is dropped.
    pub fn of(&self, worker: usize) -> MutexGuard<'_, Buffer> {
        self.0[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
