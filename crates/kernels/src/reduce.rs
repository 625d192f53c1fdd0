//! Launchers of `kernels/reduce.cu`.

use wikigpt_ops::Result;

use crate::launch::{Geometry, Value, int};
use crate::source::REDUCE;
use crate::{Gpu, Tensor};

/// Threads of a block, and of the one that adds partial sums.
const THREADS: u32 = 256;
const FINISH_THREADS: u32 = 1024;
/// Elements that a block adds.
const CHUNK: usize = 32_768;

/// out = Σ inp.
pub fn sum(gpu: &mut Gpu, out: Tensor, inp: Tensor) -> Result {
    reduce(gpu, "sum", "sum_finish", out, inp)
}

/// out = √(Σ grads²).
pub fn global_norm(gpu: &mut Gpu, out: Tensor, grads: Tensor) -> Result {
    reduce(gpu, "global_norm", "global_norm_finish", out, grads)
}

fn reduce(gpu: &mut Gpu, op: &'static str, finish: &'static str, out: Tensor, inp: Tensor) -> Result {
    let chunks = int(op, "the number of chunks", inp.len.div_ceil(CHUNK))?;
    let partial = Value::Ptr(gpu.scratch(chunks as usize * 4)?);
    let kernel = gpu.kernel(op, REDUCE, &[], op)?;
    let geometry = Geometry::line(chunks as u32, THREADS);
    gpu.launch(op, op, &kernel, geometry, &[partial, inp.into(), inp.len.into()])?;

    let kernel = gpu.kernel(op, REDUCE, &[], finish)?;
    let geometry = Geometry::line(1, FINISH_THREADS);
    gpu.launch(op, finish, &kernel, geometry, &[out.into(), partial, chunks.into()])
}
