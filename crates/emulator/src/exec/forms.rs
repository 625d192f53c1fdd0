//! What the decoders of lane-wise families share: operands of a known type to slots.

use super::per_lane::{Args, Op, Run};
use crate::program::{Class, Decoder, Modifiers};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Error, Kind, Result, Type};

/// The first type among an instruction's modifiers: which family it belongs to.
pub fn type_of(inst: &Instruction) -> Option<Type> {
    inst.modifiers.iter().find_map(|modifier| Type::parse(modifier))
}

/// Whether it is f16, bf16, or a pair of them.
pub fn is_half(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2)
}

/// Whether it is an integer, or a pair of them.
pub fn is_integer(ty: Type) -> bool {
    matches!(ty.kind(), Kind::Unsigned | Kind::Signed)
}

/// Whether it is untyped and has 16, 32 or 64 bits.
pub fn is_bits(ty: Type) -> bool {
    matches!(ty, Type::B16 | Type::B32 | Type::B64)
}

/// What arithmetic on a type counts as.
pub fn class_of(ty: Type) -> Class {
    match ty {
        Type::F64 => Class::Double,
        Type::F32 => Class::Float,
        ty if is_half(ty) => Class::Half,
        _ => Class::Integer,
    }
}

/// A source: constants of 16-bit floats are refused, for PTX has none.
pub fn source<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    operand: &Operand<'a>,
    ty: Type,
) -> Result<u32> {
    let constant = matches!(operand, Operand::Int(_) | Operand::F32(_) | Operand::F64(_));
    if constant && is_half(ty) {
        let message = format!("{}: a constant where a register of .{} is expected", inst.opcode, ty.name());
        return Err(Error::invalid(inst.line, message));
    }
    if matches!(operand, Operand::F32(_) | Operand::F64(_)) && is_integer(ty) {
        let message = format!("{}: a float constant where .{} is expected", inst.opcode, ty.name());
        return Err(Error::invalid(inst.line, message));
    }
    decoder.src(inst, operand, ty)
}

/// Sources from operand `from` on.
pub fn sources<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    from: usize,
    types: &[Type],
) -> Result<[u32; 4]> {
    let mut slots = [0; 4];
    for (index, (slot, ty)) in slots.iter_mut().zip(types).enumerate() {
        let operand = decoder.operand(inst, from + index)?;
        *slot = source(inst, decoder, operand, *ty)?;
    }
    Ok(slots)
}

/// An instruction `op d, a, …;` with a destination and sources of these types.
pub fn value<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    run: Run,
    dst: Type,
    src: &[Type],
) -> Result<Op> {
    value_with(inst, decoder, run, dst, src, 0)
}

/// The same, with something that it knows beforehand.
pub fn value_with<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    run: Run,
    dst: Type,
    src: &[Type],
    imm: u32,
) -> Result<Op> {
    let count = 1 + src.len();
    decoder.expect(inst, count..=count)?;
    let dst = decoder.dst(inst, decoder.operand(inst, 0)?, dst)?;
    let src = sources(inst, decoder, 1, src)?;
    Ok(Op::Value { run, args: Args { dst, src, imm } })
}

/// An operand that must be an integer constant.
pub fn immediate<'a>(inst: &Instruction<'a>, decoder: &Decoder<'a>, index: usize) -> Result<u64> {
    match decoder.operand(inst, index)? {
        Operand::Int(value) => Ok(*value),
        other => {
            let message = format!("{}: expected an integer constant, found {other:?}", inst.opcode);
            Err(Error::invalid(inst.line, message))
        }
    }
}

/// The error for a type that an instruction does not have.
pub fn no_type(modifiers: &Modifiers, ty: Type) -> Error {
    modifiers.invalid(&format!("there is none for .{}", ty.name()))
}
