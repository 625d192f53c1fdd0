//! Texts of like length in one batch, so that little of it is padding.
//!
//! A bucket holds the texts whose lengths become the same when they are rounded up. An epoch takes the buckets from the
//! shortest to the longest, each in an order drawn anew, and cuts batches of B texts off; what is left of a bucket goes on with
//! the next. Then the batches are put in an order drawn anew too. All of it follows from the seed and the epoch.

use crate::order::mix;

/// A batch: which texts, and how long its rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Positions of a row: those of the longest bucket in it.
    pub T: usize,
    /// The texts' numbers, at most B.
    pub texts: Vec<usize>,
}

/// The buckets of a set of texts.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Each text's bucket: its length, rounded up.
    lengths: Vec<usize>,
    B: usize,
    seed: u64,
}

impl Buckets {
    /// Of texts of these lengths in tokens, none of which is above `longest`; batches of B.
    ///
    /// # Panics
    /// When B is 0.
    pub fn new(lengths: impl IntoIterator<Item = usize>, longest: usize, B: usize, seed: u64) -> Buckets {
        assert!(B > 0, "a batch holds a text at least");
        // At most 16 lengths: each is a shape of its own to a device.
        let step = longest.div_ceil(16).next_multiple_of(8);
        let lengths = lengths.into_iter().map(|length| length.next_multiple_of(step).min(longest)).collect();
        Buckets { lengths, B, seed }
    }

    /// Batches of every epoch.
    pub fn batches(&self) -> usize {
        self.lengths.len().div_ceil(self.B)
    }

    /// The batches of an epoch: every text once.
    pub fn epoch(&self, epoch: u64) -> Vec<Chosen> {
        let key = mix(self.seed ^ mix(epoch));
        let mut texts: Vec<usize> = (0..self.lengths.len()).collect();
        texts.sort_by_cached_key(|text| (self.lengths[*text], mix(key ^ *text as u64), *text));
        let mut batches = self.cut(&texts);
        let mut at = 0;
        batches.sort_by_cached_key(|_| {
            at += 1;
            mix(!key ^ at)
        });
        batches
    }

    /// The batches from the shortest texts to the longest, in the same order each time.
    pub fn sorted(&self) -> Vec<Chosen> {
        let mut texts: Vec<usize> = (0..self.lengths.len()).collect();
        texts.sort_by_key(|text| self.lengths[*text]);
        self.cut(&texts)
    }

    fn cut(&self, texts: &[usize]) -> Vec<Chosen> {
        let length = |texts: &[usize]| texts.iter().map(|text| self.lengths[*text]).max().unwrap_or(0);
        texts.chunks(self.B).map(|texts| Chosen { T: length(texts), texts: texts.to_vec() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_text_comes_once_an_epoch_among_its_like() {
        let lengths: Vec<usize> = (0..103).map(|i| 1 + i * 37 % 50).collect();
        let buckets = Buckets::new(lengths.iter().copied(), 50, 8, 7);
        assert_eq!(buckets.batches(), 13);
        for epoch in [buckets.epoch(0), buckets.epoch(1), buckets.sorted()] {
            assert_eq!(epoch.len(), 13);
            let mut all: Vec<usize> = epoch.iter().flat_map(|chosen| chosen.texts.clone()).collect();
            all.sort();
            assert!(all.into_iter().eq(0..103));
            for Chosen { T, texts } in &epoch {
                assert!(texts.iter().all(|text| lengths[*text] <= *T));
                assert!([8, 16, 24, 32, 40, 48, 50].contains(T), "{T}");
            }
            // Less than one bucket's step is padding, but where a bucket's rest goes on with the next.
            let padded: usize = epoch.iter().map(|chosen| chosen.T * chosen.texts.len()).sum();
            assert!(padded < lengths.iter().sum::<usize>() + 103 * 8, "{padded}");
        }
        assert_eq!(buckets.epoch(3), buckets.epoch(3));
        assert_ne!(buckets.epoch(3), buckets.epoch(4));
        let other = Buckets::new(lengths.iter().copied(), 50, 8, 8);
        assert_ne!(buckets.epoch(3), other.epoch(3));
        // Other texts come together in another epoch.
        let company = |epoch| {
            let sets = buckets.epoch(epoch).into_iter().map(|chosen| BTreeSet::from_iter(chosen.texts));
            sets.collect::<BTreeSet<_>>()
        };
        assert!(company(3).intersection(&company(4)).count() <= 1);
        let shortest_first = |epoch: &[Chosen]| epoch.is_sorted_by_key(|chosen| chosen.T);
        assert!(shortest_first(&buckets.sorted()) && !shortest_first(&buckets.epoch(0)));
    }

    #[test]
    fn few_texts_make_a_small_batch() {
        let buckets = Buckets::new([3, 9], 1024, 16, 0);
        assert_eq!(buckets.sorted(), [Chosen { T: 64, texts: vec![0, 1] }]);
    }
}
