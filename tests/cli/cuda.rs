//! `--device cuda` on the emulated driver, and without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::common::{
    TINY, assert_fails, assert_same, checkpoint, json, losses, ok_line, path, text, train_tiny,
    wait_for_lines, wikigpt,
};

/// The workspace's build folder.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the build folder").to_owned()
}

/// Folders of the NVRTC that `cargo xtask emulator` installs where there is no other.
fn nvrtc() -> Vec<PathBuf> {
    let Ok(pythons) = fs::read_dir(target().join("nvrtc-venv/lib")) else { return Vec::new() };
    pythons.flatten().map(|python| python.path().join("site-packages/nvidia/cu13/lib")).collect()
}

/// `wikigpt` with the emulator as its driver.
pub fn emulated(line: &str) -> Command {
    let driver = target().join("emulator");
    assert!(driver.join("libcuda.so").is_file(), "no {}: run `cargo xtask emulator` first", driver.display());
    let mut command = wikigpt(line);
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::iter::once(driver).chain(nvrtc()).chain(std::env::split_paths(&path));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
    command.env("WIKIGPT_KERNEL_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels"));
    command
}

fn run(line: &str, more: &[&str]) -> Output {
    emulated(line).args(more).output().expect("the binary starts")
}

/// Runs `wikigpt` on the emulator and expects success.
#[track_caller]
pub fn ok(line: &str, more: &[&str]) -> Output {
    let output = run(line, more);
    assert!(output.status.success(), "{}\n{}", output.status, text(&output.stderr));
    output
}

#[test]
fn a_run_is_the_cpus_and_goes_on_after_a_stop() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let (cpu, whole, halves) = (at("cpu"), at("whole"), at("halves"));
    let flags = "--steps 4 --warmup 1 --eval-every 0 --sample-every 0 --dropout 0.1 --grad-accum 2 --schedule constant --precision f32";
    train_tiny(&cpu, &format!("{flags} --device cpu"));
    // `auto` takes a GPU when there is one.
    ok(&format!("train {TINY} {flags}"), &["--out", path(&whole)]);
    for ((step, gpu), (_, cpu)) in losses(&whole, "train").iter().zip(&losses(&cpu, "train")) {
        assert!((gpu - cpu).abs() < 1e-4 * cpu, "step {step}: loss {gpu}, the CPU's {cpu}");
    }
    // Recorded and replayed, or launched one by one: the same bits.
    ok(
        &format!("train {TINY} {flags} --steps 2 --no-graph").replace("--steps 4", ""),
        &["--out", path(&halves)],
    );
    ok("train --steps 4", &["--resume", path(&halves)]);
    assert_same(&whole, &halves, 4);
    // What it wrote is evaluated and goes on writing there as on the CPU.
    let line = "generate --max-new-tokens 20 --seed 1 --json --prompt-ids 84";
    let written = |output: &[u8]| json(&text(output))["ids"].clone();
    let on_cpu = ok_line(&format!("{line} --device cpu"), &[path(&whole)]);
    assert_eq!(written(&ok(line, &[path(&whole)]).stdout), written(on_cpu.as_bytes()));
    let line = "eval --json --context 16 --batch 64";
    let loss = |output: &[u8]| json(&text(output))["loss"].as_f64().unwrap();
    let on_cpu = loss(ok_line(&format!("{line} --device cpu"), &[path(&whole)]).as_bytes());
    let on_gpu = loss(&ok(line, &[path(&whole)]).stdout);
    assert!((on_gpu - on_cpu).abs() < 1e-4 * on_cpu, "loss {on_gpu}, the CPU's {on_cpu}");
}

/// A run in which everything that a step depends on is in use.
const RUN: &str = "--steps 10 --warmup 1 --eval-every 0 --sample-every 0 --dropout 0.1 --grad-accum 2 --checkpoint-every 2 \
                   --precision bf16 --grad-precision bf16 --stochastic-rounding --device cuda";

