//! Cases of `residual`.

use super::Cases;
use super::call::{Call, gradient, input, output};
use super::data::Random;
use super::gradient::Gradient;
use crate::Update;

const LENGTHS: [usize; 5] = [1, 7, 64, 130, 1023];
const LARGE: [usize; 1] = [65_537];

fn forward(r: &mut Random, len: usize) -> Call {
    let tensors = vec![output("out", len), input("a", r.act(len, 2.0)), input("b", r.act(len, 1.0))];
    Call::new("residual_forward", [], tensors, |o, s, []| {
        o.residual_forward(s.act("out"), s.act("a"), s.act("b"))
    })
}

/// Inputs may be one and the same tensor.
fn doubled(r: &mut Random, len: usize) -> Call {
    let tensors = vec![output("out", len), input("a", r.act(len, 2.0))];
    Call::new("residual_forward", [], tensors, |o, s, []| {
        o.residual_forward(s.act("out"), s.act("a"), s.act("a"))
    })
}

fn backward(r: &mut Random, len: usize, update: Update) -> Call {
    let tensors = vec![gradient(r, "da", len, update), input("dout", r.act(len, 2.0))];
    Call::new("residual_backward", [], tensors, move |o, s, []| {
        o.residual_backward(s.act("da"), s.act("dout"), update)
    })
}

pub(super) fn cases(c: &mut Cases) {
    for len in c.shapes(&LENGTHS, &LARGE) {
        c.computes("residual_forward", format!("{len} elements"), move |r| forward(r, len));
        for update in [Update::Set, Update::Add] {
            c.computes("residual_backward", format!("{len} elements, {update:?}"), move |r| {
                backward(r, len, update)
            });
        }
    }
    c.computes("residual_forward", "a tensor and itself", |r| doubled(r, 33));
    c.refused_spoilt("residual_forward", |r| forward(r, 5));
    c.refused_spoilt("residual_backward", |r| backward(r, 5, Update::Add));
}

pub(super) fn gradients() -> Vec<Gradient> {
    let len = 11;
    vec![
        Gradient::new(
            "residual_backward",
            move |r| {
                let mut tensors = forward(r, len).tensors;
                tensors.push(input("dout", r.act(len, 1.0)));
                tensors.extend([output("da", len), output("db", len)]);
                tensors
            },
            |o, s| o.residual_forward(s.act("out"), s.act("a"), s.act("b")),
            |o, s, update| {
                o.residual_backward(s.act("da"), s.act("dout"), update)?;
                o.residual_backward(s.act("db"), s.act("dout"), update)
            },
        )
        .loss("out", "dout")
        .added("a", "da")
        .added("b", "db"),
    ]
}
