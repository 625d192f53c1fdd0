//! In which order training sees the tokens.
//!
//! Tokens are cut into windows: window w holds the inputs [w·T, w·T + T) and, one further, the targets
//! [w·T + 1, w·T + T + 1). There are W = ⌊(tokens − 1) / T⌋ of them. An epoch is an order of all W windows; the epochs
//! one after the other are an endless stream of windows, and a batch takes the next B of it. So every window is seen
//! exactly once in each W of the stream, whatever B is, and a place in the stream is two integers: the epoch, and how
//! many of its windows are behind.
//!
//! - [`Order::Sequential`]: 0, 1, 2, … in each epoch, so batch i holds the tokens [i·B·T, i·B·T + B·T + 1), and after the
//!   last window the first follows.
//! - [`Order::Shuffled`]: a permutation that is new in each epoch and depends on the seed, the epoch and W only. It is
//!   computed window by window (a Feistel network on the window's number, walked until it lands below W; see Black and
//!   Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), so any place is reached at once and nothing is stored.
//!
//! With n ranks the stream is dealt out in turn: rank r takes batches r, r + n, r + 2n, … A position counts the windows
//! of all ranks, so that it is the same on each of them and a run can go on with another number of ranks.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tokens::Tokens;

/// How the windows of an epoch are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they stand in the text.
    Sequential,
    /// By a seeded permutation, new in each epoch.
    Shuffled,
}

/// A place in the stream of windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are behind.
    pub epoch: u64,
    /// Windows of this epoch that are behind, those of all ranks together.
    pub index: u64,
}

/// Batches (B,T) of tokens in a given order, for one rank of several.
#[derive(Clone, Debug)]
pub struct Batches {
    tokens: Tokens,
    B: usize,
    T: usize,
    order: Order,
    seed: u64,
    rank: u64,
    ranks: u64,
    /// W, the number of windows.
    windows: u64,
    position: Position,
}

impl Batches {
    /// Batches of B windows of T tokens, from the start, for rank `rank` of `ranks` (0 of 1 for a single process).
    ///
    /// # Errors
    /// Less data than one batch for each rank, B or T of 0, or no such rank.
    pub fn new(
        tokens: &Tokens,
        B: usize,
        T: usize,
        order: Order,
        seed: u64,
        rank: usize,
        ranks: usize,
    ) -> Result<Self> {
        if B == 0 || T == 0 {
            return Err(Error::argument(format!("batch {B} and context {T} must both be at least 1")));
        }
        if rank >= ranks {
            return Err(Error::argument(format!("rank {rank} of {ranks}: ranks are counted from 0")));
        }
        let windows = tokens.len().saturating_sub(1) / T as u64;
        let wanted = (B as u128) * (ranks as u128);
        if u128::from(windows) < wanted {
            return Err(Error::argument(too_short(tokens.len(), B, T, ranks)));
        }
        Ok(Batches {
            tokens: tokens.clone(),
            B,
            T,
            order,
            seed,
            rank: rank as u64,
            ranks: ranks as u64,
            windows,
            position: Position::default(),
        })
    }

    /// Fills `inputs` and `targets`, both (B,T), with this rank's next batch.
    ///
    /// # Panics
    /// If they are not B·T long.
    pub fn next(&mut self, inputs: &mut [u32], targets: &mut [u32]) {
        let (B, T) = (self.B, self.T);
        assert!(inputs.len() == B * T && targets.len() == B * T, "inputs and targets must be (B={B},T={T})");
        let mut place = self.advanced(self.position, self.rank * B as u64);
        for (x, y) in inputs.chunks_exact_mut(T).zip(targets.chunks_exact_mut(T)) {
            let start = self.window(place) * T as u64;
            self.tokens.read(start, x);
            self.tokens.read(start + 1, y);
            place = self.advanced(place, 1);
        }
        self.position = self.advanced(self.position, self.ranks * B as u64);
    }

    /// Where the next batch starts (that of rank 0).
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to a place that [`Batches::position`] gave, be it long ago.
    ///
    /// # Errors
    /// A place that this data does not have: it is not the data of then.
    pub fn seek(&mut self, position: Position) -> Result {
        if position.index >= self.windows {
            return Err(Error::argument(format!(
                "window {} of an epoch, but this data has {} of {} tokens: it is not the data that the position was \
                 taken in",
                position.index, self.windows, self.T
            )));
        }
        self.position = position;
        Ok(())
    }

    /// Whole batches that each rank has in an epoch; at least 1.
    pub fn batches_per_epoch(&self) -> u64 {
        self.windows / (self.B as u64 * self.ranks)
    }

    /// The window at a place.
    fn window(&self, place: Position) -> u64 {
        match self.order {
            Order::Sequential => place.index,
            Order::Shuffled => permuted(place.index, self.windows, self.seed, place.epoch),
        }
    }

    fn advanced(&self, place: Position, by: u64) -> Position {
        let index = place.index + by;
        Position { epoch: place.epoch.saturating_add(index / self.windows), index: index % self.windows }
    }
}

/// What is wrong with data that is too short, and what would fit it.
fn too_short(tokens: u64, B: usize, T: usize, ranks: usize) -> String {
    let for_ranks = if ranks == 1 { String::new() } else { format!(" for each of {ranks} ranks") };
    let needed = (B as u128 * ranks as u128).saturating_mul(T as u128).saturating_add(1);
    let windows = tokens.saturating_sub(1);
    let batch = windows / T as u64 / ranks as u64;
    let context = windows / (B as u64).saturating_mul(ranks as u64);
    let fits = match (batch, context) {
        (0, 0) => "this data is too short for any".to_owned(),
        (0, context) => format!("a context of up to {context} would fit"),
        (batch, 0) => format!("a batch of up to {batch} would fit"),
        (batch, context) => format!("a batch of up to {batch}, or a context of up to {context}, would fit"),
    };
    format!(
        "{tokens} tokens are fewer than one batch{for_ranks}, which takes {needed} (batch {B} × context {T}{}, and one \
         more): {fits}",
        if ranks == 1 { String::new() } else { format!(" × {ranks} ranks") }
    )
}

/// Rounds of the Feistel network.
const ROUNDS: u64 = 8;

/// The image of `index` under a permutation of 0..count that (seed, epoch) chooses.
pub(crate) fn permuted(index: u64, count: u64, seed: u64, epoch: u64) -> u64 {
    // Two halves of `bits` bits hold every index; below four times as many values as there are indices, so on average
    // fewer than four rounds of walking.
    let bits = (u64::BITS - (count - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1 << bits) - 1;
    let key = mix(seed ^ mix(epoch));
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> bits, value & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (mix(key ^ mix(round << 32 | right)) & mask));
        }
        value = left << bits | right;
        if value < count {
            return value;
        }
    }
}

/// SplitMix64's output function (Steele, Lea and Flood 2014): a bijection that spreads every bit over all others.
pub(crate) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
