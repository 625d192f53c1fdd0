//! Causal multi-head self-attention, whole and over a cache.
//!
//! A task is one head of one sequence. Its keys and values are packed once as right operands of the matrix product's
//! micro-kernels; then tiles of MR rows of queries go through scores, softmax and the product with the values, with the scores
//! of a tile (MR by at most T) in cache. What lies above the diagonal is skipped but for the rest of a tile, and so are keys
//! before all of a tile's queries' starts, but for the rest of a panel.

use wikigpt_ops::Dropout;
use wikigpt_ops::reference::attention::Heads;

use crate::CpuKernels;
use crate::dropout::factors;
use crate::gemm::{Matrix, Micro, Tile, pack_right};
use crate::simd::{Level, dot, exp, madd, padded, vectorised};
use crate::softmax::{row_exp, row_scale};
use crate::threads::Parts;

/// Rows of a block of the backward: the depth of the products that give dk and dv.
const ROWS: usize = 48;

/// Rows of HS elements, `stride` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows that start at an offset.
    fn new(data: &'a [f32], offset: usize, stride: usize) -> Self {
        Rows { data: &data[offset..], stride }
    }

    fn row(self, i: usize, HS: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..HS]
    }

    /// Rows from `i` on.
    fn from(self, i: usize) -> Matrix<'a> {
        Matrix::rows(&self.data[i * self.stride..], self.stride)
    }

    /// Packs the transpose, (HS,len), in panels of NR rows: for products with each row.
    fn pack_transposed(self, out: &mut [f32], len: usize, HS: usize, NR: usize) {
        for (panel, out) in out.chunks_exact_mut(NR * HS).take(len.div_ceil(NR)).enumerate() {
            let start = panel * NR;
            let columns = Matrix::transposed(&self.data[start * self.stride..], self.stride);
            pack_right(out, columns, HS, NR.min(len - start), NR);
        }
    }

    /// Packs `len` rows from `start` on, (len,HS), in panels of NR columns: for sums of the rows. Panels are `depth` rows apart.
    fn pack(self, out: &mut [f32], start: usize, len: usize, depth: usize, HS: usize, NR: usize) {
        for (panel, out) in out.chunks_exact_mut(NR * depth).take(HS.div_ceil(NR)).enumerate() {
            let column = panel * NR;
            pack_right(out, self.from(start).from(0, column), len, NR.min(HS - column), NR);
        }
    }
}

/// The mask of the probabilities of one head, whose element (t,t2) has the index start + t·T + t2.
#[derive(Clone, Copy)]
struct Mask {
    dropout: Dropout,
    start: u64,
    T: usize,
}

impl Mask {
    /// What the elements of row t from `from` on are multiplied by; `None` for nothing.
    fn row(self, level: Level, out: &mut [f32], t: usize, from: usize) -> Option<&[f32]> {
        if self.dropout.p == 0.0 {
            return None;
        }
        factors(level, out, self.dropout, self.start + (t * self.T + from) as u64);
        Some(out)
    }
}

/// Where what each query sees begins; at the first key without.
#[derive(Clone, Copy)]
struct Starts<'a>(Option<&'a [u32]>);

impl Starts<'_> {
    /// Those of sequence b of T positions.
    fn of(starts: Option<&[u32]>, b: usize, T: usize) -> Starts<'_> {
        Starts(starts.map(|starts| &starts[b * T..][..T]))
    }

    /// That of query t.
    fn at(self, t: usize) -> usize {
        self.0.map_or(0, |starts| starts[t] as usize)
    }
}

/// Rows of an output that a task owns some columns of.
#[derive(Clone, Copy)]
struct OutRows<'a> {
    parts: Parts<'a>,
    offset: usize,
    stride: usize,
}

/// A tile's sizes: its rows (at most MR) and columns, the depth summed over, and the depth that the panels of the right
/// operand were packed for.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
    depth: usize,
    panel: usize,
}

