//! Drawing tokens from their logits. The numbers of the rules are [`Ops::sample`](crate::Ops::sample)'s.

use crate::host::Float;
use crate::{IGNORE, Knobs};

/// A token that may be drawn.
#[derive(Clone, Copy)]
pub struct Candidate {
    token: u32,
    /// Its logit with the penalty.
    x: f64,
    /// What it is drawn in proportion to.
    weight: f64,
}

/// tokens\[b\] drawn from logits\[b\], by knobs\[b\] and uniforms\[b\], and its bit set in row rows\[b\] of `seen`.
pub fn forward<F: Float>(
    tokens: &mut [u32],
    mut seen: Option<&mut [u32]>,
    logits: &[F],
    knobs: &[F],
    uniforms: &[u32],
    rows: Option<&[u32]>,
    V: usize,
    Vp: usize,
) {
    let words = V.div_ceil(32);
    let mut candidates = Vec::new();
    for (b, token) in tokens.iter_mut().enumerate() {
        let row = rows.map_or(b, |rows| rows[b] as usize);
        let seen = seen.as_mut().map(|seen| &mut seen[row * words..][..words]);
        let knobs = &knobs[b * Knobs::LEN..][..Knobs::LEN];
        *token = draw(&logits[b * Vp..][..V], seen.as_deref(), knobs, uniforms[b], &mut candidates);
        mark(seen, *token);
    }
}

/// Whether a row of `seen` holds a token.
pub fn holds(seen: &[u32], token: usize) -> bool {
    seen[token / 32] >> (token % 32) & 1 == 1
}

/// Sets a token's bit, if it is one.
pub fn mark(seen: Option<&mut [u32]>, token: u32) {
    if let Some(seen) = seen.filter(|_| token != IGNORE) {
        seen[token as usize / 32] |= 1 << (token % 32);
    }
}

/// The token of one row (V), or [`IGNORE`]; `candidates` is scratch.
pub fn draw<F: Float>(
    logits: &[F],
    seen: Option<&[u32]>,
    knobs: &[F],
    uniform: u32,
    candidates: &mut Vec<Candidate>,
) -> u32 {
    let [temperature, top_k, top_p, penalty] = std::array::from_fn(|i| knobs[i].wide());
    // 1   x = logits, penalized
    candidates.clear();
    for (v, logit) in logits.iter().enumerate() {
        let logit = logit.wide();
        if logit.is_nan() || logit == f64::INFINITY {
            return IGNORE;
        }
        let seen = penalty != 1.0 && seen.is_some_and(|seen| holds(seen, v));
        let x = if seen { penalized(logit, penalty) } else { logit };
        candidates.push(Candidate { token: v as u32, x, weight: 0.0 });
    }
    // 2   the largest, the first of several
    let mut likeliest = candidates[0];
    for candidate in &candidates[1..] {
        if candidate.x > likeliest.x {
            likeliest = *candidate;
        }
    }
    if likeliest.x == f64::NEG_INFINITY {
        return IGNORE;
    }
    if temperature == 0.0 {
        return likeliest.token;
    }
    // 3   top-k
    keep_largest(candidates, top_k as usize);
    // 4   w = exp((x − max)/temperature), max taken off before the division, so that a tiny temperature overflows nothing; top-p
    for candidate in &mut *candidates {
        candidate.weight = ((candidate.x - likeliest.x) / temperature).exp();
    }
    if top_p < 1.0 {
        keep_probable(candidates, top_p);
    }
    // 5   the token at u·Σ w
    at(candidates, f64::from(uniform) / 4_294_967_296.0)
}

/// A logit of a token that the text holds; one that is finite stays so. In float64, where no penalty is 0 or infinite.
fn penalized(logit: f64, penalty: f64) -> f64 {
    if !logit.is_finite() {
        return logit;
    }
    let x = if logit > 0.0 { logit / penalty } else { logit * penalty };
    f64::from(x.clamp(f32::MIN.into(), f32::MAX.into()) as f32)
}

/// Keeps the finite logits, with top-k (0: all) no smaller ones than the k-th.
fn keep_largest(candidates: &mut Vec<Candidate>, k: usize) {
    let mut least = f64::MIN;
    let selects = (1..candidates.len()).contains(&k);
    if selects {
        let by_size = |a: &Candidate, b: &Candidate| b.x.total_cmp(&a.x);
        least = candidates.select_nth_unstable_by(k - 1, by_size).1.x.max(least);
    }
    candidates.retain(|candidate| candidate.x >= least);
    if selects {
        // Selection shuffles; sums go in the order of tokens.
        candidates.sort_unstable_by_key(|candidate| candidate.token);
    }
}

/// Drops the candidates before which likelier ones already sum to p.
fn keep_probable(candidates: &mut Vec<Candidate>, p: f64) {
    candidates.sort_unstable_by(|a, b| b.x.total_cmp(&a.x).then(a.token.cmp(&b.token)));
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let (mut likelier, mut so_far, mut last) = (0.0, 0.0, f64::INFINITY);
    let dropped = candidates.iter().position(|Candidate { x, weight, .. }| {
        if *x < last {
            (likelier, last) = (so_far, *x);
        }
        so_far += weight;
        likelier >= p * total
    });
    candidates.truncate(dropped.unwrap_or(candidates.len()).max(1));
    candidates.sort_unstable_by_key(|candidate| candidate.token);
}

