//! All figures of texts beside their references, gathered text by text.

use wikigpt_score::{Bleu, BleuScore, RougeL, rouge_l, squad};

/// Sums.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    texts: u64,
    bleu: Bleu,
    rouge: RougeL,
    exact: u64,
    f1: f64,
}

impl Scores {
    /// Counts a text in. A question that has no answer has an empty one.
    pub fn add(&mut self, hypothesis: &str, references: &[&str]) {
        let references = if references.is_empty() { &[""] } else { references };
        self.texts += 1;
        self.bleu.add(hypothesis, references);
        let rouge = rouge_l(hypothesis, references);
        self.rouge.precision += rouge.precision;
        self.rouge.recall += rouge.recall;
        self.rouge.f += rouge.f;
        let squad = squad::score(hypothesis, references);
        self.exact += u64::from(squad.exact);
        self.f1 += squad.f1;
    }

    /// How many.
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// BLEU of all together.
    pub fn bleu(&self) -> BleuScore {
        self.bleu.score()
    }

    /// The means of ROUGE-L, from 0 to 1.
    pub fn rouge_l(&self) -> RougeL {
        let mean = |sum: f64| sum / self.texts.max(1) as f64;
        let RougeL { precision, recall, f } = self.rouge;
        RougeL { precision: mean(precision), recall: mean(recall), f: mean(f) }
    }

    /// Texts that are a reference, in percent.
    pub fn exact(&self) -> f64 {
        100.0 * self.exact as f64 / self.texts.max(1) as f64
    }

    /// The mean of F1, in percent.
    pub fn f1(&self) -> f64 {
        100.0 * self.f1 / self.texts.max(1) as f64
    }
}
