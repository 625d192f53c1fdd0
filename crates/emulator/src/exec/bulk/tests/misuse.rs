//! What is done wrong, and what is said of it.

use super::rig::{BARRIER, DATA, Rig};
use crate::exec::Flow;
use crate::fault::FaultKind;
use crate::tensormap;

const LOAD: &str =
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [a], size, [bar]";
const OWN: &str = "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [dst], [a], size, [bar]";
const STORE: &str = "cp.async.bulk.global.shared::cta.bulk_group [a], [src], size";
const PEER: &str =
    "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [dst], [src], size, [bar]";
const MULTICAST: &str = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [dst], [a], size, [bar], mask";
const VALUE: &str = "st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [dst], wide, [bar]";
const BOX: &str = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1}], [bar]";
const BOX_STORE: &str = "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [map, {c0,c1}], [src]";
const BOX_ADD: &str =
    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [map, {c0,c1}], [src]";

/// Two blocks, whose registers and parameters go with every instruction above.
fn rig() -> Rig {
    let mut rig = Rig::new(2);
    let global = rig.allocate(&[0; 4096]);
    rig.expect(1 << 16);
    rig.set("dst", u64::from(DATA)).set("src", u64::from(DATA + 4096)).set("bar", u64::from(BARRIER));
    rig.set("a", global.base)
        .set("size", 64)
        .set("mask", 0b11)
        .set("map", 0x7200_0000_0000)
        .set("c0", 0)
        .set("c1", 0);
    rig.params = map(global.base, 9, 0, 0).to_vec();
    rig
}

/// A tensor of 16 × 8 elements of a type, with a box of 8 × 4.
fn map(address: u64, data_type: u32, interleave: u32, fill: u32) -> [u8; 128] {
    let swizzle = if interleave == 2 { 1 } else { 0 };
    let rank = if interleave == 0 { 2 } else { 3 };
    let dims = [16, 8, 2];
    let strides = [128, 1024];
    tensormap::encode(
        data_type,
        address,
        &dims[..rank],
        &strides[..rank - 1],
        &[8, 4, 1][..rank],
        &[1; 3][..rank],
        interleave,
        swizzle,
        0,
        fill,
    )
    .expect("valid")
}

#[track_caller]
fn expect(rig: &mut Rig, text: &'static str, kind: FaultKind, words: &str) {
    let fault = rig.fault(text);
    assert_eq!((fault.kind, fault.lane), (kind, Some(0)), "{}", fault.message);
    assert!(fault.message.contains(words), "{:?} does not say {words:?}", fault.message);
}

#[test]
fn every_form_runs_when_nothing_is_wrong() {
    for text in [LOAD, OWN, STORE, PEER, MULTICAST, BOX, BOX_STORE, BOX_ADD, VALUE] {
        rig().go(text);
    }
}

#[test]
fn addresses_that_are_no_multiples_of_what_is_asked() {
    use FaultKind::Misaligned;
    expect(
        rig().set("dst", u64::from(DATA + 8)),
        LOAD,
        Misaligned,
        "destination's shared address 0x808 is no multiple of 16",
    );
    expect(
        rig().set("a", 0x7300_0000_0008),
        LOAD,
        Misaligned,
        "global address 0x730000000008 is no multiple of 16",
    );
    expect(
        rig().set("bar", u64::from(BARRIER + 4)),
        LOAD,
        Misaligned,
        "mbarrier's shared address 0x404 is no multiple of 8",
    );
    expect(rig().set("src", u64::from(DATA + 8)), STORE, Misaligned, "source's shared address");
    expect(rig().set("a", 0x7300_0000_0008), STORE, Misaligned, "global address");
    expect(rig().set("src", u64::from(DATA + 8)), PEER, Misaligned, "source's shared address");
    expect(rig().set("dst", u64::from(DATA + 8)), PEER, Misaligned, "destination's shared address");
    expect(rig().set("dst", u64::from(DATA + 16)), BOX, Misaligned, "0x810 is no multiple of 128");
    expect(rig().set("src", u64::from(DATA + 16)), BOX_STORE, Misaligned, "0x810 is no multiple of 128");
    expect(rig().set("dst", u64::from(DATA + 4)), VALUE, Misaligned, "0x804 is no multiple of 8");
}

#[test]
fn sizes_that_are_no_multiples_of_16() {
    for text in [LOAD, STORE, PEER, MULTICAST] {
        expect(rig().set("size", 40), text, FaultKind::Instruction, "40 bytes, which is no multiple of 16");
    }
}

