//! Kernels with a fault planted, and their twins without.

use super::rig::{Rig, contents};
use super::texts::kernel;
use wikigpt_emulator::tensormap;

const LOAD: &str = "
    @!%p0 bra start;
    mbarrier.init.shared::cta.b64 [bars], 1;
    start: bar.sync 0;
    @!%p0 bra wait;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bars], 128;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [buffer], [%out], 128, [bars];
    wait:";

const WAIT: &str = "
    again: mbarrier.try_wait.parity.shared::cta.b64 %p1, [bars], 0;
    @!%p1 bra again;";

const USE: &str = "
    mad.lo.u32 %r3, %r0, 4, %r1;
    ld.shared.u32 %r4, [%r3];
    mul.wide.u32 %d0, %r0, 4;
    add.u64 %d0, %d0, %out;
    st.global.u32 [%d0+128], %r4;";

fn rig() -> Rig {
    Rig::new()
}

#[test]
fn a_read_before_the_mbarrier_s_phase_is_seen_by_the_checker_and_by_value() {
    let numbers: Vec<u8> = (0..32u32).flat_map(|i| (i + 7).to_le_bytes()).collect();
    let waits = kernel(&format!("{LOAD}{WAIT}{USE}"));
    let hasty = kernel(&format!("{LOAD}{USE}{WAIT}"));
    let checked = rig();
    let memory = checked.allocate(&[numbers.clone(), vec![0; 128]].concat());
    checked.run(&waits, "k", &[&memory.base.to_le_bytes()]);
    assert_eq!(contents(&memory)[128..], numbers);
    checked.fault(&hasty, "k", &[&memory.base.to_le_bytes()], "its completion was not waited for");
    let unchecked = Rig { checked: false, ..rig() };
    let memory = unchecked.allocate(&[numbers, vec![0; 128]].concat());
    unchecked.run(&hasty, "k", &[&memory.base.to_le_bytes()]);
    assert_eq!(contents(&memory)[128..], [0xff; 128]);
}

