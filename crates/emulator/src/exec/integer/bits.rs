//! Logic, shifts, fields and permutations of bits.

use super::super::forms::{immediate, no_type, sources, value, value_with};
use super::super::per_lane::{Args, Join, Op, lanes, tests};
use crate::program::{Decoder, Modifiers};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// By the size of an untyped value.
macro_rules! sized {
    ($ty:expr; |$($x:ident),+| $body:expr) => {
        match $ty.bits() {
            16 => lanes!(|$($x: u16),+| u16: $body),
            32 => lanes!(|$($x: u32),+| u32: $body),
            _ => lanes!(|$($x: u64),+| u64: $body),
        }
    };
}

/// `and`, `or`, `xor`, `not` and `cnot` of registers.
pub fn decode_logic<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Op> {
    let mut modifiers = Modifiers::new(inst);
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let run = match inst.opcode {
        "and" => sized!(ty; |a, b| a & b),
        "or" => sized!(ty; |a, b| a | b),
        "xor" => sized!(ty; |a, b| a ^ b),
        "not" => return value(inst, decoder, sized!(ty; |a| !a), ty, &[ty]),
        _ => return value(inst, decoder, sized!(ty; |a| (a == 0).into()), ty, &[ty]),
    };
    value(inst, decoder, run, ty, &[ty, ty])
}

/// Decodes all but plain logic.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Op> {
    let modifiers = Modifiers::new(inst);
    match inst.opcode {
        "shl" | "shr" => shift(inst, decoder, modifiers),
        "shf" => funnel_shift(inst, decoder, modifiers),
        "lop3" => logic3(inst, decoder, modifiers),
        "prmt" => permute(inst, decoder, modifiers),
        "bfe" => extract(inst, decoder, modifiers),
        "bfi" => insert(inst, decoder, modifiers),
        "bfind" => find_highest(inst, decoder, modifiers),
        "bmsk" | "szext" => mask(inst, decoder, modifiers),
        "fns" => {
            let mut modifiers = modifiers;
            only_b32(&mut modifiers)?;
            let run = lanes!(|mask: u32, base: u32, n: i32| u32: find_nth(mask, base, n));
            value(inst, decoder, run, Type::B32, &[Type::B32; 3])
        }
        _ => count(inst, decoder, modifiers),
    }
}

fn only_b32(modifiers: &mut Modifiers) -> Result<()> {
    match modifiers.ty()? {
        Type::B32 => modifiers.finish(),
        ty => Err(no_type(modifiers, ty)),
    }
}

/// `popc`, `clz`, `brev`.
fn count<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Op> {
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let run = match (inst.opcode, ty) {
        ("popc", Type::B32) => lanes!(|a: u32| u32: a.count_ones()),
        ("popc", Type::B64) => lanes!(|a: u64| u32: a.count_ones()),
        ("clz", Type::B32) => lanes!(|a: u32| u32: a.leading_zeros()),
        ("clz", Type::B64) => lanes!(|a: u64| u32: a.leading_zeros()),
        ("brev", Type::B32) => lanes!(|a: u32| u32: a.reverse_bits()),
        ("brev", Type::B64) => lanes!(|a: u64| u64: a.reverse_bits()),
        _ => return Err(no_type(&modifiers, ty)),
    };
    let dst = if inst.opcode == "brev" { ty } else { Type::U32 };
    value(inst, decoder, run, dst, &[ty])
}

/// `bfind`: the position of the highest bit that differs from the sign; all ones where there is none. With `.shiftamt` how
/// far it is from the top.
fn find_highest<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    mut modifiers: Modifiers,
) -> Result<Op> {
    let shift = modifiers.take("shiftamt");
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let run = match (ty, shift) {
        (Type::U32, false) => lanes!(|a: u32| u32: 31u32.wrapping_sub(a.leading_zeros())),
        (Type::S32, false) => lanes!(|a: i32| u32: 31u32.wrapping_sub((a ^ a >> 31).leading_zeros())),
        (Type::U64, false) => lanes!(|a: u64| u32: 63u32.wrapping_sub(a.leading_zeros())),
        (Type::S64, false) => lanes!(|a: i64| u32: 63u32.wrapping_sub((a ^ a >> 63).leading_zeros())),
        (Type::U32, true) => lanes!(|a: u32| u32: if a == 0 { !0 } else { a.leading_zeros() }),
        (Type::S32, true) => lanes!(|a: i32| u32: {
            let a = a ^ a >> 31;
            if a == 0 { !0 } else { a.leading_zeros() }
        }),
        (Type::U64, true) => lanes!(|a: u64| u32: if a == 0 { !0 } else { a.leading_zeros() }),
        (Type::S64, true) => lanes!(|a: i64| u32: {
            let a = a ^ a >> 63;
            if a == 0 { !0 } else { a.leading_zeros() }
        }),
        _ => return Err(no_type(&modifiers, ty)),
    };
    value(inst, decoder, run, Type::U32, &[ty])
}

