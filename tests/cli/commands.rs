//! Every command on small things, as the contract of the command line has it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{
    TINY, assert_fails, checkpoint, json, losses, metrics, ok, ok_line, path, prepare, run, text, train_tiny,
    tree, wikigpt,
};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn every_command_has_help() {
    for command in
        ["prepare", "train", "eval", "generate", "serve", "plan", "inspect", "import", "export", "doctor"]
    {
        let help = ok([command, "--help"]);
        assert!(help.contains("Usage: wikigpt") && help.contains("Example"), "{help}");
    }
    let help = ok(["--help"]);
    assert!(help.contains("train") && help.contains("Exit status: 0"), "{help}");
    assert!(ok(["--version"]).starts_with("wikigpt "));
    assert_eq!(run::<&str>([]).status.code(), Some(2));
}

#[test]
fn a_run_without_arguments_trains_on_the_embedded_corpus() {
    let top = tempfile::tempdir().unwrap();
    let output = wikigpt("train --steps 12 --eval-batches 1").current_dir(top.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    let folder = top.path().join("runs/001");
    let losses = losses(&folder, "train");
    assert!(losses[11].1 < losses[0].1 - 0.5, "the loss falls: {losses:?}");
    let stderr = text(&output.stderr);
    for part in ["sample", "runs/001", "wikitext-2", "generate", "GPU"] {
        assert!(stderr.contains(part), "no `{part}` in: {stderr}");
    }
    for name in ["config.toml", "metrics.jsonl", "checkpoints"] {
        assert!(folder.join(name).exists(), "no {name}");
    }
    assert!(tree(&folder).iter().any(|p| p.to_string_lossy().contains("events.out.tfevents.")));
}

#[test]
fn a_run_logs_what_the_contract_says() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    let flags = "--steps 7 --eval-every 3 --eval-batches 2 --grad-accum 2 --warmup 2 --schedule linear --lr 1e-2 \
                 --min-lr 1e-3";
    train_tiny(&folder, flags);
    let lines = metrics(&folder);
    let order: Vec<_> =
        lines.iter().map(|l| (l["kind"].as_str().unwrap(), l["step"].as_u64().unwrap())).collect();
    let (train, valid) = (|step| ("train", step), |step| ("valid", step));
    let expected = [
        [valid(0), train(0), train(1), train(2)],
        [valid(3), train(3), train(4), train(5)],
        [valid(6), train(6), valid(7), valid(7)],
    ];
    assert_eq!(order, expected.as_flattened()[..11]);
    assert_eq!(keys(&lines[0]), ["kind", "loss", "step", "tokens"]);
    assert_eq!(lines[0]["tokens"], 2 * 4 * 16);
    let all = ["grad_norm", "kind", "loss", "lr", "mfu", "step", "step_ms", "tokens", "tokens_per_second"];
    assert_eq!(keys(&lines[1]), all);
    assert_eq!(lines[1]["tokens"], 2 * 4 * 16);
    // lr·(i+1)/W below W = 2, then a line from lr at 2 to min-lr at 7.
    let rates: Vec<_> = lines.iter().filter_map(|l| l["lr"].as_f64()).collect();
    for (i, rate) in rates.iter().enumerate() {
        let expected = if i < 2 { 1e-2 * (i + 1) as f64 / 2.0 } else { 1e-2 - 9e-3 * (i - 2) as f64 / 5.0 };
        assert!((rate - expected).abs() < 1e-9, "step {i}: {rate} instead of {expected}");
    }
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    for line in text.lines() {
        let loss = line.split("\"loss\":").nth(1).unwrap().split(',').next().unwrap();
        assert!(loss.bytes().filter(u8::is_ascii_digit).count() >= 7, "too few digits: {line}");
    }
}

