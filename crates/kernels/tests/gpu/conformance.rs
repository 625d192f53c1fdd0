//! Every op against the float64 reference.

use wikigpt_kernels::Precision::{self, Bf16, F32};
use wikigpt_ops::conformance::{
    self,
    Level::{self, Full, Small},
};

use crate::rig::gpu;

/// Puts the ops whose names begin so through all their cases of a level.
fn conforms(level: Level, prefixes: &[&str], precision: Precision, grads: Precision) {
    let mut gpu = gpu(precision, grads);
    let mut failures = Vec::new();
    let mut checked = 0;
    for case in conformance::cases(level) {
        if prefixes.iter().any(|prefix| case.op().starts_with(prefix)) {
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
    attention: Full, "attention_forward", "attention_backward", "attention_cached";
    unfused: Full, "attention_scores", "attention_values";
    softmax: Full, "softmax";
    gelu: Full, "gelu";
    dropout: Full, "dropout";
    cross_entropy: Full, "cross_entropy";
    optimizer: Full, "sum", "global_norm", "adamw";
}

/// What writes or reads gradients of parameters.
#[test]
fn gradients_of_parameters_in_bf16() {
    let ops =
        ["embedding_backward", "layernorm_backward", "matmul_backward_weight", "bias_backward", "adamw"];
    conforms(Small, &[&ops[..], &["alloc", "upload", "copy", "global_norm"]].concat(), Bf16, Bf16);
}
