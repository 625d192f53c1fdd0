//! Cases of `sample`. Columns from V on hold NaN: they are padding, and not read.
//!
//! What is drawn depends on sums, which a backend may round as it likes: a token is right if, in float64, its part of [0, 1) reaches to u,
//! give or take [`NEAR`], and no filter drops it by more than that. Where logits alone decide (greedy, top-k, what is excluded,
//! what is as likely as the last one kept), nothing is given.

use std::ops::Range;

use super::Cases;
use super::call::{Call, Tensor, input, tok_output, updated};
use super::check::Verdict;
use super::data::{Random, Values};
use crate::{IGNORE, Knobs};

/// How far sums of probabilities may be off.
const NEAR: f64 = 1e-5;

/// (B, V, Vp).
type Shape = (usize, usize, usize);
/// A vocabulary of one token, of less than a word's bits, of a few more than a warp's and a block's threads.
const SHAPES: [Shape; 8] = [
    (1, 1, 1),
    (1, 1, 8),
    (3, 7, 7),
    (12, 50, 128),
    (14, 129, 256),
    (2, 128, 128),
    (14, 1061, 1152),
    (3, 2500, 2501),
];
const LARGE: [Shape; 3] = [(65, 257, 384), (2, 50_257, 50_304), (14, 5000, 5003)];

const ALL: Knobs = Knobs { temperature: 1.0, ..Knobs::GREEDY };
/// Row b is drawn by number b, and so on from the first.
const KNOBS: [Knobs; 14] = [
    Knobs { temperature: 0.7, top_k: 5.0, ..ALL },
    ALL,
    Knobs { temperature: 0.8, top_p: 0.9, penalty: 1.5, ..ALL },
    Knobs::GREEDY,
    Knobs { top_k: 40.0, top_p: 0.5, ..ALL },
    Knobs { penalty: 3.0, ..Knobs::GREEDY },
    Knobs { temperature: 2.5, top_k: 3.0, top_p: 0.7, penalty: 0.5 },
    Knobs { top_p: 1e-6, ..ALL },
    Knobs { top_k: 1.0, ..ALL },
    Knobs { temperature: 1.5, top_k: 1e6, ..ALL },
    Knobs { temperature: 1e-3, top_p: 0.99, ..ALL },
    Knobs { temperature: 100.0, top_p: 0.999, ..ALL },
    Knobs { temperature: f32::MAX, top_p: 0.9, ..ALL },
    Knobs { temperature: f32::MIN_POSITIVE, penalty: f32::MAX, ..ALL },
];

/// Where the logits lie.
#[derive(Clone, Copy, Debug)]
enum Logits {
    Usual,
    /// Few different ones, zeros of either sign, and some −∞.
    Ties,
    /// All the same.
    Even,
    /// Up to ±1e4: a token has all the probability, or none.
    Wide,
    /// Up to the largest there are.
    Extreme,
}

fn logits(r: &mut Random, (B, V, Vp): Shape, of: Logits) -> Vec<f32> {
    let scale = match of {
        Logits::Wide => 1e4,
        Logits::Extreme => 3.3e38,
        _ => 4.0,
    };
    let mut x = r.act(B * Vp, scale).floats().to_vec();
    let tied = |(i, x): (usize, &mut f32)| {
        // −0 is made of numbers just below 0.
        let rounded = (*x * 2.0).round() / 2.0;
        *x = if i % 11 == 3 && !i.is_multiple_of(Vp) { f32::NEG_INFINITY } else { rounded };
    };
    match of {
        Logits::Ties => x.iter_mut().enumerate().for_each(tied),
        Logits::Even => x.fill(0.5),
        _ => {}
    }
    x.chunks_exact_mut(Vp).for_each(|row| row[V..].fill(f32::NAN));
    x
}

/// A call's inputs.
#[derive(Clone)]
struct Given {
    shape: Shape,
    logits: Vec<f32>,
    knobs: Vec<Knobs>,
    uniforms: Vec<u32>,
    /// What the rows of a text hold, more rows than are drawn, and which row each has.
    seen: Option<Vec<u32>>,
    rows: Option<Vec<u32>>,
}

impl Given {
    fn new(r: &mut Random, shape: Shape, of: Logits) -> Given {
        let (B, V, _) = shape;
        let words = V.div_ceil(32);
        let knobs = (0..B).map(|b| KNOBS[b % KNOBS.len()]).collect();
        let mut uniforms = r.words(B);
        uniforms[0] = u32::MAX;
        // From the last row backwards, one left out.
        let rows = (0..B as u32).rev().map(|row| row + u32::from(row > 0)).collect();
        let seen = Some(r.words((B + 1) * words));
        Given { shape, logits: logits(r, shape, of), knobs, uniforms, seen, rows: Some(rows) }
    }

    /// One row's logits and knobs, drawn by numbers that are spread over [0, 1), both ends among them.
    fn spread(self, count: usize) -> Given {
        let (_, V, Vp) = self.shape;
        let step = u32::MAX / (count as u32 - 1);
        let words = V.div_ceil(32);
        let uniforms =
            (0..count as u32).map(|i| if i + 1 == count as u32 { u32::MAX } else { i * step }).collect();
        Given {
            shape: (count, V, Vp),
            logits: self.logits[..Vp].repeat(count),
            knobs: self.knobs[..1].repeat(count),
            uniforms,
            seen: self.seen.map(|seen| seen[seen.len() - words..].repeat(count)),
            rows: None,
        }
    }

