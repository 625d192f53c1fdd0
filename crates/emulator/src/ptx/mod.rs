//! PTX text and its syntax tree.

pub mod ast;
mod error;
mod lexer;
mod parser;
mod print;
mod types;

pub use error::{Error, ErrorKind, Result};
pub use parser::parse;
pub use types::{Kind, Type};
