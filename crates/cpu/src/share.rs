//! How work without a structure of its own is cut into tasks.

use crate::CpuKernels;

/// Elements of a chunk: 128 KiB per tensor, so that a task outweighs its hand-over and its tensors stay in cache.
const CHUNK: usize = 1 << 15;

impl CpuKernels {
    /// Calls `body(start, len)` for chunks that cover `len` elements. Chunks start at multiples of [`CHUNK`] or, where there is
    /// little to do, smaller ones.
    pub(crate) fn chunks(&mut self, len: usize, body: impl Fn(usize, usize) + Sync) {
        let share = len.div_ceil(self.threads.count()).next_multiple_of(64);
        let chunk = CHUNK.min(share).max(1024);
        self.threads.run(len.div_ceil(chunk), |_, task| {
            let start = task * chunk;
            body(start, chunk.min(len - start));
        });
    }

    /// Calls `body(row)` for each of `rows` rows of about `width` elements, neighbours in one task.
    pub(crate) fn rows(&mut self, rows: usize, width: usize, body: impl Fn(usize) + Sync) {
        let share = rows.div_ceil(self.threads.count());
        let together = (CHUNK / width.max(1)).min(share).max(1);
        self.threads.run(rows.div_ceil(together), |_, task| {
            (task * together..rows.min((task + 1) * together)).for_each(&body);
        });
    }
}
