//! Every op against the float64 reference.

use std::env;
use std::process::Command;

use wikigpt_kernels::Precision::{self, Bf16, F32};
use wikigpt_ops::conformance::{
    self, Case,
    Level::{self, Full, Small},
};

use crate::rig::gpu;

/// Set where the instructions are in question and not the shapes: the small level is enough.
const SMALL: &str = "WIKIGPT_TEST_SMALL";

/// Set where only some shapes are in question: parts of their cases' names, separated by semicolons.
const SHAPES: &str = "WIKIGPT_TEST_SHAPES";

/// Puts the ops whose names begin so through all their cases of a level.
fn conforms(level: Level, prefixes: &[&str], precision: Precision, grads: Precision) {
    let level = if env::var_os(SMALL).is_some() { Small } else { level };
    let shapes = env::var(SHAPES).unwrap_or_default();
    let wanted = |case: &Case| shapes.split(';').any(|shape| case.name().contains(shape));
    let mut gpu = gpu(precision, grads);
    let mut failures = Vec::new();
    let mut checked = 0;
    for case in conformance::cases(level) {
        if prefixes.iter().any(|prefix| case.op().starts_with(prefix)) && wanted(&case) {
            checked += 1;
            failures.extend(case.check(&mut gpu).err().map(|failure| failure.to_string()));
        }
    }
    assert!(checked > 0, "no case of {prefixes:?}");
    assert!(failures.is_empty(), "{} of {checked} cases failed:\n{}", failures.len(), failures.join("\n"));
}

macro_rules! conformance {
    ($($name:ident: $level:ident, $($prefix:literal),*;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn f32() {
                conforms($level, &[$($prefix),*], F32, F32);
            }

            #[test]
            fn bf16() {
                conforms($level, &[$($prefix),*], Bf16, F32);
            }
        })*
    };
}

conformance! {
    memory: Small, "device", "alloc", "upload", "download", "copy", "zero", "free", "fetch", "collect", "record";
    embedding: Full, "embedding";
    layernorm: Full, "layernorm", "residual_layernorm";
    residual: Full, "residual_forward", "residual_backward";
    matmul: Full, "matmul";
    bias: Full, "bias";
    attention: Full, "attention_forward", "attention_backward";
    cached: Full, "attention_cached";
    unfused: Full, "attention_scores", "attention_values";
    softmax: Full, "softmax";
    gelu: Full, "gelu";
    dropout: Full, "dropout";
    cross_entropy: Full, "cross_entropy";
    sample: Full, "sample";
    optimizer: Full, "sum", "global_norm", "adamw";
}

/// What writes or reads gradients of parameters.
#[test]
fn gradients_of_parameters_in_bf16() {
    let ops =
        ["embedding_backward", "layernorm_backward", "matmul_backward_weight", "bias_backward", "adamw"];
    conforms(Small, &[&ops[..], &["alloc", "upload", "copy", "global_norm"]].concat(), Bf16, Bf16);
}

/// Runs tests of this program on another device than the emulator's usual one.
#[track_caller]
fn elsewhere(filter: &str, environment: &[(&str, &str)]) {
    if env::var_os("WIKIGPT_TEST_DEVICE").is_some_and(|device| device == "cuda") {
        return; // The card is what it is.
    }
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args([filter, "--skip", "elsewhere_"]).envs(environment.iter().copied());
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{environment:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("test result: ok. ") && !text.contains(" 0 passed"), "{environment:?}: {text}");
}

/// An A100 and an RTX 3090.
#[test]
fn elsewhere_on_older_devices() {
    for arch in ["sm_80", "sm_86"] {
        elsewhere("conformance::", &[(SMALL, "1"), ("WIKIGPT_EMU_ARCH", arch)]);
    }
}

/// Where a vocabulary's row does not fit into shared memory, each pass reads it again.
#[test]
fn elsewhere_rows_that_do_not_fit() {
    elsewhere("conformance::sample", &[(SHAPES, "50257"), ("WIKIGPT_EMU_ARCH", "sm_86")]);
}

/// Then every product has the large tiles that it has on a real device at a model's sizes: several of them, in eights and not.
#[test]
fn elsewhere_on_one_multiprocessor() {
    let shapes = "(130, 65, 129);(200, 264, 136)";
    elsewhere("conformance::matmul", &[(SHAPES, shapes), ("WIKIGPT_EMU_MULTIPROCESSORS", "1")]);
}
