//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::bias_forward`.
pub fn bias_forward(gpu: &mut Gpu, x: Tensor, bias: Tensor, N: usize, OC: usize) -> Result {
    let _ = (x, bias, N, OC);
    Err(Error::Device {
        op: "bias_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::bias_backward`.
pub fn bias_backward(
    gpu: &mut Gpu,
    dbias: Tensor,
    dout: Tensor,
    N: usize,
    OC: usize,
    update: Update,
) -> Result {
    let _ = (dbias, dout, N, OC, update);
    Err(Error::Device {
        op: "bias_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
