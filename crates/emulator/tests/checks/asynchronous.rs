//! Copies and products that go on by themselves.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::{Shape, pair, run};

const BLOCK: Shape = Shape(1, 64, 1);

#[test]
fn cp_async_is_waited_for_by_its_thread_and_then_by_others() {
    let body = |wait: &str, barrier: &str| {
        format!(
            "mov.u32 %r4, 0; mad.lo.u32 %r1, %tid, 16, %base;
             st.shared.v4.u32 [%r1], {{%r4, %r4, %r4, %r4}};
             bar.sync 0;
             mad.wide.u32 %d1, %tid, 16, %out;
             cp.async.ca.shared.global [%r1], [%d1], 16;
             cp.async.commit_group;
             {wait}
             {barrier}
             xor.b32 %r2, %tid, 32; mad.lo.u32 %r2, %r2, 16, %base;
             ld.shared.u32 %r3, [%r2];"
        )
    };
    let words = &["while a cp.async writes there"];
    let (wait, barrier) = ("cp.async.wait_group 0;", "bar.sync 0;");
    pair(BLOCK, &body("@@", barrier), wait, "", FaultKind::Async, words);
    pair(BLOCK, &body("@@", barrier), wait, "cp.async.wait_group 1;", FaultKind::Async, words);
    // Without the barrier, the warp that comes first reads too early, or the other one copies too late.
    let early = run(BLOCK, &body(wait, "")).expect_err("no order");
    assert!(matches!(early.fault.kind, FaultKind::Async | FaultKind::Race), "{early}");
}

#[test]
fn the_destination_of_cp_async_is_not_written_meanwhile() {
    let body = "mad.lo.u32 %r1, %tid, 16, %base;
         mad.wide.u32 %d1, %tid, 16, %out;
         cp.async.ca.shared.global [%r1], [%d1], 16;
         @@
         st.shared.u32 [%r1+8], %tid;";
    let words = &["a write of 4 bytes", "while a cp.async writes there"];
    pair(BLOCK, body, "cp.async.wait_all;", "cp.async.commit_group;", FaultKind::Async, words);
}

/// Thread 0 loads 256 bytes onto mbarrier 0; all wait, and read.
fn load(wait: &str, before: &str) -> String {
    format!(
        "@%p0 mbarrier.init.shared.b64 [%bar], 1;
         bar.sync 0;
         {before}
         @!%p0 bra LOADED;
         mbarrier.arrive.expect_tx.shared.b64 %d1, [%bar], 256;
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%base], [%out], 256, [%bar];
         LOADED:
         {wait}
         ld.shared.u32 %r1, [%own];"
    )
}

const WAIT: &str = "WAIT: mbarrier.try_wait.parity.shared.b64 %p3, [%bar], 0; @!%p3 bra WAIT;";

#[test]
fn a_bulk_load_is_waited_for_on_its_mbarrier() {
    let words = &["while a bulk copy writes there"];
    // Every word is written before, so that none is read unwritten.
    let fill = "st.shared.u32 [%own], %tid; fence.proxy.async; bar.sync 0;";
    pair(BLOCK, &load("@@", fill), WAIT, "", FaultKind::Async, words);
    // The phase before is not the one that the load completes.
    let wrong = WAIT.replace(", 0;", ", 1;");
    pair(BLOCK, &load("@@", fill), WAIT, &wrong, FaultKind::Async, words);
    // It is thread 0 that has to wait on its behalf only if a barrier tells the others.
    let one =
        "@!%p0 bra PAST; WAIT: mbarrier.try_wait.parity.shared.b64 %p3, [%bar], 0; @!%p3 bra WAIT; PAST: @@";
    pair(BLOCK, &load(one, fill), "bar.sync 0;", "", FaultKind::Async, words);
}

#[test]
fn a_bulk_load_overwrites_stores_only_behind_a_proxy_fence() {
    let body = load(WAIT, "st.shared.u32 [%own], %tid;\n@@\nbar.sync 0;");
    let words = &["no fence.proxy.async"];
    pair(BLOCK, &body, "fence.proxy.async.shared::cta;", "", FaultKind::Async, words);
}

#[test]
fn a_bulk_load_overwrites_what_was_read_only_behind_a_barrier() {
    let before = "mov.u32 %r5, 0; st.shared.u32 [%own], %r5; fence.proxy.async; bar.sync 0; ld.shared.u32 %r4, [%own];\n@@";
    let words = &["an earlier read"];
    pair(BLOCK, &load(WAIT, before), "bar.sync 0;", "", FaultKind::Race, words);
}