#[test]
fn ranges_outside_shared_memory() {
    use FaultKind::Address;
    let end = super::rig::SHARED as u64;
    for (text, register) in [(LOAD, "dst"), (STORE, "src"), (PEER, "src"), (PEER, "dst"), (MULTICAST, "dst")]
    {
        expect(
            rig().set(register, end - 48),
            text,
            Address,
            "64 bytes at 0x17fd0, lies outside shared memory, which is 0x400 to 0x18000",
        );
        // What the system keeps of shared memory is not the program's.
        expect(rig().set(register, 512), text, Address, "64 bytes at 0x200, lies outside");
    }
    expect(rig().set("dst", end), BOX, Address, "the destination, 64 bytes");
    expect(rig().set("src", end), BOX_STORE, Address, "the source, 64 bytes");
    expect(rig().set("bar", end), LOAD, Address, "the mbarrier, 8 bytes");
    expect(rig().set("dst", 2 << 24 | u64::from(DATA)), LOAD, Address, "names block 2 of a cluster of 2");
}

#[test]
fn ranges_outside_global_memory() {
    for text in [LOAD, STORE] {
        let mut rig = rig();
        let freed = rig.allocate(&[0; 64]);
        expect(
            rig.set("a", 0x7300_0000_0000 + 4096 - 48),
            text,
            FaultKind::Address,
            "64 bytes at 0x730000000fd0, the last 16 of them past the end of the allocation of 4096 bytes at 0x730000000000",
        );
        rig.memory.free(freed.base).expect("live");
        expect(rig.set("a", freed.base), text, FaultKind::UseAfterFree, "that was freed");
        expect(rig.set("a", 0x7000_0000_0400), text, FaultKind::AddressSpace, "is no global memory");
    }
}

#[test]
fn what_is_not_in_the_block_that_it_must_be_in() {
    use FaultKind::{AddressSpace, Instruction};
    let other = |offset: u32| 1 << 24 | u64::from(offset);
    expect(
        rig().set("bar", other(BARRIER)),
        LOAD,
        Instruction,
        "in block 0 of the cluster and its mbarrier in block 1",
    );
    expect(
        rig().set("dst", other(DATA)),
        PEER,
        Instruction,
        "in block 1 of the cluster and its mbarrier in block 0",
    );
    expect(rig().set("bar", other(BARRIER)), VALUE, Instruction, "both must be in one");
    expect(
        rig().set("dst", other(DATA)),
        OWN,
        AddressSpace,
        "shared memory of block 1 of the cluster, not of block 0",
    );
    expect(rig().set("src", other(DATA)), STORE, AddressSpace, "not of block 0");
}

#[test]
fn mbarriers_that_are_none() {
    for text in [LOAD, OWN, PEER, MULTICAST, BOX, VALUE] {
        expect(
            rig().set("bar", u64::from(BARRIER + 8)),
            text,
            FaultKind::Barrier,
            "no mbarrier is initialised at shared address 0x408",
        );
    }
    let mut rig = rig();
    rig.cluster.blocks[1].mbarriers = Default::default();
    rig.go(LOAD);
    expect(&mut rig, MULTICAST, FaultKind::Barrier, "of block 1 of the cluster");
}

#[test]
fn a_destination_that_holds_a_live_mbarrier() {
    let mut rig = rig();
    rig.init_in(0, DATA + 56);
    expect(&mut rig, LOAD, FaultKind::Barrier, "the destination holds the mbarrier at shared address 0x838");
    rig.set("size", 48).go(LOAD);
}

#[test]
fn multicast_to_blocks_that_are_not_there() {
    expect(rig().set("mask", 0), MULTICAST, FaultKind::Instruction, "mask 0x0 in a cluster of 2");
    expect(rig().set("mask", 0b111), MULTICAST, FaultKind::Instruction, "mask 0x7 in a cluster of 2");
}

#[test]
fn a_block_that_has_ended() {
    for text in [PEER, MULTICAST, VALUE] {
        let mut rig = rig();
        rig.cluster.warps[1].as_mut().expect("there").live = 0;
        if text != MULTICAST {
            rig.set("dst", 1 << 24 | u64::from(DATA)).set("bar", 1 << 24 | u64::from(BARRIER));
        }
        expect(&mut rig, text, FaultKind::Address, "block 1 of the cluster, which has ended");
    }
}