#[test]
fn killed_at_any_moment_a_run_goes_on() {
    let top = tempfile::tempdir().unwrap();
    let (whole, killed) = (top.path().join("whole"), top.path().join("killed"));
    ok(&format!("train {TINY} {RUN}"), &["--out", path(&whole)]);

    let start = |line: &str| -> Child {
        emulated(line).arg(&killed).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut child = start(&format!("train {TINY} {RUN} --out"));
    for lines in [3, 6] {
        wait_for_lines(&killed, &mut child, lines);
        child.kill().unwrap();
        child.wait().unwrap();
        child = start("train --resume");
    }
    assert!(child.wait().unwrap().success());
    assert_same(&whole, &killed, 10);
}

#[test]
fn a_device_that_fails_is_named_and_the_run_goes_on() {
    let top = tempfile::tempdir().unwrap();
    let (whole, hurt) = (top.path().join("whole"), top.path().join("hurt"));
    let line = format!("train {TINY} {RUN}");
    ok(&line, &["--out", path(&whole)]);
    // Two layers, two micro-batches: the fifth step.
    let fail = |line: &str, sync: &str| {
        let mut command = emulated(line);
        command.env("WIKIGPT_EMU_FAIL", "attention_backward_q:17").env("WIKIGPT_CUDA_SYNC", sync);
        command.arg(&hurt).output().unwrap()
    };
    let output = fail(&format!("{line} --out"), "0");
    assert_fails(&output, 1, &["ILLEGAL_ADDRESS", "WIKIGPT_CUDA_SYNC=1 tells which"], "a device that fails");
    assert!(checkpoint(&hurt, 4).is_dir(), "the last checkpoint before it");
    // The sixth step and on, launch by launch.
    let output = fail("train --resume", "1");
    let expected =
        ["attention_backward", "kernel attention_backward_q on dqkv (4,16,3,2,8)", "ILLEGAL_ADDRESS"];
    assert_fails(&output, 1, &expected, "a device that fails, waited for");
    ok("train", &["--resume", path(&hurt)]);
    assert_same(&whole, &hurt, 10);
}

#[test]
fn doctor_tries_the_device() {
    let report = json(&text(&ok("doctor --json", &[]).stdout));
    let cuda = &report["cuda"];
    assert_eq!(cuda["problem"], serde_json::Value::Null);
    assert_eq!(cuda["driver"], "13.0");
    assert_eq!(cuda["devices"][0]["capability"], "9.0");
    assert_eq!(cuda["devices"][0]["self_test"], "a kernel was compiled, run and checked");
    assert_eq!(report["auto"], "cuda:0");
    let mut older = emulated("doctor");
    let older = text(&older.env("WIKIGPT_EMU_ARCH", "sm_86").output().unwrap().stdout);
    assert!(older.contains("compute capability 8.6") && older.contains("self-test: a kernel was"), "{older}");
}

#[test]
fn what_a_device_cannot_do_is_one_sentence() {
    let top = tempfile::tempdir().unwrap();
    let out = top.path().join("run");
    let cases: [(&str, i32, &[&str]); 3] = [
        ("--device cuda:3", 2, &["cuda:3", "1 GPU"]),
        ("--preset gpt2-1558m --batch 100", 2, &["of memory", "--batch", "would fit"]),
        ("--precision f32 --grad-precision bf16", 2, &["--grad-precision bf16"]),
    ];
    for (flags, status, expected) in cases {
        let output = run(&format!("train {flags}"), &["--out", path(&out)]);
        assert_fails(&output, status, expected, flags);
        assert!(!out.exists(), "{flags} left a run");
    }
}

#[test]
fn a_driver_older_than_the_compiler_is_named_with_both_versions() {
    let top = tempfile::tempdir().unwrap();
    let out = top.path().join("run");
    let mut command = emulated(&format!("train {TINY} --steps 1 --device cuda --out"));
    let output = command.arg(&out).env("WIKIGPT_EMU_DRIVER", "12.4").output().unwrap();
    assert_fails(&output, 1, &["CUDA 12.4", "NVRTC 13.0", "update the driver"], "an old driver");
    let mut doctor = emulated("doctor");
    let report = text(&doctor.env("WIKIGPT_EMU_DRIVER", "12.4").output().unwrap().stdout);
    assert!(report.contains("CUDA 12.4") && report.contains("update the driver"), "{report}");
}

/// Where there is a driver, or a compiler, nothing of this happens.
#[test]
fn what_is_missing_is_named_and_what_to_do() {
    let top = tempfile::tempdir().unwrap();
    let out = top.path().join("run");
    let report = json(&ok_line("doctor --json", &[]));
    let has = |part: &str| !report["cuda"][part].is_null();
    if has("driver") {
        println!("skipped: what_is_missing_is_named_and_what_to_do: there is a driver");
        return;
    }
    let output = wikigpt("train --device cuda --out").arg(&out).output().unwrap();
    assert_fails(&output, 2, &["--device cuda:0", "no NVIDIA driver", "--device cpu"], "no driver");
    if has("compiler") {
        println!("skipped: what_is_missing_is_named_and_what_to_do: NVRTC is installed");
        return;
    }
    let mut command = emulated("train --device cuda --out");
    command.arg(&out).env("LD_LIBRARY_PATH", target().join("emulator"));
    let output = command.output().unwrap();
    assert_fails(&output, 2, &["NVRTC", "pip install", "looked for"], "no compiler");
    // `auto` does without the GPU and says why.
    let mut command = emulated(&format!("train {TINY} --steps 1 --eval-every 0 --sample-every 0 --out"));
    let output = command.arg(&out).env("LD_LIBRARY_PATH", target().join("emulator")).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("takes the CPU"), "{}", text(&output.stderr));
}
