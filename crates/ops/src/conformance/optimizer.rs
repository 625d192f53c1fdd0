//! Cases of `sum`, `global_norm` and `adamw`.

use super::call::{Call, Rule, Tensor, input, output, stat_output, updated};
use super::data::{Random, Values};
use super::{Case, Cases, What};
use crate::{AdamW, Rounding};

const LENGTHS: [usize; 5] = [1, 7, 64, 130, 1023];
const LARGE: [usize; 1] = [65_537];
/// So many that a running sum in f32 loses digits.
const MILLIONS: usize = 1 << 22;

fn sum(r: &mut Random, len: usize) -> Call {
    let tensors = vec![stat_output("out", 1), input("inp", r.stat_around(0.5, len, 1.0)).any_length()];
    Call::new("sum", [], tensors, |o, s, []| o.sum(s.stat("out"), s.stat("inp")))
}

fn global_norm(r: &mut Random, len: usize) -> Call {
    let tensors = vec![stat_output("out", 1), input("grads", r.grad(len, 0.1)).any_length()];
    Call::new("global_norm", [], tensors, |o, s, []| o.global_norm(s.stat("out"), s.grad("grads")))
}

/// Constants in which every term of the update shows.
const CONSTANTS: AdamW = AdamW {
    lr: 0.1,
    beta1: 0.9,
    beta2: 0.75,
    eps: 0.05,
    weight_decay: 0.3,
    step: 1,
    clip: None,
    rounding: Rounding::Nearest,
};

/// `steps` updates from moments that hold something.
fn adamw(r: &mut Random, len: usize, constants: AdamW, steps: u64, norm: f32) -> Call {
    update(vec![updated("params", r.act(len, 1.0))], r, len, constants, steps, norm)
}

/// The same with master weights, of which the parameters are made: what they held before does not count.
fn adamw_master(r: &mut Random, len: usize, constants: AdamW, steps: u64, norm: f32) -> Call {
    let weights = vec![output("params", len), updated("master", r.stat_around(0.0, len, 1.0))];
    update(weights, r, len, constants, steps, norm)
}

fn update(weights: Vec<Tensor>, r: &mut Random, len: usize, constants: AdamW, steps: u64, norm: f32) -> Call {
    let mut tensors = weights;
    tensors.extend([
        updated("m", r.stat_around(0.0, len, 0.1)),
        updated("v", r.stat_around(0.02, len, 0.01)),
        input("grads", r.grad(len, 0.2)),
        input("norm", Values::Stat(vec![norm])),
    ]);
    Call::new("adamw", [], tensors, move |o, s, []| {
        (0..steps).try_for_each(|done| {
            let constants = AdamW { step: constants.step + done, ..constants };
            let (params, master, m, v) = (s.act("params"), s.maybe_stat("master"), s.stat("m"), s.stat("v"));
            o.adamw(params, master, m, v, s.grad("grads"), s.stat("norm"), constants)
        })
    })
}

pub(super) fn cases(c: &mut Cases) {
    for len in c.shapes(&LENGTHS, &LARGE) {
        c.computes("sum", format!("{len} elements"), move |r| sum(r, len));
        c.computes("global_norm", format!("{len} elements"), move |r| global_norm(r, len));
        for (what, clip) in [("", None), (", clipped", Some(0.5)), (", below the clip", Some(2.0))] {
            let constants = AdamW { clip, ..CONSTANTS };
            c.computes("adamw", format!("{len} elements, 4 steps{what}"), move |r| {
                adamw(r, len, constants, 4, 1.0)
            });
            c.computes("adamw", format!("{len} elements, master weights, 4 steps{what}"), move |r| {
                adamw_master(r, len, constants, 4, 1.0)
            });
        }
    }
    for len in c.shapes(&[], &[MILLIONS]) {
        c.computes("sum", format!("{len} elements"), move |r| sum(r, len));
        c.computes("global_norm", format!("{len} elements"), move |r| global_norm(r, len));
    }
    let gpt2 = AdamW { beta2: 0.95, eps: 1e-8, weight_decay: 0.0, step: 1000, clip: Some(1.0), ..CONSTANTS };
    c.computes("adamw", "late, without decay", move |r| adamw(r, 33, gpt2, 2, 3.0));
    c.computes("adamw", "norm 0", move |r| adamw(r, 33, gpt2, 2, 0.0));
    for norm in [f32::NAN, f32::INFINITY] {
        for clip in [None, Some(1.0)] {
            let constants = AdamW { clip, ..CONSTANTS };
            for make in [adamw, adamw_master] {
                c.computes("adamw", format!("norm {norm}, clip {clip:?}"), move |r| {
                    let mut call = make(r, 33, constants, 1, norm);
                    call.tensors = call.tensors.into_iter().map(|t| t.rule(|_| Rule::Kept)).collect();
                    call
                });
            }
        }
    }

    c.refused_spoilt("sum", |r| sum(r, 5));
    c.refused_spoilt("global_norm", |r| global_norm(r, 5));
    c.refused_spoilt("adamw", |r| adamw(r, 5, CONSTANTS, 1, 1.0));
    c.refused_spoilt("adamw", |r| adamw_master(r, 5, CONSTANTS, 1, 1.0));
    let name = "master weights are rounded as they are told to be";
    c.list.push(Case { op: "adamw", name: name.into(), what: What::Memory(super::memory::Check::Master) });
    for (word, constants) in [
        ("step", AdamW { step: 0, ..CONSTANTS }),
        ("beta1", AdamW { beta1: 1.0, ..CONSTANTS }),
        ("beta2", AdamW { beta2: -0.1, ..CONSTANTS }),
        ("lr", AdamW { lr: f32::NAN, ..CONSTANTS }),
        ("eps", AdamW { eps: -1.0, ..CONSTANTS }),
        ("weight_decay", AdamW { weight_decay: f32::INFINITY, ..CONSTANTS }),
        ("clip", AdamW { clip: Some(0.0), ..CONSTANTS }),
    ] {
        c.refused("adamw", &format!("bad {word}"), word, move |r| adamw(r, 5, constants, 1, 1.0));
    }
}
