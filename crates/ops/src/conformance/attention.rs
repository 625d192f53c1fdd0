//! Cases of `attention`, whole and over a cache.

use super::Cases;
use super::call::{Call, Rule, Slots, Tensor, input, output, scratch, stat_output, stat_scratch, updated};
use super::data::{Random, Values, stat_from};
use super::dropout::{BAD, DROPOUTS};
use super::gradient::Gradient;
use crate::reference::attention::{self, Heads};
use crate::{Dropout, Ops, Result};

/// (B, T, NH, HS).
pub(super) type Shape = (usize, usize, usize, usize);
pub(super) const SHAPES: [Shape; 6] =
    [(1, 1, 1, 1), (1, 2, 1, 3), (2, 5, 2, 7), (1, 33, 3, 8), (2, 17, 1, 16), (3, 1, 2, 4)];
pub(super) const LARGE: [Shape; 5] =
    [(1, 130, 2, 64), (2, 67, 3, 20), (1, 257, 1, 5), (1, 37, 1, 128), (2, 100, 1, 128)];

/// How large q and k are: scores of about 1, and scores of about 100, whose exponentials overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scores {
    Usual,
    Large,
}

/// What the positions of a row see.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    /// One text: `starts` is not given.
    Whole,
    /// Texts of up to so many tokens.
    Texts(usize),
    /// So many positions, the last of them itself.
    Window(usize),
}

/// Rows beside shapes that they matter for: texts that end in the middle of a tile, at its end, and tiles that are skipped.
const ROWS: [(Shape, Row); 6] = [
    ((1, 1, 1, 1), Row::Texts(1)),
    ((2, 5, 2, 7), Row::Texts(3)),
    ((2, 33, 3, 8), Row::Texts(12)),
    ((3, 17, 1, 16), Row::Texts(40)),
    ((2, 21, 1, 5), Row::Window(4)),
    ((1, 9, 2, 3), Row::Window(1)),
];
const ROWS_LARGE: [(Shape, Row); 7] = [
    ((1, 200, 1, 64), Row::Texts(90)),
    ((1, 150, 1, 64), Row::Window(65)),
    ((1, 140, 1, 64), Row::Texts(5)),
    ((1, 130, 1, 128), Row::Texts(80)),
    ((1, 100, 1, 128), Row::Window(33)),
    ((1, 100, 2, 20), Row::Texts(45)),
    ((1, 70, 1, 200), Row::Texts(30)),
];

impl Row {
    /// The tensor, if there is one.
    fn starts(self, r: &mut Random, (B, T, ..): Shape) -> Option<Tensor> {
        let values = match self {
            Row::Whole => return None,
            Row::Texts(longest) => r.starts(B, T, longest),
            Row::Window(width) => {
                Values::Tok((0..B * T).map(|n| (n % T + 1).saturating_sub(width) as u32).collect())
            }
        };
        Some(input("starts", values))
    }
}

/// Tokens as the reference's loops take them.
fn tokens(tensor: &Option<Tensor>) -> Option<&[u32]> {
    match &tensor.as_ref()?.values {
        Values::Tok(tokens) => Some(tokens),
        _ => None,
    }
}

fn qkv(r: &mut Random, (B, T, NH, HS): Shape, scores: Scores) -> Values {
    let scale = if scores == Scores::Usual { 2.0 } else { 16.0 };
    r.act(B * T * 3 * NH * HS, scale)
}

fn forward(r: &mut Random, shape: Shape, row: Row, scores: Scores, dropout: Dropout) -> Call {
    let (B, T, NH, HS) = shape;
    let mut tensors = vec![
        output("out", B * T * NH * HS),
        stat_output("lse", B * NH * T),
        input("qkv", qkv(r, shape, scores)),
    ];
    tensors.extend(row.starts(r, shape));
    let call =
        Call::new("attention_forward", [B, T, NH, HS], tensors, move |o, s, dims| run(o, s, dims, dropout));
    if row != Row::Whole {
        return call;
    }
    let matrices = ["scores", "probs", "dropped"].map(|name| scratch(name, B * NH * T * T));
    call.composed(&["out"], matrices.into(), move |o, s, [B, T, NH, HS]| {
        o.attention_scores_forward(s.act("scores"), s.act("qkv"), B, T, NH, HS)?;
        o.softmax_forward(s.act("probs"), s.act("scores"), B * NH, T)?;
        o.dropout_forward(s.act("dropped"), s.act("probs"), dropout)?;
        o.attention_values_forward(s.act("out"), s.act("dropped"), s.act("qkv"), B, T, NH, HS)
    })
}

