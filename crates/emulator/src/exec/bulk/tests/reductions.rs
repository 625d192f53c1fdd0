//! Reductions, against wide integers, f64 and the exact values of small floats.

use half::{bf16, f16};

use super::super::reduce::Reduction;
use super::rig::{BARRIER, DATA, Rig, contents};
use crate::exec::Flow;
use crate::ptx::Type;
use crate::tensormap::{self, DataType};

/// Values of `bits` bits that are edges of integers or of floats.
fn edges(bits: u32) -> Vec<u64> {
    let all: Vec<u64> = match bits {
        16 => vec![
            0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff,
            0x3c00, 0xbc00, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0x007f, 0x0080, 0x3f80, 0xbf80, 0x3c01,
            0x1001, 0x3555,
        ],
        32 => vec![
            0,
            1,
            2,
            0x7fff_ffff,
            0x8000_0000,
            0x8000_0001,
            0xffff_ffff,
            0xffff_fffe,
            0x3f80_0000,
            0x3300_0000,
            0x007f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0xff7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0001,
            0x1234_5678,
        ],
        _ => vec![
            0,
            1,
            u64::MAX,
            u64::MAX - 1,
            i64::MAX as u64,
            i64::MIN as u64,
            0x3ff0_0000_0000_0000,
            0x3ca0_0000_0000_0000,
            1 << 52,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x7ff8_0000_0000_0001,
            0x1234_5678_9abc_def0,
        ],
    };
    all
}

/// What a reduction of integers gives, in 128 bits.
fn integers(name: &str, ty: Type, old: u64, value: u64) -> u64 {
    let signed = matches!(ty, Type::S32 | Type::S64);
    let wide = |bits: u64| match (ty.bits(), signed) {
        (32, true) => i128::from(bits as u32 as i32),
        (32, false) => i128::from(bits as u32),
        (_, true) => i128::from(bits as i64),
        _ => i128::from(bits),
    };
    let (a, b) = (wide(old), wide(value));
    let result = match name {
        "add" => a + b,
        "min" => a.min(b),
        "max" => a.max(b),
        "inc" => {
            if a >= b {
                0
            } else {
                a + 1
            }
        }
        "dec" => {
            if a == 0 || a > b {
                b
            } else {
                a - 1
            }
        }
        "and" => a & b,
        "or" => a | b,
        _ => a ^ b,
    };
    if ty.bits() == 32 { u64::from(result as u32) } else { result as u64 }
}

/// The 16-bit float nearest to a number, ties to even, by search among all.
fn nearest(exact: f64, decode: impl Fn(u16) -> f64, infinity: u16) -> u16 {
    let magnitude = exact.abs();
    let sign = if exact.is_sign_negative() { 0x8000 } else { 0 };
    let (mut low, mut high) = (0u16, infinity);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if decode(middle) <= magnitude { low = middle } else { high = middle }
    }
    // One past the largest stands for infinity when distances are compared.
    let above =
        if high == infinity { 2.0 * decode(infinity - 1) - decode(infinity - 2) } else { decode(high) };
    let (down, up) = (magnitude - decode(low), above - magnitude);
    let rounded = if down < up || down == up && low & 1 == 0 { low } else { high };
    sign | rounded
}

fn halves(name: &str, ty: Type, old: u64, value: u64) -> u64 {
    let decode = |bits: u16| match ty {
        Type::F16 => f16::from_bits(bits).to_f64(),
        _ => bf16::from_bits(bits).to_f64(),
    };
    let infinity = if ty == Type::F16 { 0x7c00 } else { 0x7f80 };
    let (a, b) = (decode(old as u16), decode(value as u16));
    let number = |x: f64| !x.is_nan();
    let result = match name {
        "add" if (a + b).is_nan() => 0x7fff,
        "add" if (a + b).is_infinite() => {
            if a + b > 0.0 {
                infinity
            } else {
                infinity | 0x8000
            }
        }
        "add" => nearest(a + b, decode, infinity),
        _ if !number(a) && !number(b) => 0x7fff,
        _ if !number(a) => value as u16,
        _ if !number(b) => old as u16,
        // -0 is below +0.
        _ if a == b => match (name, a.is_sign_negative()) {
            ("min", true) | ("max", false) => old as u16,
            _ => value as u16,
        },
        "min" => {
            if a < b {
                old as u16
            } else {
                value as u16
            }
        }
        _ => {
            if a > b {
                old as u16
            } else {
                value as u16
            }
        }
    };
    u64::from(result)
}