/// All store to shared memory, thread 0 stores that to global memory.
fn store(fence: &str, after: &str) -> String {
    format!(
        "st.shared.u32 [%own], %tid;
         {fence}
         bar.sync 0;
         @!%p0 ret;
         cp.async.bulk.global.shared::cta.bulk_group [%out], [%base], 256;
         cp.async.bulk.commit_group;
         {after}"
    )
}

#[test]
fn a_bulk_store_reads_what_lies_behind_a_proxy_fence() {
    let words = &["no fence.proxy.async", "st.shared.u32 [%own], %tid;"];
    let body = store("@@", "cp.async.bulk.wait_group 0;");
    pair(BLOCK, &body, "fence.proxy.async;", "", FaultKind::Async, words);
    // The issuer's fence behind the barrier is taken too.
    let late = body.replace("@@", "bar.sync 0; fence.proxy.async;");
    run(BLOCK, &late).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn the_source_of_a_bulk_store_is_not_overwritten_before_it_was_read() {
    let body = store("fence.proxy.async;", "@@\nst.shared.u32 [%own], %cta;");
    let words = &["while a bulk copy reads there"];
    pair(BLOCK, &body, "cp.async.bulk.wait_group.read 0;", "", FaultKind::Async, words);
}

#[test]
fn what_a_bulk_store_wrote_is_read_behind_the_full_wait() {
    let body = store("fence.proxy.async;", "@@\nld.global.u32 %r1, [%out];");
    let (right, wrong) = ("cp.async.bulk.wait_group 0;", "cp.async.bulk.wait_group.read 0;");
    pair(BLOCK, &body, right, wrong, FaultKind::Async, &["while a bulk copy writes there"]);
}

/// A warpgroup multiplies 64x16 by 16x8 from shared memory, A at 0 and B at 4096.
fn product(fence: &str, after: &str) -> String {
    format!(
        "mov.u32 %r1, 0;
         mad.lo.u32 %r2, %tid, 16, %base;
         st.shared.v4.u32 [%r2], {{%r1, %r1, %r1, %r1}};
         st.shared.v4.u32 [%r2+2048], {{%r1, %r1, %r1, %r1}};
         st.shared.v4.u32 [%r2+4096], {{%r1, %r1, %r1, %r1}};
         {fence}
         bar.sync 0;
         and.b32 %r3, %base, 262143; shr.u32 %r3, %r3, 4; cvt.u64.u32 %d1, %r3;
         or.b64 %d1, %d1, 68720001024;
         add.u64 %d2, %d1, 256;
         wgmma.fence.sync.aligned;
         wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f0, %f1, %f2, %f3}}, %d1, %d2, 0, 1, 1, 0, 0;
         wgmma.commit_group.sync.aligned;
         {after}"
    )
}

const GROUP: Shape = Shape(1, 128, 1);

#[test]
fn a_matrix_product_reads_what_lies_behind_a_proxy_fence() {
    let words = &["no fence.proxy.async"];
    let body = product("@@", "wgmma.wait_group.sync.aligned 0;");
    pair(GROUP, &body, "fence.proxy.async;", "", FaultKind::Async, words);
}

#[test]
fn the_operands_of_a_matrix_product_are_not_overwritten_before_its_end() {
    let after = "@@\nst.shared.u32 [%own], %tid;\nwgmma.wait_group.sync.aligned 0;";
    let right = "wgmma.wait_group.sync.aligned 0; bar.sync 0;";
    let words = &["while a wgmma reads there"];
    pair(GROUP, &product("fence.proxy.async;", after), right, "bar.sync 0;", FaultKind::Async, words);
}

#[test]
fn registers_are_touched_between_matrix_products_only_before_a_fence() {
    const FENCE: &str = "wgmma.fence.sync.aligned;";
    let again = |between: &str| {
        let after = format!(
            "wgmma.wait_group.sync.aligned 0;
             {between}
             wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f0, %f1, %f2, %f3}}, %d1, %d2, 1, 1, 1, 0, 0;
             wgmma.commit_group.sync.aligned;
             wgmma.wait_group.sync.aligned 0;"
        );
        product("fence.proxy.async;", &after)
    };
    let words = &["register 2 of D was touched", "wgmma.fence has to come before"];
    let touch = "add.f32 %f2, %f2, %f2;";
    pair(GROUP, &again(&format!("{touch} @@")), FENCE, "", FaultKind::Async, words);
    pair(GROUP, &again("add.f32 %f5, %f5, %f2; @@"), FENCE, "", FaultKind::Async, words);
    // Where nothing touches them, or a compiler moves that behind the fence, none is owed.
    for silent in [String::new(), "add.f32 %f5, %f5, %f5;".to_owned(), format!("{FENCE} {touch}")] {
        run(GROUP, &again(&silent)).unwrap_or_else(|report| panic!("{silent}: {report}"));
    }
}

