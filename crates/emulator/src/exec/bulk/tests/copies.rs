//! Copies of bytes, their groups and their mbarriers.

use super::super::POISON;
use super::rig::{BARRIER, DATA, Rig, contents, pattern};
use crate::exec::Flow;

const LOAD: &str =
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [a], size, [bar]";
const STORE: &str = "cp.async.bulk.global.shared::cta.bulk_group [a], [src], size";
const PEER: &str =
    "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [dst], [src], size, [bar]";

fn waits(flow: Flow) -> bool {
    matches!(flow, Flow::Wait(_))
}

#[test]
fn a_load_is_poison_until_it_completes_and_only_then_its_phase() {
    let mut rig = Rig::new(1);
    let bytes = pattern(48);
    let global = rig.allocate(&bytes);
    rig.expect(48);
    rig.set("dst", u64::from(DATA)).set("a", global.base).set("size", 48).set("bar", u64::from(BARRIER));
    rig.go(LOAD);
    assert_eq!(rig.shared(0, DATA, 48), [POISON; 48]);
    assert_eq!(rig.phase(0), 0);
    rig.finish();
    assert_eq!(rig.shared(0, DATA, 48), bytes);
    assert_eq!(rig.shared(0, DATA + 48, 16), [0; 16], "and nothing behind");
    assert_eq!(rig.phase(0), 1);
    assert_eq!((rig.cluster.counters.bulk_load_bytes, rig.cluster.counters.bulk_store_bytes), (48, 0));
}

#[test]
fn a_load_within_the_block_and_through_a_wide_register_does_the_same() {
    for text in [
        "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [buffer], [a], 32, [bar]",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [buffer], [a], 32, [bar]",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [wide], [a], size, [bar], policy",
    ] {
        let mut rig = Rig::new(2);
        let global = rig.allocate(&pattern(64));
        rig.expect(32);
        rig.set("a", global.base + 16)
            .set("size", 32)
            .set("wide", 0x7000_0000_0000 | 1 << 24 | u64::from(DATA));
        rig.set("bar", 1 << 24 | u64::from(BARRIER));
        assert!(matches!(rig.run_in(1, 1 << 7, text), Ok(Flow::Next)), "{text}");
        rig.finish();
        assert_eq!(rig.shared(1, DATA, 32), &pattern(64)[16..48], "{text}");
        assert_eq!(rig.shared(0, DATA, 32), [0; 32], "{text}");
        assert_eq!((rig.phase(0), rig.phase(1)), (0, 1), "{text}");
    }
}

#[test]
fn a_source_is_read_when_the_operation_completes() {
    let mut rig = Rig::new(1);
    let global = rig.allocate(&[1; 16]);
    rig.expect(16);
    rig.set("dst", u64::from(DATA)).set("a", global.base).set("size", 16).set("bar", u64::from(BARRIER));
    rig.go(LOAD);
    global.write(0, &[2; 16]);
    rig.finish();
    assert_eq!(rig.shared(0, DATA, 16), [2; 16]);
}

#[test]
fn a_phase_completes_with_the_last_of_its_bytes() {
    let mut rig = Rig::new(1);
    let global = rig.allocate(&pattern(4 * 64));
    rig.expect(4 * 64);
    for i in 0..4 {
        let dst = u64::from(DATA) + i * 64;
        rig.set("dst", dst).set("a", global.base + i * 64).set("size", 64).set("bar", u64::from(BARRIER));
        rig.go(LOAD);
    }
    for left in (0..4).rev() {
        assert_eq!(rig.phase(0), 0);
        assert!(rig.advance(true));
        assert_eq!(rig.cluster.flights.len(), left);
    }
    assert_eq!(rig.phase(0), 1);
    assert!(!rig.advance(true));
}

#[test]
fn operations_complete_out_of_order_and_by_themselves_after_some_turns() {
    let mut rig = Rig::new(1);
    let global = rig.allocate(&[7; 16]);
    rig.expect(16 * 16);
    rig.set("a", global.base).set("size", 16).set("bar", u64::from(BARRIER));
    for i in 0..16 {
        rig.set("dst", u64::from(DATA) + i * 16);
        rig.go(LOAD);
    }
    let (mut order, mut turns) = (Vec::new(), 0);
    while order.len() < 16 {
        rig.advance(false);
        turns += 1;
        assert!(turns < 1000);
        let done = |i: &u32| rig.shared(0, DATA + i * 16, 16) == [7; 16] && !order.contains(i);
        let new: Vec<u32> = (0..16).filter(done).collect();
        order.extend(new);
    }
    assert!(!order.is_sorted(), "{order:?}");
    assert!((2..300).contains(&turns), "{turns}");
}

