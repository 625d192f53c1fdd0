//! Drawing tokens where their logits are: what comes back is a token a sequence.

use wikigpt_ops::{Act, IGNORE, Knobs, Ops, Slot, Stat, Tok};

use crate::arena::size;
use crate::sampler::{Sampler, damaged};
use crate::{Error, Result};

/// What the text of a slot holds: a bit a token.
struct Held {
    bits: Vec<u32>,
    /// Whether the backend has the same bits, and that of the token that was drawn since, if there is one.
    there: bool,
    drawn: Option<u32>,
}

/// The logits of a pass.
pub struct Pass<'a> {
    /// (B,Vp), in the order of `slots`.
    pub logits: Slot<Act>,
    /// The slots, and the same as numbers on the backend (B).
    pub slots: &'a [usize],
    pub rows: Slot<Tok>,
    pub V: usize,
}

/// What drawing needs besides logits, for as many sequences as a generator has slots.
pub struct Drawing {
    tokens: Slot<Tok>,
    uniforms: Slot<Tok>,
    knobs: Slot<Stat>,
    /// (slots,⌈V/32⌉), once a text is penalized for what it holds.
    seen: Option<Slot<Tok>>,
    held: Vec<Held>,
    /// On their way to the backend, and back.
    next_knobs: Vec<f32>,
    next_uniforms: Vec<u32>,
    drawn: Vec<u32>,
}

impl Drawing {
    /// For so many slots, and a vocabulary of V.
    pub fn new<O: Ops>(ops: &mut O, slots: usize, V: usize) -> Result<Drawing> {
        let held = || Held { bits: vec![0; V.div_ceil(32)], there: false, drawn: None };
        let knobs = size(&[slots, Knobs::LEN])?;
        Ok(Drawing {
            tokens: ops.alloc(slots)?,
            uniforms: ops.alloc(slots)?,
            knobs: ops.alloc(knobs)?,
            seen: None,
            held: (0..slots).map(|_| held()).collect(),
            next_knobs: vec![0.0; knobs],
            next_uniforms: vec![0; slots],
            drawn: vec![0; slots],
        })
    }

    /// What it allocates: tokens, of what texts hold too, and statistics.
    pub fn room(slots: usize, V: usize) -> Result<(usize, usize)> {
        Ok((size(&[slots, 2 + V.div_ceil(32)])?, size(&[slots, Knobs::LEN])?))
    }

    /// Gives the memory back.
    pub fn free<O: Ops>(&mut self, ops: &mut O) {
        // As with the generator's own: there is no way for this to fail, and no one to tell.
        let _ = ops.free(self.tokens).and(ops.free(self.uniforms)).and(ops.free(self.knobs));
        if let Some(seen) = self.seen {
            let _ = ops.free(seen);
        }
    }

    /// A slot's text begins anew with these tokens.
    pub fn begin(&mut self, slot: usize, tokens: &[u32]) {
        self.held[slot].bits.fill(0);
        self.extend(slot, tokens);
    }

    /// A slot's text goes on with several tokens.
    pub fn extend(&mut self, slot: usize, tokens: &[u32]) {
        let held = &mut self.held[slot];
        tokens.iter().for_each(|token| held.set(*token));
        (held.there, held.drawn) = (false, None);
    }

    /// A slot's text goes on with a token.
    pub fn go_on(&mut self, slot: usize, token: u32) {
        let held = &mut self.held[slot];
        held.set(token);
        // The token that was drawn, usually.
        held.there &= held.drawn.take() == Some(token);
    }

    /// A slot's text becomes another's.
    pub fn fork(&mut self, from: usize, to: usize) {
        let mut bits = std::mem::take(&mut self.held[to].bits);
        bits.copy_from_slice(&self.held[from].bits);
        self.held[to] = Held { bits, there: false, drawn: None };
    }

