//! Cases of `matmul`, with what is fused to it, and of `bias`.

use super::Cases;
use super::call::{
    Call, Slots, Tensor, grad_output, gradient, input, output, parameter_gradient, scratch, updated,
};
use super::data::Random;
use super::gradient::Gradient;
use crate::Update::{Add, Set};
use crate::{Ops, Result, Update};

/// (N, C, OC).
type Shape = (usize, usize, usize);
const SHAPES: [Shape; 6] = [(1, 1, 1), (1, 5, 3), (5, 33, 17), (7, 16, 40), (9, 31, 1), (17, 1, 19)];
/// Of a model's size, and longer than a block in one direction at a time; in eights, as tensor cores want it, and not.
const LARGE: [Shape; 9] = [
    (64, 64, 64),
    (130, 65, 129),
    (33, 768, 257),
    (1, 768, 384),
    (1031, 20, 9),
    (5, 2501, 9),
    (5, 20, 4099),
    (200, 264, 136),
    (1100, 40, 24),
];

/// Weights whose products with C inputs sum to about 1.
fn weight(r: &mut Random, C: usize, OC: usize) -> Tensor {
    input("weight", r.act(OC * C, 2.0 / (C as f32).sqrt()))
}

fn operands(r: &mut Random, (N, C, OC): Shape, biased: bool) -> Vec<Tensor> {
    let mut tensors = vec![input("inp", r.act(N * C, 1.0)), weight(r, C, OC)];
    tensors.extend(biased.then(|| input("bias", r.act(OC, 1.0))));
    tensors
}

fn forward(r: &mut Random, shape: Shape, biased: bool) -> Call {
    let (N, C, OC) = shape;
    let mut tensors = vec![output("out", N * OC)];
    tensors.extend(operands(r, shape, biased));
    let call = Call::new("matmul_forward", [N, C, OC], tensors, |o, s, [N, C, OC]| {
        o.matmul_forward(s.act("out"), s.act("inp"), s.act("weight"), s.maybe("bias"), N, C, OC)
    });
    if !biased {
        return call;
    }
    call.composed(&["out"], vec![], |o, s, [N, C, OC]| {
        o.matmul_forward(s.act("out"), s.act("inp"), s.act("weight"), None, N, C, OC)?;
        o.bias_forward(s.act("out"), s.act("bias"), N, OC)
    })
}

fn gelu_forward(r: &mut Random, shape: Shape, biased: bool) -> Call {
    let (N, C, OC) = shape;
    let mut tensors = vec![output("out", N * OC), output("pre", N * OC)];
    tensors.extend(operands(r, shape, biased));
    Call::new("matmul_gelu_forward", [N, C, OC], tensors, run_gelu).composed(
        &["out", "pre"],
        vec![],
        |o, s, [N, C, OC]| {
            o.matmul_forward(s.act("pre"), s.act("inp"), s.act("weight"), s.maybe("bias"), N, C, OC)?;
            o.gelu_forward(s.act("out"), s.act("pre"))
        },
    )
}

fn run_gelu(o: &mut dyn Ops, s: &Slots, [N, C, OC]: [usize; 3]) -> Result {
    let (out, pre, inp) = (s.act("out"), s.act("pre"), s.act("inp"));
    o.matmul_gelu_forward(out, pre, inp, s.act("weight"), s.maybe("bias"), N, C, OC)
}

fn residual_forward(r: &mut Random, shape: Shape, biased: bool) -> Call {
    let (N, C, OC) = shape;
    let mut tensors = vec![output("out", N * OC), input("residual", r.act(N * OC, 1.0))];
    tensors.extend(operands(r, shape, biased));
    Call::new("matmul_residual_forward", [N, C, OC], tensors, run_residual).composed(
        &["out"],
        vec![scratch("product", N * OC)],
        |o, s, [N, C, OC]| {
            o.matmul_forward(s.act("product"), s.act("inp"), s.act("weight"), s.maybe("bias"), N, C, OC)?;
            o.residual_forward(s.act("out"), s.act("residual"), s.act("product"))
        },
    )
}

fn run_residual(o: &mut dyn Ops, s: &Slots, [N, C, OC]: [usize; 3]) -> Result {
    let (out, residual, inp) = (s.act("out"), s.act("residual"), s.act("inp"));
    o.matmul_residual_forward(out, residual, inp, s.act("weight"), s.maybe("bias"), N, C, OC)
}

fn backward_input(r: &mut Random, (N, C, OC): Shape, update: Update) -> Call {
    let tensors =
        vec![gradient(r, "dinp", N * C, update), input("dout", r.act(N * OC, 1.0)), weight(r, C, OC)];
    Call::new("matmul_backward_input", [N, C, OC], tensors, move |o, s, [N, C, OC]| {
        o.matmul_backward_input(s.act("dinp"), s.act("dout"), s.act("weight"), N, C, OC, update)
    })
}

