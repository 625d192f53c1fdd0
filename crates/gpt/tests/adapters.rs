//! Low-rank adapters: what they change, what they leave alone, and that adding them to the weights computes the same.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_gpt::{
    AdapterLayout, Batch, Bytes, Config, Evaluator, Layout, Lora, Plan, Projection, Regularize, Trainer,
    init, merge,
};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{AdamW, Update};

const B: usize = 2;
const T: usize = 6;

fn config() -> Config {
    Config { context: 8, n_embd: 16, ..Config::preset("tiny", 20).unwrap() }
}

fn classifier() -> Config {
    config().classifier(["a", "b"].map(String::from).to_vec())
}

fn tokens() -> Vec<u32> {
    (0..B * T).map(|n| (n * 7 % 20) as u32).collect()
}

/// A trainer of adapters as they begin, and the model's parameters.
fn begin(config: &Config, lora: &Lora) -> (Trainer<Reference>, Vec<f32>) {
    let params = init(config, 5).unwrap();
    (Trainer::with_adapters(Reference::new(), config, &params, lora, 7, B, T).unwrap(), params)
}

fn train(trainer: &mut Trainer<Reference>, steps: u64) {
    let (inputs, targets) = (tokens(), vec![1; B * T]);
    for step in 1..=steps {
        let scale = 1.0 / (B * T) as f32;
        trainer.accumulate(Batch::new(&inputs, &targets), scale, Regularize::NONE, Update::Set).unwrap();
        trainer.step(AdamW { lr: 1e-2, step, ..AdamW::default() }).unwrap();
    }
}