fn run(o: &mut dyn Ops, s: &Slots, [B, T, NH, HS]: [usize; 4], dropout: Dropout) -> Result {
    let starts = s.maybe_tok("starts");
    o.attention_forward(s.act("out"), s.stat("lse"), s.act("qkv"), starts, B, T, NH, HS, dropout)
}

/// Backward with the output and the logarithms that the forward keeps.
fn backward(r: &mut Random, shape: Shape, row: Row, scores: Scores, dropout: Dropout) -> Call {
    let (B, T, NH, HS) = shape;
    let C = NH * HS;
    let (qkv, starts) = (qkv(r, shape, scores), row.starts(r, shape));
    let (mut out, mut lse) = (vec![0.0; B * T * C], vec![0.0; B * NH * T]);
    let heads = Heads { T, NH, HS };
    attention::forward(&mut out, &mut lse, &qkv.wide(), tokens(&starts), B, heads, dropout);
    let mut tensors = vec![
        output("dqkv", B * T * 3 * C),
        input("dout", r.act(B * T * C, 1.0)),
        input("out", r.act_from(&out)),
        input("lse", stat_from(&lse)),
        input("qkv", qkv),
    ];
    tensors.extend(starts);
    let call = Call::new("attention_backward", [B, T, NH, HS], tensors, move |o, s, dims| {
        run_backward(o, s, dims, dropout)
    });
    if row != Row::Whole {
        return call;
    }
    let matrices =
        ["scores", "probs", "dropped", "dprobs", "ddropped"].map(|name| scratch(name, B * NH * T * T));
    call.composed(&["dqkv"], matrices.into(), move |o, s, [B, T, NH, HS]| {
        let (qkv, dqkv, probs, dropped) = (s.act("qkv"), s.act("dqkv"), s.act("probs"), s.act("dropped"));
        let (scores, dprobs, ddropped) = (s.act("scores"), s.act("dprobs"), s.act("ddropped"));
        o.attention_scores_forward(scores, qkv, B, T, NH, HS)?;
        o.softmax_forward(probs, scores, B * NH, T)?;
        o.dropout_forward(dropped, probs, dropout)?;
        o.attention_values_backward(ddropped, dqkv, s.act("dout"), dropped, qkv, B, T, NH, HS)?;
        o.dropout_backward(dprobs, ddropped, dropout)?;
        // The scores are no longer needed: their tensor takes their gradient.
        o.softmax_backward(scores, dprobs, probs, B * NH, T)?;
        o.attention_scores_backward(dqkv, scores, qkv, B, T, NH, HS)
    })
}

fn run_backward(o: &mut dyn Ops, s: &Slots, [B, T, NH, HS]: [usize; 4], dropout: Dropout) -> Result {
    let (dqkv, dout, out) = (s.act("dqkv"), s.act("dout"), s.act("out"));
    let starts = s.maybe_tok("starts");
    o.attention_backward(dqkv, dout, out, s.stat("lse"), s.act("qkv"), starts, B, T, NH, HS, dropout)
}

/// Sequences over a cache: that of sequence b holds pos\[b\] positions in row rows\[b\], or b without them.
#[derive(Clone, Copy, Debug)]
struct Cached {
    Tn: usize,
    pos: &'static [u32],
    rows: Option<&'static [u32]>,
    /// Rows of the cache.
    many: usize,
    Tmax: usize,
    NH: usize,
    HS: usize,
}

const fn cached(Tn: usize, pos: &'static [u32], Tmax: usize, NH: usize, HS: usize) -> Cached {
    Cached { Tn, pos, rows: None, many: pos.len(), Tmax, NH, HS }
}

impl Cached {
    /// In these rows of a cache of so many.
    const fn in_rows(self, rows: &'static [u32], many: usize) -> Cached {
        Cached { rows: Some(rows), many, ..self }
    }
}

