//! Launchers of `kernels/embedding.cu`.

use wikigpt_ops::{Result, Update};

use crate::launch::{Geometry, Value, int, width};
use crate::source::EMBEDDING;
use crate::{Gpu, Tensor};

/// Warps of a block, and threads; threads of the one that scans.
const WARPS: usize = 8;
const THREADS: u32 = 256;
const SCAN_THREADS: u32 = 1024;
/// Keys that a block sorts, values of a digit and its bits.
const TILE: usize = 2048;
const DIGITS: usize = 256;
const DIGIT_BITS: u32 = 8;

/// out = the tokens' rows of wte plus the positions' of wpe.
pub fn embedding_forward(
    gpu: &mut Gpu,
    out: Tensor,
    tokens: Tensor,
    positions: Option<Tensor>,
    wte: Tensor,
    wpe: Tensor,
    B: usize,
    T: usize,
    C: usize,
) -> Result {
    const OP: &str = "embedding_forward";
    let width = width(gpu, C, &[out, wte, wpe]);
    let dims = [int(OP, "B", B)?, int(OP, "T", T)?, int(OP, "C", C)?, width as i32];
    let kernel = gpu.kernel(OP, EMBEDDING, &[], OP)?;
    let geometry = Geometry::plane(T.div_ceil(WARPS), C.div_ceil(32 * width), THREADS);
    let tensors = [out.into(), tokens.into(), positions.into(), wte.into(), wpe.into()];
    gpu.launch(OP, OP, &kernel, geometry, &[&tensors[..], &dims.map(Value::from)].concat())
}

/// dwte += the rows of dout by token, dwpe (set or added) by position; but with `positions` always added.
pub fn embedding_backward(
    gpu: &mut Gpu,
    dwte: Tensor,
    dwpe: Tensor,
    dout: Tensor,
    tokens: Tensor,
    positions: Option<Tensor>,
    B: usize,
    T: usize,
    C: usize,
    update: Update,
) -> Result {
    const OP: &str = "embedding_backward";
    let width = width(gpu, C, &[dwte, dwpe, dout]);
    let rows = dwpe.len / C;
    let all = int(OP, "B·T", B * T)?;
    let [b, t, c, table] =
        [("B", B), ("T", T), ("C", C), ("wpe's rows", rows)].map(|(name, n)| int(OP, name, n));
    let (b, t, c, table) = (b?, t?, c?, table?);
    add_by_row(gpu, OP, dwte, dout, tokens, all, c, width)?;
    if let Some(positions) = positions {
        return add_by_row(gpu, OP, dwpe, dout, positions, all, c, width);
    }

    const POSITIONS: &str = "embedding_backward_positions";
    let kernel = gpu.kernel(OP, EMBEDDING, &[], POSITIONS)?;
    let geometry = Geometry::plane(rows.div_ceil(WARPS), C.div_ceil(32 * width), THREADS);
    let values = [
        dwpe.into(),
        dout.into(),
        b.into(),
        t.into(),
        c.into(),
        table.into(),
        update.into(),
        (width as i32).into(),
    ];
    gpu.launch(OP, POSITIONS, &kernel, geometry, &values)
}

/// Sorts the positions by the row of a table that each of them chose, and adds its gradients to each row.
fn add_by_row(
    gpu: &mut Gpu,
    op: &'static str,
    table: Tensor,
    dout: Tensor,
    chosen: Tensor,
    positions: i32,
    c: i32,
    width: usize,
) -> Result {
    const COUNT: &str = "embedding_backward_count";
    const SCAN: &str = "embedding_backward_scan";
    const SCATTER: &str = "embedding_backward_scatter";
    const TOKENS: &str = "embedding_backward_tokens";
    const JOIN: &str = "embedding_backward_join";
    let (P, C) = (positions as usize, c as usize);
    let (tiles, columns) = (P.div_ceil(TILE), C.div_ceil(32 * width));
    // Long chunks leave few partial sums, short ones are many and keep the device busy.
    let chunk = (P / 512).clamp(32, 128);
    let chunks = P.div_ceil(chunk);

    // Keys and positions, twice, as a pass reads one pair and writes the other; counts; partial sums. Each part begins at a
    // multiple of 16 bytes.
    let list = (P * 4).next_multiple_of(16);
    let (counts, partial) = (4 * list, 4 * list + DIGITS * tiles * 4);
    let scratch = gpu.scratch(partial + chunks * 2 * C * 4)?;
    let at = |bytes: usize| Value::Ptr(scratch + bytes as u64);
    let (counts, partial) = (at(counts), at(partial));
    let lists = [[at(0), at(list)], [at(2 * list), at(3 * list)]];

    let [count, scan, scatter] = [COUNT, SCAN, SCATTER].map(|name| gpu.kernel(op, EMBEDDING, &[], name));
    let (count, scan, scatter) = (count?, scan?, scatter?);
    let blocks = Geometry::line(tiles as u32, THREADS);
    let (mut keys, mut order) = (Value::from(chosen), Value::Ptr(0));
    let bits = usize::BITS - (table.len / C - 1).leading_zeros();
    for pass in 0..bits.div_ceil(DIGIT_BITS).max(1) {
        let shift = Value::from((pass * DIGIT_BITS) as i32);
        let [keys_out, order_out] = lists[pass as usize % 2];
        gpu.launch(op, COUNT, &count, blocks, &[counts, keys, positions.into(), shift])?;
        let all = Value::from((DIGITS * tiles) as i32);
        gpu.launch(op, SCAN, &scan, Geometry::line(1, SCAN_THREADS), &[counts, all])?;
        let values = [keys_out, order_out, keys, order, counts, positions.into(), shift];
        gpu.launch(op, SCATTER, &scatter, blocks, &values)?;
        (keys, order) = (keys_out, order_out);
    }

    let dims = [positions, c, chunk as i32, width as i32].map(Value::from);
    let kernel = gpu.kernel(op, EMBEDDING, &[], TOKENS)?;
    let warps = int(op, "the number of warps", chunks * columns)? as usize;
    let geometry = Geometry::plane(warps.div_ceil(WARPS), 1, THREADS);
    let values = [&[table.into(), partial, dout.into(), keys, order], &dims[..]].concat();
    gpu.launch(op, TOKENS, &kernel, geometry, &values)?;

    let kernel = gpu.kernel(op, EMBEDDING, &[], JOIN)?;
    let geometry = Geometry::plane(chunks, columns, THREADS);
    gpu.launch(op, JOIN, &kernel, geometry, &[&[table.into(), partial, keys], &dims[..]].concat())
}