fn gelu_backward_input(r: &mut Random, (N, C, OC): Shape) -> Call {
    let tensors = vec![
        output("dpre", N * C),
        input("dout", r.act(N * OC, 1.0)),
        weight(r, C, OC),
        input("pre", r.act(N * C, 3.0)),
    ];
    Call::new("matmul_gelu_backward_input", [N, C, OC], tensors, run_gelu_backward).composed(
        &["dpre"],
        vec![scratch("dinp", N * C)],
        |o, s, [N, C, OC]| {
            o.matmul_backward_input(s.act("dinp"), s.act("dout"), s.act("weight"), N, C, OC, Set)?;
            o.gelu_backward(s.act("dpre"), s.act("dinp"), s.act("pre"))
        },
    )
}

fn run_gelu_backward(o: &mut dyn Ops, s: &Slots, [N, C, OC]: [usize; 3]) -> Result {
    o.matmul_gelu_backward_input(s.act("dpre"), s.act("dout"), s.act("weight"), s.act("pre"), N, C, OC)
}

fn backward_weight(r: &mut Random, (N, C, OC): Shape, biased: bool, update: Update) -> Call {
    let mut tensors = vec![
        parameter_gradient(r, "dweight", OC * C, update),
        input("dout", r.act(N * OC, 1.0)),
        input("inp", r.act(N * C, 1.0)),
    ];
    tensors.extend(biased.then(|| parameter_gradient(r, "dbias", OC, update)));
    let call = Call::new("matmul_backward_weight", [N, C, OC], tensors, move |o, s, dims| {
        run_backward_weight(o, s, dims, update)
    });
    if !biased {
        return call;
    }
    call.composed(&["dweight", "dbias"], vec![], move |o, s, [N, C, OC]| {
        o.matmul_backward_weight(s.grad("dweight"), None, s.act("dout"), s.act("inp"), N, C, OC, update)?;
        o.bias_backward(s.grad("dbias"), s.act("dout"), N, OC, update)
    })
}

fn run_backward_weight(o: &mut dyn Ops, s: &Slots, [N, C, OC]: [usize; 3], update: Update) -> Result {
    let (dweight, dbias) = (s.grad("dweight"), s.maybe_grad("dbias"));
    o.matmul_backward_weight(dweight, dbias, s.act("dout"), s.act("inp"), N, C, OC, update)
}

fn bias_forward(r: &mut Random, (N, OC): (usize, usize)) -> Call {
    let tensors = vec![updated("x", r.act(N * OC, 1.0)), input("bias", r.act(OC, 1.0))];
    Call::new("bias_forward", [N, OC], tensors, |o, s, [N, OC]| {
        o.bias_forward(s.act("x"), s.act("bias"), N, OC)
    })
}

fn bias_backward(r: &mut Random, (N, OC): (usize, usize), update: Update) -> Call {
    let tensors = vec![parameter_gradient(r, "dbias", OC, update), input("dout", r.act(N * OC, 1.0))];
    Call::new("bias_backward", [N, OC], tensors, move |o, s, [N, OC]| {
        o.bias_backward(s.grad("dbias"), s.act("dout"), N, OC, update)
    })
}

pub(super) fn cases(c: &mut Cases) {
    for shape in c.shapes(&SHAPES, &LARGE) {
        let (N, _, OC) = shape;
        let name = format!("(N,C,OC) = {shape:?}");
        for biased in [true, false] {
            let name = format!("{name}, bias {biased}");
            c.computes("matmul_forward", &name, move |r| forward(r, shape, biased));
            c.computes("matmul_gelu_forward", &name, move |r| gelu_forward(r, shape, biased));
            c.computes("matmul_residual_forward", &name, move |r| residual_forward(r, shape, biased));
            for update in [Set, Add] {
                let name = format!("{name}, {update:?}");
                c.computes("matmul_backward_weight", name, move |r| {
                    backward_weight(r, shape, biased, update)
                });
            }
        }
        for update in [Set, Add] {
            let name = format!("{name}, {update:?}");
            c.computes("matmul_backward_input", name, move |r| backward_input(r, shape, update));
            let name = format!("(N,OC) = {:?}, {update:?}", (N, OC));
            c.computes("bias_backward", name, move |r| bias_backward(r, (N, OC), update));
        }
        c.computes("matmul_gelu_backward_input", name, move |r| gelu_backward_input(r, shape));
        c.computes("bias_forward", format!("(N,OC) = {:?}", (N, OC)), move |r| bias_forward(r, (N, OC)));
    }
    let shape = (3, 4, 5);
    c.refused_spoilt("matmul_forward", move |r| forward(r, shape, true));
    c.refused_spoilt("matmul_gelu_forward", move |r| gelu_forward(r, shape, true));
    c.refused_spoilt("matmul_residual_forward", move |r| residual_forward(r, shape, true));
    c.refused_spoilt("matmul_backward_input", move |r| backward_input(r, shape, Set));
    c.refused_spoilt("matmul_gelu_backward_input", move |r| gelu_backward_input(r, shape));
    c.refused_spoilt("matmul_backward_weight", move |r| backward_weight(r, shape, true, Set));
    c.refused_spoilt("bias_forward", |r| bias_forward(r, (3, 5)));
    c.refused_spoilt("bias_backward", |r| bias_backward(r, (3, 5), Set));
}

