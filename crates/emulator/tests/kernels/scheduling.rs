//! Progress: of lanes, warps and blocks that wait for one another.

use wikigpt_emulator::fault::FaultKind;
use wikigpt_emulator::program::Class;

use crate::rig::Kernel;

#[test]
fn a_lane_may_wait_in_a_loop_for_another_of_its_warp() {
    // The lane that waits stands first in the order, whichever it is.
    for (waits, tells) in [(0, 31), (31, 0)] {
        let run = Kernel::new(&format!(
            "setp.eq.u32 %p0, %tid, {waits}; setp.eq.u32 %p1, %tid, {tells};
             @!%p0 bra OTHERS;
           WAIT:
             ld.volatile.global.u32 %r1, [%out+8192];
             setp.eq.u32 %p2, %r1, 0;
             @%p2 bra WAIT;
             st.global.u32 [%own], %r1;
             bra END;
           OTHERS:
             @%p1 st.volatile.global.u32 [%out+8192], 99;
             st.global.u32 [%own], 1;
           END:"
        ))
        .run();
        for at in 0..32 {
            assert_eq!(run.words[at], if at == waits { 99 } else { 1 });
        }
    }
}

#[test]
fn lanes_take_a_lock_one_after_the_other() {
    // The classic that deadlocks where a warp has one program counter: the holder must get past the loop of the others.
    let run = Kernel::new(
        "TRY:
           atom.global.cas.b32 %r1, [%out+8192], 0, 1;
           setp.ne.u32 %p0, %r1, 0;
           @%p0 bra TRY;
           ld.volatile.global.u32 %r2, [%out+8196];
           add.u32 %r2, %r2, 1;
           st.volatile.global.u32 [%out+8196], %r2;
           membar.gl;
           atom.global.exch.b32 %r3, [%out+8192], 0;
           st.global.u32 [%own], %r2;",
    )
    .threads(96)
    .grid(2)
    .run();
    let mut found = run.words[..192].to_vec();
    found.sort_unstable();
    assert_eq!(found, (1..=192).collect::<Vec<_>>());
}

#[test]
fn a_warp_may_wait_in_a_loop_for_another_warp() {
    let run = Kernel::new(
        "setp.lt.u32 %p0, %tid, 32; @!%p0 bra TELL;
       WAIT:
         ld.acquire.gpu.global.u32 %r1, [%out+8192];
         setp.eq.u32 %p2, %r1, 0;
         @%p2 bra WAIT;
         bra STORE;
       TELL:
         st.release.gpu.global.u32 [%out+8192], 7;
         mov.u32 %r1, 1;
       STORE:
         st.global.u32 [%own], %r1;",
    )
    .threads(64)
    .run();
    assert_eq!(run.words[..64], [[7; 32], [1; 32]].concat());
}

#[test]
fn blocks_may_wait_for_one_another_in_either_order() {
    // Block 0 waits for the last, and each other for the one before it: more blocks than threads of the host.
    for workers in [1, 2] {
        let run = Kernel::new(
            "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %nctaid.x; setp.ne.u32 %p0, %tid, 0; @%p0 bra DONE;
             sub.u32 %r3, %r2, 1; setp.eq.u32 %p1, %r1, %r3;
             mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %d1, %out;
             @%p1 bra TELL;
           WAIT:
             ld.volatile.global.u32 %r4, [%d1+8196];
             nanosleep.u32 100;
             setp.eq.u32 %p2, %r4, 0; @%p2 bra WAIT;
           TELL:
             st.volatile.global.u32 [%d1+8192], 1;
           DONE:
             bar.sync 0;
             st.global.u32 [%own], 5;",
        )
        .threads(64)
        .grid(20)
        .workers(workers)
        .run();
        assert_eq!(run.words[..1280], [5; 1280]);
    }
}

#[test]
fn a_grid_may_meet_at_a_counter() {
    let run = Kernel::new(
        "setp.ne.u32 %p0, %tid, 0; @%p0 bra MET;
         atom.global.add.u32 %r1, [%out+8192], 1;
       WAIT:
         atom.global.add.u32 %r2, [%out+8192], 0;
         setp.lt.u32 %p1, %r2, 40; @%p1 bra WAIT;
       MET:
         bar.sync 0;
         ld.volatile.global.u32 %r3, [%out+8192];
         st.global.u32 [%own], %r3;",
    )
    .grid(40)
    .workers(2)
    .run();
    assert_eq!(run.words[..40 * 32], [40; 40 * 32]);
}

#[test]
fn lanes_meet_again_behind_a_wait_of_one_of_them() {
    // Lane 0 waits for another warp; the others of its warp stay where it will come by.
    let run = Kernel::new(
        "setp.ge.u32 %p0, %tid, 32; @%p0 bra TELL;
         setp.ne.u32 %p1, %tid, 0; @%p1 bra JOIN;
       WAIT:
         ld.volatile.global.u32 %r1, [%out+8192]; setp.eq.u32 %p2, %r1, 0; @%p2 bra WAIT;
       JOIN:
         add.f64 %w0, %w0, %w0;
         bra END;
       TELL:
         mov.u32 %r2, 0;
       LOOP:
         add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 2000; @%p3 bra LOOP;
         st.volatile.global.u32 [%out+8192], 1;
       END:",
    )
    .threads(64)
    .run();
    assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (1, 32));
}

#[test]
fn threads_that_wait_for_what_never_comes_are_found() {
    let report = Kernel::new(
        "WAIT:
           ld.volatile.global.u32 %r1, [%out+8192]; setp.eq.u32 %p2, %r1, 0; @%p2 bra WAIT;",
    )
    .grid(3)
    .patience(100_000)
    .fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock);
    let text = report.to_string();
    assert!(text.contains("none has changed anything for a very long time"), "{text}");
    for block in 0..3 {
        assert!(
            text.contains(&format!("block ({block},0,0), warp 0, lanes 0xffffffff, at PTX line ")),
            "{text}"
        );
    }
}

#[test]
fn an_endless_loop_that_does_nothing_is_found() {
    let report = Kernel::new("LOOP: add.u32 %r1, %r1, 1; bra LOOP;").patience(100_000).fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock);
}

#[test]
fn a_lock_that_is_never_given_back_is_found() {
    let report = Kernel::new(
        "TRY:
           atom.global.cas.b32 %r1, [%out+8192], 0, 1; setp.ne.u32 %p0, %r1, 0; @%p0 bra TRY;
           st.global.u32 [%own], 1;",
    )
    .patience(100_000)
    .fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock);
}

#[test]
fn threads_that_change_something_by_atomics_alone_go_on() {
    let run = Kernel::new(
        "LOOP:
           atom.global.add.u32 %r1, [%out+8192], 1;
           setp.lt.u32 %p0, %r1, 100000; @%p0 bra LOOP;",
    )
    .threads(1)
    .patience(20_000)
    .run();
    assert_eq!(run.words[2048], 100_001);
}

#[test]
fn many_blocks_on_several_threads_of_the_host_each_run_once() {
    let run = Kernel::new(
        "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mad.lo.u32 %r1, %r2, 20, %r1; mul.wide.u32 %d1, %r1, 4;
         add.u64 %d1, %d1, %out; red.global.add.u32 [%d1], 1;",
    )
    .grid([20, 30, 1])
    .workers(4)
    .run();
    assert_eq!(run.words[..600], [32; 600]);
    assert_eq!(run.words[600], 0);
}
