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
use crate::simd::Level;
use crate::threads::Parts;

/// Depth of a block. Deep blocks read and write the output less often, which matters more than that a panel of the right
/// operand (768·16 elements, 48 KiB) comes from the second-level cache.
const DEPTH: usize = 768;
/// Most rows of a block of the left operand: 96·768 elements are 288 KiB. A multiple of every MR.
const ROWS: usize = 96;
/// Columns of a block of the right operand: 384·768 elements are 1.2 MiB. Wider blocks would spare a packed left operand
/// some packing, but the right one would come from farther away.
const COLUMNS: usize = 384;
/// Panels of the right operand that a task packs.
const PANELS: usize = 4;
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

/// A product as its tasks see it.
struct Job<'a> {
    level: Level,
    micro: &'static Micro,
    c: Parts<'a>,
    update: Update,
    a: Matrix<'a>,
    /// Whether the left operand is packed; otherwise it is contiguous along its rows and read in place.
    packs: bool,
    N: usize,
    K: usize,
    bias: Option<&'a [f32]>,
    plus: Option<&'a [f32]>,
    sums: Option<Parts<'a>>,
    epilogue: Shared<'a>,
}

/// A packed block of the right operand: `depth` rows from `k` on, columns from `column` on.
#[derive(Clone, Copy)]
struct Block<'a> {
    k: usize,
    depth: usize,
    column: usize,
    packed: &'a [f32],
}

impl CpuKernels {
    /// Computes a product.
    ///
    /// # Panics
    /// If an operand is shorter than its shape.
    pub(crate) fn product(&mut self, product: Product) {
        let Product { c, update, a, b, M, N, K, bias, plus, sums, epilogue } = product;
        assert!(c.len() == M * N && a.holds(M, K) && b.holds(K, N) && K > 0, "operands have their shapes");
        assert!(bias.is_none_or(|x| x.len() == N) && sums.as_ref().is_none_or(|x| x.len() == M));
        assert!(plus.is_none_or(|x| x.len() == M * N && update == Update::Set));
        let (level, micro) = (self.level, Micro::of(self.level));
        let (MR, NR) = (micro.MR, micro.NR);
        let epilogue = match epilogue {
            Epilogue::None => Shared::None,
            Epilogue::Gelu(out) => Shared::Gelu(Parts::new(out)),
            Epilogue::GeluBackward(pre) => Shared::GeluBackward(pre),
        };
        let packs = a.cs != 1 || sums.is_some();
        let (c, sums) = (Parts::new(c), sums.map(Parts::new));
        let job = Job { level, micro, c, update, a, packs, N, K, bias, plus, sums, epilogue };
        // Blocks of the depth as equal as can be: a last one of a few steps would be all overhead.
        let depth = K.div_ceil(K.div_ceil(DEPTH));
        let threads = self.threads.count();
        let row_blocks = M.div_ceil(ROWS).next_multiple_of(threads).min(M.div_ceil(MR));
        let rows = M.div_ceil(row_blocks).next_multiple_of(MR);
        let row_blocks = M.div_ceil(rows);
        let left_len = if packs { rows * depth } else { 0 };
        self.workers.reserve(left_len);
        for column in (0..N).step_by(COLUMNS) {
            let columns = COLUMNS.min(N - column);
            let panels = columns.div_ceil(NR);
            // With few rows, threads share the columns too.
            let column_blocks = (2 * threads).div_ceil(row_blocks).min(panels);
            let panels_each = panels.div_ceil(column_blocks);
            for k in (0..K).step_by(depth) {
                let depth = depth.min(K - k);
                let packed = Parts::new(self.shared.get(panels * NR * depth));
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
                let block = Block { k, depth, column, packed };
                let workers = &self.workers;
                self.threads.run(row_blocks * column_blocks, |worker, task| {
                    let (row, panel) = (task / column_blocks * rows, task % column_blocks * panels_each);
                    let mut scratch = workers.of(worker);
                    let left = scratch.get(left_len);
                    // SAFETY: each task has rows and panels of its own.
                    unsafe {
                        job.task(block, row..M.min(row + rows), panel..panels.min(panel + panels_each), left)
                    };
                });
            }
        }
    }
}

