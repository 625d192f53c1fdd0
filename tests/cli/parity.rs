//! The reference run of Hugging Face's GPT-2 in PyTorch, followed through the command line alone.

use std::fs;
use std::path::Path;

use crate::common::{data_or_skip, json, losses, ok_line, path};

#[test]
fn the_command_line_follows_the_reference_curve() {
    let test = "the_command_line_follows_the_reference_curve";
    let Some(data) = data_or_skip(test) else { return };
    let reference = data.join("../reference/parity-s");
    let Ok(curve) = fs::read_to_string(reference.join("curve.json")) else {
        println!("skipped: {test}: no {}", reference.display());
        return;
    };
    let curve = json(&curve);
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| path(&top.path().join(name)).to_owned();
    let archive = data.join("wikitext-2/wikitext-2-v1.zip");
    let (tokens, run) = (at("data"), at("run"));
    ok_line("prepare wikitext-2 --tokenizer bytes", &["--archive", path(&archive), "--out", &tokens]);
    let train = "train --batch 8 --steps 60 --lr 1e-3 --min-lr 1e-4 --warmup 10 --schedule cosine --weight-decay 0.1 \
                 --beta1 0.9 --beta2 0.95 --grad-clip 1 --order sequential --eval-every 20 --eval-batches 10 \
                 --sample-every 0";
    ok_line(train, &["--init", path(&reference), "--data", &tokens, "--out", &run]);

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
