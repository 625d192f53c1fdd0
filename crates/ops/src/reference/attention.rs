//! Causal multi-head self-attention (Vaswani et al. 2017): whole, over a cache, and in its three unfused pieces.
//!
//! A row of `qkv` holds q, then k, then v, each of NH heads of HS: 3·C elements.

use std::ops::RangeInclusive;

use crate::Dropout;
use crate::host::Float;

/// Where the heads of q, k and v lie in `qkv` (B,T,3C).
#[derive(Clone, Copy)]
pub struct Heads {
    /// Positions.
    pub T: usize,
    /// Number of heads.
    pub NH: usize,
    /// Size of a head.
    pub HS: usize,
}

impl Heads {
    /// Offset of q\[b,t,h\] in `qkv`.
    fn q(self, b: usize, t: usize, h: usize) -> usize {
        (b * self.T + t) * 3 * self.NH * self.HS + h * self.HS
    }
    /// Offset of k\[b,t,h\] in `qkv`.
    fn k(self, b: usize, t: usize, h: usize) -> usize {
        self.q(b, t, h) + self.NH * self.HS
    }
    /// Offset of v\[b,t,h\] in `qkv`.
    fn v(self, b: usize, t: usize, h: usize) -> usize {
        self.k(b, t, h) + self.NH * self.HS
    }
    /// Offset of out\[b,t,h\] in `out` (B,T,C).
    fn out(self, b: usize, t: usize, h: usize) -> usize {
        ((b * self.T + t) * self.NH + h) * self.HS
    }
    /// Offset of row t of a (B,NH,T,T) tensor.
    fn row(self, b: usize, t: usize, h: usize) -> usize {
        ((b * self.NH + h) * self.T + t) * self.T
    }
    /// Every (b, h, t) of a batch.
    fn rows(self, B: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..B).flat_map(move |b| (0..self.NH).flat_map(move |h| (0..self.T).map(move |t| (b, h, t))))
    }
    /// 1/√HS, by which scores are scaled.
    fn scale<F: Float>(self) -> F {
        F::one() / F::of(self.HS as f64).sqrt()
    }
}

fn dot<F: Float>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

fn add_scaled<F: Float>(out: &mut [F], x: &[F], scale: F) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += scale * *x;
    }
}

/// What position t of sequence b sees.
fn seen(starts: Option<&[u32]>, b: usize, t: usize, T: usize) -> RangeInclusive<usize> {
    starts.map_or(0, |starts| starts[b * T + t] as usize)..=t
}

/// out\[t\] = Σ mask·p\[t2\]·v\[t2\] over the t2 that t sees, with p = exp(s − lse), s\[t2\] = q\[t\]·k\[t2\]/√HS, lse = log Σ
/// exp(s).
pub fn forward<F: Float>(
    out: &mut [F],
    lse: &mut [F],
    qkv: &[F],
    starts: Option<&[u32]>,
    B: usize,
    heads: Heads,
    dropout: Dropout,
) {
    let Heads { T, NH, HS } = heads;
    out.fill(F::zero());
    for (b, h, t) in heads.rows(B) {
        let seen = seen(starts, b, t, T);
        let q = &qkv[heads.q(b, t, h)..][..HS];
        let score = |t2: usize| dot(q, &qkv[heads.k(b, t2, h)..][..HS]) * heads.scale();
        let largest = seen.clone().map(score).fold(F::neg_infinity(), F::max);
        let total: F = seen.clone().map(|t2| (score(t2) - largest).exp()).sum();
        let log = largest + total.ln();
        let out = &mut out[heads.out(b, t, h)..][..HS];
        for t2 in seen {
            let mask = F::of(dropout.factor((heads.row(b, t, h) + t2) as u64));
            add_scaled(out, &qkv[heads.v(b, t2, h)..][..HS], mask * (score(t2) - log).exp());
        }
        lse[(b * NH + h) * T + t] = log;
    }
}

/// dv\[t2\] += m·p·dout; ds = p·(m·(dout·v\[t2\]) − dout·out); dq += ds·k/√HS; dk\[t2\] += ds·q/√HS.
/// [Derivation](crate::Ops::attention_backward).
pub fn backward<F: Float>(
    dqkv: &mut [F],
    dout: &[F],
    out: &[F],
    lse: &[F],
    qkv: &[F],
    starts: Option<&[u32]>,
    B: usize,
    heads: Heads,
    dropout: Dropout,
) {
    let Heads { T, NH, HS } = heads;
    dqkv.fill(F::zero());
    for (b, h, t) in heads.rows(B) {
        let at = heads.out(b, t, h);
        let dout = &dout[at..][..HS];
        let p_dp = dot(dout, &out[at..][..HS]);
        let q = &qkv[heads.q(b, t, h)..][..HS];
        for t2 in seen(starts, b, t, T) {
            let (k, v) = (&qkv[heads.k(b, t2, h)..][..HS], &qkv[heads.v(b, t2, h)..][..HS]);
            let p = (dot(q, k) * heads.scale() - lse[(b * NH + h) * T + t]).exp();
            let mask = F::of(dropout.factor((heads.row(b, t, h) + t2) as u64));
            let ds = p * (mask * dot(dout, v) - p_dp) * heads.scale();
            add_scaled(&mut dqkv[heads.v(b, t2, h)..][..HS], dout, mask * p);
            add_scaled(&mut dqkv[heads.q(b, t, h)..][..HS], k, ds);
            add_scaled(&mut dqkv[heads.k(b, t2, h)..][..HS], q, ds);
        }
    }
}

