//! What goes wrong while a kernel runs, and where.

use std::fmt;

/// The kind of fault, from which the driver's error code follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An access outside every allocation, or outside a block's shared or a thread's local memory.
    Address,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// An instruction on a space that it has no meaning for.
    AddressSpace,
    /// An instruction used in a way that its manual leaves undefined.
    Instruction,
    /// `assert`.
    Assert,
    /// `trap`.
    Trap,
    /// Nothing can run any more, or nothing has happened for too long.
    Deadlock,
    /// Memory that was freed.
    UseAfterFree,
    /// A read of memory that nobody wrote.
    Uninitialized,
    /// Two accesses without order between them.
    Race,
    /// An asynchronous copy or matrix product that was not waited for.
    Async,
    /// A barrier used against its rules.
    Barrier,
    /// An instruction that this emulator does not know.
    Unsupported,
}

/// A fault of one warp; [`Place`] is added where it is caught.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// One sentence: what was done, to what.
    pub message: String,
    /// The lane, where one is at fault.
    pub lane: Option<u32>,
    /// What else is to be known, a line each.
    pub notes: Vec<String>,
    /// The access that it does not go with, where there are two to blame.
    pub other: Option<Other>,
}

/// The other access of two that have no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Number of its cluster in the launch.
    pub cluster: u64,
    /// Index of its warp in that cluster, and its lane, where a thread did it and not what goes on by itself.
    pub thread: Option<(u32, u32)>,
    /// Index of its instruction.
    pub pc: u32,
}

impl Fault {
    /// A fault of no lane in particular.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), lane: None, notes: Vec::new(), other: None }
    }

    /// A fault of one lane.
    pub fn at(kind: FaultKind, lane: u32, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), lane: Some(lane), notes: Vec::new(), other: None }
    }
}

/// Where it happened.
#[derive(Clone, Debug)]
pub struct Place {
    /// The kernel's name.
    pub kernel: String,
    /// Block in the grid.
    pub block: [u32; 3],
    /// Thread in the block.
    pub thread: [u32; 3],
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// The PTX line itself.
    pub ptx: String,
    /// `file.cu:12`, where the PTX was compiled with line information.
    pub source: Option<String>,
}

/// A fault and its place: what is printed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What.
    pub fault: Fault,
    /// Where.
    pub place: Place,
    /// Where the other access was made, of two that do not go together.
    pub other: Option<Place>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { kernel, block: [bx, by, bz], thread: [tx, ty, tz], ptx_line, ptx, source } = self;
        write!(f, "in kernel {kernel}, block ({bx},{by},{bz}), thread ({tx},{ty},{tz})")?;
        write!(f, ", PTX line {ptx_line}: {}", ptx.trim())?;
        match source {
            Some(source) => write!(f, " [{source}]"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.fault.message, self.place)?;
        if let Some(other) = &self.other {
            write!(f, "\n  the earlier one: {other}")?;
        }
        self.fault.notes.iter().try_for_each(|note| write!(f, "\n  {note}"))
    }
}
