//! Every operation on every type against models of its own; order, vectors, masks, spaces, what is refused.

use half::{bf16, f16};

use super::{Operation, Update};
use crate::exec::harness::{Machine, SHARED_BASE};
use crate::exec::lanes::{ALL, lanes};
use crate::ptx::{ErrorKind, Type};

/// Values that find the corners of every type of up to 64 bits.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    0x7F,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x3C00_3C00,
    0x7C00_FC00,
    0x7E01_FE01,
    0x8000_0000,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x0000_0001_8000_0001,
    0x3F80_0000,
    0x7F80_0000,
    0x0080_0000,
    0x8000_0000_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF_FFFF,
    0x3FF0_0000_0000_0000,
    0x7FF0_0000_0000_0001,
];

/// The new value by plain arithmetic of wide integers and of the host's floats.
fn model(operation: &str, ty: &str, old: u64, b: u64, c: u64) -> u64 {
    let bits = match ty {
        "b16" | "f16" | "bf16" => 16,
        "b64" | "u64" | "s64" | "f64" => 64,
        _ => 32,
    };
    let mask = u64::MAX >> (64 - bits);
    let signed = |v: u64| i128::from(((v << (64 - bits)) as i64) >> (64 - bits));
    let (old, b, c) = (old & mask, b & mask, c & mask);
    let halves = |f: &dyn Fn(u16, u16) -> u16| {
        (0..bits / 16).fold(0, |all, half| {
            all | u64::from(f((old >> (16 * half)) as u16, (b >> (16 * half)) as u16)) << (16 * half)
        })
    };
    let new = match (operation, ty) {
        ("add", "f32") => {
            let sum = f32::from_bits(old as u32) + f32::from_bits(b as u32);
            u64::from(if sum.is_nan() { 0x7FFF_FFFF } else { sum.to_bits() })
        }
        ("add", "f64") => {
            let sum = f64::from_bits(old) + f64::from_bits(b);
            if sum.is_nan() { 0x7FF8_0000_0000_0000 } else { sum.to_bits() }
        }
        // Sums of two numbers of 16 bits are exact in f64.
        ("add", "f16" | "f16x2") => halves(&|x, y| {
            let sum = f16::from_bits(x).to_f64() + f16::from_bits(y).to_f64();
            if sum.is_nan() { 0x7FFF } else { f16::from_f64(sum).to_bits() }
        }),
        ("add", "bf16" | "bf16x2") => halves(&|x, y| {
            let (x, y) = (bf16::from_bits(x).to_f64(), bf16::from_bits(y).to_f64());
            let sum = x + y;
            if sum.is_nan() { 0x7FFF } else { round_to_bf16(x, y) }
        }),
        ("min" | "max", "f16" | "f16x2" | "bf16" | "bf16x2") => halves(&|x, y| {
            let number = |v: u16| {
                if ty.starts_with('b') { bf16::from_bits(v).to_f64() } else { f16::from_bits(v).to_f64() }
            };
            match (number(x).is_nan(), number(y).is_nan()) {
                (true, true) => return 0x7FFF,
                (true, false) => return y,
                (false, true) => return x,
                (false, false) => {}
            }
            let (low, high) = if number(x).total_cmp(&number(y)).is_lt() { (x, y) } else { (y, x) };
            if operation == "min" { low } else { high }
        }),
        ("add", _) => (u128::from(old) + u128::from(b)) as u64,
        ("min", "s32" | "s64") => signed(old).min(signed(b)) as u64,
        ("max", "s32" | "s64") => signed(old).max(signed(b)) as u64,
        ("min", _) => u128::from(old).min(u128::from(b)) as u64,
        ("max", _) => u128::from(old).max(u128::from(b)) as u64,
        ("inc", _) => (old + 1) * u64::from(old < b),
        ("dec", _) if old == 0 || old > b => b,
        ("dec", _) => old.wrapping_sub(1),
        ("and", _) => !(!old | !b),
        ("or", _) => !(!old & !b),
        ("xor", _) => (old | b) & !(old & b),
        ("exch", _) => b,
        ("cas", _) => [old, c][usize::from(old == b)],
        other => panic!("{other:?}"),
    };
    new & mask
}