/// The product of a tile's rows of `a` with packed panels `b`, set in (or, with `add`, added to) rows of `c` that are `ldc` apart.
///
/// # Safety
/// The tile's elements of `c` are valid, and nobody else uses them.
unsafe fn tile_product(micro: &Micro, c: *mut f32, ldc: usize, a: Matrix, b: &[f32], size: Size, add: bool) {
    let NR = micro.NR;
    let Size { rows, cols, depth, panel } = size;
    assert!((1..=micro.MR).contains(&rows) && cols > 0 && a.holds(rows, depth));
    assert!((cols.div_ceil(NR) - 1) * NR * panel + NR * depth <= b.len());
    let (kernel, stride) = match a.cs {
        1 => (micro.kernels[rows - 1], a.rs),
        _ => (micro.transposed[rows - 1], a.cs),
    };
    assert!(a.cs == 1 || a.rs == 1);
    for (at, j) in (0..cols).step_by(NR).enumerate() {
        let c = c.wrapping_add(j);
        let add = if add { c.cast_const() } else { std::ptr::null() };
        let tile = Tile { c, ldc, cols: NR.min(cols - j), add, add_rs: ldc, bias: std::ptr::null() };
        let b = b[at * NR * panel..].as_ptr();
        // SAFETY: a backend's level is the machine's; the operands hold `rows` by `depth` and `depth` by NR elements, as
        // asserted above; `c` is as the caller says.
        unsafe { kernel(depth, a.data.as_ptr(), stride, b, &tile) }
    }
}

/// The same into scratch.
fn tile_in(micro: &Micro, c: &mut [f32], ldc: usize, a: Matrix, b: &[f32], size: Size) {
    assert!((size.rows - 1) * ldc + size.cols <= c.len());
    // SAFETY: the tile lies inside `c`, which is borrowed mutably.
    unsafe { tile_product(micro, c.as_mut_ptr(), ldc, a, b, size, false) }
}

/// The same into an output, from its row `row` on.
///
/// # Safety
/// Nobody else uses these rows' columns of the output.
unsafe fn tile_out(micro: &Micro, out: OutRows, row: usize, a: Matrix, b: &[f32], size: Size, add: bool) {
    let start = out.offset + row * out.stride;
    let c = out.parts.block(start, size.rows, out.stride, size.cols);
    // SAFETY: `block` checked that the elements lie inside the output; the caller says that they are its own.
    unsafe { tile_product(micro, c, out.stride, a, b, size, add) }
}

/// Elements of scratch that a head's forward takes.
fn forward_scratch(micro: &Micro, keys: usize, HS: usize) -> usize {
    let width = padded(keys).next_multiple_of(micro.NR);
    width * HS + keys * HS.next_multiple_of(micro.NR) + (micro.MR + 1) * width
}

/// A head's forward: queries of positions pos..pos+len over keys and values of positions 0..pos+len. `lse` (len), if asked for.
///
/// # Safety
/// Nobody else uses the HS columns from `out`'s offset on in its `len` rows.
unsafe fn head_forward(
    level: Level,
    scratch: &mut [f32],
    out: OutRows,
    mut lse: Option<&mut [f32]>,
    [q, k, v]: [Rows; 3],
    starts: Starts,
    pos: usize,
    len: usize,
    HS: usize,
    mask: Mask,
) {
    let micro = Micro::of(level);
    let (MR, NR) = (micro.MR, micro.NR);
    let keys = pos + len;
    let width = padded(keys).next_multiple_of(NR);
    let (k_packed, rest) = scratch.split_at_mut(width * HS);
    let (v_packed, rest) = rest.split_at_mut(keys * HS.next_multiple_of(NR));
    let (scores, mask_row) = rest.split_at_mut(MR * width);
    k.pack_transposed(k_packed, keys, HS, NR);
    v.pack(v_packed, 0, keys, keys, HS, NR);
    let scale = 1.0 / (HS as f32).sqrt();
    for t in (0..len).step_by(MR) {
        let rows = MR.min(len - t);
        let limit = pos + t + rows;
        // Later queries' starts are no earlier.
        let from = starts.at(t) / NR * NR;
        let size = Size { rows, cols: limit.next_multiple_of(NR) - from, depth: HS, panel: HS };
        tile_in(micro, &mut scores[from..], width, q.from(t), &k_packed[from * HS..], size);
        let mut totals = [1.0; MOST_ROWS];
        for (i, row) in scores.chunks_exact_mut(width).take(rows).enumerate() {
            let live = pos + t + i + 1;
            row[from..starts.at(t + i)].fill(f32::NEG_INFINITY);
            row[live..padded(live)].fill(f32::NEG_INFINITY);
            let (m, total) = row_exp(level, &mut row[from..padded(live)], scale);
            if let Some(lse) = &mut lse {
                lse[t + i] = m * scale + total.ln();
            }
            totals[i] = total;
            if let Some(factors) = mask.row(level, &mut mask_row[..live - from], t + i, from) {
                row[from..].iter_mut().zip(factors).for_each(|(p, factor)| *p *= factor);
            }
            row[live..limit.max(padded(live))].fill(0.0);
        }
        let size = Size { rows, cols: HS, depth: limit - from, panel: keys };
        let (probs, values) = (Matrix::rows(&scores[from..], width), &v_packed[from * NR..]);
        // SAFETY: the caller's rows and columns.
        unsafe { tile_out(micro, out, t, probs, values, size, false) };
        for (i, total) in totals.iter().take(rows).enumerate() {
            // SAFETY: as above.
            let out = unsafe { out.parts.part(out.offset + (t + i) * out.stride, HS) };
            row_scale(level, out, 1.0 / total);
        }
    }
}

