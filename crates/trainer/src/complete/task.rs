//! Completing as a task of fine-tuning.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wikigpt_dataset::Tokenizer;
use wikigpt_dataset::completion::{Packing, one_a_row, pack};
use wikigpt_gpt::{Sampling, Trainer};
use wikigpt_ops::Ops;

use super::Part;
use super::marked::marked;
use super::rows::fill;
use super::writing::{Report, Writer, line};
use crate::fault::BadInput;
use crate::tuning::{Batch, Score, Task};
use crate::{folder, output, signals};

/// The file with all figures, in a run's folder.
const REPORT: &str = "completion.json";

/// Lengths that rows of one example each are padded to, at most.
const LENGTHS: usize = 16;

/// What is learned of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learn {
    /// The completion only
    Completion,
    /// The prompt too
    All,
}

/// What decides which model is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The mean loss on the validation examples, the lower the better
    Loss,
    /// BLEU of what the model writes after their prompts
    Bleu,
    /// ROUGE-L of it
    Rouge,
    /// How much of it is right to the letter, as SQuAD counts it
    Exact,
    /// How much of it is right by words, as SQuAD counts it
    F1,
}

impl Metric {
    /// The higher, the better; without what the model writes, the loss decides.
    fn merit(self, loss: f64, written: Option<&Report>) -> f64 {
        match (self, written) {
            (Metric::Loss, _) | (_, None) => -loss,
            (Metric::Bleu, Some(report)) => report.bleu,
            (Metric::Rouge, Some(report)) => report.rouge_l,
            (Metric::Exact, Some(report)) => report.exact,
            (Metric::F1, Some(report)) => report.f1,
        }
    }
}

/// Examples by what they are for.
pub struct Parts {
    pub train: Part,
    pub valid: Part,
    /// Completed by the best model.
    pub test: Option<Part>,
}

/// The prompts that the model completes to be measured.
pub struct Prompts {
    /// Those of the first validation examples, at every validation; none where the loss decides.
    pub valid: Vec<Vec<u32>>,
    /// Those of the test examples, by the best model.
    pub test: Vec<Vec<u32>>,
    /// The token that ends a completion.
    pub end: u32,
    /// Tokens that a completion has at most.
    pub most: usize,
}

/// Prompts to learn to complete.
pub struct Completion {
    parts: Parts,
    tokenizer: Tokenizer,
    /// Rows of a batch.
    B: usize,
    /// Positions of a row.
    T: usize,
    packed: bool,
    learn: Learn,
    seed: u64,
    train: Packing,
    valid: Packing,
    metric: Metric,
    prompts: Prompts,
}

impl Completion {
    /// Batches of at most B rows of T positions.
    pub fn new(
        parts: Parts,
        tokenizer: Tokenizer,
        [B, T]: [usize; 2],
        packed: bool,
        learn: Learn,
        seed: u64,
        metric: Metric,
        prompts: Prompts,
    ) -> Completion {
        let lay = |part: &Part, order| {
            if packed { pack(&part.lengths(), T, order) } else { one_a_row(&part.lengths(), T, order) }
        };
        let (train, valid) = (lay(&parts.train, Some((seed, 0))), lay(&parts.valid, None));
        Completion { parts, tokenizer, B, T, packed, learn, seed, train, valid, metric, prompts }
    }

    /// What packing saves, for a person.
    pub fn describe(&self) -> String {
        let Packing { rows, .. } = &self.train;
        let sequences = self.parts.train.sequences.len();
        if !self.packed {
            return format!("rows    {sequences}, an example each");
        }
        format!(
            "rows    {} for {sequences} examples: {:.1} in each, {:.1} % of the positions are padding ({:.1} % with an example in each)",
            rows.len(),
            sequences as f64 / rows.len() as f64,
            100.0 * self.train.waste(),
            100.0 * one_a_row(&self.parts.train.lengths(), self.T, None).waste()
        )
    }

