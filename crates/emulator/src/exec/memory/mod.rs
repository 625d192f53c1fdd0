//! ld, ldu, st; addresses: cvta, isspacep, mapa, getctarank; and what is said to caches, which does nothing here.

pub mod form;
mod hint;
mod pointer;
pub mod reach;
mod transfer;

pub use reach::Lookups;

use super::{Context, Decoded, Flow};
use crate::check::Thread;
use crate::fault::Fault;
use crate::program::{Decoder, Slot};
use crate::ptx::Result;
use crate::ptx::ast::Instruction;

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// ld, ldu
    Load(transfer::Load),
    /// st
    Store(transfer::Store),
    /// cvta, isspacep, mapa, getctarank
    Pointer(pointer::Op),
    /// createpolicy
    Policy {
        /// The policy.
        dst: Slot,
        /// What it gets.
        value: u64,
    },
    /// prefetch, applypriority, discard: nothing happens.
    Nothing,
}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    match inst.opcode {
        "ld" | "ldu" => transfer::decode_load(inst, decoder).map(Some),
        // st.async and st.bulk are asynchronous operations.
        "st" if !inst.modifiers.iter().any(|name| matches!(*name, "async" | "bulk")) => {
            transfer::decode_store(inst, decoder).map(Some)
        }
        "cvta" | "isspacep" | "mapa" | "getctarank" => pointer::decode(inst, decoder).map(Some),
        "prefetch" | "prefetchu" | "applypriority" | "discard" | "createpolicy" => {
            hint::decode(inst, decoder)
        }
        _ => Ok(None),
    }
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
#[inline]
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match op {
        Op::Load(op) => transfer::load(op, cx, active)?,
        Op::Store(op) => transfer::store(op, cx, active)?,
        Op::Pointer(op) => pointer::execute(op, cx, active)?,
        Op::Policy { dst, value } => cx.warp.set_wide(*dst, &[*value; 32], active),
        Op::Nothing => {}
    }
    Ok(Flow::Next)
}

/// A lane of the warp that runs, as the checker knows it.
#[inline]
pub fn thread(cx: &Context, lane: usize) -> Thread {
    Thread { warp: cx.warp.number(cx.launch), lane: lane as u32 }
}

#[cfg(test)]
mod tests;