/// The sum of two numbers of bf16, rounded once, ties to even: by looking for the nearest among all numbers of bf16 around the exact sum.
fn round_to_bf16(x: f64, y: f64) -> u16 {
    let sum = x + y;
    if !sum.is_finite() || sum == 0.0 {
        return bf16::from_f64(sum).to_bits();
    }
    // The sum of two bf16 may need more digits than f64 has; what was lost decides a tie.
    let lost = if x.abs() > y.abs() { y - (sum - x) } else { x - (sum - y) };
    let guess = bf16::from_f64(sum).to_bits();
    let value = |bits: u16| {
        let number = bf16::from_bits(bits).to_f64();
        // Beyond the largest number the next one counts as if the exponent went on.
        if number.is_infinite() { 2_f64.powi(128).copysign(number) } else { number }
    };
    let candidates = [guess.wrapping_sub(1), guess, guess.wrapping_add(1)];
    let near = |bits: u16| ((value(bits) - sum) - lost).abs();
    let good = |bits: &u16| {
        !bf16::from_bits(*bits).is_nan() && (value(*bits) < 0.0) == (sum < 0.0) || value(*bits) == 0.0
    };
    let best = candidates
        .into_iter()
        .filter(good)
        .min_by(|a, b| near(*a).total_cmp(&near(*b)).then((a & 1).cmp(&(b & 1))));
    best.expect("the guess is one")
}

fn registers(ty: &str) -> (&'static str, u32) {
    match ty {
        "b16" | "f16" | "bf16" => ("%rs", 2),
        "f32" => ("%f", 4),
        "f64" => ("%fd", 8),
        "b64" | "u64" | "s64" => ("%rd", 8),
        _ => ("%r", 4),
    }
}

const SCALARS: [(&str, &[&str]); 10] = [
    ("add", &["u32", "s32", "u64", "f64", "f16", "f16x2", "bf16", "bf16x2"]),
    ("min", &["u32", "s32", "u64", "s64"]),
    ("max", &["u32", "s32", "u64", "s64"]),
    ("inc", &["u32"]),
    ("dec", &["u32"]),
    ("and", &["b32", "b64"]),
    ("or", &["b32", "b64"]),
    ("xor", &["b32", "b64"]),
    ("exch", &["b32", "b64"]),
    ("cas", &["b16", "b32", "b64"]),
];

