//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::embedding_forward`.
pub fn embedding_forward(
    gpu: &mut Gpu,
    out: Tensor,
    tokens: Tensor,
    wte: Tensor,
    wpe: Tensor,
    B: usize,
    T: usize,
    C: usize,
    pos: usize,
) -> Result {
    let _ = (out, tokens, wte, wpe, B, T, C, pos);
    Err(Error::Device {
        op: "embedding_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::embedding_backward`.
pub fn embedding_backward(
    gpu: &mut Gpu,
    dwte: Tensor,
    dwpe: Tensor,
    dout: Tensor,
    tokens: Tensor,
    B: usize,
    T: usize,
    C: usize,
    update: Update,
) -> Result {
    let _ = (dwte, dwpe, dout, tokens, B, T, C, update);
    Err(Error::Device {
        op: "embedding_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
