//! `wikigpt finetune classify` and `wikigpt classify`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::{
    TINY, assert_fails, best_and_last, checkpoint, gzip, json, metrics, ok, ok_line, path, run, text,
    train_tiny, tree, wikigpt,
};

const GOOD: [&str; 4] = ["good", "fine", "nice", "warm"];
const BAD: [&str; 4] = ["bad", "poor", "dull", "cold"];

/// How a small model learns the texts below.
pub const LEARN: &str = "--epochs 12 --batch 8 --lr 1e-2 --dropout 0 --threads 1 --patience 0";

/// Texts and whether they praise: no two alike, and each a text of 16 bytes at most.
pub fn examples(count: usize, seed: usize) -> Vec<(String, bool)> {
    let example = |i: usize| {
        let n = i * 7 + seed;
        let (words, praise) = if n.is_multiple_of(3) { (BAD, false) } else { (GOOD, true) };
        (format!("{}{} {}", if n.is_multiple_of(2) { "so " } else { "" }, words[n / 2 % 4], n % 89), praise)
    };
    (0..count).map(example).collect()
}

/// Examples as a file.
pub fn csv(examples: &[(String, bool)]) -> String {
    let line =
        |(text, praise): &(String, bool)| format!("{},\"{text}\"\n", if *praise { "yes" } else { "no" });
    "label,text\n".to_owned() + &examples.iter().map(line).collect::<String>()
}

/// A trained model, and files to fine-tune it with.
pub struct Workshop {
    top: tempfile::TempDir,
}

