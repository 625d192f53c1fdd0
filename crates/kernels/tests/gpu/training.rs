//! A small GPT trained on the device: beside the CPU, twice, and interrupted.

use wikigpt_cpu::cpu;
use wikigpt_gpt::{
    Array, Batch, Config, Generator, Layout, Lora, Regularize, Sampler, Sampling, Trainer, init,
};
use wikigpt_kernels::{Gpu, Options, Precision};
use wikigpt_ops::{AdamW, Ops, Rounding, Update};

use crate::rig::{gpu, open_with};

/// Micro-batches of 2 sequences of 21 tokens: no tile's multiple.
const B: usize = 2;
const T: usize = 21;
const V: usize = 61;
/// Two of them a step.
const MICRO: usize = 2;

/// Widths that no tensor core takes, but for the products'.
fn odd() -> Config {
    Config { n_layer: 2, n_head: 2, n_embd: 24, context: 24, ..Config::preset("tiny", V).unwrap() }
}

/// A head of 64 channels, which tensor cores take.
fn even() -> Config {
    Config { n_head: 1, n_embd: 64, ..odd() }
}

/// Tokens of a micro-batch: a walk that can be learnt, other ones each time.
fn tokens(micro: usize) -> (Vec<u32>, Vec<u32>) {
    let token = |i: usize| ((i * i + 3 * i) % 17 + micro % 5) as u32;
    let inputs = (0..B * T).map(token).collect();
    (inputs, (1..=B * T).map(token).collect())
}

/// One step's gradients and update, with dropout; the loss before it.
fn step<O: Ops>(trainer: &mut Trainer<O>, number: u64, rounding: Rounding) -> f64 {
    for index in 0..MICRO {
        let micro = number as usize * MICRO + index;
        let (inputs, targets) = tokens(micro);
        // Every other micro-batch holds several texts a row, some of whose losses count more.
        let starts: Vec<u32> = (0..B * T).map(|n| (n % T / 8 * 8) as u32).collect();
        let weights: Vec<f32> = (0..B * T).map(|n| 0.5 + (n % 2) as f32).collect();
        let plain = Batch::new(&inputs, &targets);
        let packed = Batch { starts: Some(&starts), weights: Some(&weights), ..plain };
        let batch = if micro % 2 == 1 { packed } else { plain };
        let scale = 1.0 / (MICRO * B * T) as f32;
        let regularize = Regularize { dropout: 0.1, seed: micro as u64 };
        let update = if index == 0 { Update::Set } else { Update::Add };
        trainer.accumulate(batch, scale, regularize, update).unwrap();
    }
    let adamw = AdamW { lr: 3e-3, step: number + 1, rounding, ..AdamW::default() };
    trainer.step(adamw).unwrap().loss
}

fn trainer<O: Ops>(ops: O, config: &Config) -> Trainer<O> {
    let mut trainer = Trainer::new(ops, config, B, T).unwrap();
    trainer.set_params(&init(config, 7).unwrap()).unwrap();
    trainer
}

/// Adapters for the same model; of a rank that no tile is made for.
fn adapters<O: Ops>(ops: O, config: &Config) -> Trainer<O> {
    let mut params = init(config, 7).unwrap();
    // Logits of a fresh model are too small to tell tokens apart, whatever its layers do.
    params[Layout::new(config).unwrap().wte].iter_mut().for_each(|weight| *weight *= 10.0);
    Trainer::with_adapters(ops, config, &params, &Lora::new(5), 8, B, T).unwrap()
}

/// The losses of so many steps.
fn losses<O: Ops>(trainer: &mut Trainer<O>, steps: std::ops::Range<u64>, rounding: Rounding) -> Vec<f64> {
    steps.map(|number| step(trainer, number, rounding)).collect()
}

/// The bits of everything that training goes on from.
fn state(trainer: &mut Trainer<Gpu>) -> Vec<u32> {
    let [m, v] = trainer.moments().unwrap();
    let params = trainer.params().unwrap();
    params.iter().chain(&m).chain(&v).map(|x| x.to_bits()).collect()
}

/// Holds losses to those of the CPU.
fn follows(got: &[f64], config: &Config, tolerance: f64) {
    follow(got, &mut trainer(cpu(2).unwrap(), config), tolerance);
}

fn follow<O: Ops>(got: &[f64], trainer: &mut Trainer<O>, tolerance: f64) {
    let want = losses(trainer, 0..got.len() as u64, Rounding::Nearest);
    assert!(want[0] - want[want.len() - 1] > 0.5, "the CPU learns nothing: {want:?}");
    for (number, (got, want)) in got.iter().zip(&want).enumerate() {
        let off = (got - want).abs() / want;
        assert!(off < tolerance, "step {number}: loss {got}, the CPU's {want}, off by {off:.1e}");
    }
}

#[test]
fn losses_in_f32_are_the_cpus() {
    let mut trainer = trainer(gpu(Precision::F32, Precision::F32), &odd());
    follows(&losses(&mut trainer, 0..20, Rounding::Nearest), &odd(), 1e-4);
}

