//! Each fault with its exact words, and beside it the access that is right.

use crate::exec::harness::{LOCAL, Machine, PARAMS, SHARED, SHARED_BASE};
use crate::fault::FaultKind;
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};

/// Sets `%rd1` to an address in lane 5, with the other lanes at a harmless one, and runs `text`: it must fault so, in that lane.
fn faults(m: &mut Machine, harmless: u64, address: u64, text: &str, kind: FaultKind, message: &str) {
    m.set("%rd1", |lane| u128::from(if lane == 5 { address } else { harmless }));
    let fault = m.run(text).expect_err(text);
    assert_eq!((fault.kind, fault.lane, fault.message.as_str()), (kind, Some(5), message), "{text}");
    m.set("%rd1", |_| u128::from(harmless));
    m.run(text).unwrap_or_else(|fault| panic!("{text}: {}", fault.message));
}

#[test]
fn past_the_end_of_an_allocation() {
    let mut m = Machine::unchecked();
    let memory = m.numbered(4096);
    let base = memory.base;
    let allocation = format!("the end of the allocation of 4096 bytes at {base:#x}");
    let cases = [
        ("ld.global.u32 %r1, [%rd1];", 4108, "reads 4 bytes", ", 12 bytes past "),
        ("ld.u32 %r1, [%rd1];", 4096, "reads 4 bytes", ", just past "),
        ("st.global.u8 [%rd1], %r1;", 4097, "writes 1 byte", ", 1 bytes past "),
        ("ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd1+-16];", 4128, "reads 16 bytes", ", 16 bytes past "),
        ("atom.global.add.u64 %rd2, [%rd1], 1;", 4104, "updates 8 bytes", ", 8 bytes past "),
        ("red.global.add.v2.f32 [%rd1], {%f1,%f2};", 4096, "updates 8 bytes", ", just past "),
    ];
    for (text, offset, what, how) in cases {
        let address = base + offset - if text.contains("-16") { 16 } else { 0 };
        let message = format!("{what} at {address:#x}{how}{allocation}");
        faults(&mut m, base + 64, base + offset, text, FaultKind::Address, &message);
    }
}

#[test]
fn partly_past_the_end_of_an_allocation() {
    let mut m = Machine::unchecked();
    let base = m.numbered(4094).base;
    let message = format!(
        "reads 4 bytes at {:#x}, the last 2 of them past the end of the allocation of 4094 bytes at {base:#x}",
        base + 4092
    );
    faults(&mut m, base + 4088, base + 4092, "ld.global.u32 %r1, [%rd1];", FaultKind::Address, &message);
}

#[test]
fn before_an_allocation_and_where_there_is_none() {
    let mut m = Machine::unchecked();
    m.numbered(64);
    let base = m.numbered(4096).base;
    let text = "st.global.u32 [%rd1], %r1;";
    let message = format!(
        "writes 4 bytes at {:#x}, 4 bytes before the allocation of 4096 bytes at {base:#x}",
        base - 4
    );
    faults(&mut m, base, base - 4, text, FaultKind::Address, &message);
    faults(&mut m, base, 0, text, FaultKind::Address, "writes 4 bytes at 0x0, where nothing is allocated");
}

#[test]
fn after_it_was_freed() {
    let mut m = Machine::unchecked();
    let (live, dead) = (m.numbered(64), m.numbered(64));
    // Known to the instruction before it is freed.
    m.set("%rd1", |_| u128::from(dead.base));
    m.run("ld.global.u32 %r1, [%rd1];").expect("it is live");
    m.memory.free(dead.base).expect("it is live");
    let message = format!(
        "reads 4 bytes at {:#x}, in the allocation of 64 bytes at {:#x} that was freed",
        dead.base + 4,
        dead.base
    );
    let text = "ld.global.u32 %r1, [%rd1];";
    faults(&mut m, live.base, dead.base + 4, text, FaultKind::UseAfterFree, &message);
}

