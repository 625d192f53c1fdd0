//! Integers against i128, bits against loops over bits.

use super::super::one_warp::{OneWarp, POISON, Random, Values, over, try_over};
use crate::ptx::{Kind, Type};

const MASKS: [u32; 3] = [u32::MAX, 0x0f0f_3511, 1 << 31];
const TYPES: [Type; 6] = [Type::U16, Type::S16, Type::U32, Type::S32, Type::U64, Type::S64];

/// The integer that bits of a type are.
fn number(ty: Type, bits: u64) -> i128 {
    let shift = 64 - ty.bits();
    match ty.kind() {
        Kind::Signed => i128::from((bits << shift) as i64 >> shift),
        _ => i128::from(bits << shift >> shift),
    }
}

/// The bits of an integer, cut.
fn bits(ty: Type, number: i128) -> u64 {
    number as u64 & (u64::MAX >> (64 - ty.bits()))
}

/// Checks `op` over random sources against `expected`, which gets their integers.
fn check(op: &str, dst: Type, sources: &[Type], expected: impl Fn(&[i128]) -> i128) {
    let mut random = Random(op.len() as u64 * 77);
    for round in 0..60 {
        let rows: Vec<Values> =
            sources.iter().map(|ty| random.row(|random| random.integer(ty.bits()))).collect();
        let operands: Vec<_> = sources.iter().copied().zip(&rows).collect();
        let mask = MASKS[round % MASKS.len()];
        let result = over(op, dst, &operands, mask);
        for lane in (0..32).filter(|lane| mask >> lane & 1 == 1) {
            let numbers: Vec<_> = operands.iter().map(|(ty, row)| number(*ty, row[lane])).collect();
            let expected = bits(dst, expected(&numbers));
            assert_eq!(result[lane], expected, "{op} of {numbers:?}: {:#x}, not {expected:#x}", result[lane]);
        }
    }
}

fn clamp(ty: Type, x: i128) -> i128 {
    let bits = ty.bits();
    match ty.kind() {
        Kind::Signed => x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        _ => x.clamp(0, (1 << bits) - 1),
    }
}

#[test]
fn sums_products_and_quotients_wrap_at_their_width() {
    for ty in TYPES {
        let name = ty.name();
        check(&format!("add.{name}"), ty, &[ty; 2], |n| n[0] + n[1]);
        check(&format!("sub.{name}"), ty, &[ty; 2], |n| n[0] - n[1]);
        check(&format!("mul.lo.{name}"), ty, &[ty; 2], |n| n[0].wrapping_mul(n[1]));
        check(&format!("mad.lo.{name}"), ty, &[ty; 3], |n| n[0].wrapping_mul(n[1]).wrapping_add(n[2]));
        check(&format!("div.{name}"), ty, &[ty; 2], |n| if n[1] == 0 { -1 } else { n[0] / n[1] });
        check(&format!("rem.{name}"), ty, &[ty; 2], |n| if n[1] == 0 { -1 } else { n[0] % n[1] });
        check(&format!("min.{name}"), ty, &[ty; 2], |n| n[0].min(n[1]));
        check(&format!("max.{name}"), ty, &[ty; 2], |n| n[0].max(n[1]));
        check(&format!("sad.{name}"), ty, &[ty; 3], |n| n[2] + (n[0] - n[1]).abs());
    }
    for ty in [Type::S16, Type::S32, Type::S64] {
        check(&format!("abs.{}", ty.name()), ty, &[ty], |n| n[0].abs());
        check(&format!("neg.{}", ty.name()), ty, &[ty], |n| -n[0]);
    }
}