    /// A batch of rows.
    fn fill(&self, batch: &mut Batch, part: &Part, rows: &[Vec<usize>]) {
        // Rows of one example each are padded to about the longest of the batch, packed ones are full. There are few lengths: a
        // device records a step of each.
        let longest = |row: &Vec<usize>| row.iter().map(|i| part.sequences[*i].positions()).sum();
        let T = match self.packed {
            true => self.T,
            false => {
                let longest: usize = rows.iter().map(longest).max().unwrap_or(1);
                longest.next_multiple_of(self.T.div_ceil(LENGTHS)).min(self.T)
            }
        };
        fill(batch, rows, T, &part.sequences, self.learn == Learn::All);
    }

    /// What the model writes after prompts, a line each; nothing if a signal came meanwhile.
    fn write<O: Ops>(&self, trainer: &mut Trainer<O>, prompts: &[Vec<u32>]) -> Result<Option<Vec<String>>> {
        let Prompts { end, most, .. } = self.prompts;
        let (tokenizer, context) = (&self.tokenizer, self.T);
        let writer = Writer { tokenizer, end, most, context, sampling: Sampling::GREEDY };
        let mut generator = trainer.generator(self.slots())?;
        let written = writer.write(&mut generator, prompts)?;
        let is_whole = written.len() == prompts.len();
        Ok(is_whole.then(|| written.iter().map(|text| line(text)).collect()))
    }
}

impl Task for Completion {
    const NAME: &'static str = "complete";

    fn shape(&self) -> (usize, usize) {
        (self.B, self.T)
    }

    fn slots(&self) -> usize {
        self.B.min(self.prompts.valid.len().max(self.prompts.test.len()))
    }

    fn batches(&self) -> u64 {
        self.train.rows.len().div_ceil(self.B) as u64
    }

    /// Rows stay as they are; which of them a batch has is new in each epoch.
    fn batch(&mut self, epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        let first = index as usize * self.B;
        let places = first..self.train.rows.len().min(first + self.B);
        let chosen: Vec<Vec<usize>> =
            places.map(|place| self.train.row(place, self.seed, epoch).clone()).collect();
        self.fill(batch, &self.parts.train, &chosen);
        if batch.weight() == 0.0 {
            let what = "nothing to learn in it: every completion is empty or was cut off";
            return Err(BadInput::new(format!("batch {index} of epoch {epoch} has {what}")).into());
        }
        if (epoch, index) == (0, 0) {
            output::note(&marked(batch, &self.tokenizer));
        }
        Ok(())
    }

    fn evaluate<O: Ops>(&mut self, trainer: &mut Trainer<O>) -> Result<Option<Score>> {
        let mut batch = Batch::default();
        let (mut sum, mut count) = (0.0, 0.0);
        for rows in self.valid.rows.chunks(self.B) {
            if signals::stop_requested() {
                return Ok(None);
            }
            self.fill(&mut batch, &self.parts.valid, rows);
            trainer.reshape(batch.B, batch.T)?;
            let weight = batch.weight();
            sum += trainer.forward(batch.view())? * weight;
            count += weight;
        }
        let loss = sum / count;
        let mut scores = BTreeMap::new();
        let mut report = None;
        if !self.prompts.valid.is_empty() {
            let Some(written) = self.write(trainer, &self.prompts.valid)? else { return Ok(None) };
            let of = Report::new(written.iter().map(String::as_str).zip(&self.parts.valid.examples));
            let figures = [("bleu", of.bleu), ("rouge_l", of.rouge_l), ("exact", of.exact), ("f1", of.f1)];
            scores.extend(figures.map(|(name, figure)| (name.to_owned(), figure)));
            report = Some(of);
        }
        let merit = self.metric.merit(loss, report.as_ref());
        Ok(Some(Score { loss, targets: count as u64, scores, merit }))
    }

