//! Texts packed in a row of a batch: the same as each alone.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_cpu::cpu;
use wikigpt_gpt::{Batch, Config, Error, Evaluator, Layout, Regularize, Trainer, init};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{IGNORE, Ops, Update};

const V: usize = 31;
/// The length of a row; two rows of packed texts.
const T: usize = 23;
/// Tokens of the texts of each row; what is left of a row is padding, a text of its own.
const LENGTHS: [&[usize]; 2] = [&[7, 1, 12], &[23]];

fn config(tied: bool) -> Config {
    Config {
        vocab_size: V,
        context: 24,
        n_layer: 2,
        n_head: 2,
        n_embd: 16,
        bias: tied,
        tied,
        layernorm_eps: 1e-5,
        labels: Vec::new(),
    }
}

/// Parameters large enough for every position to matter.
fn params(config: &Config) -> Vec<f32> {
    init(config, 5).unwrap().iter().map(|x| if x.abs() < 0.9 { x * 8.0 } else { *x }).collect()
}

/// Rows of texts.
#[derive(Default)]
struct Rows {
    inputs: Vec<u32>,
    targets: Vec<u32>,
    starts: Vec<u32>,
    weights: Vec<f32>,
}

impl Rows {
    fn batch(&self) -> Batch<'_> {
        Batch { starts: Some(&self.starts), ..Batch::new(&self.inputs, &self.targets) }
    }

    fn weighted(&self) -> Batch<'_> {
        Batch { weights: Some(&self.weights), ..self.batch() }
    }

    /// Puts `row` together from texts, and fills it up with padding.
    fn push(&mut self, texts: &[(usize, usize)]) {
        let before = self.inputs.len();
        for (number, len) in texts {
            let start = (self.inputs.len() - before) as u32;
            for t in 0..*len {
                self.inputs.push(((number * 7 + t * t + 3 * t) % V) as u32);
                // Of a text now and then a target does not count.
                let target = ((number * 7 + (t + 1) * (t + 1) + 3 * t + 3) % V) as u32;
                self.targets.push(if t % 5 == 3 { IGNORE } else { target });
                self.starts.push(start);
                self.weights.push(0.25 + ((number + t) % 4) as f32);
            }
        }
        let start = (self.inputs.len() - before) as u32;
        for _ in start as usize..T {
            self.inputs.push(1);
            self.targets.push(IGNORE);
            self.starts.push(start);
            self.weights.push(3.0);
        }
    }
}

/// The texts in as few rows, and each in a row of its own.
fn packed_and_alone() -> (Rows, Rows) {
    let (mut packed, mut alone) = (Rows::default(), Rows::default());
    let mut number = 0;
    for lengths in LENGTHS {
        let texts: Vec<_> = lengths.iter().zip(number..).map(|(len, number)| (number, *len)).collect();
        number += texts.len();
        packed.push(&texts);
        texts.iter().for_each(|text| alone.push(&[*text]));
    }
    (packed, alone)
}

/// The loss of a batch and the gradients.
fn pass<O: Ops>(ops: O, config: &Config, batch: Batch) -> (f64, Vec<f32>, Trainer<O>) {
    let mut trainer = Trainer::new(ops, config, batch.inputs.len() / T, T).unwrap();
    trainer.set_params(&params(config)).unwrap();
    let scale = 1.0 / batch.count() as f32;
    trainer.accumulate(batch, scale, Regularize::NONE, Update::Set).unwrap();
    let loss = trainer.forward(batch).unwrap();
    let grads = trainer.grads().unwrap();
    (loss, grads, trainer)
}

/// ‖a − b‖/‖b‖, tensor by tensor, the worst.
fn distance<A: Copy + Into<f64>>(layout: &Layout, a: &[A], b: &[A]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let of = |range: std::ops::Range<usize>| {
        let (a, b) = (&a[range.clone()], &b[range]);
        let off = norm(&mut a.iter().zip(b).map(|(a, b)| (*a).into() - (*b).into()));
        off / norm(&mut b.iter().map(|b| (*b).into()))
    };
    layout.tensors.iter().map(|tensor| of(tensor.live())).fold(0.0, f64::max)
}

#[test]
fn packing_changes_neither_loss_nor_gradient() {
    let (packed, alone) = packed_and_alone();
    for tied in [true, false] {
        let config = config(tied);
        for (packed, alone) in [(packed.batch(), alone.batch()), (packed.weighted(), alone.weighted())] {
            let (loss, _, mut trainer) = pass(Reference::new(), &config, packed);
            let (expected, _, mut other) = pass(Reference::new(), &config, alone);
            assert!((loss / expected - 1.0).abs() < 1e-7, "{loss} and {expected}");
            let (slot, other_slot) = (trainer.grad_slot(), other.grad_slot());
            let grads = trainer.backend().read(slot).unwrap().to_vec();
            let expected = other.backend().read(other_slot).unwrap().to_vec();
            let off = distance(trainer.layout(), &grads, &expected);
            assert!(off < 1e-12, "float64 gradients are off by {off:.1e}");

            let (_, fast, trainer) = pass(cpu(2).unwrap(), &config, packed);
            let exact: Vec<f32> = grads.iter().map(|g| *g as f32).collect();
            let off = distance(trainer.layout(), &fast, &exact);
            assert!(off < 1e-5, "the CPU's gradients are off by {off:.1e}");
        }
    }
}