#[test]
fn saturating_sums_stay_in_s32() {
    let ty = Type::S32;
    check("add.sat.s32", ty, &[ty; 2], |n| clamp(ty, n[0] + n[1]));
    check("sub.sat.s32", ty, &[ty; 2], |n| clamp(ty, n[0] - n[1]));
    check("mad.hi.sat.s32", ty, &[ty; 3], |n| clamp(ty, ((n[0] * n[1]) >> 32) + n[2]));
    check("mad24.hi.sat.s32", ty, &[ty; 3], |n| {
        let low = |x: i128| (x as i32) << 8 >> 8;
        clamp(ty, i128::from((i64::from(low(n[0])) * i64::from(low(n[1]))) >> 16) as i32 as i128 + n[2])
    });
    for op in ["add.sat.u32", "sub.sat.s64", "mul.lo.sat.s32", "mad.lo.sat.s32", "neg.u32", "abs.u64"] {
        let zeros = [0; 32];
        let operands = [(Type::U32, &zeros), (Type::U32, &zeros)];
        assert!(try_over(op, Type::U32, &operands, 1).is_err(), "{op}");
    }
}

#[test]
fn upper_halves_and_wide_products_are_those_of_the_exact_product() {
    for ty in TYPES {
        let name = ty.name();
        // Two u64 multiply beyond i128: by halves.
        let high = |a: i128, b: i128| {
            let (high, low) = (b >> 32, b & 0xffff_ffff);
            (a * high + ((a * low) >> 32)) >> (ty.bits() - 32)
        };
        let high = |a: i128, b: i128| if ty.bits() == 16 { (a * b) >> 16 } else { high(a, b) };
        check(&format!("mul.hi.{name}"), ty, &[ty; 2], |n| high(n[0], n[1]));
        check(&format!("mad.hi.{name}"), ty, &[ty; 3], |n| high(n[0], n[1]) + n[2]);
    }
    let wide =
        [(Type::U16, Type::U32), (Type::S16, Type::S32), (Type::U32, Type::U64), (Type::S32, Type::S64)];
    for (ty, wide) in wide {
        let name = ty.name();
        check(&format!("mul.wide.{name}"), wide, &[ty; 2], |n| n[0] * n[1]);
        check(&format!("mad.wide.{name}"), wide, &[ty, ty, wide], |n| n[0] * n[1] + n[2]);
    }
}

#[test]
fn products_of_24_bits_give_their_lower_or_upper_32() {
    for (ty, name) in [(Type::U32, "u32"), (Type::S32, "s32")] {
        let low = |x: i128| if ty == Type::S32 { i128::from((x as i32) << 8 >> 8) } else { x & 0xff_ffff };
        check(&format!("mul24.lo.{name}"), ty, &[ty; 2], |n| low(n[0]) * low(n[1]));
        check(&format!("mul24.hi.{name}"), ty, &[ty; 2], |n| (low(n[0]) * low(n[1])) >> 16);
        check(&format!("mad24.lo.{name}"), ty, &[ty; 3], |n| low(n[0]) * low(n[1]) + n[2]);
        check(&format!("mad24.hi.{name}"), ty, &[ty; 3], |n| ((low(n[0]) * low(n[1])) >> 16) + n[2]);
    }
}

#[test]
fn pairs_of_16_bits_are_added_and_compared_each_for_itself() {
    let pair = |ty: Type, x: i128| [number(ty, x as u64 & 0xffff), number(ty, x as u64 >> 16 & 0xffff)];
    let packed = |each: [i128; 2]| (each[0] & 0xffff) | (each[1] & 0xffff) << 16;
    let of = |ty: Type, n: &[i128], f: fn(i128, i128) -> i128| {
        let (a, b) = (pair(ty, n[0]), pair(ty, n[1]));
        packed([f(a[0], b[0]), f(a[1], b[1])])
    };
    let words = [Type::B32; 2];
    check("add.u16x2", Type::B32, &words, |n| of(Type::U16, n, |a, b| a + b));
    check("add.s16x2", Type::B32, &words, |n| of(Type::S16, n, |a, b| a + b));
    check("min.u16x2", Type::B32, &words, |n| of(Type::U16, n, |a, b| a.min(b)));
    check("max.u16x2", Type::B32, &words, |n| of(Type::U16, n, |a, b| a.max(b)));
    check("min.s16x2", Type::B32, &words, |n| of(Type::S16, n, |a, b| a.min(b)));
    check("max.s16x2", Type::B32, &words, |n| of(Type::S16, n, |a, b| a.max(b)));
    check("min.s16x2.relu", Type::B32, &words, |n| of(Type::S16, n, |a, b| a.min(b).max(0)));
    check("max.relu.s16x2", Type::B32, &words, |n| of(Type::S16, n, |a, b| a.max(b).max(0)));
    check("min.relu.s32", Type::S32, &[Type::S32; 2], |n| n[0].min(n[1]).max(0));
    check("max.s32.relu", Type::S32, &[Type::S32; 2], |n| n[0].max(n[1]).max(0));
}

