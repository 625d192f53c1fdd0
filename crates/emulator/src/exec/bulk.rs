//! (to be written)

use super::{Context, Decoded, Flow};
use crate::fault::Fault;
use crate::program::Decoder;
use crate::ptx::Result;
use crate::ptx::ast::Instruction;

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(_inst: &Instruction<'a>, _decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    Ok(None)
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, _cx: &mut Context, _active: u32) -> Result<Flow, Fault> {
    match *op {}
}

/// (to be written)
#[derive(Debug, Default)]
pub struct Flights {}

/// (to be written)
///
/// # Errors
/// What an operation did wrong.
pub fn advance(_cluster: &mut super::Cluster, _launch: &super::Launch, _force: bool) -> Result<bool, Fault> {
    Ok(false)
}
