//! cvta, isspacep, mapa, getctarank, and memory of other blocks.

use crate::check::Options;
use crate::exec::harness::{Machine, SHARED_BASE, UNWRITTEN};
use crate::fault::FaultKind;
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};

fn cluster(blocks: u32) -> Machine {
    Machine::of(blocks, Options::NONE)
}

#[test]
fn cvta_goes_to_the_generic_address_and_back() {
    let mut m = Machine::unchecked();
    m.set("%rd1", |lane| u128::from(SHARED_BASE + lane));
    for (space, window) in [
        ("global", 0),
        ("const", 0),
        ("local", LOCAL_WINDOW),
        ("param", PARAM_WINDOW),
        ("param::entry", PARAM_WINDOW),
        ("shared", SHARED_WINDOW),
        ("shared::cta", SHARED_WINDOW),
        ("shared::cluster", SHARED_WINDOW),
    ] {
        m.set("%rd2", |_| 7);
        m.set("%rd3", |_| 7);
        m.run_lanes(0xFFFF_FFF7, &format!("cvta.{space}.u64 %rd2, %rd1; cvta.to.{space}.u64 %rd3, %rd2;"))
            .expect("no fault");
        for lane in 0..32 {
            let expected = if lane == 3 {
                [7, 7]
            } else {
                [window + SHARED_BASE + lane as u64, SHARED_BASE + lane as u64]
            };
            assert_eq!(
                [m.get("%rd2", lane), m.get("%rd3", lane)],
                expected.map(u128::from),
                ".{space}, lane {lane}"
            );
        }
    }
    m.run("cvta.shared.u64 %rd1, sm; cvta.local.u64 %rd2, lc+4; cvta.param.u64 %rd3, kp; cvta.global.u64 %rd4, gv; cvta.param.u64 %rd5, cp;")
        .expect("no fault");
    let found = ["%rd1", "%rd2", "%rd3", "%rd4", "%rd5"].map(|name| m.get(name, 31));
    let expected =
        [SHARED_WINDOW + SHARED_BASE, LOCAL_WINDOW + 20, PARAM_WINDOW + 8, m.gv.base, LOCAL_WINDOW + 32];
    assert_eq!(found, expected.map(u128::from), "variables by name; a call's parameter is local");
}

#[test]
fn what_cvta_gives_leads_to_the_same_memory() {
    let mut m = cluster(3);
    m.current = 2;
    m.set("%r1", |lane| u128::from(lane + 5));
    m.run("st.shared.u32 [sm+8], %r1; cvta.shared.u64 %rd1, sm; ld.u32 %r2, [%rd1+8];").expect("no fault");
    assert_eq!(m.get("%r2", 0), 36, "the last lane's");
    assert_eq!(m.get("%rd1", 0), u128::from(SHARED_WINDOW + (2 << 24) + SHARED_BASE), "it names its block");
    m.run(
        "cvta.to.shared.u64 %rd2, %rd1; ld.shared.u32 %r3, [%rd2+8]; ld.shared::cluster.u32 %r4, [%rd2+8];",
    )
    .expect("no fault");
    assert_eq!((m.get("%r3", 0), m.get("%r4", 0)), (36, 36));
}

#[test]
fn a_variable_in_shared_memory_has_an_address_that_names_its_block() {
    let mut m = cluster(4);
    m.current = 2;
    m.set("%r5", |_| 0x1234);
    m.run("mov.u32 %r1, sm; mov.u64 %rd1, sm+8; st.shared.u32 [%r1+4], %r5; ld.shared::cluster.u32 %r2, [sm+4];").expect("no fault");
    assert_eq!(m.get("%r1", 7), 2 << 24 | u128::from(SHARED_BASE));
    assert_eq!(m.get("%rd1", 7), 2 << 24 | u128::from(SHARED_BASE + 8));
    assert_eq!(m.get("%r2", 7), 0x1234, "as an address in the cluster it is still the block's own");
    m.current = 0;
    m.run("ld.shared::cluster.u32 %r2, [sm+4]; mov.u32 %r1, sm;").expect("no fault");
    assert_eq!((m.get("%r2", 7), m.get("%r1", 7)), (u128::from(UNWRITTEN), u128::from(SHARED_BASE)));
}

#[test]
fn parameters_of_a_function_are_local_also_by_address() {
    let mut m = Machine::unchecked();
    m.set("%r1", |lane| u128::from(lane + 9));
    m.decoder.callee = true;
    m.run(
        "st.param.b32 [cp+4], %r1; mov.b64 %rd1, cp; ld.param.u32 %r2, [%rd1+4];
         cvta.param.u64 %rd2, %rd1; ld.u32 %r3, [%rd2+4]; cvta.to.param.u64 %rd3, %rd2;",
    )
    .expect("no fault");
    for lane in 0..32 {
        let found = ["%r2", "%r3", "%rd3"].map(|name| m.get(name, lane));
        assert_eq!(found, [lane as u128 + 9, lane as u128 + 9, 32], "lane {lane}");
    }
}