#[test]
fn every_operation_on_every_type_agrees_with_its_model_in_global_and_shared_memory() {
    for (operation, types) in SCALARS {
        for ty in types {
            let (prefix, bytes) = registers(ty);
            let noftz = if ty.contains("f16") { ".noftz" } else { "" };
            let form = format!("{operation}{noftz}.{ty}");
            let third = if operation == "cas" { format!(", {prefix}4") } else { String::new() };
            let mut m = Machine::unchecked();
            let memory = m.memory.allocate(512).expect("room");
            m.set("%rd1", |lane| u128::from(memory.base + lane * u64::from(bytes)));
            m.set("%r1", |lane| u128::from(SHARED_BASE + lane * u64::from(bytes)));
            for (index, b) in EDGES.into_iter().enumerate() {
                let old = |lane: usize| EDGES[lane % EDGES.len()];
                // A comparison must hold in some lanes.
                let b =
                    |lane: usize| if operation == "cas" && lane.is_multiple_of(2) { old(lane) } else { b };
                let c = EDGES[(index + 5) % EDGES.len()];
                for lane in 0..32 {
                    memory.store(lane as u64 * u64::from(bytes), bytes, old(lane));
                    let at = SHARED_BASE as usize + lane * bytes as usize;
                    m.cluster.blocks[0].shared[at..at + bytes as usize]
                        .copy_from_slice(&old(lane).to_le_bytes()[..bytes as usize]);
                }
                m.set(&format!("{prefix}3"), |lane| u128::from(b(lane as usize)));
                m.set(&format!("{prefix}4"), |_| u128::from(c));
                m.run(&format!(
                    "atom.global.{form} {prefix}5, [%rd1], {prefix}3{third}; atom.shared.{form} {prefix}6, [%r1], {prefix}3{third};"
                ))
                .expect("no fault");
                let mask = u64::MAX >> (64 - 8 * bytes);
                for lane in 0..32 {
                    let expected = model(operation, ty, old(lane), b(lane), c);
                    let (old, b) = (old(lane) & mask, b(lane) & mask);
                    let what = format!("{form} of {old:#x} and {b:#x}");
                    assert_eq!(memory.load(lane as u64 * u64::from(bytes), bytes), expected, "{what}");
                    let at = SHARED_BASE as usize + lane * bytes as usize;
                    let mut word = [0; 8];
                    word[..bytes as usize]
                        .copy_from_slice(&m.cluster.blocks[0].shared[at..at + bytes as usize]);
                    assert_eq!(u64::from_le_bytes(word), expected, "{what}, shared");
                    assert_eq!(m.get(&format!("{prefix}5"), lane), u128::from(old), "{what}: the old value");
                    assert_eq!(
                        m.get(&format!("{prefix}6"), lane),
                        u128::from(old),
                        "{what}: the old value, shared"
                    );
                }
            }
        }
    }
}

#[test]
fn f32_sums_take_subnormal_numbers_for_zeros_in_global_memory_but_not_in_shared() {
    let tiny = f32::from_bits(1);
    let small = f32::MIN_POSITIVE;
    let cases = [
        (1.5_f32, 2.25_f32, 3.75_f32, 3.75_f32),
        (tiny, 1.0, 1.0, 1.0),
        (tiny, tiny, 0.0, f32::from_bits(2)),
        (-tiny, -tiny, -0.0, f32::from_bits(0x8000_0002)),
        (small * 1.5, -small, 0.0, small * 0.5),
        (-small * 1.5, small, -0.0, -small * 0.5),
        (small, small, small * 2.0, small * 2.0),
        (small, -small, 0.0, 0.0),
        (-0.0, -0.0, -0.0, -0.0),
        (f32::MAX, f32::MAX, f32::INFINITY, f32::INFINITY),
        (1.0, f32::EPSILON / 2.0, 1.0, 1.0),
        (1.0 + f32::EPSILON, f32::EPSILON / 2.0, 1.0 + 2.0 * f32::EPSILON, 1.0 + 2.0 * f32::EPSILON),
    ];
    for (a, b, global, shared) in cases {
        let mut m = Machine::unchecked();
        m.gv.store(0, 4, a.to_bits().into());
        m.gv.store(8, 4, a.to_bits().into());
        let at = SHARED_BASE as usize;
        m.cluster.blocks[0].shared[at..at + 4].copy_from_slice(&a.to_le_bytes());
        m.set("%f1", |_| u128::from(b.to_bits()));
        m.run_lanes(
            1,
            "atom.global.add.f32 %f2, [gv], %f1; red.global.add.v2.f32 [gv+8], {%f1, %f1}; atom.shared.add.f32 %f3, [sm], %f1;",
        )
        .expect("no fault");
        assert_eq!(m.gv.load(0, 4), u64::from(global.to_bits()), "{a:e} + {b:e}");
        assert_eq!(m.gv.load(8, 4), u64::from(global.to_bits()), "{a:e} + {b:e}, of a vector");
        assert_eq!(m.cluster.blocks[0].shared[at..at + 4], shared.to_le_bytes(), "{a:e} + {b:e}, shared");
        assert_eq!((m.get("%f2", 0), m.get("%f3", 0)), (a.to_bits().into(), a.to_bits().into()));
    }
    for (a, b) in [(f32::NAN, 1.0), (f32::INFINITY, f32::NEG_INFINITY), (-f32::NAN, f32::NAN)] {
        for flush in [false, true] {
            let add = Update { operation: Operation::Add, ty: Type::F32 };
            let sum = add.apply(a.to_bits().into(), b.to_bits().into(), 0, flush);
            assert_eq!(sum, 0x7FFF_FFFF, "{a} + {b}");
        }
    }
}

