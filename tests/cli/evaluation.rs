//! `wikigpt eval` against the same figures computed token by token.

use std::path::Path;

use serde_json::Value;
use wikigpt_cpu::cpu;
use wikigpt_dataset::{Dataset, Split};
use wikigpt_gpt::Generator;
use wikigpt_gpt::files::load_model;

use crate::common::{assert_fails, json, ok, path, prepare, run, train_tiny};

const TEXT: &str = "The lake lies among hills. It is deep, and cold in spring.\nHerons nest there.\n";

/// −log p of each token but the first. A token is predicted from the start of its window: the first window of T tokens
/// reaches from token 0 to T, each later one S tokens further, and predicts the tokens that the one before did not.
fn token_by_token(model: &Path, data: &Path, context: usize, stride: usize) -> Vec<f64> {
    let model = load_model(model).unwrap();
    let tokens = Dataset::open(data).unwrap().tokens(Split::Valid).unwrap();
    let mut ids = vec![0; tokens.len() as usize];
    tokens.read(0, &mut ids);
    let mut generator = Generator::new(cpu(1).unwrap(), &model.config, &model.params, 1).unwrap();
    let mut losses = Vec::new();
    let mut start = 0;
    for at in 1..ids.len() {
        if at > start + context {
            start += stride;
        }
        generator.prefill(0, &ids[start..at]).unwrap();
        let logits: Vec<f64> = generator.logits(0).unwrap().iter().map(|logit| f64::from(*logit)).collect();
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        losses.push(largest + sum.ln() - logits[ids[at] as usize]);
    }
    losses
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {report}"))
}

#[track_caller]
fn assert_near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-5 * expected.abs(), "{what}: {found} instead of {expected}");
}

#[test]
fn every_figure_is_that_of_the_definition() {
    let top = tempfile::tempdir().unwrap();
    let data = prepare(top.path(), &TEXT.repeat(4), "bytes");
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 30 --lr 1e-2 --sample-every 0");
    let valid = json(&ok(["inspect", path(&data), "--json"]))["valid"].clone();
    // Odd strides, windows that end inside the text and at its end, a batch that is not full.
    for (context, stride, batch) in [(16, 16, 3), (16, 1, 7), (16, 5, 4), (9, 4, 1), (7, 7, 64), (1, 1, 5)] {
        let flags = [context, stride, batch].map(|n: usize| n.to_string());
        let report = json(&ok([
            "eval",
            path(&folder),
            "--data",
            path(&data),
            "--json",
            "--context",
            &flags[0],
            "--stride",
            &flags[1],
            "--batch",
            &flags[2],
        ]));
        let losses = token_by_token(&folder, &data, context, stride);
        let (nats, tokens) = (losses.iter().sum::<f64>(), losses.len() as f64);
        let case = format!("context {context}, stride {stride}");
        assert_eq!(report["tokens"], losses.len(), "{case}");
        assert_near(number(&report, "loss"), nats / tokens, &case);
        assert_near(number(&report, "perplexity"), (nats / tokens).exp(), &case);
        assert_near(number(&report, "word_perplexity"), (nats / number(&valid, "words")).exp(), &case);
        assert_near(number(&report, "bits_per_byte"), nats / number(&valid, "bytes") / 2_f64.ln(), &case);
        let said = ["split", "words", "bytes", "context", "stride"].map(|key| report[key].clone());
        let expected = [
            json("\"valid\""),
            valid["words"].clone(),
            valid["bytes"].clone(),
            context.into(),
            stride.into(),
        ];
        assert_eq!(said, expected, "{case}");
    }
}

#[test]
fn the_report_has_the_documented_keys_in_order() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 2 --sample-every 0");
    let report = ok(["eval", path(&folder), "--json"]);
    let keys =
        ["split", "tokens", "loss", "perplexity", "words", "word_perplexity", "bytes", "bits_per_byte"];
    let mut after = 0;
    for key in [&keys[..], &["context", "stride"]].concat() {
        let at = report.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {report}"));
        assert!(at >= after, "{key} is out of order in {report}");
        after = at;
    }
    let report = json(&report);
    assert_eq!((&report["context"], &report["stride"]), (&16.into(), &16.into()));
    let lines = ok(["eval", path(&folder)]);
    for word in
        ["loss", "perplexity", "word perplexity", "bits per byte", "split valid, context 16, stride 16"]
    {
        assert!(lines.contains(word), "no `{word}` in {lines}");
    }
    assert_fails(
        &run(["eval", path(&folder), "--split", "test"]),
        2,
        &["--split test"],
        "a split that is not there",
    );
}
