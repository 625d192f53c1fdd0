//! Faults of `gelu`.

use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::gelu;

use crate::fault::{Fault, Faults};

pub const FAULTS: Faults = &[
    ("gelu_forward", &["cubic 0.44715", "sigmoid form", "not halved"]),
    ("gelu_backward", &["slope of tanh missing", "cubic without its 3", "derivative at 0"]),
];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn gelu_forward(&mut self, out: &mut [F], inp: &[F]) {
        let fault = self.0.of("gelu_forward");
        for (out, x) in out.iter_mut().zip(inp) {
            let (half, one) = (F::of(0.5), F::one());
            *out = match fault {
                "cubic 0.44715" => {
                    let u = F::of(gelu::SQRT_2_OVER_PI) * (*x + F::of(10.0 * gelu::CUBIC) * *x * *x * *x);
                    half * *x * (one + u.tanh())
                }
                "sigmoid form" => *x / (one + (-F::of(1.702) * *x).exp()),
                "not halved" => gelu::gelu(*x) / half,
                _ => gelu::gelu(*x),
            };
        }
    }

    fn gelu_backward(&mut self, dinp: &mut [F], dout: &[F], inp: &[F]) {
        let fault = self.0.of("gelu_backward");
        for (i, x) in inp.iter().copied().enumerate() {
            let (half, one) = (F::of(0.5), F::one());
            let root = F::of(gelu::SQRT_2_OVER_PI);
            let tanh = (root * (x + F::of(gelu::CUBIC) * x * x * x)).tanh();
            let du = root * (one + F::of(gelu::CUBIC) * x * x);
            dinp[i] = dout[i]
                * match fault {
                    "slope of tanh missing" => half * (one + tanh),
                    "cubic without its 3" => half * (one + tanh) + half * x * (one - tanh * tanh) * du,
                    "derivative at 0" => gelu::derivative(F::zero()),
                    _ => gelu::derivative(x),
                };
        }
    }
}
