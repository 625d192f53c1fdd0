//! Blocks of a grid: global memory.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::{Shape, pair, run};

const TWO: Shape = Shape(2, 1, 1);

#[test]
fn blocks_add_to_one_place_by_atomics() {
    let right = "red.global.add.u32 [%out], 1;";
    let wrong = "ld.global.u32 %r1, [%out]; add.u32 %r1, %r1, 1; st.global.u32 [%out], %r1;";
    pair(Shape(4, 32, 1), "@@", right, wrong, FaultKind::Race, &["races with an earlier"]);
}

#[test]
fn blocks_write_places_of_their_own() {
    let wrong = "st.global.u32 [%out], %cta;";
    let words = ["it is of another block", "the earlier one: in kernel k, block ("];
    pair(TWO, "@@", "st.global.u32 [%mine], %cta;", wrong, FaultKind::Race, &words);
}

#[test]
fn an_atomic_of_a_blocks_scope_is_not_for_other_blocks() {
    let wrong = "red.relaxed.cta.global.add.u32 [%out], 1;";
    pair(TWO, "@@", "red.relaxed.gpu.global.add.u32 [%out], 1;", wrong, FaultKind::Race, &["scope"]);
}

/// Block 0 writes a word and raises a flag, for which block 1 waits before it reads the word.
fn message(release: &str, acquire: &str) -> String {
    format!(
        "@!%p1 bra RECEIVE;
         mov.u32 %r1, 7; st.global.u32 [%out+128], %r1;
         mov.u32 %r2, 1; {release}
         ret;
         RECEIVE:
         {acquire}
         setp.eq.u32 %p2, %r3, 0;
         @%p2 bra RECEIVE;
         ld.global.u32 %r4, [%out+128];"
    )
}

const WAIT: &str = "ld.acquire.gpu.global.u32 %r3, [%out];";

#[test]
fn a_flag_is_raised_by_a_release() {
    let words = &["no release and acquire order the two"];
    let body = message("@@", WAIT);
    let right = "st.release.gpu.global.u32 [%out], %r2;";
    pair(TWO, &body, right, "st.relaxed.gpu.global.u32 [%out], %r2;", FaultKind::Race, words);
    let right = "membar.gl; st.volatile.global.u32 [%out], %r2;";
    pair(TWO, &body, right, "st.volatile.global.u32 [%out], %r2; membar.gl;", FaultKind::Race, words);
}

#[test]
fn a_flag_is_awaited_by_an_acquire() {
    let words = &["no release and acquire order the two"];
    let release = "st.release.gpu.global.u32 [%out], %r2;";
    pair(
        TWO,
        &message(release, "@@"),
        WAIT,
        "ld.relaxed.gpu.global.u32 %r3, [%out];",
        FaultKind::Race,
        words,
    );
    let right = "ld.volatile.global.u32 %r3, [%out]; membar.gl;";
    pair(TWO, &message(release, "@@"), right, "ld.volatile.global.u32 %r3, [%out];", FaultKind::Race, words);
}

#[test]
fn a_flag_itself_is_not_read_as_plain_memory() {
    let body = message("st.release.gpu.global.u32 [%out], %r2;", "@@");
    // Its plain twin may never see it, but what it does is a race before.
    pair(TWO, &body, WAIT, "ld.global.u32 %r3, [%out];", FaultKind::Race, &["races with an earlier"]);
}

/// Blocks count themselves; the last one reads what all wrote.
fn last(fence: &str, count: &str) -> String {
    format!(
        "st.global.u32 [%mine+64], %tid;
         {fence}
         bar.sync 0;
         @!%p0 bra COUNTED;
         {count}
         st.shared.u32 [%base], %r1;
         COUNTED:
         bar.sync 0;
         ld.shared.u32 %r1, [%base];
         setp.ne.u32 %p2, %r1, 3;
         @%p2 ret;
         mad.wide.u32 %d1, %tid, 4, %out;
         ld.global.u32 %r2, [%d1+64];
         ld.global.u32 %r2, [%d1+320];
         ld.global.u32 %r2, [%d1+576];
         ld.global.u32 %r2, [%d1+832];"
    )
}

#[test]
fn the_last_block_reads_what_others_wrote_behind_a_fence() {
    let words = &["no release and acquire order the two"];
    let count = "atom.global.inc.u32 %r1, [%out], 1000;";
    // The atomic that says that all have come needs no fence behind it.
    pair(Shape(4, 64, 1), &last("@@", count), "membar.gl;", "", FaultKind::Race, words);
    let late =
        run(Shape(4, 64, 1), &last("", &format!("{count} membar.gl;"))).expect_err("it comes too late");
    assert_eq!(late.fault.kind, FaultKind::Race, "{late}");
}

#[test]
fn a_reduction_does_not_say_who_came_before() {
    let words = &["no release and acquire order the two"];
    let count = "red.global.add.u32 [%out], 1; ld.volatile.global.u32 %r1, [%out]; sub.u32 %r1, %r1, 1; @@";
    let shape = Shape(4, 64, 1);
    pair(shape, &last("membar.gl;", count), "membar.gl;", "", FaultKind::Race, words);
}

#[test]
fn a_lock_is_given_back_behind_a_fence() {
    let body = "@!%p0 ret;
         LOCK: atom.global.cas.b32 %r1, [%out], 0, 1; setp.ne.u32 %p2, %r1, 0; @%p2 bra LOCK;
         ld.global.u32 %r2, [%out+4]; add.u32 %r2, %r2, 1; st.global.u32 [%out+4], %r2;
         @@
         atom.global.exch.b32 %r1, [%out], 0;";
    pair(Shape(4, 64, 1), body, "membar.gl;", "", FaultKind::Race, &["no release and acquire order the two"]);
}

/// All add to one word by compare-and-swap, after a plain load.
fn swap(load: &str) -> String {
    format!(
        "{load}
         mov.b32 %r2, %r1;
         AGAIN:
         add.u32 %r3, %r2, 1;
         mov.u32 %r4, %r2;
         atom.global.cas.b32 %r2, [%out], %r4, %r3;
         setp.ne.u32 %p2, %r2, %r4;
         @%p2 bra AGAIN;
         st.global.u32 [%mine+64], %r1;"
    )
}

#[test]
fn a_compare_and_swap_begins_with_a_plain_load() {
    for load in ["ld.global.u32 %r1, [%out];", "ld.global.cg.f32 %f1, [%out]; mov.b32 %r1, %f1;"] {
        run(Shape(4, 64, 1), &swap(load)).unwrap_or_else(|report| panic!("{load} {report}"));
    }
    // What comes to the comparand in another way is no guess.
    let load = "ld.global.u32 %r5, [%out]; add.u32 %r1, %r5, 0;";
    let report = run(Shape(4, 64, 1), &swap(load)).expect_err("it races");
    assert_eq!(report.fault.kind, FaultKind::Race, "{report}");
}

#[test]
fn what_is_read_through_the_constant_path_is_not_written() {
    let body = "ld.global.nc.u32 %r1, [%mine];\n@@";
    let words = &["ld.global.nc"];
    let wrong = "st.global.u32 [%mine], %r1;";
    pair(TWO, body, "st.global.u32 [%mine+1024], %r1;", wrong, FaultKind::Race, words);
}

#[test]
fn global_memory_is_written_before_it_is_read() {
    let body = "@@\nld.global.u32 %r1, [%raw];";
    let words = &["nobody has written byte"];
    pair(Shape(1, 1, 1), body, "st.global.u32 [%raw], %tid;", "", FaultKind::Uninitialized, words);
}
