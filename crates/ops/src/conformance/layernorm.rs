//! Cases of `layernorm`, alone and behind a residual.

use super::Cases;
use super::call::{Call, grad_output, gradient, input, output, parameter_gradient, stat_output};
use super::data::{Random, Values, stat_from};
use super::gradient::Gradient;
use crate::Update::{Add, Set};
use crate::reference::layernorm;
use crate::{Ops, Result, Update};

use super::call::{Slots, Tensor};

/// (N, C).
const SHAPES: [(usize, usize); 5] = [(1, 1), (3, 2), (2, 33), (5, 64), (4, 127)];
const LARGE: [(usize, usize); 6] = [(7, 768), (130, 65), (2, 1025), (300, 96), (11, 1600), (2, 4608)];
/// GPT-2's, and one so large that its place in the formula shows.
const EPS: [f32; 2] = [1e-5, 0.3];
const UPDATES: [(Update, Update); 4] = [(Set, Set), (Add, Add), (Set, Add), (Add, Set)];

/// Rows to be normalised.
type Rows = fn(&mut Random, usize, usize) -> Values;

fn usual(r: &mut Random, N: usize, C: usize) -> Values {
    r.act_around(0.3, N * C, 2.0)
}

/// Rows whose mean is far above their deviation: E\[x²\] − E\[x\]² has nothing left of the variance in f32.
fn far(r: &mut Random, N: usize, C: usize) -> Values {
    r.act_around(1e3, N * C, 10.0)
}

/// Rows of equal elements: the variance is 0.
fn flat(_: &mut Random, N: usize, C: usize) -> Values {
    Values::Act((0..N * C).map(|i| 0.5 + (i / C) as f32).collect())
}

fn affine(r: &mut Random, C: usize, biased: bool) -> Vec<Tensor> {
    let mut tensors = vec![input("weight", r.act_around(1.0, C, 0.5))];
    tensors.extend(biased.then(|| input("bias", r.act(C, 0.5))));
    tensors
}

fn forward(r: &mut Random, (N, C): (usize, usize), eps: f32, biased: bool, rows: Rows) -> Call {
    let mut tensors = vec![
        output("out", N * C),
        stat_output("mean", N),
        stat_output("rstd", N),
        input("inp", rows(r, N, C)),
    ];
    tensors.extend(affine(r, C, biased));
    Call::new("layernorm_forward", [N, C], tensors, move |o, s, [N, C]| run_forward(o, s, N, C, eps))
}

fn run_forward(o: &mut dyn Ops, s: &Slots, N: usize, C: usize, eps: f32) -> Result {
    let (mean, rstd, bias) = (s.stat("mean"), s.stat("rstd"), s.maybe("bias"));
    o.layernorm_forward(s.act("out"), mean, rstd, s.act("inp"), s.act("weight"), bias, N, C, eps)
}

/// Backward with the statistics that the forward keeps.
fn backward(
    r: &mut Random,
    (N, C): (usize, usize),
    biased: bool,
    (update_inp, update): (Update, Update),
    rows: Rows,
) -> Call {
    let eps = 0.3;
    let (inp, weight) = (rows(r, N, C), r.act_around(1.0, C, 0.5));
    let (mut out, mut mean, mut rstd) = (vec![0.0; N * C], vec![0.0; N], vec![0.0; N]);
    layernorm::forward(&mut out, &mut mean, &mut rstd, &inp.wide(), &weight.wide(), None, C, eps);
    let mut tensors = vec![
        // What the row's own mean and spread take away leaves little of a short row.
        gradient(r, "dinp", N * C, update_inp).floor(0.3),
        parameter_gradient(r, "dweight", C, update),
        input("dout", r.act(N * C, 1.0)),
        input("inp", inp),
        input("weight", weight),
        input("mean", stat_from(&mean)),
        input("rstd", stat_from(&rstd)),
    ];
    tensors.extend(biased.then(|| parameter_gradient(r, "dbias", C, update)));
    Call::new("layernorm_backward", [N, C], tensors, move |o, s, [N, C]| {
        run_backward(o, s, "dinp", N, C, update_inp, update)
    })
}

fn run_backward(
    o: &mut dyn Ops,
    s: &Slots,
    dinp: &str,
    N: usize,
    C: usize,
    update_inp: Update,
    update: Update,
) -> Result {
    let (dinp, dweight, dbias) = (s.act(dinp), s.grad("dweight"), s.maybe_grad("dbias"));
    let (mean, rstd) = (s.stat("mean"), s.stat("rstd"));
    let inp = s.maybe("inp").unwrap_or_else(|| s.act("res"));
    o.layernorm_backward(
        dinp,
        dweight,
        dbias,
        s.act("dout"),
        inp,
        s.act("weight"),
        mean,
        rstd,
        N,
        C,
        update_inp,
        update,
    )
}

