//! The model beside Hugging Face's GPT-2 in PyTorch: a reference run on WikiText-2's bytes.
//!
//! It wants WIKIGPT_DATA, which holds `wikitext-2/wikitext-2-v1.zip`, and the run's folder: WIKIGPT_PARITY, or
//! `reference/parity-s` beside WIKIGPT_DATA.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wikigpt_cpu::{Cpu, cpu};
use wikigpt_gpt::files::{Model, load_model};
use wikigpt_gpt::{Batch, Decay, Regularize, Schedule, Trainer};
use wikigpt_ops::{AdamW, Rounding, Update};

const B: usize = 8;
const T: usize = 128;
const STEPS: usize = 60;

/// The reference run's `curve.json`.
#[derive(Deserialize)]
struct Curve {
    train_loss: Vec<f64>,
    grad_norm: Vec<f64>,
    lr: Vec<f64>,
    val_loss: BTreeMap<String, f64>,
    logits_0: Logits,
    grad_l2_step0: BTreeMap<String, f64>,
    param_l2_final: BTreeMap<String, f64>,
}

/// Of the first batch: the first entries of its first row and of its second sequence's last, and figures of all.
#[derive(Deserialize)]
struct Logits {
    b0_t0_first8: Vec<f32>,
    b1_tlast_first8: Vec<f32>,
    sum: f64,
    l2: f64,
}

struct Reference {
    curve: Curve,
    model: Model,
    train: Vec<u8>,
    valid: Vec<u8>,
}

/// The reference, or why it is not here.
fn reference(test: &str) -> Option<Reference> {
    let skip = |why: String| {
        println!("skipped: {test}: {why}");
        None
    };
    let Some(data) = env::var_os("WIKIGPT_DATA").map(PathBuf::from) else {
        return skip("WIKIGPT_DATA is not set".into());
    };
    let folder =
        env::var_os("WIKIGPT_PARITY").map_or_else(|| data.join("../reference/parity-s"), PathBuf::from);
    if !folder.is_dir() {
        return skip(format!("there is no reference run in {}", folder.display()));
    }
    let archive = data.join("wikitext-2/wikitext-2-v1.zip");
    Some(Reference {
        curve: serde_json::from_slice(&fs::read(folder.join("curve.json")).unwrap()).unwrap(),
        model: load_model(&folder).unwrap(),
        train: unzip(&archive, "wiki.train.tokens"),
        valid: unzip(&archive, "wiki.valid.tokens"),
    })
}

