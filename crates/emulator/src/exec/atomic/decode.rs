//! The forms of atom and red.

use super::{Element, Op, Operation, Update};
use crate::check::{Order, Scope};
use crate::exec::Decoded;
use crate::exec::memory::form::{Orders, Place, Room, agree, hints, order, policy};
use crate::exec::memory::reach::Request;
use crate::program::{Class, Decoder, Modifiers, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// Decodes an instruction of this family. `red.async` is not one.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let reduction = match inst.opcode {
        "atom" => false,
        "red" if !inst.modifiers.contains(&"async") => true,
        _ => return Ok(None),
    };
    let mut modifiers = Modifiers::new(inst);
    let room = Room::take(&mut modifiers);
    if !matches!(room, Room::Generic | Room::Global | Room::Shared | Room::Cluster) {
        return Err(modifiers.invalid("atomics are for global and shared memory"));
    }
    let orders = if reduction { Orders::Reduction } else { Orders::Atomic };
    let order = order(&mut modifiers, orders)?;
    let names = Operation::NAMES.map(|(name, _)| name);
    let name = modifiers.take_any(&names);
    let Some((_, operation)) = Operation::NAMES.iter().find(|(known, _)| name == Some(*known)) else {
        return Err(modifiers.invalid("its operation is missing"));
    };
    let noftz = modifiers.take("noftz");
    let vector = match modifiers.take_any(&["v2", "v4", "v8"]) {
        Some("v2") => 2,
        Some("v4") => 4,
        Some(_) => 8,
        None => 1,
    };
    let hinted = hints(&mut modifiers, &[]);
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let update = Update { operation: *operation, ty };
    let single = matches!(update.operation, Operation::Exch | Operation::Cas);
    if !update.exists(vector) || (reduction && single) {
        return Err(modifiers.invalid("there is no such operation on this type"));
    }
    let half = matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2);
    if half != noftz {
        return Err(modifiers.invalid(".noftz goes with 16-bit floating point, and with nothing else"));
    }
    if vector > 1 && !matches!(room, Room::Generic | Room::Global) {
        return Err(modifiers.invalid("vectors are for global memory"));
    }
    let cas = update.operation == Operation::Cas;
    if cas && hinted {
        return Err(modifiers.invalid("cas has no cache policy"));
    }

    let first = usize::from(!reduction);
    let count = first + 2 + usize::from(cas);
    decoder.expect(inst, count + usize::from(hinted)..=count + usize::from(hinted))?;
    if hinted {
        policy(inst, decoder, count)?;
    }
    let place = Place::decode(inst, decoder, &modifiers, decoder.operand(inst, first)?, room)?;
    let sources = |decoder: &mut Decoder<'a>, index: usize| -> Result<Vec<Slot>> {
        let operands = elements(&modifiers, &inst.operands[index], vector)?;
        operands.iter().map(|operand| source(inst, decoder, &modifiers, operand, ty)).collect()
    };
    let b = sources(decoder, first + 1)?;
    let c = if cas { sources(decoder, first + 2)? } else { b.clone() };
    let mut dst = Vec::new();
    if !reduction {
        // `_` of a vector is one `_` for all of them.
        let sinks = vec![Operand::Sink; vector as usize];
        let operands = match &inst.operands[0] {
            Operand::Sink => &sinks[..],
            operand => elements(&modifiers, operand, vector)?,
        };
        for operand in operands {
            dst.push(decoder.dst(inst, operand, ty)?);
        }
    }
    // Who counts itself the last by an atomic, or takes a lock, often has no fence behind it.
    let order = match order {
        Order::Relaxed(scope) if scope >= Scope::Device && !reduction => Order::Acquire(scope),
        order => order,
    };
    let elements = b.iter().zip(&c).enumerate();
    let elements = elements.map(|(index, (b, c))| Element { dst: dst.get(index).copied(), b: *b, c: *c });
    let bytes = ty.bytes() * vector;
    let request = Request { verb: "updates", bytes, align: bytes };
    let op = Op { place, order, update, request, elements: elements.collect() };
    Ok(Some(Decoded::new(crate::exec::Op::Atomic(op), Class::Atomic)))
}

/// The elements of an operand: `{…}` of a vector, itself of a scalar.
fn elements<'i, 'a>(
    modifiers: &Modifiers,
    operand: &'i Operand<'a>,
    vector: u32,
) -> Result<&'i [Operand<'a>]> {
    match operand {
        Operand::Vector(elements) if elements.len() == vector as usize && vector > 1 => Ok(elements),
        Operand::Vector(_) => Err(modifiers.invalid("its vectors have different lengths")),
        _ if vector > 1 => Err(modifiers.invalid("expected {…}")),
        operand => Ok(std::slice::from_ref(operand)),
    }
}

fn source<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &Modifiers,
    operand: &Operand<'a>,
    ty: Type,
) -> Result<Slot> {
    if let Ok((_, register)) = decoder.register(inst, operand)
        && !agree(ty, register)
    {
        return Err(modifiers.invalid(&format!("a register of .{} is no .{}", register.name(), ty.name())));
    }
    decoder.src(inst, operand, ty)
}