#[test]
fn addresses_that_are_no_multiple_of_the_size() {
    let mut m = Machine::unchecked();
    let base = m.numbered(4096).base;
    let cases = [
        ("ld.global.u32 %r1, [%rd1];", 2, "reads 4 bytes", 4),
        ("ld.global.v2.u32 {%r1,%r2}, [%rd1];", 4, "reads 8 bytes", 8),
        ("st.global.v4.f32 [%rd1], {%f1,%f2,%f3,%f4};", 8, "writes 16 bytes", 16),
        ("ld.global.b128 %q1, [%rd1];", 8, "reads 16 bytes", 16),
        ("ld.global.u16 %r1, [%rd1];", 1, "reads 2 bytes", 2),
        ("atom.global.cas.b64 %rd2, [%rd1], %rd3, %rd4;", 4, "updates 8 bytes", 8),
    ];
    for (text, offset, what, size) in cases {
        let address = base + offset;
        let message = format!("{what} at {address:#x}, which is no multiple of {size}");
        faults(&mut m, base + 16, address, text, FaultKind::Misaligned, &message);
    }
    let message =
        format!("reads 4 bytes of shared memory at {:#x}, which is no multiple of 4", SHARED_BASE + 2);
    let text = "ld.shared.u32 %r1, [%rd1];";
    faults(&mut m, SHARED_BASE, SHARED_BASE + 2, text, FaultKind::Misaligned, &message);
    let message = "writes 8 bytes of local memory at 0x4, which is no multiple of 8";
    faults(&mut m, 8, 4, "st.local.u64 [%rd1], %rd2;", FaultKind::Misaligned, message);
    let message = "reads 4 bytes of parameters at 0x6, which is no multiple of 4";
    faults(&mut m, 8, 6, "ld.param.u32 %r1, [%rd1];", FaultKind::Misaligned, message);
}

#[test]
fn outside_a_blocks_shared_memory() {
    let mut m = Machine::unchecked();
    let end = SHARED_BASE + u64::from(SHARED);
    let whose = format!("the {SHARED} bytes of the block at {SHARED_BASE:#x}");
    let cases = [
        (end + 8, format!("{:#x}, 8 bytes past the end of {whose}", end + 8)),
        (end, format!("{end:#x}, just past the end of {whose}")),
        (SHARED_BASE - 4, format!("{:#x}, 4 bytes before {whose}", SHARED_BASE - 4)),
    ];
    for (address, words) in &cases {
        let message = format!("writes 4 bytes of shared memory at {words}");
        faults(&mut m, SHARED_BASE, *address, "st.shared.u32 [%rd1], %r1;", FaultKind::Address, &message);
        let (harmless, generic) = (SHARED_WINDOW + SHARED_BASE, SHARED_WINDOW + address);
        faults(&mut m, harmless, generic, "st.u32 [%rd1], %r1;", FaultKind::Address, &message);
    }
    let message = format!(
        "updates 4 bytes of shared memory at {:#x}, in block 1 of a cluster of 1",
        1 << 24 | SHARED_BASE
    );
    let text = "atom.shared::cluster.add.u32 %r1, [%rd1], %r2;";
    faults(&mut m, SHARED_BASE, 1 << 24 | SHARED_BASE, text, FaultKind::Address, &message);
}

#[test]
fn outside_a_threads_local_memory_and_outside_the_parameters() {
    let mut m = Machine::unchecked();
    let end = u64::from(LOCAL);
    let message = format!(
        "reads 4 bytes of local memory at {:#x}, 4 bytes past the end of the thread's {LOCAL} bytes",
        end + 4
    );
    faults(&mut m, 0, end + 4, "ld.local.u32 %r1, [%rd1];", FaultKind::Address, &message);
    faults(&mut m, LOCAL_WINDOW, LOCAL_WINDOW + end + 4, "ld.u32 %r1, [%rd1];", FaultKind::Address, &message);
    let message = format!(
        "writes 8 bytes of local memory at {end:#x}, just past the end of the thread's {LOCAL} bytes"
    );
    faults(&mut m, 0, end, "st.local.u64 [%rd1], %rd2;", FaultKind::Address, &message);
    let end = u64::from(PARAMS);
    let message =
        format!("reads 2 bytes of parameters at {end:#x}, just past the end of the kernel's {PARAMS} bytes");
    faults(&mut m, 0, end, "ld.param.u16 %r1, [%rd1];", FaultKind::Address, &message);
    faults(&mut m, PARAM_WINDOW, PARAM_WINDOW + end, "ld.u16 %r1, [%rd1];", FaultKind::Address, &message);
}

