//! The reference run of Hugging Face's GPT-2 in PyTorch, followed through the command line alone.

mod common;

use std::fs;
use std::path::Path;

use common::{data_or_skip, losses, ok};
use serde_json::Value;

#[test]
fn the_command_line_follows_the_reference_curve() {
    let test = "the_command_line_follows_the_reference_curve";
    let Some(data) = data_or_skip(test) else { return };
    let reference = data.join("../reference/parity-s");
    let Ok(curve) = fs::read_to_string(reference.join("curve.json")) else {
        println!("skipped: {test}: no {}", reference.display());
        return;
    };
    let curve: Value = serde_json::from_str(&curve).unwrap();
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name).to_str().unwrap().to_owned();
    let archive = data.join("wikitext-2/wikitext-2-v1.zip");
    let (tokens, run) = (at("data"), at("run"));
    let archive = archive.to_str().unwrap();
    ok(["prepare", "wikitext-2", "--archive", archive, "--tokenizer", "bytes", "--out", &tokens]);
    let train = "train --batch 8 --steps 60 --lr 1e-3 --min-lr 1e-4 --warmup 10 --schedule cosine --weight-decay 0.1 \
                 --beta1 0.9 --beta2 0.95 --grad-clip 1 --order sequential --eval-every 20 --eval-batches 10 \
                 --sample-every 0";
    let places = ["--init", reference.to_str().unwrap(), "--data", &tokens, "--out", &run];
    ok(train.split_whitespace().chain(places));

    let trained = losses(Path::new(&run), "train");
    let expected = curve["train_loss"].as_array().unwrap();
    assert_eq!((trained.len(), expected.len()), (60, 60));
    for ((step, loss), expected) in trained.iter().zip(expected) {
        let expected = expected.as_f64().unwrap();
        assert!((loss - expected).abs() < 2e-3, "step {step}: {loss} instead of {expected}");
    }
    let valid = losses(Path::new(&run), "valid");
    assert_eq!(valid.len(), 4);
    for (step, loss) in valid {
        let expected = curve["val_loss"][step.to_string()].as_f64().unwrap();
        assert!((loss - expected).abs() < 2e-3, "validation at step {step}: {loss} instead of {expected}");
    }
}
