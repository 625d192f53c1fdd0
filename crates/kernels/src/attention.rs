//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::attention_forward`.
pub fn attention_forward(
    gpu: &mut Gpu,
    out: Tensor,
    lse: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
    dropout: Dropout,
) -> Result {
    let _ = (out, lse, qkv, B, T, NH, HS, dropout);
    Err(Error::Device {
        op: "attention_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::attention_backward`.
pub fn attention_backward(
    gpu: &mut Gpu,
    dqkv: Tensor,
    dout: Tensor,
    out: Tensor,
    lse: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
    dropout: Dropout,
) -> Result {
    let _ = (dqkv, dout, out, lse, qkv, B, T, NH, HS, dropout);
    Err(Error::Device {
        op: "attention_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::attention_cached_forward`.
pub fn attention_cached_forward(
    gpu: &mut Gpu,
    out: Tensor,
    kcache: Tensor,
    vcache: Tensor,
    qkv: Tensor,
    B: usize,
    Tn: usize,
    pos: usize,
    Tmax: usize,
    NH: usize,
    HS: usize,
) -> Result {
    let _ = (out, kcache, vcache, qkv, B, Tn, pos, Tmax, NH, HS);
    Err(Error::Device {
        op: "attention_cached_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
