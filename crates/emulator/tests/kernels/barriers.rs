//! Barriers of a block: who waits for whom, what is reduced, and what is misuse.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::Kernel;

const SHARED: &str =
    ".shared .align 4 .b8 s[4096]; mov.u32 %r40, s; shl.b32 %r41, %tid, 2; add.u32 %r42, %r40, %r41;";

#[test]
fn what_is_stored_before_a_barrier_is_loaded_behind_it() {
    // Each thread reads what the mirror image of it wrote, many times over.
    let run = Kernel::new(&format!(
        "{SHARED}
         mov.u32 %r1, %tid; mov.u32 %r2, 0;
         sub.u32 %r3, 255, %tid; shl.b32 %r3, %r3, 2; add.u32 %r3, %r3, %r40;
       LOOP:
         st.shared.u32 [%r42], %r1;
         bar.sync 0;
         ld.shared.u32 %r4, [%r3];
         bar.sync 0;
         add.u32 %r1, %r4, 1;
         add.u32 %r2, %r2, 1; setp.lt.u32 %p0, %r2, 9; @%p0 bra LOOP;
         st.global.u32 [%own], %r1;"
    ))
    .threads(256)
    .run();
    for at in 0..256 {
        assert_eq!(run.words[at as usize], 255 - at + 9);
    }
    assert_eq!(run.counters.barriers, 8 * 18);
}

#[test]
fn barriers_of_some_warps_do_not_hold_up_others() {
    // Warps 0 and 1 produce, warps 2 and 3 consume: they hand over through barriers 1 (full) and 2 (empty) of 128 threads each;
    // those that arrive go on.
    let run = Kernel::new(&format!(
        "{SHARED}
         mov.u32 %r1, 0; mov.u32 %r2, 0; and.b32 %r5, %tid, 63; shl.b32 %r5, %r5, 2; add.u32 %r5, %r5, %r40;
         setp.ge.u32 %p1, %tid, 64;
         @%p1 bra CONSUME;
       PRODUCE:
         bar.sync 2, 128;
         mad.lo.u32 %r3, %r2, 1000, %tid;
         st.shared.u32 [%r5], %r3;
         bar.arrive 1, 128;
         add.u32 %r2, %r2, 1; setp.lt.u32 %p0, %r2, 5; @%p0 bra PRODUCE;
         bra END;
       CONSUME:
         bar.arrive 2, 128;
       NEXT:
         bar.sync 1, 128;
         ld.shared.u32 %r3, [%r5];
         add.u32 %r1, %r1, %r3;
         add.u32 %r2, %r2, 1; setp.ge.u32 %p0, %r2, 5; @%p0 bra STORE;
         bar.arrive 2, 128;
         bra NEXT;
       STORE:
         st.global.u32 [%own], %r1;
       END:"
    ))
    .threads(128)
    .run();
    for at in 64..128 {
        assert_eq!(run.words[at as usize], 1000 * (1 + 2 + 3 + 4) + 5 * (at - 64));
    }
}

#[test]
fn barriers_by_number_in_a_register_and_of_all_sixteen() {
    let run = Kernel::new(&format!(
        "{SHARED} mov.u32 %r1, 0;
       LOOP:
         st.shared.u32 [%r42], %r1;
         barrier.sync.aligned %r1;
         ld.shared.u32 %r2, [%r40+252];
         barrier.cta.sync.aligned %r1, 64;
         setp.ne.u32 %p1, %r1, %r2; @%p1 trap;
         add.u32 %r1, %r1, 1; setp.lt.u32 %p0, %r1, 16; @%p0 bra LOOP;
         st.global.u32 [%own], %r1;"
    ))
    .threads(64)
    .run();
    assert_eq!(run.words[..64], [16; 64]);
}

