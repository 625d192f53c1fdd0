//! `wikigpt finetune complete` and `wikigpt complete`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::common::{
    assert_fails, best_and_last, checkpoint, json as parse, losses, metrics, ok, ok_line, path, run, text,
    tree, wikigpt,
};
use crate::cuda::emulated;

/// A model to start from: bytes, and rows long enough for four of the words below.
pub fn base(folder: &Path) -> PathBuf {
    let base = folder.join("base");
    let flags = "train --n-layer 2 --n-head 2 --n-embd 32 --context 36 --batch 1 --threads 1 --steps 1 --eval-every 0 --sample-every 0 --device cpu";
    ok_line(flags, &["--out", path(&base)]);
    base
}

/// Words of three letters and their reverses, in an order that mixes them.
pub fn words() -> Vec<(String, String)> {
    let letter = |n: usize| char::from(b'a' + n as u8);
    let word = |n: usize| [n % 7, n / 7 % 7, n / 49].map(letter).iter().collect::<String>();
    let mixed = (0..343).map(|n| word(n * 59 % 343));
    mixed.map(|word| (word.clone(), word.chars().rev().collect())).collect()
}

/// Writes pairs as JSON lines.
pub fn jsonl(path: &Path, pairs: &[(String, String)]) {
    let line = |(prompt, completion): &(String, String)| {
        json!({ "prompt": prompt, "completion": completion }).to_string() + "\n"
    };
    fs::write(path, pairs.iter().map(line).collect::<String>()).unwrap();
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {report}"))
}

#[test]
fn words_are_learned_to_be_reversed() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let (base, out, words) = (base(top.path()), at("run"), words());
    jsonl(&at("train.jsonl"), &words[..280]);
    // Validation and test as two files.
    let column = |pairs: &[(String, String)], of: fn(&(String, String)) -> &String| {
        pairs.iter().map(|pair| of(pair).to_owned() + "\n").collect::<String>()
    };
    for (name, pairs) in [("valid", &words[280..310]), ("test", &words[310..])] {
        fs::write(at(&format!("{name}.in")), column(pairs, |pair| &pair.0)).unwrap();
        fs::write(at(&format!("{name}.out")), column(pairs, |pair| &pair.1)).unwrap();
    }
    let at = |name: &str| path(&top.path().join(name)).to_owned();
    let output = wikigpt("finetune complete")
        .arg(&base)
        .args(["--train", &at("train.jsonl"), "--valid", &at("valid.in"), &at("valid.out")])
        .args(["--test", &at("test.in"), &at("test.out"), "--template", "{prompt} > {completion}"])
        .args("--epochs 60 --lr 1e-2 --batch 8 --dropout 0 --patience 0 --threads 1 --device cpu".split(' '))
        .args(["--out", path(&out)])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    // Nine positions each: four in a row.
    assert!(said.contains("rows    70 for 280 examples: 4.0 in each"), "{said}");
    assert!(
        said.contains("the first batch, 8 rows of 36 positions; the 160 tokens between ⟦ and ⟧"),
        "{said}"
    );
    let first = said.lines().find(|line| line.contains("⟦")).unwrap();
    let shown = said.lines().skip_while(|line| *line != first).nth(1).unwrap().trim();
    let (prompt, completion) = shown.split_once(" >⟦ ").unwrap_or_else(|| panic!("{shown}"));
    let reversed: String = prompt.chars().rev().collect();
    assert!(prompt.len() == 3 && completion.starts_with(&format!("{reversed}\\n⟧ | ")), "{shown}");

    let report = parse(&fs::read_to_string(out.join("completion.json")).unwrap())["test"].clone();
    assert!(number(&report, "exact") >= 95.0, "{report}");
    assert_eq!(number(&report, "texts"), 33.0);
    let written = fs::read_to_string(out.join("completions-test.txt")).unwrap();
    let right = written.lines().zip(&words[310..]).filter(|(written, (_, right))| written == right).count();
    assert_eq!(number(&report, "exact"), 100.0 * right as f64 / 33.0);

    // The run knows its template: what it completes is the same again.
    let prompts: String = words[310..].iter().map(|(word, _)| word.clone() + "\n").collect();
    assert_eq!(text(&completed(&out, &prompts, &[]).stdout), written);
    let measured = parse(&ok([
        "complete",
        path(&out),
        "--test",
        &at("test.in"),
        &at("test.out"),
        "--out",
        &at("written"),
        "--json",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]));
    for key in ["bleu", "rouge_l", "exact", "f1"] {
        assert_eq!(measured[key], report[key], "{key}");
    }
    assert_eq!(fs::read_to_string(at("written")).unwrap(), written);
    let scored =
        ok(["score", "squad", "--hypotheses", &at("written"), "--references", &at("test.out"), "--json"]);
    assert_eq!(parse(&scored)["exact"], report["exact"]);
    // Another template is not what it has learned.
    let other = completed(&out, &prompts, &["--template", "{prompt}"]);
    assert_ne!(text(&other.stdout), written);
}