#[test]
fn addresses_of_another_space() {
    let mut m = Machine::unchecked();
    let base = m.numbered(64).base;
    let kind = FaultKind::AddressSpace;
    let shared = SHARED_WINDOW + SHARED_BASE;
    let message =
        format!("reads 4 bytes of global memory at {shared:#x}, which is a generic address of shared memory");
    faults(&mut m, base, shared, "ld.global.u32 %r1, [%rd1];", kind, &message);
    let message = format!(
        "updates 4 bytes of global memory at {LOCAL_WINDOW:#x}, which is a generic address of local memory"
    );
    faults(&mut m, base, LOCAL_WINDOW, "red.global.add.u32 [%rd1], 1;", kind, &message);
    let message =
        format!("reads 4 bytes of shared memory at {base:#x}, which is an address of global memory");
    faults(&mut m, SHARED_BASE, base, "ld.shared.u32 %r1, [%rd1];", kind, &message);
    let message =
        format!("reads 4 bytes of shared memory at {shared:#x}, which is a generic address of shared memory");
    faults(&mut m, SHARED_BASE, shared, "ld.shared::cluster.u32 %r1, [%rd1];", kind, &message);
    let other = 1 << 24 | SHARED_BASE;
    let message = format!(
        "writes 4 bytes of shared memory at {other:#x}, which is an address of another block's shared memory"
    );
    faults(&mut m, SHARED_BASE, other, "st.shared.u32 [%rd1], %r1;", kind, &message);
    let message = format!(
        "writes 4 bytes of writable memory at {PARAM_WINDOW:#x}, which is a generic address of parameters"
    );
    faults(&mut m, base, PARAM_WINDOW, "st.u32 [%rd1], %r1;", kind, &message);
    let message = format!(
        "updates 4 bytes of global or shared memory at {LOCAL_WINDOW:#x}, which is a generic address of local memory"
    );
    faults(&mut m, base, LOCAL_WINDOW, "atom.exch.b32 %r1, [%rd1], %r2;", kind, &message);
    let message = format!(
        "updates 8 bytes of global memory at {shared:#x}, which is a generic address of shared memory"
    );
    faults(&mut m, base, shared, "red.add.v2.f32 [%rd1], {%f1, %f2};", kind, &message);
}

#[test]
fn shared_memory_of_a_block_that_has_gone() {
    let mut m = Machine::of(2, crate::check::Options::NONE);
    m.set("%rd1", |_| u128::from(1 << 24 | SHARED_BASE));
    m.run("ld.shared::cluster.u32 %r1, [%rd1];").expect("block 1 is there");
    m.cluster.warps[1].as_mut().expect("it is not running").live = 0;
    let fault = m.run("ld.shared::cluster.u32 %r1, [%rd1];").expect_err("block 1 has gone");
    assert_eq!(
        fault.message,
        format!(
            "reads 4 bytes of shared memory at {SHARED_BASE:#x}, in block 1 of the cluster, all threads of which have exited"
        )
    );
}

#[test]
fn lanes_that_the_guard_holds_back_touch_nothing() {
    let mut m = Machine::unchecked();
    let base = m.numbered(64).base;
    m.set("%rd1", |lane| u128::from(if lane == 5 { 3 } else { base }));
    m.set("%r1", |_| 0);
    m.run_lanes(
        !(1 << 5),
        "ld.global.u32 %r2, [%rd1]; st.global.u32 [%rd1], %r1; red.global.add.u32 [%rd1], %r1;",
    )
    .expect("lane 5 does not run it");
}

#[test]
fn local_memory_that_the_thread_never_wrote() {
    for uninitialized in [true, false] {
        let mut m = Machine::of(1, crate::check::Options { uninitialized, ..crate::check::Options::NONE });
        m.run_lanes(!(1 << 5), "st.local.u32 [lc], %r1;").expect("no fault");
        m.run_lanes(!(1 << 5), "ld.local.u32 %r2, [lc];").expect("these lanes wrote it");
        let result = m.run("ld.local.u32 %r2, [lc];");
        if uninitialized {
            let fault = result.expect_err("lane 5 did not");
            assert_eq!((fault.kind, fault.lane), (FaultKind::Uninitialized, Some(5)));
            assert_eq!(fault.message, "reads 4 bytes of local memory at 0x10, which the thread never wrote");
        } else {
            result.expect("nobody asked");
        }
    }
}

#[test]
fn gaps_of_a_structure_in_local_memory_may_be_read_with_what_is_beside_them() {
    let mut m = Machine::of(1, crate::check::Options { uninitialized: true, ..crate::check::Options::NONE });
    m.run("st.local.u8 [lc], %r1; st.local.u32 [lc+4], %r1;").expect("no fault");
    m.run("ld.local.u64 %rd2, [lc]; ld.local.v2.u32 {%r2, %r3}, [lc];")
        .expect("of each element a byte was written");
    let fault = m.run("ld.local.v4.u32 {%r2, %r3, %r4, %r5}, [lc];").expect_err("of the third none was");
    assert_eq!(fault.message, "reads 16 bytes of local memory at 0x10, which the thread never wrote");
}
