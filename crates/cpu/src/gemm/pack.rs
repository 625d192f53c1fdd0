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
            let columns: [&[f32]; 4] = std::array::from_fn(|l| &b.data[(j + l) * b.cs..][..depth]);
            for k in (0..whole).step_by(4) {
                let block = transpose(columns.map(|column| &column[k..][..4]));
                for (l, row) in block.into_iter().enumerate() {
                    out[k + l][j..][..4].copy_from_slice(&row);
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

/// The transpose of 4 by 4 elements.
#[inline(always)]
fn transpose(x: [&[f32]; 4]) -> [[f32; 4]; 4] {
    // Interleaving in two steps is what the processor has instructions for.
    let zip_low = |a: [f32; 4], b: [f32; 4]| [a[0], b[0], a[1], b[1]];
    let zip_high = |a: [f32; 4], b: [f32; 4]| [a[2], b[2], a[3], b[3]];
    let [a, b, c, d] = x.map(|x| [x[0], x[1], x[2], x[3]]);
    let (ac_low, ac_high) = (zip_low(a, c), zip_high(a, c));
    let (bd_low, bd_high) = (zip_low(b, d), zip_high(b, d));
    [zip_low(ac_low, bd_low), zip_high(ac_low, bd_low), zip_low(ac_high, bd_high), zip_high(ac_high, bd_high)]
}

/// Packs `rows` ≤ `MR` rows of `depth` columns of a left operand: `out[k·MR + i]`; missing rows are left as they are. With
/// `sums`, adds each row's sum to the element of its row.
pub fn left(out: &mut [f32], a: Matrix, rows: usize, depth: usize, MR: usize, sums: Option<&mut [f32]>) {
    match MR {
        4 => left_panel::<4>(out, a, rows, depth, sums),
        6 => left_panel::<6>(out, a, rows, depth, sums),
        _ => left_panel::<12>(out, a, rows, depth, sums),
    }
}

fn left_panel<const MR: usize>(
    out: &mut [f32],
    a: Matrix,
    rows: usize,
    depth: usize,
    sums: Option<&mut [f32]>,
) {
    let (out, _) = out.as_chunks_mut::<MR>();
    let out = &mut out[..depth];
    let mut totals = [0.0; MR];
    if rows == MR && a.rs == 1 {
        for (k, out) in out.iter_mut().enumerate() {
            out.copy_from_slice(&a.data[k * a.cs..][..MR]);
            for (total, x) in totals.iter_mut().zip(&*out) {
                *total += *x;
            }
        }
    } else {
        for i in 0..rows {
            for (k, out) in out.iter_mut().enumerate() {
                out[i] = a.data[i * a.rs + k * a.cs];
                totals[i] += out[i];
            }
        }
    }
    if let Some(sums) = sums {
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum += total;
        }
    }
}
