//! mbarrier against the manual's model.

use super::objects::{BYTES, LARGEST};
use super::*;
use crate::exec::tensor::harness::Harness;
use crate::ptx::ErrorKind;

const AT: u32 = 0x400;

/// One block of two warps with a barrier of `count` at `AT`, whose address is in rd0 (64 bits) and r0 (32 bits).
fn harness(count: u32) -> Harness {
    let mut harness = Harness::new(1, 64);
    for warp in 0..2 {
        harness.set_wide(warp, "rd0", [u64::from(AT); LANES]);
        harness.set(warp, "r0", [AT; LANES]);
    }
    run_lane(&mut harness, &format!("mbarrier.init.shared::cta.b64 [r0], {count};"));
    harness
}

fn run_lane(harness: &mut Harness, text: &str) -> Flow {
    harness.run(0, text, 1).unwrap_or_else(|fault| panic!("{text}: {}", fault.message))
}

fn fault_lane(harness: &mut Harness, text: &str) -> Fault {
    match harness.run(0, text, 1) {
        Err(fault) => fault,
        Ok(flow) => panic!("{text}: {flow:?}"),
    }
}

fn object(harness: &Harness) -> Object {
    *harness.cluster.blocks[0].mbarriers.get(AT).unwrap()
}

fn model(phase: u64, expected: u32, pending: u32, tx: i32) -> Object {
    Object { phase, expected, pending, tx }
}

/// Whether test_wait of this parity is true.
fn parity(harness: &mut Harness, parity: u32) -> bool {
    run_lane(harness, &format!("mbarrier.test_wait.parity.shared.b64 p0, [r0], {parity};"));
    harness.warp(0).predicates[0] & 1 == 1
}

/// Whether test_wait of the state in a register is true.
fn passed(harness: &mut Harness, state: &str) -> bool {
    run_lane(harness, &format!("mbarrier.test_wait.shared::cta.b64 p0, [rd0], {state};"));
    harness.warp(0).predicates[0] & 1 == 1
}

#[test]
fn arrivals_complete_a_phase_and_the_next_expects_as_many() {
    let mut harness = harness(3);
    assert_eq!(object(&harness), model(0, 3, 3, 0));
    run_lane(&mut harness, "mbarrier.arrive.shared::cta.b64 rd1, [r0];");
    assert_eq!(object(&harness), model(0, 3, 2, 0));
    assert!(!passed(&mut harness, "rd1"));
    run_lane(&mut harness, "mbarrier.arrive.release.cta.shared::cta.b64 rd2, [rd0], 2;");
    assert_eq!(object(&harness), model(1, 3, 3, 0));
    assert!(passed(&mut harness, "rd1") && passed(&mut harness, "rd2"));
    run_lane(&mut harness, "mbarrier.arrive.shared.b64 rd3, [r0];");
    assert!(!passed(&mut harness, "rd3") && passed(&mut harness, "rd1"));
    for (state, count) in [("rd1", 3), ("rd2", 2), ("rd3", 3)] {
        run_lane(&mut harness, &format!("mbarrier.pending_count.b64 r1, {state};"));
        assert_eq!(harness.get(0, "r1")[0], count, "before that arrival");
    }
}

#[test]
fn each_lane_arrives_for_itself() {
    let mut harness = harness(64);
    harness.step(0, "mbarrier.arrive.shared.b64 rd1, [r0];");
    assert_eq!(object(&harness), model(0, 64, 32, 0));
    harness.run(1, "mbarrier.arrive.shared.b64 _, [r0];", 0xffff_fffe).unwrap();
    assert_eq!(object(&harness), model(0, 64, 1, 0));
    harness.step(0, "mbarrier.pending_count.b64 r1, rd1;");
    assert_eq!(harness.get(0, "r1"), std::array::from_fn(|lane| 64 - lane as u32));
    harness.run(1, "mbarrier.arrive.shared.b64 _, [r0];", 1).unwrap();
    assert_eq!(object(&harness), model(1, 64, 64, 0));
}

#[test]
fn parity_names_this_phase_or_the_one_before_and_aliases_after_two() {
    let mut harness = harness(1);
    assert!(parity(&mut harness, 1) && !parity(&mut harness, 0), "a fresh barrier");
    for phase in 1..5 {
        run_lane(&mut harness, "mbarrier.arrive.shared.b64 _, [r0];");
        // Phase - 1 is complete, phase is not: who waits for phase - 2 by now waits for the current one.
        let before = (phase - 1) & 1;
        assert!(parity(&mut harness, before) && !parity(&mut harness, before ^ 1), "{phase}");
    }
    assert!(parity(&mut harness, 3) && !parity(&mut harness, 2), "only bit 0 counts");
}