#[test]
fn accumulating_gradients_is_a_larger_batch() {
    let top = tempfile::tempdir().unwrap();
    let (whole, parts) = (top.path().join("whole"), top.path().join("parts"));
    let common = "--steps 5 --order sequential --eval-every 0 --sample-every 0";
    train_tiny(&whole, &format!("{common} --batch 8"));
    train_tiny(&parts, &format!("{common} --tokens-per-step 128"));
    for ((_, a), (_, b)) in losses(&whole, "train").into_iter().zip(losses(&parts, "train")) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

#[test]
fn epochs_are_passes_over_the_data() {
    let top = tempfile::tempdir().unwrap();
    let data = prepare(top.path(), &"The lake lies among hills.\n".repeat(100), "bytes");
    let tokens = json(&ok(["inspect", path(&data), "--json"]))["train"]["tokens"].as_u64().unwrap();
    let folder = top.path().join("run");
    let flags = format!("train {TINY} --epochs 1.5 --eval-every 0 --sample-every 0");
    ok_line(&flags, &["--data", path(&data), "--out", path(&folder)]);
    assert_eq!(losses(&folder, "train").len() as u64, tokens * 3 / 2 / 64);
}

#[test]
fn generation_is_repeatable_utf8() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 3");
    let sample = |more: &[&str]| {
        let output = run([&["generate", path(&folder), "--max-new-tokens", "60"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("tokens/s"));
        String::from_utf8(output.stdout).expect("whole UTF-8 only")
    };
    assert_eq!(sample(&["--seed", "7"]), sample(&["--seed", "7"]));
    assert_ne!(sample(&["--seed", "7"]), sample(&["--seed", "8"]));
    let greedy = ["--prompt", "The ", "--temperature", "0"];
    assert_eq!(sample(&greedy), sample(&[&greedy[..], &["--seed", "9"]].concat()));
    assert!(sample(&greedy).starts_with("The "));
    assert_eq!(sample(&["--prompt", "Ö", "--max-new-tokens", "0"]).trim_end(), "Ö");
    let file = top.path().join("prompt");
    fs::write(&file, "Ein Fluß, 河 and ").unwrap();
    let prompted = sample(&["--prompt-file", path(&file), "--top-k", "5", "--top-p", "0.9"]);
    assert!(prompted.starts_with("Ein Fluß, 河 and "), "{prompted}");

    // The same tokens as JSON, with the prompt as numbers.
    let ids = ["--prompt-ids", "84 104 101 32", "--temperature", "0", "--json"];
    let report = json(&sample(&ids));
    assert_eq!(report["prompt_ids"], json("[84, 104, 101, 32]"));
    assert_eq!(report["ids"].as_array().unwrap().len(), 60);
    assert_eq!(report["text"].as_str().unwrap(), sample(&greedy).strip_suffix('\n').unwrap());
    assert!(report["decode_tokens_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn plans_without_allocating() {
    let plan = json(&ok_line("plan --preset gpt2 --vocab-size 50257 --json", &[]));
    assert_eq!(keys(&plan), ["bytes", "flops_per_token", "parameters"]);
    assert_eq!(keys(&plan["bytes"]), ["activations", "gradients", "optimizer", "total", "weights"]);
    assert_eq!(plan["parameters"], 124_439_808);
    let bytes = |key: &str| plan["bytes"][key].as_u64().unwrap();
    assert!(bytes("weights") >= 4 * 124_439_808);
    assert_eq!(bytes("optimizer"), 2 * bytes("weights"));
    let sum = bytes("weights") + bytes("gradients") + bytes("optimizer") + bytes("activations");
    assert_eq!(bytes("total"), sum);
    let half = json(&ok_line("plan --preset gpt2 --precision bf16 --device cuda --json", &[]));
    assert_eq!(2 * half["bytes"]["weights"].as_u64().unwrap(), bytes("weights"));
    let huge = ok_line("plan --preset gpt2-1558m --batch 512", &[]);
    assert!(huge.contains("batch"), "says which batch would fit, or that none does: {huge}");
}

#[test]
fn models_go_out_and_come_back() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| path(&top.path().join(name)).to_owned();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 3");
    let (model, hf, back) = (path(&folder), at("hf"), at("back"));
    ok(["export", model, "--out", &hf]);
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        assert!(Path::new(&hf).join(name).is_file(), "no {name} in the export");
    }
    ok(["import", &hf, "--out", &back]);
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(Path::new(&hf)) == weights(Path::new(&back)));
    assert!(weights(Path::new(&hf)) == weights(&checkpoint(&folder, 3)));
    let step = checkpoint(&folder, 3);
    let say = |model: &str| ok(["generate", model, "--prompt", "A", "--max-new-tokens", "30", "--seed", "3"]);
    let judge = |model: &str| ok(["eval", model, "--stride", "8", "--threads", "1", "--json"]);
    for other in [hf.as_str(), &back, path(&step)] {
        assert_eq!(say(model), say(other), "{other}");
        assert_eq!(judge(model), judge(other), "{other}");
    }
    // Training goes on from any of them.
    let (further, again) = (top.path().join("further"), top.path().join("again"));
    let flags = "train --steps 2 --batch 2 --sample-every 0 --eval-every 0 --threads 1";
    ok_line(flags, &["--init", &hf, "--out", path(&further)]);
    // A file alone does not say what shape it has: flags do.
    let alone = top.path().join("alone.safetensors");
    fs::copy(Path::new(&hf).join("model.safetensors"), &alone).unwrap();
    ok_line(&format!("{flags} {TINY} --batch 2"), &["--init", path(&alone), "--out", path(&again)]);
    assert_eq!(losses(&further, "train"), losses(&again, "train"));
}

#[test]
fn a_model_without_a_tokenizer_is_evaluated() {
    let top = tempfile::tempdir().unwrap();
    let (folder, hf) = (top.path().join("run"), top.path().join("hf"));
    let data = prepare(top.path(), &"The lake lies among hills.\n".repeat(100), "bpe:270");
    let flags = format!("train {TINY} --steps 2 --sample-every 0");
    ok_line(&flags, &["--data", path(&data), "--out", path(&folder)]);
    ok(["export", path(&folder), "--out", path(&hf)]);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::remove_file(hf.join(name)).unwrap();
    }
    let figures = ["eval", path(&hf), "--data", path(&data), "--threads", "1", "--json"];
    assert_eq!(ok(figures), ok(["eval", path(&folder), "--data", path(&data), "--threads", "1", "--json"]));
    // It cannot write, for nobody knows what its tokens say.
    let output = run(["generate", path(&hf)]);
    assert_fails(&output, 2, &["no tokenizer"], "generate without a tokenizer");
}

