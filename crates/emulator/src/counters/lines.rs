//! A set of sectors, kept as bits in pieces of 64 KiB of address space.

use std::collections::HashMap;
use std::ops::Range;

/// Sectors of a piece.
const PIECE: u64 = 64 * 32;
/// Their bits.
type Bits = [u64; 32];

/// A set of sectors of global memory, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Sectors {
    /// Where a piece's bits are.
    places: HashMap<u64, usize>,
    bits: Vec<Bits>,
    /// The piece that was touched last: accesses mostly stay in it.
    last: Option<(u64, usize)>,
}

impl Sectors {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.bits.iter().flatten().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// Adds sectors.
    pub fn insert(&mut self, sectors: &[u64]) {
        for sector in sectors {
            let bits = self.piece(sector / PIECE);
            bits[(sector % PIECE / 64) as usize] |= 1 << (sector % 64);
        }
    }

    /// Adds all sectors of a range.
    pub fn insert_range(&mut self, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let (word, end) = (at / 64, range.end.min((at / 64 + 1) * 64));
            let mask = u64::MAX >> (64 - (end - at)) << (at % 64);
            self.piece(at / PIECE)[(word % 32) as usize] |= mask;
            at = end;
        }
    }

    /// Adds those of another set.
    pub fn merge(&mut self, other: &Sectors) {
        for (number, place) in &other.places {
            for (word, more) in self.piece(*number).iter_mut().zip(&other.bits[*place]) {
                *word |= more;
            }
        }
    }

    #[inline]
    fn piece(&mut self, number: u64) -> &mut Bits {
        if let Some((last, place)) = self.last
            && last == number
        {
            return &mut self.bits[place];
        }
        let next = self.bits.len();
        let place = *self.places.entry(number).or_insert(next);
        if place == next {
            self.bits.push([0; 32]);
        }
        self.last = Some((number, place));
        &mut self.bits[place]
    }
}

impl PartialEq for Sectors {
    fn eq(&self, other: &Sectors) -> bool {
        // Pieces are made when a sector is put in, so none is empty.
        self.places.len() == other.places.len()
            && self.places.iter().all(|(number, place)| {
                other.places.get(number).is_some_and(|there| self.bits[*place] == other.bits[*there])
            })
    }
}

impl Eq for Sectors {}