/// The most rows that a tile has at any level.
const MOST_ROWS: usize = 12;

/// out\[t\] = Σ mask·p\[t2\]·v\[t2\] over the t2 that t sees, with p = exp(s − lse), s\[t2\] = q\[t\]·k\[t2\]/√HS, lse = log Σ
/// exp(s).
pub fn forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    lse: &mut [f32],
    qkv: &[f32],
    starts: Option<&[u32]>,
    B: usize,
    heads: Heads,
    dropout: Dropout,
) {
    let Heads { T, NH, HS } = heads;
    let C = NH * HS;
    let level = cpu.level;
    cpu.workers.reserve(forward_scratch(Micro::of(level), T, HS));
    let (out, lse, workers) = (Parts::new(out), Parts::new(lse), &cpu.workers);
    cpu.threads.run(B * NH, |worker, head| {
        let (b, h) = (head / NH, head % NH);
        let inputs = [0, 1, 2].map(|i| Rows::new(qkv, b * T * 3 * C + i * C + h * HS, 3 * C));
        let out = OutRows { parts: out, offset: b * T * C + h * HS, stride: C };
        let mask = Mask { dropout, start: (head * T * T) as u64, T };
        let mut scratch = workers.of(worker);
        let scratch = scratch.get(forward_scratch(Micro::of(level), T, HS));
        let starts = Starts::of(starts, b, T);
        // SAFETY: each head is one task's, and has its own HS columns of the sequence's rows.
        unsafe {
            let lse = Some(lse.part(head * T, T));
            head_forward(level, scratch, out, lse, inputs, starts, 0, T, HS, mask);
        }
    });
}

vectorised! {
    /// From a row's scores and dp: ds = p·(mask·dp − `p_dp`)·scale in place of dp, mask·p in place of the scores; p = exp(scale·score − lse).
    fn row_gradient(scores: &mut [f32], dp: &mut [f32], mask: Option<&[f32]>, scale: f32, lse: f32, p_dp: f32) {
        match mask {
            None => {
                for (s, dp) in scores.iter_mut().zip(dp) {
                    let p = exp::<FMA>(madd::<FMA>(*s, scale, -lse));
                    *dp = p * (*dp - p_dp) * scale;
                    *s = p;
                }
            }
            Some(mask) => {
                for ((s, dp), m) in scores.iter_mut().zip(dp).zip(mask) {
                    let p = exp::<FMA>(madd::<FMA>(*s, scale, -lse));
                    *dp = p * madd::<FMA>(*m, *dp, -p_dp) * scale;
                    *s = *m * p;
                }
            }
        }
    }
}

vectorised! {
    /// x·y.
    fn row_dot(x: &[f32], y: &[f32]) -> f32 {
        dot::<FMA>(x, y)
    }
}

/// Elements of scratch that a head's backward takes.
fn backward_scratch(micro: &Micro, T: usize, HS: usize) -> usize {
    let (width, wide) = (padded(T).next_multiple_of(micro.NR), HS.next_multiple_of(micro.NR));
    2 * width * HS + T * wide + 2 * ROWS * wide + (2 * ROWS + 1) * width
}

