//! Every order shows every window, to every rank its share, and goes on from any place.

use proptest::prelude::*;
use wikigpt_dataset::{Batches, Order, Position, Tokens};

/// Tokens that say where they stand.
fn counted(n: usize) -> Tokens {
    Tokens::in_memory("numbers", &(0..n as u32).collect::<Vec<_>>())
}

/// The next batch: where its rows start. Checks that rows are runs of tokens and targets are one further.
fn starts(batches: &mut Batches, B: usize, T: usize) -> Vec<u32> {
    let (mut inputs, mut targets) = (vec![0; B * T], vec![0; B * T]);
    batches.next(&mut inputs, &mut targets);
    let rows = inputs.chunks(T).zip(targets.chunks(T)).map(|(x, y)| {
        assert!(x.windows(2).all(|w| w[1] == w[0] + 1), "a row is a run of tokens: {x:?}");
        assert!(x.iter().zip(y).all(|(x, y)| *y == x + 1), "targets are one further: {x:?} {y:?}");
        x[0]
    });
    rows.collect()
}

#[test]
fn sequential_batches_are_where_the_contract_says_and_wrap() {
    // 7 windows of 3 tokens, and one token more.
    let (B, T) = (2, 3);
    let mut batches = Batches::new(&counted(22), B, T, Order::Sequential, 0, 0, 1).unwrap();
    assert_eq!(batches.batches_per_epoch(), 3);
    let rows: Vec<u32> = (0..7).flat_map(|_| starts(&mut batches, B, T)).collect();
    assert_eq!(rows, [0, 3, 6, 9, 12, 15, 18, 0, 3, 6, 9, 12, 15, 18]);
    assert_eq!(batches.position(), Position { epoch: 2, index: 0 });
}

#[test]
fn shuffled_epochs_differ_by_seed_and_epoch() {
    let (B, T, windows) = (1, 4, 100);
    let epochs = |seed| -> Vec<Vec<u32>> {
        let mut batches = Batches::new(&counted(windows * T + 1), B, T, Order::Shuffled, seed, 0, 1).unwrap();
        (0..3).map(|_| (0..windows).flat_map(|_| starts(&mut batches, B, T)).collect()).collect()
    };
    let (one, other) = (epochs(1), epochs(2));
    assert_eq!(one, epochs(1), "the same seed, the same order");
    let orders: Vec<&Vec<u32>> = one.iter().chain(&other).collect();
    for (i, order) in orders.iter().enumerate() {
        assert!(orders[i + 1..].iter().all(|other| other != order), "two epochs or seeds with one order");
        let in_place = order.iter().zip(0..).filter(|(start, i)| **start == 4 * i).count();
        assert!(in_place < 10, "{in_place} of {windows} windows are where they were");
    }
}

/// Each window is about as often at each place: chi-square over many seeds, windows and places of a small epoch.
#[test]
fn shuffled_epochs_are_fair() {
    let (windows, trials) = (10_u64, 20_000_u64);
    let mut counts = vec![0_u64; (windows * windows) as usize];
    let tokens = counted(windows as usize + 1);
    for seed in 0..trials {
        let mut batches = Batches::new(&tokens, windows as usize, 1, Order::Shuffled, seed, 0, 1).unwrap();
        for (place, start) in starts(&mut batches, windows as usize, 1).into_iter().enumerate() {
            counts[place * windows as usize + start as usize] += 1;
        }
    }
    let expected = trials as f64 / windows as f64;
    let chi_square: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // (windows - 1)² = 81 degrees of freedom: mean 81, standard deviation 12.7; above 150 less than once in 10⁵.
    assert!(chi_square < 150.0, "chi-square {chi_square}");
}

