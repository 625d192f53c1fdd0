//! Memory from the text of a kernel to its report: what a launch says of a wrong access, of memory that nobody wrote, of
//! copies that nobody waited for, and what it counts over all its blocks.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::Kernel;

#[test]
fn a_wrong_access_is_reported_with_its_place() {
    let text = "setp.eq.u32 %p0, %at, 70;
        @%p0 add.u64 %own, %own, 1000000;
        st.global.u32 [%own], %at;";
    let report = Kernel::new(text).grid(2).threads(64).fault();
    assert_eq!(report.fault.kind, FaultKind::Address);
    assert_eq!((report.place.block, report.place.thread), ([1, 0, 0], [6, 0, 0]));
    let words = report.to_string();
    assert!(words.contains("writes 4 bytes at 0x"), "{words}");
    assert!(words.contains(", 967512 bytes past the end of the allocation of 32768 bytes at 0x"), "{words}");
    assert!(words.contains("in kernel k, block (1,0,0), thread (6,0,0), PTX line "), "{words}");
    assert!(words.contains("st.global.u32 [%own], %at"), "{words}");
    let right = text.replace("1000000", "1000");
    let run = Kernel::new(&right).grid(2).threads(64).run();
    assert_eq!((run.words[69], run.words[70], run.words[320]), (69, 0, 70));
}

#[test]
fn memory_that_nobody_wrote_is_not_read() {
    let before = ".shared .align 4 .b32 word[64];";
    let wrong = [
        // A thread of another warp wrote another word.
        "mov.u64 %d1, word; mul.wide.u32 %d2, %tid, 4; add.u64 %d1, %d1, %d2; setp.ne.u32 %p0, %tid, 40;
         @%p0 st.shared.u32 [%d1], %tid; bar.sync 0; ld.shared.u32 %r1, [%d1];",
        ".local .align 4 .b8 own[16]; setp.ne.u32 %p0, %tid, 40; @%p0 st.local.u32 [own+4], %tid; ld.local.u32 %r1, [own+4];",
    ];
    for (text, space) in wrong.iter().zip(["shared", "local"]) {
        let report = Kernel::module(before, text).threads(64).checked().fault();
        assert_eq!(report.fault.kind, FaultKind::Uninitialized, "{report}");
        assert_eq!(report.place.thread, [40, 0, 0], "{report}");
        assert!(report.to_string().contains(&format!("{space} memory")), "{report}");
        let right = text.replace("%tid, 40;", "%tid, 99;");
        Kernel::module(before, &right).threads(64).checked().run();
        Kernel::module(before, text).threads(64).checks(true, false).run();
    }
}

#[test]
fn a_functions_parameters_are_read_by_address() {
    let before = ".func (.param .b32 sum) f(.param .align 8 .b8 pair[8])
        { .reg .b64 %a; .reg .b32 %x, %y;
          mov.b64 %a, pair; ld.param.u32 %x, [%a]; ld.param.u32 %y, [%a+4];
          add.u32 %x, %x, %y; st.param.b32 [sum], %x; ret; }";
    let run = Kernel::module(
        before,
        "{ .param .align 8 .b8 both[8]; .param .b32 back;
           st.param.b32 [both], %at; st.param.b32 [both+4], 1000;
           call.uni (back), f, (both); ld.param.b32 %r1, [back]; }
         st.global.u32 [%own], %r1;",
    )
    .checked()
    .run();
    assert!((0..32).all(|at| run.words[at] == at as u32 + 1000));
}

/// Every thread copies a word of the array's second half to shared memory and, behind `wait`, stores it to the first.
fn copy(wait: &str) -> Kernel {
    Kernel::module(
        ".shared .align 16 .b32 tile[64];",
        &format!(
            "st.global.u32 [%own+8192], %at;
             mov.u64 %d1, tile; mul.wide.u32 %d2, %tid, 4; add.u64 %d1, %d1, %d2;
             st.shared.u32 [%d1], 7;
             bar.sync 0;
             cp.async.ca.shared.global [%d1], [%own+8192], 4;
             cp.async.commit_group;
             {wait}
             ld.shared.u32 %r1, [%d1]; st.global.u32 [%own], %r1;"
        ),
    )
    .threads(64)
}

#[test]
fn a_copy_that_nobody_waited_for_is_seen_by_value_and_reported() {
    let right = "cp.async.wait_group 0;";
    assert!(copy(right).checked().run().words[..64].iter().copied().eq(0..64));
    for wrong in ["", "cp.async.wait_group 1;"] {
        assert_eq!(copy(wrong).run().words[..64], [7; 64], "the old bytes");
        let report = copy(wrong).checked().fault();
        assert_eq!(report.fault.kind, FaultKind::Async, "{report}");
        assert!(report.to_string().contains("ld.shared.u32"), "{report}");
    }
}