const CACHED: [Cached; 9] = [
    cached(1, &[0], 1, 1, 1),
    cached(1, &[4, 4], 7, 2, 5),
    cached(1, &[4, 0, 6], 7, 2, 5),
    cached(3, &[2, 5], 9, 2, 7),
    cached(5, &[0, 0], 6, 1, 8),
    cached(1, &[6], 7, 3, 4),
    cached(2, &[31], 40, 2, 16),
    cached(1, &[3, 6, 0], 7, 1, 6).in_rows(&[4, 0, 2], 5),
    cached(2, &[1, 3], 5, 2, 3).in_rows(&[1, 0], 2),
];
/// Keys that several blocks share, up to where their parts meet and just beyond; many new positions; heads of all sizes.
const CACHED_LARGE: [Cached; 12] = [
    cached(7, &[120, 3], 130, 2, 32),
    cached(1, &[127], 128, 12, 64),
    cached(1, &[0, 127, 128, 300, 511, 512], 513, 2, 64).in_rows(&[7, 2, 0, 5, 1, 3], 8),
    cached(1, &[600], 700, 1, 256),
    cached(1, &[130, 255], 256, 1, 128),
    cached(1, &[200, 2], 300, 1, 37),
    cached(1, &[140], 150, 3, 1),
    cached(1, &[129, 256], 260, 2, 20),
    cached(15, &[250, 0], 280, 1, 64),
    cached(16, &[40, 0, 77], 100, 2, 64).in_rows(&[1, 3, 0], 4),
    cached(40, &[0, 100], 140, 1, 128),
    cached(33, &[70], 110, 1, 200),
];

/// A cache whose rows before pos hold something, and NaN elsewhere: of the rows from pos on, the new ones are written
/// before they are read, and the rest is not touched, nor is what belongs to no sequence.
fn cache(r: &mut Random, name: &'static str, s: Cached) -> Tensor {
    let Cached { Tn, pos, rows, many, Tmax, NH, HS } = s;
    let C = NH * HS;
    // Positions that each row of the cache holds.
    let held = move |row: usize| match rows {
        None => Some(pos[row] as usize),
        Some(rows) => rows.iter().position(|r| *r as usize == row).map(|b| pos[b] as usize),
    };
    let mut data = r.act(many * Tmax * C, 2.0).floats().to_vec();
    for (row, data) in data.chunks_exact_mut(Tmax * C).enumerate() {
        data[held(row).unwrap_or(0) * C..].fill(f32::NAN);
    }
    updated(name, Values::Act(data)).rule(move |i| {
        let (row, t) = (i / C / Tmax, i / C % Tmax);
        let gained = held(row).is_some_and(|pos| (pos..pos + Tn).contains(&t));
        if gained { Rule::Checked } else { Rule::Kept }
    })
}

fn cached_forward(r: &mut Random, s: Cached, scores: Scores) -> Call {
    let Cached { Tn, pos, rows, Tmax, NH, HS, .. } = s;
    let B = pos.len();
    let mut tensors = vec![
        output("out", B * Tn * NH * HS),
        cache(r, "kcache", s),
        cache(r, "vcache", s),
        input("qkv", qkv(r, (B, Tn, NH, HS), scores)),
        input("pos", Values::Tok(pos.to_vec())),
    ];
    tensors.extend(rows.map(|rows| input("rows", Values::Tok(rows.to_vec()))));
    let dims = [B, Tn, Tmax, NH, HS];
    let call = Call::new("attention_cached_forward", dims, tensors, |o, s, [B, Tn, Tmax, NH, HS]| {
        let (out, kcache, vcache, qkv) = (s.act("out"), s.act("kcache"), s.act("vcache"), s.act("qkv"));
        let (pos, rows) = (s.tok("pos"), s.maybe_tok("rows"));
        o.attention_cached_forward(out, kcache, vcache, qkv, pos, rows, B, Tn, Tmax, NH, HS)
    });
    if pos.iter().any(|pos| *pos > 0) {
        return call;
    }
    // From an empty cache, it is attention.
    call.composed(&["out"], vec![stat_scratch("lse", B * NH * Tn)], |o, s, dims| {
        let [B, Tn, _, NH, HS] = dims;
        o.attention_forward(s.act("out"), s.stat("lse"), s.act("qkv"), None, B, Tn, NH, HS, Dropout::NONE)
    })
}

