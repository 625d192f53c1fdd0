//! Running the binary as a user runs it.
#![allow(dead_code)] // each test program uses a part

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A model so small that a step takes about a millisecond.
pub const TINY: &[&str] = &[
    "--n-layer",
    "2",
    "--n-head",
    "2",
    "--n-embd",
    "16",
    "--context",
    "16",
    "--batch",
    "4",
    "--threads",
    "1",
];

/// `wikigpt`, not yet run.
pub fn wikigpt() -> Command {
    Command::new(env!("CARGO_BIN_EXE_wikigpt"))
}

/// Runs `wikigpt` with arguments.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    wikigpt().args(arguments).output().expect("the binary starts")
}

/// Runs `wikigpt` and expects success; its stdout.
#[track_caller]
pub fn ok<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Trains a tiny model on the embedded corpus into `run`.
#[track_caller]
pub fn train_tiny(folder: &Path, more: &[&str]) {
    let out = folder.to_str().unwrap();
    ok(["train", "--out", out].iter().chain(TINY).chain(more));
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a run's `metrics.jsonl`.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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

/// The folder with real data, or a printed reason why a test is skipped.
pub fn data_or_skip(test: &str) -> Option<PathBuf> {
    let data = std::env::var_os("WIKIGPT_DATA").map(PathBuf::from);
    if data.is_none() {
        println!("skipped: {test}: WIKIGPT_DATA is not set");
    }
    data
}