#[test]
fn dot_products_extend_each_element_by_its_sources_type() {
    let byte = |word: i128, index: u32, signed: bool| {
        let byte = (word as u64 >> (8 * index)) as u8;
        if signed { i128::from(byte as i8) } else { i128::from(byte) }
    };
    let half = |word: i128, index: u32, signed: bool| {
        let half = (word as u64 >> (16 * index)) as u16;
        if signed { i128::from(half as i16) } else { i128::from(half) }
    };
    for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
        let name = |signed| if signed { "s32" } else { "u32" };
        let types = format!("{}.{}", name(a), name(b));
        check(&format!("dp4a.{types}"), Type::B32, &[Type::B32; 3], |n| {
            n[2] + (0..4).map(|i| byte(n[0], i, a) * byte(n[1], i, b)).sum::<i128>()
        });
        for (part, from) in [("lo", 0), ("hi", 2)] {
            check(&format!("dp2a.{part}.{types}"), Type::B32, &[Type::B32; 3], |n| {
                n[2] + (0..2).map(|i| half(n[0], i, a) * byte(n[1], from + i, b)).sum::<i128>()
            });
        }
    }
}

#[test]
fn logic_works_on_every_width_and_clears_no_stranger() {
    for ty in [Type::B16, Type::B32, Type::B64] {
        let name = ty.name();
        check(&format!("and.{name}"), ty, &[ty; 2], |n| n[0] & n[1]);
        check(&format!("or.{name}"), ty, &[ty; 2], |n| n[0] | n[1]);
        check(&format!("xor.{name}"), ty, &[ty; 2], |n| n[0] ^ n[1]);
        check(&format!("not.{name}"), ty, &[ty], |n| !n[0]);
        check(&format!("cnot.{name}"), ty, &[ty], |n| i128::from(n[0] == 0));
    }
}

#[test]
fn shifts_beyond_the_width_shift_everything_out() {
    for ty in [Type::B16, Type::B32, Type::B64] {
        let width = i128::from(ty.bits());
        check(&format!("shl.{}", ty.name()), ty, &[ty, Type::U32], |n| {
            if n[1] >= width { 0 } else { n[0] << n[1] }
        });
    }
    let types = TYPES.into_iter().chain([Type::B16, Type::B32, Type::B64]);
    for ty in types {
        check(&format!("shr.{}", ty.name()), ty, &[ty, Type::U32], |n| n[0] >> n[1].min(100));
    }
    let pair = |n: &[i128]| n[0] | n[1] << 32;
    let words = [Type::B32; 3];
    check("shf.l.wrap.b32", Type::B32, &words, |n| (pair(n) << (n[2] & 31)) >> 32);
    check("shf.r.wrap.b32", Type::B32, &words, |n| pair(n) >> (n[2] & 31));
    check("shf.l.clamp.b32", Type::B32, &words, |n| (pair(n) << n[2].min(32)) >> 32);
    check("shf.r.clamp.b32", Type::B32, &words, |n| pair(n) >> n[2].min(32));
}

/// Sources whose values are mostly small: positions, lengths, counts.
fn small(random: &mut Random) -> u64 {
    match random.bits() % 4 {
        0 => random.bits() % 300,
        1 => random.integer(32),
        _ => random.bits() % 70,
    }
}

