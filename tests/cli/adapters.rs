//! `--lora`: adapters that are trained, kept, read and exported in place of a model.

use std::fs;
use std::path::Path;

use crate::classify::{Workshop, examples};
use crate::common::{assert_fails, best_and_last, json, losses, ok, ok_line, path, run, text};
use crate::completion;

/// A model that knows little learns by adapters that count much.
const LEARN: &str =
    "--lora 16 --lora-alpha 128 --epochs 40 --batch 8 --lr 5e-3 --dropout 0 --threads 1 --patience 0";

/// `finetune classify` into `out`.
fn finetune(workshop: &Workshop, base: &str, out: &str, flags: &str) {
    let [base, train, valid, out] = [base, "train.csv", "valid.csv", out].map(|name| workshop.at(name));
    let more = [path(&base), "--train", path(&train), "--valid", path(&valid), "--out", path(&out)];
    ok_line(&format!("finetune classify {flags}"), &more);
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn a_classifier_is_learned_kept_small_and_merged() {
    let workshop = Workshop::new();
    let model = workshop.at("base/checkpoints/step-00000030/model.safetensors");
    let before = bytes(&model);
    finetune(&workshop, "base", "run", LEARN);
    assert_eq!(bytes(&model), before, "the model itself stays as it is");
    let (run, exported, alone) = (workshop.at("run"), workshop.at("exported"), workshop.at("alone"));
    let report = json(&fs::read_to_string(run.join("classification.json")).unwrap());
    assert!(report["sets"]["valid"]["accuracy"].as_f64().unwrap() >= 0.95, "{report}");
    let [best, _] = best_and_last(&run);
    assert!(!best.join("model.safetensors").exists());

    let found = json(&ok(["inspect", path(&run), "--json"]));
    let kept = run.join("base").canonicalize().unwrap();
    let adapters = &found["adapters"];
    assert_eq!((&adapters["rank"], &adapters["base"]["path"]), (&16.into(), &path(&kept).into()));

    // By itself, with its model, and from the adapters alone it says the same.
    ok(["export", path(&run), "--out", path(&exported)]);
    ok(["export", path(&run), "--adapters", "--out", path(&alone)]);
    assert!(exported.join("model.safetensors").is_file() && !exported.join("adapter_config.json").exists());
    assert_eq!(
        bytes(&alone.join("adapter_model.safetensors")),
        bytes(&best.join("adapter_model.safetensors"))
    );
    let texts: String = examples(20, 77).into_iter().map(|(text, _)| text + "\n").collect();
    workshop.write("texts.txt", &texts);
    let file = workshop.at("texts.txt");
    let labelled = |model: &Path| ok_line("classify --json --threads 1", &[path(model), path(&file)]);
    let of_run = labelled(&run);
    assert_eq!(of_run.lines().count(), 20);
    assert_eq!((labelled(&exported), labelled(&alone)), (of_run.clone(), of_run.clone()));

    // What becomes of the model that they were begun beside does not matter, nor where the run is moved to.
    fs::rename(workshop.at("base"), workshop.at("moved")).unwrap();
    fs::rename(&run, workshop.at("elsewhere")).unwrap();
    let (run, moved, merged) = (workshop.at("elsewhere"), workshop.at("moved"), workshop.at("merged"));
    assert_eq!(labelled(&run), of_run);
    // Without the model that the run kept, it has to be named.
    fs::remove_dir_all(run.join("base")).unwrap();
    let output = crate::common::run(["classify", path(&run), path(&file)]);
    assert_fails(&output, 2, &["adapter_config.json", "is not there", "--base MODEL"], "without its model");
    ok(["export", path(&run), "--base", path(&moved), "--out", path(&merged)]);
    assert_eq!(labelled(&merged), of_run);
    let named = workshop.at("named");
    ok(["export", path(&run), "--adapters", "--base", "gpt2", "--out", path(&named)]);
    let settings = json(&fs::read_to_string(named.join("adapter_config.json")).unwrap());
    assert_eq!(settings["base_model_name_or_path"], "gpt2");
}

/// The checkpoint that adapters were begun beside is gone once its run has gone on; they have it still.
#[test]
fn the_model_may_be_trained_on() {
    let workshop = Workshop::new();
    finetune(&workshop, "base", "run", "--lora 2 --epochs 1 --threads 1");
    workshop.write("texts.txt", "so good 7\n");
    let (run, base, file) = (workshop.at("run"), workshop.at("base"), workshop.at("texts.txt"));
    let labelled = || ok(["classify", path(&run), path(&file), "--json", "--threads", "1"]);
    let before = labelled();
    ok_line("train --steps 60 --checkpoint-every 10 --keep 1 --resume", &[path(&base)]);
    assert!(!base.join("checkpoints/step-00000030").exists());
    assert_eq!(labelled(), before);
    ok_line("finetune classify --epochs 2 --resume", &[path(&run)]);
}

/// Adapters on top of a model that is itself one with adapters.
#[test]
fn adapters_may_be_for_a_model_with_adapters() {
    let workshop = Workshop::new();
    finetune(&workshop, "base", "first", "--lora 2 --epochs 2 --threads 1");
    finetune(
        &workshop,
        "first",
        "second",
        "--lora 3 --lora-targets attn.c_attn,mlp.c_proj --epochs 2 --threads 1",
    );
    let [best, _] = best_and_last(&workshop.at("second"));
    let settings = json(&fs::read_to_string(best.join("adapter_config.json")).unwrap());
    assert_eq!(settings["target_modules"], serde_json::json!(["attn.c_attn", "mlp.c_proj"]));
    let kept = workshop.at("second/base").canonicalize().unwrap();
    assert_eq!(settings["base_model_name_or_path"], path(&kept));
    // It is whole there: the first run is not needed any more.
    fs::remove_dir_all(workshop.at("first")).unwrap();
    workshop.write("texts.txt", "so good 7\n");
    ok(["classify", path(&workshop.at("second")), path(&workshop.at("texts.txt"))]);
}

#[test]
fn prompts_are_completed_with_adapters() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let base = completion::base(top.path());
    completion::jsonl(&at("pairs.jsonl"), &completion::words());
    let pairs = at("pairs.jsonl");
    let (run, exported) = (at("run"), at("exported"));
    let flags = "--lora 8 --lora-alpha 64 --freeze 1 --epochs 4 --batch 4 --lr 1e-2 --dropout 0 --threads 1";
    let more = [path(&base), "--train", path(&pairs), "--out", path(&run)];
    ok_line(&format!("finetune complete {flags}"), &more);
    let validations = losses(&run, "valid");
    let (first, last) = (validations[0].1, validations[validations.len() - 1].1);
    // Behind the head of a model that knows nothing there is not much to learn.
    assert!(last < first, "{validations:?}");
    ok(["export", path(&run), "--out", path(&exported)]);
    let write = |command: &str, model: &Path| {
        let flags = "--max-new-tokens 12 --temperature 0 --threads 1 --prompt";
        ok_line(&format!("{command} {flags}"), &["stone", path(model)])
    };
    assert_eq!(write("generate", &run), write("generate", &exported));
    let [best, _] = best_and_last(&run);
    let settings = json(&fs::read_to_string(best.join("adapter_config.json")).unwrap());
    assert_eq!(
        (&settings["task_type"], &settings["layers_to_transform"]),
        (&"CAUSAL_LM".into(), &serde_json::json!([1]))
    );
}

