//! Cases of `embedding`.

use super::Cases;
use super::call::{Call, Tensor, grad_output, input, output, parameter_gradient, updated};
use super::data::{Random, Values};
use super::gradient::Gradient;
use crate::Update;

#[derive(Clone, Copy, Debug)]
struct Shape {
    B: usize,
    T: usize,
    C: usize,
    words: usize,
    /// Rows of wpe.
    places: usize,
    at: At,
}

/// At what positions the tokens of a sequence are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// At their own: `positions` is not given.
    Own,
    /// Anywhere, neighbours at the same one included.
    Any,
    /// On from a position.
    From(u32),
}

const fn shape(B: usize, T: usize, C: usize, words: usize, places: usize, at: At) -> Shape {
    Shape { B, T, C, words, places, at }
}

const SHAPES: [Shape; 9] = [
    shape(1, 1, 1, 3, 2, At::Own),
    shape(1, 1, 37, 3, 2, At::From(1)),
    shape(2, 3, 5, 7, 9, At::Own),
    shape(2, 3, 5, 7, 9, At::From(4)),
    shape(3, 7, 33, 2, 7, At::Own),
    shape(3, 7, 33, 2, 3, At::Any),
    shape(2, 4, 8, 300, 6, At::From(2)),
    shape(2, 6, 8, 300, 6, At::Any),
    shape(2, 3, 5, 7, 1, At::Any),
];
/// Among them a few tokens that fill thousands of positions, and more words than 16 bits count.
const LARGE: [Shape; 5] = [
    shape(2, 130, 768, 257, 200, At::From(64)),
    shape(5, 515, 24, 3, 520, At::Own),
    shape(5, 515, 24, 3, 2, At::Any),
    shape(2, 1100, 8, 70_000, 1100, At::Own),
    shape(3, 300, 768, 9, 1024, At::Any),
];

impl Shape {
    /// The tensor, if there is one.
    fn positions(self, r: &mut Random) -> Option<Tensor> {
        let Shape { B, T, places, .. } = self;
        let values = match self.at {
            At::Own => return None,
            At::Any => r.tokens(B * T, places),
            At::From(first) => Values::Tok((0..(B * T) as u32).map(|n| first + n % T as u32).collect()),
        };
        Some(input("positions", values))
    }
}

fn forward(r: &mut Random, s: Shape, tokens: Option<Values>) -> Call {
    let Shape { B, T, C, words, places, .. } = s;
    let mut tensors = vec![
        output("out", B * T * C),
        input("tokens", tokens.unwrap_or_else(|| r.tokens(B * T, words))),
        input("wte", r.act(words * C, 1.0)),
        input("wpe", r.act(places * C, 1.0)),
    ];
    tensors.extend(s.positions(r));
    Call::new("embedding_forward", [B, T, C], tensors, |o, s, [B, T, C]| {
        let (out, tokens, positions) = (s.act("out"), s.tok("tokens"), s.maybe_tok("positions"));
        o.embedding_forward(out, tokens, positions, s.act("wte"), s.act("wpe"), B, T, C)
    })
}

fn backward(r: &mut Random, s: Shape, update: Update, tokens: Option<Values>) -> Call {
    let Shape { B, T, C, words, places, .. } = s;
    let mut tensors = vec![
        updated("dwte", r.grad(words * C, 1.0)),
        parameter_gradient(r, "dwpe", places * C, update),
        input("dout", r.act(B * T * C, 1.0)),
        input("tokens", tokens.unwrap_or_else(|| r.tokens(B * T, words))),
    ];
    tensors.extend(s.positions(r));
    Call::new("embedding_backward", [B, T, C], tensors, move |o, s, [B, T, C]| {
        let (dwte, dwpe, tokens) = (s.grad("dwte"), s.grad("dwpe"), s.tok("tokens"));
        let positions = s.maybe_tok("positions");
        o.embedding_backward(dwte, dwpe, s.act("dout"), tokens, positions, B, T, C, update)
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
    let (s, own) = (SHAPES[3], SHAPES[2]);
    c.refused_spoilt("embedding_forward", move |r| forward(r, s, None));
    c.refused_spoilt("embedding_backward", move |r| backward(r, s, Update::Set, None));

    let beyond = || Some(Values::Tok(vec![0, 6, 2, 7, 1, 0]));
    c.refused("embedding_forward", "a token beyond the table", "tokens", move |r| forward(r, s, beyond()));
    c.refused("embedding_backward", "a token beyond the table", "tokens", move |r| {
        backward(r, s, Update::Set, beyond())
    });
    for first in [7, u32::MAX - 2] {
        let s = Shape { at: At::From(first), ..s };
        c.refused("embedding_forward", "a position beyond the table", "positions", move |r| {
            forward(r, s, None)
        });
        c.refused("embedding_backward", "a position beyond the table", "positions", move |r| {
            backward(r, s, Update::Set, None)
        });
    }
    let own = Shape { places: 2, ..own };
    c.refused("embedding_forward", "a table of fewer rows than positions", "wpe", move |r| {
        forward(r, own, None)
    });
    c.refused("embedding_backward", "a table of fewer rows than positions", "dwpe", move |r| {
        backward(r, own, Update::Set, None)
    });
}

pub(super) fn gradients() -> Vec<Gradient> {
    let gradient = |at: At| {
        let s = shape(3, 4, 5, 3, 6, at);
        let Shape { B, T, C, words, places, .. } = s;
        Gradient::new(
            "embedding_backward",
            move |r| {
                let mut tensors = vec![
                    input("tokens", r.tokens(B * T, words)),
                    input("wte", r.act(words * C, 1.0)),
                    input("wpe", r.act(places * C, 1.0)),
                    output("out", B * T * C),
                    input("dout", r.act(B * T * C, 1.0)),
                    updated("dwte", Values::Grad(vec![0.0; words * C])),
                    grad_output("dwpe", places * C),
                ];
                tensors.extend(s.positions(r));
                tensors
            },
            move |o, s| {
                let (out, tokens, positions) = (s.act("out"), s.tok("tokens"), s.maybe_tok("positions"));
                o.embedding_forward(out, tokens, positions, s.act("wte"), s.act("wpe"), B, T, C)
            },
            move |o, s, update| {
                let (dwte, dwpe, tokens) = (s.grad("dwte"), s.grad("dwpe"), s.tok("tokens"));
                let positions = s.maybe_tok("positions");
                o.embedding_backward(dwte, dwpe, s.act("dout"), tokens, positions, B, T, C, update)
            },
        )
        .loss("out", "dout")
        .added("wte", "dwte")
        .added("wpe", "dwpe")
    };
    [At::Own, At::Any].map(gradient).into()
}
