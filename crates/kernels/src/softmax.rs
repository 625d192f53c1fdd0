//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::softmax_forward`.
pub fn softmax_forward(gpu: &mut Gpu, probs: Tensor, scores: Tensor, R: usize, T: usize) -> Result {
    let _ = (probs, scores, R, T);
    Err(Error::Device {
        op: "softmax_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::softmax_backward`.
pub fn softmax_backward(
    gpu: &mut Gpu,
    dscores: Tensor,
    dprobs: Tensor,
    probs: Tensor,
    R: usize,
    T: usize,
) -> Result {
    let _ = (dscores, dprobs, probs, R, T);
    Err(Error::Device {
        op: "softmax_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