#[test]
fn inspect_knows_what_things_are() {
    let top = tempfile::tempdir().unwrap();
    let data = prepare(top.path(), &"Some text.\n".repeat(200), "bytes");
    let (folder, hf) = (top.path().join("run"), top.path().join("hf"));
    train_tiny(&folder, "--steps 2");
    ok(["export", path(&folder), "--out", path(&hf)]);
    let step = checkpoint(&folder, 2);
    let lone = top.path().join("lone.safetensors");
    fs::copy(step.join("optimizer.safetensors"), &lone).unwrap();
    let cases = [
        (data.clone(), "dataset"),
        (data.join("dataset.json"), "dataset"),
        (data.join("train.bin"), "tokens"),
        (folder, "run"),
        (step.clone(), "checkpoint"),
        (step.join("model.safetensors"), "safetensors"),
        (hf, "hugging-face"),
        (lone, "safetensors"),
    ];
    for (what, kind) in cases {
        let found = json(&ok(["inspect", path(&what), "--json"]));
        assert_eq!(found["kind"], kind, "{found}");
        assert!(!ok(["inspect", path(&what)]).is_empty());
    }
}

#[test]
fn doctor_describes_the_machine() {
    let report = json(&ok(["doctor", "--json"]));
    assert!(report["cpu"]["threads"].as_u64().unwrap() >= 1);
    assert!(report["here"]["free"].as_u64().unwrap() > 0);
    assert_eq!(report["cuda"]["problem"].is_null(), report["auto"] != "cpu");
    assert!(ok(["doctor"]).contains("threads"));
}

#[test]
fn gradients_that_stay_beyond_numbers_stop_the_run_and_keep_the_checkpoint() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, "--steps 5");
    let wild = "train --steps 400 --grad-clip 0 --lr 1e30 --schedule constant --warmup 0 --resume";
    // With a checkpoint after each step, the one that holds what went wrong is not the newest.
    for checkpoints in ["", "--checkpoint-every 1 --keep 1"] {
        let output = wikigpt(&format!("{wild} {} {checkpoints}", path(&folder))).output().unwrap();
        assert_fails(&output, 1, &["10 steps in a row", "not finite", "step-00000005"], checkpoints);
        assert!(text(&output.stderr).contains("skipped"));
        assert!(checkpoint(&folder, 5).is_dir());
        let skipped = metrics(&folder)
            .iter()
            .filter(|line| line["grad_norm"].is_null() && line["kind"] == "train")
            .count();
        assert_eq!(skipped, 10);
        ok(["generate", path(&folder), "--max-new-tokens", "3"]);
    }
}
