//! Clusters: their blocks' numbers and their barrier.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::Kernel;

#[test]
fn blocks_know_their_place_in_their_cluster() {
    let names = [
        "clusterid.x",
        "clusterid.y",
        "nclusterid.x",
        "nclusterid.y",
        "cluster_ctaid.x",
        "cluster_ctaid.y",
        "cluster_nctaid.x",
        "cluster_nctaid.y",
        "cluster_ctarank",
        "cluster_nctarank",
    ];
    let mut body = "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mad.lo.u32 %r1, %r2, 4, %r1; mul.wide.u32 %d1, %r1, 64;
        add.u64 %d1, %d1, %out;
        mov.pred %p0, %is_explicit_cluster; selp.u32 %r7, 1, 0, %p0; st.global.u32 [%d1+60], %r7;"
        .to_owned();
    for (at, name) in names.iter().enumerate() {
        body.push_str(&format!("mov.u32 %r7, %{name}; st.global.u32 [%d1+{}], %r7;", 4 * at));
    }
    let run = Kernel::new(&body).grid([4, 6, 1]).cluster([2, 3, 1]).threads(1).run();
    for (x, y) in (0..24).map(|block| (block % 4, block / 4)) {
        let at = (y * 4 + x) as usize * 16;
        let expected = [x / 2, y / 3, 2, 2, x % 2, y % 3, 2, 3, x % 2 + 2 * (y % 3), 6];
        assert_eq!(run.words[at..at + 10], expected, "block ({x},{y})");
        assert_eq!(run.words[at + 15], 1);
    }
}

#[test]
fn a_launch_without_clusters_has_clusters_of_one_block() {
    let run = Kernel::new(
        "mov.u32 %r1, %cluster_nctarank; mov.u32 %r2, %cluster_ctarank; mov.pred %p0, %is_explicit_cluster;
         selp.u32 %r3, 16, 0, %p0; mad.lo.u32 %r1, %r2, 4, %r1; add.u32 %r1, %r1, %r3; st.global.u32 [%own], %r1;",
    )
    .grid(2)
    .run();
    assert_eq!(run.words[..64], [1; 64]);
}

/// Each block stores into global memory, arrives, and loads behind the wait what its neighbour has stored.
fn exchange(before: &str, after: &str) -> String {
    format!(
        "mov.u32 %r1, %at; st.global.u32 [%own+4096], %r1;
         {before}
         barrier.cluster.arrive.aligned;
         barrier.cluster.wait.aligned;
         {after}
         xor.b32 %r2, %at, 64; mul.wide.u32 %d1, %r2, 4; add.u64 %d1, %d1, %out;
         ld.global.u32 %r3, [%d1+4096]; st.global.u32 [%own], %r3;"
    )
}

#[test]
fn the_barrier_of_a_cluster_joins_all_its_blocks() {
    for blocks in [2, 4] {
        let run = Kernel::new(&exchange("", "")).grid(8).cluster(blocks).threads(64).run();
        for at in 0..512 {
            assert_eq!(run.words[at as usize], at ^ 64);
        }
        // An arrival of each warp.
        assert_eq!(run.counters.barriers, 16);
    }
}

#[test]
fn the_barrier_of_a_cluster_is_used_again_and_again() {
    let run = Kernel::new(
        "mov.u32 %r1, 0; mov.u32 %r2, 0; xor.b32 %r3, %at, 32; mul.wide.u32 %d1, %r3, 4; add.u64 %d1, %d1, %out;
       LOOP:
         st.global.u32 [%own], %r1;
         barrier.cluster.arrive.release; barrier.cluster.wait.acquire;
         ld.global.u32 %r4, [%d1];
         barrier.cluster.arrive.relaxed; barrier.cluster.wait;
         add.u32 %r1, %r4, %at;
         add.u32 %r2, %r2, 1; setp.lt.u32 %p0, %r2, 10; @%p0 bra LOOP;
         st.global.u32 [%own], %r1;",
    )
    .grid(2)
    .cluster(2)
    .run();
    for at in 0..64u32 {
        assert_eq!(run.words[at as usize], 5 * at + 5 * (at ^ 32));
    }
}

#[test]
fn exited_threads_count_as_arrived_at_the_barrier_of_a_cluster() {
    let run = Kernel::new(&format!(
        "mov.u32 %r5, %cluster_ctarank; setp.eq.u32 %p0, %r5, 1; @%p0 exit; {}",
        exchange("", "")
    ))
    .grid(2)
    .cluster(2)
    .threads(64)
    .run();
    // The neighbour exited before it stored.
    assert_eq!(run.words[..64], [0; 64]);
}

#[test]
fn lanes_may_arrive_at_different_places_when_not_aligned() {
    let run = Kernel::new(
        "setp.lt.u32 %p0, %tid, 5;
         @%p0 bra FIRST;
         barrier.cluster.arrive;
         bra WAIT;
       FIRST:
         barrier.cluster.arrive;
       WAIT:
         barrier.cluster.wait;
         st.global.u32 [%own], 1;",
    )
    .grid(2)
    .cluster(2)
    .run();
    assert_eq!(run.words[..64], [1; 64]);
}

#[test]
fn misuse_of_the_barrier_of_a_cluster_is_a_fault() {
    for (body, message) in [
        (
            "barrier.cluster.arrive; barrier.cluster.arrive;",
            "barrier.cluster.arrive again before barrier.cluster.wait",
        ),
        ("barrier.cluster.wait;", "barrier.cluster.wait without barrier.cluster.arrive"),
    ] {
        let report = Kernel::new(body).grid(2).cluster(2).fault();
        assert_eq!((report.fault.kind, report.fault.message.as_str()), (FaultKind::Barrier, message));
    }
}

#[test]
fn a_block_that_never_arrives_is_a_deadlock() {
    let report = Kernel::new(
        "mov.u32 %r1, %cluster_ctarank; setp.eq.u32 %p0, %r1, 1; @%p0 bra ELSEWHERE;
         barrier.cluster.arrive; barrier.cluster.wait;
       ELSEWHERE:
         bar.sync 3, 64;",
    )
    .grid(2)
    .cluster(2)
    .fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock);
    let text = report.to_string();
    assert!(text.contains("waits for barrier.cluster (32 of 64 threads have not arrived)"), "{text}");
    assert!(text.contains("block (1,0,0), warp 0") && text.contains("waits for barrier 3"), "{text}");
}
