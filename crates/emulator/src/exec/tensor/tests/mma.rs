//! mma.sync.

use super::super::elements::{Element, Sum};
use super::super::fragments;
use super::super::harness::{Harness, vector};
use super::*;
use crate::exec::lanes::{ALL, LANES};
use crate::fault::FaultKind;
use crate::ptx::ErrorKind;

/// The manual's formulas for A, by M, K, and bits of an element.
fn manual_a(m: usize, k: usize, bits: usize, lane: usize, i: usize) -> (usize, usize) {
    let (g, q) = (lane >> 2, lane & 3);
    let at = |row: bool, column: usize| (if row { g + 8 } else { g }, column);
    match (m, k, bits) {
        (16, 8, 16) => at(i >= 2, 2 * q + (i & 1)),
        (16, 16, 16) => at(matches!(i, 2 | 3 | 6 | 7), 2 * q + (i & 1) + if i >= 4 { 8 } else { 0 }),
        (16, 4, 32) => at(i == 1, q),
        (16, 8, 32) => at(i == 1 || i == 3, if i < 2 { q } else { q + 4 }),
        (8, 16, 8) => at(false, 4 * q + i),
        (16, 16, 8) => at(i >= 4, 4 * q + (i & 3)),
        (16, 32, 8) => at((4..8).contains(&i) || i >= 12, 4 * q + (i & 3) + if i >= 8 { 16 } else { 0 }),
        (8, 32, 4) => at(false, 8 * q + i),
        (16, 32, 4) => at(i >= 8, 8 * q + (i & 7)),
        (16, 64, 4) => at((8..16).contains(&i) || i >= 24, 8 * q + (i & 7) + if i >= 16 { 32 } else { 0 }),
        (8, 4, 64) => at(false, q),
        (16, 4, 64) => at(i == 1, q),
        (16, 8, 64) => at(i == 1 || i == 3, if i < 2 { q } else { q + 4 }),
        (16, 16, 64) => at(i % 2 == 1, i / 2 * 4 + q),
        other => panic!("no form {other:?}"),
    }
}

/// The manual's formulas for B, by K and bits of an element.
fn manual_b(k: usize, bits: usize, lane: usize, i: usize) -> (usize, usize) {
    let (g, q) = (lane >> 2, lane & 3);
    let row = match (k, bits) {
        (8, 16) => 2 * q + i,
        (16, 16) => 2 * q + (i & 1) + if i >= 2 { 8 } else { 0 },
        (4, 32) => q,
        (8, 32) => q + 4 * i,
        (16, 8) => 4 * q + i,
        (32, 8) => 4 * q + (i & 3) + if i >= 4 { 16 } else { 0 },
        (32, 4) => 8 * q + i,
        (64, 4) => 8 * q + (i & 7) + if i >= 8 { 32 } else { 0 },
        (4 | 8 | 16, 64) => q + 4 * i,
        other => panic!("no form {other:?}"),
    };
    (row, g)
}

/// The manual's formulas for C and D, by M.
fn manual_c(m: usize, lane: usize, i: usize) -> (usize, usize) {
    let (g, q) = (lane >> 2, lane & 3);
    if m == 8 { (g, 2 * q + i) } else { (if i < 2 { g } else { g + 8 }, 2 * q + (i & 1)) }
}

/// All forms but those of f64: M, K, A, B.
fn forms() -> Vec<(usize, usize, Element, Element)> {
    use Element::*;
    let mut all = vec![(16, 8, F16, F16), (16, 16, F16, F16), (16, 8, Bf16, Bf16), (16, 16, Bf16, Bf16)];
    all.extend([(16, 4, Tf32, Tf32), (16, 8, Tf32, Tf32)]);
    for (a, b) in [(E4m3, E4m3), (E4m3, E5m2), (E5m2, E4m3), (E5m2, E5m2)] {
        all.extend([(16, 16, a, b), (16, 32, a, b)]);
    }
    for (a, b) in [(S8, S8), (S8, U8), (U8, S8), (U8, U8)] {
        all.extend([(8, 16, a, b), (16, 16, a, b), (16, 32, a, b)]);
    }
    for (a, b) in [(S4, S4), (S4, U4), (U4, S4), (U4, U4)] {
        all.extend([(8, 32, a, b), (16, 32, a, b), (16, 64, a, b)]);
    }
    all
}

