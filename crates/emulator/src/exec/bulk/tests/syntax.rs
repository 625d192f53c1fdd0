//! Which forms there are, as ptxas says for sm_90a.

use super::super::decode;
use super::rig::{Rig, contents, instruction, pattern};
use crate::exec::bulk::tests::rig::DATA;
use crate::program::{Class, Decoder, Meet};
use crate::ptx::ErrorKind;
use crate::tensormap::{self, TensorMap};

#[test]
fn forms_that_ptxas_refuses_are_invalid() {
    let cases = [
        (
            "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.multicast::cluster [dst], [a], 16, [bar], mask",
            ".multicast::cluster needs",
        ),
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [a], 24, [bar]",
            "no multiple of 16",
        ),
        (
            "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.L2::cache_hint [dst], [src], 16, [bar], policy",
            "no such copy",
        ),
        (
            "cp.async.bulk.global.shared::cta.mbarrier::complete_tx::bytes [a], [src], 16, [bar]",
            "no such copy",
        ),
        ("cp.async.bulk.shared::cluster.global.bulk_group [dst], [a], 16", "no such copy"),
        ("cp.async.bulk.global.global.bulk_group [a], [b], 16", "no such copy"),
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [a], 16",
            "expected 4 operands, found 3",
        ),
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [a], 16, [bar], mask",
            "expected 4 operands, found 5",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0}], [bar]",
            "expected 2 coordinates, found 1",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map], [bar]",
            "expected 2 coordinates, found 0",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [parameter, {c0,c1}], [bar]",
            "generic address",
        ),
        (
            "cp.async.bulk.tensor.6d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0}], [bar]",
            ".1d to .5d",
        ),
        (
            "cp.async.bulk.tensor.1d.shared::cta.global.mbarrier::complete_tx::bytes.multicast::cluster [dst], [map, {c0}], [bar], mask",
            "needs .shared::cluster",
        ),
        ("cp.async.bulk.wait_group size", "constant"),
        ("cp.async.bulk.commit_group 0", "expected 0 operands"),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f16 [a], [src], 16", "no such operation"),
        (
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.f32 [a], [src], 16",
            "no such operation",
        ),
        (
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.noftz.f16 [a], [src], 16",
            "no such operation",
        ),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.min.f32 [a], [src], 16", "no such operation"),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.s64 [a], [src], 16", "no such operation"),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.inc.s32 [a], [src], 16", "no such operation"),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.and.u32 [a], [src], 16", "no such operation"),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.f32 [dst], [src], 16, [bar]",
            "no such operation",
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.min.u64 [dst], [src], 16, [bar]",
            "no such operation",
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.add.u32 [dst], [a], 16, [bar]",
            "no such copy",
        ),
        (
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b64 [dst], {wide,wide,wide,wide}, [bar]",
            "no such vector",
        ),
        ("st.async.shared::cluster.mbarrier::complete_tx::bytes.b16 [dst], mask, [bar]", "no such vector"),
        ("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [dst], {x}, [bar]", "a vector of 2"),
        (
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [dst], wide, [bar]",
            "a register of .b64",
        ),
        (
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.min.u64 [dst], wide, [bar]",
            "no such operation",
        ),
        (
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.f32 [dst], f, [bar]",
            "no such operation",
        ),
        (
            "red.async.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [dst], x, [bar]",
            ".relaxed.cluster",
        ),
        ("setmaxnreg.inc.sync.aligned.u32 x", "constant"),
        ("setmaxnreg.inc.sync.aligned.u32 28", "multiple of 8"),
        ("setmaxnreg.inc.sync.aligned.u32 16", "from 24 to 256"),
        ("setmaxnreg.dec.sync.aligned.u32 264", "from 24 to 256"),
        ("setmaxnreg.dec.sync.u32 24", ".sync.aligned.u32"),
        ("griddepcontrol", ".wait or .launch_dependents"),
        ("fence.proxy.tensormap::generic.acquire.gpu", "expected 2 operands"),
        ("fence.proxy.tensormap::generic.sc.gpu", ".acquire or .release"),
        ("tensormap.replace.tile.box_dim.global.b1024.b32 [a], x, x", "number of a dimension"),
        ("tensormap.replace.tile.box_dim.global.b1024.b32 [a], 5, x", "number of a dimension"),
        ("tensormap.replace.tile.global_stride.global.b1024.b64 [a], 4, b", "number of a dimension"),
        ("tensormap.replace.tile.global_address.global.b1024.b32 [a], x", ".b1024.b64"),
        (
            "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [a], [src], 64",
            "size of 128",
        ),
    ];
    for (text, words) in cases {
        let error = Rig::new(1).decode(text).expect_err(text);
        assert_eq!(error.kind, ErrorKind::Invalid, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error} does not say {words:?}");
    }
}

