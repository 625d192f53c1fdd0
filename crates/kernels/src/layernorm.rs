//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::layernorm_forward`.
pub fn layernorm_forward(
    gpu: &mut Gpu,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    eps: f32,
) -> Result {
    let _ = (out, mean, rstd, inp, weight, bias, N, C, eps);
    Err(Error::Device {
        op: "layernorm_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::layernorm_backward`.
pub fn layernorm_backward(
    gpu: &mut Gpu,
    dinp: Tensor,
    dweight: Tensor,
    dbias: Option<Tensor>,
    dout: Tensor,
    inp: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    N: usize,
    C: usize,
    update_inp: Update,
    update: Update,
) -> Result {
    let _ = (dinp, dweight, dbias, dout, inp, weight, mean, rstd, N, C, update_inp, update);
    Err(Error::Device {
        op: "layernorm_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::residual_layernorm_forward`.
pub fn residual_layernorm_forward(
    gpu: &mut Gpu,
    res: Tensor,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
    a: Tensor,
    b: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    eps: f32,
) -> Result {
    let _ = (res, out, mean, rstd, a, b, weight, bias, N, C, eps);
    Err(Error::Device {
        op: "residual_layernorm_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
