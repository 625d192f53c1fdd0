//! Every op against the float64 reference.

use wikigpt_kernels::Precision::{self, Bf16, F32};
use wikigpt_ops::conformance::{self, Level};

use crate::rig::gpu;

/// Puts the ops whose names begin so through all their cases.
fn conforms(prefixes: &[&str], precision: Precision, grads: Precision) {
    let mut gpu = gpu(precision, grads);
    let mut failures = Vec::new();
    let mut checked = 0;
    for case in conformance::cases(Level::Small) {
        if prefixes.iter().any(|prefix| case.op().starts_with(prefix)) {
            checked += 1;
            failures.extend(case.check(&mut gpu).err().map(|failure| failure.to_string()));
        }
    }
    assert!(checked > 0, "no case of {prefixes:?}");
    assert!(failures.is_empty(), "{} of {checked} cases failed:\n{}", failures.len(), failures.join("\n"));
}

macro_rules! conformance {
    ($($name:ident: $($prefix:literal),*;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn f32() {
                conforms(&[$($prefix),*], F32, F32);
            }

            #[test]
            fn bf16() {
                conforms(&[$($prefix),*], Bf16, F32);
            }

            #[test]
            fn bf16_gradients_too() {
                conforms(&[$($prefix),*], Bf16, Bf16);
            }
        })*
    };
}

conformance! {
    memory: "device", "alloc", "upload", "download", "copy", "zero", "free", "fetch", "collect", "record";
    embedding: "embedding";
    layernorm: "layernorm", "residual_layernorm";
    residual: "residual_forward", "residual_backward";
    matmul: "matmul";
    bias: "bias";
    attention: "attention_forward", "attention_backward", "attention_cached";
    unfused: "attention_scores", "attention_values";
    softmax: "softmax";
    gelu: "gelu";
    dropout: "dropout";
    cross_entropy: "cross_entropy";
    optimizer: "sum", "global_norm", "adamw";
}
