//! Texts as tokens.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use wikigpt_dataset::Tokenizer;
use wikigpt_dataset::labelled::{Example, Labels};
use wikigpt_ops::IGNORE;

use crate::fault::bad_input;
use crate::flags::Long;
use crate::output;
use crate::progress::thousands;
use crate::tuning::Batch;

/// How texts become tokens.
pub struct Texts<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Tokens of a text, at most.
    pub max_length: usize,
    pub long: Long,
}

impl Texts<'_> {
    /// The tokens of a text, and whether they were cut; `place` says where it is from.
    ///
    /// # Errors
    /// Bad input where the text has no token, or more than it may.
    pub fn encode(&self, text: &str, place: impl Fn() -> String) -> Result<(Vec<u32>, bool)> {
        let mut tokens = self.tokenizer.encode(text)?;
        let (len, most) = (tokens.len(), self.max_length);
        if len == 0 {
            bad_input!("{}: the text has no token", place());
        }
        if len <= most {
            return Ok((tokens, false));
        }
        if self.long == Long::Refuse {
            bad_input!(
                "{}: the text has {len} tokens, of which {most} can be taken (--long refuse)",
                place()
            );
        }
        tokens.truncate(most);
        Ok((tokens, true))
    }
}

/// A file's texts.
pub struct Set {
    pub path: PathBuf,
    /// Each text's tokens: one at least.
    pub tokens: Vec<Vec<u32>>,
    /// Each text's label, as a number.
    pub labels: Vec<usize>,
    /// Each text's line in the file.
    pub lines: Vec<u64>,
}

impl Set {
    /// Turns a file's examples into tokens; tells a person how many were cut.
    pub fn new(path: &Path, examples: &[Example], labels: &Labels, texts: &Texts) -> Result<Set> {
        let numbers = labels.numbers(path, examples)?;
        let mut tokens = Vec::with_capacity(examples.len());
        let mut cut = 0;
        for example in examples {
            let place = || format!("{}: line {}", path.display(), example.line);
            let (ids, was_cut) = texts.encode(&example.text, place)?;
            tokens.push(ids);
            cut += u64::from(was_cut);
        }
        if cut > 0 {
            let (all, most) = (thousands(examples.len() as u64), texts.max_length);
            let path = path.display();
            output::note(&format!(
                "{path}: {} of {all} texts are longer than {most} tokens and were cut",
                thousands(cut)
            ));
        }
        let lines = examples.iter().map(|example| example.line).collect();
        Ok(Set { path: path.to_path_buf(), tokens, labels: numbers, lines })
    }

    /// Texts of each label.
    pub fn counts(&self, labels: usize) -> Vec<u64> {
        let mut counts = vec![0; labels];
        self.labels.iter().for_each(|label| counts[*label] += 1);
        counts
    }
}

/// What decides how much a text counts in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// Every text counts alike
    None,
    /// Every label counts alike: its texts count n/(labels × its own number)
    Balanced,
}

impl ClassWeights {
    /// What the loss of a label's texts is multiplied by; nothing where all count alike.
    pub fn of(self, set: &Set, labels: usize) -> Vec<f32> {
        let n = set.labels.len() as f64;
        match self {
            ClassWeights::None => Vec::new(),
            ClassWeights::Balanced => {
                set.counts(labels).iter().map(|count| (n / (labels as f64 * *count as f64)) as f32).collect()
            }
        }
    }
}

/// Fills in a batch of texts, padded to T at the end; where a text ends, its target is its label, if it has one. `weights` are the
/// labels', or empty.
pub fn fill<'a>(
    batch: &mut Batch,
    T: usize,
    texts: impl ExactSizeIterator<Item = (&'a [u32], Option<usize>)>,
    weights: &[f32],
) {
    batch.reset(texts.len(), T);
    if !weights.is_empty() {
        batch.weights.resize(batch.inputs.len(), 0.0);
    }
    for (b, (tokens, label)) in texts.enumerate() {
        let (start, last) = (b * T, b * T + tokens.len() - 1);
        batch.inputs[start..=last].copy_from_slice(tokens);
        batch.targets[last] = label.map_or(IGNORE, |label| label as u32);
        if let Some(weight) = label.and_then(|label| weights.get(label)) {
            batch.weights[last] = *weight;
        }
        batch.tokens += tokens.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_padded_and_its_targets_are_the_last_tokens() {
        let texts: [(&[u32], Option<usize>); 3] = [(&[7, 8], Some(1)), (&[9, 9, 9], Some(0)), (&[5], None)];
        let mut batch = Batch::default();
        fill(&mut batch, 3, texts.into_iter(), &[]);
        assert_eq!((batch.B, batch.T, batch.tokens), (3, 3, 6));
        assert_eq!(batch.inputs, [7, 8, 0, 9, 9, 9, 5, 0, 0]);
        let n = IGNORE;
        assert_eq!(batch.targets, [n, 1, n, n, n, 0, n, n, n]);
        assert_eq!(batch.weight(), 2.0);
        fill(&mut batch, 3, texts.into_iter(), &[0.5, 3.0]);
        assert_eq!(batch.weights, [0.0, 3.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(batch.weight(), 3.5);
    }

    #[test]
    fn balanced_labels_weigh_the_same() {
        let labels = vec![0, 0, 0, 1, 2, 2];
        let set = Set { path: "x".into(), tokens: vec![vec![1]; 6], lines: vec![1; 6], labels };
        assert_eq!(ClassWeights::Balanced.of(&set, 3), [2.0 / 3.0, 2.0, 1.0]);
        assert!(ClassWeights::None.of(&set, 3).is_empty());
    }
}
