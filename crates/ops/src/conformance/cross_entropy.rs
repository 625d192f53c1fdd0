//! Cases of `cross_entropy`. Columns from V on hold NaN: they are padding, and not read.

use super::Cases;
use super::call::{Call, Tensor, input, stat_output, updated};
use super::data::{Random, Values};
use super::gradient::Gradient;
use crate::IGNORE;

/// (N, V, Vp).
type Shape = (usize, usize, usize);
const SHAPES: [Shape; 6] = [(1, 1, 1), (1, 1, 8), (4, 7, 7), (5, 50, 128), (2, 128, 128), (3, 129, 256)];
const LARGE: [Shape; 3] = [(9, 1000, 1024), (33, 257, 384), (2, 50_257, 50_304)];
const SCALE: f32 = 0.37;
/// What cancels in a loss: the logarithm and the target's logit.
const LOSS: f64 = 1.0;

/// Where the logits lie.
#[derive(Clone, Copy, Debug)]
enum Logits {
    Usual,
    /// Up to ±1e4, where the softmax is 0 or 1 and an exponential without the maximum taken off overflows.
    Wide,
    /// Close together, around 1e4.
    Offset,
}

fn logits(r: &mut Random, (N, V, Vp): Shape, of: Logits) -> Values {
    let (mean, scale) = match of {
        Logits::Usual => (0.0, 3.0),
        Logits::Wide => (0.0, 1e4),
        Logits::Offset => (1e4, 3.0),
    };
    let mut x = r.act_around(mean, N * Vp, scale).floats().to_vec();
    x.chunks_exact_mut(Vp).for_each(|row| row[V..].fill(f32::NAN));
    Values::Act(x)
}

/// Whether rows count differently.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rows {
    Alike,
    Weighted,
}

impl Rows {
    /// Weights from 0.5 to 2.5; NaN where the target is ignored, which makes them count for nothing.
    fn weights(self, r: &mut Random, targets: &Values) -> Option<Tensor> {
        let (Rows::Weighted, Values::Tok(targets)) = (self, targets) else { return None };
        let mut weights = r.stat_around(1.5, targets.len(), 1.0).floats().to_vec();
        let ignored = weights.iter_mut().zip(targets).filter(|(_, target)| **target == IGNORE);
        ignored.for_each(|(weight, _)| *weight = f32::NAN);
        Some(input("weights", Values::Stat(weights)))
    }
}

fn forward(r: &mut Random, shape: Shape, of: Logits, rows: Rows, targets: Values) -> Call {
    let (N, V, Vp) = shape;
    let weights = rows.weights(r, &targets);
    let mut tensors = vec![
        stat_output("losses", N).floor(LOSS),
        input("logits", logits(r, shape, of)),
        input("targets", targets),
    ];
    tensors.extend(weights);
    Call::new("cross_entropy_forward", [N, V, Vp], tensors, move |o, s, [N, V, Vp]| {
        let (losses, logits, targets) = (s.stat("losses"), s.act("logits"), s.tok("targets"));
        o.cross_entropy_forward(losses, logits, targets, s.maybe_stat("weights"), N, V, Vp)
    })
}

fn forward_backward(r: &mut Random, shape: Shape, of: Logits, rows: Rows, targets: Values) -> Call {
    let (N, V, Vp) = shape;
    let weights = rows.weights(r, &targets);
    let mut tensors = vec![
        stat_output("losses", N).floor(LOSS),
        updated("logits", logits(r, shape, of)).floor(f64::from(SCALE) / Vp as f64),
        input("targets", targets),
    ];
    tensors.extend(weights);
    Call::new("cross_entropy_forward_backward", [N, V, Vp], tensors, move |o, s, [N, V, Vp]| {
        let (losses, logits, targets) = (s.stat("losses"), s.act("logits"), s.tok("targets"));
        o.cross_entropy_forward_backward(losses, logits, targets, s.maybe_stat("weights"), N, V, Vp, SCALE)
    })
}