#[test]
fn copies_that_other_threads_waited_for_need_a_barrier() {
    let swap = "cp.async.wait_all; BARRIER xor.b64 %d1, %d1, 128;";
    let right = copy(&swap.replace("BARRIER", "bar.sync 0;"));
    assert!(right.checked().run().words[..64].iter().copied().eq((0..64).map(|at| at ^ 32)));
    let report = copy(&swap.replace("BARRIER", "")).checked().fault();
    assert!(matches!(report.fault.kind, FaultKind::Race | FaultKind::Async), "{report}");
}

#[test]
fn copies_that_an_mbarrier_tells_of_are_seen_by_all_threads() {
    let body = |wait: &str| {
        format!(
            "st.global.u32 [%own+8192], %at;
             mov.u64 %d1, tile; mul.wide.u32 %d2, %tid, 4; add.u64 %d1, %d1, %d2;
             st.shared.u32 [%d1], 7;
             setp.eq.u32 %p0, %tid, 0;
             @%p0 mbarrier.init.shared.b64 [full], 64;
             bar.sync 0;
             cp.async.ca.shared.global [%d1], [%own+8192], 4;
             cp.async.mbarrier.arrive.noinc.shared.b64 [full];
             {wait}
             xor.b64 %d1, %d1, 128;
             ld.shared.u32 %r1, [%d1]; st.global.u32 [%own], %r1;"
        )
    };
    let before = ".shared .align 8 .b64 full; .shared .align 256 .b32 tile[64];";
    for wait in ["mbarrier.try_wait.parity.shared.b64", "mbarrier.test_wait.parity.shared.b64"] {
        let right = body(&format!("again: {wait} %p1, [full], 0; @!%p1 bra again;"));
        let run = Kernel::module(before, &right).threads(64).checked().run();
        assert!(run.words[..64].iter().copied().eq((0..64).map(|at| at ^ 32)), "{:?}", &run.words[..64]);
    }
    let report = Kernel::module(before, &body("")).threads(64).checked().fault();
    assert!(matches!(report.fault.kind, FaultKind::Race | FaultKind::Async), "{report}");
    assert_ne!(Kernel::module(before, &body("")).threads(64).run().words[0], 32);
}

#[test]
fn sectors_are_distinct_over_all_blocks_whatever_the_threads_of_the_host() {
    // Every block reads the same 512 bytes and the 128 bytes before its own, which the block before stores.
    let body =
        "mul.wide.u32 %d1, %tid, 16; add.u64 %d1, %d1, %out; ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%d1+8192];
        ld.global.nc.u32 %r5, [%own+12288];
        st.global.u32 [%own], %r5;";
    for workers in [1, 4] {
        let counters = Kernel::new(body).grid(16).workers(workers).run().counters;
        assert_eq!((counters.global_load_requests, counters.global_store_requests), (32, 16));
        assert_eq!((counters.global_load_sectors, counters.global_store_sectors), (16 * (16 + 4), 16 * 4));
        assert_eq!((counters.global_loaded.len(), counters.global_stored.len()), (16 + 16 * 4, 16 * 4));
        assert_eq!((counters.global_load_bytes, counters.global_store_bytes), (16 * 640, 16 * 128));
    }
}

#[test]
fn atomics_of_all_blocks_add_up_and_are_counted() {
    let body = "atom.global.add.u32 %r1, [%out], 3; red.shared.add.u32 [word], 1;";
    for workers in [1, 4] {
        let run =
            Kernel::module(".shared .align 4 .b32 word;", body).grid(20).threads(96).workers(workers).run();
        assert_eq!(run.words[0], 20 * 96 * 3);
        assert_eq!(run.counters.atomics, 2 * 20 * 96);
        assert_eq!((run.counters.shared_wavefronts, run.counters.shared_conflicts), (20 * 96, 20 * 93));
    }
}

#[test]
fn a_wide_exchange_is_whole_among_blocks() {
    // Each block puts four equal words; whatever a block gets back must be four equal words too.
    let body = "mov.b64 %d1, {%at, %at}; mov.b128 %q1, {%d1, %d1};
        atom.global.exch.b128 %q1, [%out+8192], %q1; atom.global.exch.b128 %q1, [%out+8192], %q1;
        mov.b128 {%d2, %d3}, %q1; mov.b64 {%r1, %r2}, %d2; mov.b64 {%r3, %r4}, %d3;
        xor.b32 %r1, %r1, %r2; xor.b32 %r3, %r3, %r4; xor.b32 %r2, %r2, %r4; or.b32 %r1, %r1, %r3; or.b32 %r1, %r1, %r2;
        st.global.u32 [%own], %r1;";
    let run = Kernel::new(&format!(".reg .b128 %q1; {body}")).grid(32).workers(4).run();
    assert_eq!(run.words[..1024], [0; 1024]);
}
