//! Drawing tokens from their logits, a row a task.

use std::sync::{Mutex, PoisonError};

use wikigpt_ops::Knobs;
use wikigpt_ops::reference::sample::{Candidate, draw, mark};

use crate::CpuKernels;
use crate::threads::Parts;

/// The candidates of each worker, which runs one task at a time: the locks never wait.
pub type Scratch = Vec<Mutex<Vec<Candidate>>>;

/// Scratch of so many workers.
pub fn scratch(workers: usize) -> Scratch {
    (0..workers).map(|_| Mutex::default()).collect()
}

/// tokens\[b\] drawn from logits\[b\], by knobs\[b\] and uniforms\[b\], and its bit set in row rows\[b\] of `seen`: the reference's loops,
/// in float64, for a row is soon done beside the product that its logits are.
pub fn forward(
    cpu: &mut CpuKernels,
    tokens: &mut [u32],
    seen: Option<&mut [u32]>,
    logits: &[f32],
    knobs: &[f32],
    uniforms: &[u32],
    rows: Option<&[u32]>,
    V: usize,
    Vp: usize,
) {
    let (B, words) = (tokens.len(), V.div_ceil(32));
    for candidates in &mut cpu.candidates {
        let candidates = candidates.get_mut().unwrap_or_else(PoisonError::into_inner);
        candidates.reserve(V.saturating_sub(candidates.len()));
    }
    let (tokens, seen) = (Parts::new(tokens), seen.map(Parts::new));
    let candidates = &cpu.candidates;
    cpu.threads.run(B, |worker, b| {
        let row = rows.map_or(b, |rows| rows[b] as usize);
        // SAFETY: each token, and each row of `seen`, is one task's: no two have the same row.
        let token = unsafe { tokens.part(b, 1) };
        // SAFETY: as above.
        let seen = seen.map(|seen| unsafe { seen.part(row * words, words) });
        let mut candidates = candidates[worker].lock().unwrap_or_else(PoisonError::into_inner);
        let knobs = &knobs[b * Knobs::LEN..][..Knobs::LEN];
        token[0] = draw(&logits[b * Vp..][..V], seen.as_deref(), knobs, uniforms[b], &mut candidates);
        mark(seen, token[0]);
    });
}
