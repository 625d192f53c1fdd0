//! Fragments against the manual's index maps, and what is refused.

use crate::exec::harness::{Machine, SHARED_BASE, UNWRITTEN};
use crate::exec::lanes::ALL;
use crate::fault::FaultKind;

/// Element (row, column) of a matrix that is stored in shared memory.
fn element(matrix: usize, row: usize, column: usize) -> u16 {
    (matrix * 1000 + row * 10 + column) as u16
}

/// Where row `row` of a matrix is stored: rows lie apart, in no simple order.
fn place(matrix: usize, row: usize) -> u64 {
    SHARED_BASE + 48 * ((matrix * 8 + row) * 5 % 32) as u64
}

fn machine() -> Machine {
    let mut m = Machine::unchecked();
    for matrix in 0..4 {
        for row in 0..8 {
            for column in 0..8 {
                let at = place(matrix, row) as usize + 2 * column;
                m.cluster.blocks[0].shared[at..at + 2]
                    .copy_from_slice(&element(matrix, row, column).to_le_bytes());
            }
        }
    }
    m
}

/// Rows and columns of the two elements that a lane holds.
fn held(lane: usize, transposed: bool) -> [(usize, usize); 2] {
    let pair = [2 * (lane % 4), 2 * (lane % 4) + 1];
    pair.map(|at| if transposed { (at, lane / 4) } else { (lane / 4, at) })
}

#[test]
fn ldmatrix_spreads_rows_over_the_lanes() {
    for (count, trans, list) in [
        (1, "", "{%r1}"),
        (2, "", "{%r1,%r2}"),
        (4, "", "{%r1,%r2,%r3,%r4}"),
        (1, ".trans", "{%r1}"),
        (2, ".trans", "{%r1,%r2}"),
        (4, ".trans", "{%r1,%r2,%r3,%r4}"),
    ] {
        for space in [".shared", ".shared::cta", ""] {
            let mut m = machine();
            let window = if space.is_empty() { crate::memory::SHARED_WINDOW } else { 0 };
            // Lanes that name no row of these matrices may hold anything.
            m.set("%rd1", |lane| {
                let (matrix, row) = (lane as usize / 8, lane as usize % 8);
                if matrix < count { u128::from(window + place(matrix, row)) } else { 0xDEAD_BEEF }
            });
            m.run(&format!("ldmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 {list}, [%rd1];"))
                .expect("no fault");
            for matrix in 0..count {
                for lane in 0..32 {
                    let [low, high] = held(lane, !trans.is_empty())
                        .map(|(row, column)| u128::from(element(matrix, row, column)));
                    assert_eq!(
                        m.get(&format!("%r{}", matrix + 1), lane),
                        low | high << 16,
                        "x{count}{trans}, matrix {matrix}, lane {lane}"
                    );
                }
            }
        }
    }
}

#[test]
fn stmatrix_is_its_inverse() {
    for (count, list) in [(1, "{%r1}"), (2, "{%r1,%r2}"), (4, "{%r1,%r2,%r3,%r4}")] {
        for trans in ["", ".trans"] {
            let mut m = Machine::unchecked();
            for matrix in 0..count {
                m.set(&format!("%r{}", matrix + 1), |lane| {
                    let [low, high] = held(lane as usize, !trans.is_empty())
                        .map(|(row, column)| u128::from(element(matrix, row, column)));
                    low | high << 16
                });
            }
            m.set("%rd1", |lane| u128::from(place(lane as usize / 8, lane as usize % 8)));
            m.run(&format!("stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%rd1], {list};"))
                .expect("no fault");
            for matrix in 0..4 {
                for row in 0..8 {
                    let at = place(matrix, row) as usize;
                    for column in 0..8 {
                        let bytes = &m.cluster.blocks[0].shared[at + 2 * column..][..2];
                        let found = u16::from_le_bytes(bytes.try_into().expect("2 bytes"));
                        let expected =
                            if matrix < count { element(matrix, row, column) } else { UNWRITTEN as u16 };
                        assert_eq!(
                            found, expected,
                            "x{count}{trans}, matrix {matrix}, row {row}, column {column}"
                        );
                    }
                    assert_eq!(
                        m.cluster.blocks[0].shared[at + 16],
                        UNWRITTEN as u8,
                        "behind a row nothing changes"
                    );
                }
            }
        }
    }
}