#[test]
fn what_adapters_cannot_be_gets_one_sentence() {
    let workshop = Workshop::new();
    let out = workshop.at("run");
    let [base, train, valid] = ["base", "train.csv", "valid.csv"].map(|name| workshop.at(name));
    for (flags, expected) in [
        ("--lora 0", &["--lora", "between 1 and the model's 16 channels", "0"][..]),
        ("--lora 17", &["--lora", "16 channels", "17"]),
        ("--lora 4 --lora-alpha 0", &["--lora", "alpha", "0"]),
        ("--lora 4 --lora-targets c_proj", &["--lora", "'c_proj'", "attn.c_proj, mlp.c_fc"]),
        ("--lora 4 --freeze 2", &["--lora", "none is left for adapters"]),
        ("--lora-alpha 8", &["--lora <R>"]),
    ] {
        let mut arguments: Vec<&str> = ["finetune", "classify"].to_vec();
        arguments.extend(flags.split_whitespace());
        arguments.extend([
            path(&base),
            "--train",
            path(&train),
            "--valid",
            path(&valid),
            "--out",
            path(&out),
        ]);
        assert_fails(&run(arguments), 2, expected, flags);
        assert!(!out.exists(), "{flags}");
    }
    let output = run(["export", path(&base), "--adapters", "--out", path(&out)]);
    assert_fails(&output, 2, &["a model that is whole, not adapters"], "export --adapters");
    let output = run(["export", path(&base), "--base", path(&base), "--out", path(&out)]);
    assert_fails(&output, 2, &["a model that is whole, not adapters"], "export --base");
    assert!(text(&output.stdout).is_empty() && !out.exists());
}