/// Checks `op d, a, b, c, e` over words `a`, and small `b`, `c`, `e`.
fn check_fields(op: &str, ty: Type, words: usize, smalls: usize, expected: impl Fn(&[u64]) -> u64) {
    let mut random = Random(31);
    for _ in 0..400 {
        let mut operands: Vec<(Type, Values)> = Vec::new();
        for _ in 0..words {
            operands.push((ty, random.row(|random| random.integer(ty.bits()))));
        }
        for _ in 0..smalls {
            operands.push((Type::U32, random.row(small)));
        }
        let sources: Vec<_> = operands.iter().map(|(ty, row)| (*ty, row)).collect();
        let result = over(op, ty, &sources, u32::MAX);
        for lane in 0..32 {
            let n: Vec<u64> = sources.iter().map(|(_, row)| row[lane]).collect();
            let expected = expected(&n) & (u64::MAX >> (64 - ty.bits()));
            assert_eq!(result[lane], expected, "{op} of {n:x?}: {:#x}, not {expected:#x}", result[lane]);
        }
    }
}

#[test]
fn bfe_and_bfi_take_fields_bit_by_bit() {
    for ty in [Type::U32, Type::S32, Type::U64, Type::S64] {
        let top = u64::from(ty.bits()) - 1;
        check_fields(&format!("bfe.{}", ty.name()), ty, 1, 2, |n| {
            let (pos, len) = (n[1] & 0xff, n[2] & 0xff);
            let sign = ty.kind() == Kind::Signed && len > 0 && n[0] >> (pos + len - 1).min(top) & 1 == 1;
            (0..64).fold(0, |d, i| {
                let bit = if i < len && pos + i <= top { n[0] >> (pos + i) & 1 == 1 } else { sign };
                d | u64::from(bit) << i
            })
        });
    }
    for (op, ty) in [("bfi.b32", Type::B32), ("bfi.b64", Type::B64)] {
        let top = u64::from(ty.bits()) - 1;
        check_fields(op, ty, 2, 2, |n| {
            let (pos, len) = (n[2] & 0xff, n[3] & 0xff);
            (0..len)
                .filter(|i| pos + i <= top)
                .fold(n[1], |d, i| d & !(1 << (pos + i)) | (n[0] >> i & 1) << (pos + i))
        });
    }
}

#[test]
fn masks_and_extensions_clamp_or_wrap_their_widths() {
    for (mode, clamp) in [("clamp", true), ("wrap", false)] {
        check_fields(&format!("bmsk.{mode}.b32"), Type::B32, 0, 2, |n| {
            // The manual's program.
            let (a, b) = (n[0] & 31, n[1] & 31);
            let mut low = 0xffff_ffffu64 << a;
            let mut high = 0xffff_ffffu64 << (a + b) & 0xffff_ffff;
            if clamp && n[0] >= 32 {
                low = 0;
                high = 0;
            }
            if a + b >= 32 || clamp && n[1] >= 32 {
                high = 0;
            }
            low & !high
        });
        for (ty, signed) in [(Type::U32, false), (Type::S32, true)] {
            check_fields(&format!("szext.{mode}.{}", ty.name()), ty, 1, 1, |n| {
                let large = clamp && n[1] >= 32;
                let width = n[1] & 31;
                let mask = if large { 0 } else { 0xffff_ffffu64 << width & 0xffff_ffff };
                let sign = signed && !large && width > 0 && n[0] >> (width - 1) & 1 == 1;
                n[0] & !mask | if sign { mask } else { 0 }
            });
        }
    }
}

#[test]
fn bits_are_counted_found_and_reversed() {
    for ty in [Type::B32, Type::B64] {
        let width = ty.bits() as i128;
        let name = ty.name();
        check(&format!("popc.{name}"), Type::U32, &[ty], |n| {
            (0..width).filter(|i| n[0] >> i & 1 == 1).count() as i128
        });
        check(&format!("clz.{name}"), Type::U32, &[ty], |n| {
            (0..width).take_while(|i| n[0] >> (width - 1 - i) & 1 == 0).count() as i128
        });
        check(&format!("brev.{name}"), ty, &[ty], |n| {
            (0..width).fold(0, |d, i| d | (n[0] >> i & 1) << (width - 1 - i))
        });
    }
    for ty in [Type::U32, Type::S32, Type::U64, Type::S64] {
        let highest = move |n: &[i128]| {
            let value = if n[0] < 0 { !n[0] } else { n[0] };
            (0..i128::from(ty.bits())).rev().find(|i| value >> i & 1 == 1)
        };
        check(&format!("bfind.{}", ty.name()), Type::U32, &[ty], |n| highest(n).unwrap_or(-1));
        check(&format!("bfind.shiftamt.{}", ty.name()), Type::U32, &[ty], |n| {
            highest(n).map_or(-1, |at| i128::from(ty.bits()) - 1 - at)
        });
    }
}