#[test]
fn the_maps_are_the_manuals() {
    let narrow = forms().into_iter().map(|(m, k, a, _)| (m, k, a.bits()));
    let wide = [(8, 4, 64), (16, 4, 64), (16, 8, 64), (16, 16, 64)];
    for (m, k, bits) in narrow.chain(wide) {
        let per = (32 / bits).max(1);
        for lane in 0..LANES {
            for i in 0..m * k / LANES {
                assert_eq!(
                    fragments::a(per, lane, i),
                    manual_a(m, k, bits, lane, i),
                    "A m{m}k{k} lane {lane}, {i}"
                );
            }
            for i in 0..k * 8 / LANES {
                assert_eq!(fragments::b(per, lane, i), manual_b(k, bits, lane, i), "B k{k} lane {lane}, {i}");
            }
            for i in 0..m * 8 / LANES {
                assert_eq!(fragments::c(lane, i), manual_c(m, lane, i), "C m{m} lane {lane}, {i}");
            }
        }
    }
}

/// The text of an instruction with D in r0, A in r100, B in r200 and C in r300 and on.
fn text(m: usize, k: usize, a: Element, b: Element, sum: Sum) -> String {
    let (of_sum, satfinite) = sum_name(sum);
    let sums = m * 8 / LANES / sum.per_register();
    format!(
        "mma.sync.aligned.m{m}n8k{k}.row.col{satfinite}.{of_sum}.{}.{}.{of_sum} {},{},{},{};",
        name(a),
        name(b),
        vector("r", 0, sums),
        vector("r", 100, m * k / LANES / a.per_register()),
        vector("r", 200, k * 8 / LANES / a.per_register()),
        vector("r", 300, sums),
    )
}

/// Puts bits of elements into the registers from `first` on; `at` is where element `i` of a lane lies in the matrix.
fn load(harness: &mut Harness, first: usize, bits: usize, count: usize, at: impl Fn(usize, usize) -> u32) {
    let per = 32 / bits;
    for register in 0..count / per {
        let row = std::array::from_fn(|lane| {
            (0..per).fold(0, |word, element| word | at(lane, register * per + element) << (element * bits))
        });
        harness.set(0, &format!("r{}", first + register), row);
    }
}

/// Runs a product of matrices of bits and returns D's.
fn product(
    (m, k, of_a, of_b, sum): (usize, usize, Element, Element, Sum),
    a: &[u32],
    b: &[u32],
    c: &[u32],
) -> Vec<u32> {
    let mut harness = Harness::new(1, 32);
    let (bits, sum_bits) = (of_a.bits(), 32 / sum.per_register());
    load(&mut harness, 100, bits, m * k / LANES, |lane, i| {
        let (row, column) = manual_a(m, k, bits, lane, i);
        a[row * k + column]
    });
    load(&mut harness, 200, bits, k * 8 / LANES, |lane, i| {
        let (row, column) = manual_b(k, bits, lane, i);
        b[row * 8 + column]
    });
    load(&mut harness, 300, sum_bits, m * 8 / LANES, |lane, i| {
        let (row, column) = manual_c(m, lane, i);
        c[row * 8 + column]
    });
    harness.step(0, &text(m, k, of_a, of_b, sum));
    assert_eq!(harness.cluster.counters.tensor_flops, 2 * (m * 8 * k) as u64);
    let mut d = vec![0; m * 8];
    for i in 0..m * 8 / LANES {
        let row = harness.get(0, &format!("r{}", i / sum.per_register()));
        for (lane, word) in row.into_iter().enumerate() {
            let (row, column) = manual_c(m, lane, i);
            let shifted = word >> (i % sum.per_register() * 16);
            d[row * 8 + column] = if sum == Sum::F16 { shifted & 0xffff } else { shifted };
        }
    }
    d
}

