//! Counts against figures computed by hand.

use super::{Counters, Sectors};
use crate::check::Access;
use crate::device::Device;
use crate::exec::Launch;
use crate::exec::harness::launch;
use crate::exec::lanes::{ALL, WideRow};
use crate::memory::Memory;
use crate::program::{Class, Program};

const BASE: u64 = 0x7300_0000_0000;

fn each(f: impl Fn(u64) -> u64) -> WideRow {
    std::array::from_fn(|lane| f(lane as u64))
}

/// Sectors of one load by all lanes.
fn sectors(bytes: u32, active: u32, f: impl Fn(u64) -> u64) -> u64 {
    let mut counters = Counters::default();
    counters.global(Access::Read, &each(|lane| BASE + f(lane)), active, bytes);
    assert_eq!(counters.global_load_requests, 1);
    assert_eq!(counters.global_load_bytes, u64::from(active.count_ones() * bytes));
    assert_eq!(counters.global_loaded.len(), counters.global_load_sectors);
    counters.global_load_sectors
}

/// Wavefronts and conflicts of one load by lanes of a mask.
fn passes(bytes: u32, active: u32, f: impl Fn(u64) -> u64) -> (u64, u64) {
    let mut counters = Counters::default();
    counters.shared(Access::Read, &each(f), active, bytes);
    (counters.shared_wavefronts, counters.shared_conflicts)
}

#[test]
fn a_coalesced_request_takes_its_bytes_in_sectors() {
    assert_eq!(sectors(4, ALL, |lane| 4 * lane), 4);
    assert_eq!(sectors(8, ALL, |lane| 8 * lane), 8);
    assert_eq!(sectors(16, ALL, |lane| 16 * lane), 16);
    assert_eq!(sectors(1, ALL, |lane| lane), 1);
    assert_eq!(sectors(2, ALL, |lane| 2 * lane), 2);
    // Backwards and interleaved: the order of the lanes does not matter.
    assert_eq!(sectors(4, ALL, |lane| 4 * (31 - lane)), 4);
    assert_eq!(sectors(4, ALL, |lane| 4 * (lane % 2 * 16 + lane / 2)), 4);
}

#[test]
fn a_misaligned_request_takes_one_sector_more() {
    assert_eq!(sectors(4, ALL, |lane| 4 + 4 * lane), 5);
    assert_eq!(sectors(4, ALL, |lane| 28 + 4 * lane), 5);
    assert_eq!(sectors(4, ALL, |lane| 32 + 4 * lane), 4);
    assert_eq!(sectors(16, ALL, |lane| 16 + 16 * lane), 17);
}

#[test]
fn a_strided_request_takes_a_sector_for_each_lane_that_has_one_of_its_own() {
    assert_eq!(sectors(4, ALL, |lane| 8 * lane), 8);
    assert_eq!(sectors(4, ALL, |lane| 32 * lane), 32);
    assert_eq!(sectors(4, ALL, |lane| 4096 * lane), 32);
    assert_eq!(sectors(4, ALL, |_| 64), 1, "all lanes read one word");
    assert_eq!(sectors(4, 0x0000_00FF, |lane| 4 * lane), 1, "a quarter of the warp");
    assert_eq!(sectors(4, 0x8000_0001, |lane| 4 * lane), 2, "its first and its last lane");
}

#[test]
fn an_access_that_passes_a_sector_takes_both() {
    assert_eq!(sectors(4, 1, |_| 30), 2);
    assert_eq!(sectors(4, ALL, |lane| 30 + 32 * (lane % 2)), 3);
}

#[test]
fn a_sector_is_distinct_once_for_the_launch() {
    let mut first = Counters::default();
    for _ in 0..3 {
        first.global(Access::Read, &each(|lane| BASE + 4 * lane), ALL, 4);
    }
    first.global(Access::Write, &each(|lane| BASE + 4 * lane), ALL, 4);
    assert_eq!((first.global_load_sectors, first.global_loaded.len()), (12, 4));
    assert_eq!((first.global_store_sectors, first.global_stored.len()), (4, 4));

    // Another cluster reads two of the same sectors and two new ones.
    let mut second = Counters::default();
    second.global(Access::Read, &each(|lane| BASE + 64 + 4 * lane), ALL, 4);
    first.merge(&second);
    assert_eq!((first.global_load_sectors, first.global_loaded.len()), (16, 6));
    assert_eq!(first.global_load_bytes, 4 * 128);

    // An atomic moves its sector both ways, and its bytes are nobody's.
    first.global(Access::Atomic, &each(|_| BASE + 4096), ALL, 4);
    assert_eq!((first.global_loaded.len(), first.global_stored.len()), (7, 5));
    assert_eq!((first.global_load_bytes, first.global_store_bytes), (512, 128));
}