/// `wikigpt complete` of the lines given.
fn completed(model: &Path, prompts: &str, flags: &[&str]) -> Output {
    let mut command = wikigpt("complete --threads 1 --device cpu");
    command.arg(model).args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(prompts.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Flags of a run of few steps.
const SHORT: &str = "--epochs 1 --batch 4 --dropout 0 --warmup 0 --schedule constant --threads 1";

fn finetune(base: &Path, train: &Path, out: &Path, flags: &str) {
    let line = format!("finetune complete --device cpu {SHORT} {flags}");
    ok_line(&line, &[path(base), "--train", path(train), "--out", path(out)]);
}

#[test]
fn packed_or_not_the_losses_are_the_same() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let base = base(top.path());
    // Lengths that differ, so that rows are filled unevenly.
    let pairs = words().into_iter().take(40).enumerate();
    let pairs: Vec<_> = pairs.map(|(n, (a, b))| (a.repeat(1 + n % 3), b.repeat(1 + n % 2))).collect();
    jsonl(&at("pairs.jsonl"), &pairs);
    for (name, loss) in [("completion", "completion"), ("all", "all")] {
        let valid = |kind: &str, flags: &str| {
            let out = at(&format!("{name}-{kind}"));
            // A step in all, so that both see the same examples in it.
            let flags = format!("{flags} --loss {loss} --lr 1e-3 --valid-share 0.5 --batch 64");
            finetune(&base, &at("pairs.jsonl"), &out, &flags);
            let (train, valid) = (losses(&out, "train"), losses(&out, "valid"));
            assert_eq!((train.len(), valid.len()), (1, 1));
            [train[0].1, valid[0].1]
        };
        let (packed, alone) = (valid("packed", ""), valid("alone", "--no-packing"));
        for (packed, alone) in packed.iter().zip(alone) {
            assert!((packed - alone).abs() < 2e-5 * alone, "{name}: {packed} packed, {alone} alone");
        }
    }
}

#[test]
fn the_emulated_gpu_learns_packed_rows_as_the_cpu_does() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let base = base(top.path());
    jsonl(&at("pairs.jsonl"), &words()[..48]);
    let (cpu, gpu) = (at("cpu"), at("gpu"));
    let flags = "--lr 3e-3 --valid-share 0.25";
    finetune(&base, &at("pairs.jsonl"), &cpu, flags);
    let output = emulated(&format!("finetune complete --device cuda --precision f32 {SHORT} {flags}"))
        .arg(&base)
        .args(["--train", path(&at("pairs.jsonl")), "--out", path(&gpu)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for kind in ["train", "valid"] {
        let (cpu, gpu) = (losses(&cpu, kind), losses(&gpu, kind));
        assert!(!cpu.is_empty() && cpu.len() == gpu.len(), "{cpu:?} {gpu:?}");
        for ((step, cpu), (_, gpu)) in cpu.iter().zip(&gpu) {
            assert!((gpu - cpu).abs() < 1e-4 * cpu, "{kind} {step}: loss {gpu}, the CPU's {cpu}");
        }
    }
    // What it writes is what the CPU writes with the same weights.
    let mut command = emulated("complete --device cuda --max-new-tokens 6");
    command.arg(&gpu).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"abc\ncab\n").unwrap();
    let written = text(&child.wait_with_output().unwrap().stdout);
    assert_eq!(written, text(&completed(&gpu, "abc\ncab\n", &["--max-new-tokens", "6"]).stdout));
}

#[test]
fn the_best_may_be_what_writes_best() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let (base, words) = (base(top.path()), words());
    jsonl(&at("train.jsonl"), &words[..280]);
    jsonl(&at("valid.jsonl"), &words[280..310]);
    for (metric, score) in [("exact", "exact"), ("rouge", "rouge_l")] {
        let out = at(metric);
        let flags = format!(
            "finetune complete --device cpu --threads 1 --batch 8 --dropout 0 --patience 0 --epochs 60 --eval-every 45 \
                             --lr 1e-2 --metric {metric} --metric-prompts 10 --template {{prompt}}>{{completion}}"
        );
        // The model may stand at the end, too.
        let files = [
            "--valid",
            path(&at("valid.jsonl")),
            "--out",
            path(&out),
            "--train",
            path(&at("train.jsonl")),
            path(&base),
        ]
        .map(str::to_owned);
        ok_line(&flags, &files.each_ref().map(String::as_str));
        let valid: Vec<Value> = metrics(&out).into_iter().filter(|line| line["kind"] == "valid").collect();
        assert_eq!(valid.len(), 10);
        // Ten texts are a tenth each.
        assert!(valid.iter().all(|line| number(&line["scores"], "exact") % 10.0 == 0.0), "{valid:?}");
        let scores: Vec<f64> = valid.iter().map(|line| number(&line["scores"], score)).collect();
        let best = scores.iter().copied().fold(0.0, f64::max);
        assert!(best > scores[0], "{scores:?}");
        let first = valid.iter().find(|line| number(&line["scores"], score) == best).unwrap();
        let [checkpoint_of_best, last] = best_and_last(&out);
        assert_eq!(checkpoint_of_best, checkpoint(&out, first["step"].as_u64().unwrap()));
        let state = parse(&fs::read_to_string(last.join("state.json")).unwrap());
        assert_eq!(number(&state["state"]["best"], "merit"), best);
        // The same model writes the same again.
        let line = "complete --json --limit 10 --device cpu --threads 1";
        let measured = ok_line(line, &[path(&out), "--test", path(&at("valid.jsonl"))]);
        for key in ["bleu", "exact", "f1", "rouge_l"] {
            assert_eq!(parse(&measured)[key], first["scores"][key], "{key}");
        }
    }
}

