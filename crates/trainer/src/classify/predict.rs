//! What a model says of texts.

use anyhow::Result;
use wikigpt_dataset::labelled::{Buckets, Chosen};
use wikigpt_gpt::{Evaluator, Trainer};
use wikigpt_ops::Ops;

use super::texts::fill;
use crate::tuning::Batch;

/// A model that gives logits.
pub trait Predictor {
    /// Batches are (B,T) from now on.
    fn reshape(&mut self, B: usize, T: usize) -> wikigpt_gpt::Result;
    /// The logits at some positions of a batch.
    fn logits_at(&mut self, inputs: &[u32], positions: &[usize]) -> wikigpt_gpt::Result<Vec<f32>>;
}

impl<O: Ops> Predictor for Trainer<O> {
    fn reshape(&mut self, B: usize, T: usize) -> wikigpt_gpt::Result {
        Trainer::reshape(self, B, T)
    }

    fn logits_at(&mut self, inputs: &[u32], positions: &[usize]) -> wikigpt_gpt::Result<Vec<f32>> {
        Trainer::logits_at(self, inputs, positions)
    }
}

impl<O: Ops> Predictor for Evaluator<O> {
    fn reshape(&mut self, B: usize, T: usize) -> wikigpt_gpt::Result {
        Evaluator::reshape(self, B, T)
    }

    fn logits_at(&mut self, inputs: &[u32], positions: &[usize]) -> wikigpt_gpt::Result<Vec<f32>> {
        Evaluator::logits_at(self, inputs, positions)
    }
}

/// What a model says of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The most probable label; of several, the first.
    pub label: usize,
    /// Of each label.
    pub probabilities: Vec<f64>,
}

impl Prediction {
    /// The softmax of a text's logits.
    fn of(logits: &[f32]) -> Prediction {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        let label = logits.iter().position(|logit| *logit == largest).unwrap_or(0);
        Prediction { label, probabilities: exp.into_iter().map(|exp| exp / sum).collect() }
    }

    /// −ln of a label's probability.
    pub fn loss(&self, label: usize) -> f64 {
        -self.probabilities[label].max(f64::MIN_POSITIVE).ln()
    }
}

/// What a model says of each text, in batches of at most B texts of like length; nothing if it was to `stop` meanwhile.
pub fn predict<P: Predictor, S: AsRef<[u32]>>(
    model: &mut P,
    texts: &[S],
    B: usize,
    stop: impl Fn() -> bool,
) -> Result<Option<Vec<Prediction>>> {
    let lengths = || texts.iter().map(|text| text.as_ref().len());
    let longest = lengths().max().unwrap_or(0);
    let buckets = Buckets::new(lengths(), longest, B, 0);
    let mut predictions = vec![None; texts.len()];
    let mut batch = Batch::default();
    for Chosen { T, texts: chosen } in buckets.sorted() {
        if stop() {
            return Ok(None);
        }
        fill(&mut batch, T, chosen.iter().map(|text| (texts[*text].as_ref(), None)), &[]);
        let last = |(b, text): (usize, &usize)| b * T + texts[*text].as_ref().len() - 1;
        let positions: Vec<usize> = chosen.iter().enumerate().map(last).collect();
        model.reshape(batch.B, T)?;
        let logits = model.logits_at(&batch.inputs, &positions)?;
        let labels = logits.len() / chosen.len();
        for (text, logits) in chosen.into_iter().zip(logits.chunks_exact(labels)) {
            predictions[text] = Some(Prediction::of(logits));
        }
    }
    Ok(predictions.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_the_softmax() {
        let prediction = Prediction::of(&[1.0, 3.0, 3.0, -500.0]);
        assert_eq!(prediction.label, 1);
        assert!((prediction.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let expected = 1.0 / (2.0 + (-2.0_f64).exp());
        assert!((prediction.probabilities[2] - expected).abs() < 1e-12);
        assert!((prediction.loss(2) + expected.ln()).abs() < 1e-12);
        assert!(prediction.loss(3).is_finite());
    }
}
