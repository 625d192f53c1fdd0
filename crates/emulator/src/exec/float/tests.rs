//! f32 and f64 against the processor and against exact arithmetic, with every modifier.

use super::super::one_warp::{OneWarp, Random, Values, over, try_over};
use crate::num::{F32, F64, Format, Rounding, exact};
use crate::ptx::Type;

const ROUNDINGS: [(&str, Rounding); 4] =
    [(".rn", Rounding::Nearest), (".rz", Rounding::Zero), (".rm", Rounding::Down), (".rp", Rounding::Up)];

fn format(ty: Type) -> Format {
    if ty == Type::F64 { F64 } else { F32 }
}

fn random(ty: Type, random: &mut Random) -> Values {
    random.row(|random| random.float(format(ty).exponent, format(ty).fraction))
}

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

/// Clamped to [+0, 1].
fn clamp(bits: u64) -> u64 {
    let value = f32::from_bits(bits as u32);
    if value > 0.0 { if value > 1.0 { F32.one() } else { bits } } else { 0 }
}

/// What f64 hands on: the first source that is NaN, quiet.
fn handed_on(ty: Type, sources: &[u64], result: u64) -> u64 {
    let nan = sources.iter().find(|bits| ty == Type::F64 && F64.is_nan(**bits));
    nan.map_or(result, |bits| bits | 1 << 51)
}

/// Checks an instruction over random rows and masks.
fn check(op: &str, ty: Type, count: usize, rounds: u32, expected: impl Fn(&[u64]) -> u64) {
    let mut numbers = Random(op.len() as u64 * 3);
    for round in 0..rounds {
        let rows: Vec<Values> = (0..count).map(|_| random(ty, &mut numbers)).collect();
        let sources: Vec<_> = rows.iter().map(|row| (ty, row)).collect();
        let mask = [u32::MAX, 0x00f0_1248][round as usize % 2];
        let result = over(op, ty, &sources, mask);
        for lane in (0..32).filter(|lane| mask >> lane & 1 == 1) {
            let x: Vec<u64> = rows.iter().map(|row| row[lane]).collect();
            let expected = expected(&x);
            assert_eq!(result[lane], expected, "{op} of {x:x?}: {:#x}, not {expected:#x}", result[lane]);
        }
    }
}

#[test]
fn sums_products_and_fma_are_rounded_once_in_every_direction() {
    for ty in [Type::F32, Type::F64] {
        let (format, name) = (format(ty), ty.name());
        for (suffix, rounding) in ROUNDINGS {
            let rounds = if ty == Type::F32 { 600 } else { 200 };
            check(&format!("add{suffix}.{name}"), ty, 2, rounds, |x| {
                handed_on(ty, x, exact::add(format, x[0], x[1], rounding))
            });
            check(&format!("sub{suffix}.{name}"), ty, 2, rounds, |x| {
                handed_on(ty, x, exact::add(format, x[0], x[1] ^ format.sign(), rounding))
            });
            check(&format!("mul{suffix}.{name}"), ty, 2, rounds, |x| {
                handed_on(ty, x, exact::mul(format, x[0], x[1], rounding))
            });
            for op in ["fma", "mad"] {
                check(&format!("{op}{suffix}.{name}"), ty, 3, rounds, |x| {
                    handed_on(ty, x, exact::fma(format, x[0], x[1], x[2], rounding))
                });
            }
        }
        check(&format!("add.{name}"), ty, 2, 20, |x| {
            handed_on(ty, x, exact::add(format, x[0], x[1], Rounding::Nearest))
        });
    }
}

