//! A run that is stopped and resumed ends with the same bytes as one that was not.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::common::{
    TINY, assert_fails, assert_same, checkpoint, losses, ok_line, path, run, text, timeless, train_tiny,
    wait_for_lines, wikigpt,
};

/// Everything that a step depends on is in use.
const RUN: &str =
    "--warmup 3 --eval-every 5 --eval-batches 2 --sample-every 4 --dropout 0.1 --grad-accum 2 --keep 0";

fn resume(folder: &Path, flags: &str) {
    ok_line(&format!("train {flags}"), &["--resume", path(folder)]);
}

#[test]
fn ten_and_ten_steps_are_twenty() {
    let top = tempfile::tempdir().unwrap();
    let (whole, halves) = (top.path().join("whole"), top.path().join("halves"));
    let constant = format!("{RUN} --schedule constant");
    train_tiny(&whole, &format!("{constant} --steps 20"));
    train_tiny(&halves, &format!("{constant} --steps 10"));
    resume(&halves, "--steps 20");
    assert_same(&whole, &halves, 20);
    assert_eq!(timeless(&whole), timeless(&halves));
    let events = fs::read_dir(&halves).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents.")
    });
    assert_eq!(events.count(), 2, "one event file for each start");
    // Going on once more has nothing to do and changes nothing.
    resume(&halves, "");
    assert_eq!(timeless(&whole), timeless(&halves));
}

#[test]
fn going_on_from_an_earlier_checkpoint_is_the_same_run() {
    let top = tempfile::tempdir().unwrap();
    let (whole, cut) = (top.path().join("whole"), top.path().join("cut"));
    for folder in [&whole, &cut] {
        train_tiny(folder, &format!("{RUN} --steps 20 --checkpoint-every 10"));
    }
    fs::remove_dir_all(checkpoint(&cut, 20)).unwrap();
    // A kill may tear the last line.
    let lines = fs::read_to_string(cut.join("metrics.jsonl")).unwrap();
    fs::write(cut.join("metrics.jsonl"), &lines[..lines.len() - 9]).unwrap();
    resume(&cut, "");
    assert_same(&whole, &cut, 20);
    assert_eq!(timeless(&whole), timeless(&cut));
}

#[test]
fn a_run_without_a_checkpoint_begins_again() {
    let top = tempfile::tempdir().unwrap();
    let (whole, cut) = (top.path().join("whole"), top.path().join("cut"));
    for folder in [&whole, &cut] {
        train_tiny(folder, &format!("{RUN} --steps 6"));
    }
    fs::remove_dir_all(cut.join("checkpoints")).unwrap();
    resume(&cut, "");
    assert_same(&whole, &cut, 6);
    assert_eq!(timeless(&whole), timeless(&cut));
}

#[test]
fn config_toml_repeats_the_run() {
    let top = tempfile::tempdir().unwrap();
    let (first, again) = (top.path().join("first"), top.path().join("again"));
    train_tiny(&first, &format!("{RUN} --steps 20"));
    ok_line("train", &["--config", path(&first.join("config.toml")), "--out", path(&again)]);
    assert_same(&first, &again, 20);
    assert_eq!(timeless(&first), timeless(&again));
    // Its data is not the embedded articles with a letter changed.
    let config = fs::read_to_string(first.join("config.toml")).unwrap();
    let digest = config.find("train = \"").unwrap() + 9;
    let other = config[..digest].to_owned() + "0000" + &config[digest + 4..];
    fs::write(top.path().join("other.toml"), other).unwrap();
    let output = run(["train", "--config", path(&top.path().join("other.toml"))]);
    assert_fails(&output, 2, &["other.toml", "other data"], "a config.toml of other data");
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let top = tempfile::tempdir().unwrap();
    let (whole, hurt) = (top.path().join("whole"), top.path().join("hurt"));
    for folder in [&whole, &hurt] {
        train_tiny(folder, &format!("{RUN} --steps 20 --checkpoint-every 10"));
    }
    let model = checkpoint(&hurt, 20).join("model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();

    let output = run(["train", "--resume", path(&hurt)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("damaged"), "no warning in: {}", text(&output.stderr));
    assert_same(&whole, &hurt, 20);
}

#[test]
fn without_any_good_checkpoint_there_is_one_sentence() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 4");
    fs::write(checkpoint(&folder, 4).join("optimizer.safetensors"), b"gone").unwrap();
    let output = run(["train", "--resume", path(&folder)]);
    assert_fails(&output, 2, &["no checkpoint is whole", "optimizer.safetensors"], "all checkpoints damaged");
}

/// A run that is long enough to be hit in the middle.
const LONG: &str = "--steps 600 --warmup 3 --eval-every 40 --eval-batches 2 --sample-every 0 --keep 2";

/// Starts a run and does not wait for it. SIGHUP does there what it does by default, also where these tests were started
/// with it ignored.
fn start(line: &str, folder: &Path) -> Child {
    let mut command = wikigpt(line);
    #[cfg(unix)]
    // SAFETY: between fork and exec, signal(2) may be called; it touches no memory of this process.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    command.arg(folder).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_at_any_moment_a_run_goes_on() {
    let top = tempfile::tempdir().unwrap();
    let (whole, killed) = (top.path().join("whole"), top.path().join("killed"));
    let line = format!("train {TINY} {LONG} --checkpoint-every 7 --out");
    assert!(start(&line, &whole).wait().unwrap().success());

    let mut child = start(&line, &killed);
    wait_for_lines(&killed, &mut child, 20);
    // Moments that are spread over steps and saves, the same in each run of the test.
    for pause in [0, 3, 11, 23, 5, 17] {
        sleep(Duration::from_millis(pause));
        let _ = child.kill();
        child.wait().unwrap();
        child = start("train --resume", &killed);
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
fn signals_save_and_stop() {
    let top = tempfile::tempdir().unwrap();
    let whole = top.path().join("whole");
    let line = format!("train {TINY} {LONG} --checkpoint-every 0 --out");
    assert!(start(&line, &whole).wait().unwrap().success());
    for signal in ["-TERM", "-INT", "-HUP"] {
        let stopped = top.path().join(signal);
        let mut child = start(&line, &stopped);
        wait_for_lines(&stopped, &mut child, 50);
        assert!(Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap().success());
        assert!(child.wait().unwrap().success(), "stopping on request is no failure");
        let steps = losses(&stopped, "train").len() as u64;
        assert!((40..600).contains(&steps), "stopped after {steps} steps");
        assert!(checkpoint(&stopped, steps).is_dir(), "the step that was under way is saved");

        resume(&stopped, "");
        assert_same(&whole, &stopped, 600);
        assert_eq!(timeless(&whole), timeless(&stopped));
    }
}

#[test]
#[cfg(unix)]
fn nohup_outlives_its_terminal() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    let mut nohup = Command::new("nohup");
    let line = format!("train {TINY} --steps 300 --sample-every 0 --out");
    nohup.arg(env!("CARGO_BIN_EXE_wikigpt")).args(line.split_whitespace()).arg(&folder);
    let mut child = nohup.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_lines(&folder, &mut child, 20);
    assert!(Command::new("kill").arg("-HUP").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert_eq!(losses(&folder, "train").len(), 300);
}

#[test]
fn one_process_at_a_time_trains_in_a_folder() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    let mut child = start(&format!("train {TINY} {LONG} --checkpoint-every 20 --out"), &folder);
    wait_for_lines(&folder, &mut child, 30);
    let output = run(["train", "--resume", path(&folder)]);
    assert_fails(&output, 2, &["another process"], "a second process in one run folder");
    assert!(child.wait().unwrap().success());
}