/// A head's backward: see the reference for the derivation. Blocks of [`ROWS`] queries: probabilities and ds of the block, then
/// dq of its rows, then what it adds to dk and dv of all keys from its first start up to its last row.
///
/// # Safety
/// Nobody else uses the HS columns from the offsets of `dq`, `dk` and `dv` on in their T rows.
unsafe fn head_backward(
    level: Level,
    scratch: &mut [f32],
    [dq, dk, dv]: [OutRows; 3],
    [q, k, v]: [Rows; 3],
    dout: Rows,
    out: Rows,
    lse: &[f32],
    starts: Starts,
    HS: usize,
    mask: Mask,
) {
    let micro = Micro::of(level);
    let (MR, NR) = (micro.MR, micro.NR);
    let T = mask.T;
    let (width, wide) = (padded(T).next_multiple_of(NR), HS.next_multiple_of(NR));
    let (k_transposed, rest) = scratch.split_at_mut(width * HS);
    let (v_transposed, rest) = rest.split_at_mut(width * HS);
    let (k_packed, rest) = rest.split_at_mut(T * wide);
    let (q_packed, rest) = rest.split_at_mut(ROWS * wide);
    let (dout_packed, rest) = rest.split_at_mut(ROWS * wide);
    let (p, rest) = rest.split_at_mut(ROWS * width);
    let (ds, mask_row) = rest.split_at_mut(ROWS * width);
    k.pack_transposed(k_transposed, T, HS, NR);
    v.pack_transposed(v_transposed, T, HS, NR);
    k.pack(k_packed, 0, T, T, HS, NR);
    let scale = 1.0 / (HS as f32).sqrt();
    for block in (0..T).step_by(ROWS) {
        let end = T.min(block + ROWS);
        q.pack(q_packed, block, end - block, ROWS, HS, NR);
        dout.pack(dout_packed, block, end - block, ROWS, HS, NR);
        // No query of the block sees keys before the first of this tile.
        let lowest = starts.at(block) / MR * MR;
        for t in (block..end).step_by(MR) {
            let rows = MR.min(end - t);
            let limit = t + rows;
            let tile = (t - block) * width..(limit - block) * width;
            let (p, ds) = (&mut p[tile.clone()], &mut ds[tile]);
            let from = starts.at(t) / NR * NR;
            let size = Size { rows, cols: limit.next_multiple_of(NR) - from, depth: HS, panel: HS };
            tile_in(micro, &mut p[from..], width, q.from(t), &k_transposed[from * HS..], size);
            tile_in(micro, &mut ds[from..], width, dout.from(t), &v_transposed[from * HS..], size);
            for (i, (p, ds)) in p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width)).enumerate() {
                let t = t + i;
                let (live, wide) = (t + 1, padded(t + 1));
                let p_dp = row_dot(level, dout.row(t, HS), out.row(t, HS));
                let factors = mask.row(level, &mut mask_row[..wide - from], t, from);
                row_gradient(level, &mut p[from..wide], &mut ds[from..wide], factors, scale, lse[t], p_dp);
                // Above the diagonal and before the start the products below must find zeros, whatever the keys there are.
                for row in [p, ds] {
                    row[live..end.max(wide)].fill(0.0);
                    row[lowest.min(from)..starts.at(t)].fill(0.0);
                }
            }
            let size = Size { rows, cols: HS, depth: limit - from, panel: T };
            let (ds, keys) = (Matrix::rows(&ds[from..], width), &k_packed[from * NR..]);
            // SAFETY: the caller's rows and columns.
            unsafe { tile_out(micro, dq, t, ds, keys, size, false) };
        }
        for t2 in (lowest..end).step_by(MR) {
            // ROWS is a multiple of MR, so a tile of keys lies in the block or before it.
            let first = block.max(t2) - block;
            let size = Size { rows: MR.min(end - t2), cols: HS, depth: end - block - first, panel: ROWS };
            let part = |x| Matrix::transposed(x, width).from(t2, first);
            let add = t2 < block;
            // SAFETY: the caller's rows and columns.
            unsafe {
                tile_out(micro, dv, t2, part(p), &dout_packed[first * NR..], size, add);
                tile_out(micro, dk, t2, part(ds), &q_packed[first * NR..], size, add);
            }
        }
    }
}

/// dq, dk and dv, from the forward's output and log-sum-exp.
pub fn backward(
    cpu: &mut CpuKernels,
    dqkv: &mut [f32],
    dout: &[f32],
    out: &[f32],
    lse: &[f32],
    qkv: &[f32],
    starts: Option<&[u32]>,
    B: usize,
    heads: Heads,
    dropout: Dropout,
) {
    let Heads { T, NH, HS } = heads;
    let C = NH * HS;
    let level = cpu.level;
    cpu.workers.reserve(backward_scratch(Micro::of(level), T, HS));
    let (dqkv, workers) = (Parts::new(dqkv), &cpu.workers);
    cpu.threads.run(B * NH, |worker, head| {
        let (b, h) = (head / NH, head % NH);
        let offset = |i: usize| b * T * 3 * C + i * C + h * HS;
        let inputs = [0, 1, 2].map(|i| Rows::new(qkv, offset(i), 3 * C));
        let outputs = [0, 1, 2].map(|i| OutRows { parts: dqkv, offset: offset(i), stride: 3 * C });
        let [dout, out] = [dout, out].map(|x| Rows::new(x, b * T * C + h * HS, C));
        let mask = Mask { dropout, start: (head * T * T) as u64, T };
        let mut scratch = workers.of(worker);
        let scratch = scratch.get(backward_scratch(Micro::of(level), T, HS));
        let (lse, starts) = (&lse[head * T..][..T], Starts::of(starts, b, T));
        // SAFETY: each head is one task's, and has its own HS columns of q, k and v in the sequence's rows.
        unsafe { head_backward(level, scratch, outputs, inputs, dout, out, lse, starts, HS, mask) };
    });
}