/// `fns`: the position of the n-th set bit from `base` on, upwards or downwards; all ones where there is none.
fn find_nth(mask: u32, base: u32, n: i32) -> u32 {
    let set = |at: i64| (0..32).contains(&at) && mask >> at & 1 == 1;
    let base = i64::from(base as i32);
    if n == 0 {
        return if set(base) { base as u32 } else { !0 };
    }
    let step = i64::from(n.signum());
    let mut left = n.unsigned_abs();
    let mut at = base;
    while (0..32).contains(&at) {
        if set(at) {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += step;
    }
    !0
}

/// `shl` and `shr`: amounts beyond the width shift everything out.
fn shift<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Op> {
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let run = match (inst.opcode, ty) {
        ("shl", Type::B16) => lanes!(|a: u16, n: u32| u16: if n > 15 { 0 } else { a << (n & 15) }),
        ("shl", Type::B32) => lanes!(|a: u32, n: u32| u32: if n > 31 { 0 } else { a << (n & 31) }),
        ("shl", Type::B64) => lanes!(|a: u64, n: u32| u64: if n > 63 { 0 } else { a << (n & 63) }),
        ("shr", Type::B16 | Type::U16) => {
            lanes!(|a: u16, n: u32| u16: if n > 15 { 0 } else { a >> (n & 15) })
        }
        ("shr", Type::B32 | Type::U32) => {
            lanes!(|a: u32, n: u32| u32: if n > 31 { 0 } else { a >> (n & 31) })
        }
        ("shr", Type::B64 | Type::U64) => {
            lanes!(|a: u64, n: u32| u64: if n > 63 { 0 } else { a >> (n & 63) })
        }
        ("shr", Type::S16) => lanes!(|a: i16, n: u32| i16: a >> n.min(15)),
        ("shr", Type::S32) => lanes!(|a: i32, n: u32| i32: a >> n.min(31)),
        ("shr", Type::S64) => lanes!(|a: i64, n: u32| i64: a >> n.min(63)),
        _ => return Err(no_type(&modifiers, ty)),
    };
    value(inst, decoder, run, ty, &[ty, Type::U32])
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// `shf`: a shift of two words, of which one is kept.
fn funnel_shift<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    mut modifiers: Modifiers,
) -> Result<Op> {
    let left = match modifiers.take_any(&["l", "r"]) {
        Some(direction) => direction == "l",
        None => return Err(modifiers.invalid("one of .l and .r is missing")),
    };
    let wrap = match modifiers.take_any(&["clamp", "wrap"]) {
        Some(mode) => mode == "wrap",
        None => return Err(modifiers.invalid("one of .clamp and .wrap is missing")),
    };
    only_b32(&mut modifiers)?;
    let run = match (left, wrap) {
        (true, true) => lanes!(|a: u32, b: u32, n: u32| u32: ((pair(a, b) << (n & 31)) >> 32) as u32),
        (true, false) => lanes!(|a: u32, b: u32, n: u32| u32: ((pair(a, b) << n.min(32)) >> 32) as u32),
        (false, true) => lanes!(|a: u32, b: u32, n: u32| u32: (pair(a, b) >> (n & 31)) as u32),
        (false, false) => lanes!(|a: u32, b: u32, n: u32| u32: (pair(a, b) >> n.min(32)) as u32),
    };
    value(inst, decoder, run, Type::B32, &[Type::B32; 3])
}

/// Bit (a, b, c) of `table`, bit by bit.
#[inline(always)]
fn look_up(a: u32, b: u32, c: u32, table: u32) -> u32 {
    // All ones where an entry is 1: a tree of three choices.
    let entry = |index: u32| (table >> index & 1).wrapping_neg();
    let by_c = |index: u32| entry(index) & !c | entry(index + 1) & c;
    let by_b = |index: u32| by_c(index) & !b | by_c(index + 2) & b;
    by_b(0) & !a | by_b(4) & a
}

/// `lop3`, also with a predicate that says whether the result is not 0.
fn logic3<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Op> {
    let join = modifiers.take_any(&["and", "or"]).and_then(Join::parse);
    only_b32(&mut modifiers)?;
    let table = immediate(inst, decoder, 4)?;
    let table = u8::try_from(table).map_err(|_| modifiers.invalid("its table has more than 8 bits"))?;
    let run = match table {
        // What compilers make most of.
        0x96 => lanes!(|a: u32, b: u32, c: u32| u32: a ^ b ^ c),
        0x80 => lanes!(|a: u32, b: u32, c: u32| u32: a & b & c),
        0xfe => lanes!(|a: u32, b: u32, c: u32| u32: a | b | c),
        0xf8 => lanes!(|a: u32, b: u32, c: u32| u32: a | b & c),
        0xea => lanes!(|a: u32, b: u32, c: u32| u32: a & b | c),
        0xca => lanes!(|a: u32, b: u32, c: u32| u32: a & b | !a & c),
        _ => lanes!(table; |a: u32, b: u32, c: u32| u32: look_up(a, b, c, table)),
    };
    let imm = u32::from(table);
    let Some(join) = join else {
        decoder.expect(inst, 5..=5)?;
        let dst = decoder.dst(inst, decoder.operand(inst, 0)?, Type::B32)?;
        let src = sources(inst, decoder, 1, &[Type::B32; 3])?;
        return Ok(Op::Value { run, args: Args { dst, src, imm } });
    };
    decoder.expect(inst, 6..=6)?;
    let Operand::Pair(d, p) = decoder.operand(inst, 0)? else {
        return Err(modifiers.invalid("expected a register and a predicate, d|p"));
    };
    let dst = decoder.dst(inst, d, Type::B32)?;
    let p = decoder.predicate_dst(inst, p)?;
    let src = sources(inst, decoder, 1, &[Type::B32; 3])?;
    let other = decoder.predicate(inst, decoder.operand(inst, 5)?)?;
    let test = tests!(table; |a: u32, b: u32, c: u32| look_up(a, b, c, table) != 0);
    Ok(Op::ValueAndTest { run, test, args: Args { dst, src, imm }, join: (join, other), p })
}

/// What a byte of `prmt` comes from, by mode and the low bits of c: a nibble for each byte, lowest first.
const SELECTORS: [(&str, [u32; 4]); 6] = [
    ("f4e", [0x3210, 0x4321, 0x5432, 0x6543]),
    ("b4e", [0x5670, 0x6701, 0x7012, 0x0123]),
    ("rc8", [0x0000, 0x1111, 0x2222, 0x3333]),
    ("ecl", [0x3210, 0x3211, 0x3222, 0x3333]),
    ("ecr", [0x0000, 0x1110, 0x2210, 0x3210]),
    ("rc16", [0x1010, 0x3232, 0x1010, 0x3232]),
];

/// Four bytes of eight, as the nibbles of `selector` say; where a nibble's highest bit is set, the byte's sign instead.
#[inline(always)]
fn select_bytes(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = pair(a, b);
    let mut result = 0;
    for i in 0..4 {
        let nibble = selector >> (4 * i);
        let byte = (bytes >> (8 * (nibble & 7))) as u8;
        let sign = (byte as i8 >> 7) as u8;
        let byte = if nibble & 8 == 0 { byte } else { sign };
        result |= u32::from(byte) << (8 * i);
    }
    result
}

/// `prmt`
fn permute<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Op> {
    let names = SELECTORS.map(|(name, _)| name);
    let mode = modifiers.take_any(&names);
    only_b32(&mut modifiers)?;
    let Some(mode) = mode else {
        let run = lanes!(|a: u32, b: u32, c: u32| u32: select_bytes(a, b, c));
        return value(inst, decoder, run, Type::B32, &[Type::B32; 3]);
    };
    let index = names.iter().position(|name| *name == mode).unwrap_or(0);
    let run = lanes!(mode; |a: u32, b: u32, c: u32| u32: {
        select_bytes(a, b, SELECTORS[mode as usize].1[(c & 3) as usize])
    });
    value_with(inst, decoder, run, Type::B32, &[Type::B32; 3], index as u32)
}

/// `bfe` of 64 bits at most; `bits` is the width.
#[inline(always)]
fn extract_bits(a: u64, pos: u32, len: u32, bits: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let top = (pos + len).saturating_sub(1).min(bits - 1);
    let fill = signed && len != 0 && a >> top & 1 == 1;
    let field = if pos < bits { a >> pos } else { 0 };
    // Bits that the field has: to its length, or to the top of the word.
    let have = len.min(bits.saturating_sub(pos));
    let mask = if have >= 64 { !0 } else { (1 << have) - 1 };
    field & mask | if fill { !mask } else { 0 }
}

/// `bfe`
fn extract<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Op> {
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let run = match ty {
        Type::U32 => {
            lanes!(|a: u32, pos: u32, len: u32| u32: extract_bits(a.into(), pos, len, 32, false) as u32)
        }
        Type::S32 => {
            lanes!(|a: u32, pos: u32, len: u32| u32: extract_bits(a.into(), pos, len, 32, true) as u32)
        }
        Type::U64 => lanes!(|a: u64, pos: u32, len: u32| u64: extract_bits(a, pos, len, 64, false)),
        Type::S64 => lanes!(|a: u64, pos: u32, len: u32| u64: extract_bits(a, pos, len, 64, true)),
        _ => return Err(no_type(&modifiers, ty)),
    };
    value(inst, decoder, run, ty, &[ty, Type::U32, Type::U32])
}

/// `bfi`: the low `len` bits of `a` over `b` from `pos` on.
#[inline(always)]
fn insert_bits(a: u64, b: u64, pos: u32, len: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let mask = if len >= 64 { !0 } else { (1u64 << len) - 1 };
    let (mask, bits) = if pos >= 64 { (0, 0) } else { (mask << pos, a << pos) };
    b & !mask | bits & mask
}

/// `bfi`
fn insert<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Op> {
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let run = match ty {
        Type::B32 => {
            lanes!(|a: u32, b: u32, pos: u32, len: u32| u32: insert_bits(a.into(), b.into(), pos, len) as u32)
        }
        Type::B64 => lanes!(|a: u64, b: u64, pos: u32, len: u32| u64: insert_bits(a, b, pos, len)),
        _ => return Err(no_type(&modifiers, ty)),
    };
    value(inst, decoder, run, ty, &[ty, ty, Type::U32, Type::U32])
}

/// `bmsk`: ones from bit `a` on, `b` of them.
#[inline(always)]
fn mask_bits(a: u32, b: u32, clamp: bool) -> u32 {
    if clamp && (a > 31 || b > 31) {
        return if a > 31 { 0 } else { !0 << a };
    }
    let (a, b) = (a & 31, b & 31);
    let above = if a + b > 31 { 0 } else { !0 << (a + b) };
    (!0 << a) & !above
}

/// `szext`: the low `n` bits, extended.
#[inline(always)]
fn extend_bits(a: u32, n: u32, clamp: bool, signed: bool) -> u32 {
    if clamp && n > 31 {
        return a;
    }
    let n = n & 31;
    if n == 0 {
        return 0;
    }
    let left = 32 - n;
    if signed { ((a << left) as i32 >> left) as u32 } else { a << left >> left }
}

/// `bmsk` and `szext`.
fn mask<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>, mut modifiers: Modifiers) -> Result<Op> {
    let clamp = match modifiers.take_any(&["clamp", "wrap"]) {
        Some(mode) => mode == "clamp",
        None => return Err(modifiers.invalid("one of .clamp and .wrap is missing")),
    };
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let run = match (inst.opcode, ty, clamp) {
        ("bmsk", Type::B32, true) => lanes!(|a: u32, b: u32| u32: mask_bits(a, b, true)),
        ("bmsk", Type::B32, false) => lanes!(|a: u32, b: u32| u32: mask_bits(a, b, false)),
        ("szext", Type::U32, true) => lanes!(|a: u32, n: u32| u32: extend_bits(a, n, true, false)),
        ("szext", Type::U32, false) => lanes!(|a: u32, n: u32| u32: extend_bits(a, n, false, false)),
        ("szext", Type::S32, true) => lanes!(|a: u32, n: u32| u32: extend_bits(a, n, true, true)),
        ("szext", Type::S32, false) => lanes!(|a: u32, n: u32| u32: extend_bits(a, n, false, true)),
        _ => return Err(no_type(&modifiers, ty)),
    };
    value(inst, decoder, run, ty, &[ty, Type::U32])
}