    fn alone(self) -> Given {
        Given { seen: None, rows: None, ..self }
    }

    fn without_rows(self) -> Given {
        let (B, V, _) = self.shape;
        let seen = self.seen.map(|seen| seen[..B * V.div_ceil(32)].to_vec());
        Given { rows: None, seen, ..self }
    }

    fn call(self) -> Call {
        let (B, V, Vp) = self.shape;
        let stat = |knobs: &[Knobs]| Values::Stat(knobs.iter().flat_map(|knobs| knobs.row()).collect());
        let mut tensors: Vec<Tensor> = vec![tok_output("tokens", B)];
        tensors.extend(self.seen.clone().map(|seen| updated("seen", Values::Tok(seen))));
        tensors.extend([
            input("logits", Values::Act(self.logits.clone())),
            input("knobs", stat(&self.knobs)),
            input("uniforms", Values::Tok(self.uniforms.clone())),
        ]);
        tensors.extend(self.rows.clone().map(|rows| input("rows", Values::Tok(rows))));
        let call = Call::new("sample", [B, V, Vp], tensors, |o, s, [B, V, Vp]| {
            let (tokens, seen, rows) = (s.tok("tokens"), s.maybe_tok("seen"), s.maybe_tok("rows"));
            o.sample(tokens, seen, s.act("logits"), s.stat("knobs"), s.tok("uniforms"), rows, B, V, Vp)
        });
        call.judged(move |results| self.judge(results))
    }

    /// The words of row b's text in `seen`.
    fn words(&self, b: usize) -> Range<usize> {
        let words = self.shape.1.div_ceil(32);
        let row = self.rows.as_ref().map_or(b, |rows| rows[b] as usize);
        row * words..(row + 1) * words
    }

    fn judge(&self, results: &[Values]) -> Verdict {
        let tokens = results[0].tokens();
        let mut expected = self.seen.clone();
        for (b, token) in tokens.iter().enumerate() {
            self.judge_row(b, *token).map_err(|why| format!("tokens[{b}] is {token}: {why}"))?;
            let own = self.words(b);
            if let Some(seen) = expected.as_mut().filter(|_| *token != IGNORE) {
                seen[own.start + *token as usize / 32] |= 1 << (token % 32);
            }
        }
        let Some(expected) = expected else { return Ok(()) };
        let seen = results[1].tokens();
        match (0..seen.len()).find(|i| seen[*i] != expected[*i]) {
            None => Ok(()),
            Some(i) => Err(format!("seen[{i}] is {:#x}, expected {:#x}", seen[i], expected[i])),
        }
    }

    /// The logits of row b with the penalty.
    fn penalized(&self, b: usize) -> Vec<f64> {
        let (_, V, Vp) = self.shape;
        let penalty = f64::from(self.knobs[b].penalty);
        let seen = self.seen.as_ref().map(|seen| &seen[self.words(b)]);
        let one = |(v, x): (usize, &f32)| {
            let x = f64::from(*x);
            match seen {
                Some(seen) if seen[v / 32] >> (v % 32) & 1 == 1 && x.is_finite() => {
                    let x = if x > 0.0 { x / penalty } else { x * penalty };
                    f64::from(x.clamp(f32::MIN.into(), f32::MAX.into()) as f32)
                }
                _ => x,
            }
        };
        self.logits[b * Vp..][..V].iter().enumerate().map(one).collect()
    }

    fn judge_row(&self, b: usize, token: u32) -> Verdict {
        let (x, Knobs { temperature, top_k, top_p, .. }) = (self.penalized(b), self.knobs[b]);
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let wrong = |x: &f64| x.is_nan() || *x == f64::INFINITY;
        if x.iter().any(wrong) || max == f64::NEG_INFINITY {
            return if token == IGNORE { Ok(()) } else { Err("there is nothing to draw".into()) };
        }
        let Some(own) = x.get(token as usize).copied() else { return Err("it is no token".into()) };
        if temperature == 0.0 {
            let first = x.iter().position(|x| *x == max);
            return if first == Some(token as usize) {
                Ok(())
            } else {
                Err(format!("{first:?} is the likeliest"))
            };
        }
        let mut sorted = x.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let k = if top_k == 0.0 { sorted.len() } else { sorted.len().min(top_k as usize) };
        let least = sorted[k - 1].max(f64::MIN);
        if own < least {
            return Err(format!("its logit is {own:e}, and none below {least:e} is kept"));
        }
        let weight = |x: f64| if x < least { 0.0 } else { ((x - max) / f64::from(temperature)).exp() };
        let total: f64 = x.iter().map(|x| weight(*x)).sum();
        // The least logit that top-p keeps, from the strictest to the mildest that sums allow.
        let (mut likelier, mut at, mut leasts) = (0.0, 0, Vec::new());
        while at < sorted.len() && sorted[at] >= least {
            let equal = sorted[at..].iter().take_while(|x| **x == sorted[at]).count();
            let beyond = likelier - f64::from(top_p) * total;
            if top_p < 1.0 && at > 0 && beyond > NEAR * total {
                break;
            }
            // What surely is kept leaves nothing stricter.
            if top_p == 1.0 || beyond < -NEAR * total {
                leasts.clear();
            }
            leasts.push(sorted[at]);
            likelier += equal as f64 * weight(sorted[at]);
            at += equal;
        }
        let u = f64::from(self.uniforms[b]) / 4_294_967_296.0;
        let mut said = String::new();
        for least in leasts {
            let weights = x.iter().map(|x| if *x < least { 0.0 } else { weight(*x) });
            let total: f64 = weights.clone().sum();
            let before: f64 = weights.clone().take(token as usize).sum();
            let after = before + if own < least { 0.0 } else { weight(own) };
            if after > before && before <= (u + NEAR) * total && (u - NEAR) * total <= after {
                return Ok(());
            }
            said = format!("its part is {:.6} to {:.6}, and u = {u:.6}", before / total, after / total);
        }
        Err(format!("{said}, by {:?}", self.knobs[b]))
    }
}