#[test]
fn too_little_data_says_what_would_fit() {
    let message = |tokens, B, T, ranks| {
        let batches = Batches::new(&counted(tokens), B, T, Order::Shuffled, 0, 0, ranks);
        batches.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(message(33, 4, 8, 1), "", "exactly one batch");
    let short = message(32, 4, 8, 1);
    assert!(short.contains("32 tokens") && short.contains("takes 33"), "{short}");
    assert!(short.contains("a batch of up to 3") && short.contains("a context of up to 7"), "{short}");
    assert!(message(33, 4, 8, 2).contains("each of 2 ranks"));
    assert!(message(1, 4, 8, 1).contains("too short for any"));
    assert!(message(0, 4, 8, 1).contains("0 tokens"));
    assert!(message(9, 1, 9, 1).contains("a context of up to 8 would fit"));
    for (B, T, rank, ranks) in [(0, 8, 0, 1), (4, 0, 0, 1), (1, 1, 1, 1), (1, 1, 0, 0)] {
        assert!(Batches::new(&counted(100), B, T, Order::Sequential, 0, rank, ranks).is_err());
    }
    assert!(!message(usize::pow(2, 10), usize::MAX, usize::MAX, usize::MAX).is_empty(), "no overflow");
}

#[test]
fn a_place_of_other_data_is_refused() {
    let mut batches = Batches::new(&counted(101), 2, 10, Order::Shuffled, 3, 0, 1).unwrap();
    let error = batches.seek(Position { epoch: 0, index: 10 }).unwrap_err().to_string();
    assert!(error.contains("window 10") && error.contains("has 10"), "{error}");
    batches.seek(Position { epoch: u64::MAX, index: 9 }).unwrap();
    starts(&mut batches, 2, 10);
}

proptest! {
    #[test]
    fn every_window_once_an_epoch_over_all_ranks(
        windows in 1_usize..200,
        spare in 0_usize..3,
        B in 1_usize..5,
        ranks in 1_usize..4,
        seed: u64,
        shuffled: bool,
    ) {
        let (T, order) = (3, if shuffled { Order::Shuffled } else { Order::Sequential });
        prop_assume!(windows >= B * ranks);
        let tokens = counted(windows * T + 1 + spare);
        let mut all: Vec<Batches> =
            (0..ranks).map(|rank| Batches::new(&tokens, B, T, order, seed, rank, ranks).unwrap()).collect();
        // B·ranks epochs are a whole number of batches.
        let mut stream = Vec::new();
        while stream.len() < windows * B * ranks {
            for batches in &mut all {
                stream.extend(starts(batches, B, T));
            }
        }
        for epoch in stream.chunks(windows) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            prop_assert!(sorted.iter().zip(0..).all(|(start, w)| *start == T as u32 * w), "an epoch is {epoch:?}");
        }
        // One rank alone sees the same stream.
        let mut single = Batches::new(&tokens, B, T, order, seed, 0, 1).unwrap();
        let alone: Vec<u32> = (0..stream.len() / B).flat_map(|_| starts(&mut single, B, T)).collect();
        prop_assert_eq!(stream, alone);
        prop_assert_eq!(all[0].batches_per_epoch(), (windows / (B * ranks)) as u64);
    }

    #[test]
    fn resuming_anywhere_goes_on_as_if_nothing_had_happened(
        windows in 4_usize..60,
        before in 0_usize..50,
        seed: u64,
        shuffled: bool,
    ) {
        let (B, T, order) = (4, 2, if shuffled { Order::Shuffled } else { Order::Sequential });
        let tokens = counted(windows * T + 1);
        let mut whole = Batches::new(&tokens, B, T, order, seed, 0, 1).unwrap();
        (0..before).for_each(|_| drop(starts(&mut whole, B, T)));
        let json = serde_json::to_string(&whole.position()).unwrap();
        let mut resumed = Batches::new(&tokens, B, T, order, seed, 0, 1).unwrap();
        resumed.seek(serde_json::from_str(&json).unwrap()).unwrap();
        for _ in 0..20 {
            prop_assert_eq!(starts(&mut whole, B, T), starts(&mut resumed, B, T));
            prop_assert_eq!(whole.position(), resumed.position());
        }
    }
}
