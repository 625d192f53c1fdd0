//! Launchers of `kernels/cross_entropy.cu`.

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
use wikigpt_ops::Result;

use crate::launch::{Geometry, int};
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
    weights: Option<Tensor>,
    N: usize,
    V: usize,
    Vp: usize,
) -> Result {
    const OP: &str = "cross_entropy_forward";
    let (n, v, vp) = (int(OP, "N", N)?, int(OP, "V", V)?, int(OP, "Vp", Vp)?);
    let kernel = gpu.kernel(OP, CROSS_ENTROPY, &[], OP)?;
    let values = [losses.into(), logits.into(), targets.into(), weights.into(), v.into(), vp.into()];
    gpu.launch(OP, OP, &kernel, Geometry::line(n as u32, THREADS), &values)
}

/// The losses, and the gradient in place of the logits.
pub fn cross_entropy_forward_backward(
    gpu: &mut Gpu,
    losses: Tensor,
    logits: Tensor,
    targets: Tensor,
    weights: Option<Tensor>,
    N: usize,
    V: usize,
    Vp: usize,
    scale: f32,
) -> Result {
    const OP: &str = "cross_entropy_forward_backward";
    let (n, v, vp) = (int(OP, "N", N)?, int(OP, "V", V)?, int(OP, "Vp", Vp)?);
    let bytes = (V * gpu.precision().bytes()).next_multiple_of(16);
    let most = gpu.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) as usize;
    let staged = bytes + SCRATCH <= most;
    let kernel = gpu.kernel(OP, CROSS_ENTROPY, &[], OP)?;
    let geometry = Geometry::line(n as u32, THREADS).shared(if staged { bytes } else { 0 } as u32);
    let tensors = [losses.into(), logits.into(), targets.into(), weights.into()];
    let values = [&tensors[..], &[v.into(), vp.into(), scale.into(), staged.into()]].concat();
    gpu.launch(OP, OP, &kernel, geometry, &values)
}
