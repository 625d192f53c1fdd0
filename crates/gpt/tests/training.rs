//! Steps of the trainer: gathered gradients, the optimizer, what is refused.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_gpt::{Array, Batch, Config, Error, Evaluator, Regularize, StepReport, Trainer, init};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{AdamW, Dropout, IGNORE, Ops, Rounding, Update};

const T: usize = 6;

fn config() -> Config {
    Config {
        vocab_size: 13,
        context: 8,
        n_layer: 2,
        n_head: 2,
        n_embd: 8,
        bias: true,
        tied: true,
        layernorm_eps: 1e-5,
        labels: Vec::new(),
    }
}

fn trainer(config: &Config, B: usize) -> Trainer<Reference> {
    let mut trainer = Trainer::new(Reference::new(), config, B, T).unwrap();
    trainer.set_params(&init(config, 3).unwrap()).unwrap();
    trainer
}

fn tokens(B: usize, seed: u32) -> Vec<u32> {
    (0..(B * T) as u32).map(|n| (n * n + 5 * n + seed) % 13).collect()
}

fn adamw(step: u64) -> AdamW {
    AdamW {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        clip: Some(1.0),
        rounding: Rounding::Nearest,
    }
}

const SCALE: f32 = 1.0 / (4 * T) as f32;

fn close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "{i}: {a} and {b}");
    }
}

/// Four steps of four sequences, in so many micro-batches each.
fn train(micro_batches: usize, regularize: Regularize) -> (Vec<StepReport>, Vec<f32>) {
    let B = 4 / micro_batches;
    let mut trainer = trainer(&config(), B);
    let mut reports = Vec::new();
    for step in 1..=4 {
        let (inputs, targets) = (tokens(4, step as u32), tokens(4, step as u32 + 1));
        for (i, (inputs, targets)) in inputs.chunks(B * T).zip(targets.chunks(B * T)).enumerate() {
            let update = if i == 0 { Update::Set } else { Update::Add };
            trainer.accumulate(Batch::new(inputs, targets), SCALE, regularize, update).unwrap();
        }
        reports.push(trainer.step(adamw(step)).unwrap());
    }
    (reports, trainer.params().unwrap())
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let (whole, params) = train(1, Regularize::NONE);
    let (split, split_params) = train(4, Regularize::NONE);
    for (whole, split) in whole.iter().zip(&split) {
        assert!((whole.loss - split.loss).abs() < 1e-6, "{whole:?} and {split:?}");
        assert!((whole.grad_norm / split.grad_norm - 1.0).abs() < 1e-6, "{whole:?} and {split:?}");
    }
    close(&params, &split_params, 1e-6);
    assert!(whole[3].loss < whole[0].loss);
}

#[test]
fn the_same_run_gives_the_same_bits() {
    let regularize = Regularize { dropout: 0.1, seed: 5 };
    assert_eq!(train(2, regularize), train(2, regularize));
    assert_ne!(train(2, regularize), train(2, Regularize { seed: 6, ..regularize }));
}

#[test]
fn the_loss_is_that_of_the_forward() {
    let mut trainer = trainer(&config(), 2);
    let (inputs, targets) = (tokens(2, 1), tokens(2, 2));
    let loss = trainer.forward(Batch::new(&inputs, &targets)).unwrap();
    let by_token = trainer.losses().unwrap().to_vec();
    let mean = by_token.iter().map(|loss| f64::from(*loss)).sum::<f64>() / (2 * T) as f64;
    assert!((loss - mean).abs() < 1e-6 && (loss - 13_f64.ln()).abs() < 0.1, "{loss} and {mean}");
    trainer
        .accumulate(Batch::new(&inputs, &targets), 1.0 / (2 * T) as f32, Regularize::NONE, Update::Set)
        .unwrap();
    let report = trainer.step(adamw(1)).unwrap();
    assert!((report.loss - loss).abs() < 1e-7, "{report:?} and {loss}");
    assert!(!report.skipped);
}

