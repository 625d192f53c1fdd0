#![doc = "The operations of a GPT."]
//!
//! [`Ops`] is the list: one method per operation, each with its formula, its shapes and the derivation of its
//! backward pass. [`reference::Reference`] computes them in float64 with plain loops, to be read and to be
//! trusted; [`conformance`] holds every backend to it.
//!
//! Dimensions are always B (batch), T (time), C (channels), NH (heads), HS (head size, C = NH·HS), V (vocabulary),
//! Vp (V padded to a multiple of 128), OC (output channels), N (rows, usually B·T). Tensors are row-major; `x` and
//! `dx` are a tensor and the gradient of the loss with respect to it.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

pub mod args;
pub mod conformance;
mod constants;
mod error;
pub mod host;
mod ops;
pub mod philox;
pub mod reference;
mod slot;
pub mod workload;

pub use constants::{AdamW, Dropout, Knobs, Rounding, stochastic_bits};
pub use error::{Error, Result};
pub use ops::Ops;
pub use slot::{Act, Grad, Kind, Slot, Stat, Tag, Ticket, Tok};

/// Target index of a position that takes no part in the loss; what [`Ops::sample`] draws where there is nothing to draw.
pub const IGNORE: u32 = u32::MAX;

/// Whether a gradient replaces what its tensor holds or is added to it.
///
/// The first micro-batch of a step sets, the following ones add: no pass over memory is spent on zeroing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Overwrite; what was there before is not read.
    Set,
    /// Add to what is there.
    Add,
}
