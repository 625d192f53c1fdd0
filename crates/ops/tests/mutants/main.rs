//! Every op broken on purpose, in one place at a time: the conformance suite must notice.
//!
//! A fault that no case notices is a fault that a backend may have.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod attention;
mod backend;
mod kernels;

use std::collections::BTreeMap;

use backend::{Altered, BACKEND_FAULTS};
use kernels::{FAULTS, Mutant};
use wikigpt_ops::Ops;
use wikigpt_ops::conformance::{self, Case, Level};
use wikigpt_ops::host::Host;

/// The small cases of each op.
fn cases() -> BTreeMap<&'static str, Vec<Case>> {
    let mut cases: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for case in conformance::cases(Level::Small) {
        cases.entry(case.op()).or_default().push(case);
    }
    cases
}

/// Whether some case notices.
fn noticed<O: Ops>(cases: &[Case], make: impl Fn() -> O) -> bool {
    cases.iter().any(|case| case.check(&mut make()).is_err())
}

#[test]
fn unbroken_passes() {
    let report = conformance::run(&mut Host::with(Mutant::<f32>::of("", "")), Level::Small);
    assert!(report.passed(), "{report}");
    let report = conformance::run(&mut Altered::of("", ""), Level::Small);
    assert!(report.passed(), "{report}");
    let report = conformance::run(&mut Altered::bf16(), Level::Full);
    assert!(report.passed(), "{report}");
    let report = conformance::gradients(&mut Host::with(Mutant::<f64>::of("", "")));
    assert!(report.passed(), "{report}");
}

#[test]
fn every_fault_is_noticed_by_a_case_of_its_op() {
    let cases = cases();
    let mut survivors = Vec::new();
    for (op, faults) in FAULTS {
        for fault in *faults {
            if !noticed(&cases[op], || Host::with(Mutant::<f32>::of(op, fault))) {
                survivors.push(format!("{op}: {fault}"));
            }
        }
    }
    for (op, faults) in BACKEND_FAULTS {
        for fault in *faults {
            if !noticed(&cases[op], || Altered::of(op, fault)) {
                survivors.push(format!("{op}: {fault}"));
            }
        }
    }
    assert!(survivors.is_empty(), "no case noticed\n  {}", survivors.join("\n  "));
}

#[test]
fn every_method_of_the_trait_has_cases() {
    let source = include_str!("../../src/ops.rs");
    let methods = source.lines().filter_map(|line| line.strip_prefix("    fn ")?.split(['(', '<']).next());
    // These two have nothing of their own to get wrong: `device` has a case for the three.
    let methods: Vec<_> = methods.filter(|m| !["act_bytes", "synchronize"].contains(m)).collect();
    assert!(methods.len() > 35, "the trait's methods were not found: {methods:?}");
    let cases = cases();
    for method in methods {
        assert!(cases.contains_key(method), "{method} has no case");
    }
}

#[test]
fn every_op_has_two_faults_or_more() {
    for op in cases().keys() {
        let of_the_op = FAULTS.iter().chain(BACKEND_FAULTS).filter(|(o, _)| o == op);
        let faults: usize = of_the_op.map(|(_, faults)| faults.len()).sum();
        assert!(faults >= 2, "{op} has {faults} faults");
    }
}

/// Faults of a backward that leave its derivatives right: in what it reads and writes besides, or for large numbers.
const NOT_OF_A_DERIVATIVE: [&str; 6] = [
    "above the diagonal kept",
    "clears dq",
    "losses scaled",
    "maximum not taken off",
    "padding kept",
    "reads above the diagonal",
];

/// A wrong derivative is noticed without the reference to compare with, too.
#[test]
fn every_wrong_derivative_is_noticed_by_finite_differences() {
    let mut survivors = Vec::new();
    for (op, faults) in FAULTS.iter().filter(|(op, _)| op.contains("backward")) {
        for fault in faults.iter().filter(|fault| !NOT_OF_A_DERIVATIVE.contains(fault)) {
            let report = conformance::gradients(&mut Host::with(Mutant::<f64>::of(op, fault)));
            if report.passed() {
                survivors.push(format!("{op}: {fault}"));
            }
        }
    }
    assert!(survivors.is_empty(), "no difference noticed\n  {}", survivors.join("\n  "));
}