#[test]
fn a_store_of_what_was_written_without_a_proxy_fence() {
    let body = |fence: &str, wait: &str| {
        kernel(&format!(
            "
            mad.lo.u32 %r3, %r0, 4, %r1;
            st.shared.u32 [%r3], %r0;
            {fence}
            bar.sync 0;
            @!%p0 bra end;
            cp.async.bulk.global.shared::cta.bulk_group [%out], [buffer], 128;
            {wait}
            end:"
        ))
    };
    const FENCE: &str = "fence.proxy.async;";
    const READ: &str = "cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;";
    let rig = rig();
    let memory = rig.allocate(&[0; 128]);
    let params: [&[u8]; 1] = [&memory.base.to_le_bytes()];
    rig.run(&body(FENCE, READ), "k", &params);
    assert_eq!(contents(&memory), (0..32u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    rig.fault(&body("", READ), "k", &params, "fence.proxy.async");
    rig.fault(&body(FENCE, "cp.async.bulk.commit_group;"), "k", &params, "cp.async.bulk.wait_group.read");
    rig.fault(&body(FENCE, ""), "k", &params, "cp.async.bulk.commit_group is missing");
    let unchecked = Rig { checked: false, ..self::rig() };
    let memory = unchecked.allocate(&[0; 128]);
    unchecked.run(&body("", ""), "k", &[&memory.base.to_le_bytes()]);
    assert_eq!(contents(&memory)[124..], 31u32.to_le_bytes(), "without checks it arrives, as on a device");
}

#[test]
fn a_source_that_is_overwritten_before_it_was_read() {
    let body = |wait: &str| {
        kernel(&format!(
            "
            @!%p0 bra end;
            st.shared.v4.u32 [buffer], {{1, 2, 3, 4}};
            fence.proxy.async;
            cp.async.bulk.global.shared::cta.bulk_group [%out], [buffer], 16;
            cp.async.bulk.commit_group;
            {wait}
            st.shared.u32 [buffer], 9;
            cp.async.bulk.wait_group 0;
            end:"
        ))
    };
    let rig = rig();
    let memory = rig.allocate(&[0; 16]);
    let params: [&[u8]; 1] = [&memory.base.to_le_bytes()];
    rig.run(&body("cp.async.bulk.wait_group.read 0;"), "k", &params);
    rig.fault(
        &body(""),
        "k",
        &params,
        "0x400 of the shared memory of block 0 of its cluster while a bulk copy reads there",
    );
}

#[test]
fn a_global_result_read_after_its_source_alone_was_waited_for() {
    let body = |wait: &str| {
        kernel(&format!(
            "
            @!%p0 bra end;
            st.shared.v4.u32 [buffer], {{1, 2, 3, 4}};
            fence.proxy.async;
            cp.async.bulk.global.shared::cta.bulk_group [%out], [buffer], 16;
            cp.async.bulk.commit_group;
            {wait}
            ld.global.u32 %r5, [%out];
            st.global.u32 [%out+16], %r5;
            cp.async.bulk.wait_group 0;
            end:"
        ))
    };
    let rig = rig();
    let memory = rig.allocate(&[0; 32]);
    let params: [&[u8]; 1] = [&memory.base.to_le_bytes()];
    rig.run(&body("cp.async.bulk.wait_group 0;"), "k", &params);
    assert_eq!(contents(&memory)[16..20], [1, 0, 0, 0]);
    rig.fault(&body("cp.async.bulk.wait_group.read 0;"), "k", &params, "its completion was not waited for");
}

#[test]
fn a_block_that_ends_while_a_load_is_in_flight_or_bytes_are_owed() {
    let rig = rig();
    let memory = rig.allocate(&[0; 256]);
    let params: [&[u8]; 1] = [&memory.base.to_le_bytes()];
    rig.run(&kernel(&format!("{LOAD}{WAIT}")), "k", &params);
    rig.fault(&kernel(LOAD), "k", &params, "a block ends while the bulk load of PTX line");
    let owed = LOAD.replace("cp.async", "// cp.async");
    rig.fault(&kernel(&owed), "k", &params, "128 bytes announced that never came");
}

#[test]
fn registers_that_nobody_gives_back_are_waited_for_in_vain() {
    let body = |first: &str| {
        kernel(&format!(
            "
            setp.lt.u32 %p2, %r0, 128;
            @%p2 bra produce;
            setmaxnreg.inc.sync.aligned.u32 232;
            bra end;
            produce: {first}
            end: bar.sync 0;"
        ))
    };
    let rig = Rig { threads: 384, ..rig() };
    rig.run(&body("setmaxnreg.dec.sync.aligned.u32 40;"), "k", &[&[0; 8]]);
    rig.fault(&body(""), "k", &[&[0; 8]], "setmaxnreg.inc to 232 registers");
}

#[test]
fn a_tensor_map_that_was_edited_without_a_fence_of_its_proxy() {
    let copied: String = (0..128)
        .step_by(16)
        .map(|at| {
            let to = at + 128;
            format!(
                "ld.global.v4.u32 {{%r4, %r5, %r6, %r7}}, [%out+{at}];
                 st.global.v4.u32 [%out+{to}], {{%r4, %r5, %r6, %r7}};\n"
            )
        })
        .collect();
    // The first 128 bytes at %out are a map; thread 0 makes another of it behind them, and copies by that.
    let body = |before: &str, after: &str| {
        kernel(&format!(
            "
            @!%p0 bra end;
            add.u64 %d1, %out, 128;
            mov.u32 %r8, 0;
            {before}
            {copied}
            {after}
            mbarrier.init.shared::cta.b64 [bars], 1;
            mbarrier.arrive.expect_tx.shared::cta.b64 _, [bars], 128;
            cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [buffer], [%d1, {{%r8}}], [bars];
            {WAIT}
            end:"
        ))
    };
    let rig = rig();
    let tile = rig.allocate(&[7; 128]);
    let map = tensormap::encode(0, tile.base, &[128], &[], &[128], &[1], 0, 0, 0, 0).expect("valid");
    const RELEASE: &str = "fence.proxy.tensormap::generic.release.gpu;";
    const ACQUIRE: &str = "fence.proxy.tensormap::generic.acquire.gpu [%d1], 128;";
    let run = |before: &str, after: &str, words: Option<&str>| {
        let memory = rig.allocate(&[&map[..], &[0; 128]].concat());
        let params: [&[u8]; 1] = [&memory.base.to_le_bytes()];
        match words {
            None => drop(rig.run(&body(before, after), "k", &params)),
            Some(words) => rig.fault(&body(before, after), "k", &params, words),
        }
    };
    let words = Some("no fence.proxy.tensormap::generic.acquire of who knew of it");
    run("", &format!("{RELEASE} {ACQUIRE}"), None);
    run("", "", words);
    run("", RELEASE, words);
    run(ACQUIRE, "fence.proxy.async; fence.sc.sys;", words);
}
