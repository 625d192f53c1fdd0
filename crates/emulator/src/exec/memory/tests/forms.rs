//! Which forms are taken and which refused: each was tried with ptxas 13.0 for sm_90a.

use crate::exec::harness::Machine;
use crate::ptx::ErrorKind;

#[test]
fn every_form_that_the_compiler_takes_is_taken() {
    let mut m = Machine::unchecked();
    for text in [
        "ld.global.b16 %f1,[%rd1]",
        "ld.global.f32 %rd2,[%rd1]",
        "ld.global.f32 %r2,[%rd1]",
        "ld.global.b8 %f1,[%rd1]",
        "ld.global.b64 %q1,[%rd1]",
        "ld.global.v2.b32 {%r1,_},[%rd1]",
        "ld.global.v2.b32 {%r1,%r1},[%rd1]",
        "ld.relaxed.gpu.global.u32 %r1,[%rd1]",
        "ld.global.relaxed.gpu.u32 %r1,[%rd1]",
        "ld.acquire.sys.u32 %r1,[%rd1]",
        "ld.relaxed.cluster.u32 %r1,[%rd1]",
        "ld.acquire.cta.shared.u32 %r1,[%rd1]",
        "ld.mmio.relaxed.sys.global.u32 %r1,[%rd1]",
        "ld.volatile.global.u32 %r1,[%rd1]",
        "ld.volatile.shared.u32 %r1,[%rd1]",
        "ld.volatile.global.b128 %q1,[%rd1]",
        "ld.weak.u32 %r1,[%rd1]",
        "ld.global.nc.f32 %f1,[%rd1]",
        "ld.global.nc.L1::no_allocate.L2::128B.v4.f32 {%f1,%f2,%f3,%f4},[%rd1]",
        "ld.global.L1::evict_last.L2::256B.b32 %r1,[%rd1]",
        "ld.global.L2::cache_hint.b32 %r1,[%rd1],%rd2",
        "ld.shared.ca.b32 %r1,[%rd1]",
        "ld.global.cg.b32 %r1,[%rd1]",
        "ld.global.lu.b32 %r1,[%rd1]",
        "ld.global.cv.b32 %r1,[%rd1]",
        "ld.local.b32 %r1,[16]",
        "ld.b32 %r1,[gv]",
        "ld.global.b32 %r1,[gv+4]",
        "ld.shared::cta.u32 %r1,[%r2]",
        "ld.shared::cluster.u32 %r1,[%r2]",
        "ld.param::entry.u32 %r1,[kp]",
        "ldu.global.f32 %f1,[%rd1]",
        "ldu.f32 %f1,[%rd1]",
        "ldu.global.v4.f32 {%f1,%f2,%f3,%f4},[%rd1]",
        "st.global.v2.b32 [%rd1],{%r1,5}",
        "st.global.f32 [%rd1],%r1",
        "st.global.f32 [%rd1],%rd2",
        "st.global.b16 [%rd1],%f1",
        "st.param.b32 [cp],%r1",
        "st.param::func.b32 [cp],%r1",
        "st.release.cluster.shared::cluster.u32 [%r2],%r1",
        "st.volatile.shared.f32 [%rd1],%f1",
        "st.relaxed.gpu.global.v2.f32 [%rd1],{%f1,%f2}",
        "st.mmio.relaxed.sys.u32 [%rd1],%r1",
        "st.global.wb.b32 [%rd1],%r1",
        "st.global.cs.b32 [%rd1],%r1",
        "st.global.wt.b32 [%rd1],%r1",
        "st.global.L1::no_allocate.L2::cache_hint.v4.b32 [%rd1],{%r1,%r2,%r3,%r4},%rd2",
        "prefetch.global.L1 [%rd1]",
        "prefetch.L2 [%rd1]",
        "prefetch.local.L1 [lc]",
        "prefetch.global.L2::evict_last [%rd1]",
        "prefetch.global.L2::evict_normal [%rd1]",
        "prefetchu.L1 [%rd1]",
        "applypriority.global.L2::evict_normal [%rd1],128",
        "applypriority.L2::evict_normal [%rd1],128",
        "discard.global.L2 [%rd1],128",
        "discard.L2 [%rd1],128",
        "createpolicy.fractional.L2::evict_last.b64 %rd1,0f3f800000",
        "createpolicy.fractional.L2::evict_last.L2::evict_unchanged.b64 %rd1,1.0",
        "createpolicy.fractional.L2::evict_first.b64 %rd1,%f1",
        "createpolicy.fractional.L2::evict_last.b64 %rd1",
        "createpolicy.range.L2::evict_last.L2::evict_unchanged.b64 %rd1,[%rd2],%r1,%r2",
        "createpolicy.range.global.L2::evict_last.b64 %rd1,[%rd2],0x100000,0x200000",
        "createpolicy.cvt.L2.b64 %rd1,%rd2",
    ] {
        m.decode(&format!("{text};")).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn every_form_that_the_compiler_refuses_is_refused() {
    let mut m = Machine::unchecked();
    for text in [
        "ld.global.f16 %rs1,[%rd1]",
        "ld.global.f16x2 %r1,[%rd1]",
        "ld.global.tf32 %r1,[%rd1]",
        "ld.global.s32 %fd1,[%rd1]",
        "ld.global.u32 %rs1,[%rd1]",
        "ld.global.v2.b128 {%q1,%q2},[%rd1]",
        "ld.global.v8.b32 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r8},[%rd1]",
        "ld.global.v4.b64 {%rd2,%rd3,%rd4,%rd5},[%rd1]",
        "ld.global.v8.b8 {%b1,%b1,%b1,%b1,%b1,%b1,%b1,%b1},[%rd1]",
        "ld.global.v4.b32 {%r1,%r2},[%rd1]",
        "ld.global.b32 {%r1,%r2},[%rd1]",
        "ld.global.v2.b32 %r1,[%rd1]",
        "ld.relaxed.global.u32 %r1,[%rd1]",
        "ld.weak.gpu.global.u32 %r1,[%rd1]",
        "ld.acq_rel.gpu.global.u32 %r1,[%rd1]",
        "ld.release.gpu.u32 %r1,[%rd1]",
        "ld.gpu.u32 %r1,[%rd1]",
        "ld.volatile.gpu.u32 %r1,[%rd1]",
        "ld.volatile.global.nc.u32 %r1,[%rd1]",
        "ld.relaxed.gpu.global.nc.u32 %r1,[%rd1]",
        "ld.nc.u32 %r1,[%rd1]",
        "ld.shared.nc.u32 %r1,[sm]",
        "ld.mmio.relaxed.gpu.global.u32 %r1,[%rd1]",
        "ld.mmio.u32 %r1,[%rd1]",
        "ld.acquire.gpu.const.u32 %r1,[cv]",
        "ld.volatile.const.u32 %r1,[cv]",
        "ld.volatile.local.u32 %r1,[lc]",
        "ld.volatile.param.u32 %r1,[kp]",
        "ld.global.b32 %r1,[16]",
        "ld.const.b32 %r1,[16]",
        "ld.shared.b32 %r1,[gv]",
        "ld.global.b32 %r1,[sm]",
        "ld.global.L2::cache_hint.b32 %r1,[%rd1]",
        "ld.global.b32 %r1,[%rd1],%rd2",
        "ld.global.wb.b32 %r1,[%rd1]",
        "ld.global %r1,[%rd1]",
        "ldu.shared.f32 %f1,[%rd1]",
        "ldu.volatile.global.f32 %f1,[%rd1]",
        "st.global.v2.b32 [%rd1],{%r1,_}",
        "st.global.f32 [%rd1],5",
        "st.global.u8 [%rd1],%f1",
        "st.const.u32 [cv],%r1",
        "st.param.u32 [kp],%r1",
        "st.global.ca.b32 [%rd1],%r1",
        "st.acquire.gpu.u32 [%rd1],%r1",
        "prefetch.shared.L1 [sm]",
        "prefetch.global [%rd1]",
        "prefetchu.L2 [%rd1]",
        "prefetchu.global.L1 [%rd1]",
        "applypriority.L2::evict_normal [%rd1],64",
        "createpolicy.fractional.b64 %rd1",
        "createpolicy.L2::evict_last.b64 %rd1",
    ] {
        match m.decode(&format!("{text};")) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => {
                assert!(matches!(error.kind, ErrorKind::Invalid | ErrorKind::Unsupported), "{error}")
            }
        }
    }
}

#[test]
fn an_unknown_modifier_is_refused_by_name() {
    let mut m = Machine::unchecked();
    let error = m.decode("ld.global.L3::best.u32 %r1,[%rd1];").expect_err("it is not known");
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(error.message, "ld.global.L3::best.u32: modifier .L3::best is not known here");
}