#[test]
fn bulk_copies_count_distinct_sectors_and_bytes() {
    let mut counters = Counters::default();
    counters.bulk(Access::Read, BASE + 16, 1 << 20);
    counters.bulk(Access::Read, BASE + 16, 1 << 20);
    assert_eq!(counters.global_loaded.len(), (1 << 15) + 1);
    assert_eq!((counters.bulk_load_bytes, counters.global_load_sectors), (2 << 20, 0));
    counters.bulk(Access::Write, BASE, 32);
    counters.bulk(Access::Write, BASE, 0);
    assert_eq!((counters.global_stored.len(), counters.bulk_store_bytes), (1, 32));
}

#[test]
fn a_set_of_sectors_is_its_members_however_they_came_in() {
    let (mut a, mut b) = (Sectors::default(), Sectors::default());
    a.insert_range(60..5000);
    for sector in (60..5000).rev() {
        b.insert(&[sector]);
    }
    assert_eq!((a.len(), b.len()), (4940, 4940));
    assert_eq!(a, b);
    b.insert(&[5000]);
    assert_ne!(a, b);
    a.merge(&b);
    assert_eq!(a, b);
    b.insert(&[1 << 40]);
    assert_ne!(a, b);
    assert!(Sectors::default().is_empty() && !a.is_empty());
}

#[test]
fn words_of_different_banks_take_one_pass_up_to_128_bytes() {
    assert_eq!(passes(4, ALL, |lane| 4 * lane), (1, 0));
    assert_eq!(passes(4, ALL, |lane| 4 * (lane * 7 % 32)), (1, 0), "a permutation");
    assert_eq!(passes(8, ALL, |lane| 8 * lane), (2, 0), "two half-warps");
    assert_eq!(passes(16, ALL, |lane| 16 * lane), (4, 0), "four quarters");
    assert_eq!(passes(16, 0x0000_00FF, |lane| 16 * lane), (1, 0), "one quarter");
    assert_eq!(passes(2, ALL, |lane| 2 * lane), (1, 0));
    assert_eq!(passes(1, ALL, |lane| lane), (1, 0));
}

#[test]
fn a_word_that_many_lanes_want_is_given_at_once() {
    assert_eq!(passes(4, ALL, |_| 1024), (1, 0));
    assert_eq!(passes(4, ALL, |lane| 4 * (lane / 8)), (1, 0));
    assert_eq!(passes(8, ALL, |_| 8), (2, 0));
    assert_eq!(passes(16, ALL, |_| 16), (4, 0));
    assert_eq!(
        passes(1, ALL, |lane| 128 * (lane / 16) + lane % 4),
        (2, 1),
        "two words of a bank, four bytes each"
    );
}

#[test]
fn different_words_of_a_bank_come_one_after_another() {
    assert_eq!(passes(4, ALL, |lane| 8 * lane), (2, 1), "stride of 2 words");
    assert_eq!(passes(4, ALL, |lane| 16 * lane), (4, 3));
    assert_eq!(passes(4, ALL, |lane| 128 * lane), (32, 31), "a column of 32 words");
    assert_eq!(passes(4, ALL, |lane| 132 * lane), (1, 0), "the same column, padded");
    assert_eq!(passes(4, ALL, |lane| 12 * lane), (1, 0), "odd strides meet no conflict");
    assert_eq!(passes(4, 0x0000_000F, |lane| 128 * lane), (4, 3), "four lanes");
    assert_eq!(passes(8, ALL, |lane| 16 * lane), (4, 2), "each half twice");
    assert_eq!(passes(8, ALL, |lane| 128 * lane), (32, 30));
    assert_eq!(passes(16, ALL, |lane| 32 * lane), (8, 4), "each quarter twice");
    assert_eq!(
        passes(16, ALL, |lane| 128 * lane),
        (32, 28),
        "eight rows of 128 bytes, as ldmatrix without a swizzle"
    );
    assert_eq!(passes(16, ALL, |lane| 128 * lane + 16 * (lane % 8)), (4, 0), "the same, swizzled");
}

#[test]
fn atomics_on_one_word_come_one_after_another() {
    let mut counters = Counters::default();
    counters.shared(Access::Atomic, &each(|_| 64), ALL, 4);
    assert_eq!((counters.shared_wavefronts, counters.shared_conflicts), (32, 31));
    let mut counters = Counters::default();
    counters.shared(Access::Atomic, &each(|lane| 4 * lane), ALL, 4);
    assert_eq!((counters.shared_wavefronts, counters.shared_conflicts), (1, 0));
}

