//! Loads whose value is a guess: a compare-and-swap of it follows.
//!
//! `old = *p; do { seen = old; old = atomicCAS(p, seen, f(seen)); } while (old != seen);` is how CUDA's own guide makes atomics that
//! there are none of. Its first load is a plain one and races with the atomics of others, by the letter. It cannot do harm: whatever it finds is used
//! only if the compare-and-swap finds the same.

use std::collections::HashSet;

use super::resolve::{Item, Routine};
use super::scope::Entity;
use crate::ptx::ast::Operand;

/// The items of a function that load a value which reaches the comparand of a compare-and-swap, by moves alone.
///
/// Where the two addresses are different ones is not looked at.
pub(super) fn guesses(routine: &Routine) -> HashSet<usize> {
    let items = &routine.items;
    let compared = |item: &&Item| item.inst.opcode == "atom" && item.inst.modifiers.contains(&"cas");
    let mut wanted: HashSet<usize> =
        items.iter().filter(compared).filter_map(|item| register(item, item.inst.operands.get(2)?)).collect();
    if wanted.is_empty() {
        return HashSet::new();
    }
    let moves = items.iter().filter(|item| item.inst.opcode == "mov");
    let moves: Vec<(usize, usize)> = moves.filter_map(|item| pair(item)).collect();
    let mut known = 0;
    while known != wanted.len() {
        known = wanted.len();
        for (to, from) in &moves {
            if wanted.contains(to) {
                wanted.insert(*from);
            }
        }
    }
    let loads = items.iter().enumerate().filter(|(_, item)| item.inst.opcode == "ld");
    let loads = loads.filter(|(_, item)| {
        let target = item.inst.operands.first().and_then(|operand| register(item, operand));
        target.is_some_and(|target| wanted.contains(&target))
    });
    loads.map(|(at, _)| at).collect()
}

/// The registers of a move from one to another.
fn pair(item: &Item) -> Option<(usize, usize)> {
    let [to, from] = item.inst.operands.as_slice() else { return None };
    Some((register(item, to)?, register(item, from)?))
}

fn register(item: &Item, operand: &Operand) -> Option<usize> {
    let Operand::Name(name, 0) = operand else { return None };
    item.names.iter().find_map(|(known, entity)| match entity {
        Entity::Register(number) if known == name => Some(*number),
        _ => None,
    })
}
