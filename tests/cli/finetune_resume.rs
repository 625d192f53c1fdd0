//! A fine-tuning run that is stopped and resumed ends with the same bytes as one that was not; and its best checkpoint is its model,
//! not its last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::classify::{Workshop, csv, examples};
use crate::common::{
    assert_fails, assert_same, best_and_last, checkpoint, json, ok, ok_line, path, run, text, timeless,
    wait_for_lines, wikigpt,
};
use crate::completion;
use crate::cuda::emulated;

/// Everything that a step depends on is in use, and the last step of an epoch has a micro-batch less than the others.
const FLAGS: &str = "--epochs 30 --batch 8 --grad-accum 3 --lr 3e-3 --dropout 0.2 --weight-decay 0.1 --freeze 1 \
                     --class-weights balanced --metric loss --eval-every 11 --patience 0 --threads 1";

/// Steps of such a run on 160 texts: 20 micro-batches an epoch.
const STEPS: u64 = 30 * 7;

/// `finetune classify` with all files, not yet run.
fn finetune(workshop: &Workshop, out: &Path, flags: &str) -> Command {
    let mut command = wikigpt(&format!("finetune classify {FLAGS} {flags}"));
    command.arg(workshop.at("base")).arg("--out").arg(out);
    for part in ["train", "valid", "test"] {
        command.arg(format!("--{part}")).arg(workshop.at(&format!("{part}.csv")));
    }
    command
}

fn start(command: &mut Command) -> Child {
    command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn resume(run: &Path, flags: &str) -> Command {
    let mut command = wikigpt(&format!("finetune classify {flags} --resume"));
    command.arg(run);
    command
}

/// Two runs have the same checkpoints, metrics and files, bit for bit.
#[track_caller]
fn assert_same_runs(a: &Path, b: &Path, step: u64, files: &[&str]) {
    let name = |path: &Path| path.file_name().unwrap().to_owned();
    let [best, last] = best_and_last(a);
    assert_eq!([&best, &last].map(|path| name(path)), best_and_last(b).each_ref().map(|path| name(path)));
    assert_eq!(last, checkpoint(a, step));
    for run in [a, b] {
        let kept = fs::read_dir(run.join("checkpoints")).unwrap().count();
        assert_eq!(kept, if best == last { 1 } else { 2 }, "nothing else is left");
    }
    assert_same(a, b, step);
    let best: u64 = best.to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
    assert_same(a, b, best);
    assert_eq!(timeless(a), timeless(b));
    for file in files {
        assert!(fs::read(a.join(file)).unwrap() == fs::read(b.join(file)).unwrap(), "{file} differs");
    }
}

/// What a classifier's run writes in the end.
const FILES: [&str; 3] = ["predictions-valid.jsonl", "predictions-test.jsonl", "classification.json"];

#[test]
fn killed_at_any_moment_a_run_goes_on() {
    let workshop = Workshop::new();
    let (whole, killed) = (workshop.at("whole"), workshop.at("killed"));
    // Checkpoints beside those of validations change nothing.
    assert!(start(&mut finetune(&workshop, &whole, "")).wait().unwrap().success());
    let mut child = start(&mut finetune(&workshop, &killed, "--checkpoint-every 4"));
    // Moments that are spread over steps, saves and validations.
    for (lines, pause) in [(10, 0), (50, 13), (90, 5), (130, 29)] {
        wait_for_lines(&killed, &mut child, lines);
        sleep(Duration::from_millis(pause));
        let _ = child.kill();
        child.wait().unwrap();
        child = start(&mut resume(&killed, ""));
    }
    assert!(child.wait().unwrap().success());
    assert_same_runs(&whole, &killed, STEPS, &FILES);
    // Going on once more only tests it again.
    assert!(resume(&killed, "").output().unwrap().status.success());
    assert_same_runs(&whole, &killed, STEPS, &FILES);
}

#[test]
fn adapters_go_on_too() {
    let workshop = Workshop::new();
    let (whole, killed) = (workshop.at("whole"), workshop.at("killed"));
    let flags = "--lora 3 --lora-alpha 48 --lora-targets attn.c_proj,mlp.c_fc";
    assert!(start(&mut finetune(&workshop, &whole, flags)).wait().unwrap().success());
    let mut child = start(&mut finetune(&workshop, &killed, flags));
    for lines in [20, 90] {
        wait_for_lines(&killed, &mut child, lines);
        let _ = child.kill();
        child.wait().unwrap();
        child = start(&mut resume(&killed, ""));
    }
    assert!(child.wait().unwrap().success());
    assert_same_runs(&whole, &killed, STEPS, &FILES);
    // They are not to become others on the way, nor to be taken for a model.
    let fails = |run: &Path, flags: &str, expected: &[&str]| {
        assert_fails(&resume(run, flags).output().unwrap(), 2, expected, flags);
    };
    fails(&killed, "--lora 4", &["--lora 4", "begun with 3"]);
    fails(&killed, "--lora 3 --lora-alpha 2", &["--lora-alpha 2", "begun with 48"]);
    let settings = killed.join("finetune.toml");
    let whole = fs::read_to_string(&settings).unwrap();
    let without: String =
        whole.lines().filter(|line| !line.starts_with("lora")).map(|line| format!("{line}\n")).collect();
    fs::write(&settings, without).unwrap();
    fails(&killed, "", &["a checkpoint of adapters", "finetune.toml says that a model is trained"]);
    for other in ["lora = 2", "lora = 4"] {
        fs::write(&settings, whole.replace("lora = 3", other)).unwrap();
        fails(&killed, "", &["its adapters are not those that finetune.toml asks for"]);
    }
}

#[test]
#[cfg(unix)]
fn a_signal_says_how_to_go_on() {
    let workshop = Workshop::new();
    let (whole, stopped) = (workshop.at("whole"), workshop.at("stopped"));
    let flags = "--epochs 60 --schedule constant --warmup 3";
    assert!(start(&mut finetune(&workshop, &whole, flags)).wait().unwrap().success());
    // Half of the epochs at first; that the run is longer is said when it goes on. So is where its data is now.
    let mut child = finetune(&workshop, &stopped, "--schedule constant --warmup 3")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_lines(&stopped, &mut child, 20);
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "stopping on request is no failure: {said}");
    let command = format!("to go on: wikigpt finetune classify --resume {}", path(&stopped));
    assert!(said.contains("the best model so far, of step") && said.contains(&command), "{said}");
    for file in FILES {
        assert!(!stopped.join(file).exists(), "{file} of a run that has not ended");
    }
    let moved = workshop.at("moved.csv");
    fs::rename(workshop.at("test.csv"), &moved).unwrap();
    let output = resume(&stopped, "--epochs 60").arg("--test").arg(&moved).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_same_runs(&whole, &stopped, 2 * STEPS, &FILES);
}

