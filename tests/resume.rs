//! A run that is stopped and resumed ends with the same bytes as one that was not.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{TINY, checkpoint, losses, metrics, ok, run, text, train_tiny, wikigpt};

const RUN: &[&str] = &[
    "--steps",
    "20",
    "--warmup",
    "3",
    "--eval-every",
    "5",
    "--eval-batches",
    "2",
    "--sample-every",
    "0",
    "--dropout",
    "0.1",
    "--grad-accum",
    "2",
    "--keep",
    "0",
];

/// Parameters and moments of two runs after a step are the same bytes.
#[track_caller]
fn assert_same(a: &Path, b: &Path, step: u64) {
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read = |run: &Path| fs::read(checkpoint(run, step).join(file)).unwrap();
        assert!(read(a) == read(b), "{file} differs after step {step}");
    }
}

/// Lines without what time makes different.
fn timeless(run: &Path) -> Vec<serde_json::Value> {
    let mut lines = metrics(run);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("step_ms");
        line.remove("tokens_per_second");
    }
    lines
}

#[test]
fn ten_and_ten_steps_are_twenty() {
    let top = tempfile::tempdir().unwrap();
    let (whole, halves) = (top.path().join("whole"), top.path().join("halves"));
    let constant = [RUN, &["--schedule", "constant"]].concat();
    train_tiny(&whole, &constant);
    train_tiny(&halves, &[&constant[..], &["--steps", "10"]].concat()[2..]);
    ok(["train", "--resume", halves.to_str().unwrap(), "--steps", "20"]);
    assert_same(&whole, &halves, 20);
    assert_eq!(timeless(&whole), timeless(&halves));
    // Going on once more has nothing to do and changes nothing.
    ok(["train", "--resume", halves.to_str().unwrap()]);
    assert_eq!(timeless(&whole), timeless(&halves));
}

#[test]
fn going_on_from_an_earlier_checkpoint_is_the_same_run() {
    let top = tempfile::tempdir().unwrap();
    let (whole, cut) = (top.path().join("whole"), top.path().join("cut"));
    for folder in [&whole, &cut] {
        train_tiny(folder, &[RUN, &["--checkpoint-every", "10"]].concat());
    }
    fs::remove_dir_all(checkpoint(&cut, 20)).unwrap();
    ok(["train", "--resume", cut.to_str().unwrap()]);
    assert_same(&whole, &cut, 20);
    assert_eq!(timeless(&whole), timeless(&cut));
}

#[test]
fn config_toml_repeats_the_run() {
    let top = tempfile::tempdir().unwrap();
    let (first, again) = (top.path().join("first"), top.path().join("again"));
    train_tiny(&first, RUN);
    let config = first.join("config.toml");
    ok(["train", "--config", config.to_str().unwrap(), "--out", again.to_str().unwrap()]);
    assert_same(&first, &again, 20);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let top = tempfile::tempdir().unwrap();
    let (whole, hurt) = (top.path().join("whole"), top.path().join("hurt"));
    for folder in [&whole, &hurt] {
        train_tiny(folder, &[RUN, &["--checkpoint-every", "10"]].concat());
    }
    let model = checkpoint(&hurt, 20).join("model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();

    let output = run(["train", "--resume", hurt.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("damaged"), "no warning in: {}", text(&output.stderr));
    assert_same(&whole, &hurt, 20);
}

#[test]
fn without_any_good_checkpoint_there_is_one_sentence() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, RUN);
    fs::write(checkpoint(&folder, 20).join("optimizer.safetensors"), b"gone").unwrap();
    let output = run(["train", "--resume", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no checkpoint"), "{}", text(&output.stderr));
}

/// Starts a run that is long enough to be hit in the middle.
fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = wikigpt();
    command.args(["train", "--out", folder.to_str().unwrap()]).args(TINY).args(arguments);
    command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

const LONG: &[&str] = &[
    "--steps",
    "600",
    "--warmup",
    "3",
    "--eval-every",
    "40",
    "--eval-batches",
    "2",
    "--sample-every",
    "0",
    "--checkpoint-every",
    "7",
    "--keep",
    "2",
];

fn wait_for_steps(folder: &Path, child: &mut Child, steps: usize) {
    let start = Instant::now();
    loop {
        let lines = fs::read_to_string(folder.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        if lines >= steps {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no {steps} steps within a minute");
        assert!(child.try_wait().unwrap().is_none(), "the run ended too early");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_at_any_moment_a_run_goes_on() {
    let top = tempfile::tempdir().unwrap();
    let (whole, killed) = (top.path().join("whole"), top.path().join("killed"));
    assert!(start(&whole, LONG).wait().unwrap().success());

    let mut child = start(&killed, LONG);
    wait_for_steps(&killed, &mut child, 20);
    // Moments that are spread over steps and saves, the same in each run of the test.
    for pause in [0, 3, 11, 23, 5, 17] {
        sleep(Duration::from_millis(pause));
        let _ = child.kill();
        child.wait().unwrap();
        let mut command = wikigpt();
        command.args(["train", "--resume", killed.to_str().unwrap()]);
        child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(30));
    }
    assert!(child.wait().unwrap().success());
    assert_same(&whole, &killed, 600);
    assert_eq!(timeless(&whole), timeless(&killed));
    let left = fs::read_dir(killed.join("checkpoints")).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "leftovers: {names:?}");
}

#[test]
#[cfg(unix)]
fn sigterm_saves_and_stops() {
    let top = tempfile::tempdir().unwrap();
    let (whole, stopped) = (top.path().join("whole"), top.path().join("stopped"));
    let arguments: Vec<_> = LONG.iter().map(|a| if *a == "7" { "0" } else { *a }).collect();
    assert!(start(&whole, &arguments).wait().unwrap().success());

    let mut child = start(&stopped, &arguments);
    wait_for_steps(&stopped, &mut child, 50);
    let kill = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    assert!(child.wait().unwrap().success(), "stopping on request is no failure");
    let steps = losses(&stopped, "train").len() as u64;
    assert!((40..600).contains(&steps), "stopped after {steps} steps");
    assert!(checkpoint(&stopped, steps).is_dir(), "the step that was under way is saved");

    ok(["train", "--resume", stopped.to_str().unwrap()]);
    assert_same(&whole, &stopped, 600);
    assert_eq!(timeless(&whole), timeless(&stopped));
}
