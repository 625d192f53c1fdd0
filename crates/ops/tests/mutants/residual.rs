//! Faults of `residual`.

use wikigpt_ops::Update;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::residual;

use crate::fault::{Fault, Faults, perhaps};

pub const FAULTS: Faults =
    &[("residual_forward", &["minus", "b missing"]), ("residual_backward", &["update reversed", "sign"])];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn residual_forward(&mut self, out: &mut [F], a: &[F], b: &[F]) {
        match self.0.of("residual_forward") {
            "minus" => out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = *a - *b),
            "b missing" => out.copy_from_slice(a),
            _ => residual::forward(out, a, b),
        }
    }

    fn residual_backward(&mut self, da: &mut [F], dout: &[F], update: Update) {
        let fault = self.0.of("residual_backward");
        let negative: Vec<F> = dout.iter().map(|d| -*d).collect();
        residual::backward(da, if fault == "sign" { &negative } else { dout }, perhaps(fault, update));
    }
}
