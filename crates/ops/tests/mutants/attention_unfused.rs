//! Faults of attention's three pieces.

use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::attention::Heads;
use wikigpt_ops::reference::{attention, softmax};

use crate::fault::{Fault, Faults, part, unscaled};

pub const FAULTS: Faults = &[
    ("attention_scores_forward", &["no scale", "diagonal skipped", "keys for queries"]),
    ("attention_scores_backward", &["no scale", "no dk", "clears dv", "reads above the diagonal"]),
    ("softmax_forward", &["maximum not taken off", "above the diagonal kept", "whole row", "t2 < t"]),
    ("softmax_backward", &["sum missing", "above the diagonal kept", "no probs"]),
    ("attention_values_forward", &["t2 < t", "probs transposed", "last row skipped"]),
    ("attention_values_backward", &["above the diagonal kept", "clears dq", "dv of the last row only"]),
];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn attention_scores_forward(&mut self, scores: &mut [F], qkv: &[F], B: usize, heads: Heads) {
        let C = heads.NH * heads.HS;
        match self.0.of("attention_scores_forward") {
            "no scale" => attention::scores_forward(scores, &unscaled(qkv, heads), B, heads),
            "diagonal skipped" => {
                attention::scores_forward(scores, qkv, B, heads);
                scores
                    .chunks_exact_mut(heads.T)
                    .enumerate()
                    .for_each(|(t, row)| row[t % heads.T] = F::zero());
            }
            "keys for queries" => {
                let mut qkv = qkv.to_vec();
                qkv.chunks_exact_mut(3 * C).for_each(|row| row.copy_within(C..2 * C, 0));
                attention::scores_forward(scores, &qkv, B, heads);
            }
            _ => attention::scores_forward(scores, qkv, B, heads),
        }
    }

    fn attention_scores_backward(
        &mut self,
        dqkv: &mut [F],
        dscores: &[F],
        qkv: &[F],
        B: usize,
        heads: Heads,
    ) {
        attention::scores_backward(dqkv, dscores, qkv, B, heads);
        let root = F::of(heads.HS as f64).sqrt();
        let fault = self.0.of("attention_scores_backward");
        let above: F = dscores
            .chunks_exact(heads.T)
            .enumerate()
            .flat_map(|(t, row)| &row[t % heads.T + 1..])
            .copied()
            .sum();
        for (i, x) in dqkv.iter_mut().enumerate() {
            match (fault, part(i, heads)) {
                ("no scale", 0 | 1) => *x *= root,
                ("no dk", 1) | ("clears dv", 2) => *x = F::zero(),
                ("reads above the diagonal", 0) => *x += above,
                _ => {}
            }
        }
    }

    fn softmax_forward(&mut self, probs: &mut [F], scores: &[F], T: usize) {
        let fault = self.0.of("softmax_forward");
        let before = probs.to_vec();
        softmax::forward(probs, scores, T);
        for (r, row) in probs.chunks_exact_mut(T).enumerate() {
            let (live, scores) = (r % T + 1, &scores[r * T..][..T]);
            let (reach, exact) = match fault {
                "maximum not taken off" => (live, true),
                "whole row" => (T, true),
                "t2 < t" => ((live - 1).max(1), true),
                "above the diagonal kept" => {
                    row[live..].copy_from_slice(&before[r * T + live..][..T - live]);
                    continue;
                }
                _ => (live, false),
            };
            if exact {
                let total: F = scores[..reach].iter().map(|s| s.exp()).sum();
                row.fill(F::zero());
                row.iter_mut().zip(&scores[..reach]).for_each(|(p, s)| *p = s.exp() / total);
            }
        }
    }

    fn softmax_backward(&mut self, dscores: &mut [F], dprobs: &[F], probs: &[F], T: usize) {
        let fault = self.0.of("softmax_backward");
        let before = dscores.to_vec();
        softmax::backward(dscores, dprobs, probs, T);
        for i in 0..dscores.len() {
            let above = i % T > i / T % T;
            match fault {
                "sum missing" => dscores[i] = probs[i] * dprobs[i],
                "above the diagonal kept" if above => dscores[i] = before[i],
                "no probs" if !above => dscores[i] = dscores[i] / probs[i],
                _ => {}
            }
        }
    }

    fn attention_values_forward(&mut self, out: &mut [F], probs: &[F], qkv: &[F], B: usize, heads: Heads) {
        let T = heads.T;
        let mut probs = probs.to_vec();
        match self.0.of("attention_values_forward") {
            "t2 < t" => probs.chunks_exact_mut(T).enumerate().for_each(|(t, row)| row[t % T] = F::zero()),
            "probs transposed" => {
                let matrices = probs.clone();
                probs.iter_mut().enumerate().for_each(|(i, p)| {
                    let (matrix, t, t2) = (i / (T * T) * T * T, i / T % T, i % T);
                    *p = matrices[matrix + t2 * T + t];
                });
            }
            "last row skipped" => {
                let len = probs.len();
                probs[len - T..].fill(F::zero());
            }
            _ => {}
        }
        attention::values_forward(out, &probs, qkv, B, heads);
    }

    fn attention_values_backward(
        &mut self,
        dprobs: &mut [F],
        dqkv: &mut [F],
        dout: &[F],
        probs: &[F],
        qkv: &[F],
        B: usize,
        heads: Heads,
    ) {
        let fault = self.0.of("attention_values_backward");
        let T = heads.T;
        let before = dprobs.to_vec();
        let mut probs = probs.to_vec();
        if fault == "dv of the last row only" {
            probs
                .chunks_exact_mut(T)
                .enumerate()
                .filter(|(t, _)| t % T + 1 < T)
                .for_each(|(_, row)| row.fill(F::zero()));
        }
        attention::values_backward(dprobs, dqkv, dout, &probs, qkv, B, heads);
        if fault == "above the diagonal kept" {
            for (t, row) in dprobs.chunks_exact_mut(T).enumerate() {
                row[t % T + 1..].copy_from_slice(&before[t * T + t % T + 1..(t + 1) * T]);
            }
        }
        for (i, x) in dqkv.iter_mut().enumerate() {
            if fault == "clears dq" && part(i, heads) == 0 {
                *x = F::zero();
            }
        }
    }
}
