//! Cases of `embedding`.

use super::Cases;
use super::call::{Call, grad_output, input, output, parameter_gradient, updated};
use super::data::{Random, Values};
use super::gradient::Gradient;
use crate::Update;

#[derive(Clone, Copy, Debug)]
struct Shape {
    B: usize,
    T: usize,
    C: usize,
    words: usize,
    positions: usize,
    pos: usize,
}

const fn shape(B: usize, T: usize, C: usize, words: usize, positions: usize, pos: usize) -> Shape {
    Shape { B, T, C, words, positions, pos }
}

const SHAPES: [Shape; 5] = [
    shape(1, 1, 1, 3, 2, 0),
    shape(1, 1, 37, 3, 2, 1),
    shape(2, 3, 5, 7, 9, 4),
    shape(3, 7, 33, 2, 7, 0),
    shape(2, 4, 8, 300, 6, 2),
];
/// Among them a few tokens that fill thousands of positions, and more words than 16 bits count.
const LARGE: [Shape; 3] =
    [shape(2, 130, 768, 257, 200, 64), shape(5, 515, 24, 3, 520, 0), shape(2, 1100, 8, 70_000, 1100, 0)];

fn forward(r: &mut Random, s: Shape, tokens: Option<Values>) -> Call {
    let Shape { B, T, C, words, positions, pos } = s;
    let tensors = vec![
        output("out", B * T * C),
        input("tokens", tokens.unwrap_or_else(|| r.tokens(B * T, words))),
        input("wte", r.act(words * C, 1.0)),
        input("wpe", r.act(positions * C, 1.0)),
    ];
    Call::new("embedding_forward", [B, T, C], tensors, move |o, s, [B, T, C]| {
        o.embedding_forward(s.act("out"), s.tok("tokens"), s.act("wte"), s.act("wpe"), B, T, C, pos)
    })
}

fn backward(r: &mut Random, s: Shape, update: Update, tokens: Option<Values>) -> Call {
    let Shape { B, T, C, words, positions, .. } = s;
    let tensors = vec![
        updated("dwte", r.grad(words * C, 1.0)),
        parameter_gradient(r, "dwpe", positions * C, update),
        input("dout", r.act(B * T * C, 1.0)),
        input("tokens", tokens.unwrap_or_else(|| r.tokens(B * T, words))),
    ];
    Call::new("embedding_backward", [B, T, C], tensors, move |o, s, [B, T, C]| {
        o.embedding_backward(s.grad("dwte"), s.grad("dwpe"), s.act("dout"), s.tok("tokens"), B, T, C, update)
    })
}

pub(super) fn cases(c: &mut Cases) {
    for s in c.shapes(&SHAPES, &LARGE) {
        c.computes("embedding_forward", format!("{s:?}"), move |r| forward(r, s, None));
        for update in [Update::Set, Update::Add] {
            c.computes("embedding_backward", format!("{s:?}, {update:?}"), move |r| {
                backward(r, s, update, None)
            });
        }
    }
    let s = SHAPES[2];
    c.refused_spoilt("embedding_forward", move |r| forward(r, s, None));
    c.refused_spoilt("embedding_backward", move |r| backward(r, s, Update::Set, None));

    let beyond = || Some(Values::Tok(vec![0, 6, 2, 7, 1, 0]));
    c.refused("embedding_forward", "a token beyond the table", "tokens", move |r| forward(r, s, beyond()));
    c.refused("embedding_backward", "a token beyond the table", "tokens", move |r| {
        backward(r, s, Update::Set, beyond())
    });
    for pos in [7, usize::MAX] {
        c.refused("embedding_forward", "a position beyond the table", "wpe", move |r| {
            forward(r, Shape { pos, ..s }, None)
        });
    }
    c.refused("embedding_backward", "a position beyond the table", "dwpe", move |r| {
        backward(r, Shape { positions: 2, ..s }, Update::Set, None)
    });
}

pub(super) fn gradients() -> Vec<Gradient> {
    let (B, T, C, words, positions) = (3, 4, 5, 3, 6);
    vec![
        Gradient::new(
            "embedding_backward",
            move |r| {
                vec![
                    input("tokens", r.tokens(B * T, words)),
                    input("wte", r.act(words * C, 1.0)),
                    input("wpe", r.act(positions * C, 1.0)),
                    output("out", B * T * C),
                    input("dout", r.act(B * T * C, 1.0)),
                    updated("dwte", Values::Grad(vec![0.0; words * C])),
                    grad_output("dwpe", positions * C),
                ]
            },
            move |o, s| {
                o.embedding_forward(s.act("out"), s.tok("tokens"), s.act("wte"), s.act("wpe"), B, T, C, 0)
            },
            move |o, s, update| {
                let (dwte, dwpe) = (s.grad("dwte"), s.grad("dwpe"));
                o.embedding_backward(dwte, dwpe, s.act("dout"), s.tok("tokens"), B, T, C, update)
            },
        )
        .loss("out", "dout")
        .added("wte", "dwte")
        .added("wpe", "dwpe"),
    ]
}
