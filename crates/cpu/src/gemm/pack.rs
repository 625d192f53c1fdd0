//! Packing: copies of operands in the order in which the micro-kernels read them.

/// A matrix in a slice: element (i, j) is `data[i·rs + j·cs]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements from row to row.
    pub rs: usize,
    /// Elements from column to column.
    pub cs: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix whose rows are `rs` apart.
    pub fn rows(data: &'a [f32], rs: usize) -> Self {
        Matrix { data, rs, cs: 1 }
    }

    /// The transpose of one.
    pub fn transposed(data: &'a [f32], rs: usize) -> Self {
        Matrix { data, rs: 1, cs: rs }
    }

    /// The part that starts at element (i, j).
    pub fn from(self, i: usize, j: usize) -> Self {
        Matrix { data: &self.data[i * self.rs + j * self.cs..], ..self }
    }

    /// Whether `rows` by `cols` elements lie inside the slice.
    pub fn holds(self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.rs + (cols - 1) * self.cs < self.data.len()
    }
}

/// Packs `depth` rows of `cols` ≤ `NR` columns of a right operand: `out[k·NR + j]`, the missing columns zero.
pub fn right(out: &mut [f32], b: Matrix, depth: usize, cols: usize, NR: usize) {
    match NR {
        8 => right_panel::<8>(out, b, depth, cols),
        16 => right_panel::<16>(out, b, depth, cols),
        _ => right_panel::<32>(out, b, depth, cols),
    }
}

fn right_panel<const NR: usize>(out: &mut [f32], b: Matrix, depth: usize, cols: usize) {
    let (out, _) = out.as_chunks_mut::<NR>();
    let out = &mut out[..depth];
    if cols < NR {
        for (k, out) in out.iter_mut().enumerate() {
            for (j, out) in out.iter_mut().enumerate() {
                *out = if j < cols { b.data[k * b.rs + j * b.cs] } else { 0.0 };
            }
        }
    } else if b.cs == 1 {
        for (k, out) in out.iter_mut().enumerate() {
            out.copy_from_slice(&b.data[k * b.rs..][..NR]);
        }
    } else {
        assert_eq!(b.rs, 1, "a matrix is contiguous along its rows or its columns");
        let whole = depth / 4 * 4;
        for j in (0..NR).step_by(4) {
            let column = |l: usize| &b.data[(j + l) * b.cs..][..depth];
            let columns = [column(0), column(1), column(2), column(3)];
            for k in (0..whole).step_by(4) {
                if k % 16 == 0 && j + 8 <= NR {
                    // Runs of a few lines from each of many rows are too short for the hardware's own prefetching.
                    (4..8).for_each(|l| prefetch(&b.data[(j + l) * b.cs + k]));
                }
                let block = |l: usize| columns[l][k..].first_chunk().unwrap_or(&[0.0; 4]);
                let rows = transpose(block(0), block(1), block(2), block(3));
                for l in 0..4 {
                    out[k + l][j..j + 4].copy_from_slice(&rows[l]);
                }
            }
            for k in whole..depth {
                for l in 0..4 {
                    out[k][j + l] = columns[l][k];
                }
            }
        }
    }
}

/// Asks for the line of an element.
#[inline(always)]
fn prefetch(x: &f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch has no effect but on the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// The transpose of 4 by 4 elements.
#[inline(always)]
fn transpose(a: &[f32; 4], b: &[f32; 4], c: &[f32; 4], d: &[f32; 4]) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: SSE is part of x86-64; each load and store is of one array.
        unsafe {
            let [mut a, mut b, mut c, mut d] = [
                _mm_loadu_ps(a.as_ptr()),
                _mm_loadu_ps(b.as_ptr()),
                _mm_loadu_ps(c.as_ptr()),
                _mm_loadu_ps(d.as_ptr()),
            ];
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            let mut rows = [[0.0; 4]; 4];
            _mm_storeu_ps(rows[0].as_mut_ptr(), a);
            _mm_storeu_ps(rows[1].as_mut_ptr(), b);
            _mm_storeu_ps(rows[2].as_mut_ptr(), c);
            _mm_storeu_ps(rows[3].as_mut_ptr(), d);
            rows
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]], [a[2], b[2], c[2], d[2]], [a[3], b[3], c[3], d[3]]]
}

/// Packs `rows` rows of `depth` columns of a left operand in panels of `MR` rows, a panel `out[k·MR + i]`; missing rows of the
/// last panel are left as they are. With `sums`, adds each row's sum to the element of its row.
pub fn left(out: &mut [f32], a: Matrix, rows: usize, depth: usize, MR: usize, sums: Option<&mut [f32]>) {
    match MR {
        4 => left_panels::<4>(out, a, rows, depth, sums),
        6 => left_panels::<6>(out, a, rows, depth, sums),
        _ => left_panels::<12>(out, a, rows, depth, sums),
    }
}

fn left_panels<const MR: usize>(
    out: &mut [f32],
    a: Matrix,
    rows: usize,
    depth: usize,
    sums: Option<&mut [f32]>,
) {
    let (out, _) = out.as_chunks_mut::<MR>();
    let whole = if a.rs == 1 { rows / MR } else { 0 };
    // Two panels at a time: one alone would use a small part of each line that it touches; more of them are written to at
    // addresses that fall on the same few sets of the cache.
    for start in (0..whole).step_by(2) {
        let panels = 2.min(whole - start);
        for k in 0..depth {
            let (row, _) = a.data[k * a.cs + start * MR..][..panels * MR].as_chunks::<MR>();
            for (panel, row) in row.iter().enumerate() {
                out[(start + panel) * depth + k] = *row;
            }
        }
    }
    for i in whole * MR..rows {
        for k in 0..depth {
            out[i / MR * depth + k][i % MR] = a.data[i * a.rs + k * a.cs];
        }
    }
    // A pass of its own, over panels that are in cache.
    if let Some(sums) = sums {
        for (sums, panel) in sums[..rows].chunks_mut(MR).zip(out.chunks_exact(depth)) {
            let mut totals = [0.0; MR];
            for row in panel {
                for (total, x) in totals.iter_mut().zip(row) {
                    *total += *x;
                }
            }
            for (sum, total) in sums.iter_mut().zip(totals) {
                *sum += total;
            }
        }
    }
}