#[test]
fn fns_finds_the_nth_set_bit_up_or_down() {
    let mut random = Random(5);
    for _ in 0..300 {
        let masks = random.row(|random| random.integer(32));
        let bases = random.row(|random| random.bits() % 34);
        let offsets = random.row(|random| (random.bits() % 13).wrapping_sub(6) & 0xffff_ffff);
        let sources = [(Type::B32, &masks), (Type::B32, &bases), (Type::B32, &offsets)];
        let result = over("fns.b32", Type::B32, &sources, u32::MAX);
        for lane in 0..32 {
            let (mask, base, n) = (masks[lane], bases[lane] as i64, offsets[lane] as i32);
            let set = |at: &i64| mask >> at & 1 == 1;
            let skip = n.unsigned_abs().saturating_sub(1) as usize;
            let found = match n {
                0 => Some(base).filter(|at| *at < 32 && set(at)),
                1.. => (base..32).filter(set).nth(skip),
                _ if base > 31 => None,
                _ => (0..=base).rev().filter(set).nth(skip),
            };
            let expected = found.map_or(0xffff_ffff, |at| at as u64);
            assert_eq!(result[lane], expected, "{mask:#x} from {base}, {n}");
        }
    }
}

#[test]
fn lop3_looks_up_every_table() {
    let mut random = Random(6);
    let [a, b, c] = [(); 3].map(|()| random.row(|random| random.bits()));
    for table in 0..256u64 {
        let text = format!("lop3.b32 d, a, b, c, {table}");
        let mut warp = OneWarp::new();
        for (name, row) in [("a", &a), ("b", &b), ("c", &c), ("d", &a)] {
            warp.set(name, Type::B32, row);
        }
        warp.run(&text, u32::MAX).expect("lop3");
        for lane in 0..32 {
            let expected = (0..32).fold(0, |d, i| {
                let index = (a[lane] >> i & 1) << 2 | (b[lane] >> i & 1) << 1 | c[lane] >> i & 1;
                d | (table >> index & 1) << i
            });
            assert_eq!(warp.get("d")[lane], expected, "table {table:#x}");
        }
    }
}

#[test]
fn lop3_with_a_predicate_says_whether_the_result_is_not_zero() {
    let mut random = Random(7);
    let a = random.row(|random| random.bits() & 1);
    let b = random.row(|random| random.bits() & 1);
    for (join, expected) in [("and", 0x0000_ffffu32), ("or", 0xffff_0000)] {
        let text = format!("lop3.{join}.b32 a|p, a, b, 0, 0xc0, !q");
        let mut warp = OneWarp::new();
        warp.set("a", Type::B32, &a);
        warp.set("b", Type::B32, &b);
        warp.set_predicate("p", 0);
        warp.set_predicate("q", 0xffff_0000);
        warp.run(&text, 0x7fff_ffff).expect("lop3");
        let holds = (0..31).fold(0u32, |mask, lane| mask | ((a[lane] & b[lane]) as u32) << lane);
        let expected = if join == "and" { holds & expected } else { holds | !expected } & 0x7fff_ffff;
        assert_eq!(warp.predicate("p"), expected, "{join}");
        assert_eq!(warp.get("a")[5], a[5] & b[5]);
        assert_eq!(warp.get("a")[31], a[31]);
    }
}

