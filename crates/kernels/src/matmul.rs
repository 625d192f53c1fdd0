//! Launchers of `kernels/matmul/ampere.cu`, for bf16 where it can be, and of `kernels/matmul/simt.cu`. Both have the same kernels.

use wikigpt_ops::{Result, Update};

use crate::launch::{Geometry, Value, dim, tiles};
use crate::source::{MATMUL, MATMUL_AMPERE, Source};
use crate::{Define, Gpu, Tensor, Tier};

/// Rows and columns of a block's tile of the product: `BLOCK_M` and `BLOCK_N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tile {
    /// 64 × 64.
    Small,
    /// 128 × 128, which reads operands half as often.
    Large,
}

impl Tile {
    /// The larger one, if every multiprocessor has a block to do then.
    fn of(gpu: &Gpu, rows: usize, columns: usize) -> Tile {
        let blocks = rows.div_ceil(Tile::Large.size()) * columns.div_ceil(Tile::Large.size());
        if blocks >= gpu.multiprocessors() as usize { Tile::Large } else { Tile::Small }
    }

    fn size(self) -> usize {
        match self {
            Tile::Small => 64,
            Tile::Large => 128,
        }
    }

    fn defines(self) -> [Define; 2] {
        ["BLOCK_M", "BLOCK_N"].map(|name| (name, self.size().into()))
    }

    /// Blocks for a product, in slices of its sum. A thread has 64 elements.
    fn geometry(self, op: &'static str, rows: usize, columns: usize, slices: usize) -> Result<Geometry> {
        let size = self.size();
        let grid = tiles(op, (columns, size), (rows, size), slices)?;
        Ok(Geometry { grid, block: [(size * size / 64) as u32, 1, 1], shared: 0 })
    }
}

/// N, C, OC as the kernels take them.
fn dims(op: &'static str, N: usize, C: usize, OC: usize) -> Result<[Value; 3]> {
    Ok([dim(op, "N", N)?, dim(op, "C", C)?, dim(op, "OC", OC)?])
}

/// The program whose kernels take these tensors. Tensor cores multiply bf16, and their operands are copied in 16 bytes: rows must be
/// whole numbers of that, and tensors begin at one. Those of a model do.
fn program(gpu: &Gpu, tensors: &[Option<Tensor>], C: usize, OC: usize) -> Source {
    let even = C.is_multiple_of(8) && OC.is_multiple_of(8) && tensors.iter().flatten().all(|x| x.aligned());
    if gpu.tier() == Tier::Ampere && even { MATMUL_AMPERE } else { MATMUL }
}

/// Launches the kernel of the op's name on its tensors, dimensions and what follows them, for a product of `rows` by `columns`.
fn product(
    gpu: &mut Gpu,
    op: &'static str,
    tensors: &[Option<Tensor>],
    [N, C, OC]: [usize; 3],
    rest: &[Value],
    (rows, columns): (usize, usize),
) -> Result {
    let mut values: Vec<Value> = tensors.iter().map(|tensor| (*tensor).into()).collect();
    values.extend(dims(op, N, C, OC)?);
    values.extend(rest);
    let tile = Tile::of(gpu, rows, columns);
    let kernel = gpu.kernel(op, program(gpu, tensors, C, OC), &tile.defines(), op)?;
    gpu.launch(op, op, &kernel, tile.geometry(op, rows, columns, 1)?, &values)
}

/// out = inp·weightᵀ + bias.
pub fn matmul_forward(
    gpu: &mut Gpu,
    out: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let tensors = [Some(out), Some(inp), Some(weight), bias];
    product(gpu, "matmul_forward", &tensors, [N, C, OC], &[], (N, OC))
}

/// pre = inp·weightᵀ + bias; out = gelu(pre).
pub fn matmul_gelu_forward(
    gpu: &mut Gpu,
    out: Tensor,
    pre: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let tensors = [Some(out), Some(pre), Some(inp), Some(weight), bias];
    product(gpu, "matmul_gelu_forward", &tensors, [N, C, OC], &[], (N, OC))
}

