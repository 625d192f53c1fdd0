//! Backends that compute in host memory.
//!
//! [`Host`] owns the memory, checks every argument of every op once, and hands plain slices to a set of
//! [`Kernels`]: the float64 [`reference`](crate::reference), the f32 CPU backend, or a mutant of either.

mod adapter;
mod fetched;
mod float;
mod kernels;
mod memory;

use fetched::Fetched;
pub use float::Float;
pub use kernels::Kernels;
pub use memory::Memory;

use crate::{Kind, Result, Slot};

/// A backend in host memory: [`Ops`](crate::Ops) over a set of [`Kernels`].
pub struct Host<K: Kernels> {
    memory: Memory<K::F>,
    fetched: Fetched,
    kernels: K,
}

impl<K: Kernels> Host<K> {
    /// A backend with nothing allocated.
    pub fn with(kernels: K) -> Self {
        Host { memory: Memory::default(), fetched: Fetched::default(), kernels }
    }

    /// What computes.
    pub fn kernels(&self) -> &K {
        &self.kernels
    }

    /// Copies into a slot in the backend's own precision.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) when the lengths differ, or the slot holds tokens.
    pub fn write<S: Kind>(&mut self, slot: Slot<S>, data: &[K::F]) -> Result {
        let ([dst], [], []) = self.memory.views(memory::one_written("write", "slot", slot, data.len())?)?;
        dst.copy_from_slice(data);
        Ok(())
    }

    /// A slot's elements in the backend's own precision.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) when there is no such slot, or it holds tokens.
    pub fn read<S: Kind>(&mut self, slot: Slot<S>) -> Result<&[K::F]> {
        let ([], [src], []) = self.memory.views(memory::one_read("read", "slot", slot, slot.len)?)?;
        Ok(src)
    }
}
