//! The syntax tree of a PTX module. Names are slices of the module's text; lines count from 1.

use super::types::Type;

/// A whole module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module<'a> {
    /// `.version 9.0` is (9, 0).
    pub version: (u32, u32),
    /// `.target sm_90a, debug` is ["sm_90a", "debug"].
    pub target: Vec<&'a str>,
    /// `.file` table: number and path.
    pub files: Vec<(u32, String)>,
    /// Variables outside functions.
    pub variables: Vec<Variable<'a>>,
    /// Entries and functions, declarations too, in order.
    pub functions: Vec<Function<'a>>,
    /// `.alias name, function;`: another name of a function.
    pub aliases: Vec<(&'a str, &'a str)>,
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Space {
    Generic,
    Const,
    Global,
    Local,
    Param,
    Shared,
}

/// `.visible`, `.extern` and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Linkage {
    #[default]
    Internal,
    Visible,
    Extern,
    Weak,
    Common,
}

/// A variable or a parameter that is not a register.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable<'a> {
    /// Where it lives.
    pub space: Space,
    /// Its linkage.
    pub linkage: Linkage,
    /// `.align`, or its type's own.
    pub align: u32,
    /// Of one element.
    pub ty: Type,
    /// Elements of a `.v2`, `.v4` vector; 1 for a scalar.
    pub vector: u32,
    /// Its name.
    pub name: &'a str,
    /// Elements of all dimensions together: `None` for a scalar, `Some(0)` for `[]`.
    pub len: Option<u64>,
    /// Initial values, those of vectors one by one; fewer than there are elements, or none: what is not named is 0.
    pub init: Vec<Init<'a>>,
    /// Where it stands.
    pub line: u32,
}

/// One initial value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init<'a> {
    /// The bits of an integer or float, no more than its type has.
    Bits(u64),
    /// The address of a variable or function; `generic(…)` when `generic`.
    Address {
        /// Of what.
        name: &'a str,
        /// Added to it.
        offset: i64,
        /// Whether the generic address is meant.
        generic: bool,
        /// Which byte of the address alone is meant, 0 the lowest: `0xFF00(name)` is 1. The variable is then one of bytes.
        byte: Option<u8>,
    },
}

/// `.entry` or `.func`.
#[derive(Clone, Debug, PartialEq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is a kernel.
    pub entry: bool,
    /// Its linkage.
    pub linkage: Linkage,
    /// What a `.func` returns.
    pub returns: Vec<Variable<'a>>,
    /// Its parameters.
    pub params: Vec<Variable<'a>>,
    /// `.maxntid` and its like.
    pub limits: Limits,
    /// Statements; `None` for a declaration.
    pub body: Option<Vec<Statement<'a>>>,
    /// Where it stands.
    pub line: u32,
}

/// Performance directives of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `.maxntid`: its product bounds the threads of a block.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`: the block's exact shape.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks_per_sm: Option<u32>,
    /// `.maxnreg`.
    pub max_registers: Option<u32>,
    /// `.explicitcluster`.
    pub explicit_cluster: bool,
    /// `.reqnctapercluster`.
    pub required_cluster: Option<[u32; 3]>,
    /// `.maxclusterrank`.
    pub max_cluster: Option<u32>,
}

/// A statement of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement<'a> {
    /// `.reg .b32 %r<5>, x;`: one name each, ranges already spelled out as (prefix, Some(5)).
    Registers {
        /// Type of each.
        ty: Type,
        /// Names, or prefixes with their count.
        names: Vec<(&'a str, Option<u32>)>,
    },
    /// `.shared`, `.local`, `.param` and such in a body.
    Variable(Variable<'a>),
    /// `L:`
    Label(&'a str, u32),
    /// An instruction.
    Instruction(Instruction<'a>),
    /// `{ … }`: a scope.
    Block(Vec<Statement<'a>>),
    /// `name: .branchtargets A, B;`
    BranchTargets(&'a str, Vec<&'a str>),
    /// `name: .callprototype (…) _ (…);`
    CallPrototype(Prototype<'a>),
    /// `name: .calltargets f, g;`
    CallTargets(&'a str, Vec<&'a str>),
}

/// The signature of an indirect call.
#[derive(Clone, Debug, PartialEq)]
pub struct Prototype<'a> {
    /// Its label.
    pub name: &'a str,
    /// What is returned.
    pub returns: Vec<Variable<'a>>,
    /// What is passed.
    pub params: Vec<Variable<'a>>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction<'a> {
    /// `@p` or `@!p`: name, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    /// What stands before the first dot: `ld`.
    pub opcode: &'a str,
    /// What stands after, without dots: `["global", "v4", "f32"]`; `::` inside stays.
    pub modifiers: Vec<&'a str>,
    /// Its operands.
    pub operands: Vec<Operand<'a>>,
    /// Of the PTX text.
    pub line: u32,
    /// What `.loc` said last.
    pub source: Option<Source>,
}

/// A place in a source file, from `.loc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Number in the `.file` table.
    pub file: u32,
    /// Its line.
    pub line: u32,
    /// When it was inlined: file and line of the call.
    pub inlined_at: Option<(u32, u32)>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    /// A register, special register (`%tid.x`), variable, function or label, with `+offset` (0 without).
    Name(&'a str, i64),
    /// An integer constant, as 64 bits: what constant expressions come to, and `WARP_SZ`.
    Int(u64),
    /// `0f3F800000`: the bits of an f32.
    F32(u32),
    /// `0d…` or a decimal: an f64.
    F64(f64),
    /// `_`
    Sink,
    /// `!p`
    Not(&'a str),
    /// `{a, b}`
    Vector(Vec<Operand<'a>>),
    /// `a|p`
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `[base+offset]`; `[base, {c0, c1}]` when `coordinates` are not empty (the base is then a tensor map).
    Address {
        /// `Name`, its own offset 0, or `Int`.
        base: Box<Operand<'a>>,
        /// Added to the base.
        offset: i64,
        /// Of a tensor.
        coordinates: Vec<Operand<'a>>,
    },
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
}
