//! What every backend must pass.
//!
//! [`run`] puts each op of [`Ops`] through its [`cases`]: outputs against the float64
//! [`reference`](crate::reference) by ‖out − ref‖/‖ref‖ on inputs rounded to the backend's precision; odd shapes;
//! outputs full of NaN before, and NaN wherever an op must not read; guard elements round every slot, inputs that must
//! not change, slots at odd addresses; the same bits from two runs; set and added gradients; fused ops against the
//! composed ones; and every kind of bad argument, which must be refused and change nothing.
//!
//! [`gradients`] holds the reference itself to central finite differences in float64.
//!
//! ```
//! use wikigpt_ops::conformance::{self, Level};
//! use wikigpt_ops::reference::Reference;
//!
//! let report = conformance::run(&mut Reference::new(), Level::Small);
//! assert!(report.passed(), "{report}");
//! ```

mod attention;
mod attention_unfused;
mod call;
mod check;
mod cross_entropy;
mod data;
mod dropout;
mod embedding;
mod gelu;
mod gradient;
mod layernorm;
mod matmul;
mod memory;
mod optimizer;
mod refuse;
mod residual;
mod rounding;
mod sample;

use std::fmt;

use crate::host::{Host, Kernels};
use crate::{Ops, Tag};
use call::Call;
use data::{Precision, Random};

/// How many cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Each op at small, odd shapes: a few million multiplications altogether, for an interpreter or a mutant.
    Small,
    /// Those, and some shapes of a model's size.
    Full,
}

/// One thing that a backend must get right.
pub struct Case {
    op: &'static str,
    name: String,
    what: What,
}

/// Makes a call from random numbers.
type Make = Box<dyn Fn(&mut Random) -> Call>;

enum What {
    /// A call gives what the reference gives.
    Computes(Make),
    /// A call is refused as it stands, by a sentence that contains the word.
    Refused(Make, &'static str),
    /// A call is refused in each way that it can be spoilt.
    RefusedSpoilt(Make),
    /// Memory behaves.
    Memory(memory::Check),
}

impl Case {
    /// The method of [`Ops`] that the case is about.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// What is special about the case: its shape, mostly.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a backend through the case.
    ///
    /// # Errors
    /// What went wrong.
    pub fn check(&self, ops: &mut impl Ops) -> Result<(), Failure> {
        let seed =
            self.op.bytes().chain(self.name.bytes()).fold(0_u32, |h, b| h.wrapping_mul(31) ^ u32::from(b));
        let mut random = Random::new(Precision::of(ops, Tag::Act), Precision::of(ops, Tag::Grad), seed);
        let verdict = match &self.what {
            What::Computes(make) => check::check(ops, &make(&mut random)),
            What::Refused(make, word) => refuse::refused(ops, &make(&mut random), word),
            What::RefusedSpoilt(make) => refuse::spoilt(ops, &make(&mut random)),
            What::Memory(check) => check.run(ops),
        };
        verdict.map_err(|message| Failure { op: self.op, case: self.name.clone(), message })
    }
}

/// A case that a backend did not pass.
#[derive(Debug, thiserror::Error)]
#[error("{op} ({case}): {message}")]
pub struct Failure {
    /// The op.
    pub op: &'static str,
    /// The case.
    pub case: String,
    /// What was wrong.
    pub message: String,
}

/// What became of a run.
#[derive(Debug)]
pub struct Report {
    /// The backend, in its own words.
    pub device: String,
    /// How many cases there were.
    pub cases: usize,
    /// Those that failed.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether every case passed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} cases failed", self.device, self.failures.len(), self.cases)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

/// All cases of a level.
pub fn cases(level: Level) -> Vec<Case> {
    let mut cases = Cases { level, list: Vec::new() };
    memory::cases(&mut cases);
    embedding::cases(&mut cases);
    layernorm::cases(&mut cases);
    residual::cases(&mut cases);
    matmul::cases(&mut cases);
    attention::cases(&mut cases);
    attention_unfused::cases(&mut cases);
    gelu::cases(&mut cases);
    dropout::cases(&mut cases);
    cross_entropy::cases(&mut cases);
    sample::cases(&mut cases);
    optimizer::cases(&mut cases);
    cases.list
}

/// Puts a backend through all cases of a level.
pub fn run(ops: &mut impl Ops, level: Level) -> Report {
    let cases = cases(level);
    let failures = cases.iter().filter_map(|case| case.check(ops).err()).collect();
    Report { device: ops.device(), cases: cases.len(), failures }
}

/// Holds every backward of a float64 backend to central finite differences of its forward.
pub fn gradients<K: Kernels<F = f64>>(ops: &mut Host<K>) -> Report {
    let list = [
        embedding::gradients(),
        layernorm::gradients(),
        residual::gradients(),
        matmul::gradients(),
        attention::gradients(),
        attention_unfused::gradients(),
        gelu::gradients(),
        dropout::gradients(),
        cross_entropy::gradients(),
    ];
    let list: Vec<_> = list.into_iter().flatten().collect();
    let failures = list.iter().filter_map(|gradient| gradient.check(ops).err()).collect();
    Report { device: ops.device(), cases: list.len(), failures }
}

/// The cases collected so far.
struct Cases {
    level: Level,
    list: Vec<Case>,
}

impl Cases {
    /// Small shapes, and larger ones where the level asks for them.
    fn shapes<S: Copy>(&self, small: &[S], full: &[S]) -> Vec<S> {
        let full = if self.level == Level::Full { full } else { &[] };
        [small, full].concat()
    }

    /// A call that must give what the reference gives.
    fn computes(
        &mut self,
        op: &'static str,
        name: impl Into<String>,
        make: impl Fn(&mut Random) -> Call + 'static,
    ) {
        self.list.push(Case { op, name: name.into(), what: What::Computes(Box::new(make)) });
    }

    /// A call that must be refused by a sentence that contains a word.
    fn refused(
        &mut self,
        op: &'static str,
        name: &str,
        word: &'static str,
        make: impl Fn(&mut Random) -> Call + 'static,
    ) {
        self.list.push(Case { op, name: name.into(), what: What::Refused(Box::new(make), word) });
    }

    /// A good call, which must be refused in each way that it can be spoilt.
    fn refused_spoilt(&mut self, op: &'static str, make: impl Fn(&mut Random) -> Call + 'static) {
        let name = "bad lengths, overlaps, dimensions".into();
        self.list.push(Case { op, name, what: What::RefusedSpoilt(Box::new(make)) });
    }
}
