//! Texts as tokens.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use wikigpt_dataset::Tokenizer;
use wikigpt_dataset::labelled::{Example, Labels};
use wikigpt_ops::IGNORE;

use crate::fault::bad_input;
use crate::output;
use crate::progress::thousands;
use crate::tuning::Batch;

/// What to do with a text of more tokens than the model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Long {
    /// Take its beginning, and say of how many
    Truncate,
    /// Refuse it
    Refuse,
}

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

/// Fills in a batch of texts, padded to T at the end; where a text ends, its target is its label, if it has one.
pub fn fill<'a>(
    batch: &mut Batch,
    T: usize,
    texts: impl ExactSizeIterator<Item = (&'a [u32], Option<usize>)>,
) {
    batch.reset(texts.len(), T);
    for (b, (tokens, label)) in texts.enumerate() {
        let (start, last) = (b * T, b * T + tokens.len() - 1);
        batch.inputs[start..=last].copy_from_slice(tokens);
        batch.targets[last] = label.map_or(IGNORE, |label| label as u32);
        batch.tokens += tokens.len();
    }
}
