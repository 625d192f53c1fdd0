//! GPT: the model, its hand-derived backward pass, its optimizer and its files; generic over
//! [`wikigpt_ops::Ops`].
//!
//! To learn how a GPT is trained, read `block.rs` and then `model.rs`: each stage's backward stands under its forward.
//! `tensors.rs` holds the two kinds of layer, `activations.rs` what is kept between forward and backward and where,
//! `trainer.rs` what makes a step of it, `lora.rs` what low-rank adapters change. What the single operations compute, and how their gradients are derived, stands
//! in [`wikigpt_ops`].
//!
//! A step of training, here on the float64 reference:
//!
//! ```
//! use wikigpt_gpt::{Batch, Config, Regularize, Trainer, init};
//! use wikigpt_ops::{AdamW, Update, reference::Reference};
//!
//! let config = Config { n_embd: 16, context: 8, ..Config::preset("tiny", 256)? };
//! let (B, T) = (1, 8);
//! let mut trainer = Trainer::new(Reference::new(), &config, B, T)?;
//! trainer.set_params(&init(&config, 42)?)?;
//! let text: Vec<u32> = b"A sparse".iter().chain(b" ").map(|byte| u32::from(*byte)).collect();
//! for step in 1..=3 {
//!     let scale = 1.0 / (B * T) as f32;
//!     trainer.accumulate(Batch::new(&text[..8], &text[1..]), scale, Regularize::NONE, Update::Set)?;
//!     let report = trainer.step(AdamW { lr: 1e-2, step, ..AdamW::default() })?;
//!     println!("loss {:.4}, gradient norm {:.4}", report.loss, report.grad_norm);
//! }
//! # assert!(trainer.forward(Batch::new(&text[..8], &text[1..]))? < 5.0);
//! # Ok::<(), wikigpt_gpt::Error>(())
//! ```
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod activations;
mod arena;
mod attention;
mod batch;
mod beam;
mod block;
mod config;
mod drawing;
mod error;
mod evaluator;
pub mod files;
mod generator;
mod init;
mod layout;
mod lora;
mod model;
mod network;
mod plan;
mod sampler;
mod schedule;
mod shape;
mod tensors;
mod trainer;
mod writer;

pub use batch::Batch;
pub use beam::{Beam, Found};
pub use config::Config;
pub use error::{Error, Result};
pub use evaluator::Evaluator;
pub use generator::Generator;
pub use init::init;
pub use layout::{Array, Block, Layout, Linear, Norm, Tensor, carry_over};
pub use lora::{AdapterLayout, AdapterRange, Lora, Projection, merge};
pub use model::Regularize;
pub use plan::{Bytes, Plan};
pub use sampler::{Sampler, Sampling};
pub use schedule::{Decay, Schedule};
pub use trainer::{StepReport, Trainer};
pub use writer::{Job, write};
