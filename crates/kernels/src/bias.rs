//! Launchers of `kernels/bias.cu`.

use wikigpt_ops::{Result, Update};

use crate::launch::{Geometry, Value, int, width};
use crate::source::BIAS;
use crate::{Gpu, Tensor};

/// Threads of a block, and of one that adds partial sums.
const THREADS: u32 = 256;
const FINISH_THREADS: u32 = 512;
/// Rows of a chunk: at least so many that reading the bias, or the chunk's sums, weighs little beside reading the rows, ...
const ROWS: usize = 128;
/// ... and so many that there are no more chunks than this: they keep any device busy.
const CHUNKS: usize = 512;

/// x += bias, row by row.
pub fn bias_forward(gpu: &mut Gpu, x: Tensor, bias: Tensor, N: usize, OC: usize) -> Result {
    const OP: &str = "bias_forward";
    let rows = ROWS.max(N.div_ceil(CHUNKS));
    let width = width(gpu, OC, &[x, bias]);
    let dims = [int(OP, "N", N)?, int(OP, "OC", OC)?, rows as i32, width as i32].map(Value::from);
    let kernel = gpu.kernel(OP, BIAS, &[], OP)?;
    let geometry = Geometry::plane(OC.div_ceil(32 * width), N.div_ceil(rows), THREADS);
    gpu.launch(OP, OP, &kernel, geometry, &[&[x.into(), bias.into()], &dims[..]].concat())
}

/// dbias (set or added) the sums of dout's columns.
pub fn bias_backward(
    gpu: &mut Gpu,
    dbias: Tensor,
    dout: Tensor,
    N: usize,
    OC: usize,
    update: Update,
) -> Result {
    const OP: &str = "bias_backward";
    const FINISH: &str = "bias_backward_finish";
    let rows = ROWS.max(N.div_ceil(CHUNKS));
    let chunks = N.div_ceil(rows);
    let width = width(gpu, OC, &[dout]);
    let oc = int(OP, "OC", OC)?;
    let dims = [int(OP, "N", N)?, oc, rows as i32, width as i32].map(Value::from);
    let partial = Value::Ptr(gpu.scratch(chunks * OC * 4)?);

    let kernel = gpu.kernel(OP, BIAS, &[], OP)?;
    let geometry = Geometry::plane(OC.div_ceil(32 * width), chunks, THREADS);
    gpu.launch(OP, OP, &kernel, geometry, &[&[partial, dout.into()], &dims[..]].concat())?;

    let kernel = gpu.kernel(OP, BIAS, &[], FINISH)?;
    let geometry = Geometry::plane(OC.div_ceil(32), 1, FINISH_THREADS);
    let values = [dbias.into(), partial, (chunks as i32).into(), oc.into(), update.into()];
    gpu.launch(OP, FINISH, &kernel, geometry, &values)
}
