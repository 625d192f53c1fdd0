//! Launchers of `kernels/attention/unfused.cu`.

use wikigpt_ops::Result;

use crate::launch::{Geometry, Value, dim, tiles};
use crate::source::UNFUSED;
use crate::{Gpu, Tensor};

/// The kernels' `BLOCK_M` and `BLOCK_N`.
const BLOCK: usize = 64;
/// Threads of a block: each has 64 elements of the tile.
const THREADS: u32 = 64;

/// (B, T, NH, HS).
type Shape = [usize; 4];

/// Launches one of the kernels, whose result has T rows of `columns` for each head.
fn launch(
    gpu: &mut Gpu,
    op: &'static str,
    name: &'static str,
    tensors: &[Value],
    [B, T, NH, HS]: Shape,
    columns: usize,
) -> Result {
    let grid = tiles(op, (columns, BLOCK), (T, BLOCK), B * NH)?;
    let mut values = tensors.to_vec();
    for (name, n) in [("T", T), ("NH", NH), ("HS", HS)] {
        values.push(dim(op, name, n)?);
    }
    let kernel = gpu.kernel(op, UNFUSED, &[], name)?;
    gpu.launch(op, name, &kernel, Geometry { grid, block: [THREADS, 1, 1], shared: 0 }, &values)
}

/// scores = q·kᵀ/√HS up to the diagonal.
pub fn attention_scores_forward(
    gpu: &mut Gpu,
    scores: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    const OP: &str = "attention_scores_forward";
    launch(gpu, OP, OP, &[scores.into(), qkv.into()], [B, T, NH, HS], T)
}

/// dq = dscores·k/√HS; dk = dscoresᵀ·q/√HS.
pub fn attention_scores_backward(
    gpu: &mut Gpu,
    dqkv: Tensor,
    dscores: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    const OP: &str = "attention_scores_backward";
    let tensors = [dqkv.into(), dscores.into(), qkv.into()];
    for name in ["attention_scores_backward_q", "attention_scores_backward_k"] {
        launch(gpu, OP, name, &tensors, [B, T, NH, HS], HS)?;
    }
    Ok(())
}

/// out = probs·v.
pub fn attention_values_forward(
    gpu: &mut Gpu,
    out: Tensor,
    probs: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    const OP: &str = "attention_values_forward";
    launch(gpu, OP, OP, &[out.into(), probs.into(), qkv.into()], [B, T, NH, HS], HS)
}

/// dprobs = dout·vᵀ up to the diagonal, 0 above it; dv = probsᵀ·dout.
pub fn attention_values_backward(
    gpu: &mut Gpu,
    dprobs: Tensor,
    dqkv: Tensor,
    dout: Tensor,
    probs: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    const OP: &str = "attention_values_backward";
    let shape = [B, T, NH, HS];
    launch(gpu, OP, "attention_values_backward_probs", &[dprobs.into(), dout.into(), qkv.into()], shape, T)?;
    launch(gpu, OP, "attention_values_backward_v", &[dqkv.into(), dout.into(), probs.into()], shape, HS)
}
