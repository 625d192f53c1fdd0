//! Every command on small things, as the contract of the command line has it.

mod common;

use std::fs;
use std::path::Path;

use common::{TINY, checkpoint, losses, metrics, ok, run, text, train_tiny, tree, wikigpt};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A folder's path as an argument.
fn at(top: &Path, name: &str) -> String {
    top.join(name).to_str().unwrap().to_owned()
}

#[test]
fn every_command_has_help() {
    for command in ["prepare", "train", "eval", "generate", "plan", "inspect", "import", "export", "doctor"] {
        let help = ok([command, "--help"]);
        assert!(help.contains("Usage: wikigpt"), "{help}");
    }
    assert!(ok(["--help"]).contains("train"));
    assert!(ok(["--version"]).starts_with("wikigpt "));
    assert_eq!(run::<&str>([]).status.code(), Some(2));
}

#[test]
fn a_run_without_arguments_trains_on_the_embedded_corpus() {
    let top = tempfile::tempdir().unwrap();
    let output = wikigpt().current_dir(top.path()).args(["train", "--steps", "12"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let folder = top.path().join("runs/001");
    let losses = losses(&folder, "train");
    assert!(losses[11].1 < losses[0].1 - 0.5, "the loss falls: {losses:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("runs/001") && stderr.contains("wikitext-2"), "{stderr}");
    for name in ["config.toml", "metrics.jsonl", "checkpoints"] {
        assert!(folder.join(name).exists(), "no {name}");
    }
    assert!(tree(&folder).iter().any(|p| p.to_string_lossy().contains("events.out.tfevents.")));
}

#[test]
fn a_run_logs_what_the_contract_says() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    let flags =
        ["--steps", "7", "--eval-every", "3", "--eval-batches", "2", "--grad-accum", "2", "--warmup", "2"];
    train_tiny(
        &folder,
        &[&flags[..], &["--schedule", "linear", "--lr", "1e-2", "--min-lr", "1e-3"]].concat(),
    );
    let lines = metrics(&folder);
    let order: Vec<_> =
        lines.iter().map(|l| (l["kind"].as_str().unwrap(), l["step"].as_u64().unwrap())).collect();
    let expected = [
        ("valid", 0),
        ("train", 0),
        ("train", 1),
        ("train", 2),
        ("valid", 3),
        ("train", 3),
        ("train", 4),
        ("train", 5),
        ("valid", 6),
        ("train", 6),
        ("valid", 7),
    ];
    assert_eq!(order, expected);
    assert_eq!(keys(&lines[0]), ["kind", "loss", "step", "tokens"]);
    assert_eq!(lines[0]["tokens"], 2 * 4 * 16);
    assert_eq!(
        keys(&lines[1]),
        ["grad_norm", "kind", "loss", "lr", "mfu", "step", "step_ms", "tokens", "tokens_per_second"]
    );
    assert_eq!(lines[1]["tokens"], 2 * 4 * 16);
    // lr·(i+1)/W below W = 2, then a line from lr at 2 to min-lr at 7.
    let rates: Vec<_> = lines.iter().filter_map(|l| l["lr"].as_f64()).collect();
    for (i, rate) in rates.iter().enumerate() {
        let expected = if i < 2 { 1e-2 * (i + 1) as f64 / 2.0 } else { 1e-2 - 9e-3 * (i - 2) as f64 / 5.0 };
        assert!((rate - expected).abs() < 1e-9, "step {i}: {rate} instead of {expected}");
    }
}

#[test]
fn accumulating_gradients_is_a_larger_batch() {
    let top = tempfile::tempdir().unwrap();
    let (whole, parts) = (top.path().join("whole"), top.path().join("parts"));
    let common = ["--steps", "5", "--order", "sequential", "--eval-every", "0"];
    train_tiny(&whole, &[&common[..], &["--batch", "8"]].concat());
    train_tiny(&parts, &[&common[..], &["--tokens-per-step", "128"]].concat());
    for ((_, a), (_, b)) in losses(&whole, "train").into_iter().zip(losses(&parts, "train")) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

#[test]
fn eval_reports_every_figure() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, &["--steps", "3"]);
    fs::write(top.path().join("text.txt"), "The lake lies among hills. It is deep.\n".repeat(60)).unwrap();
    let (data, source) = (at(top.path(), "data"), at(top.path(), "text.txt"));
    ok(["prepare", "--tokenizer", "bytes", "--valid-fraction", "0.5", "--text", &source, "--out", &data]);
    let model = folder.to_str().unwrap();
    let whole = json(&ok(["eval", model, "--data", &data, "--json"]));
    assert_eq!(
        keys(&whole),
        [
            "bits_per_byte",
            "bytes",
            "context",
            "loss",
            "perplexity",
            "split",
            "stride",
            "tokens",
            "word_perplexity",
            "words"
        ]
    );
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    let nats = number(&whole, "loss") * number(&whole, "tokens");
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * b.abs();
    assert!(near(number(&whole, "perplexity"), number(&whole, "loss").exp()));
    assert!(near(number(&whole, "word_perplexity"), (nats / number(&whole, "words")).exp()));
    assert!(near(number(&whole, "bits_per_byte"), nats / number(&whole, "bytes") / 2f64.ln()));
    assert_eq!(whole["tokens"].as_u64().unwrap() + 1, whole["bytes"].as_u64().unwrap());
    assert_eq!((whole["context"].as_u64(), whole["stride"].as_u64()), (Some(16), Some(16)));
    // With a stride every token is still predicted once; the same model sees more of what came before.
    let sliding = json(&ok(["eval", model, "--data", &data, "--stride", "4", "--json"]));
    assert_eq!(sliding["tokens"], whole["tokens"]);
    assert_ne!(sliding["loss"], whole["loss"]);
    assert!(ok(["eval", model, "--data", &data]).contains("perplexity"));
}

#[test]
fn generation_is_repeatable_utf8() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, &["--steps", "3"]);
    let model = folder.to_str().unwrap();
    let sample = |more: &[&str]| {
        let output = run([&["generate", model, "--max-new-tokens", "60"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        String::from_utf8(output.stdout).expect("whole UTF-8 only")
    };
    assert_eq!(sample(&["--seed", "7"]), sample(&["--seed", "7"]));
    assert_ne!(sample(&["--seed", "7"]), sample(&["--seed", "8"]));
    let greedy = ["--prompt", "The ", "--temperature", "0"];
    assert_eq!(sample(&greedy), sample(&[&greedy[..], &["--seed", "9"]].concat()));
    assert!(sample(&greedy).starts_with("The "));
    fs::write(top.path().join("prompt"), "Ein Fluß, 河 and ").unwrap();
    let prompted = sample(&["--prompt-file", &at(top.path(), "prompt"), "--top-k", "5", "--top-p", "0.9"]);
    assert!(prompted.starts_with("Ein Fluß, 河 and "), "{prompted}");
}

#[test]
fn plans_without_allocating() {
    let plan = json(&ok(["plan", "--preset", "gpt2", "--json"]));
    assert_eq!(keys(&plan), ["bytes", "flops_per_token", "parameters"]);
    assert_eq!(keys(&plan["bytes"]), ["activations", "gradients", "optimizer", "total", "weights"]);
    assert_eq!(plan["parameters"], 124_439_808);
    let bytes = |key: &str| plan["bytes"][key].as_u64().unwrap();
    assert!(bytes("weights") >= 4 * 124_439_808);
    assert_eq!(bytes("optimizer"), 2 * bytes("weights"));
    let sum = bytes("weights") + bytes("gradients") + bytes("optimizer") + bytes("activations");
    assert_eq!(bytes("total"), sum);
    let huge = ok(["plan", "--preset", "gpt2-xl", "--batch", "512"]);
    assert!(huge.contains("--batch"), "says which batch would fit, or that none does: {huge}");
}

#[test]
fn models_go_out_and_come_back() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, &["--steps", "3"]);
    let (model, hf, back) = (folder.to_str().unwrap(), at(top.path(), "hf"), at(top.path(), "back"));
    ok(["export", model, "--out", &hf]);
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        assert!(Path::new(&hf).join(name).is_file(), "no {name} in the export");
    }
    ok(["import", &hf, "--out", &back]);
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(Path::new(&hf)) == weights(Path::new(&back)));
    assert!(weights(Path::new(&hf)) == weights(&checkpoint(&folder, 3)));
    let say = |model: &str| ok(["generate", model, "--prompt", "A", "--max-new-tokens", "30", "--seed", "3"]);
    let step = checkpoint(&folder, 3);
    for other in [hf.as_str(), &back, step.to_str().unwrap()] {
        assert_eq!(say(model), say(other), "{other}");
    }
    // Training goes on from any of them.
    let further = at(top.path(), "further");
    ok(["train", "--init", &hf, "--steps", "2", "--batch", "2", "--out", &further]);
    let file = Path::new(&hf).join("model.safetensors");
    let again = at(top.path(), "again");
    let arguments = ["train", "--init", file.to_str().unwrap(), "--steps", "2", "--out", &again];
    ok(arguments.iter().chain(TINY).chain(&["--batch", "2"]));
    assert_eq!(losses(Path::new(&further), "train"), losses(Path::new(&again), "train"));
}

