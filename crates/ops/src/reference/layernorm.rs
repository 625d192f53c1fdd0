//! Layer normalisation (Ba, Kiros, Hinton 2016) over the last dimension.

use crate::Update;
use crate::host::Float;

use super::put;

/// out = (inp − mean)·rstd·weight + bias, per row; rstd = 1/√(variance + eps), the variance over C (not C − 1).
pub fn forward<F: Float>(
    out: &mut [F],
    mean: &mut [F],
    rstd: &mut [F],
    inp: &[F],
    weight: &[F],
    bias: Option<&[F]>,
    C: usize,
    eps: f32,
) {
    for (n, (x, out)) in inp.chunks_exact(C).zip(out.chunks_exact_mut(C)).enumerate() {
        let mu = x.iter().copied().sum::<F>() / F::of(C as f64);
        // Two passes: E[x²] − E[x]² cancels where |mean| is far above the deviation.
        let variance = x.iter().map(|x| (*x - mu) * (*x - mu)).sum::<F>() / F::of(C as f64);
        let r = F::one() / (variance + F::from_f32(eps)).sqrt();
        for c in 0..C {
            out[c] = (x[c] - mu) * r * weight[c] + bias.map_or(F::zero(), |bias| bias[c]);
        }
        (mean[n], rstd[n]) = (mu, r);
    }
}

/// dinp = rstd·(g − mean(g) − x̂·mean(g∘x̂)) with x̂ = (inp − mean)·rstd and g = dout∘weight; dweight = Σ_n dout∘x̂;
/// dbias = Σ_n dout. [Derivation](crate::Ops::layernorm_backward).
pub fn backward<F: Float>(
    dinp: &mut [F],
    dweight: &mut [F],
    mut dbias: Option<&mut [F]>,
    dout: &[F],
    inp: &[F],
    weight: &[F],
    mean: &[F],
    rstd: &[F],
    C: usize,
    update_inp: Update,
    update: Update,
) {
    if update == Update::Set {
        dweight.fill(F::zero());
        if let Some(dbias) = &mut dbias {
            dbias.fill(F::zero());
        }
    }
    for (n, (x, d)) in inp.chunks_exact(C).zip(dout.chunks_exact(C)).enumerate() {
        let normalised = |c: usize| (x[c] - mean[n]) * rstd[n];
        let gradient = |c: usize| d[c] * weight[c];
        let mean_g = (0..C).map(gradient).sum::<F>() / F::of(C as f64);
        let mean_gx = (0..C).map(|c| gradient(c) * normalised(c)).sum::<F>() / F::of(C as f64);
        for c in 0..C {
            let dx = rstd[n] * (gradient(c) - mean_g - normalised(c) * mean_gx);
            put(&mut dinp[n * C + c], dx, update_inp);
            dweight[c] += d[c] * normalised(c);
        }
        if let Some(dbias) = &mut dbias {
            for (db, d) in dbias.iter_mut().zip(d) {
                *db += *d;
            }
        }
    }
}
