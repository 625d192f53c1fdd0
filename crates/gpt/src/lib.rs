//! GPT: the model, its hand-derived backward pass, its optimizer and its files; generic over
//! [`wikigpt_ops::Ops`].
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod config;
mod error;
pub mod files;
mod layout;

pub use config::Config;
pub use error::{Error, Result};
pub use layout::{Block, Layout, Linear, Norm, Tensor};
