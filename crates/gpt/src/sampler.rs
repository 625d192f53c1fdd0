//! How the next token is drawn. The rule itself is [`Ops::sample`](wikigpt_ops::Ops::sample).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wikigpt_ops::Knobs;

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

    /// Refuses what cannot be drawn by, in a sentence that begins with its name.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature is negative or not finite, k is 0, p is not in (0, 1], or the penalty is not above 0 and
    /// finite.
    pub fn check(&self) -> Result {
        let Sampling { temperature, top_k, top_p, repetition_penalty, .. } = *self;
        let refuse = |message: String| Err(Error::Config(message));
        if !(temperature.is_finite() && temperature >= 0.0) {
            return refuse(format!("temperature {temperature}: must be a number not below 0"));
        }
        if top_k == Some(0) {
            return refuse("top-k 0: at least one token has to be left".into());
        }
        if let Some(p) = top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return refuse(format!("top-p {p}: must be above 0 and at most 1"));
        }
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            return refuse(format!("repetition-penalty {repetition_penalty}: must be a number above 0"));
        }
        Ok(())
    }

    /// The same as the op has it: what is above 0 stays so, and what is finite.
    fn knobs(&self) -> Knobs {
        let positive = |x: f64| x.clamp(f32::MIN_POSITIVE.into(), f32::MAX.into()) as f32;
        Knobs {
            temperature: if self.temperature == 0.0 { 0.0 } else { positive(self.temperature) },
            top_k: self.top_k.unwrap_or(0) as f32,
            top_p: positive(self.top_p.unwrap_or(1.0)),
            penalty: positive(self.repetition_penalty),
        }
    }
}

/// Who draws the tokens of a text, by [`Generator::draw`](crate::Generator::draw): its knobs, and its random numbers.
#[derive(Debug)]
pub struct Sampler {
    knobs: Knobs,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// Those of [`Sampling::check`].
    pub fn new(sampling: Sampling) -> Result<Sampler> {
        sampling.check()?;
        Ok(Sampler { knobs: sampling.knobs(), rng: ChaCha8Rng::seed_from_u64(sampling.seed) })
    }

    /// By what the next token is drawn.
    pub(crate) fn knobs(&self) -> Knobs {
        self.knobs
    }

    /// The number that the next token is drawn by: 32 random bits.
    pub(crate) fn uniform(&mut self) -> u32 {
        (self.rng.next_u64() >> 32) as u32
    }
}

/// What is wrong with logits of which one is no number that a token could be drawn by.
pub(crate) fn damaged(logits: &[f32]) -> Option<Error> {
    let at = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY)?;
    let message =
        format!("the logit of token {at} is {}: the model's weights are damaged or diverged", logits[at]);
    Some(Error::Config(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sampling = Sampling { temperature: 1.0, seed: 1, ..Sampling::GREEDY };

    #[test]
    fn a_seed_repeats() {
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling { seed, ..ALL }).unwrap();
            (0..20).map(|_| sampler.uniform()).collect::<Vec<_>>()
        };
        assert_eq!(run(4), run(4));
        assert_ne!(run(4), run(5));
    }

    /// What is above 0 and finite in 64 bits is so in 32.
    #[test]
    fn extreme_knobs_stay_possible() {
        assert_eq!(Sampling::GREEDY.knobs(), Knobs::GREEDY);
        for x in [1e-300, 1e300] {
            let sampling = Sampling {
                temperature: x,
                top_p: Some(x.min(1.0)),
                repetition_penalty: x,
                ..Sampling::GREEDY
            };
            let Knobs { temperature, top_p, penalty, .. } = sampling.knobs();
            assert!([temperature, top_p, penalty].iter().all(|x| *x > 0.0 && x.is_finite()), "{x}");
        }
        assert_eq!(
            Sampling { top_k: Some(40), ..ALL }.knobs(),
            Knobs { temperature: 1.0, top_k: 40.0, ..Knobs::GREEDY }
        );
    }

    #[test]
    fn what_cannot_be_drawn_by_is_refused() {
        let refused = [
            (Sampling { temperature: -1.0, ..ALL }, "temperature "),
            (Sampling { temperature: f64::NAN, ..ALL }, "temperature "),
            (Sampling { top_k: Some(0), ..ALL }, "top-k 0: "),
            (Sampling { top_p: Some(0.0), ..ALL }, "top-p "),
            (Sampling { top_p: Some(1.5), ..ALL }, "top-p "),
            (Sampling { repetition_penalty: 0.0, ..ALL }, "repetition-penalty "),
            (Sampling { repetition_penalty: f64::INFINITY, ..ALL }, "repetition-penalty "),
        ];
        for (sampling, sentence) in refused {
            let error = Sampler::new(sampling).unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{error}");
        }
    }

    #[test]
    fn damaged_logits_are_named() {
        let said = |logits: &[f32]| damaged(logits).map(|error| error.to_string()).unwrap_or_default();
        assert!(said(&[0.0, f32::NAN]).contains("the logit of token 1 is NaN"));
        assert!(said(&[f32::INFINITY, 0.0]).contains("the logit of token 0 is inf"));
        assert!(damaged(&[f32::NEG_INFINITY, 0.0]).is_none());
    }
}