#[test]
fn zeros_have_an_order_for_min_and_max_of_16_bits() {
    for ty in [Type::F16, Type::Bf16] {
        for (a, b) in [(0, 0x8000), (0x8000, 0)] {
            assert_eq!(Update { operation: Operation::Min, ty }.apply(a, b, 0, true), 0x8000);
            assert_eq!(Update { operation: Operation::Max, ty }.apply(a, b, 0, true), 0);
        }
    }
}

#[test]
fn vectors_are_updated_element_by_element() {
    let cases: [(&str, &str, &str, u32, u32); 8] = [
        ("add", "f32", "%f", 4, 2),
        ("add", "f32", "%f", 4, 4),
        ("add.noftz", "f16", "%rs", 2, 8),
        ("min.noftz", "bf16", "%rs", 2, 4),
        ("max.noftz", "f16", "%rs", 2, 2),
        ("add.noftz", "bf16x2", "%r", 4, 4),
        ("min.noftz", "f16x2", "%r", 4, 2),
        ("max.noftz", "bf16x2", "%r", 4, 4),
    ];
    for (operation, ty, prefix, bytes, count) in cases {
        let name = operation.trim_end_matches(".noftz");
        for mask in [ALL, 0x8400_0101] {
            let mut m = Machine::unchecked();
            let memory = m.memory.allocate(512).expect("room");
            // Numbers that no flushing touches.
            let old = |at: u64| (0x3C10_3E20 + 0x11 * at) & (u64::MAX >> (64 - 8 * bytes));
            let operand = |element: u64| 0x4020_3D00 + 0x101 * element;
            let words = 32 * u64::from(count);
            for at in 0..words {
                memory.store(at * u64::from(bytes), bytes, old(at));
            }
            let size = bytes * count;
            m.set("%rd1", |lane| u128::from(memory.base + lane * u64::from(size)));
            // Sources are 1 and 2 in turns, results go to the others.
            m.set(&format!("{prefix}1"), |_| u128::from(operand(1)));
            m.set(&format!("{prefix}2"), |_| u128::from(operand(2)));
            let sources: Vec<String> = (0..count).map(|index| format!("{prefix}{}", 1 + index % 2)).collect();
            let results: Vec<String> = (0..count).map(|index| format!("{prefix}{}", 3 + index % 7)).collect();
            let (sources, results) = (sources.join(","), results.join(","));
            let form = format!("global.v{count}.{ty}.{operation}");
            m.run_lanes(mask, &format!("atom.{form} {{{results}}}, [%rd1], {{{sources}}};"))
                .expect("no fault");
            for at in 0..words {
                let (lane, element) = (at / u64::from(count), at % u64::from(count));
                let active = mask >> lane & 1 == 1;
                let new = model(name, ty, old(at), operand(1 + element % 2), 0);
                let expected = if active { new } else { old(at) };
                assert_eq!(
                    memory.load(at * u64::from(bytes), bytes),
                    expected,
                    "{form}, lane {lane}, element {element}"
                );
                if active && element < 7 && (element > 0 || count < 8) {
                    let found = m.get(&format!("{prefix}{}", 3 + element), lane as usize);
                    assert_eq!(
                        found,
                        u128::from(old(at)),
                        "{form}: the old value, lane {lane}, element {element}"
                    );
                }
            }
        }
    }
}

