//! Cases of attention's three pieces: scores, causal softmax, values.

use super::Cases;
use super::attention::{LARGE, SHAPES, Shape};
use super::call::{Call, Rule, Slots, Tensor, input, output};
use super::data::{Random, Values};
use super::gradient::Gradient;
use crate::reference::softmax;
use crate::{Ops, Result};

/// The parts of a row of `qkv`.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    QueriesAndKeys,
    Values,
}

/// A gradient of `qkv` of which the op writes one part and leaves the other alone.
fn dqkv(r: &mut Random, (B, T, NH, HS): Shape, written: Part) -> Tensor {
    let C = NH * HS;
    let part = move |i: usize| if i % (3 * C) < 2 * C { Part::QueriesAndKeys } else { Part::Values };
    let mut data = r.act(B * T * 3 * C, 1.0).floats().to_vec();
    let of_the_part = data.iter_mut().enumerate().filter(|(i, _)| part(*i) == written);
    of_the_part.for_each(|(_, x)| *x = f32::NAN);
    let mut tensor = output("dqkv", data.len());
    tensor.values = Values::Act(data);
    tensor.rule(move |i| if part(i) == written { Rule::Checked } else { Rule::Kept })
}

/// Whether an element of (R,T,T) lies above the diagonal.
fn above(i: usize, T: usize) -> bool {
    i % T > i / T % T
}

/// Matrices with something given above their diagonals.
fn matrices(r: &mut Random, R: usize, T: usize, scale: f32, filler: Option<f32>) -> Values {
    let mut data = r.act(R * T * T, scale).floats().to_vec();
    if let Some(filler) = filler {
        data.iter_mut().enumerate().filter(|(i, _)| above(*i, T)).for_each(|(_, x)| *x = filler);
    }
    Values::Act(data)
}

/// What the softmax gives: rows that sum to 1, 0 above the diagonal.
fn probs(r: &mut Random, R: usize, T: usize) -> Values {
    let scores = matrices(r, R, T, 3.0, None).wide();
    let mut probs = vec![0.0; scores.len()];
    softmax::forward(&mut probs, &scores, T);
    r.act_from(&probs)
}

fn qkv(r: &mut Random, (B, T, NH, HS): Shape) -> Tensor {
    input("qkv", r.act(B * T * 3 * NH * HS, 2.0))
}

fn scores_forward(r: &mut Random, shape: Shape) -> Call {
    let (B, T, NH, HS) = shape;
    let scores =
        output("scores", B * NH * T * T).rule(move |i| if above(i, T) { Rule::Free } else { Rule::Checked });
    let tensors = vec![scores, qkv(r, shape)];
    Call::new("attention_scores_forward", [B, T, NH, HS], tensors, |o, s, [B, T, NH, HS]| {
        o.attention_scores_forward(s.act("scores"), s.act("qkv"), B, T, NH, HS)
    })
}

fn scores_backward(r: &mut Random, shape: Shape) -> Call {
    let (B, T, NH, HS) = shape;
    let tensors = vec![
        dqkv(r, shape, Part::QueriesAndKeys),
        input("dscores", matrices(r, B * NH, T, 1.0, Some(f32::NAN))),
        qkv(r, shape),
    ];
    Call::new("attention_scores_backward", [B, T, NH, HS], tensors, |o, s, [B, T, NH, HS]| {
        o.attention_scores_backward(s.act("dqkv"), s.act("dscores"), s.act("qkv"), B, T, NH, HS)
    })
}

fn softmax_forward(r: &mut Random, R: usize, T: usize, scale: f32) -> Call {
    let tensors = vec![output("probs", R * T * T), input("scores", matrices(r, R, T, scale, Some(f32::NAN)))];
    Call::new("softmax_forward", [R, T], tensors, |o, s, [R, T]| {
        o.softmax_forward(s.act("probs"), s.act("scores"), R, T)
    })
}

fn softmax_backward(r: &mut Random, R: usize, T: usize) -> Call {
    let tensors = vec![
        // The first row has one element, whose gradient is 0: probability 1, and nothing to take it from.
        output("dscores", R * T * T).floor(1.0 / T as f64),
        input("dprobs", matrices(r, R, T, 1.0, None)),
        input("probs", probs(r, R, T)),
    ];
    Call::new("softmax_backward", [R, T], tensors, |o, s, [R, T]| {
        o.softmax_backward(s.act("dscores"), s.act("dprobs"), s.act("probs"), R, T)
    })
}

