//! Heads that tell labels apart, batches of several shapes, and layers that are not trained.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_cpu::cpu;
use wikigpt_gpt::{Batch, Config, Evaluator, Generator, Layout, Regularize, Trainer, init};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{AdamW, IGNORE, Ops, Update};

fn language() -> Config {
    Config {
        vocab_size: 131,
        context: 24,
        n_layer: 3,
        n_head: 3,
        n_embd: 48,
        ..Config::preset("tiny", 131).unwrap()
    }
}

fn classifier() -> Config {
    language().classifier(["bad", "fair", "good"].map(String::from).to_vec())
}

fn text(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32).map(|n| (n * n + 5 * n + seed) % 131).collect()
}

/// Texts of these lengths, padded to T, each with a label at its last token.
fn batch(lengths: &[usize], T: usize, padding: u32) -> (Vec<u32>, Vec<u32>) {
    let (mut inputs, mut targets) = (vec![padding; lengths.len() * T], vec![IGNORE; lengths.len() * T]);
    for (b, length) in lengths.iter().enumerate() {
        inputs[b * T..b * T + length].copy_from_slice(&text(*length, b as u32));
        targets[b * T + length - 1] = b as u32 % 3;
    }
    (inputs, targets)
}

fn trainer<O: Ops>(ops: O, config: &Config, B: usize, T: usize) -> Trainer<O> {
    let mut trainer = Trainer::new(ops, config, B, T).unwrap();
    trainer.set_params(&init(config, 3).unwrap()).unwrap();
    trainer
}

fn adamw(step: u64) -> AdamW {
    AdamW { lr: 1e-2, weight_decay: 0.1, step, ..AdamW::default() }
}

/// The logits of a text by itself are those that it has in any batch, whatever stands in the padding.
fn padding_changes_nothing<O: Ops>(ops: impl Fn() -> O, tolerance: f32) {
    let config = classifier();
    let lengths = [7, 21, 1, 12];
    let last = |T: usize| -> Vec<usize> {
        lengths.iter().enumerate().map(|(b, length)| b * T + length - 1).collect()
    };
    let mut model = Evaluator::new(ops(), &config, &init(&config, 3).unwrap(), 4, 24).unwrap();
    let mut alone = Vec::new();
    for (b, length) in lengths.into_iter().enumerate() {
        model.reshape(1, length).unwrap();
        alone.extend(model.logits_at(&text(length, b as u32), &[length - 1]).unwrap());
    }
    for (T, padding) in [(21, 0), (24, 130), (21, 77)] {
        model.reshape(4, T).unwrap();
        let together = model.logits_at(&batch(&lengths, T, padding).0, &last(T)).unwrap();
        assert_eq!(together.len(), 4 * 3);
        for (a, b) in together.iter().zip(&alone) {
            assert!((a - b).abs() <= tolerance, "{a} and {b}");
        }
    }
}

#[test]
fn a_text_is_labelled_alike_alone_and_in_a_batch() {
    padding_changes_nothing(Reference::new, 0.0);
    padding_changes_nothing(|| cpu(2).unwrap(), 1e-6);
}

#[test]
fn labels_are_learnt() {
    let config = classifier();
    let mut trainer = trainer(cpu(2).unwrap(), &config, 6, 24);
    let (inputs, targets) = batch(&[7, 21, 5, 12, 24, 3], 24, 0);
    for step in 1..=60 {
        trainer.accumulate(Batch::new(&inputs, &targets), 1.0 / 6.0, Regularize::NONE, Update::Set).unwrap();
        trainer.step(adamw(step)).unwrap();
    }
    assert!(trainer.forward(Batch::new(&inputs, &targets)).unwrap() < 0.05);
}