#[test]
fn losses_in_bf16_are_near_the_cpus_and_the_same_twice_recorded_or_not() {
    let run = |graph| {
        let options = Options { graph, ..Options::new(0, Precision::Bf16) };
        let mut trainer = trainer(open_with(options), &even());
        (losses(&mut trainer, 0..20, Rounding::Nearest), state(&mut trainer))
    };
    let (recorded, plain) = (run(true), run(false));
    follows(&recorded.0, &even(), 2e-2);
    assert_eq!(recorded.0, plain.0);
    assert!(recorded.1 == plain.1, "the same losses, other parameters");
}

#[test]
fn adapters_learn_what_the_cpus_do_and_nothing_else_changes() {
    for (precision, config, tolerance) in [(Precision::F32, odd(), 1e-4), (Precision::Bf16, even(), 2e-2)] {
        let mut trainer = adapters(gpu(precision, Precision::F32), &config);
        let got = losses(&mut trainer, 0..20, Rounding::Nearest);
        follow(&got, &mut adapters(cpu(2).unwrap(), &config), tolerance);
        let (trained, all) = (trainer.params().unwrap().len(), trainer.layout().len);
        assert!(trained * 2 < all, "{trained} of {all} parameters are trained");
    }
}

/// What a checkpoint holds is enough: rounding that looks random, and gradients in bf16, included.
#[test]
fn training_goes_on_with_the_same_bits() {
    let rounding = Rounding::Stochastic { seed: 3 };
    let mut whole = trainer(gpu(Precision::Bf16, Precision::Bf16), &odd());
    losses(&mut whole, 0..4, rounding);
    let len = whole.layout().len;
    let arrays = [Array::Params, Array::M, Array::V].map(|array| {
        let mut values = vec![0.0; len];
        whole.read(array, 0, &mut values).unwrap();
        (array, values)
    });
    let expected = losses(&mut whole, 4..8, rounding);

    let mut resumed = trainer(gpu(Precision::Bf16, Precision::Bf16), &odd());
    for (array, values) in arrays {
        resumed.write(array, 0, &values).unwrap();
    }
    resumed.round_params(rounding, 4).unwrap();
    assert_eq!(losses(&mut resumed, 4..8, rounding), expected);
    assert!(state(&mut resumed) == state(&mut whole), "the same losses, other parameters");
}

/// What three sequences write, of which one begins later and the third splits off it; two of them are penalized.
fn write<O: Ops + 'static>(ops: O, config: &Config) -> Vec<Vec<u32>> {
    let params = init(config, 7).unwrap();
    let mut generator = Generator::new(ops, config, &params, 3).unwrap();
    let plain = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    let penal = Sampling { repetition_penalty: 1.3, top_p: Some(0.95), ..plain };
    let samplings = [Sampling { top_k: Some(20), seed: 5, ..penal }, Sampling { seed: 6, ..penal }, plain];
    let mut samplers = samplings.map(|sampling| Sampler::new(sampling).unwrap());
    let mut texts = vec![Vec::new(); 3];
    generator.prefill(2, &[1, 2, 3, 5, 8]).unwrap();
    let mut passed = vec![2];
    // Beyond the context: what the cache forgets is computed anew.
    for step in 0..30 {
        let drawing = samplers.iter_mut().enumerate().filter(|(slot, _)| passed.contains(slot));
        let mut drawing: Vec<(usize, &mut Sampler)> = drawing.collect();
        let drawn = generator.draw_each(&mut drawing).unwrap();
        let mut next: Vec<(usize, u32)> =
            drawing.iter().zip(drawn).map(|((slot, _), token)| (*slot, token.unwrap())).collect();
        if step == 9 {
            next.push((1, generator.draw(0, &mut samplers[1]).unwrap()));
            generator.fork(0, 1).unwrap();
        }
        if step == 4 {
            generator.prefill(0, &[13; 17]).unwrap();
            next.push((0, generator.draw(0, &mut samplers[0]).unwrap()));
        }
        next.iter().for_each(|(slot, token)| texts[*slot].push(*token));
        generator.step(&next).unwrap();
        passed = next.iter().map(|(slot, _)| *slot).collect();
    }
    texts
}

#[test]
fn generation_writes_the_cpus_tokens() {
    let expected = write(cpu(2).unwrap(), &odd());
    assert_ne!(expected[0][5..], expected[1][..]);
    assert_eq!(write(gpu(Precision::F32, Precision::F32), &odd()), expected);
}

/// A step of so many sequences is a graph of its own, whose positions change.
#[test]
fn generation_in_bf16_is_the_same_recorded_or_not() {
    let run = |graph| write(open_with(Options { graph, ..Options::new(0, Precision::Bf16) }), &even());
    assert_eq!(run(true), run(false));
}

#[test]
fn a_second_start_compiles_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let run = || {
        let options = Options { cache: Some(cache.path().into()), ..Options::new(0, Precision::F32) };
        crate::rig::load();
        let mut trainer = trainer(Gpu::open(options).unwrap(), &odd());
        let losses = losses(&mut trainer, 0..1, Rounding::Nearest);
        (losses, trainer.backend().compiler().compiled())
    };
    let ((first, compiled), (second, again)) = (run(), run());
    assert!(compiled > 5, "{compiled} programs");
    assert_eq!(again, 0);
    assert_eq!(first, second);
}
