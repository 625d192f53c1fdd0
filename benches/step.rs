//! A whole training step on the CPU: forward, backward, clip, AdamW, and the loss read back.
//!
//! ```text
//! cargo bench --bench step                 # S, M and GPT-2 124M; the last takes about a minute
//! cargo bench --bench step -- step/S       # one of them
//! WIKIGPT_THREADS=1 cargo bench --bench step
//! ```
//!
//! The shapes are those of `tools/peers/configs.py`, and so is the formula of FLOPs; criterion's elements are tokens.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wikigpt_cpu::{Cpu, cpu};
use wikigpt_gpt::{Batch, Config, Plan, Regularize, Trainer, init};
use wikigpt_ops::{AdamW, Rounding, Update};

/// Name, preset, V, T and B.
const SHAPES: [(&str, &str, usize, usize, usize); 3] =
    [("S", "small", 256, 128, 16), ("M", "medium", 256, 256, 8), ("G", "gpt2", 50_257, 256, 2)];

fn threads() -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    std::env::var("WIKIGPT_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or_else(cores)
}

/// A model in training, and a batch.
struct Step {
    trainer: Trainer<Cpu>,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    updates: u64,
}

impl Step {
    fn new(config: &Config, B: usize, T: usize) -> Step {
        let cpu = cpu(threads()).expect("threads start");
        let mut trainer = Trainer::new(cpu, config, B, T).expect("there is memory");
        trainer.set_params(&init(config, 1).expect("a possible shape")).expect("as many as there are");
        // What the tokens are does not change a step's time, but which rows of the embedding they touch does.
        let token = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u32 % config.vocab_size as u32;
        let (inputs, targets) = ((0..B * T).map(token).collect(), (1..=B * T).map(token).collect());
        Step { trainer, inputs, targets, updates: 0 }
    }

    fn run(&mut self) {
        self.updates += 1;
        let scale = 1.0 / self.inputs.len() as f32;
        let (inputs, targets) = (&self.inputs, &self.targets);
        let done = self.trainer.accumulate(Batch::new(inputs, targets), scale, Regularize::NONE, Update::Set);
        let (beta1, beta2, eps, weight_decay) = (0.9, 0.95, 1e-8, 0.1);
        let adamw = AdamW {
            lr: 3e-4,
            beta1,
            beta2,
            eps,
            weight_decay,
            step: self.updates,
            clip: Some(1.0),
            rounding: Rounding::Nearest,
        };
        let report = done.and_then(|()| self.trainer.step(adamw)).expect("a step succeeds");
        assert!(report.loss.is_finite());
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for (name, preset, V, T, B) in SHAPES {
        let config = Config { context: T, ..Config::preset(preset, V).expect("a preset") };
        let flops = Plan::new(&config, B, T, true, size_of::<f32>(), size_of::<f32>())
            .expect("a possible shape")
            .flops_per_token;
        group.throughput(Throughput::Elements((B * T) as u64));
        if name != "S" {
            // The fewest that criterion takes: a step of G takes seconds.
            group.sample_size(10);
        }
        // Made when it is first asked for: a filter may leave it out.
        let mut step = None;
        let mut fastest = Duration::MAX;
        group.bench_function(name, |bencher| {
            let step = step.get_or_insert_with(|| Step::new(&config, B, T));
            bencher.iter_custom(|count| {
                let mut whole = Duration::ZERO;
                for _ in 0..count {
                    let start = Instant::now();
                    step.run();
                    let time = start.elapsed();
                    fastest = fastest.min(time);
                    whole += time;
                }
                whole
            });
        });
        if step.is_some() {
            let rate = (B * T) as f64 / fastest.as_secs_f64();
            println!(
                "step/{name}: fastest step {fastest:.1?}, {rate:.0} tokens/s, {:.1} GFLOP/s on {} threads",
                rate * flops as f64 / 1e9,
                threads()
            );
        }
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
