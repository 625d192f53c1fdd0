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
    let rows = ((1 << 16) / C).min(OC.div_ceil(cpu.threads())).max(1);
    cpu.threads.run(OC.div_ceil(rows), |_, task| {
        for o in task * rows..OC.min((task + 1) * rows) {
            let mut dots = [0.0; FEW];
            dots_with(level, &mut dots[..N], inp, &weight[o * C..][..C]);
            for (n, dot) in dots[..N].iter().enumerate() {
                let rest = bias.map_or(0.0, |bias| bias[o]) + plus.map_or(0.0, |plus| plus[n * OC + o]);
                // SAFETY: each task has columns of its own.
                let out = unsafe { out.part(n * OC + o, 1) };
                out[0] = dot + rest;
            }
        }
    });
}

vectorised! {
    /// dots\[n\] = x\[n\]·w for the rows of x, four at a time where there are as many, to load w less often.
    fn dots_with(dots: &mut [f32], x: &[f32], w: &[f32]) {
        let C = w.len();
        let whole = dots.len() / 4 * 4;
        for (dots, x) in dots.chunks_exact_mut(4).zip(x.chunks_exact(4 * C)) {
            let (ws, w_rest) = w.as_chunks::<LANES>();
            let rows: [&[f32]; 4] = [&x[..C], &x[C..2 * C], &x[2 * C..3 * C], &x[3 * C..]];
            let [a, b, c, d] = rows.map(|row| row.as_chunks::<LANES>().0);
            let mut lanes = [[0.0; LANES]; 4];
            for ((((w, a), b), c), d) in ws.iter().zip(a).zip(b).zip(c).zip(d) {
                for l in 0..LANES {
                    lanes[0][l] = madd::<FMA>(a[l], w[l], lanes[0][l]);
                    lanes[1][l] = madd::<FMA>(b[l], w[l], lanes[1][l]);
                    lanes[2][l] = madd::<FMA>(c[l], w[l], lanes[2][l]);
                    lanes[3][l] = madd::<FMA>(d[l], w[l], lanes[3][l]);
                }
            }
            for i in 0..4 {
                let rest = &rows[i][C - w_rest.len()..];
                for (lane, (x, w)) in lanes[i].iter_mut().zip(rest.iter().zip(w_rest)) {
                    *lane = madd::<FMA>(*x, *w, *lane);
                }
                dots[i] = total(lanes[i]);
            }
        }
        for (dot, x) in dots[whole..].iter_mut().zip(x[whole * C..].chunks_exact(C)) {
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