fn unzip(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(File::open(archive).unwrap()).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(&format!("wikitext-2/{name}")).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Inputs and targets of sequential batch `i`.
fn batch(bytes: &[u8], i: usize) -> (Vec<u32>, Vec<u32>) {
    let tokens: Vec<u32> = bytes[i * B * T..][..B * T + 1].iter().map(|byte| u32::from(*byte)).collect();
    (tokens[..B * T].to_vec(), tokens[1..].to_vec())
}

fn trainer(model: &Model) -> Trainer<Cpu> {
    let mut trainer = Trainer::new(cpu(0).unwrap(), &model.config, B, T).unwrap();
    trainer.set_params(&model.params).unwrap();
    trainer
}

/// ‖x‖₂ of every tensor, under Hugging Face's names.
fn norms(trainer: &Trainer<Cpu>, flat: &[f32]) -> BTreeMap<String, f64> {
    let norm = |values: &[f32]| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let tensors = &trainer.layout().tensors;
    tensors.iter().map(|t| (format!("transformer.{}", t.name), norm(&flat[t.range.clone()]))).collect()
}

/// Every tensor's norm within a relative tolerance, and none more or less than the reference has.
fn same_norms(ours: &BTreeMap<String, f64>, theirs: &BTreeMap<String, f64>, tolerance: f64) {
    assert!(ours.keys().eq(theirs.keys()), "{:?} and {:?}", ours.keys(), theirs.keys());
    for (name, theirs) in theirs {
        assert!((ours[name] / theirs - 1.0).abs() <= tolerance, "{name}: {} and {theirs}", ours[name]);
    }
}

#[test]
fn the_first_batch_has_the_references_logits_and_gradients() {
    let Some(reference) = reference("parity of logits and gradients") else { return };
    let (inputs, targets) = batch(&reference.train, 0);
    let mut trainer = trainer(&reference.model);

    let logits = trainer.logits(&inputs, None).unwrap();
    let expected = &reference.curve.logits_0;
    let V = reference.model.config.vocab_size;
    for (n, expected) in [(0, &expected.b0_t0_first8), (2 * T - 1, &expected.b1_tlast_first8)] {
        for (v, (ours, theirs)) in logits[n * V..].iter().zip(expected).enumerate() {
            assert!((ours - theirs).abs() <= 1e-4, "logits[{n},{v}]: {ours} and {theirs}");
        }
    }
    let sum: f64 = logits.iter().map(|x| f64::from(*x)).sum();
    let l2 = logits.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    // 1e-4 a logit would be 26 in the sum and 0.05 in the norm; rounding errors mostly cancel.
    assert!((sum - expected.sum).abs() <= 0.05, "{sum} and {}", expected.sum);
    assert!((l2 - expected.l2).abs() <= 1e-3, "{l2} and {}", expected.l2);

    trainer
        .accumulate(Batch::new(&inputs, &targets), 1.0 / (B * T) as f32, Regularize::NONE, Update::Set)
        .unwrap();
    let grads = trainer.grads().unwrap();
    same_norms(&norms(&trainer, &grads), &reference.curve.grad_l2_step0, 1e-4);
}

#[test]
fn sixty_steps_have_the_references_losses() {
    let Some(reference) = reference("parity of sixty steps") else { return };
    let curve = &reference.curve;
    let schedule = Schedule { decay: Decay::Cosine, lr: 1e-3, min_lr: 1e-4, warmup: 10, steps: STEPS as u64 };
    let mut trainer = trainer(&reference.model);
    let validate = |trainer: &mut Trainer<Cpu>, step: usize| {
        let mut loss = 0.0;
        for i in 0..10 {
            let (inputs, targets) = batch(&reference.valid, i);
            loss += trainer.forward(Batch::new(&inputs, &targets)).unwrap() / 10.0;
        }
        let theirs = curve.val_loss[&step.to_string()];
        assert!((loss - theirs).abs() <= 2e-3, "validation before step {step}: {loss} and {theirs}");
        (loss - theirs).abs()
    };
    let (mut worst, mut worst_validation) = (0.0_f64, 0.0_f64);
    for step in 0..STEPS {
        if step % 20 == 0 {
            worst_validation = worst_validation.max(validate(&mut trainer, step));
        }
        let lr = schedule.at(step as u64);
        assert!((lr - curve.lr[step]).abs() <= 1e-12, "step {step}: lr {lr} and {}", curve.lr[step]);
        let (inputs, targets) = batch(&reference.train, step);
        trainer
            .accumulate(Batch::new(&inputs, &targets), 1.0 / (B * T) as f32, Regularize::NONE, Update::Set)
            .unwrap();
        let report = trainer
            .step(AdamW {
                lr: lr as f32,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step: step as u64 + 1,
                clip: Some(1.0),
                rounding: Rounding::Nearest,
            })
            .unwrap();
        let (loss, norm) = (curve.train_loss[step], curve.grad_norm[step]);
        assert!((report.loss - loss).abs() <= 2e-3, "step {step}: loss {} and {loss}", report.loss);
        assert!(
            (report.grad_norm / norm - 1.0).abs() <= 1e-2,
            "step {step}: {} and {norm}",
            report.grad_norm
        );
        worst = worst.max((report.loss - loss).abs());
    }
    worst_validation = worst_validation.max(validate(&mut trainer, STEPS));
    println!("losses differ by {worst:.1e} at most, validation losses by {worst_validation:.1e}");
    let params = trainer.params().unwrap();
    same_norms(&norms(&trainer, &params), &curve.param_l2_final, 1e-2);
}
