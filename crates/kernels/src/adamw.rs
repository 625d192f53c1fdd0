//! Launcher of `kernels/adamw.cu`.

use wikigpt_ops::{AdamW, Result, Rounding};

use crate::launch::{Geometry, Value};
use crate::source::ADAMW;
use crate::{Gpu, Tensor};

/// Threads of a block, and elements of a thread.
const THREADS: u32 = 256;
const VECTOR: usize = 4;

/// One update of parameters, of their master weights if there are any, and of their moments.
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
    const OP: &str = "adamw";
    let AdamW { lr, beta1, beta2, eps, weight_decay, step, clip, rounding } = constants;
    let (correction1, correction2) = constants.corrections();
    let (stochastic, seed) = match rounding {
        // Parameters that are themselves what is updated are rounded to the nearest: so the reference has it.
        Rounding::Stochastic { seed } if master.is_some() => (true, seed),
        _ => (false, 0),
    };
    let kernel = gpu.kernel(OP, ADAMW, &[], OP)?;
    let blocks = params.len.div_ceil(VECTOR * THREADS as usize).clamp(1, 1 << 20);
    let values: [Value; 19] = [
        params.into(),
        master.into(),
        m.into(),
        v.into(),
        grads.into(),
        norm.into(),
        params.len.into(),
        lr.into(),
        beta1.into(),
        beta2.into(),
        eps.into(),
        weight_decay.into(),
        (correction1 as f32).into(),
        (correction2 as f32).into(),
        clip.unwrap_or(0.0).into(),
        stochastic.into(),
        seed.into(),
        (step as u32).into(),
        params.offset.into(),
    ];
    gpu.launch(OP, OP, &kernel, Geometry::line(blocks as u32, THREADS), &values)
}
