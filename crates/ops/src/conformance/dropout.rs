//! Cases of `dropout`. The reference's mask is [`Dropout::keep`]'s, so an element kept or dropped wrongly shows as an error
//! of its own size.

use super::Cases;
use super::call::{Call, input, output};
use super::data::Random;
use super::gradient::Gradient;
use crate::Dropout;

const LENGTHS: [usize; 5] = [1, 7, 64, 130, 1023];
const LARGE: [usize; 1] = [65_537];
/// None, GPT-2's, and one that drops often; seed and site beyond one word and beyond 0.
pub(super) const DROPOUTS: [Dropout; 3] = [
    Dropout::NONE,
    Dropout { p: 0.1, seed: 0x0123_4567_89AB_CDEF, site: 3 },
    Dropout { p: 0.5, seed: 7, site: 0x8000_0001 },
];
/// Probabilities that are none.
pub(super) const BAD: [f32; 4] = [1.0, -0.1, f32::NAN, f32::INFINITY];

fn forward(r: &mut Random, len: usize, dropout: Dropout) -> Call {
    let tensors = vec![output("out", len), input("inp", r.act(len, 1.0))];
    Call::new("dropout_forward", [], tensors, move |o, s, []| {
        o.dropout_forward(s.act("out"), s.act("inp"), dropout)
    })
}

fn backward(r: &mut Random, len: usize, dropout: Dropout) -> Call {
    let tensors = vec![output("dinp", len), input("dout", r.act(len, 1.0))];
    Call::new("dropout_backward", [], tensors, move |o, s, []| {
        o.dropout_backward(s.act("dinp"), s.act("dout"), dropout)
    })
}

pub(super) fn cases(c: &mut Cases) {
    for len in c.shapes(&LENGTHS, &LARGE) {
        for dropout in DROPOUTS {
            let name = format!("{len} elements, {dropout:?}");
            c.computes("dropout_forward", &name, move |r| forward(r, len, dropout));
            c.computes("dropout_backward", name, move |r| backward(r, len, dropout));
        }
    }
    c.refused_spoilt("dropout_forward", |r| forward(r, 5, DROPOUTS[1]));
    c.refused_spoilt("dropout_backward", |r| backward(r, 5, DROPOUTS[1]));
    for p in BAD {
        let dropout = Dropout { p, seed: 0, site: 0 };
        c.refused("dropout_forward", &format!("p = {p}"), "probability", move |r| forward(r, 5, dropout));
        c.refused("dropout_backward", &format!("p = {p}"), "probability", move |r| backward(r, 5, dropout));
    }
}

pub(super) fn gradients() -> Vec<Gradient> {
    let len = 31;
    let gradient = |dropout: Dropout| {
        Gradient::new(
            "dropout_backward",
            move |r| {
                let tensors = [input("inp", r.act(len, 4.0)), input("dout", r.act(len, 1.0))];
                tensors.into_iter().chain([output("out", len), output("dinp", len)]).collect()
            },
            move |o, s| o.dropout_forward(s.act("out"), s.act("inp"), dropout),
            move |o, s, _| o.dropout_backward(s.act("dinp"), s.act("dout"), dropout),
        )
        .loss("out", "dout")
        .set("inp", "dinp")
    };
    DROPOUTS.map(gradient).into()
}