#[test]
fn a_copy_onto_itself() {
    expect(rig().set("src", u64::from(DATA + 48)), PEER, FaultKind::Instruction, "overlap");
    rig().set("src", u64::from(DATA + 64)).go(PEER);
}

#[test]
fn tensor_maps_that_are_none() {
    use FaultKind::Instruction;
    for text in [BOX, BOX_STORE, BOX_ADD] {
        expect(rig().set("map", 0x7200_0000_0020), text, Instruction, "no multiple of 64");
        let mut garbage = rig();
        garbage.params[40] ^= 1;
        expect(&mut garbage, text, Instruction, "is no tensor map of cuTensorMapEncodeTiled");
        expect(rig().set("map", 0x7300_0000_0000), text, Instruction, "is no tensor map");
        expect(rig().set("map", 0x7000_0000_0400), text, Instruction, "in shared or local memory");
        expect(
            rig().set("map", 0x7200_0000_0040),
            text,
            FaultKind::Address,
            "byte 64 of the kernel's parameters, which are 128 bytes",
        );
        expect(rig().set("map", 0x40), text, FaultKind::Address, "nothing is allocated");
        let mut cube = rig();
        cube.params =
            tensormap::encode(9, 0x7300_0000_0000, &[8; 3], &[16, 128], &[8; 3], &[1; 3], 0, 0, 0, 0)
                .expect("valid")
                .to_vec();
        expect(&mut cube, text, Instruction, "rank 3 where the instruction has 2 dimensions");
    }
}

#[test]
fn what_a_map_asks_that_is_not_emulated() {
    use FaultKind::Unsupported;
    for data_type in [10, 11, 12] {
        let mut rig = rig();
        rig.params = map(0x7300_0000_0000, data_type, 0, 0).to_vec();
        expect(&mut rig, BOX, Unsupported, "tf32");
    }
    for interleave in [1, 2] {
        let mut rig = rig();
        rig.params = map(0x7300_0000_0000, 9, interleave, 0).to_vec();
        const CUBE: &str = "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1,c1}], [bar]";
        expect(&mut rig, CUBE, Unsupported, "interleaved");
    }
    // NaN beyond the edge: only where there is something beyond.
    let mut rig = rig();
    rig.params = map(0x7300_0000_0000, 9, 0, 1).to_vec();
    rig.set("c0", 8).go(BOX);
    expect(rig.set("c0", 9), BOX, Unsupported, "filled with NaN");
    rig.go(BOX_STORE);
}

#[test]
fn stores_below_a_tensor_and_reductions_that_its_type_has_not() {
    for text in [BOX_STORE, BOX_ADD] {
        expect(
            rig().set("c1", 0xffff_ffff),
            text,
            FaultKind::Instruction,
            "[0, -1]: coordinates of stores are not below 0",
        );
    }
    let mut rig = rig();
    rig.params = tensormap::encode(0, 0x7300_0000_0000, &[16, 8], &[128], &[16, 4], &[1, 1], 0, 0, 0, 0)
        .expect("valid")
        .to_vec();
    expect(&mut rig, BOX_ADD, FaultKind::Instruction, "no such reduction");
}

#[test]
fn more_bytes_than_were_announced_are_told_with_the_copy_that_brought_them() {
    let mut rig = Rig::new(1);
    let global = rig.allocate(&[0; 4096]);
    rig.init_in(0, BARRIER);
    rig.set("dst", u64::from(DATA)).set("a", global.base).set("size", 64).set("bar", u64::from(BARRIER));
    for i in 0..17 {
        // 17 copies of 64 KiB: the count of bytes leaves its range.
        rig.set("size", 65536).set("dst", u64::from(DATA)).set("a", global.base);
        if i == 0 {
            let big = rig.allocate(&vec![0; 65536]);
            rig.set("b", big.base);
        }
        assert!(
            rig.run(
                "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [b], size, [bar]"
            )
            .is_ok()
        );
    }
    let fault = (0..17).find_map(|_| rig.try_advance(true).err()).expect("a fault");
    assert_eq!(fault.kind, FaultKind::Barrier);
    let words = "issued by thread (0,0,0) of block 0 of the cluster";
    assert!(
        fault.message.contains("bulk load of PTX line") && fault.message.contains(words),
        "{}",
        fault.message
    );
}

/// Takes a block's mbarriers away, whose bytes do not add up.
fn forget(rig: &mut Rig, block: usize) {
    rig.cluster.blocks[block].mbarriers = Default::default();
}

