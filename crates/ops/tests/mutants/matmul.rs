//! Faults of `matmul`, with what is fused to it, and `bias`.

use wikigpt_ops::Update;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::{gelu, matmul, residual};

use crate::fault::{Fault, Faults, but, but_mut, perhaps};

pub const FAULTS: Faults = &[
    ("matmul_forward", &["no bias", "last row skipped", "last input channel skipped", "weight as (C,OC)"]),
    ("matmul_gelu_forward", &["pre is out", "no gelu", "bias after gelu"]),
    ("matmul_residual_forward", &["no residual", "no bias", "bias twice"]),
    ("matmul_backward_input", &["update reversed", "last output channel skipped", "weight as (C,OC)"]),
    ("matmul_gelu_backward_input", &["no derivative", "gelu for its derivative", "derivative at gelu"]),
    ("matmul_backward_weight", &["update reversed", "dbias always set", "last row skipped", "no dbias"]),
    ("bias_forward", &["set", "last row skipped"]),
    ("bias_backward", &["update reversed", "mean for sum", "last row skipped"]),
];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

/// Rows of `C` elements as columns: a (C,OC) weight taken for an (OC,C) one.
fn reread<F: Float>(weight: &[F], C: usize, OC: usize) -> Vec<F> {
    (0..C * OC).map(|i| weight[i % C * OC + i / C]).collect()
}

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn matmul_forward(
        &mut self,
        out: &mut [F],
        inp: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        OC: usize,
    ) {
        let fault = self.0.of("matmul_forward");
        match fault {
            "no bias" => matmul::forward(out, inp, weight, None, C, OC),
            "last row skipped" => matmul::forward(but_mut(out, OC), inp, weight, bias, C, OC),
            "last input channel skipped" => {
                let mut inp = inp.to_vec();
                inp.chunks_exact_mut(C).for_each(|x| x[C - 1] = F::zero());
                matmul::forward(out, &inp, weight, bias, C, OC);
            }
            "weight as (C,OC)" => matmul::forward(out, inp, &reread(weight, C, OC), bias, C, OC),
            _ => matmul::forward(out, inp, weight, bias, C, OC),
        }
    }

    fn matmul_gelu_forward(
        &mut self,
        out: &mut [F],
        pre: &mut [F],
        inp: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        OC: usize,
    ) {
        let fault = self.0.of("matmul_gelu_forward");
        if fault == "bias after gelu" {
            matmul::forward(pre, inp, weight, None, C, OC);
            gelu::forward(out, pre);
            bias.into_iter().for_each(|bias| matmul::bias_forward(out, bias));
            return;
        }
        matmul::forward(pre, inp, weight, bias, C, OC);
        gelu::forward(out, pre);
        match fault {
            "pre is out" => pre.copy_from_slice(out),
            "no gelu" => out.copy_from_slice(pre),
            _ => {}
        }
    }

    fn matmul_residual_forward(
        &mut self,
        out: &mut [F],
        residual: &[F],
        inp: &[F],
        weight: &[F],
        bias: Option<&[F]>,
        C: usize,
        OC: usize,
    ) {
        let fault = self.0.of("matmul_residual_forward");
        matmul::forward(out, inp, weight, bias.filter(|_| fault != "no bias"), C, OC);
        if fault != "no residual" {
            residual::backward(out, residual, Update::Add);
        }
        if fault == "bias twice" {
            bias.into_iter().for_each(|bias| matmul::bias_forward(out, bias));
        }
    }

    fn matmul_backward_input(
        &mut self,
        dinp: &mut [F],
        dout: &[F],
        weight: &[F],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        let fault = self.0.of("matmul_backward_input");
        let (mut dout, mut weight) = (dout.to_vec(), weight.to_vec());
        match fault {
            "last output channel skipped" => dout.chunks_exact_mut(OC).for_each(|d| d[OC - 1] = F::zero()),
            "weight as (C,OC)" => weight = reread(&weight, C, OC),
            _ => {}
        }
        matmul::backward_input(dinp, &dout, &weight, C, OC, perhaps(fault, update));
    }

    fn matmul_gelu_backward_input(
        &mut self,
        dpre: &mut [F],
        dout: &[F],
        weight: &[F],
        pre: &[F],
        C: usize,
        OC: usize,
    ) {
        let fault = self.0.of("matmul_gelu_backward_input");
        matmul::backward_input(dpre, dout, weight, C, OC, Update::Set);
        for (dx, x) in dpre.iter_mut().zip(pre) {
            *dx *= match fault {
                "no derivative" => F::one(),
                "gelu for its derivative" => gelu::gelu(*x),
                "derivative at gelu" => gelu::derivative(gelu::gelu(*x)),
                _ => gelu::derivative(*x),
            };
        }
    }

    fn matmul_backward_weight(
        &mut self,
        dweight: &mut [F],
        mut dbias: Option<&mut [F]>,
        dout: &[F],
        inp: &[F],
        C: usize,
        OC: usize,
        update: Update,
    ) {
        let fault = self.0.of("matmul_backward_weight");
        let dout = if fault == "last row skipped" { but(dout, OC) } else { dout };
        match (fault, &mut dbias) {
            ("dbias always set", Some(dbias)) => dbias.fill(F::zero()),
            ("no dbias", _) => dbias = None,
            _ => {}
        }
        matmul::backward_weight(dweight, dbias, dout, inp, C, OC, perhaps(fault, update));
    }

    fn bias_forward(&mut self, x: &mut [F], bias: &[F]) {
        match self.0.of("bias_forward") {
            "set" => x.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)),
            "last row skipped" => matmul::bias_forward(but_mut(x, bias.len()), bias),
            _ => matmul::bias_forward(x, bias),
        }
    }

    fn bias_backward(&mut self, dbias: &mut [F], dout: &[F], update: Update) {
        let fault = self.0.of("bias_backward");
        let rows = F::of((dout.len() / dbias.len()) as f64);
        let dout: Vec<F> = match fault {
            "mean for sum" => dout.iter().map(|d| *d / rows).collect(),
            "last row skipped" => but(dout, dbias.len()).to_vec(),
            _ => dout.to_vec(),
        };
        matmul::bias_backward(dbias, &dout, perhaps(fault, update));
    }
}