#[test]
fn a_multicast_reaches_the_listed_blocks_and_their_own_mbarriers() {
    const TEXT: &str = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [dst], [a], size, [bar], mask";
    for (blocks, mask, issuer) in [(2, 0b11, 0), (2, 0b10, 0), (4, 0b1111, 3), (4, 0b0101, 1)] {
        let mut rig = Rig::new(blocks);
        let global = rig.allocate(&pattern(256));
        rig.expect(256);
        let own = (issuer as u64) << 24;
        rig.set("dst", own | u64::from(DATA)).set("bar", own | u64::from(BARRIER)).set("mask", mask);
        rig.set("a", global.base).set("size", 256);
        assert!(matches!(rig.run_in(issuer, 1, TEXT), Ok(Flow::Next)));
        for block in 0..blocks as usize {
            let expected = if mask >> block & 1 == 1 { [POISON; 256] } else { [0; 256] };
            assert_eq!(rig.shared(block, DATA, 256), expected);
        }
        rig.finish();
        for block in 0..blocks as usize {
            let listed = mask >> block & 1 == 1;
            let expected = if listed { pattern(256) } else { vec![0; 256] };
            assert_eq!(rig.shared(block, DATA, 256), expected, "block {block} of mask {mask:b}");
            assert_eq!(rig.phase(block), u64::from(listed), "block {block} of mask {mask:b}");
        }
        assert_eq!(rig.cluster.counters.bulk_load_bytes, 256, "read once");
    }
}

#[test]
fn a_copy_between_blocks_completes_at_the_destination_s_mbarrier() {
    let mut rig = Rig::new(2);
    rig.expect(32);
    rig.put(0, DATA, &pattern(32));
    rig.set("src", u64::from(DATA)).set("dst", 1 << 24 | u64::from(DATA + 64)).set("size", 32);
    rig.set("bar", 1 << 24 | u64::from(BARRIER));
    rig.go(PEER);
    assert_eq!(rig.shared(1, DATA + 64, 32), [POISON; 32]);
    rig.finish();
    assert_eq!(rig.shared(1, DATA + 64, 32), pattern(32));
    assert_eq!((rig.phase(0), rig.phase(1)), (0, 1));
}

#[test]
fn a_store_is_read_before_it_is_written_and_each_can_be_waited_for() {
    let mut rig = Rig::new(1);
    let global = rig.allocate(&[9; 64]);
    rig.put(0, DATA, &pattern(32));
    rig.set("src", u64::from(DATA)).set("a", global.base + 16).set("size", 32);
    rig.go(STORE);
    rig.go("cp.async.bulk.commit_group");
    let poisoned = [&[9; 16][..], &[POISON; 32], &[9; 16]].concat();
    assert_eq!(contents(&global), poisoned);
    for text in ["cp.async.bulk.wait_group.read 0", "cp.async.bulk.wait_group 0"] {
        assert!(waits(rig.run(text).expect("no fault")), "{text}");
    }
    rig.go("cp.async.bulk.wait_group 1");
    assert!(rig.advance(true));
    rig.go("cp.async.bulk.wait_group.read 0");
    assert!(waits(rig.run("cp.async.bulk.wait_group 0").expect("no fault")));
    rig.put(0, DATA, &[0; 32]);
    assert_eq!(contents(&global), poisoned, "read, but not written");
    assert!(rig.advance(true));
    rig.go("cp.async.bulk.wait_group 0");
    assert_eq!(contents(&global), [&[9; 16][..], &pattern(32), &[9; 16]].concat());
    assert_eq!(rig.cluster.counters.bulk_store_bytes, 32);
    assert_eq!(rig.exit(0).map_err(|fault| fault.message), Ok(()));
}

#[test]
fn a_wait_leaves_the_newest_groups_pending_and_counts_each_thread_s_own() {
    let mut rig = Rig::new(1);
    let global = rig.allocate(&[0; 256]);
    rig.set_in(0, "a", |lane| global.base + lane as u64 % 2 * 128);
    rig.set("src", u64::from(DATA)).set("size", 16);
    let lanes = 0b11;
    for _ in 0..3 {
        assert!(rig.run_in(0, lanes, STORE).is_ok());
        assert!(rig.run_in(0, lanes, "cp.async.bulk.commit_group").is_ok());
    }
    // A thread without groups waits for nothing.
    assert!(matches!(rig.run_in(0, 0b100, "cp.async.bulk.wait_group 0"), Ok(Flow::Next)));
    let mut pending = [6; 4];
    while !rig.cluster.flights.is_empty() {
        for (allowed, left) in pending.iter_mut().enumerate() {
            let text =
                ["cp.async.bulk.wait_group 0", "cp.async.bulk.wait_group 1", "cp.async.bulk.wait_group 2"];
            let Some(text) = text.get(allowed) else { continue };
            if !waits(rig.run_in(0, lanes, text).expect("no fault")) {
                *left = (*left).min(rig.cluster.flights.len());
            }
        }
        assert!(rig.advance(true));
    }
    assert!(matches!(rig.run_in(0, lanes, "cp.async.bulk.wait_group 0"), Ok(Flow::Next)));
    // Each thread's oldest one or two are needed before two or one may be left.
    assert!(pending[2] >= pending[1], "{pending:?}");
    assert!(pending[2] <= 4 && pending[1] <= 2, "{pending:?}");
}