/// A signal while the best model is tested leaves no figures of a part of the texts; going on tests it.
#[test]
#[cfg(unix)]
fn a_test_that_is_stopped_is_no_test() {
    let workshop = Workshop::new();
    let out = workshop.at("run");
    // So many that a signal comes before the last.
    workshop.write("test.csv", &csv(&examples(150_000, 9001)));
    let mut child =
        finetune(&workshop, &out, "--epochs 1 --checkpoint-every 4").stderr(Stdio::piped()).spawn().unwrap();
    // The checkpoint before the last goes once the run is past its last look for a signal, just before the test.
    wait_for_lines(&out, &mut child, 8);
    while checkpoint(&out, 4).exists() || !checkpoint(&out, 7).exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended too early");
        sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("before the best model was tested") && said.contains("--resume"), "{said}");
    assert!(!said.contains("done:"), "{said}");
    for file in FILES {
        assert!(!out.join(file).exists(), "{file} of a test that was stopped");
    }
    let last = best_and_last(&out);
    assert!(resume(&out, "").output().unwrap().status.success());
    assert_eq!(best_and_last(&out), last);
    let report = json(&fs::read_to_string(out.join("classification.json")).unwrap());
    assert_eq!(report["sets"]["test"]["texts"], 150_000);
}

/// The best checkpoint is the first of equals here, and the last another.
#[test]
fn the_best_is_the_model_and_not_the_last() {
    let workshop = Workshop::new();
    let out = workshop.at("run");
    assert!(finetune(&workshop, &out, "--metric accuracy --lr 1e-2").output().unwrap().status.success());
    let [best, last] = best_and_last(&out);
    assert_ne!(best, last);
    let texts: String = examples(20, 77).into_iter().map(|(text, _)| text + "\n").collect();
    workshop.write("texts.txt", &texts);
    let labelled = |model: &Path| {
        ok_line("classify --json --batch 1 --threads 1", &[path(model), path(&workshop.at("texts.txt"))])
    };
    assert_eq!(labelled(&out), labelled(&best));
    assert_ne!(labelled(&out), labelled(&last));
    ok(["export", path(&out), "--out", path(&workshop.at("exported"))]);
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&workshop.at("exported")) == weights(&best) && weights(&best) != weights(&last));
    let found = json(&ok(["inspect", path(&out), "--json"]));
    assert_eq!(found["weights"], path(&best.join("model.safetensors")));
    assert_eq!(found["checkpoints"].as_object().unwrap().len(), 2);
    // A damaged best is passed over, with a warning.
    let tested = fs::read(out.join(FILES[0])).unwrap();
    fs::write(best.join("model.safetensors"), b"gone").unwrap();
    assert_eq!(labelled(&out), labelled(&last));
    let output = run(["inspect", path(&out)]);
    assert!(text(&output.stdout).contains("damaged"), "{}", text(&output.stdout));
    // So it is by the run itself, when that is to test its model.
    let output = resume(&out, "").output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let step = last.to_str().unwrap().rsplit('-').next().unwrap().trim_start_matches('0');
    let expected =
        ["passing over a damaged checkpoint", &format!("the best was that of step {step}"), path(&last)];
    assert!(expected.iter().all(|part| said.contains(part)), "{said}");
    assert_ne!(fs::read(out.join(FILES[0])).unwrap(), tested, "another model's predictions");
}

