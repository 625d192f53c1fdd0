//! Threads of one block: shared memory and barriers.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::{Shape, pair, run};

const BLOCK: Shape = Shape(1, 64, 1);

/// Every word is written, so that none is read unwritten.
const FILL: &str = "st.shared.u32 [%own], %cta; bar.sync 0;\n";

/// The word of the thread whose number differs in these bits.
fn of_other(bits: u32) -> String {
    format!("xor.b32 %r1, %tid, {bits}; mad.lo.u32 %r1, %r1, 4, %base;")
}

#[test]
fn a_barrier_is_missing_between_a_store_and_another_warps_load() {
    let body = format!("{FILL}st.shared.u32 [%own], %tid;\n@@\n{}\nld.shared.u32 %r2, [%r1];", of_other(32));
    // Whichever warp comes first: its store meets the other's load.
    let words = &["races with an earlier", "the earlier one: in kernel k, block (0,0,0), thread ("];
    pair(BLOCK, &body, "bar.sync 0;", "", FaultKind::Race, words);
}

#[test]
fn a_report_names_both_threads_and_both_lines() {
    let body = format!(
        "setp.lt.u32 %p2, %tid, 32;
         @!%p2 bra READ;
         st.shared.u32 [%own], %tid;
         READ: @%p2 ret;
         {}
         ld.shared.u32 %r2, [%r1];",
        of_other(32)
    );
    let text = run(BLOCK, &body).expect_err("a race").to_string();
    for words in [
        "a read of 4 bytes at",
        "in kernel k, block (0,0,0), thread (32,0,0), PTX line 32: ld.shared.u32 %r2, [%r1];",
        "the earlier one: in kernel k, block (0,0,0), thread (0,0,0), PTX line 29: st.shared.u32 [%own], %tid;",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

#[test]
fn warps_may_store_the_same_value_to_a_place_but_not_two() {
    let body = "@@ st.shared.u32 [s], %r2; st.global.v2.u32 [%out], {%r2, %r2};";
    let words = &["a write of 4 bytes", "races with an earlier write"];
    pair(BLOCK, body, "mov.u32 %r2, 7;", "mov.u32 %r2, %tid; shr.u32 %r2, %r2, 5;", FaultKind::Race, words);
    let body = "mov.u32 %r2, %cta; @@ st.global.v2.u16 [%out+4], {%r2, %r2};";
    let words = &["a write of 4 bytes", "races with an earlier write"];
    pair(Shape(4, 1, 1), body, "mov.u32 %r2, 7;", "", FaultKind::Race, words);
    // Who reads it still needs a barrier.
    let body = "mov.u32 %r2, 7; st.shared.u32 [s], %r2; @@ ld.shared.u32 %r3, [s];";
    pair(BLOCK, body, "bar.sync 0;", "", FaultKind::Race, &["races with an earlier"]);
}

#[test]
fn of_lanes_that_read_a_word_a_report_names_one_that_does_not_write_it() {
    let body = "st.shared.u32 [%own], %tid;
         bar.warp.sync -1;
         ld.shared.u32 %r2, [s];
         @%p0 st.shared.u32 [s], %r2;";
    let text = run(Shape(1, 32, 1), body).expect_err("a race").to_string();
    let [now, then] =
        ["thread (0,0,0), PTX line", "the earlier one: in kernel k, block (0,0,0), thread (1,0,0), PTX line"];
    assert!(text.contains(now) && text.contains(then), "{text}");
    let body = body.replace("@%p0 st", "bar.warp.sync -1; @%p0 st");
    run(Shape(1, 32, 1), &body).unwrap();
}

#[test]
fn a_barrier_is_missing_between_a_load_and_the_next_store() {
    let body = format!(
        "st.shared.u32 [%own], %tid;
         bar.sync 0;
         {}
         ld.shared.u32 %r2, [%r1];
         @@
         st.shared.u32 [%own], %r2;",
        of_other(32)
    );
    // Whichever warp comes first: its store meets the other's load.
    pair(BLOCK, &body, "bar.sync 0;", "", FaultKind::Race, &["races with an earlier"]);
}

#[test]
fn lanes_of_a_warp_meet_before_they_read_each_others_words() {
    let body = format!("st.shared.u32 [%own], %tid;\n@@\n{}\nld.shared.u32 %r2, [%r1];", of_other(1));
    pair(BLOCK, &body, "bar.warp.sync 0xffffffff;", "", FaultKind::Race, &["an earlier write"]);
    // A shuffle orders no memory.
    let shuffle = "shfl.sync.idx.b32 %r3, %tid, 0, 31, 0xffffffff;";
    pair(BLOCK, &body, "bar.warp.sync -1;", shuffle, FaultKind::Race, &["an earlier write"]);
}

#[test]
fn a_named_barrier_lets_consumers_read_what_producers_stored() {
    let body = format!(
        "setp.lt.u32 %p2, %tid, 32;
         @!%p2 bra CONSUME;
         st.shared.u32 [%own], %tid;
         bar.arrive 1, 64;
         ret;
         CONSUME:
         @@
         {}
         ld.shared.u32 %r2, [%r1];",
        of_other(32)
    );
    pair(BLOCK, &body, "bar.sync 1, 64;", "", FaultKind::Race, &["an earlier write"]);
}

#[test]
fn an_mbarrier_is_waited_on_before_its_data_are_read() {
    let body = format!(
        "{FILL}@%p0 mbarrier.init.shared.b64 [%bar], 32;
         bar.sync 0;
         setp.lt.u32 %p2, %tid, 32;
         @!%p2 bra CONSUME;
         st.shared.u32 [%own], %tid;
         mbarrier.arrive.shared.b64 %d1, [%bar];
         ret;
         CONSUME:
         @@
         {}
         ld.shared.u32 %r2, [%r1];",
        of_other(32)
    );
    let wait = "WAIT: mbarrier.try_wait.parity.shared.b64 %p3, [%bar], 0; @!%p3 bra WAIT;";
    pair(BLOCK, &body, wait, "", FaultKind::Race, &["races with an earlier"]);
}

#[test]
fn an_mbarrier_is_initialised_before_others_arrive() {
    let body = "@%p0 mbarrier.init.shared.b64 [%bar], 64;
         @@
         setp.ne.u32 %p2, %tid, 1;
         mbarrier.arrive.shared.b64 %d1, [%bar];";
    pair(BLOCK, body, "bar.sync 0;", "", FaultKind::Race, &["an earlier write"]);
}

#[test]
fn lanes_that_store_to_one_place_store_one_value() {
    let body = "@@\nst.shared.u32 [%base], %r1;";
    let shape = Shape(1, 32, 1);
    pair(shape, body, "mov.u32 %r1, 7;", "mov.u32 %r1, %tid;", FaultKind::Race, &["stores another value"]);
}

#[test]
fn shared_memory_is_written_before_it_is_read() {
    let body = "@@\nbar.sync 0;\nld.shared.u32 %r2, [%own+4];";
    let right = "mov.u32 %r1, 0; st.shared.u32 [%own], %r1; @%p0 st.shared.u32 [%base+256], %r1;";
    pair(
        BLOCK,
        body,
        right,
        "st.shared.u32 [%own], %tid;",
        FaultKind::Uninitialized,
        &["nobody has written byte"],
    );
}

#[test]
fn two_halves_of_a_word_belong_to_two_threads() {
    let body = "mad.lo.u32 %r1, %tid, 2, %base; st.shared.u16 [%r1], %tid;
         @@
         and.b32 %r1, %r1, -4; ld.shared.u32 %r2, [%r1];";
    pair(BLOCK, body, "bar.sync 0;", "", FaultKind::Race, &["a read of 4 bytes", "an earlier write"]);
}

#[test]
fn atomics_need_no_barrier_among_themselves_and_one_before_a_load() {
    let body = "mov.u32 %r2, 0; @%p0 st.shared.u32 [%base], %r2;
         bar.sync 0;
         atom.shared.add.u32 %r1, [%base], 1;
         @@
         ld.shared.u32 %r2, [%base];";
    pair(BLOCK, body, "bar.sync 0;", "", FaultKind::Race, &["an earlier"]);
}

#[test]
fn a_reduction_in_shared_memory_is_silent() {
    run(
        Shape(3, 256, 1),
        "st.shared.u32 [%own], %tid;
         mov.u32 %r1, 128;
         HALVE:
         bar.sync 0;
         setp.ge.u32 %p2, %tid, %r1;
         @%p2 bra SKIP;
         mad.lo.u32 %r2, %r1, 4, %own;
         ld.shared.u32 %r3, [%r2];
         ld.shared.u32 %r4, [%own];
         add.u32 %r4, %r4, %r3;
         st.shared.u32 [%own], %r4;
         SKIP:
         shr.u32 %r1, %r1, 1;
         setp.ne.u32 %p2, %r1, 0;
         @%p2 bra HALVE;
         @%p0 st.global.u32 [%mine], %r4;",
    )
    .unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn a_barrier_does_not_wait_for_threads_that_have_exited_and_follows_what_they_did() {
    let body = "mov.u32 %r1, 0; st.shared.u32 [%own], %r1;
         bar.sync 0;
         st.shared.u32 [%own], %tid;
         setp.ge.u32 %p2, %tid, 32;
         @%p2 ret;
         @@
         xor.b32 %r1, %own, 128; ld.shared.u32 %r2, [%r1]; st.global.u32 [%mine], %r2;";
    pair(BLOCK, body, "bar.sync 0;", "bar.warp.sync -1;", FaultKind::Race, &["an earlier"]);
}

#[test]
fn fences_are_in_the_order_that_what_is_read_behind_them_proves() {
    // Thread 32 finds that thread 0 has not raised its flag, so that its fence came first, and says so; thread 0 reads what thread
    // 32 wrote before. (The warp that completes the barrier goes on first.)
    let body = |first: &str, second: &str| {
        format!(
            "mov.u32 %r5, 0; st.shared.u32 [%own], %r5; bar.sync 0;
             setp.eq.u32 %p2, %tid, 32; mov.u32 %r6, 1;
             @%p2 bra FIRST; @%p0 bra SECOND; bra END;
             FIRST: st.shared.u32 [%base+16], %r6;
             {first}
             ld.relaxed.cta.shared.u32 %r1, [%base+4]; setp.ne.u32 %p3, %r1, 0; @%p3 bra END;
             st.relaxed.cta.shared.u32 [%base+8], %r6; bra END;
             SECOND: st.relaxed.cta.shared.u32 [%base+4], %r6;
             {second}
             ld.relaxed.cta.shared.u32 %r1, [%base+8]; setp.eq.u32 %p3, %r1, 0; @%p3 bra END;
             ld.shared.u32 %r2, [%base+16];
             END:"
        )
    };
    let shape = Shape(1, 64, 1);
    let words = &["a read of 4 bytes", "an earlier write"];
    for total in ["fence.sc.cta;", "fence.sc.gpu;", "membar.cta;"] {
        pair(shape, &body("@@", total), total, "fence.acq_rel.gpu;", FaultKind::Race, words);
        pair(shape, &body(total, "@@"), total, "fence.acq_rel.gpu;", FaultKind::Race, words);
    }
    // That there are two fences proves nothing.
    let unproven = body("fence.sc.cta;", "@@").replace("st.relaxed.cta.shared.u32 [%base+4], %r6;", "");
    let report = run(shape, &unproven.replace("@@", "fence.sc.cta;")).expect_err("no order");
    assert_eq!(report.fault.kind, FaultKind::Race, "{report}");
}
