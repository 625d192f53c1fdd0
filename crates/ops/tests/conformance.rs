//! The plain loops through the conformance suite: in float64, which is the reference, and in float32.

use wikigpt_ops::conformance::{self, Level};
use wikigpt_ops::host::{Host, Kernels};
use wikigpt_ops::reference::Reference;

/// The reference's loops in float32; `naive` ones add everything up in it.
struct Plain32 {
    naive: bool,
}

impl Kernels for Plain32 {
    type F = f32;

    fn device(&self) -> String {
        "plain loops (float32)".into()
    }

    fn sum(&mut self, inp: &[f32]) -> f32 {
        if self.naive { inp.iter().sum() } else { wikigpt_ops::reference::adamw::sum(inp) }
    }

    fn global_norm(&mut self, grads: &[f32]) -> f32 {
        if self.naive {
            return grads.iter().map(|g| g * g).sum::<f32>().sqrt();
        }
        wikigpt_ops::reference::adamw::global_norm(grads)
    }
}

#[test]
fn float64_conforms() {
    let report = conformance::run(&mut Reference::new(), Level::Full);
    assert!(report.passed(), "{report}");
}

#[test]
fn float32_conforms() {
    let report = conformance::run(&mut Host::with(Plain32 { naive: false }), Level::Full);
    assert!(report.passed(), "{report}");
}

#[test]
fn a_running_sum_in_float32_does_not() {
    let mut ops = Host::with(Plain32 { naive: true });
    for op in ["sum", "global_norm"] {
        let cases = conformance::cases(Level::Full);
        let failed = cases.iter().filter(|case| case.op() == op && case.check(&mut ops).is_err()).count();
        assert_eq!(failed, 1, "{op}");
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let report = conformance::gradients(&mut Reference::new());
    assert!(report.passed(), "{report}");
}
