//! What is checked of all that could be, and kernels that go on after what was found.

use wikigpt_emulator::check::Options;
use wikigpt_emulator::fault::{FaultKind, Report};

use crate::rig::{Shape, pair, run, run_with};

const BLOCK: Shape = Shape(1, 64, 1);
const REPORT: Options = Options { report: true, ..Options::ALL };

/// Runs a kernel that is refused with all checks; with findings that do not end it, one is told with these words. What it wrote.
#[track_caller]
fn told(shape: Shape, body: &str, kind: FaultKind, words: &[&str]) -> Vec<u32> {
    let refused = run(shape, body).expect_err("it has a fault");
    assert_eq!(refused.fault.kind, kind, "{refused}");
    let (found, out) = run_with(REPORT, shape, body).unwrap_or_else(|report| panic!("it ended: {report}"));
    let [report] = found.as_slice() else { panic!("{} findings: {}", found.len(), text(&found)) };
    assert_eq!(report.fault.kind, kind, "{report}");
    words.iter().for_each(|word| assert!(report.to_string().contains(word), "{word:?} is not in: {report}"));
    out
}

fn text(found: &[Report]) -> String {
    found.iter().map(|report| format!("{report}\n")).collect()
}

/// Thread 0 stores the words of all by a bulk operation.
fn store(fence: &str, wait: &str) -> String {
    format!(
        "st.shared.u32 [%own], %tid;
         {fence}
         bar.sync 0;
         @!%p0 ret;
         cp.async.bulk.global.shared::cta.bulk_group [%out], [%base], 256;
         cp.async.bulk.commit_group;
         {wait}"
    )
}

const FENCE: &str = "fence.proxy.async;";
const WAIT: &str = "cp.async.bulk.wait_group 0;";

#[test]
fn a_missing_proxy_fence_is_told_and_the_bytes_arrive() {
    let words = ["no fence.proxy.async", "the earlier one: in kernel k, block (0,0,0), thread ("];
    let out = told(BLOCK, &store("", WAIT), FaultKind::Async, &words);
    assert!((0..64).all(|tid| out[tid as usize] == tid), "{out:?}");
    let (found, _) = run_with(REPORT, BLOCK, &store(FENCE, WAIT)).expect("it has no fault");
    assert!(found.is_empty(), "{}", text(&found));
}

#[test]
fn a_store_that_nobody_waits_for_is_told_and_the_bytes_arrive() {
    let words = ["a block ends while the bulk store", "cp.async.bulk.wait_group.read"];
    let out = told(BLOCK, &store(FENCE, ""), FaultKind::Async, &words);
    assert!((0..64).all(|tid| out[tid as usize] == tid), "{out:?}");
}

#[test]
fn a_race_is_told_once_however_many_threads_and_blocks_run_into_it() {
    let body = "st.global.u32 [%out], %cta;";
    told(Shape(16, 64, 1), body, FaultKind::Race, &["it is of another block"]);
    // The next store may come before the load of the other warp, in every block, again and again.
    let body = "mov.u32 %r2, 0; mov.u32 %r3, 0;
        LOOP: st.shared.u32 [%own], %tid; bar.sync 0;
        xor.b32 %r1, %own, 128; ld.shared.u32 %r1, [%r1]; add.u32 %r3, %r3, %r1;
        add.u32 %r2, %r2, 1; setp.lt.u32 %p2, %r2, 10; @%p2 bra LOOP;
        st.global.u32 [%mine], %r3;";
    // The store of warp 1 races with an earlier load, or the load with a store that came too early.
    let (found, out) = run_with(REPORT, Shape(8, 64, 1), body).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(found.len(), 2, "{}", text(&found));
    assert!((0..512).all(|at| out[at as usize] == 10 * ((at % 64) ^ 32)), "{out:?}");
}

#[test]
fn memory_that_nobody_wrote_is_told_once() {
    let body = "ld.global.u32 %r1, [%raw]; ld.shared.u32 %r2, [%own]; st.global.u32 [%mine], %tid;";
    let (found, out) = run_with(REPORT, Shape(4, 64, 1), body).unwrap_or_else(|report| panic!("{report}"));
    let kinds: Vec<_> = found.iter().map(|report| report.fault.kind).collect();
    assert_eq!(kinds, [FaultKind::Uninitialized; 2], "{}", text(&found));
    assert!((0..256).all(|at| out[at as usize] == at % 64), "{out:?}");
}

/// Block 0 arrives on an mbarrier of block 1.
fn arrival(stays: &str) -> String {
    format!(
        "@%p0 mbarrier.init.shared.b64 [%bar], 1;
         barrier.cluster.arrive;
         barrier.cluster.wait;
         @!%p1 bra PEER;
         mov.u32 %r1, 1;
         mapa.shared::cluster.u32 %r2, %bar, %r1;
         barrier.cluster.arrive;
         barrier.cluster.wait;
         @%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r2];
         st.global.u32 [%mine], %tid;
         barrier.cluster.arrive;
         barrier.cluster.wait;
         ret;
         PEER:
         {stays}"
    )
}

#[test]
fn an_arrival_at_a_block_that_has_ended_is_told_and_lost() {
    let shape = Shape(2, 64, 2);
    let meet = "barrier.cluster.arrive; barrier.cluster.wait;";
    pair(shape, &arrival("@@"), &meet.repeat(2), "", FaultKind::Barrier, &["has ended"]);
    let out =
        told(shape, &arrival(""), FaultKind::Barrier, &["block 1 of the cluster, whose it is, has ended"]);
    assert!((0..64).all(|tid| out[tid as usize] == tid), "{out:?}");
}

#[test]
fn what_is_worse_ends_the_launch_all_the_same() {
    for body in ["st.global.u32 [%out+1000000], %tid;", "trap;"] {
        run_with(REPORT, BLOCK, body).expect_err("it has a fault");
    }
}

#[test]
fn proxy_fences_can_be_left_out_of_the_checks() {
    let but_proxy = Options { proxy: false, ..Options::ALL };
    run_with(but_proxy, BLOCK, &store("", WAIT)).unwrap_or_else(|report| panic!("{report}"));
    // The order of all else is still looked at, that of what went unreported too.
    let early = store("", &format!("st.shared.u32 [%own], %cta; {WAIT}"));
    let report = run_with(but_proxy, BLOCK, &early).expect_err("the source is overwritten");
    assert!(report.to_string().contains("while a bulk copy reads there"), "{report}");
}

#[test]
fn proxy_fences_can_be_all_that_is_checked() {
    let proxy = Options { proxy: true, ..Options::NONE };
    let race = "st.shared.u32 [%base], %tid; st.global.u32 [%out], %tid;";
    run(BLOCK, race).expect_err("it races");
    run_with(proxy, BLOCK, race).unwrap_or_else(|report| panic!("{report}"));
    let report = run_with(proxy, BLOCK, &store("", WAIT)).expect_err("a fence is missing");
    assert!(report.to_string().contains("no fence.proxy.async"), "{report}");
}