#[test]
fn prmt_selects_bytes_in_every_mode() {
    let mut random = Random(8);
    let [a, b, c] = [(); 3].map(|()| random.row(|random| random.bits() & 0xffff_ffff));
    let sources = [(Type::B32, &a), (Type::B32, &b), (Type::B32, &c)];
    let byte = |lane: usize, index: u64| (a[lane] | b[lane] << 32) >> (8 * index) & 0xff;
    let result = over("prmt.b32", Type::B32, &sources, u32::MAX);
    for lane in 0..32 {
        let expected = (0..4).fold(0, |d, i| {
            let nibble = c[lane] >> (4 * i) & 15;
            let byte = byte(lane, nibble & 7);
            let byte = if nibble & 8 == 0 { byte } else { if byte & 0x80 != 0 { 0xff } else { 0 } };
            d | byte << (8 * i)
        });
        assert_eq!(result[lane], expected);
    }
    let modes: [(&str, fn(u64, u64) -> u64); 6] = [
        ("f4e", |s, i| s + i),
        ("b4e", |s, i| (8 + s - i) % 8),
        ("rc8", |s, _| s),
        ("ecl", |s, i| s.max(i)),
        ("ecr", |s, i| s.min(i)),
        ("rc16", |s, i| 2 * (s & 1) + (i & 1)),
    ];
    for (mode, index) in modes {
        let result = over(&format!("prmt.b32.{mode}"), Type::B32, &sources, u32::MAX);
        for lane in 0..32 {
            let expected = (0..4).fold(0, |d, i| d | byte(lane, index(c[lane] & 3, i)) << (8 * i));
            assert_eq!(result[lane], expected, "{mode} by {}", c[lane] & 3);
        }
    }
}

#[test]
fn words_are_added_and_subtracted_with_carries_between_them() {
    let mut random = Random(9);
    for (word, ty) in [(32, Type::U32), (64, Type::S64)] {
        let half = |x: &[u128; 32], high: bool| x.map(|x| (x >> if high { word } else { 0 }) as u64);
        let mut wide = || -> [u128; 32] {
            std::array::from_fn(|_| {
                u128::from(random.integer(word)) | u128::from(random.integer(word)) << word
            })
        };
        let (a, b) = (wide(), wide());
        let name = ty.name();
        let texts = [
            (format!("add.cc.{name} x, a, b"), format!("addc.{name} y, c, e")),
            (format!("sub.cc.{name} x, a, b"), format!("subc.{name} y, c, e")),
        ];
        for (index, (first, second)) in texts.iter().enumerate() {
            let mut warp = OneWarp::new();
            for (name, row) in
                [("a", half(&a, false)), ("b", half(&b, false)), ("c", half(&a, true)), ("e", half(&b, true))]
            {
                warp.set(name, ty, &row);
            }
            warp.set("x", ty, &[POISON; 32]);
            warp.set("y", ty, &[POISON; 32]);
            warp.run(first, u32::MAX).expect(first);
            warp.run(second, u32::MAX).expect(second);
            for lane in 0..32 {
                let result =
                    if index == 0 { a[lane].wrapping_add(b[lane]) } else { a[lane].wrapping_sub(b[lane]) };
                let result = if word == 32 { result & u128::from(u64::MAX) } else { result };
                let got = u128::from(warp.get("x")[lane]) | u128::from(warp.get("y")[lane]) << word;
                assert_eq!(got, result, "{first}; {second}");
            }
        }
    }
}

