//! Kernels of PTX.

use super::rig::{Rig, contents, words};

/// A module with kernel `k` of one parameter, an address, which `%out` holds; shared memory: `bars`, 4 mbarriers, and `buffer`, 4096 bytes.
pub fn kernel(body: &str) -> String {
    format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 k_param_0)\n{{
            .reg .pred %p<8>;
            .reg .b32 %r<32>;
            .reg .b64 %d<16>;
            .reg .b64 %out;
            .shared .align 128 .b8 buffer[4096];
            .shared .align 8 .b8 bars[32];
            ld.param.u64 %out, [k_param_0];
            mov.u32 %r0, %tid.x;
            mov.u32 %r1, buffer;
            mov.u32 %r2, bars;
            setp.eq.u32 %p0, %r0, 0;
            {body}
            ret;
        }}"
    )
}

#[test]
fn bytes_go_to_shared_memory_and_back() {
    let text = kernel(
        "
        @!%p0 bra start;
        mbarrier.init.shared::cta.b64 [bars], 1;
        start: bar.sync 0;
        @!%p0 bra wait;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [bars], 512;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%out], 256, [bars];
        cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [buffer+256], [%out+256], 256, [%r2];
        wait: mbarrier.try_wait.parity.shared::cta.b64 %p1, [bars], 0;
        @!%p1 bra wait;
        mad.lo.u32 %r3, %r0, 4, %r1;
        ld.shared.u32 %r4, [%r3];
        add.u32 %r4, %r4, 1;
        st.shared.u32 [%r3], %r4;
        fence.proxy.async;
        bar.sync 0;
        @!%p0 bra end;
        cp.async.bulk.global.shared::cta.bulk_group [%out+512], [buffer], 512;
        cp.async.bulk.commit_group;
        cp.async.bulk.wait_group.read 0;
        end:",
    );
    let rig = Rig { threads: 128, blocks: 1, ..Rig::new() };
    let numbers: Vec<u8> = (0..128u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    let memory = rig.allocate(&[numbers.clone(), vec![0; 512]].concat());
    let counters = rig.run(&text, "k", &[&memory.base.to_le_bytes()]);
    let expected: Vec<u8> = (0..128u32).flat_map(|i| (i * i + 1).to_le_bytes()).collect();
    assert_eq!(
        contents(&memory),
        [numbers, expected].concat(),
        "stores arrive even where only their reads were waited for"
    );
    assert_eq!((counters.bulk_load_bytes, counters.bulk_store_bytes), (512, 512));
    assert_eq!((counters.global_load_bytes, counters.global_store_bytes), (0, 0));
}

/// Every block initialises `bars`, and the cluster meets.
const MEET: &str = "
    mov.u32 %r10, %cluster_ctarank;
    mov.u32 %r11, %cluster_nctarank;
    @!%p0 bra meet;
    mbarrier.init.shared::cta.b64 [bars], 1;
    fence.mbarrier_init.release.cluster;
    meet: barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;";

const PART: &str = "
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;";

const WAIT: &str = "
    wait: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [bars], 0;
    @!%p1 bra wait;";

#[test]
fn each_block_sends_its_threads_numbers_to_the_next_block_of_the_cluster() {
    // st.async of 32 lanes, and out[rank * 32 + lane] = what came.
    let text = kernel(&format!(
        "{MEET}
        @!%p0 bra send;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [bars], 256;
        send: add.u32 %r12, %r10, 1;
        rem.u32 %r12, %r12, %r11;
        mad.lo.u32 %r3, %r0, 8, %r1;
        mapa.shared::cluster.u32 %r4, %r3, %r12;
        mapa.shared::cluster.u32 %r5, %r2, %r12;
        mad.lo.u32 %r6, %r10, 1000, %r0;
        not.b32 %r7, %r6;
        st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.u32 [%r4], {{%r6, %r7}}, [%r5];
        {WAIT}
        ld.shared.v2.u32 {{%r8, %r9}}, [%r3];
        xor.b32 %r9, %r9, %r8;
        add.u32 %r9, %r9, 1;
        add.u32 %r8, %r8, %r9;
        mad.lo.u32 %r13, %r10, 32, %r0;
        mul.wide.u32 %d0, %r13, 4;
        add.u64 %d0, %d0, %out;
        st.global.u32 [%d0], %r8;
        {PART}"
    ));
    for blocks in [2, 4] {
        let rig = Rig { blocks, cluster: blocks, ..Rig::new() };
        let memory = rig.memory.allocate(u64::from(blocks) * 128).expect("memory");
        rig.run(&text, "k", &[&memory.base.to_le_bytes()]);
        let from = |i: u32| (i / 32 + blocks - 1) % blocks * 1000 + i % 32;
        assert_eq!(words(&memory), (0..blocks * 32).map(from).collect::<Vec<_>>());
    }
}

