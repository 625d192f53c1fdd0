//! Quotients and roots against exact arithmetic; approximations and their corners against f64.

use half::{bf16, f16};

use super::super::one_warp::{Random, Values, over, try_over};
use crate::num::{F32, F64, Format, Rounding, exact};
use crate::ptx::Type;

const NAN: u32 = 0x7fff_ffff;

fn flush(bits: u64) -> u64 {
    if bits & F32.infinity() == 0 { bits & F32.sign() } else { bits }
}

/// f32 with exponents without end, where what `.ftz` calls tiny is seen.
const UNBOUNDED: Format = Format { exponent: 11, nan: 0x3_ffff_ffff, ..F32 };

/// A result of flushed sources, rounded to 24 bits, then flushed.
fn flushed(sources: &[u64], rounding: Rounding, f: impl Fn(Format, &[u64]) -> u64) -> u64 {
    let to_wide = |bits: &u64| exact::convert(F32, UNBOUNDED, flush(*bits), Rounding::Nearest, false);
    let result = f(UNBOUNDED, &sources.iter().map(to_wide).collect::<Vec<_>>());
    let tiny = result & (UNBOUNDED.sign() - 1) < (1023 - 126) << 23;
    if tiny { result >> 34 << 31 } else { exact::convert(UNBOUNDED, F32, result, rounding, false) }
}

fn check(op: &str, ty: Type, count: usize, rounds: u32, expected: impl Fn(&[u64]) -> u64) {
    let mut numbers = Random(op.len() as u64 * 5);
    let (exponent, fraction) = if ty == Type::F64 { (11, 52) } else { (8, 23) };
    for _ in 0..rounds {
        let rows: Vec<Values> =
            (0..count).map(|_| numbers.row(|numbers| numbers.float(exponent, fraction))).collect();
        let sources: Vec<_> = rows.iter().map(|row| (ty, row)).collect();
        let result = over(op, ty, &sources, 0xffff_fff0);
        for lane in 4..32 {
            let x: Vec<u64> = rows.iter().map(|row| row[lane]).collect();
            let expected = expected(&x);
            assert_eq!(result[lane], expected, "{op} of {x:x?}: {:#x}, not {expected:#x}", result[lane]);
        }
    }
}

