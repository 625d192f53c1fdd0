//! wmma.

use super::super::elements::{Element, Sum};
use super::super::harness::{Harness, vector};
use super::*;
use crate::exec::lanes::{ALL, LANES};
use crate::fault::FaultKind;
use crate::ptx::ErrorKind;

const A: usize = 0x1000;
const B: usize = 0x3000;
const C: usize = 0x5000;
const D: usize = 0x9000;

/// Registers of a fragment, from PTX's table: elements of a lane over those of a register, but 8 for A and B of f16.
fn registers(element: Element, rows: usize, columns: usize) -> usize {
    match element {
        Element::F16 => 8,
        _ => rows * columns / 32 / element.per_register(),
    }
}

/// Writes a matrix into shared memory: rows of `stride` elements, or columns.
fn put(
    harness: &mut Harness,
    at: usize,
    bits: usize,
    (rows, columns, stride, by_row): (usize, usize, usize, bool),
    value: impl Fn(usize) -> u32,
) {
    let shared = &mut harness.cluster.blocks[0].shared;
    for row in 0..rows {
        for column in 0..columns {
            let element = if by_row { row * stride + column } else { column * stride + row };
            let to = at + element * bits / 8;
            shared[to..to + bits / 8]
                .copy_from_slice(&value(row * columns + column).to_le_bytes()[..bits / 8]);
        }
    }
}

fn layout(by_row: bool) -> &'static str {
    if by_row { "row" } else { "col" }
}

/// A product of matrices that lie in shared memory, back to there, in all combinations of layouts.
fn check(size: (usize, usize, usize), of: Element, of_c: Sum, of_d: Sum, random: &mut Random) {
    let (m, n, k) = size;
    let shape = format!("m{m}n{n}k{k}");
    let a: Vec<_> = (0..m * k).map(|_| element(of, random)).collect();
    let b: Vec<_> = (0..k * n).map(|_| element(of, random)).collect();
    let c: Vec<_> = (0..m * n).map(|_| sum(of_c, random)).collect();
    let (bits, ty) = (of.bits(), name(of));
    let ((c_ty, _), (d_ty, satfinite)) = (sum_name(of_c), sum_name(of_d));
    let (c_bits, d_bits) = (32 / of_c.per_register(), 32 / of_d.per_register());
    let a_names = vector("r", 0, registers(of, m, k));
    let b_names = vector("r", 10, registers(of, k, n));
    let c_names = vector("r", 20, 8 / of_c.per_register());
    let d_names = vector("r", 30, 8 / of_d.per_register());
    for layouts in 0..16 {
        let [of_a, of_b, in_c, in_d] = [1, 2, 4, 8].map(|bit| layouts & bit != 0);
        let mut harness = Harness::new(1, 32);
        // Rows and columns are 8 elements longer than they need to be.
        let stride = |rows: usize, columns: usize, by_row: bool| if by_row { columns + 8 } else { rows + 8 };
        let [to_a, to_b, to_c, to_d] =
            [(m, k, of_a), (k, n, of_b), (m, n, in_c), (m, n, in_d)].map(|(r, c, by)| stride(r, c, by));
        put(&mut harness, A, bits, (m, k, to_a, of_a), |at| a[at].0);
        put(&mut harness, B, bits, (k, n, to_b, of_b), |at| b[at].0);
        put(&mut harness, C, c_bits, (m, n, to_c, in_c), |at| c[at].0);
        for (register, at) in ["rd0", "rd1", "rd2", "rd3"].into_iter().zip([A, B, C, D]) {
            harness.set_wide(0, register, [at as u64; LANES]);
        }
        let [la, lb, lc, ld] = [of_a, of_b, in_c, in_d].map(layout);
        harness
            .step(0, &format!("wmma.load.a.sync.aligned.{la}.{shape}.shared.{ty} {a_names},[rd0],{to_a};"));
        harness
            .step(0, &format!("wmma.load.b.sync.aligned.{lb}.{shape}.shared.{ty} {b_names},[rd1],{to_b};"));
        harness
            .step(0, &format!("wmma.load.c.sync.aligned.{lc}.{shape}.shared.{c_ty} {c_names},[rd2],{to_c};"));
        let types = match of {
            Element::F16 => format!("{d_ty}.{c_ty}"),
            _ => format!("{d_ty}.{ty}.{ty}.{c_ty}"),
        };
        harness.step(
            0,
            &format!("wmma.mma.sync.aligned.{la}.{lb}.{shape}.{types}{satfinite} {d_names},{a_names},{b_names},{c_names};"),
        );
        assert_eq!(harness.cluster.counters.tensor_flops, 2 * (m * n * k) as u64);
        harness.step(
            0,
            &format!("wmma.store.d.sync.aligned.{ld}.{shape}.shared.{d_ty} [rd3],{d_names},{to_d};"),
        );
        let shared = &harness.cluster.blocks[0].shared;
        for row in 0..m {
            for column in 0..n {
                let exact = (0..k).fold(c[row * n + column].1, |sum, step| {
                    sum + a[row * k + step].1 * b[step * n + column].1
                });
                let element = if in_d { row * to_d + column } else { column * to_d + row };
                let mut word = [0; 4];
                word[..d_bits / 8].copy_from_slice(&shared[D + element * d_bits / 8..][..d_bits / 8]);
                let found = u32::from_le_bytes(word);
                assert_eq!(found, rounded(of_d, exact), "{shape} {ty} {layouts:04b} at {row}, {column}");
            }
        }
    }
}

