//! Launchers of `kernels/dropout.cu`.

use wikigpt_ops::{Dropout, Result};

use crate::launch::elementwise;
use crate::source::DROPOUT;
use crate::{Gpu, Tensor};

/// out = inp∘mask/(1 − p).
pub fn dropout_forward(gpu: &mut Gpu, out: Tensor, inp: Tensor, dropout: Dropout) -> Result {
    masked(gpu, "dropout_forward", out, inp, dropout)
}

/// dinp = dout∘mask/(1 − p): the same map.
pub fn dropout_backward(gpu: &mut Gpu, dinp: Tensor, dout: Tensor, dropout: Dropout) -> Result {
    masked(gpu, "dropout_backward", dinp, dout, dropout)
}

fn masked(gpu: &mut Gpu, op: &'static str, out: Tensor, inp: Tensor, dropout: Dropout) -> Result {
    const KERNEL: &str = "dropout_forward";
    let kernel = gpu.kernel(op, DROPOUT, &[], KERNEL)?;
    let geometry = elementwise(gpu, out.len);
    let Dropout { seed, site, .. } = dropout;
    let (threshold, scale) = (dropout.threshold(), dropout.scale() as f32);
    let values =
        [out.into(), inp.into(), out.len.into(), seed.into(), site.into(), threshold.into(), scale.into()];
    gpu.launch(op, KERNEL, &kernel, geometry, &values)
}