    /// Draws a token for each of some sequences of a pass; the samplers come with their slots. [`token`](Drawing::token) gives it.
    pub fn draw<O: Ops>(
        &mut self,
        ops: &mut O,
        pass: &Pass,
        samplers: &mut [(usize, &mut Sampler)],
    ) -> Result {
        let B = pass.slots.len();
        // Of those that nobody asks for, something is drawn too, and nobody looks at it.
        self.next_uniforms[..B].fill(0);
        for b in 0..B {
            self.next_knobs[b * Knobs::LEN..][..Knobs::LEN].copy_from_slice(&Knobs::GREEDY.row());
        }
        for (slot, sampler) in &mut *samplers {
            let b = pass.row_of(*slot)?;
            let knobs = sampler.knobs();
            self.next_knobs[b * Knobs::LEN..][..Knobs::LEN].copy_from_slice(&knobs.row());
            if knobs.temperature > 0.0 {
                self.next_uniforms[b] = sampler.uniform();
            }
        }
        // A token that was drawn and not taken has left its bit.
        for slot in pass.slots {
            let held = &mut self.held[*slot];
            held.there &= held.drawn.take().is_none();
        }
        let penalized = samplers.iter().filter(|(_, sampler)| sampler.knobs().penalty != 1.0);
        let seen = self.bring(ops, penalized.map(|(slot, _)| *slot))?;
        let (tokens, uniforms) = (self.tokens.slice(0..B), self.uniforms.slice(0..B));
        let knobs = self.knobs.slice(0..B * Knobs::LEN);
        ops.upload(uniforms, &self.next_uniforms[..B])?;
        ops.upload(knobs, &self.next_knobs[..B * Knobs::LEN])?;
        let rows = seen.map(|_| pass.rows);
        ops.sample(tokens, seen, pass.logits, knobs, uniforms, rows, B, pass.V, pass.Vp())?;
        ops.download(&mut self.drawn[..B], tokens)?;
        // Without `seen` nothing was left.
        if seen.is_some() {
            for (slot, drawn) in pass.slots.iter().zip(&self.drawn) {
                self.held[*slot].drawn = Some(*drawn).filter(|drawn| *drawn != IGNORE);
            }
        }
        Ok(())
    }

    /// The token that the last [`draw`](Drawing::draw) brought for a slot.
    pub fn token<O: Ops>(&self, ops: &mut O, pass: &Pass, slot: usize) -> Result<u32> {
        let b = pass.row_of(slot)?;
        match self.drawn[b] {
            IGNORE => {
                let mut logits = vec![0.0; pass.Vp()];
                ops.download(&mut logits, pass.row(b))?;
                let nothing = || Error::Config("there is no token to draw: no logit is finite".into());
                Err(damaged(&logits[..pass.V]).unwrap_or_else(nothing))
            }
            token => Ok(token),
        }
    }

    /// Sees to it that the backend has what the texts of some slots hold; nothing where there are none.
    fn bring<O: Ops>(
        &mut self,
        ops: &mut O,
        slots: impl Iterator<Item = usize>,
    ) -> Result<Option<Slot<Tok>>> {
        let mut used = None;
        for slot in slots {
            let seen = match self.seen {
                Some(seen) => seen,
                None => *self.seen.insert(ops.alloc(size(&[self.held.len(), self.held[slot].bits.len()])?)?),
            };
            let held = &mut self.held[slot];
            let words = held.bits.len();
            if !held.there {
                ops.upload(seen.slice(slot * words..(slot + 1) * words), &held.bits)?;
                held.there = true;
            }
            used = Some(seen);
        }
        Ok(used)
    }
}

impl Held {
    fn set(&mut self, token: u32) {
        self.bits[token as usize / 32] |= 1 << (token % 32);
    }
}

impl Pass<'_> {
    /// The sequence of a slot.
    pub fn row_of(&self, slot: usize) -> Result<usize> {
        let row = self.slots.iter().position(|passed| *passed == slot);
        row.ok_or_else(|| Error::Config(format!("the last prompt or step was not slot {slot}'s")))
    }

    fn Vp(&self) -> usize {
        self.logits.len / self.slots.len()
    }

    /// The logits (Vp) of a sequence.
    pub fn row(&self, b: usize) -> Slot<Act> {
        self.logits.slice(b * self.Vp()..(b + 1) * self.Vp())
    }
}
