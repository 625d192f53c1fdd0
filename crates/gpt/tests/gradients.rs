//! The hand-derived backward of the whole model against central differences in float64.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_gpt::{AdapterLayout, Batch, Config, Layout, Lora, Projection, Regularize, Tensor, Trainer};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{IGNORE, Update};

const B: usize = 2;
const T: usize = 5;
const SCALE: f32 = 0.125;

fn config(bias: bool, tied: bool) -> Config {
    Config {
        vocab_size: 11,
        context: 6,
        n_layer: 2,
        n_head: 2,
        n_embd: 8,
        bias,
        tied,
        layernorm_eps: 1e-5,
        labels: Vec::new(),
    }
}

/// Numbers between −1 and 1 that look random.
fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1_u64 << 30) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Parameters large enough for every gradient to matter; layer norms near 1.
fn values(tensors: &[Tensor], len: usize) -> Vec<f64> {
    let mut params = vec![0.0; len];
    let values = noise(len, 42);
    for tensor in tensors {
        let centre = if tensor.name.contains("ln_") && tensor.name.ends_with("weight") { 1.0 } else { 0.0 };
        for i in tensor.live() {
            params[i] = centre + 0.5 * values[i];
        }
    }
    params
}

struct Case {
    trainer: Trainer<Reference>,
    params: Vec<f64>,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    /// Of two texts in the first row and three in the second.
    starts: Option<Vec<u32>>,
    weights: Option<Vec<f32>>,
    regularize: Regularize,
    /// What is trained.
    tensors: Vec<Tensor>,
}

impl Case {
    fn new(bias: bool, tied: bool, dropout: f32) -> Case {
        let mut case = Case::of(&config(bias, tied), dropout);
        case.targets = (0..B * T).map(|n| (n * 5 % 11 + 1) as u32 % 11).collect();
        case.targets[4] = IGNORE;
        case
    }

    /// Texts of three and five tokens, padded; each has a label at its last token.
    fn classifier(dropout: f32) -> Case {
        let labels = ["a", "b", "c"].map(String::from).to_vec();
        let mut case = Case::of(&config(true, true).classifier(labels), dropout);
        (case.targets[2], case.targets[T + 4]) = (1, 2);
        case
    }

    /// Without targets.
    fn of(config: &Config, dropout: f32) -> Case {
        let layout = Layout::new(config).unwrap();
        let params = values(&layout.tensors, layout.len);
        let mut inputs: Vec<u32> = (0..B * T).map(|n| (n * 7 % 11) as u32).collect();
        inputs[3] = inputs[1];
        let targets = vec![IGNORE; B * T];
        let trainer = Trainer::new(Reference::new(), config, B, T).unwrap();
        let regularize = Regularize { dropout, seed: 9 };
        let tensors = layout.tensors;
        Case { trainer, params, inputs, targets, starts: None, weights: None, regularize, tensors }
    }

    /// The same model, as it is, with adapters that are trained.
    fn adapted(self, lora: &Lora) -> Case {
        let config = self.trainer.config().clone();
        let params: Vec<f32> = self.params.iter().map(|value| *value as f32).collect();
        let trainer = Trainer::with_adapters(Reference::new(), &config, &params, lora, 1, B, T).unwrap();
        let AdapterLayout { tensors, len, .. } = trainer.adapters().unwrap().clone();
        Case { trainer, params: values(&tensors, len), tensors, ..self }
    }

    /// With several texts a row, whose losses count differently.
    fn packed(self) -> Case {
        let weights = (0..B * T).map(|n| 0.5 + (n % 3) as f32).collect();
        Case { starts: Some(vec![0, 0, 2, 2, 2, 0, 1, 1, 3, 3]), weights: Some(weights), ..self }
    }

    /// scale·Σ losses, the backward done beside it.
    fn loss(&mut self, params: &[f64], update: Update) -> f64 {
        let slot = self.trainer.param_slot();
        self.trainer.backend().write(slot, params).unwrap();
        let batch = Batch::new(&self.inputs, &self.targets);
        let (starts, weights) = (self.starts.as_deref(), self.weights.as_deref());
        let batch = Batch { starts, weights, ..batch };
        self.trainer.accumulate(batch, SCALE, self.regularize, update).unwrap();
        let slot = self.trainer.loss_slot();
        let losses: f64 = self.trainer.backend().read(slot).unwrap().iter().sum();
        losses * f64::from(SCALE)
    }