fn residual_forward(r: &mut Random, (N, C): (usize, usize), eps: f32, biased: bool) -> Call {
    let mut tensors = vec![
        output("res", N * C),
        output("out", N * C),
        stat_output("mean", N).of_rounded().floor(1.0),
        stat_output("rstd", N).of_rounded(),
        input("a", r.act(N * C, 2.0)),
        input("b", r.act(N * C, 1.0)),
    ];
    tensors.extend(affine(r, C, biased));
    Call::new("residual_layernorm_forward", [N, C], tensors, move |o, s, [N, C]| {
        run_residual(o, s, N, C, eps)
    })
    .composed(&["res", "out", "mean", "rstd"], vec![], move |o, s, [N, C]| {
        o.residual_forward(s.act("res"), s.act("a"), s.act("b"))?;
        let (mean, rstd, bias) = (s.stat("mean"), s.stat("rstd"), s.maybe("bias"));
        o.layernorm_forward(s.act("out"), mean, rstd, s.act("res"), s.act("weight"), bias, N, C, eps)
    })
}

fn run_residual(o: &mut dyn Ops, s: &Slots, N: usize, C: usize, eps: f32) -> Result {
    o.residual_layernorm_forward(
        s.act("res"),
        s.act("out"),
        s.stat("mean"),
        s.stat("rstd"),
        s.act("a"),
        s.act("b"),
        s.act("weight"),
        s.maybe("bias"),
        N,
        C,
        eps,
    )
}

pub(super) fn cases(c: &mut Cases) {
    for shape in c.shapes(&SHAPES, &LARGE) {
        for (eps, biased) in [(EPS[0], true), (EPS[1], true), (EPS[1], false)] {
            let name = format!("(N,C) = {shape:?}, eps {eps}, bias {biased}");
            c.computes("layernorm_forward", &name, move |r| forward(r, shape, eps, biased, usual));
            c.computes("residual_layernorm_forward", name, move |r| residual_forward(r, shape, eps, biased));
        }
        for updates in UPDATES {
            let biased = updates != UPDATES[2];
            let name =
                format!("(N,C) = {shape:?}, dinp {:?}, weights {:?}, bias {biased}", updates.0, updates.1);
            c.computes("layernorm_backward", name, move |r| backward(r, shape, biased, updates, usual));
        }
    }
    let shape = SHAPES[2];
    c.computes("layernorm_forward", "mean far above deviation", move |r| {
        forward(r, shape, EPS[0], true, far).slack(50.0)
    });
    c.computes("layernorm_backward", "mean far above deviation", move |r| {
        backward(r, shape, true, UPDATES[0], far).slack(10.0)
    });
    c.computes("layernorm_forward", "equal elements", move |r| forward(r, shape, EPS[0], true, flat));
    c.computes("layernorm_backward", "equal elements", move |r| backward(r, shape, true, UPDATES[0], flat));

    let shape = (3, 5);
    c.refused_spoilt("layernorm_forward", move |r| forward(r, shape, EPS[0], true, usual));
    c.refused_spoilt("layernorm_backward", move |r| backward(r, shape, true, UPDATES[0], usual));
    c.refused_spoilt("residual_layernorm_forward", move |r| residual_forward(r, shape, EPS[0], true));
}

pub(super) fn gradients() -> Vec<Gradient> {
    let (N, C, eps) = (3, 7, 0.3);
    let alone = Gradient::new(
        "layernorm_backward",
        move |r| {
            let mut tensors = forward(r, (N, C), eps, true, usual).tensors;
            tensors.push(input("dout", r.act(N * C, 1.0)));
            tensors.extend([output("dinp", N * C), grad_output("dweight", C), grad_output("dbias", C)]);
            tensors
        },
        move |o, s| run_forward(o, s, N, C, eps),
        move |o, s, update| run_backward(o, s, "dinp", N, C, update, update),
    );
    // The gradient of `res` is what arrives over the residual path plus what comes through the layernorm; both summands
    // then receive it whole.
    let fused = Gradient::new(
        "residual_layernorm_forward",
        move |r| {
            let mut tensors = residual_forward(r, (N, C), eps, true).tensors;
            tensors.push(input("dout", r.act(N * C, 1.0)));
            tensors.push(input("dres", r.act(N * C, 1.0)));
            tensors.extend([output("da", N * C), output("db", N * C)]);
            tensors.extend([grad_output("dweight", C), grad_output("dbias", C)]);
            tensors
        },
        move |o, s| run_residual(o, s, N, C, eps),
        move |o, s, update| {
            for summand in ["da", "db"] {
                o.residual_backward(s.act(summand), s.act("dres"), update)?;
                run_backward(o, s, summand, N, C, Add, if summand == "da" { update } else { Set })?;
            }
            Ok(())
        },
    );
    vec![
        alone.loss("out", "dout").added("inp", "dinp").added("weight", "dweight").added("bias", "dbias"),
        fused
            .loss("out", "dout")
            .loss("res", "dres")
            .added("a", "da")
            .added("b", "db")
            .set("weight", "dweight"),
    ]
}