/// Its template, its context and how long its completions may be; wherever the model goes.
#[test]
fn what_a_run_knows_of_completing_goes_with_the_model() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let base = base(top.path());
    let long = |pairs: &[(String, String)]| -> Vec<_> {
        pairs.iter().map(|(a, b)| (format!("{b}{b}{b}{b}{b}{b}{b}{b} {a}"), b.clone())).collect()
    };
    let words = words();
    jsonl(&at("train.jsonl"), &long(&words[..160]));
    jsonl(&at("test.jsonl"), &long(&words[160..200]));
    let out = at("run");
    let flags = "--context 20 --keep start --max-new-tokens 4 --epochs 3 --lr 1e-2 --valid-share 0.1 --template {prompt}=";
    let test = at("test.jsonl");
    finetune(&base, &at("train.jsonl"), &out, &format!("{flags} --test {}", path(&test)));
    let expected = fs::read_to_string(out.join("completions-test.txt")).unwrap();
    let written = |model: &Path, flags: &str| {
        let file = at("written.txt");
        let line = format!("complete --device cpu --threads 1 {flags}");
        ok_line(&line, &[path(model), "--test", path(&test), "--out", path(&file)]);
        fs::read_to_string(file).unwrap()
    };
    let (exported, imported) = (at("exported"), at("imported"));
    ok(["export", path(&out), "--out", path(&exported)]);
    ok(["import", path(&exported), "--out", path(&imported)]);
    for model in [&out, &checkpoint_of(&out), &exported, &imported] {
        assert_eq!(written(model, ""), expected, "{}", model.display());
    }
    // Each of it makes a difference.
    for other in ["--context 36", "--keep end", "--template {prompt}", "--max-new-tokens 2"] {
        assert_ne!(written(&exported, other), expected, "{other}");
    }
    // Where the data was is nobody's business.
    let told = fs::read_to_string(exported.join("finetune.toml")).unwrap();
    assert!(told.contains("context = 20") && !told.contains("train"), "{told}");
    let output = run(["complete", path(&exported), "--context", "37"]);
    assert_fails(&output, 2, &["--context 37", "context of 36"], "a context that the model has not");
    // Other models know nothing of it.
    ok(["export", path(&base), "--out", path(&at("language"))]);
    assert!(!at("language").join("finetune.toml").exists());
}

/// The checkpoint that is the run's model.
fn checkpoint_of(run: &Path) -> PathBuf {
    let [best, _] = best_and_last(run);
    best
}

/// Questions about two articles.
const QUESTIONS: &str = r#"{"data": [
    {"title": "Lake", "paragraphs": [{"context": "The mere is deep.", "qas": [
        {"id": "1", "question": "How?", "answers": [{"text": "deep"}, {"text": "very deep"}]},
        {"id": "2", "question": "Why?", "answers": []}]}]},
    {"title": "Hill", "paragraphs": [{"context": "A tor is high.", "qas": [
        {"id": "3", "question": "How?", "answers": [{"text": "high"}]}]}]},
    {"title": "Fen", "paragraphs": [{"context": "A fen is wet.", "qas": [
        {"id": "4", "question": "How?", "answers": [{"text": "wet"}]}]}]}]}"#;