#[test]
fn a_block_that_ends_with_operations_that_touch_its_shared_memory() {
    let ends = |rig: &mut Rig, block: u32, words: &str| {
        let fault = rig.exit(block).expect_err(words);
        assert_eq!(fault.kind, FaultKind::Async);
        assert!(fault.message.contains(words), "{:?} does not say {words:?}", fault.message);
    };
    let mut loads = rig();
    loads.go(LOAD);
    ends(&mut loads, 0, "still writes to its shared memory");
    forget(&mut loads, 1);
    assert!(loads.exit(1).is_ok(), "the other block may");
    loads.finish();
    let fault = loads.exit(0).expect_err("fewer bytes than announced");
    assert_eq!(fault.kind, FaultKind::Barrier);
    assert!(fault.message.contains("65472 bytes announced that never came"), "{}", fault.message);
    forget(&mut loads, 0);
    assert!(loads.exit(0).is_ok());

    let mut multicast = rig();
    multicast.set("mask", 0b10).go(MULTICAST);
    ends(&mut multicast, 1, "still writes to its shared memory");
    forget(&mut multicast, 0);
    assert!(multicast.exit(0).is_ok());

    let mut peer = rig();
    peer.set("dst", 1 << 24 | u64::from(DATA)).set("bar", 1 << 24 | u64::from(BARRIER)).go(PEER);
    ends(&mut peer, 0, "still reads its shared memory");
    ends(&mut peer, 1, "still writes");

    let mut store = rig();
    store.go(STORE);
    ends(&mut store, 0, "belongs to no group");
    store.go("cp.async.bulk.commit_group");
    ends(&mut store, 0, "cp.async.bulk.wait_group.read");
    store.finish();
    ends(&mut store, 0, "cp.async.bulk.wait_group.read");
    assert!(matches!(store.run("cp.async.bulk.wait_group.read 0"), Ok(Flow::Next)));
    forget(&mut store, 0);
    assert!(store.exit(0).is_ok());
}

#[test]
fn registers_are_given_back_before_they_are_taken() {
    // 12 warps: 168 registers each, as ptxas would give them.
    let mut rig = Rig::with_warps(1, 12);
    for warp in 4..12 {
        let flow = rig.run_in(warp, u32::MAX, "setmaxnreg.inc.sync.aligned.u32 240");
        assert!(matches!(flow, Ok(Flow::Wait(_))), "warp {warp} before the producers");
    }
    for warp in 0..4 {
        let flow = rig.run_in(warp, u32::MAX, "setmaxnreg.dec.sync.aligned.u32 24");
        assert!(matches!(flow, Ok(Flow::Next)));
    }
    for warp in 4..12 {
        let flow = rig.run_in(warp, u32::MAX, "setmaxnreg.inc.sync.aligned.u32 240");
        assert!(matches!(flow, Ok(Flow::Next)), "warp {warp}");
    }
    let fault = rig.run_in(0, u32::MAX, "setmaxnreg.dec.sync.aligned.u32 32").expect_err("up by dec");
    assert!(
        fault.message.contains("setmaxnreg.dec to 32 registers in a warp that has 24"),
        "{}",
        fault.message
    );
    let fault = rig.run_in(4, u32::MAX, "setmaxnreg.inc.sync.aligned.u32 232").expect_err("down by inc");
    assert!(
        fault.message.contains("setmaxnreg.inc to 232 registers in a warp that has 240"),
        "{}",
        fault.message
    );
}

#[test]
fn warps_of_a_warpgroup_ask_for_the_same_registers() {
    let mut rig = Rig::with_warps(1, 8);
    assert!(rig.run_in(0, u32::MAX, "setmaxnreg.dec.sync.aligned.u32 24").is_ok());
    assert!(rig.run_in(4, u32::MAX, "setmaxnreg.dec.sync.aligned.u32 40").is_ok(), "another warpgroup");
    let fault = rig.run_in(1, u32::MAX, "setmaxnreg.dec.sync.aligned.u32 40").expect_err("another number");
    assert!(fault.message.contains("warp 0 of the same warpgroup asked for 24"), "{}", fault.message);
    rig.program.limits.max_registers = Some(64);
    let fault =
        rig.run_in(5, u32::MAX, "setmaxnreg.dec.sync.aligned.u32 72").expect_err("more than .maxnreg");
    assert!(fault.message.contains("in a warp that has 64"), "{}", fault.message);
}
