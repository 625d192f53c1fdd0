//! Faults of `attention`, whole and over a cache.

use wikigpt_ops::Dropout;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::attention;
use wikigpt_ops::reference::attention::Heads;

use crate::fault::{Fault, Faults, part, unscaled, zeros};

pub const FAULTS: Faults = &[
    (
        "attention_forward",
        &[
            "t2 < t",
            "sees the future",
            "no scale",
            "maximum not taken off",
            "no dropout",
            "dropout not scaled up",
            "dropout of one head for all",
            "lse not a logarithm",
            "starts ignored",
            "starts of the first sequence for all",
            "start excluded",
        ],
    ),
    (
        "attention_backward",
        &[
            "row term missing",
            "no scale",
            "no dropout",
            "dropout of another site",
            "dq and dk exchanged",
            "dv of the first sequence only",
            "starts ignored",
            "starts of the first sequence for all",
            "tile before the start kept",
        ],
    ),
    (
        "attention_cached_forward",
        &[
            "pos one less",
            "pos ignored",
            "pos of the first sequence for all",
            "rows ignored",
            "rows of the cache exchanged",
            "vcache not written",
            "last position skipped",
            "sees all new positions",
        ],
    ),
];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

/// What is different from causal attention.
#[derive(Clone, Copy)]
struct Bent {
    /// Position t attends to the rows before this one.
    rows: fn(t: usize, T: usize) -> usize,
    /// And to those from this one on, where its start is `start`.
    from: fn(start: usize, t: usize) -> usize,
    /// Whether the largest score is taken off before the exponential.
    stable: bool,
    /// The index from which an element's dropout is derived.
    index: fn(b: usize, h: usize, t: usize, t2: usize, heads: Heads) -> usize,
}

/// Causal attention as it should be.
const STRAIGHT: Bent = Bent {
    rows: |t, _| t + 1,
    from: |start, _| start,
    stable: true,
    index: |b, h, t, t2, Heads { T, NH, .. }| ((b * NH + h) * T + t) * T + t2,
};

