//! Matrix products and mbarriers in whole kernels, with all checks on: what is right runs silent, each fault is told.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::Kernel;

/// Registers of wgmma's D, and shared memory: A at 0 and B at 4096, both without a swizzle.
const HEAD: &str = "
    .reg .b32 %x<8>;
    .reg .f32 %f<4>, %s<8>;
    .reg .b64 %a, %b;
    .shared .align 1024 .b8 tile[8192];
    .shared .align 8 .b64 bar;
    mov.u32 %r2, tile;";

/// Each thread writes 16 words of A and 2 of B: pairs of small integers as bf16.
const FILL: &str = "
    mov.u32 %r3, %tid;
    FILL:
    and.b32 %x0, %r3, 7;
    shr.u32 %x1, %r3, 3;
    and.b32 %x1, %x1, 15;
    cvt.rn.f32.u32 %f0, %x0;
    cvt.rn.f32.u32 %f1, %x1;
    mov.b32 %x0, %f0;
    mov.b32 %x1, %f1;
    shr.u32 %x0, %x0, 16;
    and.b32 %x1, %x1, 0xffff0000;
    or.b32 %x0, %x0, %x1;
    shl.b32 %x2, %r3, 2;
    add.u32 %x2, %x2, %r2;
    st.shared.u32 [%x2], %x0;
    setp.lt.u32 %p0, %r3, 128;
    @%p0 st.shared.u32 [%x2+4096], %x0;
    add.u32 %r3, %r3, 128;
    setp.lt.u32 %p0, %r3, 512;
    @%p0 bra FILL;";

/// What the asynchronous proxy may read from here on, and the descriptors: 128 bytes between core matrices along K, 256 along M and N.
const READY: &str = "
    fence.proxy.async;
    bar.sync 0;";
const DESCRIPTORS: &str = "
    shr.u32 %x3, %r2, 4;
    cvt.u64.u32 %a, %x3;
    or.b64 %a, %a, 0x0000001000080000;
    add.s64 %b, %a, 256;";

const PRODUCT: &str = "
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16
        {%s0,%s1,%s2,%s3,%s4,%s5,%s6,%s7}, %a, %b, 0, 1, 1, 0, 0;
    wgmma.commit_group.sync.aligned;";
const WAIT: &str = "
    wgmma.wait_group.sync.aligned 0;";
const STORE: &str = "
    mul.lo.u32 %x4, %tid, 32;
    cvt.u64.u32 %own, %x4;
    add.s64 %own, %own, %out;
    st.global.v4.f32 [%own], {%s0,%s1,%s2,%s3};
    st.global.v4.f32 [%own+16], {%s4,%s5,%s6,%s7};";

fn kernel(parts: &[&str]) -> Kernel {
    Kernel::new(&format!("{HEAD}{}", parts.concat())).threads(128).checked()
}

/// The element at a byte of what `FILL` wrote.
fn filled(byte: usize) -> f32 {
    let word = byte / 4;
    (if byte.is_multiple_of(4) { word & 7 } else { word >> 3 & 15 }) as f32
}

#[test]
fn wgmma_multiplies_what_threads_stored() {
    let run = kernel(&[FILL, READY, DESCRIPTORS, PRODUCT, WAIT, STORE]).run();
    // Without a swizzle a core matrix of 8 rows of 16 bytes is contiguous.
    let at = |i: usize, k: usize| i / 8 * 256 + i % 8 * 16 + k / 8 * 128 + k % 8 * 2;
    for thread in 0..128 {
        for v in 0..8 {
            let row = 16 * (thread / 32) + thread % 32 / 4 + 8 * (v >> 1 & 1);
            let column = 8 * (v >> 2) + 2 * (thread % 4) + (v & 1);
            let wanted: f32 = (0..16).map(|k| filled(at(row, k)) * filled(at(column, k))).sum();
            assert_eq!(f32::from_bits(run.words[thread * 8 + v]), wanted, "D({row}, {column})");
        }
    }
    assert_eq!(run.counters.tensor_flops, 2 * 64 * 16 * 16);
}

#[test]
fn an_operand_without_a_fence_between_the_proxies_is_told() {
    let fault = kernel(&[FILL, "bar.sync 0;", DESCRIPTORS, PRODUCT, WAIT, STORE]).fault().fault;
    assert!(matches!(fault.kind, FaultKind::Race | FaultKind::Async), "{}", fault.message);
}