    fn finish<O: Ops>(&mut self, trainer: &mut Trainer<O>, run: &Path) -> Result<Option<String>> {
        let next = format!("next: echo \"a prompt\" | wikigpt complete {}", run.display());
        let Some(test) = &self.parts.test else { return Ok(Some(next)) };
        let Some(written) = self.write(trainer, &self.prompts.test)? else { return Ok(None) };
        let file = run.join("completions-test.txt");
        folder::write_file(&file, (written.join("\n") + "\n").as_bytes())?;
        let report = Report::new(written.iter().map(String::as_str).zip(&test.examples));
        folder::write_file(&run.join(REPORT), format!("{:#}\n", json!({ "test": report })).as_bytes())?;
        let mut text = format!("test: {}\n", report.lines());
        for (example, written) in test.examples.iter().zip(&written).take(3) {
            let prompt = ends(&line(&example.prompt));
            writeln!(text, "  {prompt}\n    written: {written}\n    right:   {}", line(&example.completion))?;
        }
        Ok(Some(text + &format!("  {}\n{next}", file.display())))
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

/// A text's two ends, if it is long.
fn ends(text: &str) -> String {
    let cut = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let count = text.chars().count();
    if count <= 120 {
        return text.to_owned();
    }
    format!("{} … {}", &text[..cut(60)], &text[cut(count - 60)..])
}

#[cfg(test)]
mod tests {
    use wikigpt_dataset::TokenizerSpec;
    use wikigpt_dataset::completion::Sequence;

    use super::*;

    fn completion(sequences: Vec<Sequence>) -> Completion {
        let part = || Part { name: String::new(), examples: Vec::new(), sequences: sequences.clone() };
        let parts = Parts { train: part(), valid: part(), test: None };
        let tokenizer = Tokenizer::build(&TokenizerSpec::Bytes, "").unwrap();
        let prompts = Prompts { valid: Vec::new(), test: Vec::new(), end: 10, most: 4 };
        Completion::new(parts, tokenizer, [2, 8], true, Learn::Completion, 1, Metric::Loss, prompts)
    }

    #[test]
    fn each_metric_has_its_figure() {
        let signature = String::new();
        let report =
            Report { texts: 1, bleu: 1.0, bleu_signature: signature, rouge_l: 2.0, exact: 3.0, f1: 4.0 };
        let metrics = [Metric::Loss, Metric::Bleu, Metric::Rouge, Metric::Exact, Metric::F1];
        assert_eq!(metrics.map(|metric| metric.merit(5.0, Some(&report))), [-5.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn long_texts_show_their_ends() {
        assert_eq!(ends("kurz"), "kurz");
        let long = "ä".repeat(70) + &"ö".repeat(70);
        assert_eq!(ends(&long), format!("{} … {}", "ä".repeat(60), "ö".repeat(60)));
    }

    #[test]
    fn a_batch_with_nothing_to_learn_is_refused() {
        let sequence = |len: u32, prompt| Sequence { tokens: (0..len).collect(), prompt };
        let mut batch = Batch::default();
        let mut good = completion(vec![sequence(6, 3), sequence(6, 6)]);
        good.batch(0, 0, &mut batch).unwrap();
        assert_eq!(batch.weight(), 3.0);
        let mut bad = completion(vec![sequence(6, 6), sequence(4, 4)]);
        let error = bad.batch(0, 0, &mut batch).unwrap_err().to_string();
        assert!(error.contains("batch 0 of epoch 0 has nothing to learn in it"), "{error}");
    }

    #[test]
    fn an_epoch_has_every_example_once() {
        let sequence = |n: u32| Sequence { tokens: vec![n; 2 + n as usize % 5], prompt: 1 };
        let mut task = completion((0..23).map(sequence).collect());
        for epoch in 0..3 {
            let mut seen = Vec::new();
            for index in 0..task.batches() {
                let mut batch = Batch::default();
                task.batch(epoch, index, &mut batch).unwrap();
                let at_start = |n: &usize| batch.starts[*n] as usize == n % batch.T;
                let texts = (0..batch.B * batch.T).filter(at_start);
                // Padding begins nothing that is learned.
                seen.extend(
                    texts.filter(|n| batch.targets[*n] != wikigpt_ops::IGNORE).map(|n| batch.inputs[n]),
                );
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..23), "epoch {epoch}");
        }
    }
}
