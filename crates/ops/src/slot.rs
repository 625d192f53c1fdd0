//! Handles to tensors that live in a backend's memory.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

mod sealed {
    pub trait Sealed {}
}

/// What a tensor holds, and so which element type a backend stores it in.
pub trait Kind: sealed::Sealed + Copy + 'static {
    /// The element type in host memory, in which data is uploaded and downloaded.
    type Host: bytemuck::Pod + PartialEq + fmt::Debug + Send + Sync;
    /// The kind's name in messages.
    const NAME: &'static str;
    /// The kind as a value.
    const TAG: Tag;
}

/// A [`Kind`] as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// [`Act`].
    Act,
    /// [`Grad`].
    Grad,
    /// [`Stat`].
    Stat,
    /// [`Tok`].
    Tok,
}

/// Weights, activations and the gradients of activations, in the backend's working precision.
#[derive(Clone, Copy, Debug)]
pub enum Act {}
/// Gradients of parameters, which micro-batches add up: f32, or the working precision where the backend says so.
#[derive(Clone, Copy, Debug)]
pub enum Grad {}
/// Statistics, losses, optimizer moments: never less than f32, whatever the working precision.
#[derive(Clone, Copy, Debug)]
pub enum Stat {}
/// Token indices.
#[derive(Clone, Copy, Debug)]
pub enum Tok {}

macro_rules! kind {
    ($kind:ident, $host:ty) => {
        impl sealed::Sealed for $kind {}
        impl Kind for $kind {
            type Host = $host;
            const NAME: &'static str = stringify!($kind);
            const TAG: Tag = Tag::$kind;
        }
    };
}
kind!(Act, f32);
kind!(Grad, f32);
kind!(Stat, f32);
kind!(Tok, u32);

/// A copy on its way to host memory; see [`Ops::fetch`](crate::Ops::fetch). It cannot be collected twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which copy, in a backend's own numbering.
    pub number: usize,
    /// Elements.
    pub len: usize,
}

/// A range of elements in one allocation of a backend.
///
/// A slot is a plain index, free to copy: it borrows nothing. The backend owns the memory, and every op checks
/// that its slots exist, have the lengths the op's shapes ask for, and that nothing it writes overlaps anything
/// else it is given.
pub struct Slot<K> {
    /// Which allocation, in the order in which the backend made them.
    pub allocation: u32,
    /// First element.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
    kind: PhantomData<K>,
}

impl<K> Clone for Slot<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Slot<K> {}

impl<K> PartialEq for Slot<K> {
    fn eq(&self, other: &Self) -> bool {
        (self.allocation, self.offset, self.len) == (other.allocation, other.offset, other.len)
    }
}
impl<K> Eq for Slot<K> {}

impl<K: Kind> fmt::Debug for Slot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.range();
        write!(f, "{}[{}; {start}..{end}]", K::NAME, self.allocation)
    }
}

impl<K: Kind> Slot<K> {
    /// The whole of an allocation; for backends, which number their allocations.
    pub const fn whole(allocation: u32, len: usize) -> Self {
        Slot { allocation, offset: 0, len, kind: PhantomData }
    }

    /// A part of this slot, by element range.
    ///
    /// # Panics
    /// If the range does not lie inside the slot.
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} is not inside a slot of {} elements",
            self.len
        );
        Slot { offset: self.offset + range.start, len: range.end - range.start, ..self }
    }

    /// The elements `[self.offset, self.offset + self.len)` of the allocation.
    pub fn range(self) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.len)
    }

    /// Whether both name at least one element in common.
    pub fn overlaps<J: Kind>(self, other: Slot<J>) -> bool {
        self.allocation == other.allocation
            && self.offset < other.range().end
            && other.offset < self.range().end
    }
}
