//! A kernel as the interpreter runs it: names resolved, operands checked, blocks in an order in which branches meet again.
//!
//! The register file of a warp is an array of *slots*: 32 lanes of 32 bits. A 64-bit register is two slots, low half
//! first; a 16-bit one is the low half of a slot, its upper half is 0. Predicates are masks in an array of their own. Constants
//! of the text are slots too, filled before the kernel starts, so that an operand is always a slot.

mod calls;
mod decoder;
mod floor;
mod guesses;
mod kernel;
mod layout;
mod modifiers;
mod order;
mod registers;
mod resolve;
mod scope;
mod target;

use crate::exec::Op;
use crate::ptx::ast::{Limits, Source};

pub use decoder::{Address, Decoder, Predicate, Symbol, function_address};
pub use floor::check_instructions;
pub use kernel::{function_number, parameters};
pub use modifiers::Modifiers;
pub use resolve::Piece;

/// Index of a 32-lane row of 32-bit values in a warp's register file.
pub type Slot = u32;

/// Under which lanes an instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// All.
    Always,
    /// Those whose predicate is true.
    If(u32),
    /// Those whose predicate is false.
    Unless(u32),
}

/// Which lanes must be at an instruction together before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meet {
    /// None but those that are.
    Nobody,
    /// All lanes of the warp that have not exited (`.aligned`).
    Warp,
    /// Those that the mask in this slot names, of each lane that runs it (`.sync` with a membermask).
    Mask(Slot),
}

/// What an instruction is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Moves, selects, predicates.
    Move,
    /// Integer and bit arithmetic.
    Integer,
    /// 16-bit floating point.
    Half,
    /// f32.
    Float,
    /// f64.
    Double,
    /// Conversions.
    Convert,
    /// What the special function unit does: rcp, sqrt, ex2, lg2, sin, cos, tanh.
    Special,
    /// Branches, calls, returns.
    Control,
    /// Loads and stores of global memory.
    Global,
    /// Loads and stores of shared memory, ldmatrix and stmatrix too.
    Shared,
    /// Local memory.
    Local,
    /// Constants and parameters.
    Constant,
    /// Atomics and reductions.
    Atomic,
    /// Shuffles, votes and their like.
    Warp,
    /// Barriers and fences.
    Barrier,
    /// mbarrier operations, asynchronous copies.
    Async,
    /// mma.sync and wgmma.
    Tensor,
}

impl Class {
    /// All, in the order of their numbers, with the name in the counters' JSON.
    pub const ALL: [(Class, &'static str); 17] = [
        (Class::Move, "move"),
        (Class::Integer, "integer"),
        (Class::Half, "half"),
        (Class::Float, "float"),
        (Class::Double, "double"),
        (Class::Convert, "convert"),
        (Class::Special, "special"),
        (Class::Control, "control"),
        (Class::Global, "global"),
        (Class::Shared, "shared"),
        (Class::Local, "local"),
        (Class::Constant, "constant"),
        (Class::Atomic, "atomic"),
        (Class::Warp, "warp"),
        (Class::Barrier, "barrier"),
        (Class::Async, "async"),
        (Class::Tensor, "tensor"),
    ];
}

/// One decoded instruction.
#[derive(Debug)]
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// For which lanes.
    pub guard: Guard,
    /// Who must be there.
    pub meet: Meet,
    /// What it counts as.
    pub class: Class,
    /// Of the PTX text.
    pub line: u32,
    /// Of the `.cu` file.
    pub source: Option<Source>,
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Bytes from the start of the parameters.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
}

/// A function of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its first instruction; `u32::MAX` where the kernel cannot reach it, or it is only declared.
    pub start: u32,
    /// Behind its last instruction.
    pub end: u32,
    /// Where it takes its parameters from, in a thread's local memory.
    pub params: Vec<Piece>,
    /// Where it puts its results.
    pub returns: Vec<Piece>,
}

impl Function {
    /// Whether an instruction is one of this function's.
    pub fn holds(&self, pc: u32) -> bool {
        (self.start..self.end).contains(&pc)
    }
}

/// What is known of an instruction besides what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Its text.
    pub text: String,
    /// Whether it is not in the text, but stands for what the order of the text does; it is not counted.
    pub implied: bool,
    /// Whether it changes what others can see: a store, an arrival. (An atomic operation may change nothing.)
    pub changes: bool,
    /// Rows of the registers that it names.
    pub registers: Box<[Slot]>,
}

/// A kernel with all functions that it can reach.
#[derive(Debug, Default)]
pub struct Program {
    /// The kernel's name.
    pub name: String,
    /// Instructions; the kernel starts at 0.
    pub code: Vec<Inst>,
    /// Of each instruction.
    pub details: Vec<Detail>,
    /// Rows of a warp's register file.
    pub slots: u32,
    /// Masks of a warp's predicate file.
    pub predicates: u32,
    /// Rows that hold constants, and what in all lanes.
    pub constants: Vec<(Slot, u32)>,
    /// Of them, those that a block's rank in its cluster is added to, from bit 24 on: addresses in its shared memory.
    pub ranked: Vec<Slot>,
    /// Bytes of local memory per thread, for the frames of all functions.
    pub local_bytes: u32,
    /// Bytes of static shared memory per block.
    pub shared_bytes: u32,
    /// What the base of dynamic shared memory must be a multiple of.
    pub dynamic_align: u32,
    /// The kernel's parameters in order.
    pub params: Vec<Param>,
    /// Bytes of all parameters together.
    pub param_bytes: u32,
    /// Performance directives.
    pub limits: Limits,
    /// The module's functions in its order; [`function_address`] of the index is what `mov` gives.
    pub functions: Vec<Function>,
    /// The `.file` table.
    pub files: Vec<(u32, String)>,
}

impl Program {
    /// Where dynamic shared memory starts, when static starts at `base`.
    pub fn dynamic_base(&self, base: u32) -> u32 {
        (base + self.shared_bytes).next_multiple_of(self.dynamic_align.max(1))
    }

    /// `file.cu:12` of an instruction, where the module says.
    pub fn source(&self, pc: u32) -> Option<String> {
        let source = self.code.get(pc as usize)?.source?;
        let (_, file) = self.files.iter().find(|(number, _)| *number == source.file)?;
        Some(format!("{file}:{}", source.line))
    }

    /// An instruction's text.
    pub fn text(&self, pc: u32) -> &str {
        self.details.get(pc as usize).map_or("", |detail| &detail.text)
    }

    /// An instruction in words: line, text, source.
    pub fn place(&self, pc: u32) -> String {
        let line = self.code.get(pc as usize).map_or(0, |inst| inst.line);
        let source = self.source(pc).map_or(String::new(), |source| format!(" [{source}]"));
        format!("PTX line {line}: {}{source}", self.text(pc))
    }
}
