//! When copies land, what they move, and what is refused.

use crate::exec::harness::{Machine, SHARED_BASE, UNWRITTEN, number, numbers};
use crate::exec::lanes::{ALL, lanes};
use crate::fault::FaultKind;

/// `bytes` of each lane: from numbered memory, side by side.
fn machine(bytes: u64) -> Machine {
    let mut m = Machine::unchecked();
    let memory = m.numbered(32 * 16);
    m.set("%rd1", |lane| u128::from(memory.base + bytes * lane));
    m.set("%r1", |lane| u128::from(SHARED_BASE + bytes * lane));
    m
}

fn shared(m: &Machine, offset: u64, len: usize) -> Vec<u8> {
    m.cluster.blocks[0].shared[(SHARED_BASE + offset) as usize..][..len].to_vec()
}

const NOTHING: u8 = UNWRITTEN as u8;

#[test]
fn a_copy_lands_where_a_wait_needs_it_and_not_before() {
    for (form, bytes) in [("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)] {
        for mask in [ALL, 0x8001_00F0] {
            let mut m = machine(bytes);
            m.run_lanes(
                mask,
                &format!("cp.async.{form}.shared.global [%r1], [%rd1], {bytes}; cp.async.commit_group;"),
            )
            .expect("no fault");
            assert!(shared(&m, 0, 512).iter().all(|byte| *byte == NOTHING), "nothing has waited");
            m.run_lanes(mask, "cp.async.wait_group 1;").expect("no fault");
            assert!(shared(&m, 0, 512).iter().all(|byte| *byte == NOTHING), "one group may be pending");
            m.run_lanes(mask, "cp.async.wait_group 0;").expect("no fault");
            let found = shared(&m, 0, 512);
            for at in 0..512 {
                let lane = at / bytes;
                let copied = lane < 32 && mask >> lane & 1 == 1;
                assert_eq!(
                    found[at as usize],
                    if copied { number(at) } else { NOTHING },
                    ".{form} {bytes}, byte {at}"
                );
            }
        }
    }
}

#[test]
fn groups_complete_in_order_and_each_thread_has_its_own() {
    let mut m = machine(4);
    let copy = |at: u32| format!("cp.async.ca.shared.global [%r1+{}], [%rd1], 4;", 128 * at);
    // Lanes 0 to 15 commit after each copy, the others after every second one.
    m.run(&copy(0)).expect("no fault");
    m.run_lanes(0x0000_FFFF, "cp.async.commit_group;").expect("no fault");
    m.run(&copy(1)).expect("no fault");
    m.run("cp.async.commit_group;").expect("no fault");
    m.run(&copy(2)).expect("no fault");
    let landed = |m: &Machine| {
        [0, 1, 2].map(|group| [0, 16].map(|lane| shared(m, 128 * group + 4 * lane, 4) != [NOTHING; 4]))
    };
    m.run("cp.async.wait_group 1;").expect("no fault");
    assert_eq!(landed(&m), [[true, false], [false, false], [false, false]]);
    m.run("cp.async.wait_group 0;").expect("no fault");
    assert_eq!(
        landed(&m),
        [[true, true], [true, true], [false, false]],
        "what is not committed is not waited for"
    );
    m.run_lanes(1 << 16, "cp.async.wait_all;").expect("no fault");
    assert_eq!(
        landed(&m),
        [[true, true], [true, true], [false, true]],
        "but by wait_all, of the thread that waits"
    );
    m.run("cp.async.wait_all;").expect("no fault");
    assert_eq!(landed(&m), [[true, true]; 3]);
}

#[test]
fn an_empty_group_is_a_group() {
    let mut m = machine(4);
    m.run("cp.async.ca.shared.global [%r1], [%rd1], 4; cp.async.commit_group; cp.async.commit_group; cp.async.wait_group 1;").expect("no fault");
    assert_eq!(
        shared(&m, 0, 4),
        numbers(0, 4).to_le_bytes()[..4],
        "the second group is empty and may be pending"
    );
}

#[test]
fn a_copy_reads_its_source_when_it_lands() {
    let mut m = Machine::unchecked();
    m.gv.store(0, 4, 1);
    m.run_lanes(1, "cp.async.ca.shared.global [sm], [gv], 4; st.global.u32 [gv], 2; cp.async.wait_all; ld.shared.u32 %r1, [sm];").expect("no fault");
    assert_eq!(m.get("%r1", 0), 2, "any time between issue and wait is right; here it is the last");
}

#[test]
fn a_short_source_is_followed_by_zeros() {
    let mut m = machine(16);
    // Sizes 0 to 16; where nothing is read, the address does not matter.
    m.set("%r2", |lane| u128::from(lane % 17));
    let base = m.get("%rd1", 0);
    m.set("%rd1", |lane| if lane % 17 == 0 { 3 } else { base + 16 * u128::from(lane) });
    m.run("cp.async.cg.shared.global.L2::128B [%r1], [%rd1], 16, %r2; cp.async.wait_all;").expect("no fault");
    let found = shared(&m, 0, 512);
    for at in 0..512_u64 {
        let (lane, byte) = (at / 16, at % 16);
        assert_eq!(
            found[at as usize],
            if byte < lane % 17 { number(at) } else { 0 },
            "lane {lane}, byte {byte}"
        );
    }
    let read: u64 = (0..32).map(|lane| lane % 17).sum();
    let counters = &m.cluster.counters;
    assert_eq!((counters.copy_bytes, counters.global_load_bytes), (read, read));
    assert_eq!((counters.global_load_requests, counters.shared_store_bytes), (1, 512));
}

#[test]
fn where_the_predicate_holds_the_source_is_ignored() {
    for (predicate, ignored) in [("%p1", 0x0F0F_00FF_u32), ("!%p1", !0x0F0F_00FF)] {
        let mut m = machine(8);
        m.set_predicate("%p1", 0x0F0F_00FF);
        let base = m.get("%rd1", 0);
        m.set("%rd1", |lane| if ignored >> lane & 1 == 1 { 0 } else { base + 8 * u128::from(lane) });
        m.run(&format!("cp.async.ca.shared.global [%r1], [%rd1], 8, {predicate}; cp.async.wait_all;"))
            .expect("no fault");
        for lane in 0..32 {
            let expected = if ignored >> lane & 1 == 1 { 0 } else { numbers(8 * lane, 8) };
            assert_eq!(shared(&m, 8 * lane, 8), expected.to_le_bytes()[..8], "{predicate}, lane {lane}");
        }
    }
}

#[test]
fn copies_from_many_allocations_all_land() {
    let mut m = machine(4);
    let memories: Vec<_> = (0..3).map(|_| m.numbered(256)).collect();
    m.set("%rd1", |lane| u128::from(memories[lane as usize % 3].base + 4 * lane));
    m.run("cp.async.ca.shared.global [%r1], [%rd1], 4; cp.async.wait_all;").expect("no fault");
    for lane in lanes(ALL) {
        assert_eq!(shared(&m, 4 * lane as u64, 4), numbers(4 * lane as u64, 4).to_le_bytes()[..4]);
    }
}

/// Copies of 4 bytes from `%rd1` to 64 bytes behind an mbarrier that waits for `count` arrivals.
fn with_mbarrier(count: u32) -> Machine {
    let mut m = machine(4);
    m.run_lanes(1, &format!("mbarrier.init.shared.b64 [sm], {count};")).expect("no fault");
    m
}

/// Whether its first phase has completed.
fn complete(m: &mut Machine) -> bool {
    m.run_lanes(1, "mbarrier.test_wait.parity.shared.b64 %p1, [sm], 0;").expect("no fault");
    m.predicate("%p1") & 1 == 1
}

#[test]
fn an_mbarrier_hears_of_copies_when_they_are_done_and_not_of_later_ones() {
    for mask in [ALL, 0x0000_F0F1] {
        let mut m = with_mbarrier(mask.count_ones());
        m.run_lanes(
            mask,
            "cp.async.ca.shared.global [%r1+64], [%rd1], 4;
             cp.async.mbarrier.arrive.noinc.shared.b64 [sm];
             cp.async.ca.shared.global [%r1+512], [%rd1], 4;",
        )
        .expect("no fault");
        assert!(!complete(&mut m));
        assert!(shared(&m, 64, 128).iter().all(|byte| *byte == NOTHING), "nothing has landed");
        assert!(m.advance(true).expect("no fault"));
        assert!(complete(&mut m));
        for lane in 0..32 {
            let expected = if mask >> lane & 1 == 1 { numbers(4 * lane, 4) as u32 } else { UNWRITTEN };
            assert_eq!(shared(&m, 64 + 4 * lane, 4), expected.to_le_bytes(), "lane {lane}");
        }
        assert!(
            shared(&m, 512, 128).iter().all(|byte| *byte == NOTHING),
            "the later copy is not the mbarrier's"
        );
        assert!(!m.advance(true).expect("no fault"), "there is nothing more");
        m.run_lanes(mask, "cp.async.wait_all;").expect("no fault");
        assert_ne!(shared(&m, 512, 4), [NOTHING; 4]);
    }
}

#[test]
fn without_noinc_the_arrival_is_counted_in_the_phase_first() {
    let mut m = with_mbarrier(1);
    m.run("cp.async.ca.shared.global [%r1+64], [%rd1], 4; cp.async.mbarrier.arrive.shared.b64 [sm];")
        .expect("no fault");
    m.run_lanes(1, "mbarrier.arrive.shared.b64 %rd2, [sm];").expect("no fault");
    assert!(!complete(&mut m), "one has arrived and 32 were added");
    m.advance(true).expect("no fault");
    assert!(complete(&mut m));
}

#[test]
fn an_arrival_happens_by_itself_after_some_turns() {
    let mut m = with_mbarrier(32);
    m.run("cp.async.ca.shared.global [%r1+64], [%rd1], 4; cp.async.mbarrier.arrive.noinc.shared.b64 [sm];")
        .expect("no fault");
    let turns = (1..1000).find(|_| m.advance(false).expect("no fault")).expect("it happens");
    assert!(turns <= 256 && complete(&mut m), "after {turns} turns");
}

#[test]
fn an_arrival_that_no_mbarrier_expects_is_a_fault() {
    let mut m = with_mbarrier(31);
    let text = "cp.async.mbarrier.arrive.noinc.shared.b64 [sm];";
    m.run_lanes(ALL >> 1, text).expect("no fault");
    m.advance(true).expect("31 are expected");
    let mut m = with_mbarrier(31);
    m.run(text).expect("it is noticed later");
    let fault = m.advance(true).expect_err("32 are too many");
    assert_eq!(fault.kind, FaultKind::Barrier);
    let end = "when the copies of thread (0,0,0) of block 0 of the cluster were done, of which cp.async.mbarrier.arrive of PTX line 5 tells it";
    assert!(fault.message.ends_with(end), "{}", fault.message);
    let base = m.gv.base;
    m.set("%rd1", |lane| {
        u128::from(if lane == 5 { base } else { crate::memory::SHARED_WINDOW + SHARED_BASE })
    });
    let fault = m.run("cp.async.mbarrier.arrive.noinc.b64 [%rd1];").expect_err("it is global memory");
    assert_eq!(
        fault.message,
        format!("arrives at 8 bytes of shared memory at {base:#x}, which is an address of global memory")
    );
    m.set("%r1", |_| u128::from(SHARED_BASE + 4));
    let fault = m.run("cp.async.mbarrier.arrive.noinc.shared.b64 [%r1];").expect_err("it is misaligned");
    assert_eq!(fault.message, "arrives at 8 bytes of shared memory at 0x404, which is no multiple of 8");
}

#[test]
fn where_the_block_has_ended_nobody_is_told() {
    let mut m = with_mbarrier(31);
    m.run("cp.async.mbarrier.arrive.noinc.shared.b64 [sm];").expect("no fault");
    m.warp().live = 0;
    assert!(m.advance(true).expect("no fault"));
}

#[test]
fn a_place_that_is_not_there_is_a_fault_when_the_copy_is_issued() {
    let mut m = machine(16);
    let text = "cp.async.cg.shared.global [%r1], [%rd1], 16;";
    m.run(text).expect("all is well");
    let base = m.get("%rd1", 0);
    m.set("%rd1", |lane| if lane == 9 { base + 512 } else { base });
    let fault = m.run(text).expect_err("past the end");
    assert_eq!((fault.kind, fault.lane), (FaultKind::Address, Some(9)));
    assert_eq!(
        fault.message,
        format!(
            "reads 16 bytes at {:#x}, just past the end of the allocation of 512 bytes at {base:#x}",
            base + 512
        )
    );
    m.set("%rd1", |lane| if lane == 9 { base + 4 } else { base });
    let fault = m.run(text).expect_err("misaligned source");
    assert_eq!(
        (fault.kind, fault.message),
        (FaultKind::Misaligned, format!("reads 16 bytes at {:#x}, which is no multiple of 16", base + 4))
    );
    m.set("%rd1", |_| base);
    m.set("%r1", |lane| u128::from(if lane == 9 { SHARED_BASE + 8 } else { SHARED_BASE }));
    let fault = m.run(text).expect_err("misaligned destination");
    assert_eq!(
        (fault.kind, fault.message.as_str()),
        (FaultKind::Misaligned, "writes 16 bytes of shared memory at 0x408, which is no multiple of 16")
    );
    m.set("%r1", |lane| u128::from(if lane == 9 { 64 } else { SHARED_BASE }));
    let fault = m.run(text).expect_err("reserved memory");
    assert_eq!(
        fault.message,
        "writes 16 bytes of shared memory at 0x40, 960 bytes before the 4096 bytes of the block at 0x400"
    );
    m.set("%r1", |_| u128::from(SHARED_BASE));
    m.set("%r2", |lane| if lane == 9 { 17 } else { 16 });
    let fault = m.run("cp.async.cg.shared.global [%r1], [%rd1], 16, %r2;").expect_err("too much");
    assert_eq!(
        (fault.kind, fault.message.as_str()),
        (FaultKind::Instruction, "copies 16 bytes from a source of 17")
    );
}

#[test]
fn every_form_that_the_compiler_takes_is_taken_and_no_other() {
    let mut m = Machine::unchecked();
    for text in [
        "cp.async.ca.shared.global [%r1],[%rd1],4",
        "cp.async.ca.shared.global [%r1],[%rd1],16,8",
        "cp.async.ca.shared.global.L2::cache_hint [%r1],[%rd1],16,%rd2",
        "cp.async.ca.shared.global.L2::cache_hint [%r1],[%rd1],16,%r2,%rd2",
        "cp.async.cg.shared.global.L2::128B.L2::cache_hint [%r1],[%rd1],16,%r2,%rd2",
        "cp.async.cg.shared::cta.global [%r1],[%rd1],16",
        "cp.async.wait_group 3",
        "cp.async.wait_all",
        "cp.async.commit_group",
        "cp.async.mbarrier.arrive.b64 [%r1]",
        "cp.async.mbarrier.arrive.noinc.b64 [%rd1]",
        "cp.async.mbarrier.arrive.noinc.shared.b64 [%r1]",
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [sm]",
    ] {
        m.decode(&format!("{text};")).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for text in [
        "cp.async.ca.shared.global [%r1],[%rd1],12",
        "cp.async.ca.shared.global [%r1],[%rd1],16,%rd2",
        "cp.async.cg.shared.global [%r1],[%rd1],8",
        "cp.async.ca.shared.global [%r1],[%rd1],%r2",
        "cp.async.ca.shared [%r1],[%rd1],16",
        "cp.async.shared.global [%r1],[%rd1],16",
        "cp.async.ca.shared::cluster.global [%r1],[%rd1],16",
        "cp.async.ca.shared.global.L2::cache_hint [%r1],[%rd1],16",
        "cp.async.wait_group %r1",
        "cp.async.wait_group",
        "cp.async.wait_all 0",
        "cp.async.mbarrier.arrive.noinc.shared::cluster.b64 [%r1]",
        "cp.async.mbarrier.arrive.global.b64 [%rd1]",
        "cp.async.mbarrier.noinc.b64 [%rd1]",
    ] {
        assert!(m.decode(&format!("{text};")).is_err(), "{text}");
    }
}
