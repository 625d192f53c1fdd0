//! Faults of `dropout`.

use wikigpt_ops::Dropout;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::dropout;

use crate::fault::{Fault, Faults};

pub const FAULTS: Faults = &[
    ("dropout_forward", &["not scaled up", "inverted", "next element's", "site ignored"]),
    ("dropout_backward", &["not scaled up", "no mask", "another site's", "half of the seed"]),
];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn dropout_forward(&mut self, out: &mut [F], inp: &[F], dropout: Dropout) {
        let fault = self.0.of("dropout_forward");
        for (i, out) in out.iter_mut().enumerate() {
            let i = i as u64;
            let factor = match fault {
                "not scaled up" => dropout.factor(i) / dropout.scale(),
                "inverted" => dropout.scale() - dropout.factor(i),
                "next element's" => dropout.factor(i + 1),
                "site ignored" => Dropout { site: 0, ..dropout }.factor(i),
                _ => dropout.factor(i),
            };
            *out = inp[i as usize] * F::of(factor);
        }
    }

    fn dropout_backward(&mut self, dinp: &mut [F], dout: &[F], dropout: Dropout) {
        let fault = self.0.of("dropout_backward");
        let dropout = match fault {
            "no mask" => Dropout::NONE,
            "another site's" => Dropout { site: dropout.site ^ 1, ..dropout },
            "half of the seed" => Dropout { seed: dropout.seed & 0xFFFF_FFFF, ..dropout },
            _ => dropout,
        };
        dropout::forward(dinp, dout, dropout);
        if fault == "not scaled up" {
            dinp.iter_mut().for_each(|x| *x = *x / F::of(dropout.scale()));
        }
    }
}