#[test]
fn products_of_several_words_carry_from_low_to_high() {
    // A product of two 64-bit numbers from 32-bit parts, as compilers write it, against u128.
    let mut random = Random(10);
    for _ in 0..50 {
        let (a, b) = (random.row(|random| random.integer(64)), random.row(|random| random.integer(64)));
        let mut warp = OneWarp::new();
        let low = |x: &Values| x.map(|x| x & 0xffff_ffff);
        let high = |x: &Values| x.map(|x| x >> 32);
        for (name, row) in [("a0", low(&a)), ("a1", high(&a)), ("b0", low(&b)), ("b1", high(&b))] {
            warp.set(name, Type::U32, &row);
        }
        for name in ["r0", "r1", "r2", "r3"] {
            warp.set(name, Type::U32, &[POISON; 32]);
        }
        for text in [
            "mul.lo.u32 r0, a0, b0",
            "mul.hi.u32 r1, a0, b0",
            "mad.lo.cc.u32 r1, a1, b0, r1",
            "madc.hi.u32 r2, a1, b0, 0",
            "mad.lo.cc.u32 r1, a0, b1, r1",
            "madc.hi.cc.u32 r2, a0, b1, r2",
            "madc.hi.u32 r3, a1, b1, 0",
            "mad.lo.cc.u32 r2, a1, b1, r2",
            "addc.u32 r3, r3, 0",
        ] {
            warp.run(text, u32::MAX).expect(text);
        }
        for lane in 0..32 {
            let got = (0..4)
                .fold(0u128, |d, i| d | u128::from(warp.get(["r0", "r1", "r2", "r3"][i])[lane]) << (32 * i));
            assert_eq!(got, u128::from(a[lane]) * u128::from(b[lane]), "{:#x} * {:#x}", a[lane], b[lane]);
        }
    }
    // Signed high parts, and lanes that keep their carry.
    let mut warp = OneWarp::new();
    warp.set("a", Type::S32, &[0xffff_ffff; 32]);
    warp.set("d", Type::S32, &[7; 32]);
    warp.run("add.cc.s32 d, a, 1", 0xffff).expect("add.cc");
    warp.run("madc.hi.s32 d, a, 2, 5", u32::MAX).expect("madc.hi");
    assert_eq!(warp.get("d")[0], 5);
    assert_eq!(warp.get("d")[31], 4);
}

#[test]
fn a_borrow_is_a_carry_that_did_not_happen() {
    let mut warp = OneWarp::new();
    warp.set("d", Type::U32, &[0; 32]);
    for (first, second, expected) in [
        ("sub.cc.u32 d, 0, 1", "addc.u32 d, 0, 0", 0u32),
        ("sub.cc.u32 d, 5, 1", "addc.u32 d, 0, 0", 1),
        ("add.cc.u32 d, 0xffffffff, 1", "subc.u32 d, 5, 0", 5),
        ("add.cc.u32 d, 1, 1", "subc.u32 d, 5, 0", 4),
        ("sub.cc.u32 d, 0, 1", "subc.u32 d, 0, 0", u32::MAX),
    ] {
        warp.run(first, u32::MAX).expect(first);
        warp.run(second, u32::MAX).expect(second);
        assert_eq!(warp.get("d")[9], u64::from(expected), "{first}; {second}");
    }
}

