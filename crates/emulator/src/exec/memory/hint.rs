//! What is said to caches: prefetch, applypriority, discard, createpolicy. There are no caches here, so nothing happens; a
//! policy is a number that nobody reads. (`discard` leaves contents undefined: they stay what they were.)

use super::Op;
use super::form::{Place, Room};
use crate::exec::Decoded;
use crate::program::{Class, Decoder, Modifiers};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// Decodes them; `prefetch.tensormap` is not among them.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    if inst.modifiers.contains(&"tensormap") {
        return Ok(None);
    }
    let mut modifiers = Modifiers::new(inst);
    if inst.opcode == "createpolicy" {
        return policy(inst, decoder, &mut modifiers).map(Some);
    }
    let room = Room::take(&mut modifiers);
    let local = inst.opcode == "prefetch" && room == Room::Local;
    if !(local || room == Room::Generic || (room == Room::Global && inst.opcode != "prefetchu")) {
        return Err(modifiers.invalid("it has no meaning for this space"));
    }
    let (levels, operands): (&[&str], _) = match inst.opcode {
        "prefetch" => (&["L1", "L2", "L2::evict_last", "L2::evict_normal"], 1),
        "prefetchu" => (&["L1"], 1),
        "applypriority" => (&["L2::evict_normal"], 2),
        _ => (&["L2"], 2),
    };
    if modifiers.take_any(levels).is_none() {
        return Err(modifiers.invalid("its cache level is missing"));
    }
    modifiers.finish()?;
    decoder.expect(inst, operands..=operands)?;
    Place::decode(inst, decoder, &modifiers, decoder.operand(inst, 0)?, room)?;
    if operands == 2 && *decoder.operand(inst, 1)? != Operand::Int(128) {
        return Err(modifiers.invalid("its size is 128"));
    }
    Ok(Some(Decoded::new(crate::exec::Op::Memory(Op::Nothing), Class::Global)))
}

/// Decodes `createpolicy`. The value is what a compiler's constants for the same priorities are.
fn policy<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers,
) -> Result<Decoded> {
    const PRIMARY: [(&str, u64); 4] = [
        ("L2::evict_last", 0x14F0_0000_0000_0000),
        ("L2::evict_normal", 0x16F0_0000_0000_0000),
        ("L2::evict_first", 0x12F0_0000_0000_0000),
        ("L2::evict_unchanged", 0x10F0_0000_0000_0000),
    ];
    let kind = modifiers.take_any(&["fractional", "range", "cvt"]);
    let value = if kind == Some("cvt") {
        decoder.expect(inst, 2..=2)?;
        decoder.src(inst, decoder.operand(inst, 1)?, Type::B64)?;
        modifiers.take("L2").then_some(PRIMARY[1].1)
    } else {
        let room = Room::take(modifiers);
        if !(room == Room::Generic || (room == Room::Global && kind == Some("range"))) {
            return Err(modifiers.invalid("it has no meaning for this space"));
        }
        let primary = modifiers.take_any(&PRIMARY.map(|(name, _)| name));
        modifiers.take_any(&["L2::evict_first", "L2::evict_unchanged"]);
        match kind {
            Some("fractional") => {
                decoder.expect(inst, 1..=2)?;
                if let Some(fraction) = inst.operands.get(1) {
                    decoder.src(inst, fraction, Type::F32)?;
                }
            }
            Some(_) => {
                decoder.expect(inst, 4..=4)?;
                Place::decode(inst, decoder, modifiers, decoder.operand(inst, 1)?, room)?;
                decoder.src(inst, decoder.operand(inst, 2)?, Type::U32)?;
                decoder.src(inst, decoder.operand(inst, 3)?, Type::U32)?;
            }
            None => return Err(modifiers.invalid("it is .fractional, .range or .cvt")),
        }
        PRIMARY.iter().find(|(name, _)| primary == Some(*name)).map(|(_, value)| *value)
    };
    let Some(value) = value else { return Err(modifiers.invalid("its priority is missing")) };
    if modifiers.ty()? != Type::B64 {
        return Err(modifiers.invalid("a policy is .b64"));
    }
    modifiers.finish()?;
    let dst = decoder.dst(inst, decoder.operand(inst, 0)?, Type::B64)?;
    Ok(Decoded::new(crate::exec::Op::Memory(Op::Policy { dst, value }), Class::Move))
}