/// The first candidate up to which the weights sum to more than u of all.
fn at(candidates: &[Candidate], u: f64) -> u32 {
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let mut left = u * total;
    let mut drawn = candidates[0].token;
    for Candidate { token, weight, .. } in candidates.iter().filter(|candidate| candidate.weight > 0.0) {
        drawn = *token;
        if left < *weight {
            break;
        }
        left -= weight;
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Knobs = Knobs { temperature: 1.0, ..Knobs::GREEDY };

    fn logits(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    /// How often each token is drawn by so many numbers, spread evenly over [0, 1).
    fn counts(knobs: Knobs, logits: &[f32], draws: u32) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for i in 0..draws {
            let uniform = (u64::from(i) << 32) / u64::from(draws);
            counts[draw(logits, None, &knobs.row(), uniform as u32, &mut Vec::new()) as usize] += 1;
        }
        counts
    }

    fn drawn(knobs: Knobs, logits: &[f32]) -> Vec<usize> {
        let counts = counts(knobs, logits, 2000);
        (0..logits.len()).filter(|token| counts[*token] > 0).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(counts(Knobs::GREEDY, &[0.0, 3.0, -1.0, 3.0], 9), [0, 9, 0, 0]);
    }

    /// By evenly spread numbers as often, to one, whatever the order of the filters' work.
    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let given = logits(&[0.05, 0.3, 0.1, 0.25, 0.02, 0.28]);
        let (temperature, draws) = (0.7, 10_000);
        let every = Knobs { temperature, ..ALL };
        for knobs in [every, Knobs { top_k: 6.0, ..every }, Knobs { top_p: 0.9999, ..every }] {
            let weights: Vec<f64> = given.iter().map(|x| f64::from(*x / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (count, weight) in counts(knobs, &given, draws).iter().zip(&weights) {
                let expected = weight / total * f64::from(draws);
                assert!((*count as f64 - expected).abs() < 1.01, "{knobs:?}: {count}, not {expected}");
            }
        }
    }

    #[test]
    fn top_k_keeps_ties() {
        let given = logits(&[0.1, 0.3, 0.1, 0.4, 0.1]);
        let top = |top_k| drawn(Knobs { top_k, ..ALL }, &given);
        assert_eq!(top(1.0), [3]);
        assert_eq!(top(2.0), [1, 3]);
        assert_eq!(top(3.0), [0, 1, 2, 3, 4]);
        assert_eq!(top(100.0), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_sum_to_p() {
        let given = logits(&[0.125, 0.5, 0.25, 0.0625, 0.0625]);
        let top = |top_p| drawn(Knobs { top_p, ..ALL }, &given);
        assert_eq!(top(1e-9), [1]);
        assert_eq!(top(0.49), [1]);
        assert_eq!(top(0.51), [1, 2]);
        assert_eq!(top(0.76), [0, 1, 2]);
        assert_eq!(top(0.88), [0, 1, 2, 3, 4]);
        assert_eq!(top(1.0), [0, 1, 2, 3, 4]);
    }

    /// top-p counts what top-k has left: 0.5 of 0.75 is two thirds.
    #[test]
    fn top_k_comes_before_top_p_and_temperature_before_both() {
        let given = logits(&[0.125, 0.5, 0.25, 0.125]);
        let both = Knobs { top_k: 2.0, top_p: 0.6, ..ALL };
        assert_eq!(drawn(both, &given), [1]);
        assert_eq!(drawn(Knobs { top_k: 0.0, ..both }, &given), [1, 2]);
        // At temperature 4 the likeliest token has 0.32 only.
        assert_eq!(drawn(Knobs { top_p: 0.4, temperature: 4.0, ..ALL }, &given), [1, 2]);
    }

    #[test]
    fn extreme_temperatures_and_excluded_tokens() {
        let given = [1.0, f32::NEG_INFINITY, 1.5, f32::NEG_INFINITY];
        assert_eq!(drawn(Knobs { temperature: f32::MIN_POSITIVE, ..ALL }, &given), [2]);
        assert_eq!(drawn(Knobs { temperature: f32::MAX, ..ALL }, &given), [0, 2]);
        assert_eq!(drawn(Knobs { top_k: 3.0, ..ALL }, &given), [0, 2]);
        assert_eq!(drawn(ALL, &[f32::MAX, f32::MIN]), [0]);
    }

    #[test]
    fn what_the_text_holds_is_penalized_once_a_token() {
        // Dividing 3 by 2 leaves it below 2, and −1 becomes −2.
        let given = [-1.0, 3.0, 2.0, -1.5];
        let likeliest = |given: &[f32], penalty: f32, seen: u32| {
            draw(given, Some(&[seen]), &Knobs { penalty, ..Knobs::GREEDY }.row(), 0, &mut Vec::new())
        };
        let mut seen = [0];
        let mut tokens = [0; 4];
        for token in &mut tokens {
            *token = likeliest(&given, 2.0, seen[0]);
            mark(Some(&mut seen), *token);
        }
        // 1 (3), then 2 (2 to 1.5), then 1 (1.5 to 1), and so on, no less for being drawn twice.
        assert_eq!((tokens, seen), ([1, 2, 1, 1], [0b0110]));
        assert_eq!(likeliest(&[-1.0, -1.5], 2.0, 0b01), 1);
        for (penalty, token) in [(f32::MIN_POSITIVE, 0), (f32::MAX, 1)] {
            assert_eq!(likeliest(&[2.0, 1.0, 0.0, f32::NEG_INFINITY], penalty, 0b1101), token);
        }
    }

    #[test]
    fn what_cannot_be_drawn_from_is_no_token() {
        for knobs in [ALL, Knobs::GREEDY] {
            for given in [&[0.0, f32::NAN][..], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY; 3]] {
                assert_eq!(draw(given, None, &knobs.row(), 0, &mut Vec::new()), IGNORE, "{given:?}");
            }
        }
    }
}
