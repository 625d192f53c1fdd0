//! The matrix product, blocked for the caches and shared out over the threads, with what follows it fused in.
//!
//! The scheme is that of Goto and van de Geijn (*Anatomy of high-performance matrix multiplication*, 2008): a block of the
//! right operand, DEPTH by COLUMNS, is packed once, by all threads, into memory that the last-level cache holds; each task
//! then takes a block of rows of the left operand, DEPTH by at most ROWS, that fits the second-level cache, and walks the
//! right block in panels of NR columns, each of which fits the first-level cache.
//!
//! Why not a library's: a product here ends in a bias, a residual or a GELU that costs nothing while the tile is in
//! registers or in cache, sums the rows of its left operand for a bias' gradient, and allocates nothing.
//!
//! Each output element is summed in an order that depends on the shapes and the instruction set only: the same for any
//! number of threads.

mod micro;
mod pack;

pub use micro::{Micro, Tile};
pub use pack::{Matrix, right as pack_right};

use std::ops::Range;

use wikigpt_ops::Update;

use crate::CpuKernels;
use crate::gelu;
use crate::threads::Parts;

/// Depth of a block. Deep blocks read and write the output less often, which matters more than that a panel of the right
/// operand (768·16 elements, 48 KiB) comes from the second-level cache.
const DEPTH: usize = 768;
/// Most rows of a block of the left operand: 96·768 elements are 288 KiB. A multiple of every MR.
const ROWS: usize = 96;
/// Columns of a block of the right operand: 384·768 elements are 1.2 MiB. Wider blocks would spare a packed left operand
/// some packing, but the right one would come from farther away.
const COLUMNS: usize = 384;
/// Columns between two calls of the epilogue: ROWS·128 elements are 48 KiB.
const EPILOGUE_COLUMNS: usize = 128;

/// c (set or added) a·b + `plus`, then the epilogue. `c` is row-major (M,N), `a` (M,K), `b` (K,N).
pub struct Product<'a> {
    /// The output, (M,N).
    pub c: &'a mut [f32],
    /// Whether the product is added to what `c` holds.
    pub update: Update,
    /// The left operand.
    pub a: Matrix<'a>,
    /// The right operand.
    pub b: Matrix<'a>,
    /// Rows of the output.
    pub M: usize,
    /// Columns of the output.
    pub N: usize,
    /// What is summed over.
    pub K: usize,
    /// Added to each row, (N).
    pub bias: Option<&'a [f32]>,
    /// Added, (M,N); only with [`Update::Set`].
    pub plus: Option<&'a [f32]>,
    /// Gains the sum of each row of `a`, (M).
    pub sums: Option<&'a mut [f32]>,
    /// What is done to each part of the output once it is complete.
    pub epilogue: Epilogue<'a>,
}