/// log softmax of the logits, worked out here, is the loss.
#[test]
fn logits_and_losses_agree() {
    let mut trainer = trainer(&config(), 1);
    let (inputs, targets) = (tokens(1, 1), tokens(1, 2));
    let logits = trainer.logits(&inputs, None).unwrap();
    trainer.forward(Batch::new(&inputs, &targets)).unwrap();
    for (t, loss) in trainer.losses().unwrap().iter().enumerate() {
        let row = &logits[t * 13..][..13];
        let expected = row.iter().map(|x| x.exp()).sum::<f32>().ln() - row[targets[t] as usize];
        assert!((loss - expected).abs() < 1e-6);
    }
}

#[test]
fn ignored_targets_take_no_part() {
    let mut trainer = trainer(&config(), 1);
    let (inputs, mut targets) = (tokens(1, 1), tokens(1, 2));
    targets[2..].fill(IGNORE);
    let loss = trainer.forward(Batch::new(&inputs, &targets)).unwrap();
    let losses = trainer.losses().unwrap();
    assert_eq!(losses[2..], [0.0; T - 2]);
    assert!((loss - f64::from(losses[0] + losses[1]) / 2.0).abs() < 1e-6);
    trainer.accumulate(Batch::new(&inputs, &targets), 0.5, Regularize::NONE, Update::Set).unwrap();
    assert!((trainer.step(adamw(1)).unwrap().loss - loss).abs() < 1e-6);

    targets.fill(IGNORE);
    assert_eq!(trainer.forward(Batch::new(&inputs, &targets)).unwrap(), 0.0);
    trainer.accumulate(Batch::new(&inputs, &targets), 1.0, Regularize::NONE, Update::Set).unwrap();
    let report = trainer.step(adamw(2)).unwrap();
    assert_eq!((report.loss, report.grad_norm), (0.0, 0.0));
}

#[test]
fn an_evaluator_computes_what_the_trainer_does() {
    for tied in [true, false] {
        let config = Config { tied, ..config() };
        let mut trainer = trainer(&config, 3);
        let mut evaluator =
            Evaluator::new(Reference::new(), &config, &trainer.params().unwrap(), 3, T).unwrap();
        let (inputs, targets) = (tokens(3, 1), tokens(3, 2));
        assert_eq!(
            trainer.forward(Batch::new(&inputs, &targets)).unwrap(),
            evaluator.forward(Batch::new(&inputs, &targets)).unwrap()
        );
        assert_eq!(trainer.losses().unwrap(), evaluator.losses().unwrap());
        assert_eq!(trainer.logits(&inputs, None).unwrap(), evaluator.logits(&inputs, None).unwrap());
    }
}

/// An evaluation between micro-batches changes neither gradients nor losses.
#[test]
fn a_forward_leaves_the_step_alone() {
    let run = |evaluate: bool| {
        let mut trainer = trainer(&config(), 2);
        for (i, update) in [Update::Set, Update::Add].into_iter().enumerate() {
            let (inputs, targets) = (tokens(2, i as u32), tokens(2, 7));
            trainer.accumulate(Batch::new(&inputs, &targets), SCALE, Regularize::NONE, update).unwrap();
            if evaluate {
                trainer.forward(Batch::new(&targets, &inputs)).unwrap();
                drop(trainer.generator(1).unwrap());
            }
        }
        (trainer.step(adamw(1)).unwrap(), trainer.params().unwrap())
    };
    assert_eq!(run(true), run(false));
}

