//! How far a run has come, and when to stop looking for a better model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Score;
use crate::metrics::null_is_nan;

/// How far fine-tuning has come: with the parameters and moments, all that the next step depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done; the number of the step that comes next.
    pub step: u64,
    /// Updates made: steps without those that were skipped.
    pub updates: u64,
    /// Micro-batches done.
    pub micro_batches: u64,
    /// The last validation; none before the first.
    pub measured: Option<Measured>,
    /// The validation that was the best.
    pub best: Option<Best>,
    /// Validations since then.
    pub since: u64,
}

/// A validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Steps done before it.
    pub step: u64,
    /// The loss; null where it is not finite.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Further figures, those that are finite.
    pub scores: BTreeMap<String, f64>,
}

/// The best validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done before it.
    pub step: u64,
    /// The figure that others must be above.
    pub merit: f64,
}

impl State {
    /// Whether the model was measured after the last step.
    pub fn is_measured(&self) -> bool {
        self.measured.as_ref().is_some_and(|measured| measured.step == self.step)
    }

    /// Takes the last step's score in: the best if it is better than all before it.
    pub fn judge(&mut self, score: &Score) {
        let Score { loss, scores, merit, .. } = score;
        let scores = scores.iter().filter(|(_, score)| score.is_finite());
        let scores = scores.map(|(name, score)| (name.clone(), *score)).collect();
        self.measured = Some(Measured { step: self.step, loss: *loss, scores });
        // What is no number is never better.
        let counts = loss.is_finite() && merit.is_finite();
        if counts && self.best.is_none_or(|best| *merit > best.merit) {
            self.best = Some(Best { step: self.step, merit: *merit });
            self.since = 0;
        } else {
            self.since += 1;
        }
    }

    /// Whether there is no hope left: `patience` validations in a row were no better. Of 0 there is no end.
    pub fn is_enough(&self, patience: u64) -> bool {
        patience > 0 && self.since >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(merits: &[f64]) -> State {
        let mut state = State::default();
        for (step, merit) in (1..).zip(merits) {
            state.step = step;
            state.judge(&Score { loss: 1.0, targets: 1, scores: BTreeMap::new(), merit: *merit });
        }
        state
    }

    #[test]
    fn the_first_of_equals_is_the_best() {
        let state = judged(&[0.3, 0.5, 0.5, 0.4]);
        assert_eq!((state.best, state.since), (Some(Best { step: 2, merit: 0.5 }), 2));
        assert!(state.is_measured() && state.is_enough(2) && !state.is_enough(3) && !state.is_enough(0));
        assert_eq!(judged(&[0.3, 0.5, 0.6]).since, 0);
        assert_eq!(judged(&[f64::NAN, f64::INFINITY]).best, None);
        assert_eq!(judged(&[f64::NAN, -2.0, f64::NAN]).best, Some(Best { step: 2, merit: -2.0 }));
    }

    /// Or a tie would be broken by going on.
    #[test]
    fn what_is_saved_is_read_back_bit_for_bit() {
        let lost =
            serde_json::to_string(&Measured { step: 1, loss: f64::NAN, scores: BTreeMap::new() }).unwrap();
        assert!(serde_json::from_str::<Measured>(&lost).unwrap().loss.is_nan(), "{lost}");
        for n in 1..2000_u64 {
            let merit = -(n as f64 / 7.0).sqrt().sin() / 3.0;
            let state = State { best: Some(Best { step: n, merit }), ..judged(&[merit]) };
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state, "{text}");
        }
    }
}
