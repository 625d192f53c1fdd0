//! Copies that wait to be collected.

use super::Float;
use crate::{Error, Result, Ticket};

/// The copies by number; a number is used again once its copy has been collected, and so is its memory.
#[derive(Default)]
pub struct Fetched {
    copies: Vec<Vec<f32>>,
    free: Vec<usize>,
}

impl Fetched {
    /// Copies.
    pub fn put<F: Float>(&mut self, src: &[F]) -> Ticket {
        let number = self.free.pop().unwrap_or_else(|| {
            self.copies.push(Vec::new());
            // Room for every number, so that collecting allocates nothing.
            self.free.reserve(self.copies.len());
            self.copies.len() - 1
        });
        let copy = &mut self.copies[number];
        copy.clear();
        copy.extend(src.iter().map(|x| Float::to_f32(*x)));
        Ticket { number, len: src.len() }
    }

    /// Gives a copy, once.
    pub fn take(&mut self, dst: &mut [f32], ticket: Ticket) -> Result {
        match self.copies.get(ticket.number).filter(|copy| copy.len() == dst.len()) {
            Some(copy) if !self.free.contains(&ticket.number) => dst.copy_from_slice(copy),
            _ => {
                let message = format!("copy {} was not fetched from this backend", ticket.number);
                return Err(Error::Argument { op: "collect", message });
            }
        }
        self.free.push(ticket.number);
        Ok(())
    }
}
