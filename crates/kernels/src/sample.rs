//! Launcher of `kernels/sample.cu`.

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
use wikigpt_ops::{Error, Result};

use crate::launch::{Geometry, int};
use crate::source::SAMPLE;
use crate::{Gpu, Tensor};

/// The most threads of a block, which has a row; shared memory that it uses besides the row; and the largest vocabulary whose weights its
/// sums hold.
const THREADS: usize = 1024;
const SCRATCH: usize = 6656;
const LARGEST: usize = 1 << 23;

/// A token for each row of logits.
pub fn sample(
    gpu: &mut Gpu,
    tokens: Tensor,
    seen: Option<Tensor>,
    logits: Tensor,
    knobs: Tensor,
    uniforms: Tensor,
    rows: Option<Tensor>,
    B: usize,
    V: usize,
    Vp: usize,
) -> Result {
    const OP: &str = "sample";
    let (b, v, vp) = (int(OP, "B", B)?, int(OP, "V", V)?, int(OP, "Vp", Vp)?);
    if V > LARGEST {
        let message = format!("V can be at most {LARGEST} on a GPU, got {V}");
        return Err(Error::Argument { op: OP, message });
    }
    let threads = V.next_multiple_of(32).min(THREADS);
    let bytes = V.next_multiple_of(4) * size_of::<u32>();
    let most = gpu.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) as usize;
    let staged = bytes + SCRATCH <= most;
    let kernel = gpu.kernel(OP, SAMPLE, &[], OP)?;
    let geometry = Geometry::line(b as u32, threads as u32).shared(if staged { bytes } else { 0 } as u32);
    let tensors = [tokens.into(), seen.into(), logits.into(), knobs.into(), uniforms.into(), rows.into()];
    let values = [&tensors[..], &[v.into(), vp.into(), staged.into()]].concat();
    gpu.launch(OP, OP, &kernel, geometry, &values)
}
