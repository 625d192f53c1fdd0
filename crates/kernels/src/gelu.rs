//! Launchers of `kernels/gelu.cu`.

use wikigpt_ops::Result;

use crate::launch::elementwise;
use crate::source::GELU;
use crate::{Gpu, Tensor};

/// out = gelu(inp).
pub fn gelu_forward(gpu: &mut Gpu, out: Tensor, inp: Tensor) -> Result {
    const OP: &str = "gelu_forward";
    let kernel = gpu.kernel(OP, GELU, &[], OP)?;
    let geometry = elementwise(gpu, out.len);
    gpu.launch(OP, OP, &kernel, geometry, &[out.into(), inp.into(), out.len.into()])
}

/// dinp = dout∘gelu′(inp).
pub fn gelu_backward(gpu: &mut Gpu, dinp: Tensor, dout: Tensor, inp: Tensor) -> Result {
    const OP: &str = "gelu_backward";
    let kernel = gpu.kernel(OP, GELU, &[], OP)?;
    let geometry = elementwise(gpu, dinp.len);
    gpu.launch(OP, OP, &kernel, geometry, &[dinp.into(), dout.into(), inp.into(), dinp.len.into()])
}
