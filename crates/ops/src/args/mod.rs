//! The arguments of ops, checked: one place for every backend.
//!
//! [`signatures`] has a function for each op that turns its slots and dimensions into [`Args`], or refuses them.
//! What is left to a backend is whether the slots lie in its memory ([`Arg::inside`]).

pub mod signatures;

use std::fmt;

use crate::slot::Tag;
use crate::{Error, IGNORE, Kind, Result, Slot};

/// The allocation number of an argument that is missing.
const ABSENT: u32 = u32::MAX;

/// The most dimensions that a tensor of an op has.
const RANK: usize = 5;

/// A slot as an op was given it, with the name and the shape that the op knows it by. It is displayed as `qkv (2,64,2304)`.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// The op's name for it.
    pub name: &'static str,
    /// The slot's allocation.
    pub allocation: u32,
    /// The slot's first element.
    pub offset: usize,
    /// Its elements; 0 only where it is missing, which the op allows.
    pub len: usize,
    /// What it holds.
    pub tag: Tag,
    /// Its dimensions, filled up with zeros: an op knows no dimension of 0.
    shape: [usize; RANK],
    /// What its tokens may be, if it holds tokens that an op reads.
    pub allowed: Allowed,
}

/// What the tokens of an argument may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Anything.
    All,
    /// Rows of a table that has so many; [`IGNORE`] may stand in place of one, if `ignore` says so.
    Rows {
        /// How many.
        rows: usize,
        /// Whether they may be left out.
        ignore: bool,
    },
    /// Where what each of T positions of a sequence sees begins: not beyond the position, and not before where that of the
    /// position before does.
    Starts {
        /// Positions of a sequence.
        T: usize,
    },
    /// Rows of a table that has so many, each once.
    Distinct {
        /// How many.
        rows: usize,
    },
    /// Positions that a cache holds before it gains some.
    Cached {
        /// How many it gains.
        Tn: usize,
        /// How many it has room for.
        Tmax: usize,
    },
}

/// The tensors of one call: those it writes, those it reads, and the tokens it reads.
#[derive(Clone, Copy, Debug)]
pub struct Args<const W: usize, const R: usize, const K: usize> {
    /// The op.
    pub op: &'static str,
    /// What it writes, be it in place.
    pub write: [Arg; W],
    /// The floats that it reads.
    pub read: [Arg; R],
    /// The tokens that it reads.
    pub tokens: [Arg; K],
}

impl<const W: usize, const R: usize, const K: usize> Args<W, R, K> {
    /// Refuses tensors of which one is written and shares an element with another.
    ///
    /// # Errors
    /// [`Error::Argument`] naming both.
    pub fn apart(&self) -> Result {
        for (i, w) in self.write.iter().enumerate() {
            for other in self.write[i + 1..].iter().chain(&self.read).chain(&self.tokens) {
                w.apart(self.op, other)?;
            }
        }
        Ok(())
    }
}

impl Arg {
    /// Names an argument.
    ///
    /// # Errors
    /// [`Error::Argument`] when the slot does not hold `want` elements.
    pub fn new<K: Kind>(op: &'static str, name: &'static str, slot: Slot<K>, want: usize) -> Result<Arg> {
        if slot.len != want {
            let message = format!("{name} must hold {want} elements, got {}", slot.len);
            return Err(Error::Argument { op, message });
        }
        let Slot { allocation, offset, len, .. } = slot;
        let shape = [want, 0, 0, 0, 0];
        Ok(Arg { name, allocation, offset, len, tag: K::TAG, shape, allowed: Allowed::All })
    }

    /// Names an argument of a given shape.
    ///
    /// # Errors
    /// [`Error::Argument`] when a dimension is 0 or the slot does not hold as many elements as the shape.
    pub fn shaped<K: Kind>(
        op: &'static str,
        name: &'static str,
        slot: Slot<K>,
        shape: &[usize],
    ) -> Result<Arg> {
        let want = size(op, name, shape)?;
        if slot.len != want {
            let message = format!("{name} must hold {want} elements (shape {shape:?}), got {}", slot.len);
            return Err(Error::Argument { op, message });
        }
        let mut arg = Arg::new(op, name, slot, want)?;
        arg.shape = std::array::from_fn(|i| shape.get(i).copied().unwrap_or(0));
        Ok(arg)
    }

    /// The same for an argument that may be missing.
    ///
    /// # Errors
    /// Those of [`Arg::shaped`].
    pub fn optional<K: Kind>(
        op: &'static str,
        name: &'static str,
        slot: Option<Slot<K>>,
        shape: &[usize],
    ) -> Result<Arg> {
        let absent = Arg {
            name,
            allocation: ABSENT,
            offset: 0,
            len: 0,
            tag: K::TAG,
            shape: [0; RANK],
            allowed: Allowed::All,
        };
        slot.map_or(Ok(absent), |slot| Arg::shaped(op, name, slot, shape))
    }

    /// The tokens choose among so many rows; [`IGNORE`] may stand among them if `ignore` says so.
    pub fn indices(self, rows: usize, ignore: bool) -> Arg {
        Arg { allowed: Allowed::Rows { rows, ignore }, ..self }
    }

    /// The tokens are the [starts](Allowed::Starts) of sequences of T positions.
    pub fn starts(self, T: usize) -> Arg {
        Arg { allowed: Allowed::Starts { T }, ..self }
    }

    /// The tokens choose among so many rows, each once.
    pub fn distinct(self, rows: usize) -> Arg {
        Arg { allowed: Allowed::Distinct { rows }, ..self }
    }