#[test]
fn results_that_are_tiny_before_f32_rounds_them_are_flushed() {
    let run = |op: &str, sources: &[u32]| {
        let rows: Vec<Values> = sources.iter().map(|bits| [u64::from(*bits); 32]).collect();
        let sources: Vec<_> = rows.iter().map(|row| (Type::F32, row)).collect();
        over(op, Type::F32, &sources, u32::MAX)[3]
    };
    let half = 0x3f00_0000;
    // (2 - 2^-23) 2^-126 / 2 has 24 bits below 2^-126; a product a hair nearer to it does not.
    assert_eq!(run("mul.rn.ftz.f32", &[0x00ff_ffff, half]), 0);
    assert_eq!(run("mul.ftz.f32", &[0x80ff_ffff, half]), 0x8000_0000);
    assert_eq!(run("mul.rn.ftz.f32", &[0x00ff_fffe, 0x3f00_0001]), 0x0080_0000);
    assert_eq!(run("mul.rp.ftz.f32", &[0x00ff_ffff, half]), 0);
    assert_eq!(run("mul.rp.ftz.f32", &[0x00ff_fffe, 0x3f00_0001]), 0x0080_0000);
    assert_eq!(run("mul.rz.ftz.f32", &[0x0100_0000, half]), 0x0080_0000);
    assert_eq!(run("fma.rn.ftz.f32", &[0x00ff_ffff, half, 0]), 0);
    assert_eq!(run("fma.rn.ftz.sat.f32", &[0x00ff_fffe, 0x3f00_0001, 0]), 0x0080_0000);
    assert_eq!(run("fma.rn.ftz.f32", &[0x3f80_0000, 0x0080_0000, 0]), 0x0080_0000);
    assert_eq!(run("div.rn.ftz.f32", &[0x00ff_ffff, 0x4000_0000]), 0);
    assert_eq!(run("mul.rn.f32", &[0x00ff_ffff, half]), 0x0080_0000);
}

#[test]
fn subnormals_of_f32_are_flushed_and_results_clamped_where_asked() {
    for (suffix, rounding) in ROUNDINGS {
        let fma =
            |x: &[u64]| flushed(x, rounding, |format, x| exact::fma(format, x[0], x[1], x[2], rounding));
        check(&format!("fma{suffix}.ftz.f32"), Type::F32, 3, 400, fma);
        check(&format!("fma{suffix}.ftz.sat.f32"), Type::F32, 3, 400, |x| clamp(fma(x)));
        check(&format!("mul{suffix}.ftz.f32"), Type::F32, 2, 400, |x| {
            flushed(x, rounding, |format, x| exact::mul(format, x[0], x[1], rounding))
        });
        check(&format!("add{suffix}.sat.f32"), Type::F32, 2, 400, |x| {
            clamp(exact::add(F32, x[0], x[1], rounding))
        });
        check(&format!("sub{suffix}.ftz.sat.f32"), Type::F32, 2, 400, |x| {
            clamp(flushed(x, rounding, |format, x| exact::add(format, x[0], x[1] ^ format.sign(), rounding)))
        });
    }
}

#[test]
fn signs_are_changed_without_touching_the_rest() {
    for ty in [Type::F32, Type::F64] {
        let (sign, name) = (format(ty).sign(), ty.name());
        check(&format!("neg.{name}"), ty, 1, 50, |x| x[0] ^ sign);
        check(&format!("abs.{name}"), ty, 1, 50, |x| x[0] & !sign);
        check(&format!("copysign.{name}"), ty, 2, 50, |x| x[0] & sign | x[1] & !sign);
    }
    check("neg.ftz.f32", Type::F32, 1, 50, |x| flush(x[0]) ^ F32.sign());
    check("abs.ftz.f32", Type::F32, 1, 50, |x| flush(x[0]) & !F32.sign());
}

