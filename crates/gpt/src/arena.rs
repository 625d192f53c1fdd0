//! Memory that is planned before it is allocated.

use wikigpt_ops::{Kind, Slot};

use crate::{Error, Result};

/// Tensors start at multiples of this many elements: 256 bytes of f32, as in the parameters' layout.
const ALIGNMENT: usize = 64;

/// Hands out the parts of one allocation, one after the other.
///
/// Where a part lies depends on shapes alone: an arena walked without an allocation tells how large one must be, and
/// walked again over the real one gives the same parts.
#[derive(Debug)]
pub struct Arena {
    allocation: u32,
    /// Where the next tensor starts.
    at: usize,
    /// The furthest that any tensor reached.
    len: usize,
}

impl Arena {
    /// The parts of the allocation of this number.
    pub fn new(allocation: u32) -> Arena {
        Arena { allocation, at: 0, len: 0 }
    }

    /// A tensor of this shape.
    ///
    /// # Errors
    /// [`Error::Config`] when the arena becomes larger than this machine can count.
    pub fn tensor<K: Kind>(&mut self, shape: &[usize]) -> Result<Slot<K>> {
        let len = size(shape)?;
        let mut slot = Slot::whole(self.allocation, len);
        slot.offset = self.at;
        let end = self.at.checked_add(len).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
        // Bytes must be countable too, whatever the precision.
        self.at = end.filter(|end| *end <= usize::MAX / 16).ok_or_else(too_large)?;
        self.len = self.len.max(self.at);
        Ok(slot)
    }

    /// Where the next tensor will start.
    pub fn here(&self) -> usize {
        self.at
    }

    /// Goes back: the tensors that follow share the memory of those handed out since.
    pub fn back_to(&mut self, here: usize) {
        self.at = here;
    }

    /// The tensors that follow share no memory with any before.
    pub fn past_all(&mut self) {
        self.at = self.len;
    }

    /// Elements that the allocation must have.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// The elements of a shape.
///
/// # Errors
/// [`Error::Config`] when this machine cannot count them.
pub fn size(shape: &[usize]) -> Result<usize> {
    shape.iter().try_fold(1_usize, |product, d| product.checked_mul(*d)).ok_or_else(too_large)
}

fn too_large() -> Error {
    let message = "the activations are larger than this machine can count: make the batch, the context or the model smaller";
    Error::Config(message.into())
}
