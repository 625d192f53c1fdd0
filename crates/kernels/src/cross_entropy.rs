//! Launchers of `kernels/cross_entropy.cu`.

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
use wikigpt_ops::Result;

use crate::launch::{Geometry, int, tiles};
use crate::source::CROSS_ENTROPY;
use crate::{Gpu, Tensor};

/// Threads of a block, which has a row, and shared memory that it uses besides.
const THREADS: u32 = 512;
const SCRATCH: usize = 128;

/// The losses.
pub fn cross_entropy_forward(
    gpu: &mut Gpu,
    losses: Tensor,
    logits: Tensor,
    targets: Tensor,
    N: usize,
    V: usize,
    Vp: usize,
) -> Result {
    const OP: &str = "cross_entropy_forward";
    let (v, vp) = (int(OP, "V", V)?, int(OP, "Vp", Vp)?);
    let kernel = gpu.kernel(OP, CROSS_ENTROPY, &[], OP)?;
    let geometry = Geometry::of(tiles(OP, (N, 1), (1, 1), 1)?, THREADS);
    let values = [losses.into(), logits.into(), targets.into(), v, vp];
    gpu.launch(OP, OP, &kernel, geometry, &values)
}

/// The losses, and the gradient in place of the logits.
pub fn cross_entropy_forward_backward(
    gpu: &mut Gpu,
    losses: Tensor,
    logits: Tensor,
    targets: Tensor,
    N: usize,
    V: usize,
    Vp: usize,
    scale: f32,
) -> Result {
    const OP: &str = "cross_entropy_forward_backward";
    let (v, vp) = (int(OP, "V", V)?, int(OP, "Vp", Vp)?);
    let bytes = (V * gpu.precision().bytes()).next_multiple_of(16);
    let most = gpu.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) as usize;
    let staged = bytes + SCRATCH <= most;
    let kernel = gpu.kernel(OP, CROSS_ENTROPY, &[], OP)?;
    let geometry =
        Geometry::of(tiles(OP, (N, 1), (1, 1), 1)?, THREADS).shared(if staged { bytes } else { 0 } as u32);
    let values = [losses.into(), logits.into(), targets.into(), v, vp, scale.into(), staged.into()];
    gpu.launch(OP, OP, &kernel, geometry, &values)
}