    /// The tokens are how many positions a cache [holds](Allowed::Cached).
    pub fn cached(self, Tn: usize, Tmax: usize) -> Arg {
        Arg { allowed: Allowed::Cached { Tn, Tmax }, ..self }
    }

    /// Whether the op was not given it.
    pub fn absent(&self) -> bool {
        self.allocation == ABSENT && self.len == 0
    }

    /// Refuses an argument that does not lie in memory of its kind: `held` is the length and the kind of the allocation that it
    /// names, if that is live.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn inside(&self, op: &'static str, held: Option<(usize, Tag)>) -> Result {
        let message = match held {
            None => format!("{} lies in memory that is not allocated", self.name),
            Some((_, tag)) if tag != self.tag => format!("{} is of the wrong kind", self.name),
            Some((len, _)) if self.offset.checked_add(self.len).is_none_or(|end| end > len) => {
                format!("{} reaches past the end of its allocation of {len} elements", self.name)
            }
            Some(_) => return Ok(()),
        };
        Err(Error::Argument { op, message })
    }

    /// Checks the tokens of an argument against what they may be.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first that is something else.
    pub fn check_tokens(&self, op: &'static str, tokens: &[u32]) -> Result {
        let name = self.name;
        let outside = |rows: usize, at: usize| {
            format!("{name}[{at}] is {}, but there are only {rows} rows (0 to {})", tokens[at], rows - 1)
        };
        let wrong = match self.allowed {
            Allowed::All => None,
            Allowed::Rows { rows, ignore } => {
                let beyond = |i: &u32| *i as usize >= rows && !(ignore && *i == IGNORE);
                tokens.iter().position(beyond).map(|at| outside(rows, at))
            }
            Allowed::Distinct { rows } => {
                let wrong = |at: usize| {
                    if tokens[at] as usize >= rows {
                        return Some(outside(rows, at));
                    }
                    let before = tokens[..at].contains(&tokens[at]);
                    before.then(|| format!("{name}[{at}] is {}, as one before it is", tokens[at]))
                };
                (0..tokens.len()).find_map(wrong)
            }
            Allowed::Starts { T } => {
                wrong_start(tokens, T).map(|at| format!("{name}[{at}] {}", wrong_start_is(tokens, T, at)))
            }
            Allowed::Cached { Tn, Tmax } => {
                let beyond = |pos: &u32| (*pos as usize).checked_add(Tn).is_none_or(|end| end > Tmax);
                tokens.iter().position(beyond).map(|at| {
                    format!(
                        "{name}[{at}] is {}: {Tn} new positions after it do not fit a cache of {Tmax}",
                        tokens[at]
                    )
                })
            }
        };
        wrong.map_or(Ok(()), |message| Err(Error::Argument { op, message }))
    }

    /// Refuses an argument that is written and shares an element with another.
    ///
    /// # Errors
    /// [`Error::Argument`] naming both.
    pub fn apart(&self, op: &'static str, other: &Arg) -> Result {
        let overlap = self.allocation == other.allocation
            && self.offset < other.offset.saturating_add(other.len)
            && other.offset < self.offset.saturating_add(self.len);
        if overlap && self.len > 0 && other.len > 0 {
            let message = format!("{} is written and overlaps {}", self.name, other.name);
            return Err(Error::Argument { op, message });
        }
        Ok(())
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        for (i, dimension) in self.shape.iter().take_while(|dimension| **dimension > 0).enumerate() {
            write!(f, "{}{dimension}", if i > 0 { "," } else { "" })?;
        }
        f.write_str(")")
    }
}

/// The first of the starts of sequences of T positions that is none.
pub fn wrong_start(starts: &[u32], T: usize) -> Option<usize> {
    (0..starts.len()).find(|n| {
        let t = n % T;
        starts[*n] as usize > t || (t > 0 && starts[*n] < starts[n - 1])
    })
}

/// What is wrong with a start that [`wrong_start`] found, in words.
pub fn wrong_start_is(starts: &[u32], T: usize, at: usize) -> String {
    let (start, t) = (starts[at], at % T);
    if start as usize > t {
        return format!("is {start}, but position {t} sees nothing beyond itself");
    }
    format!("is {start}, and {} one position before: starts never go back", starts[at - 1])
}

/// The number of elements of a shape.
///
/// # Errors
/// [`Error::Argument`] when a dimension is 0 or the product does not fit a usize.
fn size(op: &'static str, name: &str, shape: &[usize]) -> Result<usize> {
    if shape.contains(&0) {
        return Err(Error::Argument {
            op,
            message: format!("{name} has the shape {shape:?}: no dimension may be 0"),
        });
    }
    shape.iter().try_fold(1_usize, |product, d| product.checked_mul(*d)).ok_or_else(|| Error::Argument {
        op,
        message: format!("{name} has the shape {shape:?}: more elements than this machine can count"),
    })
}

/// The number of rows of C elements in a table.
///
/// # Errors
/// [`Error::Argument`] when the slot is not a whole number of rows, or fewer than `least`.
fn rows<K: Kind>(op: &'static str, name: &str, slot: Slot<K>, C: usize, least: usize) -> Result<usize> {
    let rows = slot.len.checked_div(C).unwrap_or(0);
    if rows == 0 || rows * C != slot.len {
        let message = format!("{name} must hold rows of {C} elements, got {} elements", slot.len);
        return Err(Error::Argument { op, message });
    }
    if rows < least {
        let message = format!("{name} must have at least {least} rows, got {rows}");
        return Err(Error::Argument { op, message });
    }
    Ok(rows)
}