/// A row of one text needs no starts; and starts do matter.
#[test]
fn starts_of_whole_rows_are_none() {
    let config = config(true);
    let (_, alone) = packed_and_alone();
    let zeros = vec![0; alone.inputs.len()];
    let given = Batch { starts: Some(&zeros), ..alone.batch() };
    let none = Batch { starts: None, ..given };
    let (loss, grads, _) = pass(Reference::new(), &config, given);
    let (expected, expected_grads, _) = pass(Reference::new(), &config, none);
    assert_eq!(loss, expected);
    assert_eq!(grads, expected_grads);
    let (packed, _) = packed_and_alone();
    let (with, ..) = pass(Reference::new(), &config, packed.batch());
    let (without, ..) = pass(Reference::new(), &config, Batch { starts: None, ..packed.batch() });
    assert!((with / without - 1.0).abs() > 1e-3, "{with} and {without}");
}

#[test]
fn logits_are_those_of_each_text() {
    let config = config(false);
    let (packed, alone) = packed_and_alone();
    let logits = |rows: &Rows| {
        let B = rows.inputs.len() / T;
        let mut model = Evaluator::new(Reference::new(), &config, &params(&config), B, T).unwrap();
        model.logits(&rows.inputs, Some(&rows.starts)).unwrap()
    };
    let (packed, alone) = (logits(&packed), logits(&alone));
    let mut row = 0;
    for (lengths, packed) in LENGTHS.iter().zip(packed.chunks_exact(T * V)) {
        let mut start = 0;
        for len in *lengths {
            let (got, want) = (&packed[start * V..][..len * V], &alone[row * T * V..][..len * V]);
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "text {row}");
            (start, row) = (start + len, row + 1);
        }
    }
}

/// Micro-batches of all kinds in one step, as each has its own sequence of kernels.
#[test]
fn kinds_of_batches_add_up() {
    let config = config(true);
    let (packed, _) = packed_and_alone();
    let plain = Batch { starts: None, ..packed.batch() };
    let kinds = [plain, packed.weighted(), packed.batch(), Batch { starts: None, ..packed.weighted() }];
    let mut trainer = Trainer::new(Reference::new(), &config, 2, T).unwrap();
    trainer.set_params(&params(&config)).unwrap();
    let slot = trainer.grad_slot();
    let mut expected = vec![0.0; trainer.layout().len];
    let (mut total, mut count) = (0.0, 0.0);
    for batch in kinds {
        trainer.accumulate(batch, 0.1, Regularize::NONE, Update::Set).unwrap();
        let grads = trainer.backend().read(slot).unwrap();
        expected.iter_mut().zip(grads).for_each(|(sum, g)| *sum += g);
        total += trainer.forward(batch).unwrap() * batch.count();
        count += batch.count();
    }
    for (i, batch) in kinds.into_iter().enumerate() {
        let update = if i == 0 { Update::Set } else { Update::Add };
        trainer.accumulate(batch, 0.1, Regularize::NONE, update).unwrap();
    }
    let grads = trainer.backend().read(slot).unwrap().to_vec();
    assert!(distance(trainer.layout(), &grads, &expected) < 1e-12);
    let loss = trainer.step(Default::default()).unwrap().loss;
    assert!((loss / (total / count) - 1.0).abs() < 1e-6, "{loss} and {}", total / count);
}

#[test]
fn bad_batches_are_one_clear_sentence() {
    let (packed, _) = packed_and_alone();
    let mut model = Evaluator::new(Reference::new(), &config(true), &params(&config(true)), 2, T).unwrap();
    let short = &packed.starts[1..];
    let (mut beyond, mut back) = (packed.starts.clone(), packed.starts.clone());
    beyond[5] = 6;
    back[9] = 0;
    let (mut negative, mut endless) = (packed.weights.clone(), packed.weights.clone());
    negative[2] = -1.0;
    endless[3] = f32::INFINITY;
    let with = |starts| Batch { starts: Some(starts), ..packed.batch() };
    let weighted = |weights| Batch { weights: Some(weights), ..packed.batch() };
    let cases = [
        (with(short), "starts must be as many as B·T = 2·23, got 45"),
        (with(&beyond), "the start of position 5 is 6, but position 5 sees nothing beyond itself"),
        (with(&back), "the start of position 9 is 0, and 8 one position before: starts never go back"),
        (weighted(&packed.weights[1..]), "weights must be as many as B·T = 2·23, got 45"),
        (weighted(&negative), "weights must be 0 or more, and finite, got -1 at position 2"),
        (weighted(&endless), "weights must be 0 or more, and finite, got inf at position 3"),
    ];
    for (batch, expected) in cases {
        let message = model.forward(batch).map_err(|error: Error| error.to_string()).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    // Weights of 0 alone: nothing counts.
    let zeros = vec![0.0; 2 * T];
    assert_eq!(model.forward(weighted(&zeros)).unwrap(), 0.0);
}
