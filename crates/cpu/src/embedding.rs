//! Token and position embedding.

use wikigpt_ops::Update;

use crate::CpuKernels;
use crate::residual::{accumulate, add};
use crate::threads::Parts;

/// The row of wpe that position `n` of the batch reads.
fn place(positions: Option<&[u32]>, n: usize, T: usize) -> usize {
    positions.map_or(n % T, |positions| positions[n] as usize)
}

/// out\[b,t\] = wte\[tokens\[b,t\]\] + wpe\[positions\[b,t\]\].
pub fn forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    tokens: &[u32],
    positions: Option<&[u32]>,
    wte: &[f32],
    wpe: &[f32],
    T: usize,
    C: usize,
) {
    let level = cpu.level;
    let out = Parts::new(out);
    cpu.rows(tokens.len(), C, |n| {
        // SAFETY: each row is one task's.
        let out = unsafe { out.part(n * C, C) };
        let (word, position) = (tokens[n] as usize, place(positions, n, T));
        add(level, out, &wte[word * C..][..C], &wpe[position * C..][..C]);
    });
}

/// Columns of a task of the backward: a token may occur anywhere, so tasks share out the columns, each going through the
/// tokens in order. Four cache lines, that the prefetcher has something to do.
const COLUMNS: usize = 64;

/// dwte\[v\] += Σ_{tokens\[b,t\] = v} dout\[b,t\]; dwpe\[p\] (set or added) Σ_{positions\[b,t\] = p}
/// dout\[b,t\].
pub fn backward(
    cpu: &mut CpuKernels,
    dwte: &mut [f32],
    dwpe: &mut [f32],
    dout: &[f32],
    tokens: &[u32],
    positions: Option<&[u32]>,
    T: usize,
    C: usize,
    update: Update,
) {
    let level = cpu.level;
    let rows = dwpe.len() / C;
    let (dwte, dwpe) = (Parts::new(dwte), Parts::new(dwpe));
    cpu.threads.run(C.div_ceil(COLUMNS), |_, task| {
        let column = task * COLUMNS;
        let len = COLUMNS.min(C - column);
        for row in 0..rows {
            if update == Update::Set {
                // SAFETY: each task has columns of its own, and holds one row's at a time.
                unsafe { dwpe.part(row * C + column, len) }.fill(0.0);
            }
        }
        for (n, token) in tokens.iter().enumerate() {
            let d = &dout[n * C + column..][..len];
            // SAFETY: as above.
            accumulate(level, unsafe { dwte.part(*token as usize * C + column, len) }, d);
            // SAFETY: as above.
            accumulate(level, unsafe { dwpe.part(place(positions, n, T) * C + column, len) }, d);
        }
    });
}