/// A launch to name in a line.
fn with_launch<T>(f: impl FnOnce(&Launch) -> T) -> T {
    let program = Program { name: "k\"\n".to_owned(), shared_bytes: 48, ..Program::default() };
    let memory = Memory::default();
    let device = Device::of("sm_90a").expect("it is known");
    f(&Launch { dynamic_shared: 16, number: 7, ..launch(&program, &[], 2, &memory, device) })
}

#[test]
fn a_launch_is_one_line_of_json() {
    let mut counters = Counters::default();
    counters.warp_instructions[Class::Global as usize] = 3;
    counters.lane_instructions[Class::Tensor as usize] = 96;
    counters.global(Access::Read, &each(|lane| BASE + 8 * lane), ALL, 4);
    counters.global(Access::Read, &each(|lane| BASE + lane), ALL, 1);
    counters.global(Access::Write, &each(|lane| BASE + 4 * lane), ALL, 4);
    counters.shared(Access::Write, &each(|lane| 8 * lane), ALL, 4);
    counters.tensor_flops = u64::MAX;
    let zeros = |set: &str| {
        let classes = Class::ALL.map(|(_, name)| format!("\"{name}\":0")).join(",");
        let (name, count) = set.split_once(' ').expect("a class and its count");
        classes.replace(&format!("\"{name}\":0"), &format!("\"{name}\":{count}"))
    };
    let expected = format!(
        "{{\"launch\":7,\"kernel\":\"k\\\"\\u000a\",\"grid\":[2,1,1],\"block\":[32,1,1],\"cluster\":[2,1,1],\
         \"static_shared_bytes\":48,\"dynamic_shared_bytes\":16,\
         \"warp_instructions\":{{{}}},\"lane_instructions\":{{{}}},\
         \"global_load_bytes\":160,\"global_load_requests\":2,\"global_load_sectors\":9,\
         \"global_load_sectors_per_request\":4.5,\"global_load_distinct_sectors\":8,\
         \"global_store_bytes\":128,\"global_store_requests\":1,\"global_store_sectors\":4,\
         \"global_store_sectors_per_request\":4,\"global_store_distinct_sectors\":4,\"dram_floor_bytes\":384,\
         \"local_load_bytes\":0,\"local_store_bytes\":0,\"shared_load_bytes\":0,\"shared_store_bytes\":128,\
         \"shared_requests\":1,\"shared_wavefronts\":2,\"shared_conflicts\":1,\
         \"tensor_flops\":18446744073709551615,\"special_operations\":0,\"atomics\":0,\"barriers\":0,\
         \"copy_bytes\":0,\"bulk_load_bytes\":0,\"bulk_store_bytes\":0}}",
        zeros("global 3"),
        zeros("tensor 96"),
    );
    assert_eq!(with_launch(|launch| counters.json(launch)), expected);
}

#[test]
fn lines_of_launches_at_once_stay_whole() {
    let file = std::env::temp_dir().join(format!("wikigpt-counters-{}.jsonl", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let counters = Counters::default();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    with_launch(|launch| counters.append(launch, &file)).expect("the file can be written");
                }
            });
        }
    });
    let text = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it is there");
    let line = with_launch(|launch| counters.json(launch));
    assert_eq!(text.lines().count(), 160);
    assert!(text.ends_with('\n') && text.lines().all(|found| found == line));
    with_launch(|launch| counters.append(launch, &std::env::temp_dir())).expect_err("a folder is no file");
}

#[test]
fn merging_adds_every_count() {
    // Every count is 1 in the first and 2 in the second: a field that merge forgot would still be 1.
    let mut sum = ones(1);
    sum.merge(&ones(2));
    assert_eq!(
        sum,
        Counters { global_loaded: ones(2).global_loaded, global_stored: ones(2).global_stored, ..ones(3) }
    );
}

fn ones(count: u64) -> Counters {
    let mut sectors = Sectors::default();
    sectors.insert_range(0..count);
    Counters {
        warp_instructions: [count; Class::ALL.len()],
        lane_instructions: [count; Class::ALL.len()],
        global_load_bytes: count,
        global_store_bytes: count,
        global_load_sectors: count,
        global_store_sectors: count,
        global_load_requests: count,
        global_store_requests: count,
        global_loaded: sectors.clone(),
        global_stored: sectors,
        local_load_bytes: count,
        local_store_bytes: count,
        shared_load_bytes: count,
        shared_store_bytes: count,
        shared_requests: count,
        shared_wavefronts: count,
        shared_conflicts: count,
        tensor_flops: count,
        special_operations: count,
        atomics: count,
        barriers: count,
        copy_bytes: count,
        bulk_load_bytes: count,
        bulk_store_bytes: count,
    }
}
