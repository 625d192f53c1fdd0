//! Launchers.

use wikigpt_ops::{AdamW, Dropout, Error, Result, Update};

use crate::{Gpu, Tensor};

/// See `Ops::adamw`.
pub fn adamw(
    gpu: &mut Gpu,
    params: Tensor,
    master: Option<Tensor>,
    m: Tensor,
    v: Tensor,
    grads: Tensor,
    norm: Tensor,
    constants: AdamW,
) -> Result {
    let _ = (params, master, m, v, grads, norm, constants);
    Err(Error::Device {
        op: "adamw",
        device: gpu.device.name.clone(),
        message: "there is no kernel yet".into(),
    })
}