fn floats(ty: Type, old: u64, value: u64) -> u64 {
    if ty == Type::F64 {
        let sum = f64::from_bits(old) + f64::from_bits(value);
        return if sum.is_nan() { 0x7fff_ffff_ffff_ffff } else { sum.to_bits() };
    }
    let sum = f64::from(f32::from_bits(old as u32)) + f64::from(f32::from_bits(value as u32));
    // A sum of two f32 rounds from f64 as from its exact value: 53 bits are more than twice 24.
    u64::from(if sum.is_nan() { 0x7fff_ffff } else { (sum as f32).to_bits() })
}

fn model(name: &str, ty: Type, old: u64, value: u64) -> u64 {
    match ty {
        Type::F16 | Type::Bf16 => halves(name, ty, old, value),
        Type::F32 | Type::F64 => floats(ty, old, value),
        _ => integers(name, ty, old, value),
    }
}

/// All pairs of edges, as bytes of old values and new ones, padded to a multiple of 16 bytes, and what is expected.
fn operands(name: &str, ty: Type) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let edges = edges(ty.bits());
    let size = ty.bytes() as usize;
    let (mut old, mut new, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for a in &edges {
        for b in &edges {
            old.extend_from_slice(&a.to_le_bytes()[..size]);
            new.extend_from_slice(&b.to_le_bytes()[..size]);
            expected.extend_from_slice(&model(name, ty, *a, *b).to_le_bytes()[..size]);
        }
    }
    let len = old.len() / 16 * 16;
    old.truncate(len);
    new.truncate(len);
    expected.truncate(len);
    (old, new, expected)
}

