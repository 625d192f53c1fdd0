//! GPT: the model, its hand-derived backward pass, its optimizer and its files; generic over
//! [`wikigpt_ops::Ops`].
//!
//! To learn how a GPT is trained, read `block.rs` and then `model.rs`: each stage's backward stands under its forward.
//! `tensors.rs` holds the two kinds of layer, `activations.rs` what is kept between forward and backward and where,
//! `trainer.rs` what makes a step of it. What the single operations compute, and how their gradients are derived, stands
//! in [`wikigpt_ops`].
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod activations;
mod arena;
mod block;
mod config;
mod error;
mod evaluator;
pub mod files;
mod generator;
mod init;
mod layout;
mod model;
mod network;
mod plan;
mod sampler;
mod schedule;
mod shape;
mod tensors;
mod trainer;

pub use config::Config;
pub use error::{Error, Result};
pub use evaluator::Evaluator;
pub use generator::Generator;
pub use init::init;
pub use layout::{Block, Layout, Linear, Norm, Tensor};
pub use model::Regularize;
pub use plan::{Bytes, Plan};
pub use sampler::{Sampler, Sampling};
pub use schedule::{Decay, Schedule};
pub use trainer::{StepReport, Trainer};