#[test]
fn questions_and_articles_are_examples_too() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let base = base(top.path());
    fs::write(at("squad.json"), QUESTIONS).unwrap();
    let output = wikigpt(&format!(
        "finetune complete --device cpu {SHORT} --template answer --valid-share 0.34 --test-share 0.34"
    ))
    .arg(&base)
    .args(["--train", path(&at("squad.json")), "--out", path(&at("answers"))])
    .output()
    .unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 questions without an answer are left out"), "{said}");
    for part in ["train: 1 examples", "valid: 1 examples", "test: 1 examples", "; 1 prompts are shortened"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    // The question stands at the prompt's end, which is kept.
    assert!(said.contains("Question: How?\\nAnswer:⟦ "), "{said}");

    let articles: String =
        ["Dove", "Ouse", "Tees"].map(|name| format!(" \n = {name} = \n \n The {name} runs . \n")).concat();
    fs::write(at("wiki.tokens"), articles).unwrap();
    finetune(&base, &at("wiki.tokens"), &at("titles"), "--template summarise --valid-share 0.3");
    let record = fs::read_to_string(at("titles").join("finetune.toml")).unwrap();
    assert!(record.contains("keep = \"start\"") && record.contains("template = \"summarise\""), "{record}");
    assert!(tree(&at("titles")).iter().any(|path| path.ends_with("model.safetensors")));
}

#[test]
fn mistakes_get_one_sentence_and_leave_nothing() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| path(&top.path().join(name)).to_owned();
    let base = path(&base(top.path())).to_owned();
    jsonl(&top.path().join("good.jsonl"), &words()[..8]);
    let long = vec![("a".repeat(80), "b".to_owned()), ("c".to_owned(), "d".repeat(80))];
    jsonl(&top.path().join("long.jsonl"), &long);
    fs::write(at("bad.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}\n").unwrap();
    fs::write(at("empty.jsonl"), "").unwrap();
    fs::write(at("three"), "a\nb\nc\n").unwrap();
    fs::write(at("two"), "a\nb\n").unwrap();
    let before = tree(top.path());
    let never = at("never");
    let cases: &[(&[&str], &[&str])] = &[
        (&["--train", "bad.jsonl"], &["bad.jsonl", "line 2", "completion"]),
        (&["--train", "empty.jsonl"], &["--train", "empty.jsonl", "no example"]),
        (&["--train", "missing.jsonl"], &["missing.jsonl"]),
        (&["--train", "three", "two"], &["3 lines", "two has 2"]),
        (&["--train", "three"], &["three", "--format"]),
        (&["--train", "good.jsonl", "--format", "parallel"], &["1 files", "takes 2"]),
        (&["--train", "good.jsonl", "--template", "nothing"], &["no {prompt}", "translate"]),
        (&["--train", "good.jsonl", "--valid-share", "1.5"], &["--valid-share 1.5"]),
        (&["--train", "good.jsonl", "--valid-share", "0"], &["no example is left to choose"]),
        (&["--train", "good.jsonl", "--context", "99"], &["--context 99", "36"]),
        (&["--train", "good.jsonl", "--batch", "0"], &["--batch 0"]),
        (&["--train", "good.jsonl", "--metric-prompts", "5"], &["--metric-prompts", "--metric"]),
        (&["--train", "good.jsonl", "--max-new-tokens", "0"], &["max-new-tokens 0"]),
        (&["--train", "long.jsonl", "--long", "refuse"], &["train: example 1", "36", "--long refuse"]),
        (
            &["--train", "good.jsonl", "--template", "A template that is much longer than any row: {prompt}"],
            &["no room", "shorter template"],
        ),
    ];
    for (flags, expected) in cases {
        let file = |flag: &&str| if top.path().join(flag).exists() { at(flag) } else { (*flag).to_owned() };
        let arguments: Vec<String> = ["finetune", "complete", &base, "--out", &never]
            .map(str::to_owned)
            .into_iter()
            .chain(flags.iter().map(file))
            .collect();
        assert_fails(&run(&arguments), 2, expected, &arguments.join(" "));
        assert_eq!(tree(top.path()), before, "left something: {}", arguments.join(" "));
    }
    // Shortened and counted where that is allowed.
    let out = top.path().join("short");
    let output = wikigpt(&format!("finetune complete --device cpu {SHORT} --valid-share 0.5"))
        .args([&base, "--train", &at("long.jsonl"), "--out", path(&out)])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("1 prompts are shortened"), "{said}");
    assert!(said.contains("1 completions lack their end"), "{said}");
    assert!(checkpoint(&out, 1).is_dir());

    let model = Path::new(&base);
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("a\n\n", &[], &["line 2 is empty"]),
        ("a\n", &["--max-new-tokens", "36"], &["--max-new-tokens 36"]),
        ("a\n", &["--temperature", "-1"], &["temperature"]),
        ("a line that is longer than what there is room for\n", &["--long", "refuse"], &["line 1", "18"]),
    ];
    for (prompts, flags, expected) in cases {
        let mut output = completed(model, prompts, flags);
        // The lines before a wrong one are completed.
        output.stdout.clear();
        assert_fails(&output, 2, expected, &format!("{flags:?}"));
    }
}