fn logits(config: &Config, params: &[f32]) -> Vec<f32> {
    let mut model = Evaluator::new(Reference::new(), config, params, B, T).unwrap();
    model.logits(&tokens(), None).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn at_first_they_change_nothing() {
    for config in [config(), classifier()] {
        let (mut trainer, params) = begin(&config, &Lora::new(4));
        let seeded = trainer.adapters().unwrap().init(&config, &params, 7).unwrap();
        assert!(trainer.params().unwrap() == seeded && seeded.iter().any(|value| *value != 0.0));
        assert_eq!(trainer.logits(&tokens(), None).unwrap(), logits(&config, &params));
        let mut merged = params.clone();
        let (layout, adapters) = (trainer.adapters().unwrap().clone(), trainer.params().unwrap());
        merge(&config, &mut merged, &layout, &adapters).unwrap();
        assert_eq!(merged, params);
    }
}

#[test]
fn added_to_the_weights_they_compute_the_same() {
    for config in [config(), Config { bias: false, tied: false, ..config() }, classifier()] {
        for lora in [
            Lora { alpha: 1.0, ..Lora::new(16) },
            Lora { targets: vec![Projection::MlpCProj, Projection::CAttn], frozen: 1, ..Lora::new(1) },
        ] {
            let (mut trainer, mut params) = begin(&config, &lora);
            let before = trainer.logits(&tokens(), None).unwrap();
            train(&mut trainer, 5);
            let learned = trainer.logits(&tokens(), None).unwrap();
            assert!(largest_difference(&before, &learned) > 0.05, "training changed next to nothing");
            let (layout, adapters) = (trainer.adapters().unwrap().clone(), trainer.params().unwrap());
            merge(&config, &mut params, &layout, &adapters).unwrap();
            // The weights are f32, everything else is computed in float64.
            let off = largest_difference(&learned, &logits(&config, &params));
            assert!(off < 1e-6, "{lora:?}: {off}");
        }
    }
}

/// Writing from a cache goes through the adapters too.
#[test]
fn a_text_is_written_with_them() {
    let config = config();
    let (mut trainer, mut params) = begin(&config, &Lora::new(4));
    train(&mut trainer, 5);
    let prompt = [3, 1, 4, 1, 5];
    let write = |generator: &mut wikigpt_gpt::Generator<Reference>| {
        generator.prefill(0, &prompt).unwrap();
        generator.step(&[(0, 9)]).unwrap();
        generator.logits(0).unwrap().to_vec()
    };
    let with = write(&mut trainer.generator(1).unwrap());
    let (layout, adapters) = (trainer.adapters().unwrap().clone(), trainer.params().unwrap());
    let without = write(&mut wikigpt_gpt::Generator::new(Reference::new(), &config, &params, 1).unwrap());
    merge(&config, &mut params, &layout, &adapters).unwrap();
    let merged = write(&mut wikigpt_gpt::Generator::new(Reference::new(), &config, &params, 1).unwrap());
    assert!(largest_difference(&with, &merged) < 1e-6);
    assert!(largest_difference(&with, &without) > 0.05);
}

/// α/R scales what is learned: twice α moves b twice as far in the first update, and a as far as before.
#[test]
fn alpha_scales_the_steps_of_b() {
    let config = config();
    let moved = |alpha: f64| {
        let (mut trainer, _) = begin(&config, &Lora { alpha, ..Lora::new(4) });
        let before = trainer.params().unwrap();
        // b is 0, so that nothing decays, and a has no gradient yet.
        let (inputs, targets) = (tokens(), vec![1; B * T]);
        trainer.accumulate(Batch::new(&inputs, &targets), 1.0, Regularize::NONE, Update::Set).unwrap();
        trainer.step(AdamW { lr: 1e-2, eps: 1e-12, weight_decay: 0.0, step: 1, ..AdamW::default() }).unwrap();
        let at = trainer.adapters().unwrap().blocks[0][0].clone().unwrap();
        let after = trainer.params().unwrap();
        assert_eq!(before[at.a.clone()], after[at.a]);
        after[at.b].to_vec()
    };
    for (once, twice) in moved(4.0).iter().zip(moved(8.0)) {
        assert!((once.abs() - 1e-2).abs() < 1e-4, "{once}");
        assert!((twice - 2.0 * once).abs() < 1e-6, "{once} and {twice}");
    }
}

/// What decays by itself does so at one rate, whatever α is: in an update without a gradient, everything shrinks alike.
#[test]
fn weight_decay_does_not_depend_on_alpha() {
    let (mut trainer, _) = begin(&config(), &Lora { alpha: 40.0, ..Lora::new(4) });
    let ones = vec![1.0; trainer.adapters().unwrap().len];
    trainer.set_params(&ones).unwrap();
    let (inputs, none) = (tokens(), vec![wikigpt_ops::IGNORE; B * T]);
    trainer.accumulate(Batch::new(&inputs, &none), 1.0, Regularize::NONE, Update::Set).unwrap();
    trainer.step(AdamW { lr: 1e-2, weight_decay: 0.5, step: 1, ..AdamW::default() }).unwrap();
    let (after, layout) = (trainer.params().unwrap(), trainer.adapters().unwrap());
    for tensor in &layout.tensors {
        assert!(after[tensor.live()].iter().all(|value| (value - 0.995).abs() < 1e-6), "{}", tensor.name);
    }
}

#[test]
fn they_are_named_and_shaped_as_peft_has_them() {
    let lora = Lora { targets: vec![Projection::AttnCProj, Projection::CFc], frozen: 1, ..Lora::new(3) };
    let layout = AdapterLayout::new(&classifier(), &lora).unwrap();
    let found: Vec<_> = layout.tensors.iter().map(|t| (t.name.as_str(), &t.shape[..])).collect();
    let expected: [(&str, &[usize]); 5] = [
        ("h.1.attn.c_proj.lora_A.weight", &[3, 16]),
        ("h.1.attn.c_proj.lora_B.weight", &[16, 3]),
        ("h.1.mlp.c_fc.lora_A.weight", &[3, 16]),
        ("h.1.mlp.c_fc.lora_B.weight", &[64, 3]),
        ("score.weight", &[2, 16]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn only_they_have_gradients_and_moments() {
    let config = Config::preset("gpt2", 50_257).unwrap();
    let lora = Lora::new(8);
    let (whole, adapted) = (
        Plan::new(&config, 4, 256, true, 2, 4).unwrap().bytes,
        Bytes::with_adapters(&config, &lora, 4, 256, 2, 4).unwrap(),
    );
    let model = Layout::new(&config).unwrap().len as u64;
    // 12 blocks of 8·(C + 3C + C + C + C + 4C + 4C + C).
    let adapters = 12 * 8 * 16 * 768;
    assert_eq!(adapted.weights, 2 * (model + adapters));
    assert_eq!(adapted.gradients, 4 * (adapters + 2 * 768));
    assert_eq!(adapted.optimizer, 12 * adapters);
    assert_eq!(adapted.activations, whole.activations + 2 * 4 * 256 * (12 * 4 + 1) * 8);
}

#[test]
fn what_a_model_cannot_have_is_refused() {
    let config = config();
    let message = |lora: Lora| AdapterLayout::new(&config, &lora).unwrap_err().to_string();
    assert!(message(Lora::new(0)).contains("between 1 and the model's 16 channels, got 0"));
    assert!(message(Lora::new(17)).contains("got 17"));
    assert!(message(Lora { alpha: 0.0, ..Lora::new(4) }).contains("alpha"));
    assert!(message(Lora { alpha: f64::NAN, ..Lora::new(4) }).contains("alpha"));
    for alpha in [1e-50, 1e40] {
        assert!(message(Lora { alpha, ..Lora::new(4) }).contains("too far from the rank, 4"));
    }
    assert!(message(Lora { targets: Vec::new(), ..Lora::new(4) }).contains("need a layer"));
    assert!(message(Lora { frozen: 2, ..Lora::new(4) }).contains("none is left for adapters"));
    let error = "c_proj".parse::<Projection>().unwrap_err().to_string();
    assert!(error.contains("attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj"), "{error}");
    let (mut trainer, params) = begin(&config, &Lora::new(4));
    assert!(trainer.freeze(Some(1)).is_err());
    assert!(trainer.set_params(&params).unwrap_err().to_string().contains("in the order of their layout"));
    let layout = trainer.adapters().unwrap().clone();
    assert!(merge(&config, &mut params.clone(), &layout, &params).is_err());
    assert!(layout.init(&config, &params[1..], 1).is_err());
}