/// Thread 32 stores, and arrives; all wait and read.
fn hand_over(fence: &str, arrival: &str, wait: &str) -> String {
    format!(
        "@%p0 mbarrier.init.shared.b64 [%bar], 1;
         bar.sync 0;
         setp.eq.u32 %p2, %tid, 32;
         @%p2 st.shared.u32 [%base], %tid;
         {fence}
         @%p2 mbarrier.arrive{arrival}.shared::cta.b64 _, [%bar];
         {wait}
         ld.shared.u32 %r1, [%base];"
    )
}

#[test]
fn a_relaxed_arrival_releases_what_a_fence_covered() {
    let words = &["an earlier write"];
    for scope in ["cta", "cluster"] {
        let body = hand_over("@@", &format!(".relaxed.{scope}"), WAIT);
        let fence = format!("fence.acq_rel.{scope};");
        pair(BLOCK, &body, &fence, "", FaultKind::Race, words);
    }
    // A fence of a narrower scope than the arrival covers nothing for those beyond it.
    let body = hand_over("@@", ".relaxed.cluster", WAIT);
    pair(BLOCK, &body, "fence.sc.cluster;", "fence.sc.cta;", FaultKind::Race, words);
}

#[test]
fn a_relaxed_wait_acquires_at_the_next_fence() {
    let wait =
        "WAIT: mbarrier.test_wait.parity.relaxed.cta.shared::cta.b64 %p3, [%bar], 0; @!%p3 bra WAIT; @@";
    let body = hand_over("", ".release.cta", wait);
    pair(BLOCK, &body, "fence.acq_rel.cta;", "", FaultKind::Race, &["an earlier write"]);
}

#[test]
fn a_wait_by_parity_keeps_up_with_the_phases() {
    // Thread 32 ends two phases; without the wait, before the first warp has seen that the first ended.
    let body = "@%p0 mbarrier.init.shared.b64 [%bar], 1;
         @%p0 mbarrier.init.shared.b64 [%bar+8], 32;
         bar.sync 0;
         setp.ge.u32 %p2, %tid, 32;
         @%p2 bra PRODUCE;
         FIRST: mbarrier.try_wait.parity.shared.b64 %p3, [%bar], 0; @!%p3 bra FIRST;
         mbarrier.arrive.shared.b64 %d1, [%bar+8];
         SECOND: mbarrier.try_wait.parity.shared.b64 %p3, [%bar], 1; @!%p3 bra SECOND;
         bra END;
         PRODUCE:
         setp.ne.u32 %p2, %tid, 32;
         @%p2 bra END;
         mbarrier.arrive.shared.b64 %d1, [%bar];
         @@
         mbarrier.arrive.shared.b64 %d1, [%bar];
         END:";
    let seen = "SEEN: mbarrier.try_wait.parity.shared.b64 %p3, [%bar+8], 0; @!%p3 bra SEEN;";
    let words = &["a wait for parity 0 while phase 2 goes on", "never told that phase 0 has ended"];
    pair(BLOCK, body, seen, "", FaultKind::Barrier, words);
}

#[test]
fn who_was_told_otherwise_may_wait_for_a_later_phase() {
    let body = |wait: &str| {
        format!(
            "@%p0 mbarrier.init.shared.b64 [%bar], 1;
             bar.sync 0;
             setp.eq.u32 %p2, %tid, 32;
             @%p2 mbarrier.arrive.shared.b64 %d1, [%bar];
             @%p2 mbarrier.arrive.shared.b64 %d1, [%bar];
             {wait}
             bar.sync 0;
             setp.ge.u32 %p3, %tid, 32;
             @%p3 bra PRODUCE;
             AGAIN: mbarrier.try_wait.parity.shared.b64 %p3, [%bar], 0; @!%p3 bra AGAIN;
             bra END;
             PRODUCE: nanosleep.u32 1000; @%p2 mbarrier.arrive.shared.b64 %d1, [%bar];
             END:"
        )
    };
    for order in ["acquire.cta", "relaxed.cta"] {
        let wait = format!(
            "@!%p2 bra TOLD;
             FIRST: mbarrier.try_wait.parity.{order}.shared::cta.b64 %p3, [%bar], 1; @!%p3 bra FIRST;
             fence.acq_rel.cta;
             TOLD:"
        );
        run(BLOCK, &body(&wait)).unwrap_or_else(|report| panic!("{order}: {report}"));
    }
}
