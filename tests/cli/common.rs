//! Running the binary, and looking at what it left.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

/// A model so small that a step takes about a millisecond.
pub const TINY: &str = "--n-layer 2 --n-head 2 --n-embd 16 --context 16 --batch 4 --threads 1";

/// `wikigpt`, not yet run, with the arguments of a line.
pub fn wikigpt(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wikigpt"));
    command.args(line.split_whitespace());
    command
}

/// Runs `wikigpt` with arguments, none of which is split.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    wikigpt("").args(arguments).output().expect("the binary starts")
}

/// Runs `wikigpt` and expects success; its stdout.
#[track_caller]
pub fn ok<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// The same for the arguments of a line, then those that may hold spaces.
#[track_caller]
pub fn ok_line(line: &str, more: &[&str]) -> String {
    ok(line.split_whitespace().chain(more.iter().copied()))
}

/// Trains a tiny model on the embedded corpus into a folder.
#[track_caller]
pub fn train_tiny(folder: &Path, flags: &str) {
    ok_line(&format!("train {TINY} {flags}"), &["--out", path(folder)]);
}

/// A path as an argument.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// A text as gzip compresses it.
pub fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// JSON that a command printed.
#[track_caller]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The lines of a run's `metrics.jsonl`.
pub fn metrics(run: &Path) -> Vec<Value> {
    fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().map(json).collect()
}

/// The same without what time makes different.
pub fn timeless(run: &Path) -> Vec<Value> {
    let mut lines = metrics(run);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("step_ms");
        line.remove("tokens_per_second");
    }
    lines
}

/// The losses of one kind of line, with their steps.
pub fn losses(run: &Path, kind: &str) -> Vec<(u64, f64)> {
    let lines = metrics(run);
    let of_kind = lines.iter().filter(|line| line["kind"] == kind);
    of_kind.map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap())).collect()
}

/// A run's checkpoint of a step.
pub fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:08}"))
}

/// The checkpoints of a fine-tuned run: the best and the last, which may be the same.
pub fn best_and_last(run: &Path) -> [PathBuf; 2] {
    let folder = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut found: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let last = found.last().expect("a checkpoint").clone();
    let state = json(&fs::read_to_string(last.join("state.json")).unwrap());
    let best = checkpoint(run, state["best"].as_u64().expect("a best one"));
    [best, last]
}

/// Parameters and moments of two runs after a step are the same bytes.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path, step: u64) {
    let adapters = "adapter_model.safetensors";
    let is_adapted = checkpoint(a, step).join(adapters).exists();
    for file in [if is_adapted { adapters } else { "model.safetensors" }, "optimizer.safetensors"] {
        let read = |run: &Path| fs::read(checkpoint(run, step).join(file)).unwrap();
        assert!(read(a) == read(b), "{file} differs after step {step}");
    }
}

/// Waits until a run has written so many lines of metrics.
pub fn wait_for_lines(run: &Path, child: &mut Child, count: usize) {
    let start = Instant::now();
    loop {
        let lines = fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        if lines >= count {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no {count} lines within a minute");
        assert!(child.try_wait().unwrap().is_none(), "the run ended too early");
        sleep(Duration::from_millis(1));
    }
}

/// Everything below a folder, sorted.
pub fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Writes a text and prepares it; half of it is for validation.
pub fn prepare(folder: &Path, contents: &str, tokenizer: &str) -> PathBuf {
    let (source, data) = (folder.join("text.txt"), folder.join("data"));
    fs::write(&source, contents).unwrap();
    let flags = format!("prepare --tokenizer {tokenizer} --valid-fraction 0.5");
    ok_line(&flags, &["--text", path(&source), "--out", path(&data)]);
    data
}

/// Checks everything that holds for any failure; gives stderr for more.
#[track_caller]
pub fn assert_fails(output: &Output, status: i32, expected: &[&str], case: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{case}\n{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "a panic: {case}\n{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "not one sentence: {case}\n{stderr}");
    assert!(errors[0].len() < 600, "too long a sentence: {case}\n{stderr}");
    for part in expected {
        assert!(stderr.to_lowercase().contains(&part.to_lowercase()), "no `{part}` in: {case}\n{stderr}");
    }
    assert!(output.stdout.is_empty(), "results in spite of an error: {case}");
}

/// The folder with real data, or a printed reason why a test is skipped.
pub fn data_or_skip(test: &str) -> Option<PathBuf> {
    let data = std::env::var_os("WIKIGPT_DATA").map(PathBuf::from);
    if data.is_none() {
        println!("skipped: {test}: WIKIGPT_DATA is not set");
    }
    data
}
