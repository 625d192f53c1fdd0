//! Arithmetic of several words: a carry bit for each lane, which `.cc` writes and `addc`, `subc` and `madc` read.
//!
//! The bit is a carry after differences too: a - b is a + !b + 1, and the bit is 0 where something was borrowed. The manual
//! leaves open what `addc` makes of a borrow; ptxas 13.0 folds it so.

use super::super::forms::{no_type, sources};
use super::super::per_lane::{Args, Op, lanes, tests};
use crate::program::{Decoder, Modifiers};
use crate::ptx::ast::Instruction;
use crate::ptx::{Result, Type};

/// Whether an instruction reads or writes the carry bit.
pub fn concerns(inst: &Instruction) -> bool {
    matches!(inst.opcode, "addc" | "subc" | "madc") || inst.modifiers.contains(&"cc")
}

/// Both runs and both tests of an operation for a width: without and with a carry that comes in.
macro_rules! with_carry {
    ($word:ty, $($x:ident),+; $carry:ident; $value:expr; $out:expr) => {
        (
            [
                lanes!(|$($x: $word),+| $word: { let $carry: $word = 0; $value }),
                lanes!(|$($x: $word),+| $word: { let $carry: $word = 1; $value }),
            ],
            [
                tests!(|$($x: $word),+| { let $carry: $word = 0; $out }),
                tests!(|$($x: $word),+| { let $carry: $word = 1; $out }),
            ],
        )
    };
}

macro_rules! sum {
    ($word:ty) => {
        with_carry!($word, a, b; carry;
            a.wrapping_add(b).wrapping_add(carry);
            a.carrying(b, carry))
    };
}

macro_rules! difference {
    ($word:ty) => {
        with_carry!($word, a, b; carry;
            a.wrapping_add(!b).wrapping_add(carry);
            a.carrying(!b, carry))
    };
}

macro_rules! low {
    ($word:ty) => {
        with_carry!($word, a, b, c; carry;
            a.wrapping_mul(b).wrapping_add(c).wrapping_add(carry);
            a.wrapping_mul(b).carrying(c, carry))
    };
}

macro_rules! high {
    ($word:ty) => {
        with_carry!($word, a, b, c; carry;
            a.high(b).wrapping_add(c).wrapping_add(carry);
            a.high(b).carrying(c, carry))
    };
}

macro_rules! high_signed {
    ($word:ty) => {
        with_carry!($word, a, b, c; carry;
            a.high_signed(b).wrapping_add(c).wrapping_add(carry);
            a.high_signed(b).carrying(c, carry))
    };
}

/// What words need here.
trait Word: Copy {
    /// Whether the sum with a carry overflows.
    fn carrying(self, other: Self, carry: Self) -> bool;
    /// The upper half of the product.
    fn high(self, other: Self) -> Self;
    /// The same, both taken as signed.
    fn high_signed(self, other: Self) -> Self;
}

macro_rules! word {
    ($word:ty, $signed:ty, $wide:ty, $wide_signed:ty) => {
        impl Word for $word {
            #[inline(always)]
            fn carrying(self, other: Self, carry: Self) -> bool {
                let (sum, first) = self.overflowing_add(other);
                first | sum.overflowing_add(carry).1
            }
            #[inline(always)]
            fn high(self, other: Self) -> Self {
                ((<$wide>::from(self) * <$wide>::from(other)) >> <$word>::BITS) as $word
            }
            #[inline(always)]
            fn high_signed(self, other: Self) -> Self {
                let (a, b) = (self as $signed, other as $signed);
                ((<$wide_signed>::from(a) * <$wide_signed>::from(b)) >> <$word>::BITS) as $word
            }
        }
    };
}

word!(u32, i32, u64, i64);
word!(u64, i64, u128, i128);

/// Decodes an instruction that reads or writes the carry bit.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Op> {
    let mut modifiers = Modifiers::new(inst);
    let ty = modifiers.ty()?;
    let start = match inst.opcode {
        "sub" => Some(u32::MAX),
        "add" | "mad" => Some(0),
        _ => None,
    };
    let output = modifiers.take("cc");
    let product = inst.opcode.starts_with("mad");
    let high = match product.then(|| modifiers.take_any(&["lo", "hi"])) {
        Some(None) => return Err(modifiers.invalid("one of .lo and .hi is missing")),
        Some(Some(part)) => part == "hi",
        None => false,
    };
    modifiers.finish()?;
    let wide = match ty {
        Type::U32 | Type::S32 => false,
        Type::U64 | Type::S64 => true,
        _ => return Err(no_type(&modifiers, ty)),
    };
    let signed = matches!(ty, Type::S32 | Type::S64);
    let (run, carry) = match (inst.opcode, high, signed, wide) {
        ("add" | "addc", _, _, false) => sum!(u32),
        ("add" | "addc", _, _, true) => sum!(u64),
        ("sub" | "subc", _, _, false) => difference!(u32),
        ("sub" | "subc", _, _, true) => difference!(u64),
        (_, false, _, false) => low!(u32),
        (_, false, _, true) => low!(u64),
        (_, true, false, false) => high!(u32),
        (_, true, false, true) => high!(u64),
        (_, true, true, false) => high_signed!(u32),
        (_, true, true, true) => high_signed!(u64),
    };
    let count = if product { 4 } else { 3 };
    decoder.expect(inst, count..=count)?;
    let dst = decoder.dst(inst, decoder.operand(inst, 0)?, ty)?;
    let src = sources(inst, decoder, 1, &[ty; 3][..count - 1])?;
    let flag = decoder.carry();
    Ok(Op::Carry { run, carry, args: Args { dst, src, imm: 0 }, start, output, flag })
}
