//! Launchers of `kernels/layernorm.cu`.

use wikigpt_ops::{Result, Update};

use crate::launch::{Geometry, Value, int};
use crate::source::LAYERNORM;
use crate::{Define, Gpu, Tensor};

/// Threads of a warp, and of a block that adds partial sums.
const WARP: usize = 32;
const FINISH_THREADS: u32 = 512;

/// out = layernorm(inp).
pub fn layernorm_forward(
    gpu: &mut Gpu,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    eps: f32,
) -> Result {
    let tensors = [out, mean, rstd, inp, weight].map(Value::from);
    forward(gpu, "layernorm_forward", &tensors, bias, N, C, eps)
}

/// res = a + b, out = layernorm(res).
pub fn residual_layernorm_forward(
    gpu: &mut Gpu,
    res: Tensor,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
    a: Tensor,
    b: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    eps: f32,
) -> Result {
    let tensors = [res, out, mean, rstd, a, b, weight].map(Value::from);
    forward(gpu, "residual_layernorm_forward", &tensors, bias, N, C, eps)
}

/// `tensors` are all but the bias.
fn forward(
    gpu: &mut Gpu,
    op: &'static str,
    tensors: &[Value],
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    eps: f32,
) -> Result {
    let (n, defines) = (int(op, "N", N)?, channels(op, C)?);
    let rows = rows(gpu, N, 32);
    let kernel = gpu.kernel(op, LAYERNORM, &defines, op)?;
    let geometry = Geometry::plane(N.div_ceil(rows), 1, threads(gpu, C));
    let others = [bias.into(), n.into(), eps.into(), (rows as i32).into()];
    gpu.launch(op, op, &kernel, geometry, &[tensors, &others].concat())
}

/// The gradients of inp, weight and bias.
pub fn layernorm_backward(
    gpu: &mut Gpu,
    dinp: Tensor,
    dweight: Tensor,
    dbias: Option<Tensor>,
    dout: Tensor,
    inp: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    N: usize,
    C: usize,
    update_inp: Update,
    update: Update,
) -> Result {
    const OP: &str = "layernorm_backward";
    const FINISH: &str = "layernorm_backward_finish";
    let (n, defines) = (int(OP, "N", N)?, channels(OP, C)?);
    // Blocks enough for each multiprocessor to have a few: more would only mean more partial sums.
    let rows = rows(gpu, N, 80).max(N.div_ceil(4 * gpu.multiprocessors() as usize));
    let blocks = N.div_ceil(rows);
    let vectors = 1 + usize::from(dbias.is_some());
    let partial = Value::Ptr(gpu.scratch(vectors * blocks * C * 4)?);

    let kernel = gpu.kernel(OP, LAYERNORM, &defines, OP)?;
    let geometry = Geometry::plane(blocks, 1, threads(gpu, C));
    let values = [
        dinp.into(),
        partial,
        dout.into(),
        inp.into(),
        weight.into(),
        mean.into(),
        rstd.into(),
        n.into(),
        (rows as i32).into(),
        dbias.is_some().into(),
        update_inp.into(),
    ];
    gpu.launch(OP, OP, &kernel, geometry, &values)?;

    let kernel = gpu.kernel(OP, LAYERNORM, &defines, FINISH)?;
    let geometry = Geometry::plane(C.div_ceil(WARP), vectors, FINISH_THREADS);
    let values = [dweight.into(), dbias.into(), partial, (blocks as i32).into(), update.into()];
    gpu.launch(OP, FINISH, &kernel, geometry, &values)
}

/// The constant that the program is specialised on.
fn channels(op: &'static str, C: usize) -> Result<[Define; 1]> {
    int(op, "C", C)?;
    Ok([("CHANNELS", C.into())])
}

/// Rows of a block: `most`, so that what the block reads or leaves besides them weighs little, unless there would be fewer
/// blocks than multiprocessors.
fn rows(gpu: &Gpu, N: usize, most: usize) -> usize {
    (N / gpu.multiprocessors() as usize).clamp(8, most)
}

/// Threads of a block, as the kernels have them for C.
fn threads(gpu: &Gpu, C: usize) -> u32 {
    let held = C.is_multiple_of(16 / gpu.precision().bytes()) && C <= 8192;
    let each = if C <= 4096 { 8 } else { 16 };
    let warps = if held && C > 1024 { C.div_ceil(each * WARP) } else { 8 };
    (warps * WARP) as u32
}