#[test]
fn exchange_and_comparison_of_128_bits() {
    let mut m = Machine::unchecked();
    let memory = m.memory.allocate(32).expect("room");
    let (first, second) = (7_u128 << 100 | 5, 9_u128 << 64);
    for (generic, address) in [("", memory.base), (".shared", SHARED_BASE)] {
        m.set("%rd1", |_| u128::from(address));
        m.set("%q1", |_| first);
        m.set("%q2", |_| second);
        m.run_lanes(1, &format!("atom{generic}.exch.b128 %q3, [%rd1], %q1;")).expect("no fault");
        m.run_lanes(1, &format!("atom{generic}.cas.b128 %q4, [%rd1], %q2, %q1;")).expect("no fault");
        assert_eq!(m.get("%q4", 0), first, "it is not what was expected, so it stays");
        m.run_lanes(1, &format!("atom{generic}.cas.b128 %q4, [%rd1], %q1, %q2;")).expect("no fault");
        m.run_lanes(1, &format!("ld{generic}.b128 %q5, [%rd1];")).expect("no fault");
        assert_eq!((m.get("%q4", 0), m.get("%q5", 0)), (first, second), "{generic}");
    }
}

#[test]
fn lanes_come_one_after_another_lowest_first() {
    for mask in [ALL, 0x0F00_F00F] {
        let mut m = Machine::unchecked();
        m.set("%r1", |lane| u128::from(lane + 1));
        m.cluster.blocks[0].shared[SHARED_BASE as usize..][..4].fill(0);
        m.run_lanes(mask, "atom.global.add.u32 %r2, [gv], %r1; atom.shared.add.u32 %r3, [sm], %r1; red.global.add.u32 [gv+4], 2;")
            .expect("no fault");
        let mut sum = 0;
        for lane in lanes(mask) {
            assert_eq!((m.get("%r2", lane), m.get("%r3", lane)), (sum, sum), "lane {lane}");
            sum += lane as u128 + 1;
        }
        assert_eq!(u128::from(m.gv.load(0, 4)), sum);
        assert_eq!(m.gv.load(4, 4), 2 * u64::from(mask.count_ones()));
        assert_eq!(m.cluster.counters.atomics, 3 * u64::from(mask.count_ones()));
    }
}

#[test]
fn threads_of_the_host_lose_no_update() {
    let memory = crate::memory::Memory::default();
    let allocation = memory.allocate(8).expect("room");
    let add = Update { operation: Operation::Add, ty: Type::F64 };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    super::replace(&allocation, 0, add, 1.0_f64.to_bits().into(), 0);
                }
            });
        }
    });
    assert_eq!(f64::from_bits(allocation.load(0, 8)), 4000.0);
}

