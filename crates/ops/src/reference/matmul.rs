//! The linear layer, with a weight stored as (OC,C): each output channel's weights are contiguous.

use crate::Update;
use crate::host::Float;

use super::put;

/// out = inp·weightᵀ + bias.
pub fn forward<F: Float>(out: &mut [F], inp: &[F], weight: &[F], bias: Option<&[F]>, C: usize, OC: usize) {
    for (x, out) in inp.chunks_exact(C).zip(out.chunks_exact_mut(OC)) {
        for (o, w) in weight.chunks_exact(C).enumerate() {
            let dot: F = x.iter().zip(w).map(|(x, w)| *x * *w).sum();
            out[o] = dot + bias.map_or(F::zero(), |bias| bias[o]);
        }
    }
}

/// From out\[n,o\] = Σ_c inp\[n,c\]·weight\[o,c\]: dinp\[n,c\] = Σ_o dout\[n,o\]·weight\[o,c\], or dinp = dout·weight.
pub fn backward_input<F: Float>(
    dinp: &mut [F],
    dout: &[F],
    weight: &[F],
    C: usize,
    OC: usize,
    update: Update,
) {
    for (dx, d) in dinp.chunks_exact_mut(C).zip(dout.chunks_exact(OC)) {
        if update == Update::Set {
            dx.fill(F::zero());
        }
        for (d, w) in d.iter().zip(weight.chunks_exact(C)) {
            for (dx, w) in dx.iter_mut().zip(w) {
                *dx += *d * *w;
            }
        }
    }
}

/// From the same sum: dweight\[o,c\] = Σ_n dout\[n,o\]·inp\[n,c\], or dweight = doutᵀ·inp; dbias\[o\] = Σ_n dout\[n,o\].
pub fn backward_weight<F: Float>(
    dweight: &mut [F],
    dbias: Option<&mut [F]>,
    dout: &[F],
    inp: &[F],
    C: usize,
    OC: usize,
    update: Update,
) {
    if update == Update::Set {
        dweight.fill(F::zero());
    }
    for (d, x) in dout.chunks_exact(OC).zip(inp.chunks_exact(C)) {
        for (d, dw) in d.iter().zip(dweight.chunks_exact_mut(C)) {
            for (dw, x) in dw.iter_mut().zip(x) {
                *dw += *d * *x;
            }
        }
    }
    if let Some(dbias) = dbias {
        bias_backward(dbias, dout, update);
    }
}

/// x\[n\] += bias, in place.
pub fn bias_forward<F: Float>(x: &mut [F], bias: &[F]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (x, bias) in row.iter_mut().zip(bias) {
            *x += *bias;
        }
    }
}

/// Every row reads the bias: dbias = Σ_n dout\[n\].
pub fn bias_backward<F: Float>(dbias: &mut [F], dout: &[F], update: Update) {
    let OC = dbias.len();
    for (o, db) in dbias.iter_mut().enumerate() {
        put(db, dout.iter().skip(o).step_by(OC).copied().sum(), update);
    }
}