#[test]
fn reductions_count_threads_and_combine_predicates() {
    // The last warp is short: 80 threads.
    let run = Kernel::new(
        "rem.u32 %r1, %tid, 3; setp.eq.u32 %p0, %r1, 0; setp.lt.u32 %p1, %tid, 80; setp.eq.u32 %p2, %tid, 79;
         bar.red.popc.u32 %r2, 0, %p0;
         bar.red.popc.u32 %r3, 0, !%p0;
         bar.red.and.pred %p3, 0, %p1;
         bar.red.and.pred %p4, 0, %p0;
         bar.red.or.pred %p5, 0, %p2;
         bar.red.or.pred %p6, 0, !%p1;
         barrier.cta.red.popc.aligned.u32 %r8, 3, 96, %p2;
         selp.u32 %r4, 1, 0, %p3; selp.u32 %r5, 2, 0, %p4; selp.u32 %r6, 4, 0, %p5; selp.u32 %r7, 8, 0, %p6;
         add.u32 %r4, %r4, %r5; add.u32 %r4, %r4, %r6; add.u32 %r4, %r4, %r7;
         st.global.u32 [%own], %r2; st.global.u32 [%own+1024], %r3; st.global.u32 [%own+2048], %r4;
         st.global.u32 [%own+3072], %r8;",
    )
    .threads(80)
    .run();
    for at in 0..80 {
        let found: Vec<u32> = (0..4).map(|array| run.words[at + 256 * array]).collect();
        assert_eq!(found, [27, 53, 1 + 4, 1], "thread {at}");
    }
}

#[test]
fn a_barrier_that_is_not_aligned_lets_lanes_come_by_different_ways() {
    let run = Kernel::new(&format!(
        "{SHARED}
         st.shared.u32 [%r42], %tid;
         setp.lt.u32 %p0, %tid, 7; setp.lt.u32 %p1, %tid, 40;
         @%p0 bra FIRST;
         @%p1 bra SECOND;
         barrier.sync 0;
         bra JOIN;
       FIRST:
         barrier.sync 0;
         bra JOIN;
       SECOND:
         barrier.sync 0;
       JOIN:
         sub.u32 %r3, 63, %tid; shl.b32 %r3, %r3, 2; add.u32 %r3, %r3, %r40;
         ld.shared.u32 %r4, [%r3];
         add.f64 %w0, %w0, %w0;
         st.global.u32 [%own], %r4;"
    ))
    .threads(64)
    .run();
    for at in 0..64 {
        assert_eq!(run.words[at as usize], 63 - at);
    }
}

#[test]
fn lanes_at_different_barriers_wait_by_themselves() {
    // Lanes 0..16 of both warps meet at barrier 1, lanes 16..32 at barrier 2: a warp counts when all its lanes have come, so
    // each barrier needs a different half first.
    let report = Kernel::new(
        "and.b32 %r1, %tid, 16; shr.u32 %r1, %r1, 4; add.u32 %r1, %r1, 1;
         barrier.sync %r1, 64;",
    )
    .threads(64)
    .fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock);
    let text = report.to_string();
    assert!(
        text.contains("lanes 0x0000ffff") && text.contains("waits for barrier 1 (0 of 64 threads"),
        "{text}"
    );
    assert!(
        text.contains("lanes 0xffff0000") && text.contains("waits for barrier 2 (0 of 64 threads"),
        "{text}"
    );
}

#[test]
fn threads_that_exit_hold_up_no_barrier() {
    let run = Kernel::new(&format!(
        "{SHARED}
         setp.ge.u32 %p0, %tid, 40; @%p0 exit;
         st.shared.u32 [%r42], %tid;
         bar.sync 0;
         ld.shared.u32 %r1, [%r40+156];
         st.global.u32 [%own], %r1;"
    ))
    .threads(128)
    .run();
    assert_eq!(run.words[..40], [39; 40]);
    // Those that exit after others have come, too.
    let run = Kernel::new(
        "setp.lt.u32 %p0, %tid, 32; @%p0 bra WAIT;
         mov.u32 %r1, 0;
       LOOP: add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 100; @%p1 bra LOOP;
         exit;
       WAIT:
         bar.sync 0;
         st.global.u32 [%own], 1;",
    )
    .threads(96)
    .run();
    assert_eq!(run.words[..33], [[1; 32].as_slice(), &[0]].concat());
}

#[test]
fn a_count_is_not_reached_by_threads_that_exited() {
    let report = Kernel::new("setp.ge.u32 %p0, %tid, 32; @%p0 exit; bar.sync 5, 64;").threads(64).fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock);
    assert!(report.to_string().contains("waits for barrier 5 (32 of 64 threads have arrived)"), "{report}");
}

