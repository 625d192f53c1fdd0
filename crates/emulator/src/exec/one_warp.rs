//! For tests: one warp, registers by name, and instructions of lanes for themselves, one after another.

use super::lanes::ALL;
use super::{Op, Warp, decode, per_lane};
use crate::program::{Decoder, Program, Symbol};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// Values of 32 lanes.
pub type Values = [u64; 32];

/// What inactive lanes hold, cut to the register's size.
pub const POISON: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// A warp, and the names of its registers.
pub struct OneWarp<'a> {
    warp: Warp,
    decoder: Decoder<'a>,
}

impl<'a> OneWarp<'a> {
    /// Without registers.
    pub fn new() -> OneWarp<'a> {
        let program = Program::default();
        let mut decoder = Decoder::default();
        decoder.scopes.push(Default::default());
        OneWarp { warp: Warp::new(&program, 0, 0, 32), decoder }
    }

    /// Declares a register, or fills one.
    pub fn set(&mut self, name: &'a str, ty: Type, values: &Values) {
        let slot = match self.decoder.lookup(name) {
            Some(Symbol::Register(slot, _)) => *slot,
            _ => {
                let slot = self.decoder.fresh(ty.slots());
                self.decoder.scopes[0].insert(name, Symbol::Register(slot, ty));
                slot
            }
        };
        self.grow();
        let cut = values.map(|value| if ty.bits() < 64 { value & ((1 << ty.bits()) - 1) } else { value });
        self.warp.set_row(slot, &cut.map(|value| value as u32), ALL);
        if ty.slots() == 2 {
            self.warp.set_row(slot + 1, &cut.map(|value| (value >> 32) as u32), ALL);
        }
    }

    /// Declares a predicate, or fills one.
    pub fn set_predicate(&mut self, name: &'a str, mask: u32) {
        let index = match self.decoder.lookup(name) {
            Some(Symbol::Predicate(index)) => *index,
            _ => {
                let index = self.decoder.predicates;
                self.decoder.predicates += 1;
                self.decoder.scopes[0].insert(name, Symbol::Predicate(index));
                index
            }
        };
        self.grow();
        self.warp.set_predicate(index, mask, ALL);
    }

    /// What a register holds; the slots of narrow ones whole, so that a stray upper half is seen.
    pub fn get(&self, name: &str) -> Values {
        match self.decoder.lookup(name) {
            Some(Symbol::Register(slot, ty)) if ty.slots() == 2 => self.warp.wide(*slot),
            Some(Symbol::Register(slot, _)) => self.warp.row(*slot).map(u64::from),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// What a predicate holds.
    pub fn predicate(&self, name: &str) -> u32 {
        match self.decoder.lookup(name) {
            Some(Symbol::Predicate(index)) => self.warp.predicates[*index as usize],
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Runs an instruction for the lanes of a mask.
    pub fn run(&mut self, text: &'a str, mask: u32) -> Result<()> {
        let inst = parse(text);
        let decoded = decode(&inst, &mut self.decoder)?.unwrap_or_else(|| panic!("nobody knows {text}"));
        self.grow();
        for (slot, value) in self.decoder.constants() {
            self.warp.rows[slot as usize] = [value; 32];
        }
        match &decoded.op {
            Op::Integer(op) | Op::Half(op) | Op::Float(op) | Op::Convert(op) => {
                per_lane::rare(op, &mut self.warp, mask);
            }
            Op::Special(op) => per_lane::rare(&op.op, &mut self.warp, mask),
            other => panic!("{text} is {other:?}"),
        }
        Ok(())
    }

    fn grow(&mut self) {
        self.warp.rows.resize(self.decoder.slots as usize, [0; 32]);
        self.warp.predicates.resize(self.decoder.predicates as usize, 0);
    }
}

/// `opcode.modifiers a, b, …` without what only other families have.
fn parse(text: &str) -> Instruction<'_> {
    let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = name.split('.');
    Instruction {
        guard: None,
        opcode: parts.next().unwrap_or_default(),
        modifiers: parts.collect(),
        operands: operands.split(',').map(|operand| parse_operand(operand.trim())).collect(),
        line: 1,
        source: None,
    }
}

fn parse_operand(text: &str) -> Operand<'_> {
    if let Some((a, b)) = text.split_once('|') {
        return Operand::Pair(Box::new(parse_operand(a)), Box::new(parse_operand(b)));
    }
    if let Some(name) = text.strip_prefix('!') {
        return Operand::Not(name);
    }
    if let Some(bits) = text.strip_prefix("0f") {
        return Operand::F32(u32::from_str_radix(bits, 16).expect("bits of an f32"));
    }
    if let Some(bits) = text.strip_prefix("0x") {
        return Operand::Int(u64::from_str_radix(bits, 16).expect("a number"));
    }
    match text.parse::<i64>() {
        Ok(number) => Operand::Int(number as u64),
        Err(_) if text == "_" => Operand::Sink,
        Err(_) => Operand::Name(text, 0),
    }
}

/// Runs `op d, a, b, …` with registers of these types, and returns what `d` holds. Lanes outside `mask` are seen to keep
/// what they held.
pub fn try_over(op: &str, dst: Type, sources: &[(Type, &Values)], mask: u32) -> Result<Values> {
    let names = ["a", "b", "c", "e"];
    let text = format!("{op} d, {}", names[..sources.len()].join(", "));
    let mut warp = OneWarp::new();
    warp.set("d", dst, &[POISON; 32]);
    let poisoned = warp.get("d");
    for (name, (ty, values)) in names.into_iter().zip(sources) {
        warp.set(name, *ty, values);
    }
    warp.run(&text, mask)?;
    let result = warp.get("d");
    for lane in 0..32 {
        if mask >> lane & 1 == 0 {
            assert_eq!(result[lane], poisoned[lane], "{op}: lane {lane} does not take part");
        }
    }
    Ok(result)
}

/// [`try_over`], for instructions that exist.
pub fn over(op: &str, dst: Type, sources: &[(Type, &Values)], mask: u32) -> Values {
    try_over(op, dst, sources, mask).unwrap_or_else(|error| panic!("{op}: {error}"))
}

/// Numbers without end, the same in every run.
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// An integer of so many bits: any, a small one, or one near an edge.
    pub fn integer(&mut self, bits: u32) -> u64 {
        let any = self.bits();
        let value = match any >> 61 {
            0 => self.bits() % 5,
            1 => (self.bits() % 5).wrapping_neg(),
            2 => (1 << (bits - 1)) + self.bits() % 3,
            3 => (1u64 << (bits - 1)) - 1 - self.bits() % 3,
            4 => self.bits() >> (self.bits() % 64),
            _ => self.bits(),
        };
        if bits < 64 { value & ((1 << bits) - 1) } else { value }
    }

    /// The bits of a float of so many exponent and fraction bits: any, special, or one whose fraction is nearly empty or full.
    pub fn float(&mut self, exponent: u32, fraction: u32) -> u64 {
        let (any, sign) = (self.bits(), self.bits() & 1);
        let top = (1u64 << exponent) - 1;
        let e = match any >> 61 {
            0 => 0,
            1 => top,
            2 => top - 1,
            3 | 4 => (top >> 1).wrapping_add(self.bits() % 8).wrapping_sub(4),
            _ => self.bits() & top,
        };
        let mask = (1u64 << fraction) - 1;
        let f = match any >> 57 & 7 {
            0 => 0,
            1 => mask,
            2 => (self.bits() % 4) & mask,
            3 => 1 << (self.bits() % u64::from(fraction)),
            _ => self.bits() & mask,
        };
        sign << (exponent + fraction) | e << fraction | f
    }

    /// 32 values.
    pub fn row(&mut self, mut value: impl FnMut(&mut Random) -> u64) -> Values {
        std::array::from_fn(|_| value(self))
    }
}
