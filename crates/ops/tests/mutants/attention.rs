//! Attention by loops that can be bent.

use wikigpt_ops::Dropout;
use wikigpt_ops::host::Float;
use wikigpt_ops::reference::attention::Heads;

/// What is different from causal attention.
#[derive(Clone, Copy)]
pub struct Bent {
    /// Position t attends to the rows before this one.
    pub rows: fn(t: usize, T: usize) -> usize,
    /// Whether the largest score is taken off before the exponential.
    pub stable: bool,
    /// The index from which an element's dropout is derived.
    pub index: fn(b: usize, h: usize, t: usize, t2: usize, heads: Heads) -> usize,
}

/// Causal attention as it should be.
pub const STRAIGHT: Bent = Bent {
    rows: |t, _| t + 1,
    stable: true,
    index: |b, h, t, t2, Heads { T, NH, .. }| ((b * NH + h) * T + t) * T + t2,
};

pub fn forward<F: Float>(
    bent: Bent,
    out: &mut [F],
    lse: &mut [F],
    qkv: &[F],
    heads: Heads,
    dropout: Dropout,
) {
    let Heads { T, NH, HS } = heads;
    out.fill(F::zero());
    for (n, lse) in lse.iter_mut().enumerate() {
        let (b, h, t) = (n / T / NH, n / T % NH, n % T);
        let part = |t: usize, part: usize| &qkv[(((b * T + t) * 3 + part) * NH + h) * HS..][..HS];
        let score = |t2: usize| {
            let products = part(t, 0).iter().zip(part(t2, 1)).map(|(q, k)| *q * *k);
            products.sum::<F>() / F::of(HS as f64).sqrt()
        };
        let rows = (bent.rows)(t, T);
        let largest = (0..rows).map(score).fold(F::neg_infinity(), F::max);
        let shift = if bent.stable { largest } else { F::zero() };
        let total: F = (0..rows).map(|t2| (score(t2) - shift).exp()).sum();
        for t2 in 0..rows {
            let mask = F::of(dropout.factor((bent.index)(b, h, t, t2, heads) as u64));
            let weight = mask * (score(t2) - shift).exp() / total;
            let out = &mut out[((b * T + t) * NH + h) * HS..][..HS];
            out.iter_mut().zip(part(t2, 2)).for_each(|(out, v)| *out += weight * *v);
        }
        *lse = shift + total.ln();
    }
}