/// Attention of `Tn` new positions of each sequence over a cache of keys and values (rows,Tmax,C), whose row rows\[b\] holds
/// pos\[b\] positions of it and gains the new ones first.
pub fn cached_forward<F: Float>(
    out: &mut [F],
    kcache: &mut [F],
    vcache: &mut [F],
    qkv: &[F],
    pos: &[u32],
    rows: Option<&[u32]>,
    Tmax: usize,
    heads: Heads,
) {
    let Heads { T: Tn, NH, HS } = heads;
    let C = NH * HS;
    // Where position t2 of sequence b lies in the cache.
    let cached = |b: usize, t2: usize| (rows.map_or(b, |rows| rows[b] as usize) * Tmax + t2) * C;
    out.fill(F::zero());
    for (b, pos) in pos.iter().enumerate() {
        for t in 0..Tn {
            let at = cached(b, *pos as usize + t);
            kcache[at..][..C].copy_from_slice(&qkv[heads.k(b, t, 0)..][..C]);
            vcache[at..][..C].copy_from_slice(&qkv[heads.v(b, t, 0)..][..C]);
        }
    }
    for (b, h, t) in heads.rows(pos.len()) {
        let q = &qkv[heads.q(b, t, h)..][..HS];
        let seen = 0..=pos[b] as usize + t;
        let score = |t2: usize| dot(q, &kcache[cached(b, t2) + h * HS..][..HS]) * heads.scale();
        let largest = seen.clone().map(score).fold(F::neg_infinity(), F::max);
        let total: F = seen.clone().map(|t2| (score(t2) - largest).exp()).sum();
        let out = &mut out[heads.out(b, t, h)..][..HS];
        for t2 in seen {
            add_scaled(out, &vcache[cached(b, t2) + h * HS..][..HS], (score(t2) - largest).exp() / total);
        }
    }
}

/// scores\[b,h,t,t2\] = q\[b,t,h\]·k\[b,t2,h\]/√HS for t2 ≤ t.
pub fn scores_forward<F: Float>(scores: &mut [F], qkv: &[F], B: usize, heads: Heads) {
    for (b, h, t) in heads.rows(B) {
        for t2 in 0..=t {
            let (q, k) = (&qkv[heads.q(b, t, h)..][..heads.HS], &qkv[heads.k(b, t2, h)..][..heads.HS]);
            scores[heads.row(b, t, h) + t2] = dot(q, k) * heads.scale();
        }
    }
}

/// dq\[t\] = Σ_{t2 ≤ t} dscores\[t,t2\]·k\[t2\]/√HS; dk\[t2\] = Σ_{t ≥ t2} dscores\[t,t2\]·q\[t\]/√HS.
pub fn scores_backward<F: Float>(dqkv: &mut [F], dscores: &[F], qkv: &[F], B: usize, heads: Heads) {
    let HS = heads.HS;
    for row in dqkv.chunks_exact_mut(3 * heads.NH * HS) {
        row[..2 * heads.NH * HS].fill(F::zero());
    }
    for (b, h, t) in heads.rows(B) {
        for t2 in 0..=t {
            let ds = dscores[heads.row(b, t, h) + t2] * heads.scale();
            add_scaled(&mut dqkv[heads.q(b, t, h)..][..HS], &qkv[heads.k(b, t2, h)..][..HS], ds);
            add_scaled(&mut dqkv[heads.k(b, t2, h)..][..HS], &qkv[heads.q(b, t, h)..][..HS], ds);
        }
    }
}

/// out\[b,t,h\] = Σ_{t2 ≤ t} probs\[b,h,t,t2\]·v\[b,t2,h\].
pub fn values_forward<F: Float>(out: &mut [F], probs: &[F], qkv: &[F], B: usize, heads: Heads) {
    out.fill(F::zero());
    for (b, h, t) in heads.rows(B) {
        let out = &mut out[heads.out(b, t, h)..][..heads.HS];
        for t2 in 0..=t {
            add_scaled(out, &qkv[heads.v(b, t2, h)..][..heads.HS], probs[heads.row(b, t, h) + t2]);
        }
    }
}

/// dprobs\[t,t2\] = dout\[t\]·v\[t2\]; dv\[t2\] = Σ_{t ≥ t2} probs\[t,t2\]·dout\[t\].
pub fn values_backward<F: Float>(
    dprobs: &mut [F],
    dqkv: &mut [F],
    dout: &[F],
    probs: &[F],
    qkv: &[F],
    B: usize,
    heads: Heads,
) {
    let HS = heads.HS;
    dprobs.fill(F::zero());
    for row in dqkv.chunks_exact_mut(3 * heads.NH * HS) {
        row[2 * heads.NH * HS..].fill(F::zero());
    }
    for (b, h, t) in heads.rows(B) {
        let dout = &dout[heads.out(b, t, h)..][..HS];
        for t2 in 0..=t {
            let i = heads.row(b, t, h) + t2;
            dprobs[i] = dot(dout, &qkv[heads.v(b, t2, h)..][..HS]);
            add_scaled(&mut dqkv[heads.v(b, t2, h)..][..HS], dout, probs[i]);
        }
    }
}
