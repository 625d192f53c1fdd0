//! Branches, calls, returns, exit and trap. Decoded where a kernel's blocks are laid out, as their targets depend on that.

use super::lanes::lanes;
use super::print::Builtin;
use super::{Context, Flow, Warp};
use crate::fault::{Fault, FaultKind};
use crate::program::{Piece, Slot};

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// `bra`
    Branch {
        /// Where to.
        target: u32,
        /// Whether it closes a loop in which something is read that others may change meanwhile.
        spins: bool,
    },
    /// What PTX leaves to the order of the text, and is not counted.
    Goto {
        /// Where to.
        target: u32,
    },
    /// `brx.idx`
    Table(Box<Table>),
    /// `call` of a function by name.
    Call(Box<Call>),
    /// `call` of a function by address.
    Indirect(Box<Indirect>),
    /// Behind a call: what was returned goes to the caller's variables. Not counted.
    Results(Box<Vec<Transfer>>),
    /// The same behind an indirect call.
    IndirectResults(Box<Indirect>),
    /// `call` of a function of the CUDA runtime.
    Builtin(Box<Builtin>),
    /// `ret`
    Return,
    /// `exit`
    Exit,
    /// `trap`
    Trap,
    /// `nanosleep`
    Sleep,
    /// `brkpt`, `pmevent`
    Nothing,
}

/// A branch table.
#[derive(Debug)]
pub struct Table {
    /// Row of the index.
    pub index: Slot,
    /// Where to, by index.
    pub targets: Vec<u32>,
}

/// Bytes that move from one place of a thread's local memory to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// From where.
    pub from: u32,
    /// To where.
    pub to: u32,
    /// How many.
    pub size: u32,
}

/// A direct call.
#[derive(Debug)]
pub struct Call {
    /// The function's first instruction.
    pub target: u32,
    /// Its arguments, to its parameters.
    pub arguments: Vec<Transfer>,
}

/// An indirect call.
#[derive(Clone, Debug)]
pub struct Indirect {
    /// First of the two rows that hold the function's address.
    pub pointer: Slot,
    /// A row that keeps which function was called until it returns.
    pub callee: Slot,
    /// Functions that may be called, where `.calltargets` names them.
    pub allowed: Option<Vec<u32>>,
    /// The arguments.
    pub arguments: Vec<Piece>,
    /// Where the results go.
    pub results: Vec<Piece>,
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match op {
        Op::Branch { target, .. } | Op::Goto { target } => {
            Ok(Flow::Branch { taken: active, target: *target })
        }
        Op::Table(table) => {
            let index = cx.warp.row(table.index);
            let mut targets = [cx.pc + 1; 32];
            for lane in lanes(active) {
                let target = table.targets.get(index[lane] as usize);
                targets[lane] = *target.ok_or_else(|| {
                    let message =
                        format!("brx.idx with index {} into a table of {}", index[lane], table.targets.len());
                    Fault::at(FaultKind::Instruction, lane as u32, message)
                })?;
            }
            Ok(Flow::Scatter(Box::new(targets)))
        }
        Op::Call(call) => {
            for transfer in &call.arguments {
                for lane in lanes(active) {
                    transfer.run(cx.warp, lane);
                }
            }
            Ok(Flow::Call { taken: active, target: call.target })
        }
        Op::Indirect(call) => indirect(call, cx, active),
        Op::Results(results) => {
            for transfer in results.iter() {
                for lane in lanes(active) {
                    transfer.run(cx.warp, lane);
                }
            }
            Ok(Flow::Next)
        }
        Op::IndirectResults(call) => {
            for lane in lanes(active) {
                let callee = cx.warp.row(call.callee)[lane] as usize;
                let returns = &cx.launch.program.functions[callee].returns;
                for (from, to) in returns.iter().zip(&call.results) {
                    Transfer { from: from.address, to: to.address, size: to.size }.run(cx.warp, lane);
                }
            }
            Ok(Flow::Next)
        }
        Op::Builtin(builtin) => builtin.execute(cx, active),
        Op::Return => Ok(Flow::Return(active)),
        Op::Exit => Ok(Flow::Exit(active)),
        Op::Trap => Err(Fault::at(FaultKind::Trap, active.trailing_zeros(), "trap")),
        Op::Sleep => Ok(Flow::Yield),
        Op::Nothing => Ok(Flow::Next),
    }
}

impl Transfer {
    fn run(self, warp: &mut Warp, lane: usize) {
        let base = lane * (warp.local.len() / 32);
        let (from, to) = (base + self.from as usize, base + self.to as usize);
        let from = from..from + self.size as usize;
        warp.local.copy_within(from.clone(), to);
        warp.local_written.copy_within(from, to);
    }
}

/// Lanes that call the same function call it together; the others try again.
fn indirect(call: &Indirect, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    let program = cx.launch.program;
    let pointers = cx.warp.wide(call.pointer);
    let first = active.trailing_zeros();
    let pointer = pointers[first as usize];
    let same = active & super::lanes::mask_of(|lane| pointers[lane] == pointer);
    if same != active {
        return Ok(Flow::Split(same));
    }
    let refuse = |kind, message: String| Err(Fault::at(kind, first, message));
    // The number that `mov` of a function's name gives is its index and one.
    let index = usize::try_from(pointer).ok().and_then(|number| number.checked_sub(1));
    let Some((index, function)) = index.and_then(|index| Some((index, program.functions.get(index)?))) else {
        return refuse(FaultKind::Address, format!("call of {pointer:#x}, which is no function's address"));
    };
    let name = &function.name;
    if function.start == u32::MAX {
        return refuse(FaultKind::Unsupported, format!("call of {name} by its address: it has no body here"));
    }
    if call.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&(index as u32))) {
        return refuse(
            FaultKind::Instruction,
            format!("call of {name}, which its .calltargets does not name"),
        );
    }
    let sizes = |pieces: &[Piece]| pieces.iter().map(|piece| piece.size).collect::<Vec<_>>();
    if sizes(&function.params) != sizes(&call.arguments) || sizes(&function.returns) != sizes(&call.results) {
        return refuse(FaultKind::Instruction, format!("call of {name} with another function's prototype"));
    }
    let fragment = cx.warp.running();
    if fragment.calls.iter().chain([&cx.pc]).any(|pc| function.holds(*pc)) {
        let message = format!("{name} calls itself: recursion is not emulated");
        return refuse(FaultKind::Unsupported, message);
    }
    for (from, to) in call.arguments.iter().zip(&function.params) {
        for lane in lanes(active) {
            Transfer { from: from.address, to: to.address, size: to.size }.run(cx.warp, lane);
        }
    }
    cx.warp.set_row(call.callee, &[index as u32; 32], active);
    Ok(Flow::Call { taken: active, target: function.start })
}