#[test]
fn all_blocks_of_a_cluster_count_into_one_by_red_async() {
    // Each lane of each block adds its number, and counts up to 99 and from 0 again.
    let text = kernel(&format!(
        "{MEET}
        setp.ne.u32 %p2, %r10, 0;
        @%p2 bra send;
        @!%p0 bra send;
        st.shared.v2.u32 [buffer], {{5, 7}};
        fence.proxy.async;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [bars], 1024;
        send: {PART}
        mapa.shared::cluster.u32 %r4, %r1, 0;
        mapa.shared::cluster.u32 %r5, %r2, 0;
        mad.lo.u32 %r6, %r10, 1000, %r0;
        red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r4], %r6, [%r5];
        red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.inc.u32 [%r4+4], 99, [%r5];
        @%p2 bra end;
        {WAIT}
        @!%p0 bra end;
        ld.shared.v2.u32 {{%r8, %r9}}, [buffer];
        st.global.v2.u32 [%out], {{%r8, %r9}};
        end: {PART}"
    ));
    let rig = Rig { blocks: 4, cluster: 4, ..Rig::new() };
    let memory = rig.memory.allocate(8).expect("memory");
    rig.run(&text, "k", &[&memory.base.to_le_bytes()]);
    let sum: u32 = (0..4 * 32).map(|i| i / 32 * 1000 + i % 32).sum();
    assert_eq!(words(&memory), [5 + sum, (7 + 128) % 100]);
}

#[test]
fn blocks_copy_and_reduce_into_one_another_s_shared_memory() {
    // Block 1 copies 128 bytes to block 0, then adds 128 more to them.
    let text = kernel(&format!(
        "{MEET}
        mad.lo.u32 %r3, %r0, 4, %r1;
        st.shared.u32 [%r3], %r0;
        mul.lo.u32 %r4, %r0, 100;
        st.shared.u32 [%r3+128], %r4;
        fence.proxy.async;
        @!%p0 bra go;
        setp.eq.u32 %p2, %r10, 0;
        @%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bars], 128;
        go: {PART}
        setp.eq.u32 %p2, %r10, 0;
        @%p2 bra receive;
        @!%p0 bra end;
        mapa.shared::cluster.u32 %r5, %r1, 0;
        mapa.shared::cluster.u32 %r6, %r2, 0;
        cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%r5], [buffer+128], 128, [%r6];
        bra end;
        receive: {WAIT}
        ld.shared.u32 %r8, [%r3];
        mul.wide.u32 %d0, %r0, 4;
        add.u64 %d0, %d0, %out;
        st.global.u32 [%d0], %r8;
        end: bar.warp.sync 0xffffffff; {PART}"
    ));
    let rig = Rig { blocks: 2, cluster: 2, ..Rig::new() };
    let memory = rig.memory.allocate(128).expect("memory");
    rig.run(&text, "k", &[&memory.base.to_le_bytes()]);
    assert_eq!(words(&memory), (0..32).map(|i| i * 101).collect::<Vec<_>>());
}

#[test]
fn blocks_add_their_numbers_to_the_same_global_memory() {
    let text = kernel(
        "
        mov.u32 %r3, %ctaid.x;
        add.u32 %r4, %r3, %r0;
        mad.lo.u32 %r5, %r0, 4, %r1;
        st.shared.u32 [%r5], %r4;
        fence.proxy.async;
        bar.sync 0;
        @!%p0 bra end;
        cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%out], [buffer], 128;
        cp.async.bulk.commit_group;
        cp.async.bulk.wait_group 0;
        end:",
    );
    let rig = Rig { blocks: 50, ..Rig::new() };
    let memory = rig.allocate(&[0; 128]);
    rig.run(&text, "k", &[&memory.base.to_le_bytes()]);
    assert_eq!(words(&memory), (0..32).map(|lane| 50 * 49 / 2 + 50 * lane).collect::<Vec<_>>());
}
