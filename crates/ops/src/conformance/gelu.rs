//! Cases of `gelu`.

use super::Cases;
use super::call::{Call, input, output};
use super::data::{Random, Values};
use super::gradient::Gradient;

const LENGTHS: [usize; 5] = [1, 7, 64, 130, 1023];
const LARGE: [usize; 1] = [65_537];

/// Where the tanh is 1 or −1 to the last bit, and its argument's cube is large.
fn saturated() -> Values {
    Values::Act([0.0, -0.0, 4.0, -4.0, 8.0, -8.0, 32.0, -32.0, 1024.0, -1024.0, 9984.0, -9984.0].to_vec())
}

fn forward(inp: Values) -> Call {
    let tensors = vec![output("out", inp.len()), input("inp", inp)];
    Call::new("gelu_forward", [], tensors, |o, s, []| o.gelu_forward(s.act("out"), s.act("inp")))
}

fn backward(r: &mut Random, inp: Values) -> Call {
    let len = inp.len();
    let tensors = vec![output("dinp", len), input("dout", r.act(len, 1.0)), input("inp", inp)];
    Call::new("gelu_backward", [], tensors, |o, s, []| {
        o.gelu_backward(s.act("dinp"), s.act("dout"), s.act("inp"))
    })
}

pub(super) fn cases(c: &mut Cases) {
    for len in c.shapes(&LENGTHS, &LARGE) {
        c.computes("gelu_forward", format!("{len} elements"), move |r| forward(r.act(len, 4.0)));
        c.computes("gelu_backward", format!("{len} elements"), move |r| {
            let inp = r.act(len, 4.0);
            backward(r, inp)
        });
    }
    c.computes("gelu_forward", "small elements", |r| forward(r.act(33, 1e-3)));
    c.computes("gelu_forward", "large elements", |_| forward(saturated()));
    c.computes("gelu_backward", "large elements", |r| backward(r, saturated()));
    c.refused_spoilt("gelu_forward", |r| forward(r.act(5, 1.0)));
    c.refused_spoilt("gelu_backward", |r| {
        let inp = r.act(5, 1.0);
        backward(r, inp)
    });
}

pub(super) fn gradients() -> Vec<Gradient> {
    let len = 31;
    vec![
        Gradient::new(
            "gelu_backward",
            move |r| {
                let tensors = [input("inp", r.act(len, 4.0)), input("dout", r.act(len, 1.0))];
                tensors.into_iter().chain([output("out", len), output("dinp", len)]).collect()
            },
            |o, s| o.gelu_forward(s.act("out"), s.act("inp")),
            |o, s, _| o.gelu_backward(s.act("dinp"), s.act("dout"), s.act("inp")),
        )
        .loss("out", "dout")
        .set("inp", "dinp"),
    ]
}