pub(super) fn cases(c: &mut Cases) {
    const OP: &str = "sample";
    for shape in c.shapes(&SHAPES, &LARGE) {
        for of in [Logits::Usual, Logits::Ties] {
            c.computes(OP, format!("(B,V,Vp) = {shape:?}, {of:?}"), move |r| Given::new(r, shape, of).call());
        }
    }
    let shape = SHAPES[4];
    for of in [Logits::Even, Logits::Wide, Logits::Extreme] {
        c.computes(OP, format!("(B,V,Vp) = {shape:?}, {of:?}"), move |r| Given::new(r, shape, of).call());
    }
    c.computes(OP, "no seen", move |r| Given::new(r, shape, Logits::Usual).alone().call());
    c.computes(OP, "no rows", move |r| Given::new(r, shape, Logits::Usual).without_rows().call());
    // Few tokens, so that none is too unlikely to be drawn.
    for (number, knobs) in KNOBS.into_iter().enumerate() {
        for (of, V) in [(Logits::Usual, 19), (Logits::Ties, 37)] {
            c.computes(OP, format!("all of [0, 1) by {number}, {of:?}"), move |r| {
                let given = Given::new(r, (1, V, V + 2), of);
                Given { knobs: vec![knobs], ..given }.spread(40).call()
            });
        }
    }
    // Among many, of which some are as likely: a block has more to do than its threads at once.
    for (number, knobs) in [(0, KNOBS[4]), (1, KNOBS[2]), (2, Knobs { top_k: 700.0, top_p: 0.95, ..ALL })] {
        c.computes(OP, format!("1500 tokens, {number}"), move |r| {
            let given =
                Given::new(r, (1, 1500, 1504), if number == 1 { Logits::Usual } else { Logits::Ties });
            Given { knobs: vec![knobs], ..given }.spread(7).call()
        });
    }
    for (name, knobs) in [("greedy", Knobs::GREEDY), ("top-k", Knobs { top_k: 1.0, ..ALL })] {
        c.computes(OP, format!("zeros of either sign, {name}"), move |r| {
            let mut given = Given { knobs: vec![knobs], ..Given::new(r, (1, 50, 56), Logits::Even) };
            given.logits[..50].fill(-3.0);
            [(4, -0.0), (9, 0.0), (30, -0.0)].into_iter().for_each(|(v, zero)| given.logits[v] = zero);
            given.spread(12).call()
        });
    }
    for (name, wrong) in [("NaN", f32::NAN), ("infinity", f32::INFINITY)] {
        c.computes(OP, format!("{name} among the logits"), move |r| {
            let shape = (14, 50, 56);
            let mut given = Given::new(r, shape, Logits::Usual);
            // One in every other row, at the ends too.
            (0..14).step_by(2).for_each(|b| given.logits[b * 56 + [49, 0, 17][b / 2 % 3]] = wrong);
            given.call()
        });
    }
    c.computes(OP, "no finite logit", move |r| {
        let mut given = Given::new(r, (14, 50, 56), Logits::Usual);
        (1..14).step_by(2).for_each(|b| given.logits[b * 56..][..50].fill(f32::NEG_INFINITY));
        // And one alone.
        given.logits[6 * 56..][..49].fill(f32::NEG_INFINITY);
        given.call()
    });
    c.refused_spoilt(OP, |r| Given::new(r, (3, 40, 64), Logits::Usual).call());
    for (name, rows) in [("a row twice", [1, 1, 0]), ("a row beyond", [0, 4, 1])] {
        c.refused(OP, name, "rows", move |r| {
            let given = Given::new(r, (3, 40, 64), Logits::Usual);
            Given { rows: Some(rows.to_vec()), ..given }.call()
        });
    }
    c.refused(OP, "rows of nothing", "seen", |r| {
        let given = Given::new(r, (3, 40, 64), Logits::Usual);
        Given { seen: None, ..given }.call()
    });
}
