//! The linear layer. The weight is stored as (OC,C), so the three products are inp·weightᵀ, dout·weight and doutᵀ·inp.

use wikigpt_ops::Update;

use crate::CpuKernels;
use crate::gemm::{Epilogue, Matrix, Product};
use crate::residual::accumulate;
use crate::simd::{LANES, madd, total, vectorised};
use crate::threads::Parts;

/// Up to so many rows (a step of generation) the forward is bound by reading the weights, and packing them would cost
/// more than the product.
const FEW: usize = 8;

/// out = inp·weightᵀ + bias.
pub fn forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    inp: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    C: usize,
    OC: usize,
) {
    finish_forward(cpu, out, inp, weight, bias, None, C, OC, Epilogue::None);
}

/// pre = inp·weightᵀ + bias; out = gelu(pre).
pub fn gelu_forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    pre: &mut [f32],
    inp: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    C: usize,
    OC: usize,
) {
    finish_forward(cpu, pre, inp, weight, bias, None, C, OC, Epilogue::Gelu(out));
}

/// out = residual + inp·weightᵀ + bias.
pub fn residual_forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    residual: &[f32],
    inp: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    C: usize,
    OC: usize,
) {
    finish_forward(cpu, out, inp, weight, bias, Some(residual), C, OC, Epilogue::None);
}

/// The forward with all that may follow it.
fn finish_forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    inp: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    plus: Option<&[f32]>,
    C: usize,
    OC: usize,
    epilogue: Epilogue,
) {
    let N = inp.len() / C;
    if N > FEW {
        let (a, b) = (Matrix::rows(inp, C), Matrix::transposed(weight, C));
        let update = Update::Set;
        return cpu.product(Product {
            c: out,
            update,
            a,
            b,
            M: N,
            N: OC,
            K: C,
            bias,
            plus,
            sums: None,
            epilogue,
        });
    }
    few_rows(cpu, out, inp, weight, bias, plus, C, OC);
    match epilogue {
        Epilogue::Gelu(activated) => crate::gelu::forward(cpu, activated, out),
        Epilogue::None | Epilogue::GeluBackward(_) => {}
    }
}

/// The forward of at most [`FEW`] rows: each task reads some rows of the weight once and takes their dot products with all of
/// `inp`.
fn few_rows(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    inp: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    plus: Option<&[f32]>,
    C: usize,
    OC: usize,
) {
    let N = inp.len() / C;
    let level = cpu.level;
    let out = Parts::new(out);
    let rows = (1 << 16) / C;
    let rows = rows.min(OC.div_ceil(cpu.threads())).next_multiple_of(4);
    cpu.threads.run(OC.div_ceil(rows), |_, task| {
        for o in (task * rows..OC.min((task + 1) * rows)).step_by(4) {
            let count = 4.min(OC - o);
            let mut dots = [[0.0; FEW]; 4];
            if N == 1 && count == 4 {
                four_dots(level, &mut dots, inp, &weight[o * C..][..4 * C]);
            } else {
                for (dots, w) in dots.iter_mut().zip(weight[o * C..][..count * C].chunks_exact(C)) {
                    dots_with(level, dots, inp, w, N);
                }
            }
            for n in 0..N {
                // SAFETY: each task has columns of its own.
                let out = unsafe { out.part(n * OC + o, count) };
                for (i, out) in out.iter_mut().enumerate() {
                    let rest =
                        bias.map_or(0.0, |bias| bias[o + i]) + plus.map_or(0.0, |plus| plus[n * OC + o + i]);
                    *out = dots[i][n] + rest;
                }
            }
        }
    });
}

vectorised! {
    /// dots\[i\]\[0\] = x·w\[i\] for four rows of w: four streams keep more of memory's bandwidth busy than one.
    fn four_dots(dots: &mut [[f32; FEW]; 4], x: &[f32], w: &[f32]) {
        let C = x.len();
        let (chunks, _) = x.as_chunks::<LANES>();
        let rows: [&[f32]; 4] = std::array::from_fn(|i| &w[i * C..][..C]);
        let vectors = rows.map(|row| row.as_chunks::<LANES>().0);
        let mut lanes = [[0.0; LANES]; 4];
        for (at, x) in chunks.iter().enumerate() {
            for i in 0..4 {
                let w = &vectors[i][at];
                for l in 0..LANES {
                    lanes[i][l] = madd::<FMA>(x[l], w[l], lanes[i][l]);
                }
            }
        }
        for i in 0..4 {
            for c in chunks.len() * LANES..C {
                lanes[i][c % LANES] = madd::<FMA>(x[c], rows[i][c], lanes[i][c % LANES]);
            }
            dots[i][0] = total(lanes[i]);
        }
    }
}

