//! Layer normalisation over the last dimension, alone and after a residual addition.

use wikigpt_ops::Update;

use crate::CpuKernels;
use crate::residual::{accumulate, add};
use crate::simd::{LANES, madd, sum, total, vectorised};
use crate::threads::Parts;

vectorised! {
    /// out = (x − mean)·rstd·weight + bias; gives mean and rstd. Two passes over the row, which is in cache: E\[x²\] − E\[x\]²
    /// cancels where |mean| is far above the deviation.
    fn row_forward(out: &mut [f32], x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) -> (f32, f32) {
        let C = x.len() as f32;
        let mean = sum(x, |x| x) / C;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / C;
        let rstd = 1.0 / (variance + eps).sqrt();
        match bias {
            Some(bias) => {
                for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                    *out = madd::<FMA>((*x - mean) * rstd, *w, *b);
                }
            }
            None => {
                for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                    *out = (*x - mean) * rstd * *w;
                }
            }
        }
        (mean, rstd)
    }
}

vectorised! {
    /// dx (set or added) r·(g − mean(g) − x̂·mean(g·x̂)) with g = dout∘weight; dweight += dout∘x̂, dbias += dout.
    fn row_backward(
        dx: &mut [f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
        d: &[f32],
        x: &[f32],
        weight: &[f32],
        mean: f32,
        rstd: f32,
        update: Update,
    ) {
        let C = x.len();
        let ((ds, d_rest), (xs, x_rest), (ws, w_rest)) =
            (d.as_chunks::<LANES>(), x.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
        let (mut g_lanes, mut gx_lanes) = ([0.0; LANES], [0.0; LANES]);
        for ((d, x), w) in ds.iter().zip(xs).zip(ws) {
            for l in 0..LANES {
                let g = d[l] * w[l];
                g_lanes[l] += g;
                gx_lanes[l] = madd::<FMA>(g, (x[l] - mean) * rstd, gx_lanes[l]);
            }
        }
        for (l, ((d, x), w)) in d_rest.iter().zip(x_rest).zip(w_rest).enumerate() {
            let g = d * w;
            g_lanes[l] += g;
            gx_lanes[l] = madd::<FMA>(g, (x - mean) * rstd, gx_lanes[l]);
        }
        let mean_g = total(g_lanes) / C as f32;
        let mean_gx = total(gx_lanes) / C as f32;
        for (((dw, db), d), x) in dweight.iter_mut().zip(dbias).zip(d).zip(x) {
            *dw = madd::<FMA>(*d, (*x - mean) * rstd, *dw);
            *db += *d;
        }
        let gradient = |d: f32, x: f32, w: f32| rstd * (d * w - mean_g - (x - mean) * rstd * mean_gx);
        let elements = dx.iter_mut().zip(d).zip(x).zip(weight);
        // A loop for each case: a branch inside would keep it from being vectorised.
        match update {
            Update::Set => elements.for_each(|(((dx, d), x), w)| *dx = gradient(*d, *x, *w)),
            Update::Add => elements.for_each(|(((dx, d), x), w)| *dx += gradient(*d, *x, *w)),
        }
    }
}

/// out = (inp − mean)·rstd·weight + bias, per row.
pub fn forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    inp: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    C: usize,
    eps: f32,
) {
    let level = cpu.level;
    let (out, mean, rstd) = (Parts::new(out), Parts::new(mean), Parts::new(rstd));
    cpu.rows(inp.len() / C, C, |row| {
        // SAFETY: each row is one task's.
        let (out, mean, rstd) = unsafe { (out.part(row * C, C), mean.part(row, 1), rstd.part(row, 1)) };
        (mean[0], rstd[0]) = row_forward(level, out, &inp[row * C..][..C], weight, bias, eps);
    });
}

/// res = a + b; out = layernorm(res), while the row is in cache.
pub fn residual_forward(
    cpu: &mut CpuKernels,
    res: &mut [f32],
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    a: &[f32],
    b: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    C: usize,
    eps: f32,
) {
    let level = cpu.level;
    let (res, out, mean, rstd) = (Parts::new(res), Parts::new(out), Parts::new(mean), Parts::new(rstd));
    cpu.rows(a.len() / C, C, |row| {
        let at = row * C;
        // SAFETY: each row is one task's.
        let (res, out, mean, rstd) =
            unsafe { (res.part(at, C), out.part(at, C), mean.part(row, 1), rstd.part(row, 1)) };
        add(level, res, &a[at..][..C], &b[at..][..C]);
        (mean[0], rstd[0]) = row_forward(level, out, res, weight, bias, eps);
    });
}

/// Most parts that the sums over rows are cut into. The number depends on the rows alone, so that the result does not depend
/// on the number of threads.
const PARTS: usize = 64;

/// dinp per row; dweight and dbias as the sum, in order, of each part's own.
pub fn backward(
    cpu: &mut CpuKernels,
    dinp: &mut [f32],
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
    dout: &[f32],
    inp: &[f32],
    weight: &[f32],
    mean: &[f32],
    rstd: &[f32],
    C: usize,
    update_inp: Update,
    update: Update,
) {
    let level = cpu.level;
    let N = inp.len() / C;
    let rows = N.div_ceil(PARTS).max(16);
    let parts = N.div_ceil(rows);
    let sums = cpu.shared.get(parts * 2 * C);
    let (dinp, shared) = (Parts::new(dinp), Parts::new(sums));
    cpu.threads.run(parts, |_, part| {
        // SAFETY: each part is one task's.
        let (dw, db) = unsafe { (shared.part(part * 2 * C, C), shared.part((part * 2 + 1) * C, C)) };
        dw.fill(0.0);
        db.fill(0.0);
        for row in part * rows..N.min((part + 1) * rows) {
            let at = row * C;
            // SAFETY: each row is in one part.
            let dx = unsafe { dinp.part(at, C) };
            let (d, x) = (&dout[at..][..C], &inp[at..][..C]);
            row_backward(level, dx, dw, db, d, x, weight, mean[row], rstd[row], update_inp);
        }
    });
    let collect = |out: &mut [f32], offset: usize| {
        if update == Update::Set {
            out.fill(0.0);
        }
        for part in sums.chunks_exact(2 * C) {
            accumulate(level, out, &part[offset..][..C]);
        }
    };
    collect(dweight, 0);
    if let Some(dbias) = dbias {
        collect(dbias, C);
    }
}
