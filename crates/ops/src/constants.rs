//! The constants that ops take: dropout, AdamW, and how tokens are drawn.

use crate::philox::philox4x32_10;
use crate::{Error, Result};

/// Dropout's probability and the key from which forward and backward derive the same mask.
///
/// Element `i` is kept when word `i mod 4` of Philox4x32-10 (counter `[i / 4 (low), i / 4 (high), site, 0]`, key `seed`) is at least
/// `p·2³²`; kept elements are scaled by 1/(1 − p). Nothing is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping an element, in [0, 1). With 0 the op is the identity.
    pub p: f32,
    /// Changes every micro-batch.
    pub seed: u64,
    /// Which dropout in the model: no two share a mask.
    pub site: u32,
}

impl Dropout {
    /// No dropout.
    pub const NONE: Dropout = Dropout { p: 0.0, seed: 0, site: 0 };

    /// Refuses a probability outside [0, 1), on behalf of `op`.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(self, op: &'static str) -> Result {
        if (0.0..1.0).contains(&self.p) {
            return Ok(());
        }
        let message = format!("the dropout probability must be at least 0 and less than 1, got {}", self.p);
        Err(Error::Argument { op, message })
    }

    /// The least word with which an element is kept: p·2³², rounded up.
    pub fn threshold(self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0).ceil() as u32
    }

    /// What kept elements are multiplied by: 1/(1 − p).
    pub fn scale(self) -> f64 {
        1.0 / (1.0 - f64::from(self.p))
    }

    /// The random words of elements `4·block` to `4·block + 3`.
    pub fn words(self, block: u64) -> [u32; 4] {
        let counter = [block as u32, (block >> 32) as u32, self.site, 0];
        philox4x32_10(counter, [self.seed as u32, (self.seed >> 32) as u32])
    }

    /// Whether element `index` is kept. One generator call per element: a backend that walks a tensor asks for
    /// [`words`](Dropout::words) and uses all four.
    pub fn keep(self, index: u64) -> bool {
        self.words(index / 4)[(index % 4) as usize] >= self.threshold()
    }

    /// What element `index` is multiplied by: 0 or [`scale`](Dropout::scale).
    pub fn factor(self, index: u64) -> f64 {
        if self.p == 0.0 || self.keep(index) { self.scale() } else { 0.0 }
    }
}

/// The constants of one AdamW update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay; 0 for tensors of one dimension.
    pub weight_decay: f32,
    /// The update's number, from 1, for the bias corrections 1 − βᵗ.
    pub step: u64,
    /// The largest global gradient norm let through, if any: larger gradients are scaled down to it.
    pub clip: Option<f32>,
    /// How master weights become parameters of less precision.
    pub rounding: Rounding,
}

/// How a master weight is rounded to the working precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// To one of the two neighbours, the nearer the likelier, so that the mean of many roundings is the weight itself
    /// (Gupta et al. 2015).
    ///
    /// The lower 16 bits of the word that [`stochastic_bits`] gives are added to the weight's bits, then the lower 16 are cut off.
    Stochastic {
        /// Changes nothing else than the rounding.
        seed: u64,
    },
}

/// What stochastic rounding adds to the bits of element `index` of an allocation at an update: word `index mod 4` of
/// Philox4x32-10 (counter `[index / 4 (low), index / 4 (high), step (low), 1]`, key `seed`), its lower 16 bits. The counter's last
/// number keeps the words apart from [`Dropout`]'s.
pub fn stochastic_bits(seed: u64, step: u64, index: u64) -> u32 {
    let block = index / 4;
    let counter = [block as u32, (block >> 32) as u32, step as u32, 1];
    philox4x32_10(counter, [seed as u32, (seed >> 32) as u32])[(index % 4) as usize] & 0xffff
}

impl Default for AdamW {
    /// What GPT models are usually trained with, at the first update.
    fn default() -> AdamW {
        AdamW {
            lr: 3e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 1,
            clip: Some(1.0),
            rounding: Rounding::Nearest,
        }
    }
}

impl AdamW {
    /// Refuses constants with which the update is not defined, on behalf of `op`: a step 0, a β outside [0, 1), a `lr`, `eps` or
    /// `weight_decay` that is negative or not finite, a clip that is not above 0.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the constant.
    pub fn check(self, op: &'static str) -> Result {
        let refuse = |message: String| Err(Error::Argument { op, message });
        if self.step == 0 {
            return refuse("step must be at least 1".into());
        }
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return refuse(format!("{name} must be at least 0 and less than 1, got {beta}"));
            }
        }
        for (name, x) in [("lr", self.lr), ("eps", self.eps), ("weight_decay", self.weight_decay)] {
            if !(0.0..f32::INFINITY).contains(&x) {
                return refuse(format!("{name} must be at least 0 and finite, got {x}"));
            }
        }
        match self.clip {
            Some(clip) if clip.is_nan() || clip <= 0.0 => refuse(format!("clip must be above 0, got {clip}")),
            _ => Ok(()),
        }
    }

    /// The bias corrections 1 − β₁ᵗ and 1 − β₂ᵗ.
    pub fn corrections(self) -> (f64, f64) {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        (correction(self.beta1), correction(self.beta2))
    }
}