#[test]
fn every_form_is_the_exact_sum_rounded_once() {
    let mut random = Random(1);
    for (m, k, of_a, of_b) in forms() {
        for of_sum in sums(of_a) {
            let a: Vec<_> = (0..m * k).map(|_| element(of_a, &mut random)).collect();
            let b: Vec<_> = (0..k * 8).map(|_| element(of_b, &mut random)).collect();
            let c: Vec<_> = (0..m * 8).map(|_| sum(of_sum, &mut random)).collect();
            let bits = |all: &[(u32, i128)]| all.iter().map(|(bits, _)| *bits).collect::<Vec<_>>();
            let d = product((m, k, of_a, of_b, of_sum), &bits(&a), &bits(&b), &bits(&c));
            for row in 0..m {
                for column in 0..8 {
                    let exact = (0..k).fold(c[row * 8 + column].1, |sum, step| {
                        sum + a[row * k + step].1 * b[step * 8 + column].1
                    });
                    let wanted = rounded(of_sum, exact);
                    let found = d[row * 8 + column];
                    assert_eq!(found, wanted, "m{m}k{k} {of_a:?}·{of_b:?}, {of_sum:?} at {row}, {column}");
                }
            }
        }
    }
}

/// D(0, 0) of the product whose only elements are in the first row of A, the first column of B, and C(0, 0).
fn one(form: (usize, usize, Element, Element, Sum), a: &[u32], b: &[u32], c: u32) -> u32 {
    let (m, k, ..) = form;
    let (mut of_a, mut of_b, mut of_c) = (vec![0; m * k], vec![0; k * 8], vec![0; m * 8]);
    of_a[..a.len()].copy_from_slice(a);
    b.iter().enumerate().for_each(|(step, bits)| of_b[step * 8] = *bits);
    of_c[0] = c;
    let d = product(form, &of_a, &of_b, &of_c);
    assert!(d[8..].iter().all(|bits| *bits == 0), "other rows are 0 times what is finite");
    d[0]
}

#[test]
fn floats_keep_infinities_subnormals_and_signs() {
    let bf16 = (16, 16, Element::Bf16, Element::Bf16, Sum::F32);
    let f = |value: f32| value.to_bits();
    // The largest bf16 squared is past f32; 2^40 and its opposite leave what they were added to.
    assert_eq!(one(bf16, &[0x7f7f], &[0x7f7f], 0), f(f32::INFINITY));
    assert_eq!(one(bf16, &[0x4980, 0xc980], &[0x4980, 0x4980], f(3.0)), f(3.0));
    assert_eq!(one(bf16, &[0xff80], &[0x3f80], f(1.0)), f(f32::NEG_INFINITY));
    assert_eq!(one(bf16, &[0x7f80], &[0], f(1.0)), 0x7fff_ffff);
    assert_eq!(one(bf16, &[0x7f80], &[0x3f80], f(f32::NEG_INFINITY)), 0x7fff_ffff);
    assert_eq!(one(bf16, &[0xffc1], &[0x3f80], 0), 0x7fff_ffff);
    // The smallest subnormal times 1, and half of one, a tie that goes to 0.
    assert_eq!(one(bf16, &[0x0001], &[0x3f80], 0), 0x0001_0000);
    assert_eq!(
        one(bf16, &[0x0040], &[0x3380], 0),
        f(f32::from_bits(0x0040_0000) * f32::from_bits(0x3380_0000))
    );
    assert_eq!(one(bf16, &[0], &[0x3f80], f(-0.0)), 0);
    // All products are -0, and so is C: only then is the sum.
    let (ones, negative) = (vec![0x3f80; 16], vec![0x8000; 16 * 16]);
    let b: Vec<u32> = (0..16 * 8).map(|_| ones[0]).collect();
    let d = product(bf16, &negative, &b, &vec![f(-0.0); 16 * 8]);
    assert!(d.iter().all(|bits| *bits == f(-0.0)));
    // 2^24 + 1 + 1: each step in f64, so that the second 1 is not lost.
    assert_eq!(one(bf16, &[0x3f80, 0x3f80], &[0x3f80, 0x3f80], f(16777216.0)), f(16777218.0));

    let f16 = (16, 8, Element::F16, Element::F16, Sum::F16);
    assert_eq!(one(f16, &[0x7bff], &[0x3c00], 0x4c00), 0x7c00, "65504 + 16 is a tie, to infinity");
    assert_eq!(one(f16, &[0x7bff], &[0x3c00], 0x4bff), 0x7bff, "just below it");
    assert_eq!(one(f16, &[0x0001], &[0x3c00], 0), 0x0001);
    assert_eq!(one(f16, &[0x7c00], &[0x3c00], 0xfc00), 0x7fff);
    let tf32 = (16, 8, Element::Tf32, Element::Tf32, Sum::F32);
    assert_eq!(one(tf32, &[0x3f80_1fff], &[0x3f80_1fff], 0), f(1.0), "13 bits are not looked at");
    let fp8 = (16, 32, Element::E4m3, Element::E5m2, Sum::F32);
    assert_eq!(one(fp8, &[0x7f], &[0x3c], 0), 0x7fff_ffff);
    assert_eq!(one(fp8, &[0x7e], &[0x7b], 0), f(448.0 * 57344.0));
    assert_eq!(one(fp8, &[0x01], &[0x01], 0), f(2f32.powi(-25)));
}

