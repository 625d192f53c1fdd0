//! `cargo xtask test`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{cargo, emulator, python, root, run as execute, target};

/// What the test runner's output said.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
}

/// Runs everything; prints what ran and what was skipped in the last lines.
pub fn run() -> Result<()> {
    let start = Instant::now();
    let mut tally = Tally::default();
    // The tests of the emulator look for NVRTC where this puts it.
    emulator::build()?;
    let tests_passed = cargo_test(&mut tally)?;
    match events() {
        Ok(()) => tally.passed += 1,
        Err(error) => {
            eprintln!("TensorBoard's reader: {error:#}");
            tally.failed += 1;
        }
    }
    tally.skipped.sort();
    tally.skipped.dedup();
    println!("\nran in {:.0} s", start.elapsed().as_secs_f64());
    if std::env::var_os("WIKIGPT_DATA").is_none() {
        println!("WIKIGPT_DATA is not set: the tests on real text were skipped");
    }
    for line in &tally.skipped {
        println!("{line}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped.len());
    if !tests_passed || tally.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// `cargo test` over the workspace, its output passed on but for what passing tests printed.
fn cargo_test(tally: &mut Tally) -> Result<bool> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut inside_successes = false;
    for line in output.lines() {
        let line = line?;
        if line.starts_with("skipped: ") {
            tally.skipped.push(line.clone());
        }
        if line.starts_with("test result: ") {
            tally.passed += count(&line, " passed");
            tally.failed += count(&line, " failed");
        }
        match line.as_str() {
            "successes:" => inside_successes = true,
            "failures:" => inside_successes = false,
            _ if line.starts_with("test result: ") => inside_successes = false,
            _ => {}
        }
        if !inside_successes {
            println!("{line}");
        }
    }
    Ok(child.wait()?.success())
}

/// The number before `what` in the runner's closing line.
fn count(line: &str, what: &str) -> usize {
    let before = line.split(what).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A short run whose event file TensorBoard's own reader must find equal to its `metrics.jsonl`.
fn events() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run_folder = folder.path().join("run");
    let train = [
        "train",
        "--n-layer",
        "1",
        "--n-head",
        "1",
        "--n-embd",
        "16",
        "--context",
        "16",
        "--batch",
        "2",
        "--steps",
        "6",
        "--eval-every",
        "3",
        "--eval-batches",
        "2",
        "--log-every",
        "1",
        "--out",
    ];
    execute(Command::new(binary()?).args(train).arg(&run_folder))?;
    let checks = root().join("tools/checks");
    let python = python::environment("checks-venv", &checks.join("requirements.txt"))?;
    execute(Command::new(python).arg(checks.join("tensorboard_events.py")).arg(&run_folder))
}

/// Builds `wikigpt` as the tests have it; its path.
pub fn binary() -> Result<PathBuf> {
    execute(cargo().args(["build", "--quiet", "--bin", "wikigpt"]))?;
    Ok(target().join("debug/wikigpt"))
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_are_read_from_the_closing_line() {
        let line = "test result: FAILED. 41 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!((count(line, " passed"), count(line, " failed")), (41, 2));
    }
}