#[test]
fn a_reduction_into_global_memory_agrees_with_the_model_for_each_operation_and_type() {
    let cases = [
        ("add", Type::U32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [a], [src], size"),
        ("add", Type::S32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.s32 [a], [src], size"),
        ("add", Type::U64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u64 [a], [src], size"),
        (
            "add",
            Type::F16,
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.f16 [a], [src], size",
        ),
        (
            "add",
            Type::Bf16,
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.bf16 [a], [src], size",
        ),
        ("add", Type::F32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [a], [src], size"),
        (
            "add",
            Type::F64,
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.L2::cache_hint.add.f64 [a], [src], size, policy",
        ),
        ("min", Type::U32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.u32 [a], [src], size"),
        ("min", Type::S32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.s32 [a], [src], size"),
        ("min", Type::U64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.u64 [a], [src], size"),
        ("min", Type::S64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.s64 [a], [src], size"),
        ("min", Type::F16, "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.f16 [a], [src], size"),
        ("min", Type::Bf16, "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.bf16 [a], [src], size"),
        ("max", Type::U32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.u32 [a], [src], size"),
        ("max", Type::S32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.s32 [a], [src], size"),
        ("max", Type::U64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.u64 [a], [src], size"),
        ("max", Type::S64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.s64 [a], [src], size"),
        ("max", Type::F16, "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.f16 [a], [src], size"),
        ("max", Type::Bf16, "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.bf16 [a], [src], size"),
        ("inc", Type::U32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.inc.u32 [a], [src], size"),
        ("dec", Type::U32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.dec.u32 [a], [src], size"),
        ("and", Type::B32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.and.b32 [a], [src], size"),
        ("or", Type::B32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.or.b32 [a], [src], size"),
        ("xor", Type::B32, "cp.reduce.async.bulk.global.shared::cta.bulk_group.xor.b32 [a], [src], size"),
        ("and", Type::B64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.and.b64 [a], [src], size"),
        ("or", Type::B64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.or.b64 [a], [src], size"),
        ("xor", Type::B64, "cp.reduce.async.bulk.global.shared::cta.bulk_group.xor.b64 [a], [src], size"),
    ];
    for (name, ty, text) in cases {
        let (old, new, expected) = operands(name, ty);
        let mut rig = Rig::new(1);
        let global = rig.allocate(&old);
        rig.put(0, DATA, &new);
        rig.set("a", global.base).set("src", u64::from(DATA)).set("size", old.len() as u64);
        rig.go(text);
        rig.go("cp.async.bulk.commit_group");
        assert!(contents(&global) == old, "{text}: nothing happens at once, and nothing is poisoned");
        rig.finish();
        let found = contents(&global);
        let size = ty.bytes() as usize;
        for (i, (found, expected)) in found.chunks(size).zip(expected.chunks(size)).enumerate() {
            let (old, new) = (&old[i * size..][..size], &new[i * size..][..size]);
            assert_eq!(found, expected, "{text}: {old:x?} with {new:x?}");
        }
        assert_eq!(rig.cluster.counters.bulk_store_bytes, old.len() as u64);
        assert!(matches!(rig.run("cp.async.bulk.wait_group 0"), Ok(Flow::Next)));
    }
}

#[test]
fn a_reduction_into_another_block_s_shared_memory_agrees_with_the_model() {
    let cases = [
        (
            "add",
            Type::U32,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [dst], [src], size, [bar]",
        ),
        (
            "add",
            Type::S32,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.s32 [dst], [src], size, [bar]",
        ),
        (
            "add",
            Type::U64,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u64 [dst], [src], size, [bar]",
        ),
        (
            "min",
            Type::S32,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.min.s32 [dst], [src], size, [bar]",
        ),
        (
            "max",
            Type::U32,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.max.u32 [dst], [src], size, [bar]",
        ),
        (
            "inc",
            Type::U32,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.inc.u32 [dst], [src], size, [bar]",
        ),
        (
            "dec",
            Type::U32,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.dec.u32 [dst], [src], size, [bar]",
        ),
        (
            "xor",
            Type::B32,
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.xor.b32 [dst], [src], size, [bar]",
        ),
    ];
    for (name, ty, text) in cases {
        let (old, new, expected) = operands(name, ty);
        let mut rig = Rig::new(2);
        rig.expect(old.len() as u32);
        rig.put(1, DATA, &old);
        rig.put(0, DATA, &new);
        rig.set("dst", 1 << 24 | u64::from(DATA)).set("src", u64::from(DATA)).set("size", old.len() as u64);
        rig.set("bar", 1 << 24 | u64::from(BARRIER));
        rig.go(text);
        assert_eq!(rig.shared(1, DATA, old.len()), old, "{text}");
        rig.finish();
        assert_eq!(rig.shared(1, DATA, old.len()), expected, "{text}");
        assert_eq!((rig.phase(0), rig.phase(1)), (0, 1), "{text}");
    }
}

#[test]
fn red_async_of_many_lanes_on_one_word_counts_each_once() {
    let cases = [
        (
            "add",
            Type::U32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [dst], x, [bar]",
        ),
        (
            "add",
            Type::S64,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.s64 [dst], wide, [bar]",
        ),
        (
            "min",
            Type::S32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.min.s32 [dst], x, [bar]",
        ),
        (
            "max",
            Type::U32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.max.u32 [dst], x, [bar]",
        ),
        (
            "and",
            Type::B32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.and.b32 [dst], x, [bar]",
        ),
        (
            "or",
            Type::B32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.or.b32 [dst], x, [bar]",
        ),
        (
            "xor",
            Type::B32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.xor.b32 [dst], x, [bar]",
        ),
        (
            "inc",
            Type::U32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.inc.u32 [dst], c0, [bar]",
        ),
        (
            "dec",
            Type::U32,
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.dec.u32 [dst], c0, [bar]",
        ),
    ];
    for (name, ty, text) in cases {
        let mut rig = Rig::new(2);
        let size = ty.bytes();
        let value = |lane: usize| 0x8765_4321u64.wrapping_mul(lane as u64 * 2 + 1) >> 1;
        rig.expect(20 * size);
        rig.put(1, DATA, &0x5a5a_0003u64.to_le_bytes());
        rig.set_in(0, "x", value);
        rig.set_in(0, "wide", |lane| value(lane) << 20);
        rig.set("c0", 7).set("dst", 1 << 24 | u64::from(DATA)).set("bar", 1 << 24 | u64::from(BARRIER));
        let mask = 0xffff_f000;
        assert!(matches!(rig.run_in(0, mask, text), Ok(Flow::Next)));
        rig.finish();
        let expected = (12..32).fold(0x5a5a_0003, |old, lane| {
            let operand = match (name, size) {
                ("inc" | "dec", _) => 7,
                (_, 8) => value(lane) << 20,
                _ => u64::from(value(lane) as u32),
            };
            integers(name, ty, old, operand)
        });
        assert_eq!(rig.shared(1, DATA, size as usize), &expected.to_le_bytes()[..size as usize], "{text}");
        assert_eq!(rig.phase(1), 1, "{text}");
    }
}

#[test]
fn a_tensor_s_type_decides_how_a_box_is_reduced() {
    // Column 8 and up of a box of 16 lie outside: they must not be touched.
    const ADD: &str =
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [map, {c0,c1}], [src]";
    const MIN: &str =
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.min.bulk_group [map, {c0,c1}], [src]";
    const XOR: &str =
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.xor.bulk_group [map, {c0,c1}], [src]";
    const INC: &str = "cp.reduce.async.bulk.tensor.2d.global.shared::cta.inc.bulk_group.L2::cache_hint [map, {c0,c1}], [src], policy";
    let cases = [
        (2, Type::U32, "add", ADD),
        (3, Type::S32, "min", MIN),
        (3, Type::B32, "xor", XOR),
        (4, Type::U64, "min", MIN),
        (5, Type::S64, "min", MIN),
        (5, Type::U64, "add", ADD),
        (4, Type::B64, "xor", XOR),
        (6, Type::F16, "add", ADD),
        (9, Type::Bf16, "min", MIN),
        (7, Type::F32, "add", ADD),
        (8, Type::F64, "add", ADD),
        (2, Type::U32, "inc", INC),
    ];
    for (data_type, ty, name, text) in cases {
        let size = ty.bytes() as usize;
        let edges = edges(ty.bits());
        let element = |i: usize| edges[i % edges.len()].to_le_bytes()[..size].to_vec();
        let old: Vec<u8> = (0..24 * 4).flat_map(|i| element(i * 7 + 3)).collect();
        let new: Vec<u8> = (0..16 * 2).flat_map(|i| element(i * 5 + 1)).collect();
        let mut rig = Rig::new(1);
        let global = rig.allocate(&old);
        let pitch = 24 * size as u64;
        rig.params =
            tensormap::encode(data_type, global.base, &[24, 4], &[pitch], &[16, 2], &[1, 1], 0, 0, 0, 0)
                .expect("valid")
                .to_vec();
        rig.put(0, DATA, &new);
        rig.set("map", 0x7200_0000_0000).set("src", u64::from(DATA)).set("c0", 16).set("c1", 3);
        rig.go(text);
        rig.go("cp.async.bulk.commit_group");
        rig.finish();
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let mut expected = old.clone();
        for column in 0..8 {
            let at = (3 * 24 + 16 + column) * size;
            let value = model(name, ty, word(&old[at..at + size]), word(&new[column * size..][..size]));
            expected[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
        assert_eq!(contents(&global), expected, "{text} of {ty:?}");
    }
}

#[test]
fn tensors_have_the_reductions_of_their_types_and_no_others() {
    assert_eq!(Reduction::Inc.of_tensor(DataType::S32), None);
    assert_eq!(Reduction::Add.of_tensor(DataType::U8), None);
    assert_eq!(Reduction::Max.of_tensor(DataType::F32), None);
    assert_eq!(Reduction::And.of_tensor(DataType::F16), None);
    assert_eq!(Reduction::Add.of_tensor(DataType::Tf32), None);
    assert_eq!(Reduction::Or.of_tensor(DataType::S64), Some(Type::B64));
}

#[test]
fn reductions_into_one_place_all_count_whatever_their_order() {
    const TEXT: &str = "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [a], [src], 16";
    let mut rig = Rig::new(1);
    let global = rig.allocate(&[0; 16]);
    for i in 0..40u32 {
        rig.put(0, DATA + i * 16, &(1u32 << (i % 32)).to_le_bytes());
    }
    rig.set("a", global.base);
    for i in 0..40u64 {
        rig.set("src", u64::from(DATA) + i * 16);
        rig.go(TEXT);
    }
    rig.go("cp.async.bulk.commit_group");
    rig.finish();
    let expected = (0..40u32).fold(0u32, |sum, i| sum.wrapping_add(1 << (i % 32)));
    assert_eq!(contents(&global)[..4], expected.to_le_bytes());
}
