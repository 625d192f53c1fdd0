//! Integers and bits.
//!
//! What PTX leaves open is as the device does it: a quotient or remainder by 0 is all ones, the smallest number divided by
//! -1 is itself, and so is its absolute value.

mod arithmetic;
mod bits;
mod carry;
mod video;

#[cfg(test)]
mod tests;

use super::{Context, Decoded, Flow, compare, forms, per_lane};
use crate::fault::Fault;
use crate::program::{Class, Decoder};
use crate::ptx::Result;
use crate::ptx::ast::Instruction;

pub use super::per_lane::Op;

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let Some(ty) = forms::type_of(inst) else { return Ok(None) };
    let integer = forms::is_integer(ty);
    let op = match inst.opcode {
        "setp" | "set" => return compare::decode(inst, decoder),
        "add" | "addc" | "sub" | "subc" | "mad" | "madc" if integer && carry::concerns(inst) => {
            carry::decode(inst, decoder)?
        }
        "add" | "sub" | "mul" | "mad" | "mul24" | "mad24" | "sad" | "div" | "rem" | "abs" | "neg" | "min"
        | "max"
            if integer =>
        {
            arithmetic::decode(inst, decoder)?
        }
        "dp4a" | "dp2a" => arithmetic::decode_dot(inst, decoder)?,
        "and" | "or" | "xor" | "not" | "cnot" if forms::is_bits(ty) => bits::decode_logic(inst, decoder)?,
        "shl" | "shr" | "shf" | "lop3" | "prmt" | "bfe" | "bfi" | "bfind" | "brev" | "bmsk" | "clz"
        | "fns" | "popc" | "szext" => bits::decode(inst, decoder)?,
        "vadd2" | "vsub2" | "vabsdiff2" | "vmin2" | "vmax2" | "vset2" | "vadd4" | "vsub4" | "vabsdiff4"
        | "vmin4" | "vmax4" | "vset4" => video::decode(inst, decoder)?,
        _ => return Ok(None),
    };
    Ok(Some(Decoded::new(super::Op::Integer(op), Class::Integer)))
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
#[inline(always)]
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    per_lane::execute(op, cx, active)
}