pub(super) fn cases(c: &mut Cases) {
    let shapes = c.shapes(&SHAPES, &LARGE);
    let mut both =
        |shape: Shape, what: &str, of: Logits, slack: f64, targets: fn(&mut Random, Shape) -> Values| {
            // How large logits are has to do with the softmax alone.
            let kinds =
                if what.contains("1e4") { &[Rows::Alike][..] } else { &[Rows::Alike, Rows::Weighted] };
            for rows in kinds.iter().copied() {
                let weighted = if rows == Rows::Weighted { ", weighted" } else { "" };
                let name = format!("(N,V,Vp) = {shape:?}{what}{weighted}");
                c.computes("cross_entropy_forward", &name, move |r| {
                    let targets = targets(r, shape);
                    forward(r, shape, of, rows, targets).slack(slack)
                });
                c.computes("cross_entropy_forward_backward", name, move |r| {
                    let targets = targets(r, shape);
                    forward_backward(r, shape, of, rows, targets).slack(slack)
                });
            }
        };
    let some = |r: &mut Random, (N, V, _): Shape| r.targets(N, V);
    let (last, none) = (
        |_: &mut Random, (N, V, _): Shape| Values::Tok(vec![V as u32 - 1; N]),
        |_: &mut Random, (N, _, _): Shape| Values::Tok(vec![IGNORE; N]),
    );
    for shape in shapes {
        both(shape, "", Logits::Usual, 1.0, some);
    }
    both(SHAPES[3], ", the last token", Logits::Usual, 1.0, last);
    both(SHAPES[3], ", all ignored", Logits::Usual, 1.0, none);
    both(SHAPES[3], ", logits to 1e4", Logits::Wide, 1.0, some);
    // A loss of 1 is the difference of two numbers that f32 knows to 1e-3.
    both(SHAPES[3], ", logits around 1e4", Logits::Offset, 200.0, some);

    let shape = (3, 5, 8);
    let targets = |last: u32| Values::Tok(vec![0, IGNORE, last]);
    c.refused_spoilt("cross_entropy_forward", move |r| {
        forward(r, shape, Logits::Usual, Rows::Weighted, targets(4))
    });
    c.refused_spoilt("cross_entropy_forward_backward", move |r| {
        forward_backward(r, shape, Logits::Usual, Rows::Weighted, targets(4))
    });
    // In the padding, and just below IGNORE.
    for bad in [5, IGNORE - 1] {
        let name = format!("target {bad} of V = 5");
        c.refused("cross_entropy_forward", &name, "targets", move |r| {
            forward(r, shape, Logits::Usual, Rows::Weighted, targets(bad))
        });
        c.refused("cross_entropy_forward_backward", &name, "targets", move |r| {
            forward_backward(r, shape, Logits::Usual, Rows::Weighted, targets(bad))
        });
    }
}

pub(super) fn gradients() -> Vec<Gradient> {
    let shape = (4, 7, 9);
    let (N, V, Vp) = shape;
    let gradient = |rows: Rows| {
        Gradient::new(
            "cross_entropy_forward_backward",
            move |r| {
                let mut x = logits(r, shape, Logits::Usual).floats().to_vec();
                x.chunks_exact_mut(Vp).for_each(|row| row[V..].fill(0.0));
                let targets = r.targets(N, V);
                let weights = rows.weights(r, &targets);
                let mut tensors = vec![
                    input("logits", Values::Act(x.clone())),
                    updated("dlogits", Values::Act(x)),
                    input("targets", targets),
                    stat_output("losses", N),
                    input("dlosses", Values::Stat(vec![SCALE; N])),
                ];
                tensors.extend(weights);
                tensors
            },
            move |o, s| {
                let (losses, logits, weights) = (s.stat("losses"), s.act("logits"), s.maybe_stat("weights"));
                o.cross_entropy_forward(losses, logits, s.tok("targets"), weights, N, V, Vp)
            },
            move |o, s, _| {
                let (losses, dlogits, weights) =
                    (s.stat("losses"), s.act("dlogits"), s.maybe_stat("weights"));
                let targets = s.tok("targets");
                o.cross_entropy_forward_backward(losses, dlogits, targets, weights, N, V, Vp, SCALE)
            },
        )
        .loss("losses", "dlosses")
        .once("logits", "dlogits")
    };
    [Rows::Alike, Rows::Weighted].map(gradient).into()
}