#[test]
fn an_operand_overwritten_in_flight_is_told() {
    let overwrite = "st.shared.u32 [%r2], 0;";
    let fault = kernel(&[FILL, READY, DESCRIPTORS, PRODUCT, overwrite, WAIT, STORE]).fault().fault;
    assert!(matches!(fault.kind, FaultKind::Race | FaultKind::Async), "{}", fault.message);
    // After all threads have waited for their products it is free.
    kernel(&[
        FILL,
        READY,
        DESCRIPTORS,
        PRODUCT,
        WAIT,
        STORE,
        "bar.sync 0; setp.eq.u32 %p1, %tid, 5; @%p1 ",
        overwrite,
    ])
    .run();
}

#[test]
fn a_register_of_d_touched_in_flight_is_told() {
    for touch in [STORE, "mov.f32 %s3, 0f00000000;", "add.f32 %f0, %s7, %f1;"] {
        let report = kernel(&[FILL, READY, DESCRIPTORS, PRODUCT, touch, WAIT]).fault();
        assert_eq!(report.fault.kind, FaultKind::Async, "{report}");
        assert!(report.fault.message.contains("wgmma.wait_group has to come before"), "{report}");
    }
    kernel(&[FILL, READY, DESCRIPTORS, PRODUCT, "add.f32 %f0, %f1, %f1;", WAIT]).run();
}

#[test]
fn a_warp_that_ends_without_waiting_is_told() {
    let report = kernel(&[FILL, READY, DESCRIPTORS, PRODUCT]).fault();
    assert!(report.fault.message.contains("1 groups of wgmma that nobody waited for"), "{report}");
}

#[test]
fn warps_that_never_come_to_a_product_are_named() {
    let away = "setp.ge.u32 %p2, %tid, 96; @%p2 bra AWAY;";
    let report = kernel(&[FILL, READY, DESCRIPTORS, away, PRODUCT, WAIT, STORE, "AWAY:"]).fault();
    assert!(report.fault.message.contains("warp 3 to commit group 0 of wgmma, which has ended"), "{report}");
}

/// Thread 0 makes `bar` for `count` arrivals.
fn barrier(count: u32) -> String {
    format!(
        "mov.u32 %r4, bar; setp.eq.u32 %p3, %tid, 0;
         @%p3 mbarrier.init.shared::cta.b64 [%r4], {count};
         bar.sync 0;"
    )
}

const AWAIT: &str = "
    AGAIN: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r4], %r5;
    @!%p5 bra AGAIN;";

#[test]
fn mbarriers_order_what_one_warp_writes_and_another_reads() {
    // Warp 0 writes and arrives, warp 1 waits and reads: twice, so that both parities are waited for.
    let rounds = |wait: &str| {
        let [first, second] = [0, 1].map(|round: u32| {
            let wait = wait.replace("AGAIN", &format!("AGAIN{round}"));
            format!(
                "mov.u32 %r5, {round};
                 add.u32 %x5, %tid, {};
                 shl.b32 %x6, %tid, 2; and.b32 %x6, %x6, 127; add.u32 %x6, %x6, %r2;
                 @!%p4 bra READS{round};
                 st.shared.u32 [%x6+{}], %x5;
                 mbarrier.arrive.shared::cta.b64 _, [%r4];
                 bra DONE{round};
                 READS{round}: {wait}
                 ld.shared.u32 %x7, [%x6+{}];
                 st.global.u32 [%own+{}], %x7;
                 DONE{round}: bar.sync 0;",
                100 * round,
                128 * round,
                128 * round,
                4096 * round,
            )
        });
        Kernel::new(&format!("{HEAD}{}setp.lt.u32 %p4, %tid, 32;{first}{second}", barrier(32)))
            .threads(64)
            .checked()
    };
    let run = rounds(AWAIT).run();
    for lane in 0..32 {
        assert_eq!(run.words[32 + lane], lane as u32);
        assert_eq!(run.words[1024 + 32 + lane], lane as u32 + 100);
    }
    let fault = rounds("").fault().fault;
    assert!(matches!(fault.kind, FaultKind::Race | FaultKind::Uninitialized), "{}", fault.message);
    let relaxed = AWAIT.replace(".parity", ".parity.relaxed.cta");
    let fault = rounds(&relaxed).fault().fault;
    assert_eq!(fault.kind, FaultKind::Race, "{}", fault.message);
}

#[test]
fn a_phase_that_never_completes_is_a_deadlock_that_names_its_barrier() {
    let arrive = "@%p3 mbarrier.arrive.shared::cta.b64 _, [%r4]; mov.u32 %r5, 0;";
    let report = Kernel::new(&format!("{HEAD}{}{arrive}{AWAIT}", barrier(2))).checked().fault();
    assert_eq!(report.fault.kind, FaultKind::Deadlock, "{report}");
    let told = report.to_string();
    assert!(told.contains("phase 0: 1 of 2 arrivals pending, 0 bytes pending"), "{told}");
    Kernel::new(&format!("{HEAD}{}{arrive}{AWAIT}", barrier(1))).checked().run();
}

