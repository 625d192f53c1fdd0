//! Attention's three unfused pieces, a row at a time: what a reader starts with.

use wikigpt_ops::reference::attention::Heads;

use crate::CpuKernels;
use crate::simd::{dot, madd, vectorised};
use crate::threads::Parts;

vectorised! {
    /// out\[j\] = scale·x·rows\[j\], rows `stride` apart.
    fn dots(out: &mut [f32], x: &[f32], rows: &[f32], stride: usize, scale: f32) {
        for (j, out) in out.iter_mut().enumerate() {
            *out = scale * dot::<FMA>(x, &rows[j * stride..][..x.len()]);
        }
    }
}

vectorised! {
    /// out = scale·Σ_j x\[j·step\]·rows\[j\], `count` rows, `stride` apart.
    fn combine(out: &mut [f32], x: &[f32], step: usize, rows: &[f32], stride: usize, count: usize, scale: f32) {
        out.fill(0.0);
        for j in 0..count {
            let factor = scale * x[j * step];
            for (out, row) in out.iter_mut().zip(&rows[j * stride..]) {
                *out = madd::<FMA>(factor, *row, *out);
            }
        }
    }
}

/// Where the parts of row (b,h,t) begin: q, k and v in `qkv`, `out` in (B,T,C), `row` in (B,NH,T,T).
struct At {
    q: usize,
    k: usize,
    v: usize,
    out: usize,
    row: usize,
    t: usize,
}

/// Calls `body` for every (b,h,t).
fn rows(cpu: &mut CpuKernels, B: usize, heads: Heads, body: impl Fn(At) + Sync) {
    let Heads { T, NH, HS } = heads;
    let C = NH * HS;
    cpu.rows(B * NH * T, T * HS, |index| {
        let (b, h, t) = (index / T / NH, index / T % NH, index % T);
        let q = (b * T + t) * 3 * C + h * HS;
        body(At { q, k: q + C, v: q + 2 * C, out: (b * T + t) * C + h * HS, row: index * T, t });
    });
}

/// scores\[b,h,t,t2\] = q\[b,t,h\]·k\[b,t2,h\]/√HS for t2 ≤ t.
pub fn scores_forward(cpu: &mut CpuKernels, scores: &mut [f32], qkv: &[f32], B: usize, heads: Heads) {
    let (level, HS, stride) = (cpu.level, heads.HS, 3 * heads.NH * heads.HS);
    let scores = Parts::new(scores);
    rows(cpu, B, heads, |at| {
        // SAFETY: each row of the scores is one task's.
        let scores = unsafe { scores.part(at.row, at.t + 1) };
        dots(level, scores, &qkv[at.q..][..HS], &qkv[at.k - at.t * stride..], stride, scale(HS));
    });
}

/// dq\[t\] = Σ_{t2 ≤ t} dscores\[t,t2\]·k\[t2\]/√HS; dk\[t\] = Σ_{t3 ≥ t} dscores\[t3,t\]·q\[t3\]/√HS.
pub fn scores_backward(
    cpu: &mut CpuKernels,
    dqkv: &mut [f32],
    dscores: &[f32],
    qkv: &[f32],
    B: usize,
    heads: Heads,
) {
    let Heads { T, NH, HS } = heads;
    let (level, stride) = (cpu.level, 3 * NH * HS);
    let dqkv = Parts::new(dqkv);
    rows(cpu, B, heads, |at| {
        // SAFETY: each row of a head's q and k gradients is one task's.
        let (dq, dk) = unsafe { (dqkv.part(at.q, HS), dqkv.part(at.k, HS)) };
        combine(level, dq, &dscores[at.row..], 1, &qkv[at.k - at.t * stride..], stride, at.t + 1, scale(HS));
        combine(level, dk, &dscores[at.row + at.t..], T, &qkv[at.q..], stride, T - at.t, scale(HS));
    });
}

/// out\[b,t,h\] = Σ_{t2 ≤ t} probs\[b,h,t,t2\]·v\[b,t2,h\].
pub fn values_forward(
    cpu: &mut CpuKernels,
    out: &mut [f32],
    probs: &[f32],
    qkv: &[f32],
    B: usize,
    heads: Heads,
) {
    let (level, HS, stride) = (cpu.level, heads.HS, 3 * heads.NH * heads.HS);
    let out = Parts::new(out);
    rows(cpu, B, heads, |at| {
        // SAFETY: each row of a head is one task's.
        let out = unsafe { out.part(at.out, HS) };
        combine(level, out, &probs[at.row..], 1, &qkv[at.v - at.t * stride..], stride, at.t + 1, 1.0);
    });
}

/// dprobs\[t,t2\] = dout\[t\]·v\[t2\], 0 above the diagonal; dv\[t\] = Σ_{t3 ≥ t} probs\[t3,t\]·dout\[t3\].
pub fn values_backward(
    cpu: &mut CpuKernels,
    dprobs: &mut [f32],
    dqkv: &mut [f32],
    dout: &[f32],
    probs: &[f32],
    qkv: &[f32],
    B: usize,
    heads: Heads,
) {
    let Heads { T, NH, HS } = heads;
    let (level, C) = (cpu.level, NH * HS);
    let (dprobs, dqkv) = (Parts::new(dprobs), Parts::new(dqkv));
    rows(cpu, B, heads, |at| {
        // SAFETY: each row of the probabilities, and of a head's v gradient, is one task's.
        let (dp, dv) = unsafe { (dprobs.part(at.row, T), dqkv.part(at.v, HS)) };
        let (dp, above) = dp.split_at_mut(at.t + 1);
        dots(level, dp, &dout[at.out..][..HS], &qkv[at.v - at.t * 3 * C..], 3 * C, 1.0);
        above.fill(0.0);
        combine(level, dv, &probs[at.row + at.t..], T, &dout[at.out..], C, T - at.t, 1.0);
    });
}

/// 1/√HS.
fn scale(HS: usize) -> f32 {
    1.0 / (HS as f32).sqrt()
}