#[test]
fn packed_video_instructions_work_element_by_element() {
    for (count, bits) in [(4, 8), (2, 16)] {
        for (letter, signed) in [("u32", false), ("s32", true)] {
            let element = |word: i128, index: u32| {
                let raw = (word as u64 >> (bits * index)) & ((1 << bits) - 1);
                if signed { i128::from((raw << (64 - bits)) as i64 >> (64 - bits)) } else { i128::from(raw) }
            };
            let each = |n: &[i128], f: &dyn Fn(i128, i128) -> i128| {
                (0..count).fold(0, |d, i| {
                    d | (f(element(n[0], i), element(n[1], i)) & ((1 << bits) - 1)) << (bits * i)
                })
            };
            let total = |n: &[i128], f: &dyn Fn(i128, i128) -> i128| {
                (0..count).fold(n[2], |d, i| d + f(element(n[0], i), element(n[1], i)))
            };
            let types = format!("{letter}.{letter}.{letter}");
            let words = [Type::B32; 3];
            let (low, high) =
                if signed { (-(1i128 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
            let check =
                |op: String, expected: &dyn Fn(&[i128]) -> i128| check(&op, Type::B32, &words, expected);
            check(format!("vadd{count}.{types}"), &|n| each(n, &|a, b| a + b));
            check(format!("vadd{count}.{types}.sat"), &|n| each(n, &|a, b| (a + b).clamp(low, high)));
            check(format!("vsub{count}.{types}.sat"), &|n| each(n, &|a, b| (a - b).clamp(low, high)));
            check(format!("vmin{count}.{types}"), &|n| each(n, &|a, b| a.min(b)));
            check(format!("vmax{count}.{types}"), &|n| each(n, &|a, b| a.max(b)));
            check(format!("vset{count}.{letter}.{letter}.ge"), &|n| each(n, &|a, b| i128::from(a >= b)));
            check(format!("vset{count}.{letter}.{letter}.ne.add"), &|n| total(n, &|a, b| i128::from(a != b)));
            check(format!("vabsdiff{count}.{types}"), &|n| each(n, &|a, b| (a - b).abs()));
            check(format!("vabsdiff{count}.{types}.add"), &|n| total(n, &|a, b| (a - b).abs()));
        }
    }
}

#[test]
fn setp_compares_integers_by_their_sign_and_joins_a_predicate() {
    type Compare = fn(&i128, &i128) -> bool;
    let comparisons: [(&str, Compare); 6] = [
        ("eq", i128::eq),
        ("ne", i128::ne),
        ("lt", i128::lt),
        ("le", i128::le),
        ("gt", i128::gt),
        ("ge", i128::ge),
    ];
    let mut random = Random(11);
    for ty in TYPES {
        let (a, b) =
            (random.row(|random| random.integer(ty.bits())), random.row(|random| random.integer(ty.bits())));
        let b: Values = std::array::from_fn(|lane| if lane % 5 == 0 { a[lane] } else { b[lane] });
        for (name, compare) in comparisons {
            let names = match (ty.kind(), name) {
                (Kind::Unsigned, "lt") => vec!["lt", "lo"],
                (Kind::Unsigned, "le") => vec!["le", "ls"],
                (Kind::Unsigned, "gt") => vec!["gt", "hi"],
                (Kind::Unsigned, "ge") => vec!["ge", "hs"],
                _ => vec![name],
            };
            let holds = (0..32).fold(0u32, |mask, lane| {
                mask | u32::from(compare(&number(ty, a[lane]), &number(ty, b[lane]))) << lane
            });
            for name in names {
                for (join, apply) in [
                    ("", (|a, _| a) as fn(u32, u32) -> u32),
                    (".and", |a, b| a & b),
                    (".or", |a, b| a | b),
                    (".xor", |a, b| a ^ b),
                ] {
                    let other = if join.is_empty() { "" } else { ", !r" };
                    let text = format!("setp.{name}{join}.{} p|q, a, b{other}", ty.name());
                    let mut warp = OneWarp::new();
                    warp.set("a", ty, &a);
                    warp.set("b", ty, &b);
                    warp.set_predicate("p", 0x1111_1111);
                    warp.set_predicate("q", 0x1111_1111);
                    warp.set_predicate("r", 0x00ff_00ff);
                    let mask = 0x0fff_ffff;
                    warp.run(&text, mask).expect(&text);
                    let expected = |holds: u32| apply(holds, !0x00ff_00ff) & mask | 0x1111_1111 & !mask;
                    assert_eq!(warp.predicate("p"), expected(holds), "{text}");
                    assert_eq!(warp.predicate("q"), expected(!holds), "{text}");
                }
                let set = over(
                    &format!("set.{name}.u32.{}", ty.name()),
                    Type::U32,
                    &[(ty, &a), (ty, &b)],
                    u32::MAX,
                );
                let float = over(
                    &format!("set.{name}.f32.{}", ty.name()),
                    Type::F32,
                    &[(ty, &a), (ty, &b)],
                    u32::MAX,
                );
                for lane in 0..32 {
                    let holds = holds >> lane & 1 == 1;
                    assert_eq!(set[lane], if holds { 0xffff_ffff } else { 0 });
                    assert_eq!(float[lane], if holds { 0x3f80_0000 } else { 0 });
                }
            }
        }
    }
    let zeros = [0; 32];
    for op in ["set.lo.u32.s32", "set.lt.u32.b32", "set.equ.u32.u32", "set.eq.ftz.u32.u32", "set.eq.b64.u32"]
    {
        assert!(try_over(op, Type::U32, &[(Type::U32, &zeros), (Type::U32, &zeros)], 1).is_err(), "{op}");
    }
}