#[test]
fn a_phase_waits_for_arrivals_and_bytes_in_any_order() {
    let mut harness = harness(1);
    run_lane(&mut harness, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [r0], 96;");
    assert_eq!(object(&harness), model(0, 1, 0, 96));
    complete_tx(&mut harness.cluster, 0, AT, 64).unwrap();
    assert_eq!(object(&harness), model(0, 1, 0, 32));
    complete_tx(&mut harness.cluster, 0, AT, 32).unwrap();
    assert_eq!(object(&harness), model(1, 1, 1, 0));
    // Bytes first.
    run_lane(&mut harness, "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [r0], 16;");
    assert_eq!(object(&harness), model(1, 1, 1, -16));
    run_lane(&mut harness, "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [r0], 48;");
    assert_eq!(object(&harness), model(1, 1, 1, 32));
    complete_tx(&mut harness.cluster, 0, AT, 32).unwrap();
    assert_eq!(object(&harness), model(1, 1, 1, 0), "no arrival yet");
    run_lane(&mut harness, "mbarrier.arrive.shared.b64 _, [r0];");
    assert_eq!(object(&harness), model(2, 1, 1, 0));
    // The announcement comes before the arrival of the same instruction.
    run_lane(&mut harness, "mbarrier.arrive.expect_tx.relaxed.cluster.shared::cta.b64 rd1, [r0], 0;");
    assert_eq!(object(&harness), model(3, 1, 1, 0));
}

#[test]
fn who_drops_is_not_expected_in_later_phases() {
    let mut harness = harness(3);
    run_lane(&mut harness, "mbarrier.arrive_drop.shared.b64 _, [r0];");
    assert_eq!(object(&harness), model(0, 2, 2, 0));
    run_lane(&mut harness, "mbarrier.arrive.shared.b64 _, [r0], 2;");
    assert_eq!(object(&harness), model(1, 2, 2, 0));
    run_lane(&mut harness, "mbarrier.arrive_drop.expect_tx.shared.b64 _, [r0], 8;");
    assert_eq!(object(&harness), model(1, 1, 1, 8));
    run_lane(&mut harness, "mbarrier.arrive_drop.noComplete.release.cta.shared.b64 _, [r0], 1;");
    assert_eq!(object(&harness), model(1, 0, 0, 8));
}

#[test]
fn no_complete_must_not_complete() {
    let mut harness = harness(2);
    run_lane(&mut harness, "mbarrier.arrive.noComplete.shared.b64 rd1, [r0], 1;");
    assert_eq!(object(&harness), model(0, 2, 1, 0));
    let fault = fault_lane(&mut harness, "mbarrier.arrive.noComplete.shared.b64 rd1, [r0], 1;");
    assert!(fault.message.contains(".noComplete completes phase 0"), "{}", fault.message);
}

#[test]
fn copies_arrive_with_and_without_being_counted_before() {
    let mut harness = harness(1);
    add_pending(&mut harness.cluster, 0, AT, 32).unwrap();
    run_lane(&mut harness, "mbarrier.arrive.shared.b64 _, [r0];");
    assert_eq!(object(&harness), model(0, 1, 32, 0));
    for _ in 0..32 {
        arrive(&mut harness.cluster, 0, AT, 1).unwrap();
    }
    assert_eq!(object(&harness), model(1, 1, 1, 0));
}

#[test]
fn try_wait_holds_the_warp_and_gives_up_when_nothing_else_can_run() {
    let mut harness = harness(2);
    let text = "mbarrier.try_wait.parity.shared::cta.b64 p0, [r0], 0, 1000;";
    run_lane(&mut harness, "mbarrier.arrive.expect_tx.shared.b64 _, [r0], 32;");
    let Flow::Wait(wait) = run_lane(&mut harness, text) else { panic!("not complete") };
    assert_eq!(
        wait.what,
        "mbarrier at shared address 0x400 (phase 0: 1 of 2 arrivals pending, 32 bytes pending)"
    );
    harness.warp(0).set_predicate(0, ALL, ALL);
    harness.cluster.stalled = true;
    assert!(matches!(run_lane(&mut harness, text), Flow::Yield));
    assert_eq!(harness.warp(0).predicates[0], ALL & !1, "false in the lane that ran it");
    harness.cluster.stalled = false;
    run_lane(&mut harness, "mbarrier.arrive.shared.b64 _, [r0];");
    complete_tx(&mut harness.cluster, 0, AT, 32).unwrap();
    assert!(matches!(run_lane(&mut harness, text), Flow::Next));
    assert_eq!(harness.warp(0).predicates[0], ALL);
    let other = "mbarrier.test_wait.parity.shared::cta.b64 p0, [r0], 1;";
    assert!(matches!(run_lane(&mut harness, other), Flow::Yield), "it never waits, but others go on");
}

#[test]
fn lanes_may_wait_for_different_barriers() {
    let mut harness = harness(1);
    let mut addresses = [AT; LANES];
    addresses[7] = AT + 8;
    harness.set(0, "r0", addresses);
    harness.run(0, "mbarrier.init.shared.b64 [r0], 1;", 1 << 7).unwrap();
    harness.run(0, "mbarrier.arrive.shared.b64 _, [r0];", 1 << 7).unwrap();
    let flow = harness.run(0, "mbarrier.try_wait.parity.shared.b64 p0, [r0], 0;", ALL).unwrap();
    assert!(matches!(flow, Flow::Yield));
    assert_eq!(harness.warp(0).predicates[0], 1 << 7);
}

#[test]
fn a_remote_barrier_takes_arrivals_and_nothing_else() {
    let mut harness = Harness::new(2, 32);
    harness.set(0, "r0", [AT; LANES]);
    harness.set(1, "r0", [1 << 24 | AT; LANES]);
    harness.set(0, "r1", [1 << 24 | AT; LANES]);
    harness.set_wide(1, "rd1", [SHARED_WINDOW + u64::from(1 << 24 | AT); LANES]);
    harness.set_wide(0, "rd1", [SHARED_WINDOW + u64::from(1 << 24 | AT); LANES]);
    harness.run(1, "mbarrier.init.b64 [rd1], 3;", 1).unwrap();
    assert!(harness.cluster.blocks[0].mbarriers.get(AT).is_none());
    let of_1 = |harness: &Harness| *harness.cluster.blocks[1].mbarriers.get(AT).unwrap();
    run_lane(&mut harness, "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [r1];");
    assert_eq!(of_1(&harness), model(0, 3, 2, 0));
    run_lane(&mut harness, "mbarrier.arrive.expect_tx.shared::cluster.b64 _, [r1], 16;");
    assert_eq!(of_1(&harness), model(0, 3, 1, 16));
    run_lane(&mut harness, "mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [r1], 16;");
    run_lane(&mut harness, "mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [r1], 32;");
    run_lane(&mut harness, "mbarrier.arrive_drop.shared::cluster.b64 _, [r1];");
    assert_eq!(of_1(&harness), model(1, 2, 2, 0));
    // The block's own address in its own window, with its rank and without.
    harness.set(1, "r2", [AT; LANES]);
    harness.run(1, "mbarrier.arrive.shared::cta.b64 _, [r0];", 1).unwrap();
    harness.run(1, "mbarrier.arrive.shared::cta.b64 _, [r2];", 1).unwrap();
    assert_eq!(of_1(&harness), model(2, 2, 2, 0));

    for text in ["mbarrier.arrive.shared::cta.b64 _, [r1];", "mbarrier.arrive.b64 _, [rd1];"] {
        assert_eq!(fault_lane(&mut harness, text).kind, FaultKind::AddressSpace, "{text}");
    }
    harness.set(0, "r1", [2 << 24 | AT; LANES]);
    let text = "mbarrier.arrive.shared::cluster.b64 _, [r1];";
    assert_eq!(fault_lane(&mut harness, text).kind, FaultKind::Address, "no third block");
    harness.set(0, "r1", [1 << 24 | AT; LANES]);
    harness.warp(1).live = 0;
    let fault = fault_lane(&mut harness, text);
    assert_eq!(fault.kind, FaultKind::Barrier);
    assert!(fault.message.contains("has ended"), "{}", fault.message);
    assert_eq!(complete_tx(&mut harness.cluster, 1, AT, 8).unwrap_err().kind, FaultKind::Barrier);
}

#[test]
fn misuse_is_a_fault() {
    let kind = |count: u32, texts: &[&str]| {
        let mut harness = harness(count);
        harness.set(0, "r1", [AT + 8; LANES]);
        harness.set(0, "r2", [AT + 4; LANES]);
        harness.set(0, "r3", [64 << 10; LANES]);
        let (last, before) = texts.split_last().unwrap();
        before.iter().for_each(|text| drop(run_lane(&mut harness, text)));
        let fault = fault_lane(&mut harness, last);
        assert_eq!(fault.lane, Some(0));
        fault.kind
    };
    let arrive = "mbarrier.arrive.shared.b64 _, [r0];";
    for (count, texts) in [
        (1, vec!["mbarrier.init.shared.b64 [r0], 1;"]),
        (1, vec!["mbarrier.init.shared.b64 [r1], 0;"]),
        (1, vec!["mbarrier.init.shared.b64 [r1], 1048576;"]),
        (1, vec!["mbarrier.arrive.shared.b64 _, [r1];"]),
        (1, vec!["mbarrier.test_wait.parity.shared.b64 p0, [r1], 0;"]),
        (1, vec!["mbarrier.inval.shared.b64 [r1];"]),
        (1, vec!["mbarrier.inval.shared.b64 [r0];", arrive]),
        (1, vec!["mbarrier.arrive.shared.b64 _, [r0], 2;"]),
        (1, vec!["mbarrier.arrive.shared.b64 _, [r0], 0;"]),
        (1, vec!["mbarrier.arrive_drop.shared.b64 _, [r0];", arrive]),
        // All have arrived while bytes are missing: one more arrival.
        (1, vec!["mbarrier.arrive.expect_tx.shared.b64 _, [r0], 8;", arrive]),
        (1, vec!["mbarrier.expect_tx.shared.b64 [r0], 1048575;", "mbarrier.expect_tx.shared.b64 [r0], 1;"]),
        (1, vec!["mbarrier.expect_tx.shared.b64 [r0], 1048576;"]),
        (
            1,
            vec![
                "mbarrier.complete_tx.shared.b64 [r0], 1048575;",
                "mbarrier.complete_tx.shared.b64 [r0], 1;",
            ],
        ),
        // More bytes than announced, and nobody left who could announce them.
        (
            1,
            vec![
                "mbarrier.arrive.expect_tx.shared.b64 _, [r0], 8;",
                "mbarrier.complete_tx.shared.b64 [r0], 16;",
            ],
        ),
        (1, vec!["mbarrier.complete_tx.shared.b64 [r0], 16;", arrive]),
        // A state that is two phases old.
        (
            1,
            vec![
                "mbarrier.arrive.shared.b64 rd1, [r0];",
                arrive,
                "mbarrier.test_wait.shared.b64 p0, [r0], rd1;",
            ],
        ),
        // Another barrier's state.
        (
            1,
            vec![
                "mbarrier.init.shared.b64 [r1], 1;",
                "mbarrier.arrive.shared.b64 rd1, [r1];",
                "mbarrier.test_wait.shared.b64 p0, [r0], rd1;",
            ],
        ),
    ] {
        assert_eq!(kind(count, &texts), FaultKind::Barrier, "{texts:?}");
    }
    assert_eq!(kind(1, &["mbarrier.init.shared.b64 [r2], 1;"]), FaultKind::Misaligned);
    assert_eq!(kind(1, &["mbarrier.init.shared.b64 [r3], 1;"]), FaultKind::Address);
    assert_eq!(kind(1, &["mbarrier.arrive.b64 _, [rd0];"]), FaultKind::AddressSpace);
    let mut full = harness(LARGEST);
    assert!(add_pending(&mut full.cluster, 0, AT, 1).is_err());
}

#[test]
fn an_object_covers_its_8_bytes_until_it_ends() {
    let mut harness = harness(1);
    harness.set(0, "r1", [AT + 64; LANES]);
    run_lane(&mut harness, "mbarrier.init.shared.b64 [r1], 5;");
    let objects = &harness.cluster.blocks[0].mbarriers;
    for (offset, len, wanted) in [
        (AT - 4, 4, None),
        (AT - 4, 5, Some(AT)),
        (AT + 7, 1, Some(AT)),
        (AT + 8, 56, None),
        (AT + 8, 57, Some(AT + 64)),
        (AT - 16, 256, Some(AT + 64)),
        (AT + 72, 16, None),
    ] {
        assert_eq!(objects.covers(offset, len), wanted, "{offset:x} {len}");
    }
    run_lane(&mut harness, "mbarrier.inval.shared.b64 [r0];");
    let objects = &harness.cluster.blocks[0].mbarriers;
    assert_eq!((objects.covers(AT, BYTES), objects.covers(AT + 64, 1)), (None, Some(AT + 64)));
    run_lane(&mut harness, "mbarrier.init.shared.b64 [r0], 2;");
    assert_eq!(object(&harness), model(0, 2, 2, 0), "the memory may be an object again");
}

#[test]
fn the_bytes_in_memory_are_the_state() {
    let mut harness = harness(7);
    let bytes = |harness: &Harness| {
        u64::from_le_bytes(harness.cluster.blocks[0].shared[AT as usize..][..8].try_into().unwrap())
    };
    assert_eq!(bytes(&harness), object(&harness).state(AT));
    let before = bytes(&harness);
    run_lane(&mut harness, "mbarrier.arrive.shared.b64 rd1, [r0], 2;");
    assert_ne!(bytes(&harness), before);
    assert_eq!(harness.get_wide(0, "rd1")[0], before);
    assert_eq!(bytes(&harness), object(&harness).state(AT));
}

#[test]
fn what_a_block_leaves_behind_is_told() {
    let mut harness = harness(2);
    assert_eq!(harness.cluster.blocks[0].mbarriers.unfinished(), None);
    run_lane(&mut harness, "mbarrier.arrive.expect_tx.shared.b64 _, [r0], 8;");
    let told = harness.cluster.blocks[0].mbarriers.unfinished().unwrap();
    assert!(told.contains("0x400") && told.contains("8 bytes announced that never came"), "{told}");
    run_lane(&mut harness, "mbarrier.complete_tx.shared.b64 [r0], 20;");
    let told = harness.cluster.blocks[0].mbarriers.unfinished().unwrap();
    assert!(told.contains("12 bytes that nobody announced"), "{told}");
}

#[test]
fn random_operations_follow_the_model() {
    let mut state = 1_u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let mut harness = harness(20);
    let (mut phase, mut expected, mut pending, mut tx) = (0_u64, 20_i64, 20_i64, 0_i64);
    for _ in 0..2000 {
        let n = below(4) as i64 + 1;
        let (change, drop, bytes) = match below(50) {
            0 if expected > 8 => (1, 1, 0),
            0..20 => (n, 0, 0),
            20..30 => (0, 0, n * 16),
            30..40 => (0, 0, -n * 16),
            _ => (0, 0, -tx),
        };
        // What would have no meaning is left out.
        if change > pending || tx + bytes < 0 && pending - change == 0 || (tx + bytes).abs() > 4096 {
            continue;
        }
        let text = match (change, drop, bytes) {
            (0, _, bytes) if bytes > 0 => format!("mbarrier.expect_tx.shared.b64 [r0], {bytes};"),
            (0, _, bytes) => format!("mbarrier.complete_tx.shared.b64 [r0], {};", -bytes),
            (count, 0, _) => format!("mbarrier.arrive.shared.b64 _, [r0], {count};"),
            (count, ..) => format!("mbarrier.arrive_drop.shared.b64 _, [r0], {count};"),
        };
        run_lane(&mut harness, &text);
        pending -= change;
        expected -= drop;
        tx += bytes;
        if pending == 0 && tx == 0 && (change > 0 || bytes < 0) {
            phase += 1;
            pending = expected;
        }
        assert_eq!(object(&harness), model(phase, expected as u32, pending as u32, tx as i32), "{text}");
    }
    assert!(phase > 20, "{phase}");
}

#[test]
fn forms_that_do_not_exist_are_refused() {
    let error = |text: &str| harness(1).decode(text).err().map(|error| error.kind);
    assert_eq!(error("mbarrier.arrive.shared::cluster.b64 rd0, [r0];"), Some(ErrorKind::Invalid));
    assert_eq!(error("mbarrier.test_wait.parity.shared::cluster.b64 p0, [r0], 1;"), Some(ErrorKind::Invalid));
    assert_eq!(error("mbarrier.init.shared::cluster.b64 [r0], 1;"), Some(ErrorKind::Invalid));
    assert_eq!(error("mbarrier.init.shared.b32 [r0], 1;"), Some(ErrorKind::Invalid));
    assert_eq!(error("mbarrier.init.shared.b64 [r0];"), Some(ErrorKind::Invalid));
    assert_eq!(error("mbarrier.arrive.noComplete.shared.b64 _, [r0];"), Some(ErrorKind::Invalid));
    assert_eq!(error("mbarrier.arrive.release.gpu.shared.b64 _, [r0];"), Some(ErrorKind::Unsupported));
    assert_eq!(error("mbarrier.layout.shared.b64 [r0];"), Some(ErrorKind::Unsupported));
}