#[test]
fn movmatrix_transposes_across_the_warp() {
    let mut m = Machine::unchecked();
    m.set("%r1", |lane| {
        let [low, high] = held(lane as usize, false).map(|(row, column)| u128::from(element(0, row, column)));
        low | high << 16
    });
    m.run("movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1; movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r1;")
        .expect("no fault");
    for lane in 0..32 {
        let [low, high] = held(lane, true).map(|(row, column)| u128::from(element(0, row, column)));
        assert_eq!(
            (m.get("%r2", lane), m.get("%r1", lane)),
            (low | high << 16, low | high << 16),
            "lane {lane}"
        );
    }
}

#[test]
fn rows_that_share_banks_are_counted_as_conflicts() {
    let mut m = Machine::unchecked();
    m.set("%rd1", |lane| u128::from(SHARED_BASE + 128 * (lane % 8)));
    m.run("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%rd1];").expect("no fault");
    assert_eq!((m.cluster.counters.shared_wavefronts, m.cluster.counters.shared_conflicts), (8, 7));
    m.set("%rd1", |lane| u128::from(SHARED_BASE + 128 * (lane % 8) + 16 * (lane % 8)));
    m.run("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1,%r2,%r3,%r4}, [%rd1];").expect("no fault");
    assert_eq!((m.cluster.counters.shared_wavefronts, m.cluster.counters.shared_conflicts), (12, 7));
    assert_eq!(m.cluster.counters.shared_load_bytes, 128 + 512);
}

#[test]
fn all_lanes_take_part_with_aligned_rows_in_shared_memory() {
    let mut m = Machine::unchecked();
    let ld = "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r1,%r2}, [%rd1];";
    let st = "stmatrix.sync.aligned.m8n8.x1.b16 [%rd1], {%r1};";
    let good = u128::from(SHARED_BASE);
    m.set("%rd1", |_| good);
    m.run(ld).expect("all is well");
    let fault = m.run_lanes(0xFFFF_FFFB, ld).expect_err("lane 2 is missing");
    assert_eq!((fault.kind, fault.lane), (FaultKind::Instruction, Some(2)));
    assert_eq!(fault.message, "ldmatrix with 31 of the warp's 32 threads: it needs all");
    m.run_lanes(1, "movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;").expect_err("one lane alone");

    m.set("%rd1", |lane| if lane == 15 { good + 8 } else { good });
    let fault = m.run(ld).expect_err("lane 15 names a row of the second matrix");
    assert_eq!((fault.kind, fault.lane), (FaultKind::Misaligned, Some(15)));
    assert_eq!(
        fault.message,
        format!("reads 16 bytes of shared memory at {:#x}, which is no multiple of 16", good + 8)
    );
    m.set("%rd1", |lane| if lane == 16 { good + 8 } else { good });
    m.run(ld).expect("lane 16 names none");

    let end = good + 4096;
    m.set("%rd1", |lane| if lane == 7 { end } else { good });
    let fault = m.run(ld).expect_err("it is past the end");
    assert_eq!(
        fault.message,
        format!(
            "reads 16 bytes of shared memory at {end:#x}, just past the end of the 4096 bytes of the block at 0x400"
        )
    );

    let base = u128::from(m.gv.base);
    m.set("%rd1", |_| base);
    let fault = m.run(st).expect_err("it is global memory");
    assert_eq!((fault.kind, fault.lane), (FaultKind::AddressSpace, Some(0)));
    assert_eq!(
        fault.message,
        format!("writes 16 bytes of shared memory at {base:#x}, which is an address of global memory")
    );
    assert_eq!(ALL.count_ones(), 32);
}

#[test]
fn other_forms_are_refused() {
    let mut m = Machine::unchecked();
    for text in [
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r1,[sm]",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1,%r2},[sm]",
        "ldmatrix.sync.aligned.m8n8.x4.shared::cluster.b16 {%r1,%r2,%r3,%r4},[%rd3]",
        "ldmatrix.sync.aligned.m8n8.shared.b16 {%r1},[sm]",
        "ldmatrix.aligned.m8n8.x1.shared.b16 {%r1},[sm]",
        "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r1,%r2},[sm]",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b8 {%r1},[sm]",
        "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%rd3],%r1",
        "movmatrix.sync.aligned.m8n8.b16 %r1,%r2",
    ] {
        assert!(m.decode(&format!("{text};")).is_err(), "{text}");
    }
}