/// How a row's token is drawn: a row of `knobs` in [`Ops::sample`](crate::Ops::sample).
///
/// Numbers that are not what is said here draw a token that is unspecified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// Divides the logits; 0 takes the likeliest token, the first of several. Not negative, and finite.
    pub temperature: f32,
    /// Only the k likeliest tokens are drawn from, and those as likely as the k-th: a whole number, 0 for all.
    pub top_k: f32,
    /// Only the fewest likeliest tokens whose probabilities sum to at least p are drawn from, and those as likely as the last of
    /// them. Above 0; 1 for all.
    pub top_p: f32,
    /// What the logits of tokens that the text holds already are divided or multiplied by. Above 0, and finite; 1 for nothing of this.
    pub penalty: f32,
}

impl Knobs {
    /// Numbers of a row.
    pub const LEN: usize = 4;

    /// Always the likeliest token.
    pub const GREEDY: Knobs = Knobs { temperature: 0.0, top_k: 0.0, top_p: 1.0, penalty: 1.0 };

    /// As a row holds them.
    pub fn row(self) -> [f32; Knobs::LEN] {
        [self.temperature, self.top_k, self.top_p, self.penalty]
    }
}

#[cfg(test)]
mod tests {
    use super::{AdamW, Dropout, Rounding};

    /// Of n elements, n·(1 − p) are kept, give or take four deviations of a binomial distribution.
    #[test]
    fn as_many_are_kept_as_the_probability_says() {
        let n = 100_000_u64;
        for p in [0.0, 0.1, 0.5, 0.9] {
            for (seed, site) in [(1, 0), (u64::MAX, u32::MAX), (1 << 32, 7)] {
                let dropout = Dropout { p, seed, site };
                let kept = (0..n).filter(|i| dropout.keep(*i)).count() as f64;
                let p = f64::from(p);
                let deviation = (n as f64 * p * (1.0 - p)).sqrt();
                assert!((kept - n as f64 * (1.0 - p)).abs() <= 4.0 * deviation, "{dropout:?} kept {kept}");
            }
        }
    }

    /// Two masks of p = 0.5 agree in half of the elements, if seed, site or the index's high word differ.
    #[test]
    fn masks_are_independent() {
        let one = Dropout { p: 0.5, seed: 3, site: 5 };
        let others = [
            (Dropout { seed: 4, ..one }, 0),
            (Dropout { seed: 3 + (1 << 32), ..one }, 0),
            (Dropout { site: 6, ..one }, 0),
            (one, 1 << 34),
            (one, 1),
        ];
        let n = 10_000_u64;
        for (other, offset) in others {
            let agree = (0..n).filter(|i| one.keep(*i) == other.keep(i + offset)).count() as f64;
            assert!((agree - 5e3).abs() < 200.0, "{one:?} and {other:?} + {offset} agree in {agree}");
        }
    }

    #[test]
    fn words_are_what_keep_reads() {
        let dropout = Dropout { p: 0.3, seed: 9, site: 2 };
        for i in [0, 1, 2, 3, 4, 1_000_003, (1 << 34) + 2] {
            let word = dropout.words(i / 4)[i as usize % 4];
            assert_eq!(dropout.keep(i), word >= dropout.threshold());
            assert_eq!(dropout.factor(i), if dropout.keep(i) { dropout.scale() } else { 0.0 });
        }
    }

    #[test]
    fn extreme_probabilities() {
        let threshold = |p: f32| Dropout { p, ..Dropout::NONE }.threshold();
        assert_eq!(threshold(0.0), 0);
        assert_eq!(threshold(f32::MIN_POSITIVE), 1);
        assert_eq!(threshold(0.5), 1 << 31);
        // The largest f32 below 1: 1 − 2⁻²⁴.
        assert_eq!(threshold(1.0 - f32::EPSILON / 2.0), u32::MAX - 255);
    }

    #[test]
    fn corrections_grow_to_one() {
        let at = |step| {
            let constants = AdamW {
                lr: 0.0,
                beta1: 0.5,
                beta2: 0.75,
                eps: 0.0,
                weight_decay: 0.0,
                step,
                clip: None,
                rounding: Rounding::Nearest,
            };
            constants.corrections()
        };
        assert_eq!(at(1), (0.5, 0.25));
        assert_eq!(at(2), (0.75, 0.4375));
        assert_eq!(at(u64::MAX), (1.0, 1.0));
    }
}
