//! Matrix products: mma.sync, wmma, and wgmma with its groups.
//!
//! The hardware leaves order and rounding of a sum open. Here products are exact, a sum of f64 takes C first and then
//! the products in the order of k, and is rounded once to D's type where the instruction ends, to the nearest; integers are
//! exact. So results are the same on every machine, and at least as near to the true sum as hardware's.

mod descriptor;
pub mod elements;
pub mod fragments;
#[cfg(test)]
pub(in crate::exec) mod harness;
mod mma;
mod product;
#[cfg(test)]
mod tests;
mod wgmma;
mod wmma;

pub use wgmma::Groups;

use super::lanes::ALL;
use super::{Context, Decoded, Flow, Op as AnyOp, Warp};
use crate::fault::{Fault, FaultKind};
use crate::program::{Decoder, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Error, Result, Type};

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// mma.sync
    Mma(Box<mma::Mma>),
    /// wgmma
    Wgmma(wgmma::Op),
    /// wmma
    Wmma(Box<wmma::Op>),
}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    match inst.opcode {
        "mma" => mma::decode(inst, decoder).map(Some),
        "wmma" => wmma::decode(inst, decoder).map(Some),
        "wgmma" => wgmma::decode(inst, decoder).map(Some),
        _ => Ok(None),
    }
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    if active != ALL {
        return Err(Fault::new(
            FaultKind::Instruction,
            format!("a matrix product by lanes 0x{active:08x} only: all 32 of the warp have to take part"),
        ));
    }
    match op {
        Op::Mma(op) => mma::execute(op, cx),
        Op::Wgmma(op) => wgmma::execute(op, cx),
        Op::Wmma(op) => wmma::execute(op, cx),
    }
}

/// Sees that an instruction leaves alone the registers of products in flight, and takes note of those that it touches; those of
/// wgmma itself see to it themselves.
///
/// # Errors
/// Where it names one.
#[cold]
pub fn untouched(op: &AnyOp, warp: &mut Warp, registers: &[Slot]) -> Result<(), Fault> {
    match op {
        AnyOp::Tensor(Op::Wgmma(_)) => Ok(()),
        _ if warp.products.in_flight(registers).is_none() => {
            warp.products.touch(registers);
            Ok(())
        }
        _ => Err(Fault::new(
            FaultKind::Async,
            "it names a register of D of a wgmma in flight: wgmma.wait_group has to come before",
        )),
    }
}

/// The registers of a vector operand, destinations or sources.
fn registers<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    index: usize,
    count: usize,
    ty: Type,
    destination: bool,
) -> Result<Box<[Slot]>> {
    let operand = decoder.operand(inst, index)?;
    let all = match operand {
        Operand::Vector(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    if all.len() != count {
        return Err(Error::invalid(
            inst.line,
            format!(
                "{}: operand {} has {} registers, {count} are expected",
                inst.opcode,
                index + 1,
                all.len()
            ),
        ));
    }
    let slots = all.iter().map(|one| match destination {
        true => decoder.dst(inst, one, ty),
        false => decoder.src(inst, one, ty),
    });
    slots.collect()
}

/// Takes a shape like `m16n8k16`.
fn shape(modifier: &str) -> Option<(usize, usize, usize)> {
    let (m, rest) = modifier.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some((m.parse().ok()?, n.parse().ok()?, k.parse().ok()?))
}