vectorised! {
    /// dots\[n\] = x\[n\]·w for `N` rows of x.
    fn dots_with(dots: &mut [f32; FEW], x: &[f32], w: &[f32], N: usize) {
        for (dot, x) in dots[..N].iter_mut().zip(x.chunks_exact(w.len())) {
            *dot = crate::simd::dot::<FMA>(x, w);
        }
    }
}

/// dinp (set or added) dout·weight.
pub fn backward_input(
    cpu: &mut CpuKernels,
    dinp: &mut [f32],
    dout: &[f32],
    weight: &[f32],
    C: usize,
    OC: usize,
    update: Update,
) {
    let (a, b) = (Matrix::rows(dout, OC), Matrix::rows(weight, C));
    let (M, N, K) = (dout.len() / OC, C, OC);
    let epilogue = Epilogue::None;
    cpu.product(Product { c: dinp, update, a, b, M, N, K, bias: None, plus: None, sums: None, epilogue });
}

/// dpre = (dout·weight) ∘ gelu′(pre).
pub fn gelu_backward_input(
    cpu: &mut CpuKernels,
    dpre: &mut [f32],
    dout: &[f32],
    weight: &[f32],
    pre: &[f32],
    C: usize,
    OC: usize,
) {
    let (a, b) = (Matrix::rows(dout, OC), Matrix::rows(weight, C));
    let (M, N, K) = (dout.len() / OC, C, OC);
    let (update, epilogue) = (Update::Set, Epilogue::GeluBackward(pre));
    cpu.product(Product { c: dpre, update, a, b, M, N, K, bias: None, plus: None, sums: None, epilogue });
}

/// dweight (set or added) doutᵀ·inp; dbias (set or added) Σ_n dout\[n\], which are the sums of doutᵀ's rows.
pub fn backward_weight(
    cpu: &mut CpuKernels,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
    dout: &[f32],
    inp: &[f32],
    C: usize,
    OC: usize,
    update: Update,
) {
    let (a, b) = (Matrix::transposed(dout, OC), Matrix::rows(inp, C));
    let (M, N, K) = (OC, C, inp.len() / C);
    let mut sums = dbias;
    if let Some(dbias) = &mut sums
        && update == Update::Set
    {
        dbias.fill(0.0);
    }
    let epilogue = Epilogue::None;
    cpu.product(Product { c: dweight, update, a, b, M, N, K, bias: None, plus: None, sums, epilogue });
}

/// x\[n\] += bias, in place.
pub fn bias_forward(cpu: &mut CpuKernels, x: &mut [f32], bias: &[f32]) {
    let level = cpu.level;
    let OC = bias.len();
    let rows = x.len() / OC;
    let x = Parts::new(x);
    cpu.rows(rows, OC, |row| {
        // SAFETY: each row is one task's.
        accumulate(level, unsafe { x.part(row * OC, OC) }, bias);
    });
}

/// dbias (set or added) Σ_n dout\[n\]: each task sums some columns over all rows.
pub fn bias_backward(cpu: &mut CpuKernels, dbias: &mut [f32], dout: &[f32], update: Update) {
    let level = cpu.level;
    let OC = dbias.len();
    let columns = OC.div_ceil(cpu.threads()).next_multiple_of(16).min(256);
    let dbias = Parts::new(dbias);
    cpu.threads.run(OC.div_ceil(columns), |_, task| {
        let start = task * columns;
        let len = columns.min(OC - start);
        // SAFETY: each task has columns of its own.
        let dbias = unsafe { dbias.part(start, len) };
        if update == Update::Set {
            dbias.fill(0.0);
        }
        for row in dout.chunks_exact(OC) {
            accumulate(level, dbias, &row[start..][..len]);
        }
    });
}