#[test]
fn a_plain_access_to_a_live_barrier_is_told() {
    for access in
        ["ld.shared.u32 %x0, [%r4];", "st.shared.u32 [%r4+4], 1;", "atom.shared.add.u32 %x0, [%r4], 1;"]
    {
        let report = Kernel::new(&format!("{HEAD}{}{access}", barrier(2))).checked().fault();
        assert_eq!(report.fault.kind, FaultKind::Barrier, "{report}");
    }
    let after = "bar.sync 0; @%p3 mbarrier.inval.shared.b64 [%r4]; @%p3 st.shared.u32 [%r4], 1;";
    Kernel::new(&format!("{HEAD}{}{after}", barrier(2))).checked().run();
}

#[test]
fn bytes_that_never_come_are_told_when_the_block_ends() {
    let expect = "@%p3 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 64;";
    let report = Kernel::new(&format!("{HEAD}{}{expect}", barrier(2))).checked().fault();
    assert_eq!(report.fault.kind, FaultKind::Barrier, "{report}");
    assert!(report.fault.message.contains("64 bytes announced that never came"), "{report}");
}

#[test]
fn a_remote_arrival_wakes_the_block_that_waits() {
    let run = Kernel::new(&format!(
        "{HEAD}{}
         barrier.cluster.arrive; barrier.cluster.wait;
         mov.u32 %r6, %cluster_ctarank;
         xor.b32 %r7, %r6, 1;
         mapa.shared::cluster.u32 %r8, %r4, %r7;
         mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r8];
         mov.u32 %r5, 0;
         {}
         st.global.u32 [%own], 7;
         barrier.cluster.arrive; barrier.cluster.wait;",
        barrier(32),
        AWAIT.replace(".parity", ".parity.acquire.cluster"),
    ))
    .grid(2)
    .cluster(2)
    .checked()
    .run();
    assert!(run.words[..64].iter().all(|word| *word == 7));
}

#[test]
fn mma_multiplies_fragments_that_ldmatrix_loads() {
    let run = Kernel::new(&format!(
        "{HEAD}
         // 16 rows of 16 bf16, row by row: the number of the row, in column 3 alone; then the identity's columns 0 to 7.
         mov.u32 %r3, 0;
         ZERO: mad.lo.u32 %x2, %r3, 128, %r2; shl.b32 %x3, %tid, 2; add.u32 %x2, %x2, %x3;
         st.shared.u32 [%x2], 0; add.u32 %r3, %r3, 1; setp.lt.u32 %p0, %r3, 6; @%p0 bra ZERO;
         bar.sync 0;
         cvt.rn.f32.u32 %f0, %tid; mov.b32 %x0, %f0; shr.u32 %x0, %x0, 16; cvt.u16.u32 %h0, %x0;
         setp.lt.u32 %p0, %tid, 16;
         mad.lo.u32 %x2, %tid, 32, %r2;
         @%p0 st.shared.u16 [%x2+6], %h0;
         mov.u16 %h1, 0x3f80;
         setp.lt.u32 %p0, %tid, 8;
         mad.lo.u32 %x2, %tid, 34, %r2;
         @%p0 st.shared.u16 [%x2+512], %h1;
         bar.sync 0;
         and.b32 %x3, %tid, 15; shr.u32 %x4, %tid, 4;
         mad.lo.u32 %x2, %x3, 32, %r2; mad.lo.u32 %x2, %x4, 16, %x2;
         ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%x0,%x1,%x5,%x6}}, [%x2];
         and.b32 %x3, %tid, 7; shr.u32 %x4, %tid, 3; and.b32 %x4, %x4, 1;
         mad.lo.u32 %x2, %x3, 32, %r2; mad.lo.u32 %x2, %x4, 16, %x2;
         ldmatrix.sync.aligned.m8n8.x2.shared.b16 {{%x3,%x4}}, [%x2+512];
         mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{%s0,%s1,%s2,%s3}}, {{%x0,%x1,%x5,%x6}}, {{%x3,%x4}},
             {{0f3F000000,0f3F000000,0f3F000000,0f3F000000}};
         mul.lo.u32 %x4, %tid, 16; cvt.u64.u32 %own, %x4; add.s64 %own, %own, %out;
         st.global.v4.f32 [%own], {{%s0,%s1,%s2,%s3}};"
    ))
    .checked()
    .run();
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
            let wanted = if column == 3 { row as f32 + 0.5 } else { 0.5 };
            assert_eq!(f32::from_bits(run.words[4 * lane + i]), wanted, "D({row}, {column})");
        }
    }
}