#[test]
fn isspacep_tells_windows_apart() {
    let mut m = cluster(2);
    let addresses = [
        (m.gv.base, "global"),
        (0x10, "global"),
        (LOCAL_WINDOW + 8, "local"),
        (PARAM_WINDOW, "param"),
        (SHARED_WINDOW + SHARED_BASE, "shared"),
        (SHARED_WINDOW + (1 << 24) + SHARED_BASE, "shared::cluster"),
        (SHARED_WINDOW - 1, "global"),
        (SHARED_WINDOW + (1 << 32), "global"),
    ];
    m.set("%rd1", |lane| u128::from(addresses[lane as usize % 8].0));
    for space in ["global", "local", "param", "param::entry", "shared", "shared::cta", "shared::cluster"] {
        m.set_predicate("%p1", 0xF0F0_F0F0);
        m.run_lanes(0x0000_FFFF, &format!("isspacep.{space} %p1, %rd1;")).expect("no fault");
        let mut expected = 0;
        for lane in 0..16 {
            let own = addresses[lane % 8].1;
            let asked = space.trim_end_matches("::entry").trim_end_matches("::cta");
            expected |= u32::from(own == asked || (asked == "shared::cluster" && own == "shared")) << lane;
        }
        assert_eq!(m.predicate("%p1"), 0xF0F0_0000 | expected, ".{space}");
    }
    assert!(m.decode("isspacep.const %p1, %rd1;").is_err());
    assert!(m.decode("isspacep %p1, %rd1;").is_err());
}

#[test]
fn mapa_names_the_same_place_in_another_block() {
    let mut m = cluster(4);
    m.current = 1;
    m.set("%r1", |lane| u128::from(SHARED_BASE + 4 * lane));
    m.set("%r2", |lane| u128::from(lane % 4));
    m.run(
        "mapa.shared::cluster.u32 %r3, %r1, %r2;
         mapa.shared::cluster.u32 %r4, sm+4, 3;
         mapa.shared::cluster.u64 %rd3, sm, %r2;
         getctarank.shared::cluster.u32 %r5, %r3;
         cvta.shared.u64 %rd1, sm;
         mapa.u64 %rd2, %rd1, %r2;
         getctarank.u64 %r6, %rd2;
         mapa.u32 %r7, %r3, 2;",
    )
    .expect("no fault");
    for lane in 0..32 {
        let rank = lane as u128 % 4;
        assert_eq!(m.get("%r3", lane), rank << 24 | (u128::from(SHARED_BASE) + 4 * lane as u128));
        assert_eq!(m.get("%r4", lane), 3 << 24 | u128::from(SHARED_BASE + 4));
        assert_eq!(m.get("%rd3", lane), rank << 24 | u128::from(SHARED_BASE));
        assert_eq!((m.get("%r5", lane), m.get("%r6", lane)), (rank, rank));
        assert_eq!(m.get("%rd2", lane), u128::from(SHARED_WINDOW + SHARED_BASE) + (rank << 24));
        assert_eq!(m.get("%r7", lane), 2 << 24 | (u128::from(SHARED_BASE) + 4 * lane as u128));
    }
}

#[test]
fn memory_of_other_blocks_is_read_written_and_updated() {
    let mut m = cluster(4);
    m.current = 3;
    m.set("%r1", |lane| u128::from(lane * 10));
    m.set("%r2", |lane| u128::from((lane % 4) << 24 | (SHARED_BASE + 4 * lane)));
    m.set("%rd2", |lane| u128::from(SHARED_WINDOW + ((lane % 4) << 24 | (SHARED_BASE + 4 * lane))));
    m.run(
        "st.shared::cluster.u32 [%r2], %r1;
         ld.shared::cluster.u32 %r3, [%r2];
         ld.u32 %r4, [%rd2];
         atom.shared::cluster.add.u32 %r5, [%r2], 1;
         red.add.u32 [%rd2], 1;",
    )
    .expect("no fault");
    for lane in 0..32 {
        let found = ["%r3", "%r4", "%r5"].map(|name| m.get(name, lane));
        assert_eq!(found, [lane as u128 * 10; 3], "lane {lane}");
        let at = SHARED_BASE as usize + 4 * lane;
        for rank in 0..4 {
            let word =
                u32::from_le_bytes(m.cluster.blocks[rank].shared[at..at + 4].try_into().expect("4 bytes"));
            assert_eq!(
                word,
                if rank == lane % 4 { lane as u32 * 10 + 2 } else { UNWRITTEN },
                "block {rank}, lane {lane}"
            );
        }
    }
}

#[test]
fn a_block_that_the_cluster_does_not_have_is_a_fault() {
    let mut m = cluster(2);
    m.set("%r2", |lane| u128::from(lane / 16));
    m.run("mapa.shared::cluster.u32 %r1, sm, %r2;").expect("blocks 0 and 1 are there");
    m.set("%r2", |lane| u128::from(lane / 15));
    let fault = m.run("mapa.shared::cluster.u32 %r1, sm, %r2;").expect_err("block 2 is not");
    assert_eq!((fault.kind, fault.lane), (FaultKind::Instruction, Some(30)));
    assert_eq!(fault.message, "mapa asks for block 2 of a cluster of 2");
    m.set("%rd1", |_| u128::from(SHARED_BASE));
    let fault = m.run("mapa.u64 %rd2, %rd1, 0;").expect_err("it is no generic address");
    assert_eq!(fault.message, "mapa of 0x400, which is no address of shared memory");
    let fault = m.run("getctarank.u64 %r1, %rd1;").expect_err("it is no generic address");
    assert_eq!(fault.message, "getctarank of 0x400, which is no address of shared memory");
    for text in [
        "mapa.shared.u32 %r1, %r2, %r3;",
        "mapa.shared::cluster.u64 %rd1, %r2, %r3;",
        "mapa.s32 %r1, %r2, %r3;",
        "cvta.u64 %rd1, %rd2;",
        "cvta.global.s64 %rd1, %rd2;",
        "cvta.shared.u64 %rd1, %r1;",
    ] {
        assert!(m.decode(text).is_err(), "{text}");
    }
}
