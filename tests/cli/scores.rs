//! `wikigpt score`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{assert_fails, gzip, json, ok, path, run};

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    let contents = if name.ends_with(".gz") { gzip(text) } else { text.into() };
    fs::write(&path, contents).unwrap();
    path
}

const QUESTIONS: &str = r#"{"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [
    {"id": "1", "question": "q", "answers": [{"text": "the Grey Heron"}, {"text": "heron"}]},
    {"id": "2", "question": "q", "answers": []},
    {"id": "3", "question": "q", "answers": [{"text": "1999"}]}]}]}]}"#;

/// The figures are those that sacrebleu 2.6.0 and rouge_score 0.1.2 print for the same files.
#[test]
fn files_are_scored_line_by_line() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| write(top.path(), name, text);
    let written = at("written", "The heron stood in the shallow water.\nTwo men, in hats & coats\n\n");
    let right =
        at("right.gz", "The heron stands in the shallow water.\r\nTwo men in hats and coats\nnothing\n");
    let other = at("other", "A heron stands there.\nTwo men, in hats & coats\nnone\n");
    let score = |metric: &str, references: &[&PathBuf], json: bool| {
        let mut arguments = vec!["score", metric, "--hypotheses", path(&written)];
        references.iter().for_each(|file| arguments.extend(["--references", path(file)]));
        arguments.extend(json.then_some("--json"));
        ok(arguments)
    };
    let line = score("bleu", &[&right], false);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        line.trim(),
        format!(
            "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:wikigpt-{version} = 40.20 80.0/53.8/27.3/22.2 (BP = 1.000 \
             ratio = 1.000 hyp_len = 15 ref_len = 15)"
        )
    );
    let report = json(&score("bleu", &[&right, &other], true));
    assert!(report["signature"].as_str().unwrap().starts_with("nrefs:2|"));
    assert_eq!(report["texts"], 3);
    let rouge = json(&score("rouge", &[&right], true));
    assert!((rouge["rouge_l"].as_f64().unwrap() - 58.874_458_874_458_88).abs() < 1e-9, "{rouge}");
    assert!(score("rouge", &[&right], false).starts_with("ROUGE-L 58.87 (precision "));
    let squad = json(&score("squad", &[&right, &other], true));
    assert!((squad["exact"].as_f64().unwrap() - 100.0 / 3.0).abs() < 1e-9, "{squad}");
}

#[test]
fn answers_are_scored_by_their_questions() {
    let top = tempfile::tempdir().unwrap();
    let questions = write(top.path(), "dev.json", QUESTIONS);
    let score = |answers: &str| {
        let answers = write(top.path(), "answers.json", answers);
        run(["score", "squad", "--hypotheses", path(&answers), "--references", path(&questions)])
    };
    let output = score(r#"{"3": "in 1999", "1": "A heron!", "2": ""}"#);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim(), "exact match 66.67, F1 88.89 over 3 answers");
    let output = score(r#"{"3": "1999"}"#);
    assert!(String::from_utf8(output.stderr).unwrap().contains("2 of 3 questions have no answer"));
    assert_fails(&score(r#"{"4": "x"}"#), 2, &["answers.json", "no question 4"], "an unknown question");
    assert_fails(&score("{}"), 2, &["no answer in it"], "no answers");
    assert_fails(&score("a line"), 2, &["object of answers by the questions' ids"], "lines");
}

#[test]
fn what_cannot_be_scored_is_said() {
    let top = tempfile::tempdir().unwrap();
    let three = write(top.path(), "three", "a\nb\nc\n");
    let two = write(top.path(), "two", "a\nb\n");
    let empty = write(top.path(), "empty", "");
    let latin = top.path().join("latin");
    fs::write(&latin, b"a\nb\nna\xefve\n").unwrap();
    let fails = |hypotheses: &PathBuf, references: &PathBuf, expected: &[&str]| {
        let output =
            run(["score", "bleu", "--hypotheses", path(hypotheses), "--references", path(references)]);
        assert_fails(&output, 2, expected, &format!("{hypotheses:?} {references:?}"));
    };
    fails(&three, &two, &["three has 3 lines", "two has 2"]);
    fails(&empty, &empty, &["empty", "nothing to score"]);
    fails(&three, &latin, &["latin", "line 3"]);
    fails(&three, &top.path().join("missing"), &["missing"]);
    assert_fails(
        &run(["score", "meteor", "--hypotheses", "a", "--references", "b"]),
        2,
        &["meteor"],
        "a metric",
    );
}