#[test]
fn extremes_prefer_numbers_to_nan_and_know_minus_zero() {
    for ty in [Type::F32, Type::F64] {
        let format = format(ty);
        let value = |bits: u64| {
            if ty == Type::F64 { f64::from_bits(bits) } else { f32::from_bits(bits as u32).into() }
        };
        let pick = |a: u64, b: u64, max: bool| {
            let key = |bits: u64| (value(bits), bits & format.sign() == 0);
            if (key(a) < key(b)) == max { b } else { a }
        };
        let number = |a: u64, b: u64, max: bool| match (format.is_nan(a), format.is_nan(b)) {
            (true, true) if ty == Type::F64 => a | 1 << 51,
            (true, true) => format.nan,
            (true, false) => b,
            (false, true) => a,
            _ => pick(a, b, max),
        };
        for (name, max) in [("min", false), ("max", true)] {
            check(&format!("{name}.{}", ty.name()), ty, 2, 500, |x| number(x[0], x[1], max));
            if ty == Type::F64 {
                continue;
            }
            check(&format!("{name}.ftz.f32"), ty, 2, 500, |x| number(flush(x[0]), flush(x[1]), max));
            check(&format!("{name}.NaN.f32"), ty, 2, 500, |x| {
                if format.is_nan(x[0]) || format.is_nan(x[1]) { format.nan } else { pick(x[0], x[1], max) }
            });
            check(&format!("{name}.xorsign.abs.f32"), ty, 2, 500, |x| {
                let result = number(x[0] & !format.sign(), x[1] & !format.sign(), max);
                if format.is_nan(result) { result } else { result | (x[0] ^ x[1]) & format.sign() }
            });
        }
    }
}

#[test]
fn comparisons_are_ordered_or_not_as_their_names_say() {
    let mut numbers = Random(4);
    for ty in [Type::F32, Type::F64] {
        let value = |bits: u64| {
            if ty == Type::F64 { f64::from_bits(bits) } else { f32::from_bits(bits as u32).into() }
        };
        for ftz in [false, true] {
            if ftz && ty == Type::F64 {
                continue;
            }
            for _ in 0..20 {
                let a = random(ty, &mut numbers);
                let b = random(ty, &mut numbers);
                let b: Values = std::array::from_fn(|lane| if lane % 4 == 0 { a[lane] } else { b[lane] });
                let source = |bits: u64| value(if ftz { flush(bits) } else { bits });
                type Compare = fn(f64, f64) -> bool;
                #[expect(
                    clippy::double_comparisons,
                    clippy::neg_cmp_op_on_partial_ord,
                    reason = "what holds of NaN is what is tested"
                )]
                let comparisons: [(&str, Compare); 14] = [
                    ("eq", |a, b| a == b),
                    ("ne", |a, b| a < b || a > b),
                    ("lt", |a, b| a < b),
                    ("le", |a, b| a <= b),
                    ("gt", |a, b| a > b),
                    ("ge", |a, b| a >= b),
                    ("equ", |a, b| !(a < b || a > b)),
                    ("neu", |a, b| a != b),
                    ("ltu", |a, b| !(a >= b)),
                    ("leu", |a, b| !(a > b)),
                    ("gtu", |a, b| !(a <= b)),
                    ("geu", |a, b| !(a < b)),
                    ("num", |a, b| !a.is_nan() && !b.is_nan()),
                    ("nan", |a, b| a.is_nan() || b.is_nan()),
                ];
                for (name, compare) in comparisons {
                    let flag = if ftz { ".ftz" } else { "" };
                    let text = format!("setp.{name}{flag}.{} p|q, a, b", ty.name());
                    let mut warp = OneWarp::new();
                    warp.set("a", ty, &a);
                    warp.set("b", ty, &b);
                    warp.set_predicate("p", 0);
                    warp.set_predicate("q", 0);
                    warp.run(&text, u32::MAX).expect(&text);
                    let holds = (0..32)
                        .fold(0u32, |mask, i| mask | u32::from(compare(source(a[i]), source(b[i]))) << i);
                    assert_eq!(warp.predicate("p"), holds, "{text}");
                    assert_eq!(warp.predicate("q"), !holds, "{text}");
                }
            }
        }
    }
}