#[test]
fn an_empty_group_is_one_too() {
    let mut rig = Rig::new(1);
    let global = rig.allocate(&[0; 16]);
    rig.set("src", u64::from(DATA)).set("a", global.base).set("size", 16);
    rig.go(STORE);
    rig.go("cp.async.bulk.commit_group");
    rig.go("cp.async.bulk.wait_group 1");
    rig.go("cp.async.bulk.commit_group");
    assert!(
        waits(rig.run("cp.async.bulk.wait_group 1").expect("no fault")),
        "the store is the second newest"
    );
    rig.finish();
    rig.go("cp.async.bulk.wait_group 1");
}

#[test]
fn what_registers_hold_is_stored_asynchronously_in_another_block() {
    let cases: [(&str, u32, Vec<u8>); 5] = [
        ("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [dst], x, [bar]", 4, vec![1, 2, 3, 4]),
        (
            "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u64 [dst], wide, [bar]",
            8,
            vec![5, 6, 7, 8, 9, 10, 11, 12],
        ),
        (
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.s32 [dst], {x,c0}, [bar]",
            8,
            vec![1, 2, 3, 4, 13, 14, 15, 16],
        ),
        (
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [dst], {f,f,f,f}, [bar]",
            16,
            1.5f32.to_le_bytes().repeat(4),
        ),
        (
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [dst], {wide,wide}, [bar]",
            16,
            vec![5, 6, 7, 8, 9, 10, 11, 12, 5, 6, 7, 8, 9, 10, 11, 12],
        ),
    ];
    for (text, len, expected) in cases {
        let mut rig = Rig::new(2);
        rig.expect(len);
        rig.set("x", 0x0403_0201).set("c0", 0x100f_0e0d).set("wide", 0x0c0b_0a09_0807_0605);
        rig.set("f", u64::from(1.5f32.to_bits()))
            .set("dst", 1 << 24 | u64::from(DATA))
            .set("bar", 1 << 24 | u64::from(BARRIER));
        rig.go(text);
        assert_eq!(rig.shared(1, DATA, len as usize), vec![POISON; len as usize], "{text}");
        rig.finish();
        assert_eq!(rig.shared(1, DATA, len as usize), expected, "{text}");
        assert_eq!((rig.phase(0), rig.phase(1)), (0, 1), "{text}");
    }
}

#[test]
fn lanes_store_each_for_itself_and_through_generic_addresses_too() {
    let mut rig = Rig::new(2);
    rig.expect(8 * 4);
    rig.set_in(0, "a", |lane| 0x7000_0000_0000 | 1 << 24 | (u64::from(DATA) + 4 * lane as u64));
    rig.set_in(0, "x", |lane| lane as u64 * 3);
    rig.set("b", 0x7000_0000_0000 | 1 << 24 | u64::from(BARRIER));
    let flow = rig.run_in(0, 0b1010_1010_0101_0101, "st.async.mbarrier::complete_tx::bytes.u32 [a], x, [b]");
    assert!(matches!(flow, Ok(Flow::Next)));
    rig.finish();
    for lane in 0..32u32 {
        let expected = if 0b1010_1010_0101_0101 >> lane & 1 == 1 { lane * 3 } else { 0 };
        assert_eq!(rig.shared(1, DATA + 4 * lane, 4), expected.to_le_bytes(), "lane {lane}");
    }
    assert_eq!(rig.phase(1), 1);
}

#[test]
fn hints_and_launch_control_do_nothing() {
    let mut rig = Rig::new(1);
    rig.set("a", 0x7300_0000_0000);
    for text in [
        "cp.async.bulk.prefetch.L2.global [a], 64",
        "cp.async.bulk.prefetch.L2.global.L2::cache_hint [a], size, policy",
        "prefetch.param.tensormap [parameter]",
        "griddepcontrol.wait",
        "griddepcontrol.launch_dependents",
        "fence.proxy.tensormap::generic.release.gpu",
        "fence.proxy.tensormap::generic.acquire.sys [a], 128",
    ] {
        rig.go(text);
        assert!(rig.cluster.flights.is_empty());
    }
}
