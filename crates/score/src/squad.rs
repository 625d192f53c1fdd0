//! Exact match and F1 as SQuAD's official script counts them (Rajpurkar et al. 2016; the script of version 2.0, which differs
//! from the first in what it says of empty answers only).
//!
//! Answers are compared without case, ASCII's punctuation, the words a, an and the, and how words are spaced. F1 is that of the
//! bags of words. Of several references the best counts; those of which nothing is left do not, unless there is no other:
//! then the right answer is an empty one.

use std::collections::HashMap;

use crate::text::words;

/// What one answer scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Whether it is a reference.
    pub exact: bool,
    /// From 0 to 1.
    pub f1: f64,
}

/// An answer beside its references. Exact match and F1 each take the reference that is best for them.
pub fn score(answer: &str, references: &[&str]) -> Score {
    let answer = normalize(answer);
    let mut normal: Vec<String> = references.iter().map(|reference| normalize(reference)).collect();
    normal.retain(|reference| !reference.is_empty());
    if normal.is_empty() {
        normal.push(String::new());
    }
    Score {
        exact: normal.contains(&answer),
        f1: normal.iter().map(|reference| f1(&answer, reference)).fold(0.0, f64::max),
    }
}

/// What is left of an answer when it is compared.
pub fn normalize(answer: &str) -> String {
    let mut text = answer.to_lowercase();
    text.retain(|c| !c.is_ascii_punctuation());
    // Letters and digits that follow each other are one word here, whatever stands around them.
    let mut without_articles = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| c.is_alphanumeric() != first.is_alphanumeric()).unwrap_or(rest.len());
        let run;
        (run, rest) = rest.split_at(end);
        without_articles += if matches!(run, "a" | "an" | "the") { " " } else { run };
    }
    words(&without_articles).collect::<Vec<_>>().join(" ")
}

fn f1(answer: &str, reference: &str) -> f64 {
    if answer.is_empty() || reference.is_empty() {
        return f64::from(u8::from(answer == reference));
    }
    let mut left: HashMap<&str, u64> = HashMap::new();
    for word in reference.split(' ') {
        *left.entry(word).or_default() += 1;
    }
    let (mut common, mut given) = (0, 0);
    for word in answer.split(' ') {
        given += 1;
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let (precision, recall) =
        (f64::from(common) / f64::from(given), f64::from(common) / reference.split(' ').count() as f64);
    2.0 * precision * recall / (precision + recall)
}