#[test]
fn a_deadlock_says_who_waits_for_what() {
    let report = Kernel::new(
        "setp.lt.u32 %p0, %tid, 32; @%p0 bra FIRST;
         bar.sync 2;
         bra END;
       FIRST:
         bar.sync 1;
       END:",
    )
    .threads(64)
    .fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock);
    let text = report.to_string();
    let expected = [
        "deadlock: no thread of the cluster can go on in kernel k, block (0,0,0), thread (0,0,0), PTX line ",
        "block (0,0,0), warp 0, lanes 0xffffffff, at PTX line ",
        ": bar.sync 1;, waits for barrier 1 (missing: warps 1)",
        ": bar.sync 2;, waits for barrier 2 (missing: warps 0)",
    ];
    for part in expected {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn misuse_is_a_fault() {
    for (body, message) in [
        (
            "setp.lt.u32 %p0, %tid, 32; selp.u32 %r1, 64, 96, %p0; barrier.sync 1, %r1;",
            "barrier 1 for 96 threads, while others wait there for 64 threads",
        ),
        (
            "setp.lt.u32 %p0, %tid, 32; @%p0 bra A; bar.red.popc.u32 %r1, 0, %p0; bra B; A: bar.sync 0; B:",
            "barrier.red.popc at barrier 0, which others came to with sync",
        ),
        (
            "setp.lt.u32 %p0, %tid, 16; @%p0 bar.sync 0;",
            "it needs all lanes of the warp; its predicate is false in 0xffff0000",
        ),
        (
            "setp.lt.u32 %p0, %tid, 16; @%p0 bra A; bar.sync 0; bra B; A: bar.sync 0; B:",
            "it waits for lanes 0xffff0000 of its warp, which wait elsewhere",
        ),
        ("mov.u32 %r1, 16; bar.sync %r1;", "barrier 16: there are barriers 0 to 15"),
        ("mov.u32 %r1, 33; bar.sync 0, %r1;", "barrier 0 for 33 threads: the number is a multiple of 32"),
    ] {
        let report = Kernel::new(body).threads(128).fault();
        assert_eq!(report.fault.kind, FaultKind::Barrier, "{report}");
        assert_eq!(report.fault.message, message);
    }
}

#[test]
fn barriers_that_no_compiler_accepts_are_refused() {
    for text in ["bar.sync 16;", "bar.sync 0, 48;", "bar.arrive 0;", "bar.sync 0, 32, 1;", "barrier 0;"] {
        Kernel::new(text).refused();
    }
}

#[test]
fn warp_barriers_join_lanes_that_come_by_different_ways() {
    // Each half stores, meets the other at a barrier of its own, and loads what the other has stored.
    let run = Kernel::new(&format!(
        "{SHARED}
         setp.lt.u32 %p0, %tid, 16; xor.b32 %r3, %r41, 64; add.u32 %r3, %r3, %r40;
         @%p0 bra LOW;
         add.u32 %r1, %tid, 100; st.shared.u32 [%r42], %r1;
         bar.warp.sync -1;
         ld.shared.u32 %r2, [%r3];
         bra JOIN;
       LOW:
         add.u32 %r1, %tid, 200; st.shared.u32 [%r42], %r1;
         bar.warp.sync -1;
         ld.shared.u32 %r2, [%r3];
       JOIN:
         st.global.u32 [%own], %r2;"
    ))
    .run();
    for at in 0..32 {
        assert_eq!(run.words[at as usize], if at < 16 { at + 16 + 100 } else { at - 16 + 200 });
    }
}

#[test]
fn fences_are_known_in_all_their_forms() {
    for text in [
        "membar.cta",
        "membar.gl",
        "membar.sys",
        "fence.sc.gpu",
        "fence.acq_rel.cta",
        "fence.acquire.cluster",
        "fence.release.sys",
        "fence.acq_rel.gpu",
        "fence.proxy.async",
        "fence.proxy.async.global",
        "fence.proxy.async.shared::cta",
        "fence.proxy.async.shared::cluster",
        "fence.proxy.alias",
        "fence.mbarrier_init.release.cluster",
        "fence.proxy.tensormap::generic.release.gpu",
    ] {
        Kernel::new(&format!("{text};")).run();
    }
    for text in ["fence.gpu.cta", "membar", "fence.proxy.nosuch", "fence.mbarrier_init.release"] {
        Kernel::new(&format!("{text};")).refused();
    }
}
