//! Launchers of `kernels/softmax.cu`.

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
use wikigpt_ops::Result;

use crate::launch::{Geometry, Value, int};
use crate::source::SOFTMAX;
use crate::{Gpu, Tensor};

/// Threads of a warp, and warps of a block.
const WARP: u32 = 32;
const WARPS: usize = 8;
/// Shared memory of a block: so little that a multiprocessor holds several.
const SHARED: usize = 48 << 10;

/// Causal softmax of R matrices.
pub fn softmax_forward(gpu: &mut Gpu, probs: Tensor, scores: Tensor, R: usize, T: usize) -> Result {
    launch(gpu, "softmax_forward", &[probs, scores], 1, R, T)
}

/// Its gradient.
pub fn softmax_backward(
    gpu: &mut Gpu,
    dscores: Tensor,
    dprobs: Tensor,
    probs: Tensor,
    R: usize,
    T: usize,
) -> Result {
    launch(gpu, "softmax_backward", &[dscores, dprobs, probs], 2, R, T)
}

/// A warp keeps `kept` rows in shared memory, if they fit.
fn launch(gpu: &mut Gpu, op: &'static str, tensors: &[Tensor], kept: usize, R: usize, T: usize) -> Result {
    let bytes = kept * (T * gpu.precision().bytes()).next_multiple_of(16);
    let most = gpu.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) as usize;
    let staged = bytes <= most;
    let warps = if staged { (SHARED / bytes).clamp(1, WARPS) } else { WARPS };
    let (r, t) = (int(op, "R", R)?, int(op, "T", T)?);
    let blocks = int(op, "the number of blocks", (R * T).div_ceil(warps))?;
    let kernel = gpu.kernel(op, SOFTMAX, &[], op)?;
    let geometry = Geometry::line(blocks as u32, warps as u32 * WARP);
    let geometry = geometry.shared(if staged { warps * bytes } else { 0 } as u32);
    let mut values: Vec<_> = tensors.iter().map(|tensor| (*tensor).into()).collect();
    values.extend([Value::from(r), t.into(), staged.into()]);
    gpu.launch(op, op, &kernel, geometry, &values)
}