#[test]
fn every_form_that_the_compiler_takes_is_taken() {
    let mut m = Machine::unchecked();
    for text in [
        "atom.global.add.u64 %rd2,[%rd1],%rd3",
        "atom.global.and.b32 %r2,[%rd1],%r3",
        "atom.add.noftz.f16 %rs2,[%rd1],%rs3",
        "atom.add.v4.f32 {%f1,%f2,%f3,%f4},[%rd1],{%f5,%f6,%f7,%f8}",
        "atom.global.v4.f32.add {%f1,%f2,%f3,%f4},[%rd1],{%f5,%f6,%f7,%f8}",
        "red.global.add.v8.noftz.bf16 [%rd1],{%rs1,%rs2,%rs3,%rs1,%rs1,%rs2,%rs3,%rs1}",
        "red.global.add.noftz.v8.bf16 [%rd1],{%rs1,%rs2,%rs3,%rs1,%rs1,%rs2,%rs3,%rs1}",
        "red.global.v4.f16x2.min.noftz [%rd1],{%r1,%r2,%r3,%r4}",
        "red.release.gpu.global.add.u32 [%rd1],%r1",
        "red.relaxed.cluster.shared::cluster.add.u32 [%r2],%r1",
        "atom.acq_rel.gpu.global.add.u32 %r2,[%rd1],%r1",
        "atom.acquire.cta.global.add.u32 %r2,[%rd1],%r1",
        "atom.acquire.global.add.u32 %r2,[%rd1],%r1",
        "atom.global.sys.add.u32 %r2,[%rd1],%r1",
        "atom.global.gpu.acquire.add.u32 %r2,[%rd1],%r1",
        "atom.global.add.u32 _,[%rd1],%r1",
        "atom.global.add.u32 %r2,[%rd1],5",
        "atom.global.add.f32 %r2,[%rd1],%r3",
        "atom.global.add.L2::cache_hint.u32 %r2,[%rd1],%r3,%rd4",
        "atom.shared::cta.add.u32 %r2,[%r1],%r3",
        "atom.shared.cas.b128 %q2,[sm],%q3,%q1",
        "red.global.inc.u32 [%rd1],%r1",
    ] {
        m.decode(&format!("{text};")).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn every_form_that_the_compiler_refuses_is_refused() {
    let mut m = Machine::unchecked();
    for text in [
        "atom.global.add.s64 %rd2,[%rd1],%rd3",
        "atom.global.add.b32 %r2,[%rd1],%r3",
        "atom.global.and.u32 %r2,[%rd1],%r3",
        "atom.global.exch.u32 %r2,[%rd1],%r3",
        "atom.global.exch.b16 %rs2,[%rd1],%rs3",
        "atom.global.cas.u32 %r2,[%rd1],%r3,%r1",
        "atom.global.cas.b32 %r2,[%rd1],%r3",
        "atom.global.inc.s32 %r2,[%rd1],%r3",
        "atom.global.inc.u64 %rd2,[%rd1],%rd3",
        "atom.global.min.f32 %f2,[%rd1],%f3",
        "atom.global.add.f16 %rs2,[%rd1],%rs3",
        "atom.global.add.noftz.f32 %f2,[%rd1],%f3",
        "atom.global.min.noftz.f16 %rs2,[%rd1],%rs3",
        "atom.shared.max.noftz.bf16x2 %r2,[sm],%r3",
        "atom.shared.add.v4.f32 {%f1,%f2,%f3,%f4},[sm],{%f5,%f6,%f7,%f8}",
        "red.global.v8.f16x2.min.noftz [%rd1],{%r1,%r2,%r3,%r4,%r1,%r2,%r3,%r4}",
        "red.global.v2.f32.min [%rd1],{%f1,%f2}",
        "red.global.v2.u32.add [%rd1],{%r1,%r2}",
        "red.global.v2.f64.add [%rd1],{%fd1,%fd2}",
        "red.global.v2.f32.add [%rd1],%f1",
        "red.global.v2.f32.add [%rd1],{%f1,%f2,%f3}",
        "red.global.exch.b32 [%rd1],%r1",
        "red.global.cas.b32 [%rd1],%r1,%r2",
        "red.acquire.gpu.global.add.u32 [%rd1],%r1",
        "red.acq_rel.gpu.global.add.u32 [%rd1],%r1",
        "atom.volatile.global.add.u32 %r2,[%rd1],%r1",
        "atom.global.add.u32 %r2,[%rd1],%rd3",
        "atom.global.cas.L2::cache_hint.b32 %r2,[%rd1],%r3,%r4,%rd4",
        "atom.local.add.u32 %r2,[%r1],%r3",
        "atom.const.add.u32 %r2,[cv],%r3",
        "atom.global.add.u16 %rs2,[%rd1],%rs3",
        "atom.global.u32 %r2,[%rd1],%r3",
    ] {
        match m.decode(&format!("{text};")) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => {
                assert!(matches!(error.kind, ErrorKind::Invalid | ErrorKind::Unsupported), "{error}")
            }
        }
    }
}
