//! Launchers of `kernels/residual.cu`.

use wikigpt_ops::{Result, Update};

use crate::launch::{Geometry, elementwise};
use crate::source::RESIDUAL;
use crate::{Gpu, Tensor};

/// out = a + b.
pub fn residual_forward(gpu: &mut Gpu, out: Tensor, a: Tensor, b: Tensor) -> Result {
    const OP: &str = "residual_forward";
    let kernel = gpu.kernel(OP, RESIDUAL, &[], OP)?;
    let geometry: Geometry = elementwise(gpu, out.len);
    gpu.launch(OP, OP, &kernel, geometry, &[out.into(), a.into(), b.into(), out.len.into()])
}

/// da (set or added) dout.
pub fn residual_backward(gpu: &mut Gpu, da: Tensor, dout: Tensor, update: Update) -> Result {
    const OP: &str = "residual_backward";
    let kernel = gpu.kernel(OP, RESIDUAL, &[], OP)?;
    let geometry: Geometry = elementwise(gpu, da.len);
    gpu.launch(OP, OP, &kernel, geometry, &[da.into(), dout.into(), da.len.into(), update.into()])
}
