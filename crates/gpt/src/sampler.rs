//! Drawing the next token.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Error, Result};

/// How the next token is drawn: as Hugging Face's `generate` does, the repetition penalty first, then temperature, top-k and top-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token, the first of several.
    pub temperature: f64,
    /// Only the k likeliest tokens are drawn from, and those as likely as the k-th.
    pub top_k: Option<usize>,
    /// Only the fewest likeliest tokens whose probabilities sum to at least p are drawn from, and those as likely as the
    /// last of them.
    pub top_p: Option<f64>,
    /// Divides the logits of tokens that the text holds already where they are above 0, and multiplies them where they are below:
    /// above 1 for less repetition, 1 for none of this (Keskar et al. 2019).
    pub repetition_penalty: f64,
    /// The same seed draws the same tokens.
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: None, top_p: None, repetition_penalty: 1.0, seed: 0 };
}

/// Draws tokens.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    /// The tokens of the text so far, each once; empty where they make no difference.
    seen: BTreeSet<u32>,
    /// Logits with the penalty.
    penalized: Vec<f32>,
    /// Tokens and the logits, then the weights, that they are drawn by.
    candidates: Vec<(u32, f64)>,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature is negative or not finite, k is 0, p is not in (0, 1], or the penalty is not above 0 and
    /// finite.
    pub fn new(sampling: Sampling) -> Result<Sampler> {
        let Sampling { temperature, top_k, top_p, repetition_penalty, seed } = sampling;
        let refuse = |message: String| Err(Error::Config(message));
        if !(temperature.is_finite() && temperature >= 0.0) {
            return refuse(format!("the temperature must be 0 or more, and finite, got {temperature}"));
        }
        if top_k == Some(0) {
            return refuse("top-k must leave at least one token, got 0".into());
        }
        if let Some(p) = top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return refuse(format!("top-p must be above 0 and at most 1, got {p}"));
        }
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            return refuse(format!(
                "the repetition penalty must be above 0, and finite, got {repetition_penalty}"
            ));
        }
        Ok(Sampler {
            sampling,
            rng: ChaCha8Rng::seed_from_u64(seed),
            seen: BTreeSet::new(),
            penalized: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// Tells what the text begins with, for the repetition penalty; tokens that are drawn need not be told.
    pub fn see(&mut self, tokens: &[u32]) {
        if self.sampling.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// Draws a token from its logits (V); −∞ excludes one.
    ///
    /// # Errors
    /// [`Error::Config`] when a logit is NaN or +∞, or none is finite.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        if self.sampling.repetition_penalty == 1.0 {
            return self.choose(logits);
        }
        let mut penalized = std::mem::take(&mut self.penalized);
        penalized.clear();
        penalized.extend_from_slice(logits);
        // In f64, where no penalty is 0 or infinite; and a finite logit stays one.
        let penalty = self.sampling.repetition_penalty;
        for token in &self.seen {
            if let Some(logit) = penalized.get_mut(*token as usize).filter(|logit| logit.is_finite()) {
                let x = f64::from(*logit);
                let penalized = if x > 0.0 { x / penalty } else { x * penalty };
                *logit = penalized.clamp(f32::MIN.into(), f32::MAX.into()) as f32;
            }
        }
        let token = self.choose(&penalized);
        self.penalized = penalized;
        self.seen.extend(token.as_ref().ok());
        token
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        if let Some(at) = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
            let message = format!(
                "the logit of token {at} is {}: the model's weights are damaged or diverged",
                logits[at]
            );
            return Err(Error::Config(message));
        }
        let mut likeliest = 0;
        for (token, logit) in logits.iter().enumerate() {
            if *logit > logits[likeliest] {
                likeliest = token;
            }
        }
        if logits.get(likeliest).is_none_or(|logit| *logit == f32::NEG_INFINITY) {
            return Err(Error::Config("there is no token to draw: no logit is finite".into()));
        }
        if self.sampling.temperature == 0.0 {
            return Ok(likeliest as u32);
        }
        self.keep(logits);
        // The largest is taken off before the division, so that a tiny temperature overflows nothing.
        let largest = f64::from(logits[likeliest]);
        for (_, logit) in &mut self.candidates {
            *logit = ((*logit - largest) / self.sampling.temperature).exp();
        }
        if let Some(p) = self.sampling.top_p.filter(|p| *p < 1.0) {
            self.keep_probable(p);
        }
        Ok(self.draw())
    }

    /// Takes the finite logits, with top-k no smaller ones than the k-th.
    fn keep(&mut self, logits: &[f32]) {
        let k = self.sampling.top_k.filter(|k| *k < logits.len());
        self.candidates.clear();
        self.candidates.extend((0..).zip(logits.iter().map(|logit| f64::from(*logit))));
        let least = k.map_or(f64::MIN, |k| {
            let by_size = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1);
            self.candidates.select_nth_unstable_by(k - 1, by_size).1.1.max(f64::MIN)
        });
        self.candidates.retain(|candidate| candidate.1 >= least);
        // Selection shuffles; draws go in the order of tokens.
        self.candidates.sort_unstable_by_key(|candidate| candidate.0);
    }

    /// Drops the candidates before which likelier ones already sum to p.
    fn keep_probable(&mut self, p: f64) {
        self.candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let total: f64 = self.candidates.iter().map(|candidate| candidate.1).sum();
        let (mut likelier, mut so_far, mut last) = (0.0, 0.0, f64::INFINITY);
        let kept = self.candidates.iter().position(|(_, weight)| {
            if *weight < last {
                (likelier, last) = (so_far, *weight);
            }
            so_far += weight;
            likelier >= p * total
        });
        self.candidates.truncate(kept.unwrap_or(self.candidates.len()).max(1));
    }

    /// Draws a candidate with a probability in proportion to its weight.
    fn draw(&mut self) -> u32 {
        let total: f64 = self.candidates.iter().map(|candidate| candidate.1).sum();
        // 53 random bits: a number in [0, 1).
        let mut left = (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * total;
        let mut drawn = self.candidates[0].0;
        for (token, weight) in self.candidates.iter().filter(|candidate| candidate.1 > 0.0) {
            drawn = *token;
            if left < *weight {
                break;
            }
            left -= weight;
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sampling = Sampling { temperature: 1.0, seed: 1, ..Sampling::GREEDY };

    fn logits(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    /// How often each token is drawn.
    fn counts(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(logits).unwrap() as usize] += 1;
        }
        counts
    }

    fn drawn(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let counts = counts(sampling, logits, 2000);
        (0..logits.len()).filter(|token| counts[*token] > 0).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(counts(Sampling::GREEDY, &[0.0, 3.0, -1.0, 3.0], 9), [0, 9, 0, 0]);
    }

    /// Pearson's χ² against the softmax of logits/temperature, whatever the order of the filters' work.
    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let given = logits(&[0.05, 0.3, 0.1, 0.25, 0.02, 0.28]);
        let (temperature, draws) = (0.7, 60_000);
        let every = Sampling { temperature, ..ALL };
        for sampling in
            [every, Sampling { top_k: Some(6), ..every }, Sampling { top_p: Some(0.9999), ..every }]
        {
            let weights: Vec<f64> = given.iter().map(|x| (f64::from(*x) / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            let chi2: f64 = counts(sampling, &given, draws)
                .iter()
                .zip(&weights)
                .map(|(count, weight)| {
                    let expected = weight / total * draws as f64;
                    (*count as f64 - expected).powi(2) / expected
                })
                .sum();
            // 5 degrees of freedom: above 25.7 once in 10,000.
            assert!(chi2 < 25.7, "{sampling:?}: {chi2}");
        }
    }

    #[test]
    fn top_k_keeps_ties() {
        let given = logits(&[0.1, 0.3, 0.1, 0.4, 0.1]);
        let top = |k| drawn(Sampling { top_k: Some(k), ..ALL }, &given);
        assert_eq!(top(1), [3]);
        assert_eq!(top(2), [1, 3]);
        assert_eq!(top(3), [0, 1, 2, 3, 4]);
        assert_eq!(top(100), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_sum_to_p() {
        let given = logits(&[0.125, 0.5, 0.25, 0.0625, 0.0625]);
        let top = |p| drawn(Sampling { top_p: Some(p), ..ALL }, &given);
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
        let both = Sampling { top_k: Some(2), top_p: Some(0.6), ..ALL };
        assert_eq!(drawn(both, &given), [1]);
        assert_eq!(drawn(Sampling { top_k: None, ..both }, &given), [1, 2]);
        // At temperature 4 the likeliest token has 0.32 only.
        assert_eq!(drawn(Sampling { top_p: Some(0.4), temperature: 4.0, ..ALL }, &given), [1, 2]);
    }

    #[test]
    fn extreme_temperatures_and_excluded_tokens() {
        let given = [1.0, f32::NEG_INFINITY, 1.5, f32::NEG_INFINITY];
        assert_eq!(drawn(Sampling { temperature: 1e-300, ..ALL }, &given), [2]);
        assert_eq!(drawn(Sampling { temperature: 1e300, ..ALL }, &given), [0, 2]);
        assert_eq!(drawn(Sampling { top_k: Some(3), ..ALL }, &given), [0, 2]);
        assert_eq!(drawn(ALL, &[f32::MAX, f32::MIN]), [0]);
    }

    #[test]
    fn what_the_text_holds_is_penalized_once_a_token() {
        // Dividing 3 by 2 leaves it below 2, and −1 becomes −2.
        let penal = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        let given = [-1.0, 3.0, 2.0, -1.5];
        let mut sampler = Sampler::new(penal).unwrap();
        let drawn: Vec<u32> = (0..4).map(|_| sampler.sample(&given).unwrap()).collect();
        // 1 (3), then 2 (2 to 1.5), then 1 (1.5 to 1), and so on, no less for being drawn twice.
        assert_eq!(drawn, [1, 2, 1, 1]);
        let mut sampler = Sampler::new(penal).unwrap();
        sampler.see(&[1, 1, 0, 900]);
        assert_eq!(sampler.sample(&given).unwrap(), 2);
        let mut sampler = Sampler::new(penal).unwrap();
        sampler.see(&[0]);
        assert_eq!(sampler.sample(&[-1.0, -1.5]).unwrap(), 1);
        for (repetition_penalty, likeliest) in [(1e-300, 0), (1e300, 1)] {
            let mut sampler = Sampler::new(Sampling { repetition_penalty, ..penal }).unwrap();
            sampler.see(&[0, 2, 3]);
            assert_eq!(sampler.sample(&[2.0, 1.0, 0.0, f32::NEG_INFINITY]).unwrap(), likeliest);
        }
    }

    #[test]
    fn a_seed_repeats() {
        let given = [0.0; 50];
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling { seed, ..ALL }).unwrap();
            (0..20).map(|_| sampler.sample(&given).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(4), run(4));
        assert_ne!(run(4), run(5));
    }

    #[test]
    fn what_cannot_be_drawn_from_is_refused() {
        for sampling in [ALL, Sampling::GREEDY] {
            let mut sampler = Sampler::new(sampling).unwrap();
            let mut message = |logits: &[f32]| sampler.sample(logits).unwrap_err().to_string();
            assert!(message(&[0.0, f32::NAN]).contains("the logit of token 1 is NaN"));
            assert!(message(&[f32::INFINITY, 0.0]).contains("the logit of token 0 is inf"));
            assert!(message(&[f32::NEG_INFINITY]).contains("no logit is finite"));
            assert!(message(&[]).contains("no logit is finite"));
        }
        let refused = [
            Sampling { temperature: -1.0, ..ALL },
            Sampling { temperature: f64::NAN, ..ALL },
            Sampling { top_k: Some(0), ..ALL },
            Sampling { top_p: Some(0.0), ..ALL },
            Sampling { top_p: Some(1.5), ..ALL },
            Sampling { repetition_penalty: 0.0, ..ALL },
            Sampling { repetition_penalty: f64::INFINITY, ..ALL },
        ];
        for sampling in refused {
            assert!(Sampler::new(sampling).is_err(), "{sampling:?}");
        }
    }
}
