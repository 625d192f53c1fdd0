//! Operands of the syntax tree to slots, predicates and addresses.

use std::collections::HashMap;

use super::Slot;
use crate::ptx::ast::{Instruction, Operand, Space};
use crate::ptx::{Error, Kind, Result, Type};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Symbol {
    /// A register that is not a predicate: its first slot.
    Register(Slot, Type),
    /// A predicate: its index.
    Predicate(u32),
    /// A variable: its address in its own space. A kernel's parameters are `Space::Param`; those of calls, which are passed
    /// through a thread's local memory, `Space::Local`.
    Variable(Space, u64),
    /// A function's index in [`Program::functions`](super::Program).
    Function(u32),
}

/// A predicate operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Its index; `u32::MAX` is a constant true.
    pub index: u32,
    /// Whether its negation is meant.
    pub negated: bool,
}

impl Predicate {
    /// Always true.
    pub const TRUE: Predicate = Predicate { index: u32::MAX, negated: false };
    /// Never true.
    pub const FALSE: Predicate = Predicate { index: u32::MAX, negated: true };
}

/// `[base+offset]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// First slot of the base: a 64-bit one unless `narrow`.
    pub base: Slot,
    /// Whether the base is one slot.
    pub narrow: bool,
    /// Added to it.
    pub offset: i64,
}

/// Resolves the operands of one kernel's instructions.
#[derive(Debug, Default)]
pub struct Decoder<'a> {
    /// Names of the module, then of the function, then of each open scope.
    pub scopes: Vec<HashMap<&'a str, Symbol>>,
    /// Whether the instructions are those of a `.func`: its parameters lie in local memory.
    pub callee: bool,
    /// Rows given out so far.
    pub slots: u32,
    /// Masks given out so far.
    pub predicates: u32,
    carry: Option<u32>,
    constants: HashMap<u32, Slot>,
    wide_constants: HashMap<u64, Slot>,
    shared_addresses: HashMap<u64, Slot>,
}

impl<'a> Decoder<'a> {
    /// What `name` stands for, innermost scope first.
    pub fn lookup(&self, name: &str) -> Option<&Symbol> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// `count` fresh rows.
    pub fn fresh(&mut self, count: u32) -> Slot {
        let first = self.slots;
        self.slots += count;
        first
    }

    /// The predicate that is the carry bit of `add.cc` and its like.
    pub fn carry(&mut self) -> u32 {
        *self.carry.get_or_insert_with(|| {
            self.predicates += 1;
            self.predicates - 1
        })
    }

    /// The rows that hold constants, and their values.
    pub fn constants(&self) -> Vec<(Slot, u32)> {
        let narrow = self.constants.iter().map(|(value, slot)| (*slot, *value));
        let wide = self.wide_constants.iter().chain(&self.shared_addresses);
        let wide = wide.flat_map(|(value, slot)| [(*slot, *value as u32), (slot + 1, (value >> 32) as u32)]);
        let mut all: Vec<_> = narrow.chain(wide).collect();
        all.sort_unstable();
        all
    }

    /// Of the rows that hold constants, those that are addresses in shared memory: in each block its rank is added, from bit 24 on,
    /// so that the address stays its own wherever it is sent to in the cluster.
    pub fn ranked(&self) -> Vec<Slot> {
        let mut all: Vec<_> = self.shared_addresses.values().copied().collect();
        all.sort_unstable();
        all
    }

    /// Two rows that hold the address of a variable in shared memory.
    fn shared_address(&mut self, address: u64) -> Slot {
        if let Some(slot) = self.shared_addresses.get(&address) {
            return *slot;
        }
        let slot = self.fresh(2);
        self.shared_addresses.insert(address, slot);
        slot
    }

    /// A row that holds `value` in all lanes.
    pub fn constant(&mut self, value: u32) -> Slot {
        if let Some(slot) = self.constants.get(&value) {
            return *slot;
        }
        let slot = self.fresh(1);
        self.constants.insert(value, slot);
        slot
    }

    /// Two rows that hold `value` in all lanes.
    pub fn wide_constant(&mut self, value: u64) -> Slot {
        if let Some(slot) = self.wide_constants.get(&value) {
            return *slot;
        }
        let slot = self.fresh(2);
        self.wide_constants.insert(value, slot);
        slot
    }

