//! The operations in float64 and plain loops: to be read, and to be trusted.
//!
//! One file per op, the backward after its forward; what is derived, is derived in [`Ops`](crate::Ops). The functions take
//! slices and are generic over the float, so that gradients can be checked in float64 and a backend in f32 may borrow a
//! loop that is not worth its own.

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod layernorm;
pub mod matmul;
pub mod residual;
pub mod sample;
pub mod softmax;

use crate::Update;
use crate::host::{Float, Host, Kernels};

/// The plain loops, in float64.
pub struct Plain;

impl Kernels for Plain {
    type F = f64;

    fn device(&self) -> String {
        "reference (float64)".into()
    }
}

/// The operations in float64.
pub type Reference = Host<Plain>;

impl Reference {
    /// An empty reference backend.
    pub fn new() -> Self {
        Host::with(Plain)
    }
}

impl Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

/// Sets or adds.
fn put<F: Float>(at: &mut F, value: F, update: Update) {
    match update {
        Update::Set => *at = value,
        Update::Add => *at += value,
    }
}