fn bent_attention<F: Float>(
    bent: Bent,
    out: &mut [F],
    lse: &mut [F],
    qkv: &[F],
    starts: Option<&[u32]>,
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
        let start = starts.map_or(0, |starts| starts[b * T + t] as usize);
        let rows = (bent.from)(start, t)..(bent.rows)(t, T);
        let largest = rows.clone().map(score).fold(F::neg_infinity(), F::max);
        let shift = if bent.stable { largest } else { F::zero() };
        let total: F = rows.clone().map(|t2| (score(t2) - shift).exp()).sum();
        for t2 in rows {
            let mask = F::of(dropout.factor((bent.index)(b, h, t, t2, heads) as u64));
            let weight = mask * (score(t2) - shift).exp() / total;
            let out = &mut out[((b * T + t) * NH + h) * HS..][..HS];
            out.iter_mut().zip(part(t2, 2)).for_each(|(out, v)| *out += weight * *v);
        }
        *lse = shift + total.ln();
    }
}

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn attention_forward(
        &mut self,
        out: &mut [F],
        lse: &mut [F],
        qkv: &[F],
        starts: Option<&[u32]>,
        B: usize,
        heads: Heads,
        dropout: Dropout,
    ) {
        let fault = self.0.of("attention_forward");
        let mut bent = STRAIGHT;
        let first = starts.map(|starts| starts[..heads.T].repeat(B));
        let starts = if fault == "starts of the first sequence for all" { first.as_deref() } else { starts };
        match fault {
            "t2 < t" => {
                bent.rows = |t, _| t.max(1);
                bent.from = |start, t| start.min(t.max(1) - 1);
            }
            "starts ignored" => bent.from = |_, _| 0,
            "start excluded" if starts.is_some() => bent.from = |start, t| (start + 1).min(t),
            "sees the future" => bent.rows = |_, T| T,
            "maximum not taken off" => bent.stable = false,
            "dropout of one head for all" => {
                bent.index = |b, _, t, t2, heads| (STRAIGHT.index)(b, 0, t, t2, heads)
            }
            "no scale" => {
                return attention::forward(out, lse, &unscaled(qkv, heads), starts, B, heads, dropout);
            }
            "no dropout" => return attention::forward(out, lse, qkv, starts, B, heads, Dropout::NONE),
            _ => {}
        }
        bent_attention(bent, out, lse, qkv, starts, heads, dropout);
        match fault {
            "dropout not scaled up" => {
                let kept = F::of(1.0 / dropout.scale());
                out.iter_mut().for_each(|x| *x *= kept);
            }
            "lse not a logarithm" => lse.iter_mut().for_each(|x| *x = x.exp()),
            _ => {}
        }
    }

    fn attention_backward(
        &mut self,
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
        let fault = self.0.of("attention_backward");
        let none = zeros(out.len());
        let out = if fault == "row term missing" { &none } else { out };
        let dropout = match fault {
            "no dropout" => Dropout::NONE,
            "dropout of another site" => Dropout { site: dropout.site ^ 1, ..dropout },
            _ => dropout,
        };
        let altered = starts.map(|starts| match fault {
            "starts of the first sequence for all" => starts[..heads.T].repeat(B),
            // As if a whole tile were met where one of its keys is seen.
            "tile before the start kept" => starts.iter().map(|start| start / 4 * 4).collect(),
            _ => starts.to_vec(),
        });
        let starts = if fault == "starts ignored" { None } else { altered.as_deref() };
        attention::backward(dqkv, dout, out, lse, qkv, starts, B, heads, dropout);
        let (C, root) = (heads.NH * heads.HS, F::of(heads.HS as f64).sqrt());
        match fault {
            "no scale" => {
                dqkv.iter_mut()
                    .enumerate()
                    .filter(|(i, _)| part(*i, heads) < 2)
                    .for_each(|(_, x)| *x *= root);
            }
            "dq and dk exchanged" => dqkv.chunks_exact_mut(3 * C).for_each(|row| {
                let (q, rest) = row.split_at_mut(C);
                q.swap_with_slice(&mut rest[..C]);
            }),
            "dv of the first sequence only" => {
                let later = dqkv.iter_mut().enumerate().skip(heads.T * 3 * C);
                later.filter(|(i, _)| part(*i, heads) == 2).for_each(|(_, x)| *x = F::zero());
            }
            _ => {}
        }
    }

    fn attention_cached_forward(
        &mut self,
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
        let (B, fault) = (pos.len(), self.0.of("attention_cached_forward"));
        let all = |at: fn(u32, u32) -> u32| pos.iter().map(|p| at(*p, pos[0])).collect::<Vec<_>>();
        let altered = match fault {
            "pos one less" => all(|p, _| p.saturating_sub(1)),
            "pos ignored" => all(|_, _| 0),
            "pos of the first sequence for all" => all(|p, first| p.min(first)),
            _ => pos.to_vec(),
        };
        let mut chosen = rows.map(<[u32]>::to_vec);
        match (fault, &mut chosen) {
            ("rows ignored", _) => chosen = None,
            ("rows of the cache exchanged", Some(rows)) => rows.reverse(),
            _ => {}
        }
        let rows = chosen.as_deref();
        if fault == "vcache not written" {
            let mut vcache = vcache.to_vec();
            return attention::cached_forward(out, kcache, &mut vcache, qkv, pos, rows, Tmax, heads);
        }
        attention::cached_forward(out, kcache, vcache, qkv, &altered, rows, Tmax, heads);
        match fault {
            "last position skipped" => {
                out.chunks_exact_mut(Tn * C).for_each(|rows| rows[(Tn - 1) * C..].fill(F::zero()));
            }
            "sees all new positions" if pos.iter().all(|pos| *pos == 0) => {
                let mut lse = zeros(B * NH * Tn);
                let bent = Bent { rows: |_, T| T, ..STRAIGHT };
                bent_attention(bent, out, &mut lse, qkv, None, heads, Dropout::NONE);
            }
            _ => {}
        }
    }
}
