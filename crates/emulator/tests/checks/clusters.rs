//! Blocks of a cluster: each other's shared memory.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::{Shape, pair};

/// Each block writes a word into the other's shared memory, which reads it behind a barrier.
fn exchange(arrive: &str, wait: &str) -> String {
    format!(
        "mov.u32 %r1, %cluster_ctarank; xor.b32 %r1, %r1, 1;
         mapa.shared::cluster.u32 %r2, %own, %r1;
         st.shared::cluster.u32 [%r2], %tid;
         {arrive}
         {wait}
         ld.shared.u32 %r3, [%own];
         barrier.cluster.arrive;
         barrier.cluster.wait;"
    )
}

#[test]
fn a_cluster_meets_before_it_reads_what_a_peer_has_stored() {
    let shape = Shape(2, 64, 2);
    let words = &["races with an earlier write"];
    let body = exchange("@@", "barrier.cluster.wait;");
    let right = "barrier.cluster.arrive;";
    pair(shape, &body, right, "barrier.cluster.arrive.relaxed;", FaultKind::Race, words);
}

#[test]
fn barriers_of_blocks_do_not_order_a_cluster() {
    // The words are written first, so that they are read too late or too early, but not unwritten.
    let body = format!(
        "st.shared.u32 [%own], %tid; barrier.cluster.arrive; barrier.cluster.wait; {}",
        exchange("@@", "")
    );
    let right = "barrier.cluster.arrive; barrier.cluster.wait;";
    pair(Shape(2, 64, 2), &body, right, "bar.sync 0;", FaultKind::Race, &["races with an earlier"]);
}

#[test]
fn a_cluster_does_not_wait_for_threads_that_have_exited_and_follows_what_they_did() {
    let body = "mov.u32 %r1, 0; mapa.shared::cluster.u32 %r2, %own, %r1;
         @!%p1 st.shared::cluster.u32 [%r2], %tid;
         @!%p1 ret;
         @@
         ld.shared.u32 %r3, [%own];";
    let right = "barrier.cluster.arrive; barrier.cluster.wait;";
    // A barrier of the block alone may end before the other block begins.
    let wrong = "mov.u32 %r4, 0; st.shared.u32 [%own], %r4; bar.sync 0;";
    pair(Shape(2, 64, 2), body, right, wrong, FaultKind::Race, &["races with an earlier"]);
}