/// out = residual + inp·weightᵀ + bias.
pub fn matmul_residual_forward(
    gpu: &mut Gpu,
    out: Tensor,
    residual: Tensor,
    inp: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let tensors = [Some(out), Some(residual), Some(inp), Some(weight), bias];
    product(gpu, "matmul_residual_forward", &tensors, [N, C, OC], &[], (N, OC))
}

/// dinp (set or added) dout·weight.
pub fn matmul_backward_input(
    gpu: &mut Gpu,
    dinp: Tensor,
    dout: Tensor,
    weight: Tensor,
    N: usize,
    C: usize,
    OC: usize,
    update: Update,
) -> Result {
    let tensors = [Some(dinp), Some(dout), Some(weight)];
    product(gpu, "matmul_backward_input", &tensors, [N, C, OC], &[update.into()], (N, C))
}

/// dpre = (dout·weight)∘gelu′(pre).
pub fn matmul_gelu_backward_input(
    gpu: &mut Gpu,
    dpre: Tensor,
    dout: Tensor,
    weight: Tensor,
    pre: Tensor,
    N: usize,
    C: usize,
    OC: usize,
) -> Result {
    let tensors = [Some(dpre), Some(dout), Some(weight), Some(pre)];
    product(gpu, "matmul_gelu_backward_input", &tensors, [N, C, OC], &[], (N, C))
}

/// Steps of a sum that a slice has at least: fewer would not outweigh writing the slice and reading it again.
const SLICE: usize = 256;

/// How many slices a sum over `N` is made in, and how long they are: as many as give every multiprocessor two blocks, if they do
/// not become too short. The same for the same device, so that a run repeats to the bit.
fn slices(gpu: &Gpu, tiles: usize, N: usize) -> (usize, usize) {
    let wanted = (2 * gpu.multiprocessors() as usize / tiles).min(N / SLICE).max(1);
    // The kernel asks for a multiple of its steps.
    let slice = N.div_ceil(wanted).next_multiple_of(64);
    (N.div_ceil(slice), slice)
}

/// dweight (set or added) doutᵀ·inp; dbias (set or added) Σ_n dout.
pub fn matmul_backward_weight(
    gpu: &mut Gpu,
    dweight: Tensor,
    dbias: Option<Tensor>,
    dout: Tensor,
    inp: Tensor,
    N: usize,
    C: usize,
    OC: usize,
    update: Update,
) -> Result {
    const OP: &str = "matmul_backward_weight";
    let tile = Tile::of(gpu, OC, C);
    let (slices, slice) = slices(gpu, OC.div_ceil(tile.size()) * C.div_ceil(tile.size()), N);
    let tensors = [Some(dweight), dbias, Some(dout), Some(inp)];
    if slices == 1 {
        return product(gpu, OP, &tensors, [N, C, OC], &[update.into()], (OC, C));
    }

    const SLICES: &str = "matmul_backward_weight_slices";
    let source = program(gpu, &tensors, C, OC);
    let partial = Value::Ptr(gpu.scratch(slices * (OC * C + OC) * size_of::<f32>())?);
    let mut values = vec![partial, dout.into(), inp.into()];
    values.extend(dims(OP, N, C, OC)?);
    values.push(dim(OP, "N", slice)?);
    values.push(dbias.is_some().into());
    let kernel = gpu.kernel(OP, source, &tile.defines(), SLICES)?;
    gpu.launch(OP, SLICES, &kernel, tile.geometry(OP, OC, C, slices)?, &values)?;

    const FINISH: &str = "matmul_backward_weight_finish";
    let kernel = gpu.kernel(OP, source, &tile.defines(), FINISH)?;
    let blocks = (OC * C + OC).div_ceil(256).min(8 * gpu.multiprocessors() as usize);
    let values = [
        dweight.into(),
        dbias.into(),
        partial,
        dim(OP, "slices", slices)?,
        dim(OP, "C", C)?,
        dim(OP, "OC", OC)?,
        update.into(),
    ];
    gpu.launch(OP, FINISH, &kernel, Geometry::line(blocks as u32, 256), &values)
}
