//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::matmul_forward`.
pub fn matmul_forward(
    gpu: &mut Gpu,
    out: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let _ = (out, inp, weight, bias, N, C, OC);
    Err(Error::Device {
        op: "matmul_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::matmul_gelu_forward`.
pub fn matmul_gelu_forward(
    gpu: &mut Gpu,
    out: Tensor,
    pre: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let _ = (out, pre, inp, weight, bias, N, C, OC);
    Err(Error::Device {
        op: "matmul_gelu_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::matmul_residual_forward`.
pub fn matmul_residual_forward(
    gpu: &mut Gpu,
    out: Tensor,
    residual: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let _ = (out, residual, inp, weight, bias, N, C, OC);
    Err(Error::Device {
        op: "matmul_residual_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::matmul_backward_input`.
pub fn matmul_backward_input(
    gpu: &mut Gpu,
    dinp: Tensor,
    dout: Tensor,
    weight: Tensor,
    N: usize,
    C: usize,
    OC: usize,
    update: Update,
) -> Result {
    let _ = (dinp, dout, weight, N, C, OC, update);
    Err(Error::Device {
        op: "matmul_backward_input",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::matmul_gelu_backward_input`.
pub fn matmul_gelu_backward_input(
    gpu: &mut Gpu,
    dpre: Tensor,
    dout: Tensor,
    weight: Tensor,
    pre: Tensor,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let _ = (dpre, dout, weight, pre, N, C, OC);
    Err(Error::Device {
        op: "matmul_gelu_backward_input",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::matmul_backward_weight`.
pub fn matmul_backward_weight(
    gpu: &mut Gpu,
    dweight: Tensor,
    dbias: Option<Tensor>,
    dout: Tensor,
    inp: Tensor,
    N: usize,
    C: usize,
    OC: usize,
    update: Update,
) -> Result {
    let _ = (dweight, dbias, dout, inp, N, C, OC, update);
    Err(Error::Device {
        op: "matmul_backward_weight",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
