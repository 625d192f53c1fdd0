//! `cvt` against Rust's own conversions and against exact arithmetic, in registers of every width.

use half::{bf16, f16};

use super::super::one_warp::{Random, Values, over, try_over};
use crate::num::{BF16, E4M3, E5M2, F16, F32, F64, Format, Rounding, TF32, exact};
use crate::ptx::{Kind, Type};

const INTEGERS: [Type; 8] =
    [Type::U8, Type::S8, Type::U16, Type::S16, Type::U32, Type::S32, Type::U64, Type::S64];
const FLOATS: [(Type, Format); 4] =
    [(Type::F16, F16), (Type::Bf16, BF16), (Type::F32, F32), (Type::F64, F64)];
const ROUNDINGS: [(&str, Rounding); 4] =
    [("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)];

fn number(ty: Type, bits: u64) -> i128 {
    let shift = 64 - ty.bits();
    match ty.kind() {
        Kind::Signed => i128::from((bits << shift) as i64 >> shift),
        _ => i128::from(bits << shift >> shift),
    }
}

fn limits(ty: Type) -> (i128, i128) {
    match ty.kind() {
        Kind::Signed => (-(1 << (ty.bits() - 1)), (1 << (ty.bits() - 1)) - 1),
        _ => (0, (1 << ty.bits()) - 1),
    }
}

/// Registers that hold a type: of its size and wider.
fn registers(ty: Type) -> Vec<Type> {
    [Type::B16, Type::B32, Type::B64].into_iter().filter(|register| register.bits() >= ty.bits()).collect()
}

fn cut(bits: u64, width: u32) -> u64 {
    bits << (64 - width) >> (64 - width)
}

#[test]
fn integers_are_cut_extended_and_clamped_in_registers_of_every_width() {
    let mut random = Random(1);
    for from in INTEGERS {
        for to in INTEGERS {
            for source in registers(from) {
                for register in registers(to) {
                    let row = random.row(|random| random.integer(source.bits()));
                    for sat in [false, true] {
                        let op =
                            format!("cvt{}.{}.{}", if sat { ".sat" } else { "" }, to.name(), from.name());
                        let result = over(&op, register, &[(source, &row)], 0x7fff_fffe);
                        for lane in 1..31 {
                            let value = number(from, row[lane]);
                            let (least, greatest) = limits(to);
                            let value = if sat { value.clamp(least, greatest) } else { value };
                            let expected = cut(number(to, value as u64) as u64, register.bits());
                            assert_eq!(
                                result[lane],
                                expected,
                                "{op} of {:#x} to .{}",
                                row[lane],
                                register.name()
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn floats_become_integers_clamped_and_nan_as_the_device_has_it() {
    let mut random = Random(2);
    for (from, format) in FLOATS {
        for to in INTEGERS {
            for (suffix, rounding) in ROUNDINGS {
                for ftz in [false, true] {
                    if ftz && from != Type::F32 {
                        continue;
                    }
                    let op = format!(
                        "cvt.{suffix}i{}.{}.{}",
                        if ftz { ".ftz" } else { "" },
                        to.name(),
                        from.name()
                    );
                    let register = registers(to)[0];
                    for round in 0..20 {
                        // Half of them small, where rounding is seen.
                        let row = random.row(|random| {
                            if round % 2 == 0 {
                                return random.float(format.exponent, format.fraction);
                            }
                            let x = random.integer(20) as f64 / 8.0 - 300.0;
                            exact::convert(F64, format, x.to_bits(), Rounding::Nearest, false)
                        });
                        let result = over(&op, register, &[(from, &row)], u32::MAX);
                        for lane in 0..32 {
                            let x = f64::from_bits(exact::convert(
                                format,
                                F64,
                                row[lane],
                                Rounding::Nearest,
                                false,
                            ));
                            let x = if ftz && x.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { x };
                            let whole = match rounding {
                                Rounding::Nearest => x.round_ties_even(),
                                Rounding::Zero => x.trunc(),
                                Rounding::Down => x.floor(),
                                _ => x.ceil(),
                            };
                            let (least, greatest) = limits(to);
                            let expected = if x.is_nan() {
                                if from == Type::F64 || to.bits() == 64 { 1 << (to.bits() - 1) } else { 0 }
                            } else {
                                (whole as i128).clamp(least, greatest)
                            };
                            let expected = cut(number(to, expected as u64) as u64, register.bits());
                            assert_eq!(result[lane], expected, "{op} of {x:e}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn integers_become_floats_in_every_rounding() {
    let mut random = Random(3);
    for from in INTEGERS {
        for (to, format) in FLOATS {
            for (suffix, rounding) in ROUNDINGS {
                let op = format!("cvt.{suffix}.{}.{}", to.name(), from.name());
                let source = registers(from)[0];
                for _ in 0..10 {
                    let row = random.row(|random| random.integer(from.bits()));
                    let result = over(&op, to, &[(source, &row)], u32::MAX);
                    for lane in 0..32 {
                        let value = number(from, row[lane]);
                        let expected = rounded(value, to, format, rounding);
                        assert_eq!(result[lane], expected, "{op} of {value}");
                    }
                }
            }
        }
    }
}

/// An integer in a float format. To nearest by Rust's conversions, in the other directions by stepping from there.
fn rounded(value: i128, ty: Type, format: Format, rounding: Rounding) -> u64 {
    let bits = match ty {
        Type::F64 => (value as f64).to_bits(),
        Type::F32 => (value as f32).to_bits().into(),
        // An i64 has more bits than f64, but those below f16's and bf16's ties keep them from being ties.
        Type::F16 => f16::from_f64(sticky(value)).to_bits().into(),
        _ => bf16::from_f64(sticky(value)).to_bits().into(),
    };
    let magnitude = |bits: u64| {
        let value =
            f64::from_bits(exact::convert(format, F64, bits & !format.sign(), Rounding::Nearest, false));
        if value.is_infinite() { i128::MAX } else { value as i128 }
    };
    let (size, sign) = (value.abs(), if value < 0 { format.sign() } else { 0 });
    let away = match rounding {
        Rounding::Nearest => return bits,
        Rounding::Zero => false,
        Rounding::Down => value < 0,
        _ => value > 0,
    };
    let near = bits & !format.sign();
    let near = match (magnitude(near).cmp(&size), away) {
        (std::cmp::Ordering::Less, true) => near + 1,
        (std::cmp::Ordering::Greater, false) => near - 1,
        _ => near,
    };
    sign | near
}

/// An f64 of an integer, in whose last bit stands whether there is anything below the first 40.
fn sticky(value: i128) -> f64 {
    let size = value.unsigned_abs();
    let drop = (128 - size.leading_zeros()).saturating_sub(40);
    let kept = size >> drop | u128::from(size & ((1 << drop) - 1) != 0);
    let size = kept as f64 * 2f64.powi(drop as i32);
    if value < 0 { -size } else { size }
}

#[test]
fn floats_become_other_floats_in_every_rounding() {
    let mut random = Random(4);
    for (from, source) in FLOATS {
        for (to, target) in FLOATS {
            if from == to {
                continue;
            }
            let widening = to.bits() > from.bits();
            for (suffix, rounding) in ROUNDINGS {
                for ftz in [false, true] {
                    if ftz && from != Type::F32 && to != Type::F32 {
                        continue;
                    }
                    let flag = if ftz { ".ftz" } else { "" };
                    let suffix = if widening { String::new() } else { format!(".{suffix}") };
                    let op = format!("cvt{suffix}{flag}.{}.{}", to.name(), from.name());
                    for _ in 0..30 {
                        let row = random.row(|random| random.float(source.exponent, source.fraction));
                        let result = over(&op, to, &[(from, &row)], u32::MAX);
                        for lane in 0..32 {
                            let flush = |ty, bits: u64| {
                                if ftz && ty == Type::F32 && bits & F32.infinity() == 0 {
                                    bits & F32.sign()
                                } else {
                                    bits
                                }
                            };
                            let expected = flush(
                                to,
                                exact::convert(source, target, flush(from, row[lane]), rounding, false),
                            );
                            let expected = nan_kept(from, to, row[lane]).unwrap_or(expected);
                            assert_eq!(result[lane], expected, "{op} of {:#x}", row[lane]);
                        }
                    }
                }
            }
        }
    }
}

/// NaN between f32 and f64: quiet, with its sign and its upper bits.
fn nan_kept(from: Type, to: Type, bits: u64) -> Option<u64> {
    match (from, to) {
        (Type::F32, Type::F64) if F32.is_nan(bits) => {
            Some(bits >> 31 << 63 | 0x7ff8 << 48 | (bits & 0x7f_ffff) << 29)
        }
        // Through f32's canonical one.
        (Type::F16, Type::F64) if F16.is_nan(bits) => Some(0x7fff_ffff_e000_0000),
        (Type::Bf16, Type::F64) if BF16.is_nan(bits) => Some(0x7fff_ffff_e000_0000),
        (Type::F64, Type::F32) if F64.is_nan(bits) => Some(bits >> 63 << 31 | 0x7fc0_0000 | bits << 12 >> 41),
        _ => None,
    }
}

#[test]
fn every_f16_and_bf16_becomes_f32_and_comes_back() {
    for start in (0..=u16::MAX).step_by(32) {
        let row: Values = std::array::from_fn(|lane| u64::from(start) + lane as u64);
        for (name, ty) in [("f16", Type::F16), ("bf16", Type::Bf16)] {
            let wide = over(&format!("cvt.f32.{name}"), Type::F32, &[(ty, &row)], u32::MAX);
            let back = over(&format!("cvt.rn.{name}.f32"), ty, &[(Type::F32, &wide)], u32::MAX);
            for lane in 0..32 {
                let bits = row[lane] as u16;
                let value = if ty == Type::F16 {
                    f16::from_bits(bits).to_f32()
                } else {
                    bf16::from_bits(bits).to_f32()
                };
                if value.is_nan() {
                    assert_eq!((wide[lane], back[lane]), (0x7fff_ffff, 0x7fff));
                } else {
                    assert_eq!((wide[lane], back[lane]), (value.to_bits().into(), row[lane]));
                }
            }
        }
    }
}

#[test]
fn floats_become_whole_numbers_that_keep_the_sign_of_zero() {
    let values = [2.5, -2.5, -0.25, 0.75, 1e30, -0.0, f64::INFINITY, 0.5, 1.5, -1.5];
    for (ty, format) in [(Type::F32, F32), (Type::F64, F64), (Type::F16, F16)] {
        let row: Values = std::array::from_fn(|lane| {
            exact::convert(F64, format, values[lane % values.len()].to_bits(), Rounding::Nearest, false)
        });
        for (suffix, rounding) in ROUNDINGS {
            let op = format!("cvt.{suffix}i.{0}.{0}", ty.name());
            let result = over(&op, ty, &[(ty, &row)], u32::MAX);
            for lane in 0..32 {
                let x = f64::from_bits(exact::convert(format, F64, row[lane], Rounding::Nearest, false));
                let whole = match rounding {
                    Rounding::Nearest => x.round_ties_even(),
                    Rounding::Zero => x.trunc(),
                    Rounding::Down => x.floor(),
                    _ => x.ceil(),
                };
                let expected = exact::convert(F64, format, whole.to_bits(), Rounding::Nearest, false);
                assert_eq!(result[lane], expected, "{op} of {x}");
            }
        }
    }
    let nan = [0xffc0_1234; 32];
    assert_eq!(over("cvt.ftz.f32.f32", Type::F32, &[(Type::F32, &nan)], u32::MAX)[0], 0xffc0_1234);
    assert_eq!(over("cvt.rni.f32.f32", Type::F32, &[(Type::F32, &nan)], u32::MAX)[0], 0x7fff_ffff);
    let row = [F32.sign() | 1; 32];
    assert_eq!(over("cvt.rmi.ftz.f32.f32", Type::F32, &[(Type::F32, &row)], u32::MAX)[0], F32.sign());
    assert_eq!(
        over("cvt.rmi.f32.f32", Type::F32, &[(Type::F32, &row)], u32::MAX)[0],
        u64::from((-1f32).to_bits())
    );
}

#[test]
fn saturated_floats_are_between_0_and_1() {
    let values = [-1.0f32, -0.0, 0.25, 1.0, 7.0, f32::INFINITY, f32::NAN, f32::from_bits(9)];
    let row: Values = std::array::from_fn(|lane| values[lane % 8].to_bits().into());
    let expected = [0.0, 0.0, 0.25, 1.0, 1.0, 1.0, 0.0, f32::from_bits(9)];
    let same = over("cvt.sat.f32.f32", Type::F32, &[(Type::F32, &row)], u32::MAX);
    let flushed = over("cvt.ftz.sat.f32.f32", Type::F32, &[(Type::F32, &row)], u32::MAX);
    let half = over("cvt.rn.sat.f16.f32", Type::F16, &[(Type::F32, &row)], u32::MAX);
    let wide = over("cvt.sat.f64.f32", Type::F64, &[(Type::F32, &row)], u32::MAX);
    let integer = over("cvt.rn.sat.f32.s32", Type::F32, &[(Type::S32, &[5; 32])], u32::MAX);
    for lane in 0..32 {
        let expected: f32 = expected[lane % 8];
        assert_eq!(same[lane], u64::from(expected.to_bits()));
        assert_eq!(flushed[lane], if lane % 8 == 7 { 0 } else { same[lane] });
        assert_eq!(half[lane], u64::from(f16::from_f32(expected).to_bits()));
        assert_eq!(wide[lane], f64::from(expected).to_bits());
        assert_eq!(integer[lane], F32.one());
    }
}

#[test]
fn pairs_take_their_first_source_above() {
    let mut random = Random(5);
    let formats = [("f16x2", F16, 16), ("bf16x2", BF16, 16), ("e4m3x2", E4M3, 8), ("e5m2x2", E5M2, 8)];
    for (name, format, bits) in formats {
        for (suffix, rounding) in [("rn", Rounding::Nearest), ("rz", Rounding::Zero)] {
            for (modifiers, relu, finite) in [
                ("", false, false),
                (".relu", true, false),
                (".satfinite", false, true),
                (".satfinite.relu", true, true),
            ] {
                let eight = bits == 8;
                let op = format!("cvt.{suffix}{modifiers}.{name}.f32");
                let dst = if eight { Type::B16 } else { Type::B32 };
                let zeros = [0; 32];
                if eight && (!finite || rounding == Rounding::Zero) {
                    assert!(
                        try_over(&op, dst, &[(Type::F32, &zeros), (Type::F32, &zeros)], 1).is_err(),
                        "{op}"
                    );
                    continue;
                }
                for _ in 0..50 {
                    let (a, b) =
                        (random.row(|random| random.float(8, 23)), random.row(|random| random.float(8, 23)));
                    let result = over(&op, dst, &[(Type::F32, &a), (Type::F32, &b)], u32::MAX);
                    let one = |x: u64| {
                        let bits = exact::convert(F32, format, x, rounding, finite);
                        if relu && bits & format.sign() != 0 { 0 } else { bits }
                    };
                    for lane in 0..32 {
                        let expected = one(a[lane]) << bits | one(b[lane]);
                        assert_eq!(result[lane], expected, "{op} of {:#x}, {:#x}", a[lane], b[lane]);
                    }
                }
            }
        }
    }
}

#[test]
fn pairs_of_8_bits_and_pairs_of_f16_keep_their_places() {
    for (name, format) in [("e4m3x2", E4M3), ("e5m2x2", E5M2)] {
        for start in (0..=u16::MAX).step_by(32) {
            let row: Values = std::array::from_fn(|lane| u64::from(start) + lane as u64);
            let wide = over(&format!("cvt.rn.f16x2.{name}"), Type::B32, &[(Type::B16, &row)], u32::MAX);
            let back =
                over(&format!("cvt.rn.satfinite.{name}.f16x2"), Type::B16, &[(Type::B32, &wide)], u32::MAX);
            for lane in 0..32 {
                for shift in [0, 1] {
                    let bits = row[lane] >> (8 * shift) & 0xff;
                    let half = wide[lane] >> (16 * shift) & 0xffff;
                    assert_eq!(half, exact::convert(format, F16, bits, Rounding::Nearest, false));
                    let again = back[lane] >> (8 * shift) & 0xff;
                    let infinite = format.infinities && bits & 0x7f == format.infinity();
                    let expected = if format.is_nan(bits) {
                        0x7f
                    } else if infinite {
                        bits & 0x80 | format.max()
                    } else {
                        bits
                    };
                    assert_eq!(again, expected, "{name} {bits:#x}");
                }
            }
        }
    }
}

#[test]
fn tf32_is_rounded_away_at_ties_and_keeps_13_zero_bits() {
    let mut random = Random(6);
    for _ in 0..200 {
        let row = random.row(|random| random.float(8, 23));
        let ties: Values =
            std::array::from_fn(|lane| if lane % 2 == 0 { row[lane] & !0x1fff | 0x1000 } else { row[lane] });
        for (suffix, rounding, finite, relu) in [
            ("rna", Rounding::NearestAway, false, false),
            ("rna.satfinite", Rounding::NearestAway, true, false),
            ("rn", Rounding::Nearest, false, false),
            ("rz.relu", Rounding::Zero, false, true),
        ] {
            let result = over(&format!("cvt.{suffix}.tf32.f32"), Type::B32, &[(Type::F32, &ties)], u32::MAX);
            for lane in 0..32 {
                if F32.is_nan(ties[lane]) {
                    continue;
                }
                let bits = exact::convert(F32, TF32, ties[lane], rounding, finite);
                let expected = if relu && bits & F32.sign() != 0 { 0 } else { bits };
                assert_eq!(result[lane], expected, "{suffix} of {:#x}", ties[lane]);
                assert_eq!(result[lane] & 0x1fff, 0);
            }
        }
    }
}

#[test]
fn cvt_pack_clamps_and_puts_the_first_source_above() {
    let mut random = Random(7);
    for _ in 0..50 {
        let (a, b) = (random.row(|random| random.integer(32)), random.row(|random| random.integer(32)));
        let c = random.row(|random| random.integer(32));
        for (ty, with) in [(Type::U16, false), (Type::S16, false), (Type::U8, true), (Type::S8, true)] {
            let sources = [(Type::S32, &a), (Type::S32, &b), (Type::B32, &c)];
            let op = format!("cvt.pack.sat.{}.s32{}", ty.name(), if with { ".b32" } else { "" });
            let result = over(&op, Type::B32, &sources[..if with { 3 } else { 2 }], u32::MAX);
            for lane in 0..32 {
                let (least, greatest) = limits(ty);
                let one = |x: u64| cut(number(Type::S32, x).clamp(least, greatest) as u64, ty.bits());
                let above = if with { c[lane] << 16 & 0xffff_0000 } else { 0 };
                assert_eq!(result[lane], above | one(a[lane]) << ty.bits() | one(b[lane]), "{op}");
            }
        }
    }
}

#[test]
fn what_cvt_does_not_have_is_refused() {
    let zeros = [0; 32];
    for (op, to, from) in [
        ("cvt.u32.f32", Type::U32, Type::F32),
        ("cvt.rn.u32.f32", Type::U32, Type::F32),
        ("cvt.f32.u32", Type::F32, Type::U32),
        ("cvt.rni.f32.u32", Type::F32, Type::U32),
        ("cvt.rn.u32.u16", Type::U32, Type::U16),
        ("cvt.f16.f32", Type::F16, Type::F32),
        ("cvt.rn.f32.f16", Type::F32, Type::F16),
        ("cvt.rna.f16.f32", Type::F16, Type::F32),
        ("cvt.rn.relu.f32.f64", Type::F32, Type::F64),
        ("cvt.rni.ftz.s32.f64", Type::S32, Type::F64),
        ("cvt.rn.tf32.f64", Type::B32, Type::F64),
        ("cvt.rn.sat.bf16.f32", Type::Bf16, Type::F32),
        ("cvt.b32.u32", Type::B32, Type::U32),
        ("cvt.u64.u32", Type::U32, Type::U32),
        ("cvt.u32.u64", Type::U32, Type::U32),
        ("cvt.rn.f16x2.e4m3x2", Type::B32, Type::B32),
        ("cvt.rs.f16x2.f32", Type::B32, Type::F32),
    ] {
        assert!(try_over(op, to, &[(from, &zeros)], 1).is_err(), "{op}");
    }
}
