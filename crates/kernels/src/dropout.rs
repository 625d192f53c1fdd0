//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::dropout_forward`.
pub fn dropout_forward(gpu: &mut Gpu, out: Tensor, inp: Tensor, dropout: Dropout) -> Result {
    let _ = (out, inp, dropout);
    Err(Error::Device {
        op: "dropout_forward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}

/// See `Ops::dropout_backward`.
pub fn dropout_backward(gpu: &mut Gpu, dinp: Tensor, dout: Tensor, dropout: Dropout) -> Result {
    let _ = (dinp, dout, dropout);
    Err(Error::Device {
        op: "dropout_backward",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