#[test]
fn quotients_and_roots_are_rounded_once_in_every_direction() {
    for (suffix, rounding) in
        [("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)]
    {
        for (ty, format) in [(Type::F32, F32), (Type::F64, F64)] {
            let name = ty.name();
            let handed_on = |sources: &[u64], result: u64| {
                let nan = sources.iter().find(|bits| ty == Type::F64 && F64.is_nan(**bits));
                nan.map_or(result, |bits| bits | 1 << 51)
            };
            check(&format!("div.{suffix}.{name}"), ty, 2, 300, |x| {
                handed_on(x, exact::div(format, x[0], x[1], rounding))
            });
            check(&format!("rcp.{suffix}.{name}"), ty, 1, 300, |x| {
                handed_on(x, exact::div(format, format.one(), x[0], rounding))
            });
            check(&format!("sqrt.{suffix}.{name}"), ty, 1, 300, |x| {
                handed_on(x, exact::sqrt(format, x[0], rounding))
            });
        }
        check(&format!("div.{suffix}.ftz.f32"), Type::F32, 2, 300, |x| {
            flushed(x, rounding, |format, x| exact::div(format, x[0], x[1], rounding))
        });
        check(&format!("rcp.{suffix}.ftz.f32"), Type::F32, 1, 300, |x| {
            flushed(x, rounding, |format, x| exact::div(format, format.one(), x[0], rounding))
        });
        check(&format!("sqrt.{suffix}.ftz.f32"), Type::F32, 1, 300, |x| {
            exact::sqrt(F32, flush(x[0]), rounding)
        });
    }
}

/// Results of an instruction of one f32 source, as f32.
fn f32_of(op: &str, values: &[f32]) -> Vec<f32> {
    let chunks = values.chunks(32).flat_map(|chunk| {
        let row: Values = std::array::from_fn(|lane| chunk.get(lane).map_or(0, |x| x.to_bits().into()));
        let result = over(op, Type::F32, &[(Type::F32, &row)], u32::MAX);
        result.into_iter().take(chunk.len()).map(|bits| f32::from_bits(bits as u32)).collect::<Vec<_>>()
    });
    chunks.collect()
}

fn quotient(op: &str, a: f32, b: f32) -> u32 {
    let rows = [a, b].map(|x| [u64::from(x.to_bits()); 32]);
    over(op, Type::F32, &[(Type::F32, &rows[0]), (Type::F32, &rows[1])], u32::MAX)[7] as u32
}

#[test]
fn approximate_quotients_are_within_two_units_and_vanish_for_large_divisors() {
    let mut numbers = Random(8);
    for _ in 0..2000 {
        let a = f32::from_bits(numbers.float(8, 23) as u32);
        let b = f32::from_bits((numbers.bits() % 0x7e00_0000) as u32 | 0x0080_0000);
        if !a.is_finite() || b > f32::from_bits(0x7e80_0000) {
            continue;
        }
        let truth = f64::from(a) / f64::from(b);
        for op in ["div.approx.f32", "div.full.f32"] {
            let result = f64::from(f32::from_bits(quotient(op, a, b)));
            let unit = (truth.abs() * 2f64.powi(-23)).max(2f64.powi(-149));
            let overflown = truth.abs() > f64::from(f32::MAX) && result.is_infinite();
            assert!(overflown || (result - truth).abs() <= 2.0 * unit, "{op} {a:e} / {b:e}: {result:e}");
        }
    }
    let large = f32::from_bits(0x7e80_0001);
    assert_eq!(quotient("div.approx.f32", 1e38, large), 0);
    assert_eq!(quotient("div.approx.f32", -1e38, large), 0x8000_0000);
    assert_eq!(quotient("div.approx.f32", f32::INFINITY, large), NAN);
    assert_eq!(quotient("div.approx.f32", 1.0, f32::from_bits(0x7e80_0000)), 2f32.powi(-126).to_bits());
    assert_eq!(f32::from_bits(quotient("div.full.f32", 1e38, large)), 1e38 / large);
    for op in ["div.approx.f32", "div.full.f32", "div.rn.f32"] {
        assert_eq!(quotient(op, 1.0, 0.0), f32::INFINITY.to_bits(), "{op}");
        assert_eq!(quotient(op, 1.0, -0.0), f32::NEG_INFINITY.to_bits(), "{op}");
        assert_eq!(quotient(op, 0.0, 0.0), NAN, "{op}");
        assert_eq!(quotient(op, 1.0, f32::INFINITY), 0, "{op}");
        assert_eq!(quotient(op, f32::INFINITY, f32::INFINITY), NAN, "{op}");
    }
    assert_eq!(quotient("div.approx.ftz.f32", f32::from_bits(1), 1.0), 0);
    assert_eq!(quotient("div.full.ftz.f32", -f32::MIN_POSITIVE, 2.0), 0x8000_0000);
}

#[test]
fn approximations_go_through_the_corners_of_the_manual() {
    let small = f32::from_bits(0x0000_0fff);
    let corners = [f32::NEG_INFINITY, -1.0, -small, -0.0, 0.0, small, f32::INFINITY, f32::NAN];
    let infinity = f32::INFINITY.to_bits();
    let minus = f32::NEG_INFINITY.to_bits();
    let bits = |x: f32| x.to_bits();
    let root = (f64::from(small)).sqrt() as f32;
    let cases: [(&str, [u32; 8]); 8] = [
        ("rcp.approx.ftz.f32", [0x8000_0000, bits(-1.0), minus, minus, infinity, infinity, 0, NAN]),
        ("sqrt.approx.f32", [NAN, NAN, NAN, 0x8000_0000, 0, bits(root), infinity, NAN]),
        ("sqrt.approx.ftz.f32", [NAN, NAN, 0x8000_0000, 0x8000_0000, 0, 0, infinity, NAN]),
        ("rsqrt.approx.ftz.f32", [NAN, NAN, minus, minus, infinity, infinity, 0, NAN]),
        ("lg2.approx.ftz.f32", [NAN, NAN, minus, minus, minus, minus, infinity, NAN]),
        ("ex2.approx.ftz.f32", [0, bits(0.5), bits(1.0), bits(1.0), bits(1.0), bits(1.0), infinity, NAN]),
        ("sin.approx.ftz.f32", [NAN, bits(-1f32.sin()), 0x8000_0000, 0x8000_0000, 0, 0, NAN, NAN]),
        ("cos.approx.ftz.f32", [NAN, bits(1f32.cos()), bits(1.0), bits(1.0), bits(1.0), bits(1.0), NAN, NAN]),
    ];
    for (op, expected) in cases {
        let results = f32_of(op, &corners);
        for ((x, result), expected) in corners.iter().zip(results).zip(expected) {
            let near = (result - f32::from_bits(expected)).abs() < 1e-6;
            assert!(
                result.to_bits() == expected || near,
                "{op} of {x:e} is {result:e}, not {:e}",
                f32::from_bits(expected)
            );
        }
    }
    // -lg2 of a subnormal without .ftz, and results that are flushed.
    assert_eq!(f32_of("lg2.approx.f32", &[f32::from_bits(1)]), [-149.0]);
    assert_eq!(f32_of("ex2.approx.f32", &[-149.0]), [f32::from_bits(1)]);
    assert_eq!(f32_of("ex2.approx.ftz.f32", &[-127.0])[0].to_bits(), 0);
    assert_eq!(f32_of("rcp.approx.f32", &[f32::MAX])[0], 1.0 / f32::MAX);
    assert_eq!(f32_of("rcp.approx.ftz.f32", &[f32::MAX])[0].to_bits(), 0);
}

#[test]
fn approximations_are_near_the_truth() {
    let values: Vec<f32> = (1..4000).map(|n| n as f32 * 0.003_1).collect();
    let truths: [(&str, fn(f64) -> f64, f64); 7] = [
        ("rcp.approx.f32", |x| 1.0 / x, 6e-8),
        ("sqrt.approx.f32", f64::sqrt, 6e-8),
        ("rsqrt.approx.f32", |x| x.powf(-0.5), 6e-8),
        ("ex2.approx.f32", f64::exp2, 6e-8),
        ("tanh.approx.f32", f64::tanh, 6e-8),
        ("lg2.approx.f32", |x| x.log2() + 1e3, 3e-7),
        ("cos.approx.f32", |x| x.cos() + 10.0, 1e-6),
    ];
    for (op, truth, bound) in truths {
        let offset = if op.starts_with("lg2") {
            1e3
        } else if op.starts_with("cos") {
            10.0
        } else {
            0.0
        };
        for (x, result) in values.iter().zip(f32_of(op, &values)) {
            let truth = truth(f64::from(*x));
            let error = (f64::from(result) + offset - truth).abs() / truth.abs();
            assert!(error < bound, "{op} of {x} is {result}: {error:e}");
        }
    }
}

#[test]
fn every_f16_and_bf16_goes_through_ex2_and_tanh() {
    let functions: [(&str, fn(f64) -> f64); 2] = [("ex2", f64::exp2), ("tanh", f64::tanh)];
    for (name, truth) in functions {
        for start in (0..=u16::MAX).step_by(32) {
            let row: Values = std::array::from_fn(|lane| u64::from(start) + lane as u64);
            let single = over(&format!("{name}.approx.f16"), Type::F16, &[(Type::F16, &row)], u32::MAX);
            let words = row.map(|bits| bits << 16 | bits ^ 0x8000);
            let pair = over(&format!("{name}.approx.f16x2"), Type::F16x2, &[(Type::F16x2, &words)], u32::MAX);
            let ftz = if name == "ex2" { ".ftz" } else { "" };
            let brain =
                over(&format!("{name}.approx{ftz}.bf16"), Type::Bf16, &[(Type::Bf16, &row)], u32::MAX);
            let brains = over(
                &format!("{name}.approx{ftz}.bf16x2"),
                Type::Bf16x2,
                &[(Type::Bf16x2, &words)],
                u32::MAX,
            );
            for lane in 0..32 {
                let x = f16::from_bits(row[lane] as u16);
                let expected = f16::from_f64(truth(x.to_f64()));
                let result = f16::from_bits(single[lane] as u16);
                if x.is_nan() {
                    assert_eq!(single[lane], 0x7fff);
                } else {
                    let unit = expected.to_f64().abs() * 2f64.powi(-10) + 2f64.powi(-24);
                    let near = (result.to_f64() - expected.to_f64()).abs() <= unit;
                    assert!(result == expected || near, "{name} of {x}: {result}, not {expected}");
                }
                assert_eq!(pair[lane] >> 16, single[lane]);
                let x = bf16::from_bits(row[lane] as u16);
                let flushed =
                    if ftz.is_empty() || x.to_f32().is_normal() { x.to_f64() } else { x.to_f64() * 0.0 };
                let flushed = if x.is_infinite() { x.to_f64() } else { flushed };
                let expected = truth(flushed);
                let result = bf16::from_bits(brain[lane] as u16);
                if x.is_nan() {
                    assert_eq!(brain[lane], 0x7fff);
                } else if name == "ex2" && expected < f64::from(f32::MIN_POSITIVE) * 0.99 {
                    assert_eq!(brain[lane], 0, "2^{x} is flushed");
                } else {
                    let expected_bf16 = bf16::from_f64(expected);
                    let error = (result.to_f64() - expected).abs();
                    assert!(
                        result == expected_bf16 || error <= expected.abs() * 2f64.powi(-8),
                        "{name} of {x}: {result}"
                    );
                }
                assert_eq!(brains[lane] >> 16, brain[lane]);
            }
        }
    }
}

#[test]
fn gross_approximations_of_f64_have_32_bits() {
    let mut numbers = Random(9);
    for _ in 0..200 {
        let row = numbers.row(|numbers| numbers.float(11, 52));
        let reciprocal = over("rcp.approx.ftz.f64", Type::F64, &[(Type::F64, &row)], u32::MAX);
        let root = over("rsqrt.approx.ftz.f64", Type::F64, &[(Type::F64, &row)], u32::MAX);
        let full = over("rsqrt.approx.f64", Type::F64, &[(Type::F64, &row)], u32::MAX);
        for lane in 0..32 {
            let x = f64::from_bits(row[lane]);
            let nan = f64::from_bits(row[lane] & !0xffff_ffff).is_nan();
            assert_eq!((reciprocal[lane] as u32, root[lane] as u32), (0, 0));
            if nan {
                assert_eq!(reciprocal[lane], 0x7fff_ffff_0000_0000);
            } else if x.is_subnormal() || x == 0.0 {
                assert_eq!(f64::from_bits(reciprocal[lane]), f64::INFINITY.copysign(x));
            } else if x.is_normal() && (1.0 / x).is_normal() {
                let error = f64::from_bits(reciprocal[lane]) * x - 1.0;
                assert!(error.abs() < 2f64.powi(-18), "1 / {x:e}: {error:e}");
            }
            if x.is_normal() && x > 0.0 {
                let error = f64::from_bits(root[lane]).powi(2) * x - 1.0;
                assert!(error.abs() < 2f64.powi(-17), "1 / sqrt {x:e}: {error:e}");
                assert_eq!(f64::from_bits(full[lane]), 1.0 / x.sqrt());
            } else if x < 0.0 && x.is_normal() {
                assert_eq!((root[lane], full[lane]), (0x7fff_ffff_0000_0000, F64.nan));
            }
        }
    }
}

#[test]
fn what_special_functions_do_not_have_is_refused() {
    let zeros = [0; 32];
    for (op, ty, count) in [
        ("div.f32", Type::F32, 2),
        ("div.approx.f64", Type::F64, 2),
        ("rcp.approx.f64", Type::F64, 1),
        ("div.rn.ftz.f64", Type::F64, 2),
        ("ex2.f32", Type::F32, 1),
        ("ex2.approx.f64", Type::F64, 1),
        ("ex2.approx.bf16", Type::Bf16, 1),
        ("tanh.approx.ftz.f32", Type::F32, 1),
        ("sin.approx.f16", Type::F16, 1),
        ("rsqrt.rn.f32", Type::F32, 1),
    ] {
        let sources = [(ty, &zeros); 2];
        assert!(try_over(op, ty, &sources[..count], 1).is_err(), "{op}");
    }
}
