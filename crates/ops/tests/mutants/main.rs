//! Every op broken on purpose, in one place at a time: the conformance suite must notice.
//!
//! A fault that no case notices is a fault that a backend may have.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod attention;
mod attention_unfused;
mod backend;
mod cross_entropy;
mod dropout;
mod embedding;
mod fault;
mod gelu;
mod layernorm;
mod matmul;
mod optimizer;
mod residual;
mod sample;

use std::collections::BTreeMap;

use backend::{Altered, BACKEND_FAULTS};
use fault::{Fault, Faults};
use wikigpt_ops::Ops;
use wikigpt_ops::conformance::{self, Case, Level, Report};
use wikigpt_ops::host::Host;

/// The mutants of a family of ops.
struct Family {
    faults: Faults,
    /// Whether a case notices the fault of an op, in float32.
    noticed: fn(&[Case], op: &'static str, fault: &'static str) -> bool,
    /// What the finite differences say to it, in float64.
    gradients: fn(op: &'static str, fault: &'static str) -> Report,
}

macro_rules! family {
    ($family:ident) => {
        Family {
            faults: $family::FAULTS,
            noticed: |cases, op, fault| {
                noticed(cases, || Host::with($family::Mutant::<f32>(Fault::new(op, fault))))
            },
            gradients: |op, fault| {
                conformance::gradients(&mut Host::with($family::Mutant::<f64>(Fault::new(op, fault))))
            },
        }
    };
}

const FAMILIES: [Family; 12] = [
    family!(embedding),
    family!(layernorm),
    family!(residual),
    family!(matmul),
    family!(attention),
    family!(attention_unfused),
    family!(gelu),
    family!(dropout),
    family!(cross_entropy),
    family!(sample),
    family!(optimizer),
    Family {
        faults: BACKEND_FAULTS,
        noticed: |cases, op, fault| noticed(cases, || Altered::of(op, fault)),
        gradients: |_, _| conformance::gradients(&mut wikigpt_ops::reference::Reference::new()),
    },
];

/// Every op, every fault.
fn faults() -> impl Iterator<Item = (&'static Family, &'static str, &'static str)> {
    FAMILIES.iter().flat_map(|family| {
        family
            .faults
            .iter()
            .flat_map(move |(op, faults)| faults.iter().map(move |fault| (family, *op, *fault)))
    })
}

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
    let cases = conformance::cases(Level::Small);
    for family in &FAMILIES {
        assert!(
            !(family.noticed)(&cases, "", ""),
            "the family of {} fails without a fault",
            family.faults[0].0
        );
        let report = (family.gradients)("", "");
        assert!(report.passed(), "{report}");
    }
}

#[test]
fn bfloat16_passes() {
    let report = conformance::run(&mut Altered::bf16(), Level::Full);
    assert!(report.passed(), "{report}");
}

#[test]
fn every_fault_is_noticed_by_a_case_of_its_op() {
    let cases = cases();
    let unnoticed = faults().filter(|(family, op, fault)| !(family.noticed)(&cases[op], op, fault));
    let unnoticed: Vec<_> = unnoticed.map(|(_, op, fault)| format!("{op}: {fault}")).collect();
    assert!(unnoticed.is_empty(), "no case noticed\n  {}", unnoticed.join("\n  "));
}

#[test]
fn every_method_of_the_trait_has_cases() {
    let source = include_str!("../../src/ops.rs");
    let methods = source.lines().filter_map(|line| line.strip_prefix("    fn ")?.split(['(', '<']).next());
    // These have nothing of their own to get wrong: `device` has a case for the four.
    let methods: Vec<_> =
        methods.filter(|m| !["act_bytes", "grad_bytes", "synchronize"].contains(m)).collect();
    assert!(methods.len() > 35, "the trait's methods were not found: {methods:?}");
    let cases = cases();
    for method in methods {
        assert!(cases.contains_key(method), "{method} has no case");
    }
}

#[test]
fn every_op_has_two_faults_or_more() {
    for op in cases().keys() {
        let count = faults().filter(|(_, o, _)| o == op).count();
        assert!(count >= 2, "{op} has {count} faults");
    }
}

/// Faults of a backward that leave its derivatives right: in what it reads and writes besides, or for large numbers.
const NOT_OF_A_DERIVATIVE: [&str; 7] = [
    "above the diagonal kept",
    "clears dq",
    "losses scaled",
    "maximum not taken off",
    "padding kept",
    "reads above the diagonal",
    "weights of losses ignored",
];

/// A wrong derivative is noticed without the reference to compare with, too.
#[test]
fn every_wrong_derivative_is_noticed_by_finite_differences() {
    let of_derivatives =
        faults().filter(|(_, op, fault)| op.contains("backward") && !NOT_OF_A_DERIVATIVE.contains(fault));
    let unnoticed = of_derivatives.filter(|(family, op, fault)| (family.gradients)(op, fault).passed());
    let unnoticed: Vec<_> = unnoticed.map(|(_, op, fault)| format!("{op}: {fault}")).collect();
    assert!(unnoticed.is_empty(), "no difference noticed\n  {}", unnoticed.join("\n  "));
}
