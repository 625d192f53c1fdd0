//! The same numbers as the Python programs that the field quotes: `vectors.json` holds theirs.

use serde::Deserialize;
use wikigpt_score::{Bleu, rouge_l, squad, tokenize_13a};

#[derive(Deserialize)]
struct Vectors {
    segments: Vec<String>,
    tokens_13a: Vec<Vec<String>>,
    normalized: Vec<String>,
    bleu: Vec<BleuCase>,
    /// Precision, recall and F of each segment beside each.
    rouge_l: Vec<[f64; 3]>,
    /// Exact match and F1 of each segment beside each.
    squad: Vec<[f64; 2]>,
    several: Vec<Several>,
}

#[derive(Deserialize)]
struct BleuCase {
    name: String,
    hypotheses: Vec<String>,
    /// A list for each set of references.
    references: Vec<Vec<String>>,
    score: f64,
    precisions: [f64; 4],
    correct: [u64; 4],
    total: [u64; 4],
    brevity_penalty: f64,
    hypothesis_length: u64,
    reference_length: u64,
    line: String,
}

#[derive(Deserialize)]
struct Several {
    answer: String,
    references: Vec<String>,
    rouge_l: [f64; 3],
    exact: u8,
    f1: f64,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

#[track_caller]
fn assert_near(found: f64, expected: f64, case: &str) {
    assert!(
        (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
        "{case}: {found} instead of {expected}"
    );
}

#[test]
fn segments_are_tokenized_as_by_13a() {
    let vectors = vectors();
    for (segment, tokens) in vectors.segments.iter().zip(&vectors.tokens_13a) {
        assert_eq!(&tokenize_13a(segment.trim_end()), tokens, "{segment:?}");
    }
}

#[test]
fn bleu_is_sacrebleus() {
    for case in vectors().bleu {
        let mut bleu = Bleu::new();
        for (i, hypothesis) in case.hypotheses.iter().enumerate() {
            let references: Vec<&str> = case.references.iter().map(|set| set[i].as_str()).collect();
            bleu.add(hypothesis, &references);
        }
        let score = bleu.score();
        let name = &case.name;
        assert_eq!((score.correct, score.total), (case.correct, case.total), "{name}");
        let lengths = (score.hypothesis_length, score.reference_length);
        assert_eq!(lengths, (case.hypothesis_length, case.reference_length), "{name}");
        assert_near(score.brevity_penalty, case.brevity_penalty, name);
        for (found, expected) in score.precisions.iter().zip(case.precisions) {
            assert_near(*found, expected, name);
        }
        assert_near(score.score, case.score, name);
        // Only the program's name differs.
        let ours = score.to_string().replace(concat!("wikigpt-", env!("CARGO_PKG_VERSION")), "2.6.0");
        assert_eq!(ours, case.line, "{name}");
    }
}

#[test]
fn rouge_l_is_rouge_scores() {
    let Vectors { segments, rouge_l: expected, several, .. } = vectors();
    let pairs = segments.iter().flat_map(|a| segments.iter().map(move |b| (a, b)));
    let mut cases = 0;
    for ((hypothesis, reference), expected) in pairs.zip(expected) {
        let found = rouge_l(hypothesis, &[reference]);
        for (found, expected) in [found.precision, found.recall, found.f].into_iter().zip(expected) {
            assert_near(found, expected, &format!("{hypothesis:?} beside {reference:?}"));
        }
        cases += 1;
    }
    assert_eq!(cases, segments.len() * segments.len());
    for case in several {
        let references: Vec<&str> = case.references.iter().map(String::as_str).collect();
        let found = rouge_l(&case.answer, &references);
        assert_eq!([found.precision, found.recall, found.f], case.rouge_l, "{:?}", case.answer);
    }
}

#[test]
fn exact_match_and_f1_are_squads() {
    let Vectors { segments, normalized, squad: expected, several, .. } = vectors();
    for (segment, normalized) in segments.iter().zip(normalized) {
        assert_eq!(squad::normalize(segment), normalized, "{segment:?}");
    }
    let pairs = segments.iter().flat_map(|a| segments.iter().map(move |b| (a, b)));
    for ((answer, reference), [exact, f1]) in pairs.zip(expected) {
        let found = squad::score(answer, &[reference]);
        let case = format!("{answer:?} beside {reference:?}");
        assert_eq!(found.exact, exact == 1.0, "{case}");
        assert_near(found.f1, f1, &case);
    }
    for case in several {
        let references: Vec<&str> = case.references.iter().map(String::as_str).collect();
        let found = squad::score(&case.answer, &references);
        assert_eq!((u8::from(found.exact), found.f1), (case.exact, case.f1), "{:?}", case.answer);
    }
}