/// The first update of AdamW by hand: with bias correction it is lr·g/(|g| + eps), and the decay beside it.
#[test]
fn decay_applies_to_tensors_of_two_dimensions() {
    let mut trainer = trainer(&config(), 2);
    let before = trainer.params().unwrap();
    trainer
        .accumulate(
            Batch::new(&tokens(2, 1), &tokens(2, 2)),
            1.0 / (2 * T) as f32,
            Regularize::NONE,
            Update::Set,
        )
        .unwrap();
    let grads = trainer.grads().unwrap();
    let report = trainer.step(AdamW { clip: None, ..adamw(1) }).unwrap();
    let norm = grads.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    assert!((report.grad_norm / norm - 1.0).abs() < 1e-6);
    let after = trainer.params().unwrap();
    for tensor in trainer.layout().tensors.clone() {
        let two =
            tensor.name.starts_with("w") || (tensor.name.ends_with("weight") && !tensor.name.contains("ln_"));
        let decay = if two { 0.1 } else { 0.0 };
        for i in tensor.live() {
            let (p, g) = (before[i], grads[i]);
            let expected = p - 1e-2 * (g / (g.abs() + 1e-8) + decay * p);
            assert!((after[i] - expected).abs() < 1e-6, "{}: {} and {expected}", tensor.name, after[i]);
        }
    }
}

#[test]
fn clipping_scales_the_gradient_to_its_limit() {
    let run = |scale: f32, clip| {
        let mut trainer = trainer(&config(), 2);
        trainer
            .accumulate(Batch::new(&tokens(2, 1), &tokens(2, 2)), scale, Regularize::NONE, Update::Set)
            .unwrap();
        let report = trainer.step(AdamW { clip, ..adamw(1) }).unwrap();
        let [m, _] = trainer.moments().unwrap();
        (report.grad_norm, m)
    };
    let (norm, plain) = run(0.25, None);
    let (clipped_norm, clipped) = run(0.25, Some(norm as f32 / 4.0));
    assert_eq!(norm, clipped_norm);
    let quarter: Vec<f32> = plain.iter().map(|m| m / 4.0).collect();
    close(&clipped, &quarter, 1e-8);
    assert_eq!(run(0.25, Some(norm as f32 * 2.0)).1, plain);
}

#[test]
fn moments_and_parameters_continue_a_run() {
    let go = |trainer: &mut Trainer<Reference>, step: u64| {
        let (inputs, targets) = (tokens(2, step as u32), tokens(2, step as u32 + 3));
        trainer.accumulate(Batch::new(&inputs, &targets), SCALE, Regularize::NONE, Update::Set).unwrap();
        trainer.step(adamw(step)).unwrap()
    };
    let mut first = trainer(&config(), 2);
    go(&mut first, 1);
    let (params, [m, v]) = (first.params().unwrap(), first.moments().unwrap());
    let mut second = Trainer::new(Reference::new(), &config(), 2, T).unwrap();
    second.set_params(&params).unwrap();
    second.write(Array::M, 0, &m).unwrap();
    second.write(Array::V, 0, &v).unwrap();
    // Any part of an array is what it is in the whole.
    for (array, whole) in [(Array::Params, &params), (Array::M, &m), (Array::V, &v)] {
        let mut part = vec![f32::NAN; 100];
        second.read(array, 70, &mut part).unwrap();
        assert_eq!(part, whole[70..170]);
        part.fill(0.25);
        second.write(array, 70, &part).unwrap();
        second.read(array, 0, &mut part).unwrap();
        assert_eq!((&part[..70], &part[70..]), (&whole[..70], &[0.25; 30][..]));
        second.write(array, 0, whole).unwrap();
    }
    // The first keeps float64, the second went through f32.
    assert!((go(&mut first, 2).loss - go(&mut second, 2).loss).abs() < 1e-6);
    close(&first.params().unwrap(), &second.params().unwrap(), 1e-6);
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing_and_is_reported() {
    let mut trainer = trainer(&config(), 2);
    let mut params = trainer.params().unwrap();
    let at = trainer.layout().blocks[1].c_fc.weight.start;
    params[at] = f32::NAN;
    trainer.set_params(&params).unwrap();
    trainer
        .accumulate(Batch::new(&tokens(2, 1), &tokens(2, 2)), SCALE, Regularize::NONE, Update::Set)
        .unwrap();
    let report = trainer.step(adamw(1)).unwrap();
    assert!(report.skipped && report.grad_norm.is_nan() && report.loss.is_nan(), "{report:?}");
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(trainer.params().unwrap()), bits(params));
    assert!(trainer.moments().unwrap()[0].iter().all(|m| *m == 0.0));
}

