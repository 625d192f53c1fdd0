//! The interpreter: one file per family of instructions, each with what it decodes and what it does.
//!
//! A family is a module with `Op`, `decode` (from the syntax tree; `None` when the opcode is not its own) and `execute`.
//! `execute` runs one instruction for the lanes in a mask and says how the warp goes on.

mod cluster;
mod compare;
mod forms;
pub mod grid;
pub mod lanes;
#[cfg(test)]
pub(crate) mod one_warp;
pub mod per_lane;
mod run;
pub mod sreg;
mod warp;

pub mod atomic;
pub mod barrier;
pub mod bulk;
pub mod control;
pub mod convert;
pub mod copy;
pub mod float;
pub mod half;
pub mod integer;
pub mod matrix;
pub mod mbarrier;
pub mod memory;
pub mod moves;
pub mod print;
pub mod shuffle;
pub mod special;
pub mod tensor;

#[cfg(test)]
pub mod harness;

pub use cluster::{Block, Cluster, Launch};
pub use warp::{Fragment, Wait, Warp};

use crate::fault::Fault;
use crate::program::{Class, Decoder, Inst, Meet};
use crate::ptx::Result;
use crate::ptx::ast::Instruction;

/// An instruction, by family.
#[derive(Debug)]
pub enum Op {
    /// mov, selp, setp on bits, special registers.
    Moves(moves::Op),
    /// Integers and bits.
    Integer(integer::Op),
    /// f16 and bf16.
    Half(half::Op),
    /// f32 and f64.
    Float(float::Op),
    /// Approximations.
    Special(special::Op),
    /// cvt.
    Convert(convert::Op),
    /// Branches, calls, exit, trap.
    Control(control::Op),
    /// ld, st, cvta, prefetch.
    Memory(memory::Op),
    /// atom, red.
    Atomic(atomic::Op),
    /// shfl, vote, match, redux, elect, activemask.
    Shuffle(shuffle::Op),
    /// bar, barrier.cluster, fences.
    Barrier(barrier::Op),
    /// ldmatrix, stmatrix, movmatrix.
    Matrix(matrix::Op),
    /// cp.async and its groups.
    Copy(copy::Op),
    /// mbarrier.
    Mbarrier(mbarrier::Op),
    /// cp.async.bulk, cp.reduce.async.bulk, st.async, tensor maps.
    Bulk(bulk::Op),
    /// mma.sync, wgmma.
    Tensor(tensor::Op),
}

/// What `decode` makes of an instruction.
#[derive(Debug)]
pub struct Decoded {
    /// What it does.
    pub op: Op,
    /// Who must be there.
    pub meet: Meet,
    /// What it counts as.
    pub class: Class,
}

impl Decoded {
    /// An instruction that each lane runs for itself.
    pub fn new(op: Op, class: Class) -> Decoded {
        Decoded { op, meet: Meet::Nobody, class }
    }

    /// The same, where `meet` must be there.
    pub fn meeting(self, meet: Meet) -> Decoded {
        Decoded { meet, ..self }
    }
}

/// Decodes by the first family that knows the opcode; `None` when none does.
///
/// # Errors
/// What the family found wrong.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let families = [
        moves::decode,
        integer::decode,
        half::decode,
        float::decode,
        special::decode,
        convert::decode,
        // Before the families whose opcodes it shares: st.async, red.async, prefetch.tensormap, fence.proxy.tensormap.
        bulk::decode,
        memory::decode,
        atomic::decode,
        shuffle::decode,
        barrier::decode,
        matrix::decode,
        copy::decode,
        mbarrier::decode,
        tensor::decode,
    ];
    for family in families {
        if let Some(decoded) = family(inst, decoder)? {
            return Ok(Some(decoded));
        }
    }
    Ok(None)
}

/// How a warp goes on after an instruction.
#[derive(Debug)]
pub enum Flow {
    /// With the next one.
    Next,
    /// The instruction has to be tried again later.
    Wait(Wait),
    /// As [`Flow::Wait`], for what was waited for before.
    Still,
    /// The instruction has to run for these lanes by themselves, and then for the others.
    Split(u32),
    /// With the next one, after others had their turn.
    Yield,
    /// These lanes go to this instruction, the others to the next.
    Branch {
        /// Lanes that jump.
        taken: u32,
        /// Where to.
        target: u32,
    },
    /// Each lane goes somewhere of its own.
    Scatter(Box<lanes::Row>),
    /// These lanes call the function that starts here.
    Call {
        /// Lanes that call.
        taken: u32,
        /// First instruction of the function.
        target: u32,
    },
    /// These lanes return; where no call is behind them they exit.
    Return(u32),
    /// These lanes end.
    Exit(u32),
}

/// What an instruction may touch besides its warp.
pub struct Context<'a> {
    /// The launch: the same for all blocks.
    pub launch: &'a Launch<'a>,
    /// The cluster's blocks, their shared memory and barriers.
    pub cluster: &'a mut Cluster,
    /// The warp that runs (taken out of the cluster meanwhile).
    pub warp: &'a mut Warp,
    /// The instruction.
    pub inst: &'a Inst,
    /// Its index.
    pub pc: u32,
    /// What the instruction left behind when it had to wait.
    pub token: Option<u64>,
    /// All lanes of the fragment, whatever the guard.
    pub converged: u32,
}

/// Runs an instruction for the lanes of `active`, which the guard let through; not called when there are none.
///
/// # Errors
/// What it did wrong.
#[inline]
pub fn execute(cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match &cx.inst.op {
        Op::Moves(op) => moves::execute(op, cx, active),
        Op::Integer(op) => integer::execute(op, cx, active),
        Op::Half(op) => half::execute(op, cx, active),
        Op::Float(op) => float::execute(op, cx, active),
        Op::Special(op) => special::execute(op, cx, active),
        Op::Convert(op) => convert::execute(op, cx, active),
        Op::Control(op) => control::execute(op, cx, active),
        Op::Memory(op) => memory::execute(op, cx, active),
        Op::Atomic(op) => atomic::execute(op, cx, active),
        Op::Shuffle(op) => shuffle::execute(op, cx, active),
        Op::Barrier(op) => barrier::execute(op, cx, active),
        Op::Matrix(op) => matrix::execute(op, cx, active),
        Op::Copy(op) => copy::execute(op, cx, active),
        Op::Mbarrier(op) => mbarrier::execute(op, cx, active),
        Op::Bulk(op) => bulk::execute(op, cx, active),
        Op::Tensor(op) => tensor::execute(op, cx, active),
    }
}