#[test]
fn inspect_knows_what_things_are() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("text.txt"), "Some text.\n".repeat(100)).unwrap();
    let (data, hf) = (at(top.path(), "data"), at(top.path(), "hf"));
    ok(["prepare", "--tokenizer", "bytes", "--text", &at(top.path(), "text.txt"), "--out", &data]);
    let folder = top.path().join("run");
    train_tiny(&folder, &["--steps", "2"]);
    ok(["export", folder.to_str().unwrap(), "--out", &hf]);
    let step = checkpoint(&folder, 2);
    let tokens =
        tree(Path::new(&data)).into_iter().find(|p| p.extension().is_some_and(|e| e == "bin")).unwrap();
    let cases = [
        (Path::new(&data), "dataset"),
        (&tokens, "tokens"),
        (&folder, "run"),
        (&step, "checkpoint"),
        (Path::new(&hf), "model"),
        (&step.join("optimizer.safetensors"), "safetensors"),
    ];
    for (path, kind) in cases {
        let found = json(&ok(["inspect", path.to_str().unwrap(), "--json"]));
        assert_eq!(found["kind"], kind, "{found}");
        assert!(!ok(["inspect", path.to_str().unwrap()]).is_empty());
    }
}

#[test]
fn doctor_describes_the_machine() {
    let report = json(&ok(["doctor", "--json"]));
    assert!(report["cpu"]["threads"].as_u64().unwrap() >= 1);
    assert!(report["gpu"].is_null() || report["gpu"].is_object());
    assert!(ok(["doctor"]).contains("threads"));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("run");
    train_tiny(&folder, &["--steps", "5"]);
    let arguments = ["train", "--resume", folder.to_str().unwrap(), "--steps", "400", "--grad-clip", "0"];
    let output = run(arguments.iter().chain(&["--lr", "1e30", "--schedule", "constant", "--warmup", "0"]));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("not finite") && stderr.contains("step-00000005"), "{stderr}");
    assert!(checkpoint(&folder, 5).is_dir());
    // With a checkpoint after each step, the one that holds what went wrong is not the newest.
    let arguments = ["train", "--resume", folder.to_str().unwrap(), "--steps", "400", "--grad-clip", "0"];
    let more =
        ["--lr", "1e30", "--schedule", "constant", "--warmup", "0", "--checkpoint-every", "1", "--keep", "1"];
    let output = run(arguments.iter().chain(&more));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    ok(["generate", folder.to_str().unwrap(), "--max-new-tokens", "3"]);
}