#[test]
fn properties_are_those_of_the_number() {
    let mut numbers = Random(5);
    for ty in [Type::F32, Type::F64] {
        for _ in 0..20 {
            let row = random(ty, &mut numbers);
            let class = |bits: u64| match ty {
                Type::F64 => f64::from_bits(bits).classify(),
                _ => f32::from_bits(bits as u32).classify(),
            };
            use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
            for (name, classes) in [
                ("finite", &[Zero, Subnormal, Normal][..]),
                ("infinite", &[Infinite]),
                ("number", &[Zero, Subnormal, Normal, Infinite]),
                ("notanumber", &[Nan]),
                ("normal", &[Zero, Normal]),
                ("subnormal", &[Subnormal]),
            ] {
                let text = format!("testp.{name}.{} p, a", ty.name());
                let mut warp = OneWarp::new();
                warp.set("a", ty, &row);
                warp.set_predicate("p", 0);
                warp.run(&text, 0x7fff_ffff).expect(&text);
                let holds =
                    (0..31).fold(0u32, |mask, i| mask | u32::from(classes.contains(&class(row[i]))) << i);
                assert_eq!(warp.predicate("p"), holds, "{text}");
            }
        }
    }
}

#[test]
fn slct_takes_the_first_unless_the_third_is_negative_or_nan() {
    let mut numbers = Random(6);
    let by_float = [0.0f32, -0.0, 1.0, -1.0, f32::NAN, -f32::from_bits(1), f32::INFINITY, f32::NEG_INFINITY];
    for ty in [Type::B16, Type::B32, Type::F64] {
        let (a, b) = (numbers.row(|n| n.integer(ty.bits())), numbers.row(|n| n.integer(ty.bits())));
        let c: Values = std::array::from_fn(|lane| by_float[lane % 8].to_bits().into());
        let result =
            over(&format!("slct.{}.f32", ty.name()), ty, &[(ty, &a), (ty, &b), (Type::F32, &c)], u32::MAX);
        let flushed = over(
            &format!("slct.ftz.{}.f32", ty.name()),
            ty,
            &[(ty, &a), (ty, &b), (Type::F32, &c)],
            u32::MAX,
        );
        for lane in 0..32 {
            let first = [0, 1, 2, 6].contains(&(lane % 8));
            assert_eq!(result[lane], if first { a[lane] } else { b[lane] }, "{lane}");
            assert_eq!(flushed[lane], if first || lane % 8 == 5 { a[lane] } else { b[lane] }, "{lane}");
        }
        let c = numbers.row(|n| n.integer(32));
        let result =
            over(&format!("slct.{}.s32", ty.name()), ty, &[(ty, &a), (ty, &b), (Type::S32, &c)], u32::MAX);
        for lane in 0..32 {
            assert_eq!(result[lane], if (c[lane] as i32) >= 0 { a[lane] } else { b[lane] });
        }
    }
}

#[test]
fn constants_are_operands_and_what_floats_do_not_have_is_refused() {
    let mut warp = OneWarp::new();
    warp.set("d", Type::F32, &[0; 32]);
    warp.run("add.f32 d, 0f3F800000, 0f40000000", u32::MAX).expect("constants");
    assert_eq!(warp.get("d")[31], u64::from(3.0f32.to_bits()));
    assert!(warp.run("add.f32 d, d, 1", u32::MAX).is_err());
    assert!(warp.run("min.f32 d, d, d, d", u32::MAX).is_err());
    let zeros = [0; 32];
    let three = [(Type::F64, &zeros); 3];
    for (op, count) in [
        ("fma.f64", 3),
        ("add.ftz.f64", 2),
        ("add.sat.f64", 2),
        ("min.NaN.f64", 2),
        ("neg.ftz.f64", 1),
        ("add.rna.f64", 2),
        ("testp.odd.f64", 1),
    ] {
        assert!(try_over(op, Type::F64, &three[..count], 1).is_err(), "{op}");
    }
}