#[test]
fn integers_wrap_or_clamp_only_at_the_end() {
    let form = |saturate| (16, 16, Element::S8, Element::U8, Sum::S32 { saturate });
    let run = |saturate, a: &[u32], b: &[u32], c: i32| one(form(saturate), a, b, c as u32) as i32;
    assert_eq!(run(false, &[127], &[255], i32::MAX), i32::MAX.wrapping_add(127 * 255));
    assert_eq!(run(true, &[127], &[255], i32::MAX), i32::MAX);
    assert_eq!(run(true, &[0x80], &[255], i32::MIN), i32::MIN);
    assert_eq!(run(true, &[127, 0x81], &[255, 255], i32::MAX), i32::MAX, "past the end and back");
    assert_eq!(run(true, &[127, 0x80], &[255, 255], i32::MAX), i32::MAX - 255);
}

#[test]
fn f64_forms_are_chains_of_fused_multiply_adds() {
    let mut random = Random(2);
    for (m, k) in [(8, 4), (16, 4), (16, 8), (16, 16)] {
        let mut number = || f64::from(random.next() as i32) / 3.0 * 2f64.powi(random.below(40) as i32 - 20);
        let a: Vec<f64> = (0..m * k).map(|_| number()).collect();
        let b: Vec<f64> = (0..k * 8).map(|_| number()).collect();
        let mut c: Vec<f64> = (0..m * 8).map(|_| number()).collect();
        c[0] = f64::NAN;
        let mut harness = Harness::new(1, 32);
        let (sums, of_a, of_b) = (m * 8 / 32, m * k / 32, k * 8 / 32);
        for i in 0..of_a {
            let row = std::array::from_fn(|lane| {
                let (row, column) = manual_a(m, k, 64, lane, i);
                a[row * k + column].to_bits()
            });
            harness.set_wide(0, &format!("rd{}", 4 + i), row);
        }
        for i in 0..of_b {
            let row = std::array::from_fn(|lane| {
                let (row, column) = manual_b(k, 64, lane, i);
                b[row * 8 + column].to_bits()
            });
            harness.set_wide(0, &format!("rd{}", 12 + i), row);
        }
        for i in 0..sums {
            let row = std::array::from_fn(|lane| {
                let (row, column) = manual_c(m, lane, i);
                c[row * 8 + column].to_bits()
            });
            harness.set_wide(0, &format!("rd{i}"), row);
        }
        let [d, a_names, b_names] =
            [(0, sums), (4, of_a), (12, of_b)].map(|(from, count)| vector("rd", from, count));
        harness.step(
            0,
            &format!("mma.sync.aligned.m{m}n8k{k}.row.col.f64.f64.f64.f64 {d},{a_names},{b_names},{d};"),
        );
        for i in 0..sums {
            let row = harness.get_wide(0, &format!("rd{i}"));
            for (lane, bits) in row.into_iter().enumerate() {
                let (row, column) = manual_c(m, lane, i);
                let start = c[row * 8 + column];
                let wanted =
                    (0..k).fold(start, |sum, step| a[row * k + step].mul_add(b[step * 8 + column], sum));
                let wanted = if wanted.is_nan() { 0x7ff8_0000_0000_0000 } else { wanted.to_bits() };
                assert_eq!(bits, wanted, "m{m}k{k} at {row}, {column}");
            }
        }
    }
}

