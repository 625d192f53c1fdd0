//! The plain loops through the conformance suite: in float64, which is the reference, and in float32.

use wikigpt_ops::conformance::{self, Level};
use wikigpt_ops::host::{Host, Kernels};
use wikigpt_ops::reference::Reference;

/// The reference's loops in float32.
struct Plain32;

impl Kernels for Plain32 {
    type F = f32;

    fn device(&self) -> String {
        "plain loops (float32)".into()
    }
}

#[test]
fn float64_conforms() {
    let report = conformance::run(&mut Reference::new(), Level::Full);
    assert!(report.passed(), "{report}");
}

#[test]
fn float32_conforms() {
    let report = conformance::run(&mut Host::with(Plain32), Level::Full);
    assert!(report.passed(), "{report}");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let report = conformance::gradients(&mut Reference::new());
    assert!(report.passed(), "{report}");
}