#[test]
fn every_form_is_the_exact_sum_in_all_layouts() {
    let mut random = Random(21);
    let (wraps, clamps) = (Sum::S32 { saturate: false }, Sum::S32 { saturate: true });
    for size in [(16, 16, 16), (32, 8, 16), (8, 32, 16)] {
        for (of, of_c, of_d) in [
            (Element::F16, Sum::F32, Sum::F32),
            (Element::F16, Sum::F16, Sum::F16),
            (Element::F16, Sum::F16, Sum::F32),
            (Element::F16, Sum::F32, Sum::F16),
            (Element::Bf16, Sum::F32, Sum::F32),
            (Element::S8, wraps, wraps),
            (Element::U8, wraps, clamps),
        ] {
            check(size, of, of_c, of_d, &mut random);
        }
    }
    check((16, 16, 8), Element::Tf32, Sum::F32, Sum::F32, &mut random);
}

#[test]
fn registers_that_repeat_elements_hold_the_same() {
    let mut harness = Harness::new(1, 32);
    put(&mut harness, A, 16, (16, 16, 16, false), |at| at as u32);
    harness.set_wide(0, "rd0", [A as u64; LANES]);
    let text = format!("wmma.load.a.sync.aligned.col.m16n16k16.shared.f16 {},[rd0];", vector("r", 0, 8));
    harness.step(0, &text);
    for register in 0..4 {
        let row = harness.get(0, &format!("r{register}"));
        assert_eq!(
            row,
            std::array::from_fn(|lane| {
                let first = (8 * lane + 2 * register) as u32;
                first | (first + 1) << 16
            })
        );
        assert_eq!(row, harness.get(0, &format!("r{}", register + 4)));
    }
}

#[test]
fn misuse_is_a_fault_and_unknown_forms_are_refused() {
    let mut harness = Harness::new(1, 32);
    let text = format!("wmma.load.a.sync.aligned.row.m16n16k16.shared.bf16 {},[rd0];", vector("r", 0, 4));
    harness.set_wide(0, "rd0", std::array::from_fn(|lane| (A + 64 * (lane & 1)) as u64));
    assert_eq!(harness.fault(0, &text).kind, FaultKind::Instruction, "addresses differ");
    harness.set_wide(0, "rd0", [(64 << 10) - 64; LANES]);
    assert_eq!(harness.fault(0, &text).kind, FaultKind::Address, "past the end");
    assert_eq!(harness.run(0, &text, ALL >> 1).unwrap_err().kind, FaultKind::Instruction);
    let mut kind = |text: &str| harness.decode(text).err().map(|error| error.kind);
    let unsupported = Some(ErrorKind::Unsupported);
    for text in [
        "wmma.load.a.sync.aligned.row.m8n8k32.shared.s4 {r0},[rd0]",
        "wmma.load.a.sync.aligned.row.m8n8k4.shared.f64 {rd1},[rd0]",
        "wmma.load.a.sync.aligned.row.m16n16k8.shared.bf16 {r0,r1},[rd0]",
        "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f16 {r0,r1,r2,r3},{r0},{r0},{r0}",
    ] {
        assert!(kind(text).is_some(), "{text}");
    }
    assert_eq!(kind("wmma.load.c.sync.aligned.row.m16n16k4.shared.f32 {r0},[rd0]"), Some(ErrorKind::Invalid));
    assert_eq!(kind("wmma.load.a.sync.aligned.row.m8n8k32.shared.s4 {r0},[rd0]"), unsupported);
    assert_eq!(kind("wmma.load.a.aligned.row.m16n16k16.shared.f16 {r0},[rd0]"), unsupported);
}
