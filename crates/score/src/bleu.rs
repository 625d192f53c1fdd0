//! BLEU (Papineni et al. 2002) of a whole corpus, as sacreBLEU (Post 2018) computes it by default.
//!
//! With c(n) the n-grams of the hypotheses that their references have too (each at most as often as in the reference that
//! has it most), t(n) all their n-grams, h the hypotheses' tokens and r those of the references (of several, the one closest in
//! length; the shorter of two as close):
//!
//! - p(n) = c(n)/t(n), and where c(n) is 0, 1/(2ᵏ·t(n)) for the k-th such n: smoothing `exp` (Chen and Cherry 2014);
//! - BLEU = 100 · min(1, exp(1 − r/h)) · (p(1)·p(2)·p(3)·p(4))^¼.
//!
//! It is 0 where no token at all is right, and where no hypothesis has four tokens.

use std::collections::HashMap;
use std::fmt;

use crate::text::trim_end;
use crate::tokenizer_13a::tokenize_13a;

/// The longest n-grams that count.
const ORDER: usize = 4;

/// Counts of a corpus that grows by a segment at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    correct: [u64; ORDER],
    total: [u64; ORDER],
    hypothesis_length: u64,
    reference_length: u64,
    /// The fewest and most references that a segment had.
    references: Option<(usize, usize)>,
}

/// BLEU and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct BleuScore {
    /// From 0 to 100.
    pub score: f64,
    /// p(1) to p(4) in percent, smoothed; 0 from the first n on that the hypotheses have no n-grams of.
    pub precisions: [f64; ORDER],
    /// c(1) to c(4).
    pub correct: [u64; ORDER],
    /// t(1) to t(4).
    pub total: [u64; ORDER],
    /// min(1, exp(1 − r/h)).
    pub brevity_penalty: f64,
    /// h.
    pub hypothesis_length: u64,
    /// r.
    pub reference_length: u64,
    /// How it was computed, in sacreBLEU's words.
    pub signature: String,
}

impl Bleu {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a segment in.
    ///
    /// # Panics
    /// Without a reference.
    pub fn add(&mut self, hypothesis: &str, references: &[&str]) {
        assert!(!references.is_empty(), "a segment needs a reference");
        let hypothesis = tokenize_13a(trim_end(hypothesis));
        let references: Vec<Vec<String>> =
            references.iter().map(|reference| tokenize_13a(trim_end(reference))).collect();
        for n in 1..=ORDER {
            let mut most: HashMap<&[String], u64> = HashMap::new();
            for reference in &references {
                for (ngram, count) in ngrams(reference, n) {
                    let most = most.entry(ngram).or_default();
                    *most = count.max(*most);
                }
            }
            for (ngram, count) in ngrams(&hypothesis, n) {
                self.total[n - 1] += count;
                self.correct[n - 1] += count.min(most.get(ngram).copied().unwrap_or(0));
            }
        }
        let closest =
            references.iter().map(Vec::len).min_by_key(|len| (len.abs_diff(hypothesis.len()), *len));
        self.hypothesis_length += hypothesis.len() as u64;
        self.reference_length += closest.unwrap_or(0) as u64;
        let (fewest, most) = self.references.unwrap_or((references.len(), references.len()));
        self.references = Some((fewest.min(references.len()), most.max(references.len())));
    }

    /// The corpus's BLEU.
    pub fn score(&self) -> BleuScore {
        let (h, r) = (self.hypothesis_length as f64, self.reference_length as f64);
        let brevity_penalty = match (h < r, h > 0.0) {
            (false, _) => 1.0,
            (true, true) => (1.0 - r / h).exp(),
            (true, false) => 0.0,
        };
        let mut precisions = [0.0; ORDER];
        if self.correct.iter().any(|correct| *correct > 0) {
            let mut smoothing = 1.0;
            let counts = self.correct.iter().zip(&self.total);
            for (precision, (correct, total)) in
                precisions.iter_mut().zip(counts.take_while(|(_, total)| **total > 0))
            {
                *precision = match correct {
                    0 => {
                        smoothing *= 2.0;
                        100.0 / (smoothing * *total as f64)
                    }
                    correct => 100.0 * *correct as f64 / *total as f64,
                };
            }
        }
        let mean_log = precisions.iter().map(|precision| precision.ln()).sum::<f64>() / ORDER as f64;
        BleuScore {
            // The logarithm of 0 is −∞, and so the score 0.
            score: brevity_penalty * mean_log.exp(),
            precisions,
            correct: self.correct,
            total: self.total,
            brevity_penalty,
            hypothesis_length: self.hypothesis_length,
            reference_length: self.reference_length,
            signature: self.signature(),
        }
    }

    fn signature(&self) -> String {
        let references = match self.references {
            Some((fewest, most)) if fewest == most => most.to_string(),
            Some(_) => "var".to_owned(),
            None => "0".to_owned(),
        };
        let version = env!("CARGO_PKG_VERSION");
        format!("nrefs:{references}|case:mixed|eff:no|tok:13a|smooth:exp|version:wikigpt-{version}")
    }
}

impl fmt::Display for BleuScore {
    /// sacreBLEU's line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BleuScore { score, brevity_penalty, hypothesis_length, reference_length, .. } = self;
        let precisions = self.precisions.map(|precision| format!("{precision:.1}")).join("/");
        let ratio = match reference_length {
            0 => 0.0,
            length => *hypothesis_length as f64 / *length as f64,
        };
        write!(
            f,
            "BLEU|{} = {score:.2} {precisions} (BP = {brevity_penalty:.3} ratio = {ratio:.3} hyp_len = {hypothesis_length} \
             ref_len = {reference_length})",
            self.signature
        )
    }
}

/// How often each n-gram stands in a segment.
fn ngrams(tokens: &[String], n: usize) -> HashMap<&[String], u64> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(n) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}