#[test]
fn what_would_be_another_run_is_refused() {
    let workshop = Workshop::new();
    let out = workshop.at("run");
    assert!(finetune(&workshop, &out, "--epochs 2").output().unwrap().status.success());
    let before = timeless(&out);
    let fails = |command: &mut Command, expected: &[&str]| {
        assert_fails(&command.output().unwrap(), 2, expected, &format!("{command:?}"));
        assert_eq!(timeless(&out), before);
    };
    fails(&mut resume(&out, "--batch 4"), &["--batch 4", "begun with 8"]);
    fails(&mut resume(&out, "--seed 2"), &["--seed 2", "begun with 1"]);
    fails(&mut resume(&out, "--max-length 9"), &["--max-length 9", "leave it out"]);
    fails(&mut resume(&out, "--no-header"), &["--no-header", "begun with false"]);
    fails(&mut resume(&out, "--epochs 1"), &["--epochs 1", "already done 14"]);
    fails(&mut resume(&workshop.at("base"), ""), &["base", "no finetune.toml"]);
    fails(&mut resume(&workshop.at("none"), ""), &["no such run folder"]);
    let mut complete = wikigpt("finetune complete --resume");
    fails(complete.arg(&out), &["\"classify\"", "\"complete\""]);
    let mut train = wikigpt("train --resume");
    fails(train.arg(&out), &["no config.toml"]);
    fails(resume(&out, "").arg("--out").arg(workshop.at("other")), &["--out", "--resume"]);
    // Another text in the data, wherever it is.
    let other = fs::read_to_string(workshop.at("valid.csv")).unwrap().replacen("good", "fine", 1);
    workshop.write("other.csv", &other);
    let file = workshop.at("other.csv");
    fails(resume(&out, "").arg("--valid").arg(&file), &["finetune.toml", "other data", "valid"]);
    workshop.write("valid.csv", &other);
    fails(&mut resume(&out, "--epochs 3"), &["finetune.toml", "other data", "valid"]);
    let damaged =
        fs::read_to_string(out.join("finetune.toml")).unwrap().replace("epochs = 2", "epochs = \"x\"");
    fs::write(out.join("finetune.toml"), damaged).unwrap();
    fails(&mut resume(&out, ""), &["finetune.toml", "string \"x\""]);
}

/// Packed rows in bf16, with dropout; what the model writes is measured in the end.
#[test]
fn on_the_emulated_gpu_a_killed_run_goes_on() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let base = completion::base(top.path());
    completion::jsonl(&at("pairs.jsonl"), &completion::words()[..36]);
    goes_on(&at, &base, "");
}

#[test]
fn on_the_emulated_gpu_adapters_go_on() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let base = completion::base(top.path());
    completion::jsonl(&at("pairs.jsonl"), &completion::words()[..24]);
    goes_on(&at, &base, "--lora 4");
}

fn goes_on(at: &dyn Fn(&str) -> PathBuf, base: &Path, flags: &str) {
    let (whole, killed) = (at("whole"), at("killed"));
    let fresh = |out: &Path| {
        let mut command = emulated(
            "finetune complete --device cuda --precision bf16 --epochs 3 --batch 2 --dropout 0.1 --lr 3e-3 --patience 0 \
             --valid-share 0.2 --test-share 0.1 --max-new-tokens 3 --eval-every 3 --checkpoint-every 1 \
             --metric f1 --metric-prompts 3",
        );
        command.args(flags.split_whitespace()).arg(base);
        command.arg("--train").arg(at("pairs.jsonl")).arg("--out").arg(out);
        command
    };
    assert!(fresh(&whole).output().unwrap().status.success());
    let mut child = start(&mut fresh(&killed));
    for lines in [2, 7] {
        wait_for_lines(&killed, &mut child, lines);
        child.kill().unwrap();
        child.wait().unwrap();
        child = start(emulated("finetune complete --resume").arg(&killed));
    }
    assert!(child.wait().unwrap().success());
    let steps = timeless(&whole).iter().filter(|line| line["kind"] == "train").count() as u64;
    assert_same_runs(&whole, &killed, steps, &["completion.json", "completions-test.txt"]);
}