/// A parameter that the first step leaves without a gradient is named.
#[test]
fn a_parameter_without_a_gradient_is_an_error() {
    let mut trainer = trainer(&config(), 2);
    trainer
        .accumulate(Batch::new(&tokens(2, 1), &tokens(2, 2)), SCALE, Regularize::NONE, Update::Add)
        .unwrap();
    match trainer.step(adamw(1)) {
        Err(Error::NoGradient { tensor }) => assert_eq!(tensor, "wte.weight"),
        other => panic!("{other:?}"),
    }
    // As if the backward had forgotten one tensor of an otherwise complete gradient.
    let mut trainer = self::trainer(&config(), 2);
    let lost = trainer.layout().blocks[1].ln_2.bias.clone().unwrap();
    let slot = trainer.grad_slot();
    let mut untouched = vec![0.0; lost.len()];
    trainer.backend().download(&mut untouched, slot.slice(lost.clone())).unwrap();
    trainer
        .accumulate(Batch::new(&tokens(2, 1), &tokens(2, 2)), SCALE, Regularize::NONE, Update::Set)
        .unwrap();
    trainer.backend().upload(slot.slice(lost), &untouched).unwrap();
    let error = trainer.step(adamw(1)).unwrap_err().to_string();
    assert!(error.starts_with("h.1.ln_2.bias received no gradient"), "{error}");
}

#[test]
fn many_micro_batches_lose_no_loss() {
    let mut trainer = trainer(&config(), 1);
    let (inputs, targets) = (tokens(1, 1), tokens(1, 2));
    let loss = trainer.forward(Batch::new(&inputs, &targets)).unwrap();
    for i in 0..600 {
        let update = if i == 0 { Update::Set } else { Update::Add };
        trainer
            .accumulate(Batch::new(&inputs, &targets), 1.0 / (600 * T) as f32, Regularize::NONE, update)
            .unwrap();
    }
    assert!((trainer.step(adamw(1)).unwrap().loss - loss).abs() < 1e-6);
}

#[test]
fn bad_arguments_are_one_clear_sentence() {
    let mut trainer = trainer(&config(), 2);
    let (good, none) = (tokens(2, 1), Regularize::NONE);
    let mut outside = good.clone();
    outside[3] = 13;
    let mut messages = vec![
        trainer.forward(Batch::new(&good[1..], &good)).unwrap_err(),
        trainer.forward(Batch::new(&outside, &good)).unwrap_err(),
        trainer.forward(Batch::new(&good, &outside)).unwrap_err(),
        trainer.accumulate(Batch::new(&good, &good), f32::NAN, none, Update::Set).unwrap_err(),
        trainer
            .accumulate(Batch::new(&good, &good), 1.0, Regularize { dropout: 1.0, seed: 0 }, Update::Set)
            .unwrap_err(),
        trainer.set_params(&[0.0]).unwrap_err(),
        trainer.step(adamw(1)).unwrap_err(),
    ];
    trainer.accumulate(Batch::new(&good, &good), 1.0, none, Update::Set).unwrap();
    messages.push(trainer.step(adamw(0)).unwrap_err());
    messages.push(Trainer::new(Reference::new(), &config(), 2, 9).err().unwrap());
    let expected = [
        "inputs must hold B·T = 2·6 tokens, got 11",
        "inputs hold token 13 at position 3, but the model's vocabulary has 13 tokens",
        "targets hold token 13 at position 3",
        "the loss cannot be scaled by NaN",
        "the dropout probability must be at least 0 and less than 1, got 1",
        "the parameters must hold",
        "accumulate comes first",
        "numbered from 1",
        "sequences of 9 tokens are longer than the model's context of 8",
    ];
    for (message, expected) in messages.iter().map(Error::to_string).zip(expected) {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(Dropout::NONE.p, none.dropout);
}