#[test]
fn smaller_batches_fit_into_the_memory_of_larger_ones() {
    for config in [language(), classifier()] {
        let (mut large, mut small) =
            (trainer(cpu(1).unwrap(), &config, 4, 24), trainer(cpu(1).unwrap(), &config, 3, 9));
        let regularize = Regularize { dropout: 0.1, seed: 5 };
        let first = batch(&[24, 3, 20, 9], 24, 0);
        for trainer in [&mut large, &mut small] {
            let (inputs, targets) = batch(&[9, 4, 7], 9, 0);
            // What a larger batch left in memory is of no account.
            if trainer.reshape(4, 24).is_ok() {
                trainer
                    .accumulate(Batch::new(&first.0, &first.1), 0.25, Regularize::NONE, Update::Set)
                    .unwrap();
            }
            trainer.reshape(3, 9).unwrap();
            trainer.accumulate(Batch::new(&inputs, &targets), 0.25, regularize, Update::Set).unwrap();
            trainer.accumulate(Batch::new(&inputs, &targets), 0.25, regularize, Update::Add).unwrap();
            trainer.step(adamw(1)).unwrap();
        }
        assert_eq!(large.losses().unwrap(), small.losses().unwrap());
        assert!(large.params().unwrap() == small.params().unwrap());
        let error = small.reshape(4, 9).unwrap_err().to_string();
        assert!(error.contains("4 sequences of 9 tokens do not fit"), "{error}");
        let error = large.reshape(1, 25).unwrap_err().to_string();
        assert!(error.contains("longer than the model's context of 24"), "{error}");
    }
}

/// What is frozen keeps its bits, weight decay or not; what is not is trained as if nothing were.
#[test]
fn frozen_layers_stay_as_they_are() {
    let untied = Config { tied: false, ..language() };
    for config in [classifier(), language(), untied] {
        for frozen in 0..=3 {
            let (inputs, mut targets) = batch(&[7, 21, 5, 12], 24, 0);
            targets[3] = 2;
            let [mut whole, mut part] = [0, 1].map(|_| trainer(cpu(2).unwrap(), &config, 4, 24));
            part.freeze(Some(frozen)).unwrap();
            let first = match part.layout().blocks.get(frozen) {
                Some(block) => block.ln_1.weight.start,
                None => part.layout().ln_f.weight.start,
            };
            for trainer in [&mut whole, &mut part] {
                trainer
                    .accumulate(
                        Batch::new(&inputs, &targets),
                        0.2,
                        Regularize { dropout: 0.1, seed: 1 },
                        Update::Set,
                    )
                    .unwrap();
            }
            let (a, b) = (whole.grads().unwrap(), part.grads().unwrap());
            assert!(a[first..] == b[first..], "{frozen} frozen: the gradients above differ");

            let before = part.params().unwrap();
            let norm = b[first..].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let report = part.step(adamw(1)).unwrap();
            assert!((report.grad_norm / norm - 1.0).abs() < 1e-5, "{} and {norm}", report.grad_norm);
            part.accumulate(Batch::new(&inputs, &targets), 0.2, Regularize::NONE, Update::Set).unwrap();
            part.step(adamw(2)).unwrap();
            let after = part.params().unwrap();
            assert!(before[..first].iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits()));
            for tensor in part.layout().tensors.iter().filter(|tensor| tensor.range.start >= first) {
                assert!(before[tensor.live()] != after[tensor.live()], "{} was not trained", tensor.name);
            }
        }
    }
    let error = trainer(cpu(1).unwrap(), &language(), 1, 2).freeze(Some(4)).unwrap_err().to_string();
    assert_eq!(error, "4 blocks cannot be frozen: the model has 3");
}

#[test]
fn a_label_that_there_is_not_is_refused() {
    let mut trainer = trainer(Reference::new(), &classifier(), 1, 2);
    let error = trainer.forward(Batch::new(&[1, 2], &[IGNORE, 3])).unwrap_err().to_string();
    assert_eq!(error, "targets hold label 3 at position 1, but the model has 3 labels");
    let error = trainer.forward(Batch::new(&[1, 131], &[IGNORE, 2])).unwrap_err().to_string();
    assert_eq!(error, "inputs hold token 131 at position 1, but the model's vocabulary has 131 tokens");
    assert!(trainer.forward(Batch::new(&[1, 130], &[IGNORE, 2])).is_ok());
}

#[test]
fn a_classifier_does_not_write() {
    let config = classifier();
    let params = vec![0.0; Layout::new(&config).unwrap().len];
    let error = Generator::new(Reference::new(), &config, &params, 1).err().unwrap().to_string();
    assert_eq!(error, "the model classifies: it has no head that writes");
}
