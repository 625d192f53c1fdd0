//! The packed video instructions: two halves or four bytes at once (`vabsdiff4` is what NVRTC makes of `__vabsdiffu4`).
//!
//! Masks of bytes and selectors (`d.mask`, `a.asel`), which no compiler emits, are not known, nor are the scalar forms.

use super::super::compare::relation;
use super::super::forms::{no_type, value_with};
use super::super::per_lane::{Op, lanes};
use crate::program::{Decoder, Modifiers};
use crate::ptx::ast::Instruction;
use crate::ptx::{Result, Type};

/// Elements are bytes, not halves.
const BYTES: u32 = 1;
/// The first source is signed.
const SIGNED_A: u32 = 2;
/// The second is.
const SIGNED_B: u32 = 4;
/// The result is.
const SIGNED_D: u32 = 8;
/// Results are clamped to the result's type.
const SATURATE: u32 = 16;
/// Results are added up, onto the third source.
const SUM: u32 = 32;
/// Where a comparison's relation stands.
const RELATION: u32 = 8;

/// Does something to each element.
#[inline(always)]
fn elements(a: u32, b: u32, c: u32, flags: u32, f: impl Fn(i32, i32) -> i32) -> u32 {
    let bits = if flags & BYTES != 0 { 8 } else { 16 };
    let element = |word: u32, index: u32, signed: bool| {
        let top = word << (32 - bits * (index + 1));
        if signed { top as i32 >> (32 - bits) } else { (top >> (32 - bits)) as i32 }
    };
    let (low, high) = match flags & SIGNED_D != 0 {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    };
    let (mut packed, mut sum) = (0, c);
    for index in 0..32 / bits {
        let result = f(element(a, index, flags & SIGNED_A != 0), element(b, index, flags & SIGNED_B != 0));
        let result = if flags & SATURATE != 0 { result.clamp(low, high) } else { result };
        packed |= (result as u32 & ((1 << bits) - 1)) << (bits * index);
        sum = sum.wrapping_add(result as u32);
    }
    if flags & SUM != 0 { sum } else { packed }
}

/// Decodes `vadd`, `vsub`, `vabsdiff`, `vmin`, `vmax` and `vset` with `2` or `4` behind.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Op> {
    let mut modifiers = Modifiers::new(inst);
    let name = &inst.opcode[..inst.opcode.len() - 1];
    let mut flags = if inst.opcode.ends_with('4') { BYTES } else { 0 };
    let signs = if name == "vset" { [SIGNED_A, SIGNED_B, 0] } else { [SIGNED_D, SIGNED_A, SIGNED_B] };
    for sign in signs.into_iter().filter(|sign| *sign != 0) {
        match modifiers.ty()? {
            Type::U32 => {}
            Type::S32 => flags |= sign,
            ty => return Err(no_type(&modifiers, ty)),
        }
    }
    if modifiers.take("sat") {
        flags |= SATURATE;
    }
    if modifiers.take("add") {
        flags |= SUM;
    }
    if flags & SUM != 0 && (matches!(name, "vadd" | "vsub") || flags & SATURATE != 0) {
        return Err(modifiers.unsupported("sums of these results are not known"));
    }
    let run = match name {
        "vadd" => lanes!(flags; |a: u32, b: u32, c: u32| u32: elements(a, b, c, flags, |a, b| a + b)),
        "vsub" => lanes!(flags; |a: u32, b: u32, c: u32| u32: elements(a, b, c, flags, |a, b| a - b)),
        "vabsdiff" => {
            lanes!(flags; |a: u32, b: u32, c: u32| u32: elements(a, b, c, flags, |a, b| (a - b).abs()))
        }
        "vmin" => lanes!(flags; |a: u32, b: u32, c: u32| u32: elements(a, b, c, flags, |a, b| a.min(b))),
        "vmax" => lanes!(flags; |a: u32, b: u32, c: u32| u32: elements(a, b, c, flags, |a, b| a.max(b))),
        _ => {
            let names = ["eq", "ne", "lt", "le", "gt", "ge"];
            let Some(comparison) = modifiers.take_any(&names) else {
                return Err(modifiers.invalid("its comparison is missing"));
            };
            flags |= relation(comparison).unwrap_or(0) << RELATION;
            lanes!(flags; |a: u32, b: u32, c: u32| u32: elements(a, b, c, flags, |a, b| {
                let holds = flags >> RELATION;
                i32::from(holds & 1 != 0 && a < b || holds & 2 != 0 && a == b || holds & 4 != 0 && a > b)
            }))
        }
    };
    modifiers.finish()?;
    value_with(inst, decoder, run, Type::B32, &[Type::B32; 3], flags)
}
