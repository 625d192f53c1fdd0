//! Blocks of a grid: global memory.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::{Shape, pair};

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

#[test]
fn the_last_block_reads_what_others_wrote_behind_two_fences() {
    let body = "st.global.u32 [%mine+64], %tid;
         membar.gl;
         bar.sync 0;
         @!%p0 bra COUNTED;
         atom.global.inc.u32 %r1, [%out], 1000;
         @@
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
         ld.global.u32 %r2, [%d1+832];";
    pair(Shape(4, 64, 1), body, "membar.gl;", "", FaultKind::Race, &["no release and acquire order the two"]);
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