/// The tensors of a forward and the gradients of its operands.
fn with_gradients(r: &mut Random, mut tensors: Vec<Tensor>, (N, C, OC): Shape) -> Vec<Tensor> {
    tensors.push(input("dout", r.act(N * OC, 1.0)));
    tensors.extend([output("dinp", N * C), grad_output("dweight", OC * C), grad_output("dbias", OC)]);
    tensors
}

pub(super) fn gradients() -> Vec<Gradient> {
    let shape = (4, 5, 6);
    let (N, C, OC) = shape;
    let backward = move |o: &mut dyn Ops, s: &Slots, update| {
        o.matmul_backward_input(s.act("dinp"), s.act("dout"), s.act("weight"), N, C, OC, update)?;
        run_backward_weight(o, s, [N, C, OC], update)
    };
    let plain = |op| {
        Gradient::new(
            op,
            move |r| {
                let tensors = forward(r, shape, true).tensors;
                with_gradients(r, tensors, shape)
            },
            move |o, s| {
                let (inp, weight, bias) = (s.act("inp"), s.act("weight"), s.maybe("bias"));
                o.matmul_forward(s.act("out"), inp, weight, bias, N, C, OC)
            },
            backward,
        )
        .loss("out", "dout")
    };
    let gelu = Gradient::new(
        "matmul_gelu_forward",
        move |r| {
            let tensors = gelu_forward(r, shape, true).tensors;
            let mut tensors = with_gradients(r, tensors, shape);
            tensors.push(output("dpre", N * OC));
            tensors
        },
        move |o, s| run_gelu(o, s, [N, C, OC]),
        move |o, s, update| {
            o.gelu_backward(s.act("dpre"), s.act("dout"), s.act("pre"))?;
            let (dpre, inp, weight) = (s.act("dpre"), s.act("inp"), s.act("weight"));
            o.matmul_backward_input(s.act("dinp"), dpre, weight, N, C, OC, update)?;
            o.matmul_backward_weight(s.grad("dweight"), s.maybe_grad("dbias"), dpre, inp, N, C, OC, update)
        },
    );
    let residual = Gradient::new(
        "matmul_residual_forward",
        move |r| {
            let tensors = residual_forward(r, shape, true).tensors;
            let mut tensors = with_gradients(r, tensors, shape);
            tensors.push(output("dresidual", N * OC));
            tensors
        },
        move |o, s| run_residual(o, s, [N, C, OC]),
        move |o, s, update| {
            o.residual_backward(s.act("dresidual"), s.act("dout"), update)?;
            backward(o, s, update)
        },
    );
    let through_gelu = Gradient::new(
        "matmul_gelu_backward_input",
        move |r| {
            let mut tensors = gelu_backward_input(r, shape).tensors;
            tensors.extend([output("inp", N * C), output("out", N * OC)]);
            tensors
        },
        move |o, s| {
            o.gelu_forward(s.act("inp"), s.act("pre"))?;
            o.matmul_forward(s.act("out"), s.act("inp"), s.act("weight"), None, N, C, OC)
        },
        move |o, s, _| run_gelu_backward(o, s, [N, C, OC]),
    );
    let bias = Gradient::new(
        "bias_backward",
        move |r| {
            let tensors = [output("out", N * OC), input("inp", r.act(N * OC, 1.0))];
            let gradient = [grad_output("dbias", OC), input("dout", r.act(N * OC, 1.0))];
            tensors.into_iter().chain(gradient).chain([input("bias", r.act(OC, 1.0))]).collect()
        },
        move |o, s| {
            o.residual_backward(s.act("out"), s.act("inp"), Set)?;
            o.bias_forward(s.act("out"), s.act("bias"), N, OC)
        },
        move |o, s, update| o.bias_backward(s.grad("dbias"), s.act("dout"), N, OC, update),
    );
    let operands = |g: Gradient| {
        g.loss("out", "dout").added("inp", "dinp").added("weight", "dweight").added("bias", "dbias")
    };
    vec![
        plain("matmul_backward_input").added("inp", "dinp"),
        plain("matmul_backward_weight").added("weight", "dweight").added("bias", "dbias"),
        operands(gelu),
        operands(residual).added("residual", "dresidual"),
        through_gelu.loss("out", "dout").set("pre", "dpre"),
        bias.loss("out", "dout").added("bias", "dbias"),
    ]
}