impl Workshop {
    pub fn new() -> Workshop {
        let workshop = Workshop { top: tempfile::tempdir().unwrap() };
        train_tiny(&workshop.at("base"), "--steps 30 --eval-every 0 --sample-every 0");
        workshop.write("train.csv", &csv(&examples(160, 0)));
        workshop.write("valid.csv", &csv(&examples(40, 5000)));
        workshop.write("test.csv", &csv(&examples(30, 9001)));
        workshop
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    pub fn write(&self, name: &str, contents: &str) {
        fs::write(self.at(name), contents).unwrap();
    }

    /// `finetune classify` on some files, not yet run.
    fn finetune(&self, [train, valid]: [&str; 2], out: &str, flags: &str) -> Output {
        let mut command = wikigpt(&format!("finetune classify {LEARN} {flags}"));
        command.arg(self.at("base")).arg("--train").arg(self.at(train)).arg("--valid").arg(self.at(valid));
        command.arg("--out").arg(self.at(out)).output().expect("the binary starts")
    }

    #[track_caller]
    fn tuned(&self, files: [&str; 2], out: &str, flags: &str) -> PathBuf {
        let output = self.finetune(files, out, flags);
        assert!(output.status.success(), "{}", text(&output.stderr));
        self.at(out)
    }

    #[track_caller]
    fn usual(&self, out: &str, flags: &str) -> PathBuf {
        self.tuned(["train.csv", "valid.csv"], out, flags)
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(json).collect()
}

/// The validations of a run.
fn validations(run: &Path) -> Vec<Value> {
    metrics(run).into_iter().filter(|line| line["kind"] == "valid").collect()
}

/// The best checkpoint of a run.
fn model(run: &Path) -> PathBuf {
    let [best, _] = best_and_last(run);
    best
}

#[test]
fn a_model_learns_labels_and_gives_them() {
    let workshop = Workshop::new();
    let test = workshop.at("test.csv");
    let run = workshop.usual("run", &format!("--test {}", path(&test)));
    let report = json(&fs::read_to_string(run.join("classification.json")).unwrap());
    assert_eq!(report["labels"], serde_json::json!(["no", "yes"]));
    let mut labelled = Vec::new();
    for (name, count) in [("valid", 40), ("test", 30)] {
        let set = &report["sets"][name];
        assert_eq!(set["texts"], count);
        assert!(set["accuracy"].as_f64().unwrap() >= 0.95, "{name}: {set}");
        assert_eq!(set["majority"][0], "yes");
        let predictions = lines(&run.join(format!("predictions-{name}.jsonl")));
        assert_eq!(predictions.len(), count);
        let right = predictions.iter().filter(|line| line["label"] == line["predicted"]).count();
        assert_eq!(set["accuracy"].as_f64().unwrap(), right as f64 / count as f64);
        labelled = predictions;
    }
    assert_eq!((&labelled[3]["index"], &labelled[3]["line"]), (&3.into(), &5.into()));

    // Its best checkpoint has the figures that metrics.jsonl has.
    let validations = validations(&run);
    assert_eq!(validations.len(), 12);
    let accuracy = |line: &Value| line["scores"]["accuracy"].as_f64().unwrap();
    let best = validations.iter().map(accuracy).fold(0.0, f64::max);
    let first = validations.iter().find(|line| accuracy(line) == best).unwrap();
    assert_eq!(model(&run), checkpoint(&run, first["step"].as_u64().unwrap()));
    assert_eq!(report["sets"]["valid"]["accuracy"].as_f64().unwrap(), best);

    // The same texts as lines get the same labels, one by one or together.
    let texts: Vec<String> = examples(30, 9001).into_iter().map(|(text, _)| text).collect();
    workshop.write("texts.txt", &texts.join("\r\n"));
    let file = workshop.at("texts.txt");
    let alone = ok_line("classify --json --threads 1 --batch 1", &[path(&run), path(&file)]);
    let together = ok_line("classify --json --threads 1 --batch 64", &[path(&run), path(&file)]);
    for (n, ((a, b), expected)) in alone.lines().zip(together.lines()).zip(&labelled).enumerate() {
        let (a, b) = (json(a), json(b));
        assert_eq!((&a["line"], &a["label"]), (&(n + 1).into(), &expected["predicted"]));
        for label in ["no", "yes"] {
            let p = |line: &Value| line["probabilities"][label].as_f64().unwrap();
            assert!((p(&a) - p(&b)).abs() < 1e-5 && (p(&a) - p(expected)).abs() < 1e-5, "{a} {b} {expected}");
        }
    }
    // Compressed and marked they are the same lines.
    let compressed = workshop.at("texts.gz");
    fs::write(&compressed, gzip(&format!("\u{feff}{}", texts.join("\r\n")))).unwrap();
    assert_eq!(ok_line("classify --json --threads 1 --batch 64", &[path(&run), path(&compressed)]), together);
    let plain = ok_line("classify", &[path(&run), path(&file)]);
    let fields: Vec<&str> = plain.lines().next().unwrap().split('\t').collect();
    assert_eq!((fields[0], fields[2]), (labelled[0]["predicted"].as_str().unwrap(), &*texts[0]));

    let planned = ok_line("plan --json --init", &[path(&run)]);
    assert_eq!(json(&planned)["parameters"], json(&ok_line("inspect --json", &[path(&run)]))["parameters"]);
    let found = ok_line("inspect", &[path(&run)]);
    assert!(found.contains("a head of 2 labels") && found.contains("labels no, yes"), "{found}");
    // Exported and imported it is the same.
    let (exported, imported) = (workshop.at("exported"), workshop.at("imported"));
    ok(["export", path(&run), "--out", path(&exported)]);
    ok(["import", path(&exported), "--out", path(&imported)]);
    assert_eq!(ok_line("classify --json --threads 1 --batch 64", &[path(&imported), path(&file)]), together);
}

#[test]
fn lines_are_labelled_as_they_come() {
    let workshop = Workshop::new();
    let run = workshop.usual("run", "");
    let mut child = wikigpt("classify --threads 1")
        .arg(&run)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for (line, label) in [("good 3\n", "yes"), ("so dull 4\n", "no")] {
        stdin.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        let likely = ["0.", "1.0000"].iter().any(|p| answer.starts_with(&format!("{label}\t{p}")));
        assert!(likely && answer.ends_with(line), "{answer}");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// Quoted or not, by name or number, as CSV, TSV or JSONL, compressed or not: the same texts give the same bits.
#[test]
fn every_kind_of_file_gives_the_same_model() {
    let workshop = Workshop::new();
    for (name, count, seed) in [("train", 40, 0), ("valid", 20, 5000)] {
        let all = examples(count, seed);
        let file = |line: &dyn Fn(&str, i32) -> String| -> String {
            all.iter().map(|(text, praise)| line(text, i32::from(*praise))).collect()
        };
        workshop.write(&format!("{name}.tsv"), &file(&|text, label| format!("{text}\t{label}\n")));
        workshop.write(
            &format!("{name}.jsonl"),
            &file(&|text, label| format!("{}\n", serde_json::json!({ "label": label, "text": text }))),
        );
        let numbered = file(&|text, label| format!("x,{label},\"{text}\"\r\n"));
        let numbered = format!("\u{feff}id,stars,review\r\n{numbered}");
        workshop.write(&format!("{name}.data"), &numbered);
        fs::write(workshop.at(&format!("{name}.csv.gz")), gzip(&numbered)).unwrap();
    }
    let flags = "--epochs 2";
    let tsv = workshop.tuned(["train.tsv", "valid.tsv"], "tsv", &format!("{flags} --no-header"));
    let jsonl = workshop.tuned(["train.jsonl", "valid.jsonl"], "jsonl", flags);
    let named = format!("{flags} --format csv --text-column review --label-column 2");
    let csv = workshop.tuned(["train.data", "valid.data"], "csv", &named);
    let named = format!("{flags} --text-column 3 --label-column stars");
    let compressed = workshop.tuned(["train.csv.gz", "valid.csv.gz"], "compressed", &named);
    let weights = |run: &Path| fs::read(model(run).join("model.safetensors")).unwrap();
    for other in [&jsonl, &csv, &compressed] {
        assert!(weights(&tsv) == weights(other), "{}", other.display());
    }
    // Another seed draws another head.
    let other = workshop.tuned(["train.jsonl", "valid.jsonl"], "other", &format!("{flags} --seed 2"));
    assert!(weights(&tsv) != weights(&other));
}

#[test]
fn frozen_layers_keep_their_bits() {
    let workshop = Workshop::new();
    let run = workshop.usual("run", "--freeze 1 --epochs 2 --weight-decay 0.5");
    let read = |folder: PathBuf| fs::read(folder.join("model.safetensors")).unwrap();
    let (before, after) = (read(checkpoint(&workshop.at("base"), 30)), read(model(&run)));
    let (before, after) =
        (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
    for name in before.names() {
        let same = before.tensor(name).unwrap().data() == after.tensor(name).unwrap().data();
        let frozen =
            ["wte", "wpe", "h.0"].iter().any(|part| name.starts_with(&format!("transformer.{part}.")));
        assert_eq!(same, frozen, "{name}");
    }
    assert_eq!(after.tensor("score.weight").unwrap().shape(), [2, 16]);
}

#[test]
fn a_run_stops_when_it_becomes_no_better() {
    let workshop = Workshop::new();
    // Nothing changes, so nothing becomes better than the first.
    let output = workshop.finetune(["train.csv", "valid.csv"], "run", "--lr 1e-12 --epochs 50 --patience 2");
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("stopped early"), "{}", text(&output.stderr));
    let steps: Vec<_> =
        validations(&workshop.at("run")).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [20, 40, 60]);
    assert_eq!(model(&workshop.at("run")), checkpoint(&workshop.at("run"), 20));
    // By the loss every step of learning is better; and steps can be counted instead of epochs.
    let run = workshop.usual("loss", "--metric loss --epochs 1 --eval-every 6");
    let losses: Vec<_> = validations(&run).iter().map(|line| line["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 4);
    let best = (0..4).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap();
    assert_eq!(model(&run), checkpoint(&run, [6, 12, 18, 20][best]));
}

/// Of texts that tell nothing, a fifth have one label: so probable it is, or as probable as the other where both count alike.
#[test]
fn labels_can_count_alike() {
    let workshop = Workshop::new();
    let rows = |label: &str, count: usize| format!("{label},same\n").repeat(count);
    workshop.write("same.csv", &format!("label,text\n{}{}", rows("no", 16), rows("yes", 64)));
    workshop.write("text.txt", "same\n");
    for (weights, expected) in [("none", 0.2), ("balanced", 0.5)] {
        let flags = format!("--epochs 30 --eval-every 1000 --class-weights {weights}");
        let run = workshop.tuned(["same.csv", "same.csv"], weights, &flags);
        let labelled = json(&ok_line("classify --json", &[path(&run), path(&workshop.at("text.txt"))]));
        let p = labelled["probabilities"]["no"].as_f64().unwrap();
        assert!((p - expected).abs() < 0.05, "{weights}: {p}");
    }
    let record = fs::read_to_string(workshop.at("balanced").join("finetune.toml")).unwrap();
    for line in ["class-weights = \"balanced\"", "epochs = 30", "threads = 1", "metric = \"accuracy\""] {
        assert!(record.contains(line), "no `{line}` in {record}");
    }
}

#[test]
#[cfg(unix)]
fn a_signal_keeps_the_best() {
    let workshop = Workshop::new();
    let run = workshop.at("run");
    let mut child = wikigpt(&format!("finetune classify {LEARN} --epochs 100000"))
        .args([&workshop.at("base"), Path::new("--train"), &workshop.at("train.csv")])
        .args([Path::new("--valid"), &workshop.at("valid.csv"), Path::new("--out"), &run])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    while !run.join("metrics.jsonl").is_file() || validations(&run).len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut kill = std::process::Command::new("kill");
    assert!(kill.arg("-INT").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the best model so far, of step"), "{}", text(&output.stderr));
    assert!(model(&run).join("model.safetensors").is_file());
}

#[test]
fn long_texts_are_cut_and_counted_or_refused() {
    let workshop = Workshop::new();
    let long = csv(&examples(40, 0)) + "yes,a text of more than sixteen bytes\nno,and another one of them\n";
    workshop.write("long.csv", &long);
    let output = workshop.finetune(["long.csv", "valid.csv"], "cut", "--epochs 1");
    assert!(output.status.success());
    let note = "long.csv: 2 of 42 texts are longer than 16 tokens and were cut";
    assert!(text(&output.stderr).contains(note), "{}", text(&output.stderr));
    let output = workshop.finetune(["long.csv", "valid.csv"], "refused", "--epochs 1 --long refuse");
    assert_fails(&output, 2, &["long.csv: line 42", "33 tokens, of which 16"], "a long text");

    workshop.write("texts.txt", "good 1\na text of more than sixteen bytes\n");
    let (run, file) = (workshop.at("cut"), workshop.at("texts.txt"));
    let output = wikigpt("classify").args([&run, &file]).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("1 lines are longer than 16 tokens"), "{}", text(&output.stderr));
    let output = wikigpt("classify --long refuse").args([&run, &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout).lines().count(), 1, "what comes before is labelled");
    assert!(
        text(&output.stderr).contains("texts.txt: line 2: the text has 33 tokens"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn mistakes_get_one_sentence_and_leave_nothing() {
    let workshop = Workshop::new();
    let good = csv(&examples(20, 0));
    let cases: [(&str, &str, &[&str]); 11] = [
        ("label,text\nyes,a\nno,\"b\"\"\nyes,c\n", "", &["bad.csv", "line 3", "never closed"]),
        ("label,text\nyes,\nno,b\n", "", &["line 2", "the text", "empty"]),
        ("label,text\nyes,a\nno\n", "", &["line 3: 1 fields, but line 1 has 2"]),
        ("label,text\n1,a\nno,b\n", "", &["line 3", "'no' is text", "line 2, '1', is an integer"]),
        ("label,text\nyes,a\nyes,b\n", "", &["every text has the label 'yes'"]),
        ("label,text\n", "", &["bad.csv", "no text in it"]),
        (&good, "--text-column review", &["no column 'review'", "'label', 'text'"]),
        (&good, "--label-column 7", &["--label-column 7", "1 to 2"]),
        (&good, "--freeze 3", &["--freeze 3", "2 layers"]),
        (&good, "--max-length 17", &["--max-length 17", "context of 16"]),
        (&good, "--batch 0", &["--batch 0"]),
    ];
    let before = tree(workshop.top.path()).len() + 1;
    for (contents, flags, expected) in cases {
        workshop.write("bad.csv", contents);
        assert_fails(&workshop.finetune(["bad.csv", "valid.csv"], "run", flags), 2, expected, contents);
        assert_eq!(tree(workshop.top.path()).len(), before, "something is left behind: {contents}");
    }
    let unseen = "label,text\nyes,a\nperhaps,b\n";
    workshop.write("bad.csv", unseen);
    let output = workshop.finetune(["train.csv", "bad.csv"], "run", "");
    assert_fails(
        &output,
        2,
        &["bad.csv: line 3", "'perhaps' is none of the training data's", "'no', 'yes'"],
        unseen,
    );
    fs::write(workshop.at("bad.csv"), b"label,text\nyes,a\nno,caf\xe9\n").unwrap();
    let output = workshop.finetune(["bad.csv", "valid.csv"], "run", "");
    assert_fails(&output, 2, &["bad.csv: line 3: not UTF-8 (byte 0xe9)"], "latin-1");
    workshop.write("bad.txt", &good);
    let output = workshop.finetune(["bad.txt", "valid.csv"], "run", "");
    assert_fails(&output, 2, &["bad.txt", "--format"], "no extension");

    // A language model does not label, and a classifier does not write.
    let tuned = workshop.usual("tuned", "--epochs 1");
    let base = workshop.at("base");
    let fails = |line: &str, model: &Path, expected: &[&str]| {
        let arguments = line.split_whitespace().chain([path(model)]);
        assert_fails(&run(arguments), 2, expected, line);
    };
    fails("classify", &base, &["base", "without a head that tells labels apart", "finetune classify"]);
    fails("generate", &tuned, &["a classifier", "a language model is asked for"]);
    fails("eval", &tuned, &["a classifier"]);
    fails(&format!("train {TINY} --init"), &tuned, &["a classifier"]);

    for (contents, expected) in [
        (&b"good 1\n\nbad 2\n"[..], "line 2 is empty"),
        (b"good 1\nca\xe9\n", "line 2 is not UTF-8 (byte 3 of it)"),
    ] {
        fs::write(workshop.at("texts.txt"), contents).unwrap();
        let output = wikigpt("classify").args([&tuned, &workshop.at("texts.txt")]).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(2), 1));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}