#[test]
fn forms_that_are_not_emulated_say_so() {
    let cases = [
        "cp.async.bulk.tensor.3d.im2col.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1,c2}], [bar]",
        "cp.async.bulk.tensor.2d.tile::gather4.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1}], [bar]",
        "cp.async.bulk.global.shared::cta.bulk_group.cp_mask [a], [src], 16",
        "multimem.ld_reduce.global.add.f32 f, [a]",
        "multimem.red.global.add.f32 [a], f",
        "tensormap.replace.tile.swizzle_atomicity.global.b1024.b32 [a], 0",
        "red.async.relaxed.cluster.global.add.u32 [a], x",
    ];
    for text in cases {
        let error = Rig::new(1).decode(text).expect_err(text);
        assert_eq!(error.kind, ErrorKind::Unsupported, "{text}: {error}");
    }
}

#[test]
fn other_families_instructions_are_left_alone() {
    for text in [
        "cp.async.ca.shared.global [dst], [a], 16",
        "st.shared.b32 [dst], x",
        "red.global.add.u32 [a], x",
        "fence.proxy.async",
        "prefetch.global.L2 [a]",
    ] {
        let decoded = decode(&instruction(text, 1), &mut Decoder::default());
        assert!(matches!(decoded, Ok(None)), "{text}");
    }
}

#[test]
fn whole_warps_meet_where_the_instruction_is_aligned() {
    let mut rig = Rig::new(1);
    for (text, meet) in [
        ("setmaxnreg.inc.sync.aligned.u32 24", Meet::Warp),
        (
            "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [a], [src], 128",
            Meet::Warp,
        ),
        ("cp.async.bulk.commit_group", Meet::Nobody),
    ] {
        let decoded = rig.decode(text).expect("known");
        assert_eq!((decoded.meet, decoded.class), (meet, Class::Async), "{text}");
    }
}

#[test]
fn a_map_made_in_shared_memory_is_copied_out_and_used() {
    let mut rig = Rig::new(1);
    let tensor = rig.allocate(&pattern(64 * 128));
    let home = rig.allocate(&[0; 128]);
    rig.set("src", u64::from(DATA))
        .set("a", home.base)
        .set("b", tensor.base)
        .set("x", 64)
        .set("size", 128)
        .set("wide", 128);
    for text in [
        "tensormap.replace.tile.global_address.shared::cta.b1024.b64 [src], b",
        "tensormap.replace.tile.rank.shared::cta.b1024.b32 [src], 1",
        "tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [src], 0, 32",
        "tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [src], 1, 4",
        "tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [src], 0, size",
        "tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [src], 1, x",
        "tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [src], 0, wide",
        "tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [src], 0, 1",
        "tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [src], 1, 1",
        "tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [src], 0",
        "tensormap.replace.tile.interleave_layout.shared::cta.b1024.b32 [src], 0",
        "tensormap.replace.tile.swizzle_mode.shared::cta.b1024.b32 [src], 1",
        "tensormap.replace.tile.fill_mode.shared::cta.b1024.b32 [src], 0",
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [a], [src], 128",
        // And edited where it is.
        "tensormap.replace.tile.box_dim.global.b1024.b32 [a], 1, 2",
        "prefetch.tensormap [a]",
        "cp.async.bulk.prefetch.tensor.2d.L2.global [a, {c0,c1}]",
    ] {
        rig.go(text);
    }
    let bytes: [u8; 128] = contents(&home).try_into().expect("128 bytes");
    let expected =
        tensormap::encode(0, tensor.base, &[128, 64], &[128], &[32, 2], &[1, 1], 0, 1, 0, 0).expect("valid");
    assert_eq!(TensorMap::decode(&bytes), TensorMap::decode(&expected));
    let fault = rig.fault("tensormap.replace.tile.box_dim.global.b1024.b32 [a], 1, 300");
    assert!(fault.message.contains("300 is more than 256"), "{}", fault.message);
    let fault = rig.fault("cp.async.bulk.prefetch.tensor.1d.L2.global [a, {c0}]");
    assert!(fault.message.contains("rank 2 where the instruction has 1"), "{}", fault.message);
    let fault = rig.fault("tensormap.replace.tile.rank.global.b1024.b32 [b], 1");
    assert!(fault.message.contains("no tensor map"), "{}", fault.message);
}