/// Up to so many new positions each row goes by itself: packing the cache would cost more than it saves.
const FEW: usize = 4;

vectorised! {
    /// scores\[t2\] = q·k\[t2\].
    fn row_scores(scores: &mut [f32], q: &[f32], k: Rows) {
        for (t2, score) in scores.iter_mut().enumerate() {
            *score = dot::<FMA>(q, k.row(t2, q.len()));
        }
    }
}

vectorised! {
    /// out = Σ probs\[t2\]·v\[t2\], four rows at a time to go over `out` less often.
    fn row_values(out: &mut [f32], probs: &[f32], v: Rows) {
        let HS = out.len();
        out.fill(0.0);
        let (fours, rest) = probs.as_chunks::<4>();
        for (at, p) in fours.iter().enumerate() {
            let rows: [&[f32]; 4] = std::array::from_fn(|i| v.row(4 * at + i, HS));
            for (c, out) in out.iter_mut().enumerate() {
                let low = madd::<FMA>(p[0], rows[0][c], p[1] * rows[1][c]);
                let high = madd::<FMA>(p[2], rows[2][c], p[3] * rows[3][c]);
                *out += low + high;
            }
        }
        for (at, p) in rest.iter().enumerate() {
            for (out, v) in out.iter_mut().zip(v.row(4 * fours.len() + at, HS)) {
                *out = madd::<FMA>(*p, *v, *out);
            }
        }
    }
}

/// Attention of `Tn` new positions of each sequence over a cache of keys and values (rows,Tmax,C), whose row rows\[b\] holds
/// pos\[b\] positions of it and gains the new ones first.
pub fn cached_forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    kcache: &mut [f32],
    vcache: &mut [f32],
    qkv: &[f32],
    pos: &[u32],
    rows: Option<&[u32]>,
    Tmax: usize,
    heads: Heads,
) {
    let Heads { T: Tn, NH, HS } = heads;
    let C = NH * HS;
    // Where sequence b lies in the cache.
    let cached = |b: usize| rows.map_or(b, |rows| rows[b] as usize) * Tmax * C;
    for (n, row) in qkv.chunks_exact(3 * C).enumerate() {
        let at = cached(n / Tn) + (pos[n / Tn] as usize + n % Tn) * C;
        kcache[at..][..C].copy_from_slice(&row[C..2 * C]);
        vcache[at..][..C].copy_from_slice(&row[2 * C..]);
    }
    let (kcache, vcache) = (&*kcache, &*vcache);
    let level = cpu.level;
    // As for a full cache, so that nothing is allocated as it fills.
    let len = if Tn > FEW { forward_scratch(Micro::of(level), Tmax, HS) } else { padded(Tmax) };
    cpu.workers.reserve(len);
    let (out, workers) = (Parts::new(out), &cpu.workers);
    let scale = 1.0 / (HS as f32).sqrt();
    cpu.threads.run(pos.len() * NH, |worker, head| {
        let (b, h) = (head / NH, head % NH);
        let pos = pos[b] as usize;
        let q = Rows::new(qkv, b * Tn * 3 * C + h * HS, 3 * C);
        let [k, v] = [kcache, vcache].map(|cache| Rows::new(cache, cached(b) + h * HS, C));
        let out = OutRows { parts: out, offset: b * Tn * C + h * HS, stride: C };
        let mut scratch = workers.of(worker);
        let scratch = scratch.get(len);
        if Tn > FEW {
            let mask = Mask { dropout: Dropout::NONE, start: 0, T: Tn };
            // SAFETY: each head is one task's, and has its own HS columns of the sequence's rows.
            return unsafe {
                head_forward(level, scratch, out, None, [q, k, v], Starts(None), pos, Tn, HS, mask)
            };
        }
        for t in 0..Tn {
            let live = pos + t + 1;
            let scores = &mut scratch[..padded(live)];
            row_scores(level, &mut scores[..live], q.row(t, HS), k);
            scores[live..].fill(f32::NEG_INFINITY);
            let (_, total) = row_exp(level, scores, scale);
            row_scale(level, &mut scores[..live], 1.0 / total);
            // SAFETY: as above.
            let out = unsafe { out.parts.part(out.offset + t * out.stride, HS) };
            row_values(level, out, &scores[..live], v);
        }
    });
}