impl Job<'_> {
    /// Adds to some rows of the output, in the columns of some panels, what one block gives.
    ///
    /// # Safety
    /// Nobody else uses these rows and columns of the output, nor, where the panels begin with the first, the rows' sums.
    unsafe fn task(&self, block: Block, rows: Range<usize>, panels: Range<usize>, left: &mut [f32]) {
        let (MR, NR) = (self.micro.MR, self.micro.NR);
        let Block { k, depth, column, .. } = block;
        if self.packs {
            let sums = self.sums.filter(|_| column == 0 && panels.start == 0).map(|sums| {
                // SAFETY: as the caller says.
                unsafe { sums.part(rows.start, rows.len()) }
            });
            pack::left(left, self.a.from(rows.start, k), rows.len(), depth, MR, sums);
        }
        let mut done = panels.start;
        for panel in panels.clone() {
            for row in rows.clone().step_by(MR) {
                let part = &left[if self.packs { (row - rows.start) * depth } else { 0 }..];
                // SAFETY: the caller's rows and columns.
                unsafe { self.tile(block, row, MR.min(rows.end - row), panel, part) };
            }
            let complete = (panel + 1 - done) * NR >= EPILOGUE_COLUMNS || panel + 1 == panels.end;
            if k + depth == self.K && complete {
                let cols = column + done * NR..(column + (panel + 1) * NR).min(self.N);
                // SAFETY: as above.
                unsafe { self.epilogue.apply(self.level, self.c, self.N, rows.clone(), cols) };
                done = panel + 1;
            }
        }
    }

    /// One tile: `mr` rows from `row` on, the columns of a panel. `left` is the rows' packed panel, if they are packed.
    ///
    /// # Safety
    /// Nobody else uses the tile's elements of the output.
    unsafe fn tile(&self, block: Block, row: usize, mr: usize, panel: usize, left: &[f32]) {
        let Job { micro, N, .. } = *self;
        let Block { k, depth, column, packed } = block;
        let (at, panel_len) = (column + panel * micro.NR, micro.NR * depth);
        let (start, cols) = (row * N + at, micro.NR.min(N - at));
        let c = self.c.block(start, mr, N, cols);
        let first = k == 0;
        let add = match (first, self.update, self.plus) {
            (true, Update::Set, None) => std::ptr::null(),
            (true, Update::Set, Some(plus)) => plus[start..].as_ptr(),
            _ => c.cast_const(),
        };
        let bias = self.bias.filter(|_| first).map_or(std::ptr::null(), |bias| bias[at..].as_ptr());
        let tile = Tile { c, ldc: N, cols, add, add_rs: N, bias };
        let b = packed[panel * panel_len..][..panel_len].as_ptr();
        // SAFETY: the level is the machine's. `product` asserted that the operands hold their shapes: `a` has `mr` rows and
        // `depth` columns from (row, k) on (packed, they are `depth` times MR elements), `b` is a packed panel of `depth`
        // rows, and the tile's elements lie inside `c` and `plus`; those of `c` are the caller's alone.
        unsafe {
            if self.packs {
                assert!(left.len() >= depth * micro.MR);
                micro.transposed[mr - 1](depth, left.as_ptr(), micro.MR, b, &tile);
            } else {
                let a = self.a.from(row, k);
                micro.kernels[mr - 1](depth, a.data.as_ptr(), a.rs, b, &tile);
            }
        }
    }
}

impl Shared<'_> {
    /// Finishes the given rows and columns of `c` (M,N).
    ///
    /// # Safety
    /// Nobody else uses these elements of `c` and of the epilogue's output meanwhile.
    unsafe fn apply(&self, level: Level, c: Parts, N: usize, rows: Range<usize>, cols: Range<usize>) {
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
