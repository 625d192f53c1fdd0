//! PTX text and its syntax tree.

pub mod ast;
mod error;
mod types;

pub use error::{Error, ErrorKind, Result};
pub use types::{Kind, Type};
