//! Several short sequences in one row.
//!
//! A model computes rows of T positions, whatever stands in them. Sequences are laid into rows in a seeded order, each into the first
//! row that has room for it (first fit). Attention is kept inside each, so that it is as if it stood alone.

use crate::order::permuted;

/// Which sequences stand in which row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// The numbers of the sequences in each row, in their order.
    pub rows: Vec<Vec<usize>>,
    /// Positions of all rows, T of each.
    pub positions: u64,
    /// Positions that nothing stands in.
    pub empty: u64,
}

impl Packing {
    /// The share of positions that nothing stands in.
    pub fn waste(&self) -> f64 {
        if self.positions == 0 { 0.0 } else { self.empty as f64 / self.positions as f64 }
    }

    /// The row at a place of an epoch: all of them, in an order that (seed, epoch) chooses.
    ///
    /// # Panics
    /// When there are no more rows than `place`.
    pub fn row(&self, place: usize, seed: u64, epoch: u64) -> &Vec<usize> {
        assert!(place < self.rows.len(), "row {place} of {}", self.rows.len());
        &self.rows[permuted(place as u64, self.rows.len() as u64, seed, epoch) as usize]
    }

    fn new(rows: Vec<Vec<usize>>, lengths: &[usize], T: usize) -> Self {
        let positions = (rows.len() * T) as u64;
        let filled: usize = rows.iter().flatten().map(|sequence| lengths[*sequence]).sum();
        Packing { rows, positions, empty: positions - filled as u64 }
    }
}

/// Lays sequences of the given lengths into rows of T. The order depends on (seed, epoch); `None` takes them as they come.
///
/// # Panics
/// On a length that is 0 or above T.
pub fn pack(lengths: &[usize], T: usize, order: Option<(u64, u64)>) -> Packing {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut first_fit = FirstFit::new(lengths.len(), T);
    for sequence in ordered(lengths.len(), order) {
        let length = lengths[sequence];
        assert!((1..=T).contains(&length), "sequence {sequence} takes {length} positions of T={T}");
        let row = first_fit.place(length);
        if row == rows.len() {
            rows.push(Vec::new());
        }
        rows[row].push(sequence);
    }
    Packing::new(rows, lengths, T)
}

/// A row for each sequence, in the same order: what [`pack`] is compared with.
pub fn one_a_row(lengths: &[usize], T: usize, order: Option<(u64, u64)>) -> Packing {
    Packing::new(ordered(lengths.len(), order).map(|sequence| vec![sequence]).collect(), lengths, T)
}

fn ordered(count: usize, order: Option<(u64, u64)>) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| match order {
        Some((seed, epoch)) => permuted(place as u64, count as u64, seed, epoch) as usize,
        None => place,
    })
}

/// The room that is left in each row, as a tree of which every node holds the most room below it: the first row with enough is found
/// in as many steps as the tree is high.
struct FirstFit {
    /// The root at 1, the children of n at 2n and 2n + 1, the rows from `leaves` on.
    most: Vec<usize>,
    leaves: usize,
}

impl FirstFit {
    /// Rows for at most so many sequences.
    fn new(count: usize, T: usize) -> Self {
        let leaves = count.next_power_of_two();
        FirstFit { most: vec![T; 2 * leaves], leaves }
    }

    /// Takes room in the first row that has it.
    fn place(&mut self, length: usize) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node = if self.most[2 * node] >= length { 2 * node } else { 2 * node + 1 };
        }
        let row = node - self.leaves;
        self.most[node] -= length;
        while node > 1 {
            node /= 2;
            self.most[node] = self.most[2 * node].max(self.most[2 * node + 1]);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// First fit as its definition has it.
    fn plain(lengths: &[usize], T: usize) -> Vec<Vec<usize>> {
        let mut rows: Vec<(usize, Vec<usize>)> = Vec::new();
        for (sequence, length) in lengths.iter().enumerate() {
            match rows.iter_mut().find(|(room, _)| room >= length) {
                Some((room, row)) => {
                    *room -= length;
                    row.push(sequence);
                }
                None => rows.push((T - length, vec![sequence])),
            }
        }
        rows.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn each_goes_where_there_is_room_first() {
        let packing = pack(&[5, 4, 3, 2, 6, 1], 8, None);
        assert_eq!(packing.rows, [vec![0, 2], vec![1, 3, 5], vec![4]]);
        assert_eq!((packing.positions, packing.empty), (24, 3));
        assert_eq!(packing.waste(), 0.125);
        assert_eq!(one_a_row(&[5, 4, 3], 8, None).waste(), 0.5);
        assert_eq!(pack(&[], 8, Some((1, 0))), Packing::default());
    }

    proptest! {
        #[test]
        fn every_sequence_stands_in_one_row_once(
            lengths in prop::collection::vec(1..=20_usize, 0..80), seed: u64, epoch in 0..4_u64
        ) {
            let packing = pack(&lengths, 20, Some((seed, epoch)));
            let mut seen: Vec<usize> = packing.rows.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..lengths.len()));
            for row in &packing.rows {
                prop_assert!(!row.is_empty() && row.iter().map(|i| lengths[*i]).sum::<usize>() <= 20);
            }
            let filled: usize = lengths.iter().sum();
            prop_assert_eq!(packing.positions - packing.empty, filled as u64);
            prop_assert_eq!(&packing, &pack(&lengths, 20, Some((seed, epoch))), "a seed repeats");
            let mut rows: Vec<_> = (0..packing.rows.len()).map(|place| packing.row(place, seed, epoch)).collect();
            rows.sort();
            let mut all: Vec<_> = packing.rows.iter().collect();
            all.sort();
            prop_assert_eq!(rows, all, "an epoch has every row once");
        }

        #[test]
        fn it_is_first_fit(lengths in prop::collection::vec(1..=20_usize, 0..80)) {
            prop_assert_eq!(pack(&lengths, 20, None).rows, plain(&lengths, 20));
        }
    }
}
