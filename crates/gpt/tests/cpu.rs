//! The model on the CPU backend, in f32, against the float64 reference.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_cpu::{Cpu, cpu};
use wikigpt_gpt::{Batch, Config, Generator, Regularize, Trainer, init};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{AdamW, Ops, Rounding, Update};

const B: usize = 3;
const T: usize = 21;

fn configs() -> [Config; 2] {
    let plain = Config {
        vocab_size: 131,
        context: 24,
        n_layer: 3,
        n_head: 3,
        n_embd: 48,
        bias: true,
        tied: true,
        layernorm_eps: 1e-5,
        labels: Vec::new(),
    };
    [plain.clone(), Config { bias: false, tied: false, ..plain }]
}

fn tokens(seed: u32) -> Vec<u32> {
    (0..(B * T) as u32).map(|n| (n * n + 5 * n + seed) % 131).collect()
}

/// Losses and gradient norms of a few steps, then the parameters.
fn train<O: Ops>(ops: O, config: &Config) -> (Vec<[f64; 2]>, Vec<f32>) {
    let mut trainer = Trainer::new(ops, config, B, T).unwrap();
    trainer.set_params(&init(config, 3).unwrap()).unwrap();
    let mut reports = Vec::new();
    for step in 1..=5 {
        for (i, update) in [Update::Set, Update::Add].into_iter().enumerate() {
            let at = 10 * step as u32 + i as u32;
            let regularize = Regularize { dropout: 0.1, seed: at.into() };
            let scale = 1.0 / (2 * B * T) as f32;
            trainer.accumulate(Batch::new(&tokens(at), &tokens(at + 1)), scale, regularize, update).unwrap();
        }
        let adamw = AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            clip: Some(1.0),
            rounding: Rounding::Nearest,
        };
        let report = trainer.step(adamw).unwrap();
        reports.push([report.loss, report.grad_norm]);
    }
    (reports, trainer.params().unwrap())
}

#[test]
fn steps_are_those_of_the_reference() {
    for config in configs() {
        let (ours, params) = train(cpu(2).unwrap(), &config);
        let (exact, exact_params) = train(Reference::new(), &config);
        for (ours, exact) in ours.iter().flatten().zip(exact.iter().flatten()) {
            assert!((ours / exact - 1.0).abs() < 1e-5, "{ours} and {exact}");
        }
        // A gradient that is 0 but for rounding moves its parameter by up to lr a step in either direction; few are.
        let error: f64 = params.iter().zip(&exact_params).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let size: f64 = exact_params.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((error / size).sqrt() < 1e-4, "{}", (error / size).sqrt());
    }
}

#[test]
fn the_same_run_gives_the_same_bits() {
    let [config, _] = configs();
    assert_eq!(train(cpu(2).unwrap(), &config), train(cpu(2).unwrap(), &config));
}

fn compare(ours: &mut Generator<Cpu>, exact: &mut Generator<Reference>, slot: usize, after: &str) {
    for (a, b) in ours.logits(slot).unwrap().iter().zip(exact.logits(slot).unwrap()) {
        assert!((a - b).abs() < 1e-3, "{a} and {b} in slot {slot} after {after}");
    }
}

#[test]
fn generation_is_that_of_the_reference() {
    for config in configs() {
        let params: Vec<f32> = init(&config, 7).unwrap().iter().map(|x| x * 4.0).collect();
        let mut ours = Generator::new(cpu(2).unwrap(), &config, &params, 2).unwrap();
        let mut exact = Generator::new(Reference::new(), &config, &params, 2).unwrap();
        let prompt: Vec<u32> = (0..20).map(|i| 6 * i).collect();
        for (slot, prompt) in [(0, &prompt[..13]), (1, &prompt[..])] {
            ours.prefill(slot, prompt).unwrap();
            exact.prefill(slot, prompt).unwrap();
            compare(&mut ours, &mut exact, slot, "its prompt");
        }
        for step in 0..40 {
            let next = [(0, step * 3 % 131), (1, step * 7 % 131)];
            ours.step(&next).unwrap();
            exact.step(&next).unwrap();
            (0..2).for_each(|slot| compare(&mut ours, &mut exact, slot, &format!("step {step}")));
        }
    }
}