    /// The operand at `index`.
    ///
    /// # Errors
    /// Invalid when there is none.
    pub fn operand<'i>(&self, inst: &'i Instruction<'a>, index: usize) -> Result<&'i Operand<'a>> {
        inst.operands.get(index).ok_or_else(|| {
            Error::invalid(inst.line, format!("{}: operand {} is missing", inst.opcode, index + 1))
        })
    }

    /// Refuses any other number of operands.
    ///
    /// # Errors
    /// Invalid, saying how many were expected.
    pub fn expect(&self, inst: &Instruction<'a>, count: std::ops::RangeInclusive<usize>) -> Result<()> {
        if count.contains(&inst.operands.len()) {
            return Ok(());
        }
        let (low, high) = (count.start(), count.end());
        let expected = if low == high { low.to_string() } else { format!("{low} to {high}") };
        let found = inst.operands.len();
        Err(Error::invalid(
            inst.line,
            format!("{}: expected {expected} operands, found {found}", inst.opcode),
        ))
    }

    /// A destination register of exactly `ty`'s size; `_` is a fresh row that nobody reads.
    ///
    /// # Errors
    /// Invalid when it is not a register of that size.
    pub fn dst(&mut self, inst: &Instruction<'a>, operand: &Operand<'a>, ty: Type) -> Result<Slot> {
        if *operand == Operand::Sink {
            return Ok(self.fresh(ty.slots()));
        }
        match self.register(inst, operand)? {
            (slot, of) if of.bits() == ty.bits() || (ty.bits() < 16 && of.bits() == 16) => Ok(slot),
            (_, of) => Err(mismatch(inst, of, ty)),
        }
    }

    /// A register, at least as wide as `ty`: what loads, stores and conversions allow. Returns its own type too.
    ///
    /// # Errors
    /// Invalid when it is not a register, or narrower.
    pub fn wide(&mut self, inst: &Instruction<'a>, operand: &Operand<'a>, ty: Type) -> Result<(Slot, Type)> {
        if *operand == Operand::Sink {
            return Ok((self.fresh(ty.slots()), ty));
        }
        match self.register(inst, operand)? {
            (slot, of) if of.bits() >= ty.bits() => Ok((slot, of)),
            (_, of) => Err(mismatch(inst, of, ty)),
        }
    }

    /// The register an operand names.
    ///
    /// # Errors
    /// Invalid when it names none.
    pub fn register(&self, inst: &Instruction<'a>, operand: &Operand<'a>) -> Result<(Slot, Type)> {
        if let Operand::Name(name, 0) = operand {
            match self.lookup(name) {
                Some(Symbol::Register(slot, ty)) => return Ok((*slot, *ty)),
                Some(_) => {
                    return Err(Error::invalid(inst.line, format!("{}: {name} is no register", inst.opcode)));
                }
                None => return Err(unknown(inst, name)),
            }
        }
        Err(Error::invalid(inst.line, format!("{}: expected a register, found {operand:?}", inst.opcode)))
    }

    /// A source of exactly `ty`'s size: a register, a constant, or the address of a variable.
    ///
    /// # Errors
    /// Invalid when it is none of these, or of another size.
    pub fn src(&mut self, inst: &Instruction<'a>, operand: &Operand<'a>, ty: Type) -> Result<Slot> {
        let bits = match operand {
            Operand::Int(value) if ty.kind() == Kind::Float && ty.bits() >= 32 => {
                return Err(Error::invalid(
                    inst.line,
                    format!("{}: the integer constant {value} where {} is expected", inst.opcode, ty.name()),
                ));
            }
            Operand::Int(value) => *value,
            Operand::F32(bits) if ty == Type::F64 => f64::from(f32::from_bits(*bits)).to_bits(),
            Operand::F32(bits) => u64::from(*bits),
            Operand::F64(value) if ty.bits() == 32 => u64::from((*value as f32).to_bits()),
            Operand::F64(value) => value.to_bits(),
            Operand::Name(name, offset) => match self.lookup(name) {
                Some(Symbol::Register(slot, of)) if *offset == 0 => {
                    let (slot, of) = (*slot, *of);
                    if of.bits() == ty.bits() || (ty.bits() < 16 && of.bits() == 16) {
                        return Ok(slot);
                    }
                    return Err(mismatch(inst, of, ty));
                }
                Some(Symbol::Variable(Space::Shared, address)) if matches!(ty.bits(), 32 | 64) => {
                    let address = address.wrapping_add_signed(*offset);
                    return Ok(self.shared_address(address));
                }
                Some(Symbol::Variable(_, address)) => address.wrapping_add_signed(*offset),
                Some(Symbol::Function(index)) => function_address(*index),
                Some(_) => {
                    return Err(Error::invalid(inst.line, format!("{}: {name} is no value", inst.opcode)));
                }
                None if *name == "WARP_SZ" => 32,
                None => return Err(unknown(inst, name)),
            },
            other => {
                return Err(Error::invalid(
                    inst.line,
                    format!("{}: expected a register or a constant, found {other:?}", inst.opcode),
                ));
            }
        };
        Ok(match ty.bits() {
            64 => self.wide_constant(bits),
            128 => return Err(Error::unsupported(inst.line, "a constant of 128 bits")),
            32 => self.constant(bits as u32),
            narrow => self.constant(bits as u32 & ((1 << narrow) - 1)),
        })
    }

    /// A destination predicate; `_` is one that nobody reads.
    ///
    /// # Errors
    /// Invalid when it is no predicate.
    pub fn predicate_dst(&mut self, inst: &Instruction<'a>, operand: &Operand<'a>) -> Result<u32> {
        match operand {
            Operand::Sink => {
                self.predicates += 1;
                Ok(self.predicates - 1)
            }
            _ => Ok(self.predicate(inst, operand)?.index),
        }
    }

    /// A source predicate: `p`, `!p`, or a constant, of which 0 is false.
    ///
    /// # Errors
    /// Invalid when it is no predicate.
    pub fn predicate(&self, inst: &Instruction<'a>, operand: &Operand<'a>) -> Result<Predicate> {
        let (name, negated) = match operand {
            Operand::Name(name, 0) => (*name, false),
            Operand::Not(name) => (*name, true),
            Operand::Int(0) => return Ok(Predicate::FALSE),
            Operand::Int(_) => return Ok(Predicate::TRUE),
            other => {
                return Err(Error::invalid(
                    inst.line,
                    format!("{}: expected a predicate, found {other:?}", inst.opcode),
                ));
            }
        };
        match self.lookup(name) {
            Some(Symbol::Predicate(index)) => Ok(Predicate { index: *index, negated }),
            Some(_) => Err(Error::invalid(inst.line, format!("{}: {name} is no predicate", inst.opcode))),
            None => Err(unknown(inst, name)),
        }
    }

    /// `[base+offset]`, and the space of the variable that the base names, if it names one.
    ///
    /// # Errors
    /// Invalid when it is no address.
    pub fn address(
        &mut self,
        inst: &Instruction<'a>,
        operand: &Operand<'a>,
    ) -> Result<(Address, Option<Space>)> {
        let Operand::Address { base, offset, .. } = operand else {
            return Err(Error::invalid(
                inst.line,
                format!("{}: expected an address, found {operand:?}", inst.opcode),
            ));
        };
        self.address_of(inst, base, *offset)
    }

    /// An address from its parts.
    ///
    /// # Errors
    /// Invalid when the base is neither a register of 32 or 64 bits, nor a variable, nor a constant.
    pub fn address_of(
        &mut self,
        inst: &Instruction<'a>,
        base: &Operand<'a>,
        offset: i64,
    ) -> Result<(Address, Option<Space>)> {
        if let Operand::Name(name, more) = base {
            let offset = offset.wrapping_add(*more);
            match self.lookup(name) {
                Some(Symbol::Register(slot, ty)) if matches!(ty.bits(), 32 | 64) => {
                    return Ok((Address { base: *slot, narrow: ty.bits() == 32, offset }, None));
                }
                Some(Symbol::Variable(space, address)) => {
                    let (space, address) = (*space, *address);
                    let base = match space {
                        Space::Shared => self.shared_address(address),
                        _ => self.wide_constant(address),
                    };
                    return Ok((Address { base, narrow: false, offset }, Some(space)));
                }
                Some(_) => {
                    return Err(Error::invalid(inst.line, format!("{}: {name} is no address", inst.opcode)));
                }
                None => return Err(unknown(inst, name)),
            }
        }
        let base = self.src(inst, base, Type::B64)?;
        Ok((Address { base, narrow: false, offset }, None))
    }
}

/// The number that `mov` of a function's name gives: no address of data is so small.
pub fn function_address(index: u32) -> u64 {
    u64::from(index) + 1
}

fn mismatch(inst: &Instruction, found: Type, expected: Type) -> Error {
    let (opcode, found, expected) = (inst.opcode, found.name(), expected.name());
    Error::invalid(inst.line, format!("{opcode}: a register of .{found} where .{expected} is expected"))
}

fn unknown(inst: &Instruction, name: &str) -> Error {
    Error::invalid(inst.line, format!("{}: {name} is not declared", inst.opcode))
}