pub(super) fn cases(c: &mut Cases) {
    for shape in c.shapes(&SHAPES, &LARGE) {
        for dropout in DROPOUTS {
            let name = format!("(B,T,NH,HS) = {shape:?}, {dropout:?}");
            c.computes("attention_forward", &name, move |r| {
                forward(r, shape, Row::Whole, Scores::Usual, dropout)
            });
            c.computes("attention_backward", name, move |r| {
                backward(r, shape, Row::Whole, Scores::Usual, dropout)
            });
        }
    }
    for (shape, row) in c.shapes(&ROWS, &ROWS_LARGE) {
        for dropout in DROPOUTS {
            let name = format!("(B,T,NH,HS) = {shape:?}, {row:?}, {dropout:?}");
            c.computes("attention_forward", &name, move |r| forward(r, shape, row, Scores::Usual, dropout));
            c.computes("attention_backward", name, move |r| backward(r, shape, row, Scores::Usual, dropout));
        }
    }
    for s in c.shapes(&CACHED, &CACHED_LARGE) {
        c.computes("attention_cached_forward", format!("{s:?}"), move |r| {
            cached_forward(r, s, Scores::Usual)
        });
    }
    // A score of 100 is known to 1e-5 in f32, and so is its exponential.
    let shape = SHAPES[3];
    c.computes("attention_forward", "large scores", move |r| {
        forward(r, shape, Row::Whole, Scores::Large, Dropout::NONE).slack(10.0).alone()
    });
    c.computes("attention_backward", "large scores", move |r| {
        backward(r, shape, Row::Whole, Scores::Large, Dropout::NONE).slack(10.0).alone()
    });
    c.computes("attention_cached_forward", "large scores", |r| {
        cached_forward(r, CACHED[4], Scores::Large).slack(10.0)
    });

    let shape = (2, 3, 2, 5);
    let texts = Row::Texts(2);
    c.refused_spoilt("attention_forward", move |r| forward(r, shape, texts, Scores::Usual, DROPOUTS[1]));
    c.refused_spoilt("attention_backward", move |r| backward(r, shape, texts, Scores::Usual, DROPOUTS[1]));
    // Beyond its position, and before that of the position before.
    for bad in [[0, 0, 0, 0, 2, 2], [0, 1, 0, 0, 0, 0]] {
        let with = move |mut call: Call| {
            let starts = call.tensors.iter_mut().find(|tensor| tensor.name == "starts");
            starts.expect("a row of texts").values = Values::Tok(bad.into());
            call
        };
        let name = format!("starts {bad:?}");
        c.refused("attention_forward", &name, "starts", move |r| {
            with(forward(r, shape, texts, Scores::Usual, Dropout::NONE))
        });
        c.refused("attention_backward", &name, "starts", move |r| {
            let call = backward(r, shape, texts, Scores::Usual, Dropout::NONE);
            with(call)
        });
    }
    c.refused_spoilt("attention_cached_forward", |r| {
        cached_forward(r, cached(3, &[2, 4], 7, 2, 5), Scores::Usual)
    });
    // Beyond the cache; a row that is not there, and one that two sequences would have.
    let good = cached(3, &[2, 4], 7, 2, 5).in_rows(&[2, 0], 3);
    let bad = [("pos", [0, 5]), ("pos", [u32::MAX, 0]), ("rows", [0, 3]), ("rows", [1, 1])];
    for (name, tokens) in bad {
        c.refused("attention_cached_forward", &format!("{name} {tokens:?}"), name, move |r| {
            let mut call = cached_forward(r, good, Scores::Usual);
            let tensor = call.tensors.iter_mut().find(|tensor| tensor.name == name);
            tensor.expect("the call has it").values = Values::Tok(tokens.into());
            call
        });
    }
    for p in BAD {
        let dropout = Dropout { p, seed: 0, site: 0 };
        let name = format!("p = {p}");
        c.refused("attention_forward", &name, "probability", move |r| {
            let mut call = forward(r, shape, Row::Whole, Scores::Usual, Dropout::NONE);
            call.run = Box::new(move |o, s, _| run(o, s, shape.into(), dropout));
            call
        });
        c.refused("attention_backward", &name, "probability", move |r| {
            let mut call = backward(r, shape, Row::Whole, Scores::Usual, Dropout::NONE);
            call.run = Box::new(move |o, s, _| run_backward(o, s, shape.into(), dropout));
            call
        });
    }
}

pub(super) fn gradients() -> Vec<Gradient> {
    let shape = (2, 5, 2, 3);
    let gradient = |row: Row, dropout: Dropout| {
        Gradient::new(
            "attention_backward",
            move |r| {
                let (B, T, NH, HS) = shape;
                let mut tensors = vec![
                    input("qkv", qkv(r, shape, Scores::Usual)),
                    output("out", B * T * NH * HS),
                    stat_output("lse", B * NH * T),
                    input("dout", r.act(B * T * NH * HS, 1.0)),
                    output("dqkv", B * T * 3 * NH * HS),
                ];
                tensors.extend(row.starts(r, shape));
                tensors
            },
            move |o, s| run(o, s, shape.into(), dropout),
            move |o, s, _| run_backward(o, s, shape.into(), dropout),
        )
        .loss("out", "dout")
        .set("qkv", "dqkv")
    };
    let rows = [Row::Whole, Row::Texts(3), Row::Window(2)];
    rows.into_iter().flat_map(|row| DROPOUTS.map(|dropout| gradient(row, dropout))).collect()
}
