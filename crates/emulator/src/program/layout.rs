//! Where variables lie: parameters, frames in local memory, shared memory.

use super::Param;
use crate::ptx::ast::Variable;
use crate::ptx::{Error, Result};

/// The bytes a variable takes; `[]` takes none.
///
/// # Errors
/// Invalid when they are more than an address space has.
pub(super) fn size(variable: &Variable) -> Result<u32> {
    u64::from(variable.ty.bytes())
        .checked_mul(u64::from(variable.vector.max(1)))
        .and_then(|element| element.checked_mul(variable.len.unwrap_or(1)))
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| *bytes < 1 << 31)
        .ok_or_else(|| Error::invalid(variable.line, format!("{} is too large", variable.name)))
}

/// What a variable's address is a multiple of.
pub(super) fn align(variable: &Variable) -> u32 {
    variable.align.max(1)
}

/// Space that is given out from low to high addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Space {
    /// The first free byte.
    pub end: u32,
}

impl Space {
    /// Gives a variable its place.
    ///
    /// # Errors
    /// Invalid when the space is full.
    pub fn place(&mut self, variable: &Variable) -> Result<u32> {
        let size = size(variable)?;
        let full = || Error::invalid(variable.line, format!("no room is left for {}", variable.name));
        let at = self.end.checked_next_multiple_of(align(variable)).ok_or_else(full)?;
        self.end = at.checked_add(size).filter(|end| *end < 1 << 31).ok_or_else(full)?;
        Ok(at)
    }
}

/// A kernel's parameters as a C struct would hold them, and their bytes together.
///
/// # Errors
/// Invalid when they are more than fits.
pub(super) fn parameters(params: &[Variable]) -> Result<(Vec<Param>, u32)> {
    let mut space = Space::default();
    let mut placed = Vec::with_capacity(params.len());
    for param in params {
        let offset = space.place(param)?;
        placed.push(Param { offset, size: space.end - offset });
    }
    Ok((placed, space.end))
}
