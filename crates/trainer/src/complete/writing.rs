//! Letting a model write completions, and measuring them.

use std::ops::ControlFlow;

use anyhow::Result;
use serde::Serialize;
use wikigpt_dataset::Tokenizer;
use wikigpt_dataset::completion::Example;
use wikigpt_gpt::{Generator, Job, Sampling, write};
use wikigpt_ops::Ops;

use crate::scores::Scores;
use crate::signals;

/// Writes the completions of prompts.
pub struct Writer<'a> {
    pub tokenizer: &'a Tokenizer,
    /// The token that ends a completion.
    pub end: u32,
    /// Tokens that a completion has at most; it ends at the context's end too.
    pub most: usize,
    /// The model's context.
    pub context: usize,
    /// Each prompt has random numbers of its own: the seed is the first one's.
    pub sampling: Sampling,
}

impl Writer<'_> {
    /// The completions of prompts, as many at once as the generator has slots. If a signal comes, those of the first prompts only.
    pub fn write<O: Ops>(&self, generator: &mut Generator<O>, prompts: &[Vec<u32>]) -> Result<Vec<String>> {
        let mut written: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
        let mut is_whole = vec![false; prompts.len()];
        // The last token written is no input.
        let most: Vec<usize> =
            prompts.iter().map(|prompt| self.most.min(self.context + 1 - prompt.len())).collect();
        let jobs = prompts.iter().zip(&most).enumerate().map(|(number, (prompt, most))| {
            let seed = self.sampling.seed.wrapping_add(number as u64);
            Job { prompt: prompt.clone(), sampling: Sampling { seed, ..self.sampling }, most: *most }
        });
        write(generator, jobs.take_while(|_| !signals::stop_requested()), |number, token| {
            let is_end = token == self.end;
            if !is_end {
                written[number].push(token);
            }
            is_whole[number] = is_end || written[number].len() == most[number];
            if is_end || signals::stop_requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let whole = written.iter().zip(is_whole).take_while(|(_, is_whole)| *is_whole);
        Ok(whole.map(|(written, _)| self.text(written)).collect())
    }

    /// A completion's text, without white space around it.
    fn text(&self, written: &[u32]) -> String {
        String::from_utf8_lossy(&self.tokenizer.decode(written)).trim().to_owned()
    }
}

/// How good completions are.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub texts: u64,
    pub bleu: f64,
    /// How BLEU was computed, in sacreBLEU's words.
    pub bleu_signature: String,
    /// The mean F, in percent.
    pub rouge_l: f64,
    /// In percent, as SQuAD counts it.
    pub exact: f64,
    pub f1: f64,
}

impl Report {
    /// Measures completions beside what examples say is right.
    pub fn new<'a>(pairs: impl Iterator<Item = (&'a str, &'a Example)>) -> Report {
        let mut scores = Scores::default();
        for (written, example) in pairs {
            let references: Vec<&str> = example.references.iter().map(String::as_str).collect();
            scores.add(written, &references);
        }
        let bleu = scores.bleu();
        Report {
            texts: scores.texts(),
            bleu: bleu.score,
            bleu_signature: bleu.signature,
            rouge_l: 100.0 * scores.rouge_l().f,
            exact: scores.exact(),
            f1: scores.f1(),
        }
    }

    /// For a person.
    pub fn lines(&self) -> String {
        let Report { texts, bleu, bleu_signature, rouge_l, exact, f1 } = self;
        format!(
            "BLEU {bleu:.2} ({bleu_signature}), ROUGE-L {rouge_l:.2}, exact match {exact:.2}, F1 {f1:.2} over {texts} completions"
        )
    }
}

/// A completion as a line of a file.
pub fn line(completion: &str) -> String {
    completion.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use wikigpt_cpu::cpu;
    use wikigpt_dataset::TokenizerSpec;
    use wikigpt_gpt::{Config, init};

    use super::*;

    /// However many are written at once, each is what it is alone; none is longer than it may be, or than the context.
    #[test]
    fn prompts_do_not_see_each_other() {
        let config = Config { n_embd: 16, context: 24, ..Config::preset("tiny", 256).unwrap() };
        // Large weights, so that what stands before a token matters.
        let params: Vec<f32> = init(&config, 3).unwrap().iter().map(|x| x * 9.0).collect();
        let tokenizer = Tokenizer::build(&TokenizerSpec::Bytes, "").unwrap();
        let prompt =
            |n: u32| -> Vec<u32> { (0..1 + n % 7 * 3).map(|t| (n * 31 + t * t * 7) % 256).collect() };
        let prompts: Vec<Vec<u32>> = (0..11).map(prompt).chain([vec![9; 24]]).collect();
        let written = |slots: usize, end: u32, prompts: &[Vec<u32>]| {
            let sampling = Sampling { temperature: 0.7, seed: 5, ..Sampling::GREEDY };
            let writer = Writer { tokenizer: &tokenizer, end, most: 9, context: 24, sampling };
            let mut generator = Generator::new(cpu(1).unwrap(), &config, &params, slots).unwrap();
            writer.write(&mut generator, prompts).unwrap()
        };
        // No token ends a text: all are as long as they may be.
        let never = written(1, u32::MAX, &prompts);
        assert_eq!(never.len(), prompts.len());
        // Somewhere in the texts there is a token that ends them early.
        let some = written(1, 101, &prompts);
        for slots in [2, 5, 20] {
            assert_eq!(written(slots, u32::MAX, &prompts), never, "{slots} slots");
            assert_eq!(written(slots, 101, &prompts), some, "{slots} slots");
        }
        assert!(written(3, 101, &[]).is_empty());
    }
}