#[test]
fn d_may_be_c_and_c_may_be_a_constant() {
    let mut harness = Harness::new(1, 32);
    for register in ["r100", "r101", "r200"] {
        harness.set(0, register, [0x3c00_3c00; LANES]);
    }
    let text = |c: &str| {
        format!(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {{r0,r1,r2,r3}},{{r100,r101}},{{r200}},{c};"
        )
    };
    harness.step(0, &text("{0f3F800000,0f00000000,0f00000000,0f40000000}"));
    assert_eq!(harness.get(0, "r0"), [9f32.to_bits(); LANES]);
    assert_eq!(harness.get(0, "r3"), [10f32.to_bits(); LANES]);
    harness.step(0, &text("{r0,r1,r2,r3}"));
    assert_eq!(harness.get(0, "r0"), [17f32.to_bits(); LANES]);
    assert_eq!(harness.get(0, "r1"), [16f32.to_bits(); LANES]);
}

#[test]
fn part_of_a_warp_is_a_fault_and_so_is_a_device_without_the_form() {
    let mut harness = Harness::new(1, 32);
    let f16 = text(16, 8, Element::F16, Element::F16, Sum::F32);
    let fault = harness.run(0, &f16, ALL >> 1).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Instruction);
    harness.device = crate::device::Device::of("sm_86").unwrap();
    harness.step(0, &f16);
    let fault = harness.fault(0, &text(16, 32, Element::E4m3, Element::E4m3, Sum::F32));
    assert_eq!(fault.kind, FaultKind::Instruction);
}

#[test]
fn forms_that_do_not_exist_or_are_not_known_are_refused() {
    let mut harness = Harness::new(1, 32);
    let mut kind = |modifiers: &str, d: usize, a: usize, b: usize| {
        let vectors = [(0, d), (100, a), (200, b), (0, d)].map(|(from, count)| vector("r", from, count));
        let text = format!("mma.{modifiers} {};", vectors.join(","));
        harness.decode(&text).err().map(|error| error.kind)
    };
    let (invalid, unsupported) = (Some(ErrorKind::Invalid), Some(ErrorKind::Unsupported));
    assert_eq!(kind("sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 4, 4, 2), None);
    assert_eq!(kind("sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 4, 2, 2), invalid);
    assert_eq!(kind("sync.aligned.row.col.f32.bf16.bf16.f32", 4, 4, 2), invalid);
    for modifiers in [
        "sync.aligned.m16n8k16.row.col.f32.bf16.f16.f32",
        "sync.aligned.m16n8k16.row.col.f16.bf16.bf16.f16",
        "sync.aligned.m16n8k16.row.col.f32.f16.f16.f16",
        "sync.aligned.m16n8k16.row.row.f32.bf16.bf16.f32",
        "sync.aligned.m16n8k16.row.col.satfinite.f32.bf16.bf16.f32",
        "sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32",
        "sync.aligned.m8n8k4.row.col.f32.f16.f16.f32",
        "sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc",
        "sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32",
        "aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
    ] {
        assert_eq!(kind(modifiers, 4, 4, 2), unsupported, "{modifiers}");
    }
}