    fn grads(&mut self) -> Vec<f64> {
        let slot = self.trainer.grad_slot();
        self.trainer.backend().read(slot).unwrap().to_vec()
    }

    fn check(&mut self) {
        let params = self.params.clone();
        self.loss(&params, Update::Set);
        let grads = self.grads();
        let tensors = self.tensors.clone();
        let numeric = |case: &mut Case, i: usize| {
            let mut difference = |h: f64| {
                let mut at = |x: f64| {
                    let mut moved = params.clone();
                    moved[i] += x;
                    case.loss(&moved, Update::Set)
                };
                (at(h) - at(-h)) / (2.0 * h)
            };
            // Two steps, so that the error of order h² cancels.
            (4.0 * difference(5e-4) - difference(1e-3)) / 3.0
        };
        for tensor in &tensors {
            let live = tensor.live();
            let norm = grads[live.clone()].iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(norm > 0.0, "{} has no gradient", tensor.name);
            assert!(
                grads[live.end..tensor.range.end].iter().all(|g| *g == 0.0),
                "padding of {}",
                tensor.name
            );
            // Every seventh element or so, and the first and the last.
            let chosen = live.clone().step_by(live.len() / 8 + 1).chain([live.end - 1]);
            for i in chosen {
                let expected = numeric(self, i);
                let error = (grads[i] - expected).abs();
                // Relative to the element, or, where it is nearly 0, to its tensor.
                let allowed = 1e-6 * expected.abs().max(1e-2 * norm);
                assert!(error <= allowed, "{}[{}]: {} and {expected}", tensor.name, i - live.start, grads[i]);
            }
        }
    }
}

#[test]
fn tied_with_biases() {
    Case::new(true, true, 0.0).check();
}

#[test]
fn untied_without_biases() {
    Case::new(false, false, 0.0).check();
}

#[test]
fn tied_without_biases_with_dropout() {
    Case::new(false, true, 0.2).check();
}

#[test]
fn untied_with_biases_with_dropout() {
    Case::new(true, false, 0.2).check();
}

#[test]
fn a_classifier() {
    Case::classifier(0.0).check();
}

#[test]
fn a_classifier_with_dropout_and_frozen_layers() {
    for frozen in 0..=2 {
        let mut case = Case::classifier(0.2);
        case.trainer.freeze(Some(frozen)).unwrap();
        let layout = case.trainer.layout();
        let first = layout.blocks.get(frozen).map_or(&layout.ln_f, |block| &block.ln_1).weight.start;
        case.tensors.retain(|tensor| tensor.range.start >= first);
        case.check();
    }
}

#[test]
fn tied_with_biases_packed() {
    Case::new(true, true, 0.0).packed().check();
}

#[test]
fn untied_without_biases_with_dropout_packed() {
    Case::new(false, false, 0.2).packed().check();
}

#[test]
fn adapters_of_every_layer() {
    for case in [Case::new(true, true, 0.0), Case::new(false, false, 0.2)] {
        case.adapted(&Lora::new(3)).check();
    }
    Case::new(true, false, 0.2).packed().adapted(&Lora::new(1)).check();
}

#[test]
fn adapters_of_one_layer_each_above_frozen_blocks() {
    for (projection, frozen) in Projection::ALL.into_iter().zip([0, 1, 0, 1]) {
        let lora = Lora { targets: vec![projection], frozen, ..Lora::new(2) };
        let mut case = Case::new(true, true, 0.2).adapted(&lora);
        assert_eq!(case.tensors.len(), 2 * (2 - frozen));
        case.check();
    }
}

#[test]
fn adapters_and_a_classifiers_head() {
    let mut case = Case::classifier(0.2).adapted(&Lora::new(8));
    assert_eq!(case.tensors.last().unwrap().name, "score.weight");
    case.check();
}

/// Setting and then adding is the gradient of the sum, in every parameter.
#[test]
fn adding_adds() {
    for mut case in [Case::new(true, true, 0.0), Case::new(true, false, 0.0).packed()] {
        let params = case.params.clone();
        case.loss(&params, Update::Set);
        let once = case.grads();
        case.loss(&params, Update::Add);
        for (i, (twice, once)) in case.grads().iter().zip(&once).enumerate() {
            assert!((twice - 2.0 * once).abs() <= 1e-12 * once.abs().max(1e-3), "{i}: {twice} and 2·{once}");
        }
    }
}
