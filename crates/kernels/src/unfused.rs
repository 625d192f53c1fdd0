//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::attention_scores_forward`.
pub fn attention_scores_forward(
    gpu: &mut Gpu,
    scores: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    let _ = (scores, qkv, B, T, NH, HS);
    Err(Error::Device {
        op: "attention_scores_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::attention_scores_backward`.
pub fn attention_scores_backward(
    gpu: &mut Gpu,
    dqkv: Tensor,
    dscores: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    let _ = (dqkv, dscores, qkv, B, T, NH, HS);
    Err(Error::Device {
        op: "attention_scores_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::attention_values_forward`.
pub fn attention_values_forward(
    gpu: &mut Gpu,
    out: Tensor,
    probs: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    let _ = (out, probs, qkv, B, T, NH, HS);
    Err(Error::Device {
        op: "attention_values_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::attention_values_backward`.
pub fn attention_values_backward(
    gpu: &mut Gpu,
    dprobs: Tensor,
    dqkv: Tensor,
    dout: Tensor,
    probs: Tensor,
    qkv: Tensor,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result {
    let _ = (dprobs, dqkv, dout, probs, qkv, B, T, NH, HS);
    Err(Error::Device {
        op: "attention_values_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
