//! `wikigpt generate` for several texts, stops, penalties and beams.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{assert_fails, json, ok_line, path, run, train_tiny};

/// A model that has learnt a little, so that its texts differ from prompt to prompt.
fn model(folder: &Path) -> std::path::PathBuf {
    let model = folder.join("run");
    train_tiny(&model, "--steps 150 --eval-every 0 --sample-every 0 --lr 1e-2");
    model
}

fn generate(model: &Path, flags: &str, more: &[&str]) -> Value {
    json(&ok_line(&format!("generate --json {flags}"), &[&[path(model)], more].concat()))
}

#[test]
fn several_texts_are_those_that_are_written_alone() {
    let top = tempfile::tempdir().unwrap();
    let model = model(top.path());
    let lines = top.path().join("lines.txt");
    fs::write(&lines, "The river\nIn the spring of\nA").unwrap();
    let flags = "--max-new-tokens 30 --repetition-penalty 1.2 --top-p 0.95";
    let together =
        generate(&model, &format!("{flags} --seed 5 --samples 2 --batch 4"), &["--prompts", path(&lines)]);
    let together = together["texts"].as_array().unwrap();
    assert_eq!(together.len(), 6);
    for (i, text) in together.iter().enumerate() {
        let prompt = ["The river", "In the spring of", "A"][i / 2];
        let seed = 5 + i;
        let alone = generate(&model, &format!("{flags} --seed {seed}"), &["--prompt", prompt]);
        for part in ["text", "ids", "prompt_ids", "seed", "finish"] {
            assert_eq!(text[part], alone[part], "text {i}, {part}");
        }
        assert_eq!(text["seed"], seed);
    }
    assert_ne!(together[0]["ids"], together[1]["ids"], "two samples of one prompt");
    // For people, each under its number.
    let flags = format!("generate {flags} --seed 5 --samples 2");
    let printed = ok_line(&flags, &[path(&model), "--prompt", "The river"]);
    for (i, text) in together[..2].iter().enumerate() {
        let (seed, text) = (5 + i, text["text"].as_str().unwrap());
        assert!(printed.contains(&format!("--- text {} (seed {seed})\n{text}\n", i + 1)), "{printed}");
    }
}

#[test]
fn a_text_stops_before_a_string_and_shows_no_part_of_it() {
    let top = tempfile::tempdir().unwrap();
    let model = model(top.path());
    let whole = generate(&model, "--max-new-tokens 60 --seed 2", &["--prompt", "The river"]);
    let text = whole["text"].as_str().unwrap();
    // Two characters from the middle of what was written.
    let written: Vec<char> = text["The river".len()..].chars().collect();
    let stop: String = written[20..22].iter().collect();
    let expected = "The river".len() + text["The river".len()..].find(&stop).unwrap();
    let cut = generate(
        &model,
        "--max-new-tokens 60 --seed 2",
        &["--prompt", "The river", "--stop", "no such thing", "--stop", &stop],
    );
    assert_eq!(cut["text"].as_str().unwrap(), &text[..expected]);
    assert_eq!((&cut["finish"], &whole["finish"]), (&"stop".into(), &"length".into()));
    let streamed = ok_line(
        "generate --max-new-tokens 60 --seed 2",
        &[path(&model), "--prompt", "The river", "--stop", &stop],
    );
    assert_eq!(streamed, format!("{}\n", &text[..expected]));
}

#[test]
fn beams_find_likelier_texts_than_greed() {
    let top = tempfile::tempdir().unwrap();
    let model = model(top.path());
    let beams = |width: usize| {
        generate(&model, &format!("--max-new-tokens 12 --beams {width}"), &["--prompt", "The "])
    };
    let (one, four) = (beams(1), beams(4));
    let greedy = generate(&model, "--max-new-tokens 12 --temperature 0", &["--prompt", "The "]);
    assert_eq!(one["ids"], greedy["ids"]);
    let four = four["texts"].as_array().unwrap();
    let score = |text: &Value| text["score"].as_f64().unwrap();
    assert_eq!(four.len(), 4);
    assert!(four.windows(2).all(|pair| score(&pair[0]) >= score(&pair[1])));
    assert!(score(&four[0]) >= score(&one));
    let printed = ok_line("generate --max-new-tokens 12 --beams 4", &[path(&model), "--prompt", "The "]);
    assert!(printed.contains(four[0]["text"].as_str().unwrap()), "{printed}");
}

#[test]
fn what_cannot_be_written_is_one_sentence() {
    let top = tempfile::tempdir().unwrap();
    let model = model(top.path());
    let empty = top.path().join("empty.txt");
    fs::write(&empty, "").unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["--samples", "0"], "--samples 0"),
        (&["--batch", "0"], "--batch 0"),
        (&["--beams", "0"], "--beams 0"),
        (&["--beams", "5000"], "--beams 5000: at most"),
        (&["--beams", "2", "--length-penalty", "nan"], "--length-penalty"),
        (&["--beams", "2", "--seed", "1"], "cannot be used with"),
        (&["--repetition-penalty", "-1"], "--repetition-penalty -1"),
        (&["--stop", ""], "--stop"),
        (&["--prompts", path(&empty)], "has no lines"),
    ];
    for (flags, word) in cases {
        let output = run([&["generate", path(&model)], flags].concat());
        assert_fails(&output, 2, &[word], word);
    }
}