fn values_forward(r: &mut Random, shape: Shape) -> Call {
    let (B, T, NH, HS) = shape;
    let tensors = vec![output("out", B * T * NH * HS), input("probs", probs(r, B * NH, T)), qkv(r, shape)];
    Call::new("attention_values_forward", [B, T, NH, HS], tensors, |o, s, [B, T, NH, HS]| {
        o.attention_values_forward(s.act("out"), s.act("probs"), s.act("qkv"), B, T, NH, HS)
    })
}

fn values_backward(r: &mut Random, shape: Shape) -> Call {
    let (B, T, NH, HS) = shape;
    let tensors = vec![
        output("dprobs", B * NH * T * T),
        dqkv(r, shape, Part::Values),
        input("dout", r.act(B * T * NH * HS, 1.0)),
        input("probs", probs(r, B * NH, T)),
        qkv(r, shape),
    ];
    Call::new("attention_values_backward", [B, T, NH, HS], tensors, |o, s, [B, T, NH, HS]| {
        let (dprobs, dqkv, dout) = (s.act("dprobs"), s.act("dqkv"), s.act("dout"));
        o.attention_values_backward(dprobs, dqkv, dout, s.act("probs"), s.act("qkv"), B, T, NH, HS)
    })
}

pub(super) fn cases(c: &mut Cases) {
    for shape in c.shapes(&SHAPES, &LARGE) {
        let name = format!("(B,T,NH,HS) = {shape:?}");
        c.computes("attention_scores_forward", &name, move |r| scores_forward(r, shape));
        c.computes("attention_scores_backward", &name, move |r| scores_backward(r, shape));
        c.computes("attention_values_forward", &name, move |r| values_forward(r, shape));
        c.computes("attention_values_backward", name, move |r| values_backward(r, shape));
        let (R, T) = (shape.0 * shape.2, shape.1);
        let name = format!("(R,T) = {:?}", (R, T));
        c.computes("softmax_forward", &name, move |r| softmax_forward(r, R, T, 3.0));
        c.computes("softmax_backward", name, move |r| softmax_backward(r, R, T));
    }
    c.computes("softmax_forward", "scores to 1e4", |r| softmax_forward(r, 2, 17, 1e4));

    let shape = (2, 3, 2, 5);
    c.refused_spoilt("attention_scores_forward", move |r| scores_forward(r, shape));
    c.refused_spoilt("attention_scores_backward", move |r| scores_backward(r, shape));
    c.refused_spoilt("softmax_forward", |r| softmax_forward(r, 2, 3, 3.0));
    c.refused_spoilt("softmax_backward", |r| softmax_backward(r, 2, 3));
    c.refused_spoilt("attention_values_forward", move |r| values_forward(r, shape));
    c.refused_spoilt("attention_values_backward", move |r| values_backward(r, shape));
}

/// The three pieces in a row, as attention.
fn forward(o: &mut dyn Ops, s: &Slots, (B, T, NH, HS): Shape) -> Result {
    o.attention_scores_forward(s.act("scores"), s.act("qkv"), B, T, NH, HS)?;
    o.softmax_forward(s.act("probs"), s.act("scores"), B * NH, T)?;
    o.attention_values_forward(s.act("out"), s.act("probs"), s.act("qkv"), B, T, NH, HS)
}

fn backward(o: &mut dyn Ops, s: &Slots, (B, T, NH, HS): Shape) -> Result {
    let (dprobs, probs, dscores) = (s.act("dprobs"), s.act("probs"), s.act("dscores"));
    let (dqkv, qkv) = (s.act("dqkv"), s.act("qkv"));
    o.attention_values_backward(dprobs, dqkv, s.act("dout"), probs, qkv, B, T, NH, HS)?;
    o.softmax_backward(dscores, dprobs, probs, B * NH, T)?;
    o.attention_scores_backward(dqkv, dscores, qkv, B, T, NH, HS)
}

pub(super) fn gradients() -> Vec<Gradient> {
    let shape = (2, 5, 2, 3);
    let (B, T, NH, HS) = shape;
    let gradient = |op| {
        let tensors = move |r: &mut Random| {
            let mut tensors = vec![qkv(r, shape), input("dout", r.act(B * T * NH * HS, 1.0))];
            tensors.push(output("out", B * T * NH * HS));
            tensors.push(output("dqkv", B * T * 3 * NH * HS));
            let matrices = ["scores", "probs", "dprobs", "dscores"];
            tensors.extend(matrices.map(|name| output(name, B * NH * T * T)));
            tensors
        };
        Gradient::new(op, tensors, move |o, s| forward(o, s, shape), move |o, s, _| backward(o, s, shape))
            .loss("out", "dout")
            .set("qkv", "dqkv")
    };
    ["attention_scores_backward", "softmax_backward", "attention_values_backward"].map(gradient).into()
}
