//! Rows for a function's registers. Compilers declare a register for every value: thousands, of which few are live at once.
//! Those that are never live at the same instruction share rows, so that a warp's register file stays in the cache.
//!
//! What a lane holds matters to that lane alone, so that it is enough to look at the instructions one lane may go through.

use super::kernel::Blocks;
use super::resolve::{Item, Routine};
use super::scope::Entity;
use super::{Decoder, Slot};
use crate::ptx::Type;
use crate::ptx::ast::Operand;

/// Opcodes that write all of their first operand and do not read it.
const WRITERS: [&str; 66] = [
    "abs",
    "activemask",
    "add",
    "addc",
    "and",
    "atom",
    "bfe",
    "bfi",
    "bfind",
    "bmsk",
    "brev",
    "clz",
    "cnot",
    "copysign",
    "cos",
    "cvt",
    "cvta",
    "div",
    "dp2a",
    "dp4a",
    "elect",
    "ex2",
    "fma",
    "fns",
    "getctarank",
    "isspacep",
    "ld",
    "ldmatrix",
    "ldu",
    "lg2",
    "lop3",
    "mad",
    "mad24",
    "madc",
    "mapa",
    "match",
    "max",
    "min",
    "mma",
    "mov",
    "movmatrix",
    "mul",
    "mul24",
    "neg",
    "not",
    "or",
    "popc",
    "prmt",
    "rcp",
    "redux",
    "rem",
    "rsqrt",
    "sad",
    "selp",
    "set",
    "setp",
    "shf",
    "shfl",
    "shl",
    "shr",
    "sin",
    "slct",
    "sqrt",
    "sub",
    "szext",
    "xor",
];

/// Gives rows to the registers of a function that it mentions; `places` is by register, and predicates are left out.
pub(super) fn allocate(
    routine: &Routine,
    blocks: &Blocks,
    order: &[usize],
    registers: &[Type],
    decoder: &mut Decoder,
    places: &mut [Option<Slot>],
) {
    let mut spans: Vec<(usize, Span)> = spans(routine, blocks, order, registers).into_iter().collect();
    spans.sort_unstable_by_key(|(register, span)| (span.first, *register));
    // By how many rows a register takes: rows that are free, and those that will be, with the last instruction before.
    let mut free: [Vec<Slot>; 5] = Default::default();
    let mut taken: Vec<(usize, usize, Slot)> = Vec::new();
    for (register, span) in spans {
        taken.retain(|(last, rows, slot)| {
            let live = *last >= span.first;
            if !live {
                free[*rows].push(*slot);
            }
            live
        });
        let rows = registers[register].slots() as usize;
        let slot = if span.alone { None } else { free[rows].pop() };
        let slot = slot.unwrap_or_else(|| decoder.fresh(rows as u32));
        places[register] = Some(slot);
        if !span.alone {
            taken.push((span.last, rows, slot));
        }
    }
}

/// The instructions, in the order of the layout, among which a register is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: usize,
    last: usize,
    /// Whether it must not share rows.
    alone: bool,
}

impl Span {
    fn extend(&mut self, at: usize) {
        self.first = self.first.min(at);
        self.last = self.last.max(at);
    }
}

/// A set of registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set(Vec<u64>);

impl Set {
    fn new(len: usize) -> Set {
        Set(vec![0; len.div_ceil(64)])
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn remove(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        };
        self.0.iter().enumerate().flat_map(bits)
    }
}

/// What an instruction does to registers, by their number in the function.
#[derive(Debug, Default)]
struct Touch {
    reads: Vec<usize>,
    /// Those that are new in every lane that runs it.
    writes: Vec<usize>,
}

/// The spans of all registers that are mentioned.
fn spans(routine: &Routine, blocks: &Blocks, order: &[usize], registers: &[Type]) -> Vec<(usize, Span)> {
    // Registers of the function get numbers of their own, from 0.
    let mut numbers = std::collections::HashMap::new();
    let mut mentioned = Vec::new();
    let mut touches: Vec<Touch> = Vec::with_capacity(routine.items.len());
    let mut alone = Vec::new();
    for item in &routine.items {
        let mut number = |register: usize| {
            *numbers.entry(register).or_insert_with(|| {
                mentioned.push(register);
                mentioned.len() - 1
            })
        };
        let mut touch = Touch::default();
        let written = written(item);
        for (name, entity) in &item.names {
            let Entity::Register(register) = *entity else { continue };
            if registers[register] == Type::Pred {
                continue;
            }
            let number = number(register);
            if written.contains(name) {
                touch.writes.push(number)
            } else {
                touch.reads.push(number)
            }
            // What is in flight is written and read after its instruction.
            if item.inst.opcode == "wgmma" {
                alone.push(number);
            }
        }
        touches.push(touch);
    }
    let live = live_in(blocks, order, &touches, mentioned.len());
    let mut found = vec![Span { first: usize::MAX, last: 0, alone: false }; mentioned.len()];
    alone.iter().for_each(|number| found[*number].alone = true);
    let mut start = 0;
    for block in order {
        let range = blocks.ranges[*block].clone();
        // An empty block is an instruction too: it is where the function ends.
        let end = start + range.len().max(1);
        live[*block].iter().for_each(|number| found[number].extend(start));
        for successor in &blocks.successors[*block] {
            live[*successor].iter().for_each(|number| found[number].extend(end - 1));
        }
        for (at, touch) in (start..).zip(&touches[range]) {
            touch.reads.iter().chain(&touch.writes).for_each(|number| found[*number].extend(at));
        }
        start = end;
    }
    // What only unreachable instructions mention has no span.
    mentioned.into_iter().zip(found).filter(|(_, span)| span.first <= span.last).collect()
}

/// The registers that are live where each block starts.
fn live_in(blocks: &Blocks, order: &[usize], touches: &[Touch], count: usize) -> Vec<Set> {
    let mut live = vec![Set::new(count); blocks.ranges.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for block in order.iter().rev() {
            let mut set = Set::new(count);
            for successor in &blocks.successors[*block] {
                set.0.iter_mut().zip(&live[*successor].0).for_each(|(own, other)| *own |= other);
            }
            for touch in touches[blocks.ranges[*block].clone()].iter().rev() {
                touch.writes.iter().for_each(|number| set.remove(*number));
                touch.reads.iter().for_each(|number| set.insert(*number));
            }
            if live[*block] != set {
                live[*block] = set;
                changed = true;
            }
        }
    }
    live
}

/// The names that an instruction gives a new value in every lane that runs it, and does not read.
fn written<'a>(item: &Item<'_, 'a>) -> Vec<&'a str> {
    let inst = item.inst;
    if inst.guard.is_some() || !WRITERS.contains(&inst.opcode) {
        return Vec::new();
    }
    let Some((first, others)) = inst.operands.split_first() else { return Vec::new() };
    let mut names = Vec::new();
    match first {
        Operand::Name(name, _) => names.push(*name),
        Operand::Pair(register, _) => names.extend(name(register)),
        Operand::Vector(parts) => names.extend(parts.iter().filter_map(name)),
        _ => {}
    }
    let mut read = Vec::new();
    others.iter().for_each(|operand| super::resolve::mention(operand, &mut read));
    names.retain(|name| !read.contains(name));
    names
}

fn name<'a>(operand: &Operand<'a>) -> Option<&'a str> {
    match operand {
        Operand::Name(name, _) => Some(name),
        _ => None,
    }
}