/// What follows a product, done to each part of it while the part is in cache.
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// `out` = gelu(c), (M,N).
    Gelu(&'a mut [f32]),
    /// c = c ∘ gelu′(`pre`), (M,N).
    GeluBackward(&'a [f32]),
}

/// The same for tasks that share it.
enum Shared<'a> {
    None,
    Gelu(Parts<'a>),
    GeluBackward(&'a [f32]),
}

impl CpuKernels {
    /// Computes a product.
    ///
    /// # Panics
    /// If an operand is shorter than its shape.
    pub(crate) fn product(&mut self, product: Product) {
        let Product { c, update, a, b, M, N, K, bias, plus, sums, epilogue } = product;
        assert!(c.len() == M * N && a.holds(M, K) && b.holds(K, N), "a product's operands have its shape");
        assert!(
            bias.is_none_or(|x| x.len() == N)
                && plus.is_none_or(|x| x.len() == M * N && update == Update::Set)
        );
        assert!(sums.as_ref().is_none_or(|x| x.len() == M) && K > 0);
        let micro = Micro::of(self.level);
        let (MR, NR) = (micro.MR, micro.NR);
        let level = self.level;
        let c = Parts::new(c);
        let sums = sums.map(Parts::new);
        let epilogue = match epilogue {
            Epilogue::None => Shared::None,
            Epilogue::Gelu(out) => Shared::Gelu(Parts::new(out)),
            Epilogue::GeluBackward(pre) => Shared::GeluBackward(pre),
        };
        let columns = N.min(COLUMNS);
        // Blocks of the depth as equal as can be: a last one of a few steps would be all overhead.
        let depth = K.div_ceil(K.div_ceil(DEPTH));
        // A left operand that is contiguous along its rows is read in place; its transpose is packed, and then summed.
        let packs = a.cs != 1 || sums.is_some();
        let row_blocks = M.div_ceil(ROWS).next_multiple_of(self.threads.count()).min(M.div_ceil(MR));
        let rows = M.div_ceil(row_blocks).next_multiple_of(MR);
        let (row_blocks, threads) = (M.div_ceil(rows), self.threads.count());
        let left_len = rows * depth;
        self.workers.reserve(if packs { left_len } else { 0 });
        for column in (0..N).step_by(columns) {
            let columns = columns.min(N - column);
            let panels = columns.div_ceil(NR);
            // With few rows, threads share the columns too.
            let column_blocks = (2 * threads).div_ceil(row_blocks).min(panels);
            let panels_per_block = panels.div_ceil(column_blocks);
            for k in (0..K).step_by(depth) {
                let (first, last) = (k == 0, k + depth >= K);
                let depth = depth.min(K - k);
                let packed = Parts::new(self.shared.get(panels * NR * depth));
                const PANELS: usize = 4;
                self.threads.run(panels.div_ceil(PANELS), |_, task| {
                    for panel in task * PANELS..panels.min((task + 1) * PANELS) {
                        // SAFETY: each panel is one task's.
                        let out = unsafe { packed.part(panel * NR * depth, NR * depth) };
                        let cols = NR.min(columns - panel * NR);
                        pack_right(out, b.from(k, column + panel * NR), depth, cols, NR);
                    }
                });
                // SAFETY: all tasks that wrote parts have ended; from here on it is only read.
                let packed: &[f32] = unsafe { packed.part(0, panels * NR * depth) };
                let workers = &self.workers;
                self.threads.run(row_blocks * column_blocks, |worker, task| {
                    let (row_block, column_block) = (task / column_blocks, task % column_blocks);
                    let row = row_block * rows;
                    let rows = rows.min(M - row);
                    let mut scratch = workers.of(worker);
                    let left = scratch.get(if packs { left_len } else { 0 });
                    if packs {
                        let sums = sums.filter(|_| column == 0 && column_block == 0).map(|sums| {
                            // SAFETY: rows' sums are taken by the one task of a row block that has its first columns.
                            unsafe { sums.part(row, rows) }
                        });
                        pack::left(left, a.from(row, k), rows, depth, MR, sums);
                    }
                    let panel_range =
                        column_block * panels_per_block..panels.min((column_block + 1) * panels_per_block);
                    let mut done = panel_range.start;
                    for panel in panel_range.clone() {
                        let at = column + panel * NR;
                        for i in (0..rows).step_by(MR) {
                            let mr = MR.min(rows - i);
                            let cols = NR.min(N - at);
                            let start = (row + i) * N + at;
                            // SAFETY: this task's rows and columns are no other's.
                            let c = unsafe { c.part(start, (mr - 1) * N + cols) }.as_mut_ptr();
                            let add = match (first, update, plus) {
                                (true, Update::Set, None) => std::ptr::null(),
                                (true, Update::Set, Some(plus)) => plus[start..].as_ptr(),
                                _ => c.cast_const(),
                            };
                            let bias =
                                bias.filter(|_| first).map_or(std::ptr::null(), |bias| bias[at..].as_ptr());
                            let tile = Tile { c, ldc: N, cols, add, add_rs: N, bias };
                            let b = packed[panel * NR * depth..][..NR * depth].as_ptr();
                            // SAFETY: `level` is the machine's; the operands hold their shapes, as asserted above: `a`
                            // mr rows and `depth` columns from (row + i, k) on, `b` a packed panel of `depth` rows, and the
                            // tile is mr by `cols` elements inside `c` and `plus`; nobody else uses these elements of `c`.
                            unsafe {
                                if packs {
                                    micro.transposed[mr - 1](depth, left[i * depth..].as_ptr(), MR, b, &tile);
                                } else {
                                    let a = a.from(row + i, k);
                                    micro.kernels[mr - 1](depth, a.data.as_ptr(), a.rs, b, &tile);
                                }
                            }
                        }
                        if last
                            && ((panel + 1 - done) * NR >= EPILOGUE_COLUMNS || panel + 1 == panel_range.end)
                        {
                            let cols = column + done * NR..(column + (panel + 1) * NR).min(N);
                            // SAFETY: as above: this task's rows and columns.
                            unsafe { epilogue.apply(level, c, N, row..row + rows, cols) };
                            done = panel + 1;
                        }
                    }
                });
            }
        }
    }
}

impl Shared<'_> {
    /// Finishes the given rows and columns of `c` (M,N).
    ///
    /// # Safety
    /// Nobody else uses these elements of `c` and of the epilogue's output meanwhile.
    unsafe fn apply(
        &self,
        level: crate::simd::Level,
        c: Parts,
        N: usize,
        rows: Range<usize>,
        cols: Range<usize>,
    ) {
        for row in rows {
            let (start, len) = (row * N + cols.start, cols.len());
            match self {
                Shared::None => return,
                Shared::Gelu(out) => {
                    // SAFETY: these elements are the caller's alone.
                    let (out, c) = unsafe { (out.part(start, len), c.part(start, len)) };
                    gelu::row_forward(level, out, c);
                }
                Shared::GeluBackward(pre) => {
                    // SAFETY: as above.
                    let c = unsafe { c.part(start, len) };
                    gelu::row_scale(level, c, &pre[start..][..len]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(next).collect()
    }

    /// Every layout of the operands, every level, and sizes on both sides of each block: against a sum in float64.
    #[test]
    fn products_of_every_layout() {
        let sizes = [
            (1, 1, 1),
            (6, 16, 4),
            (7, 17, 5),
            (13, 33, 385),
            (97, 65, 3),
            (200, 40, 800),
            (2, 3080, 9),
            (50, 100, 64),
        ];
        for level in Level::available() {
            for threads in [1, 3] {
                let mut cpu = CpuKernels::new(threads, level).unwrap();
                for (M, N, K) in sizes {
                    for layout in 0..4 {
                        let (x, y) = (numbers(M * K, 1), numbers(K * N, 2));
                        let a = if layout & 1 == 0 { Matrix::rows(&x, K) } else { Matrix::transposed(&x, M) };
                        let b = if layout & 2 == 0 { Matrix::rows(&y, N) } else { Matrix::transposed(&y, K) };
                        let (bias, plus) = (numbers(N, 3), numbers(M * N, 4));
                        let exact = |i: usize, j: usize| {
                            let term = |k| f64::from(a.from(i, k).data[0]) * f64::from(b.from(k, j).data[0]);
                            (0..K).map(term).sum::<f64>()
                        };
                        for update in [Update::Set, Update::Add] {
                            let set = update == Update::Set;
                            let start = if set { vec![f32::NAN; M * N] } else { numbers(M * N, 5) };
                            let (mut c, mut sums) = (start.clone(), vec![0.0; M]);
                            cpu.product(Product {
                                c: &mut c,
                                update,
                                a,
                                b,
                                M,
                                N,
                                K,
                                bias: Some(&bias),
                                plus: set.then_some(&plus),
                                sums: Some(&mut sums),
                                epilogue: Epilogue::None,
                            });
                            let tolerance = 1e-6 * (K as f64).sqrt() + 1e-6;
                            for (i, sum) in sums.iter().enumerate() {
                                for (j, bias) in bias.iter().enumerate() {
                                    let at = i * N + j;
                                    let other = f64::from(if set { plus[at] } else { start[at] });
                                    let want = exact(i, j) + f64::from(*bias) + other;
                                    let off = (f64::from(c[at]) - want).abs();
                                    assert!(
                                        off <= 4.0 * tolerance,
                                        "{level:?} {M}x{N}x{K} layout {layout}: ({i},{j}) {off}"
                                    );
                                }
                                let want: f64 = (0..K).map(|k| f64::from(a.from(i, k).data[0])).sum();
                                assert!((f64::from(*sum) - want).abs() <= 4.0 * tolerance);
                            }
                        }
                    }
                }
            }
        }
    }
}
