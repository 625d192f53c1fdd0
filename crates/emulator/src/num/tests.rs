//! Rounding against the processor, against integers of any size, and one way against the other.

use std::cmp::Ordering;

use half::{bf16, f16};

use super::exact::{Finite, Value, add, convert, div, fma, mul, sqrt};
use super::fast::{self, directed};
use super::{BF16, E4M3, E5M2, F16, F32, F64, Format, Rounding, TF32, approx};
use crate::exec::one_warp::Random;

const DIRECTED: [Rounding; 3] = [Rounding::Zero, Rounding::Down, Rounding::Up];

fn same32(a: f32, bits: u64) -> bool {
    if a.is_nan() { bits == F32.nan } else { u64::from(a.to_bits()) == bits }
}

fn same64(a: f64, bits: u64) -> bool {
    if a.is_nan() { bits == F64.nan } else { a.to_bits() == bits }
}

#[test]
fn exact_to_nearest_is_what_the_processor_computes_in_f32() {
    let mut random = Random(1);
    for _ in 0..300_000 {
        let [x, y, z] = [(); 3].map(|()| random.float(8, 23));
        let [a, b, c] = [x, y, z].map(|bits| f32::from_bits(bits as u32));
        let nearest = Rounding::Nearest;
        assert!(same32(a + b, add(F32, x, y, nearest)), "{a} + {b}");
        assert!(same32(a * b, mul(F32, x, y, nearest)), "{a} * {b}");
        assert!(same32(a / b, div(F32, x, y, nearest)), "{a} / {b}");
        assert!(same32(a.sqrt(), sqrt(F32, x, nearest)), "sqrt {a}");
        assert!(same32(a.mul_add(b, c), fma(F32, x, y, z, nearest)), "{a} * {b} + {c}");
    }
}

#[test]
fn exact_to_nearest_is_what_the_processor_computes_in_f64() {
    let mut random = Random(2);
    for _ in 0..300_000 {
        let [x, y, z] = [(); 3].map(|()| random.float(11, 52));
        let [a, b, c] = [x, y, z].map(f64::from_bits);
        let nearest = Rounding::Nearest;
        assert!(same64(a + b, add(F64, x, y, nearest)), "{a} + {b}");
        assert!(same64(a * b, mul(F64, x, y, nearest)), "{a} * {b}");
        assert!(same64(a / b, div(F64, x, y, nearest)), "{a} / {b}");
        assert!(same64(a.sqrt(), sqrt(F64, x, nearest)), "sqrt {a}");
        assert!(same64(a.mul_add(b, c), fma(F64, x, y, z, nearest)), "{a} * {b} + {c}");
        let narrow = convert(F64, F32, x, nearest, false);
        assert!(same32(a as f32, narrow), "{a} to f32");
    }
}

/// An integer of any size.
#[derive(Clone, PartialEq, Eq)]
struct Big {
    negative: bool,
    /// Lowest first, without zeros at the end.
    words: Vec<u32>,
}

impl Big {
    /// A float times 2^1074, which is an integer.
    fn of(x: f64) -> Big {
        let bits = x.to_bits();
        let (field, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
        let (significand, shift) = if field == 0 { (fraction, 0) } else { (fraction | 1 << 52, field - 1) };
        let mut words = vec![0; shift as usize / 32];
        let shifted = u128::from(significand) << (shift % 32);
        words.extend([shifted as u32, (shifted >> 32) as u32, (shifted >> 64) as u32]);
        Big { negative: x.is_sign_negative(), words }.trimmed()
    }

    fn trimmed(mut self) -> Big {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
        self.negative &= !self.words.is_empty();
        self
    }

    fn times(&self, other: &Big) -> Big {
        let mut words = vec![0u32; self.words.len() + other.words.len()];
        for (i, a) in self.words.iter().enumerate() {
            let mut carry = 0u64;
            for (j, b) in other.words.iter().enumerate() {
                let sum = u64::from(words[i + j]) + u64::from(*a) * u64::from(*b) + carry;
                words[i + j] = sum as u32;
                carry = sum >> 32;
            }
            words[i + other.words.len()] = carry as u32;
        }
        Big { negative: self.negative != other.negative, words }.trimmed()
    }

    fn magnitude(&self, other: &Big) -> Ordering {
        let by_len = self.words.len().cmp(&other.words.len());
        by_len.then_with(|| self.words.iter().rev().cmp(other.words.iter().rev()))
    }

    fn compare(&self, other: &Big) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
        }
    }

    fn plus(&self, other: &Big) -> Big {
        let (large, small) =
            if self.magnitude(other) == Ordering::Less { (other, self) } else { (self, other) };
        let subtract = large.negative != small.negative;
        let mut words = Vec::with_capacity(large.words.len() + 1);
        let mut carry = 0i64;
        for (i, word) in large.words.iter().enumerate() {
            let other = i64::from(small.words.get(i).copied().unwrap_or(0));
            let sum = i64::from(*word) + carry + if subtract { -other } else { other };
            words.push(sum as u32);
            carry = sum >> 32;
        }
        words.push(carry as u32);
        Big { negative: large.negative, words }.trimmed()
    }
}

/// Whether `result` is the number that a directed rounding asks for. `than` compares a candidate with the exact result; the
/// candidates above and below are those of the format.
fn is_rounded(
    rounding: Rounding,
    result: f64,
    below: f64,
    above: f64,
    mut than: impl FnMut(f64) -> Ordering,
) -> bool {
    let mut than = |x: f64| {
        if x == f64::INFINITY {
            Ordering::Greater
        } else if x == f64::NEG_INFINITY {
            Ordering::Less
        } else {
            than(x)
        }
    };
    let here = than(result);
    let towards_zero_is_down = !result.is_sign_negative();
    let down = match rounding {
        Rounding::Down => true,
        Rounding::Up => false,
        _ => towards_zero_is_down,
    };
    if down {
        here != Ordering::Greater && than(above) == Ordering::Greater
    } else {
        here != Ordering::Less && than(below) == Ordering::Less
    }
}

/// Checks the directed roundings of one format: `float` makes a value of bits, `bits` of a value.
fn directed_roundings(
    format: Format,
    seed: u64,
    cases: u32,
    next: fn(f64, bool) -> f64,
    value: fn(u64) -> f64,
) {
    let mut random = Random(seed);
    let one = Big::of(1.0);
    let mut checked = 0;
    while checked < cases {
        let [x, y, z] = [(); 3].map(|()| random.float(format.exponent, format.fraction));
        let [a, b, c] = [x, y, z].map(value);
        if !(a.is_finite() && b.is_finite() && c.is_finite()) {
            continue;
        }
        checked += 1;
        let (big_a, big_b, big_c) = (Big::of(a), Big::of(b), Big::of(c));
        let product = big_a.times(&big_b);
        let fused = product.plus(&big_c.times(&one));
        for rounding in DIRECTED {
            let check = |what: &str, result: u64, than: &mut dyn FnMut(f64) -> Ordering| {
                let result = value(result);
                let good = is_rounded(rounding, result, next(result, false), next(result, true), than);
                assert!(good, "{what} of {a:e}, {b:e}, {c:e} {rounding:?} is not {result:e}");
            };
            let sum = add(format, x, y, rounding);
            check("sum", sum, &mut |r| Big::of(r).compare(&big_a.plus(&big_b)));
            // Products have a unit of 2^-2148, sums of 2^-1074.
            let r = mul(format, x, y, rounding);
            check("product", r, &mut |r| Big::of(r).times(&one).compare(&product));
            let r = fma(format, x, y, z, rounding);
            check("fma", r, &mut |r| Big::of(r).times(&one).compare(&fused));
            if b != 0.0 {
                let r = div(format, x, y, rounding);
                check("quotient", r, &mut |r| {
                    let order = Big::of(r).times(&big_b).compare(&big_a.times(&one));
                    if b < 0.0 { order.reverse() } else { order }
                });
            }
            if a >= 0.0 {
                let r = sqrt(format, x, rounding);
                check("root", r, &mut |r| {
                    let square = Big::of(r).times(&Big::of(r)).compare(&big_a.times(&one));
                    if r < 0.0 { Ordering::Less } else { square }
                });
            }
        }
    }
}

#[test]
fn directed_roundings_of_f64_are_next_to_the_exact_result() {
    let next = |x: f64, up: bool| if up { x.next_up() } else { x.next_down() };
    directed_roundings(F64, 3, 1000, next, f64::from_bits);
}

#[test]
fn directed_roundings_of_f32_are_next_to_the_exact_result() {
    let next = |x: f64, up: bool| {
        let x = x as f32;
        f64::from(if up { x.next_up() } else { x.next_down() })
    };
    directed_roundings(F32, 4, 3000, next, |bits| f64::from(f32::from_bits(bits as u32)));
}

#[test]
fn zeros_of_exact_sums_have_the_sign_that_the_rounding_gives() {
    let (one, minus) = (1.0f64.to_bits(), (-1.0f64).to_bits());
    let (zero, minus_zero) = (0, (-0.0f64).to_bits());
    for rounding in [Rounding::Nearest, Rounding::Zero, Rounding::Up] {
        assert_eq!(add(F64, one, minus, rounding), zero);
        assert_eq!(add(F64, zero, minus_zero, rounding), zero);
        assert_eq!(add(F64, minus_zero, minus_zero, rounding), minus_zero);
    }
    assert_eq!(add(F64, one, minus, Rounding::Down), minus_zero);
    assert_eq!(add(F64, zero, minus_zero, Rounding::Down), minus_zero);
    assert_eq!(add(F64, zero, zero, Rounding::Down), zero);
    assert_eq!(fma(F64, one, minus, one, Rounding::Down), minus_zero);
}

#[test]
fn fast_directed_roundings_of_f32_are_the_exact_ones() {
    fn check<const MODE: u8>(seed: u64) {
        let rounding = directed::rounding(MODE);
        let mut random = Random(seed);
        for _ in 0..200_000 {
            let [x, y, z] = [(); 3].map(|()| random.float(8, 23));
            // A third of the sums nearly cancel.
            let z = if random.bits().is_multiple_of(3) {
                let product = mul(F32, x, y, Rounding::Nearest) ^ F32.sign();
                product.wrapping_add(random.bits() % 3).wrapping_sub(1) & 0xffff_ffff
            } else {
                z
            };
            let [a, b, c] = [x, y, z].map(|bits| f32::from_bits(bits as u32));
            let same = |what: &str, fast: f32, exact: u64| {
                assert!(
                    same32(fast, exact),
                    "{what} of {a:e}, {b:e}, {c:e} {rounding:?}: {fast:e}, not {exact:#x}"
                );
            };
            same("sum", fast::add::<MODE>(a, b), add(F32, x, y, rounding));
            same("product", fast::mul::<MODE>(a, b), mul(F32, x, y, rounding));
            same("quotient", fast::div::<MODE>(a, b), div(F32, x, y, rounding));
            same("root", fast::sqrt::<MODE>(a), sqrt(F32, x, rounding));
            same("fma", fast::fma::<MODE>(a, b, c), fma(F32, x, y, z, rounding));
        }
    }
    check::<{ directed::NEAREST }>(5);
    check::<{ directed::ZERO }>(6);
    check::<{ directed::DOWN }>(7);
    check::<{ directed::UP }>(8);
}

#[test]
fn every_f16_and_bf16_has_the_value_that_half_gives_it() {
    for bits in 0..=u16::MAX {
        let (ours, theirs) = (fast::f16_to_f32(bits), f16::from_bits(bits).to_f32());
        assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "f16 {bits:#x}");
        assert_eq!(ours.is_sign_negative(), bits >> 15 == 1, "f16 {bits:#x}");
        let (ours, theirs) = (fast::bf16_to_f32(bits), bf16::from_bits(bits).to_f32());
        assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "bf16 {bits:#x}");
        let exact = convert(F16, F32, bits.into(), Rounding::Nearest, false);
        assert!(same32(fast::f16_to_f32(bits), exact), "f16 {bits:#x}");
    }
}

/// f32 at, just below and just above every f16 (or bf16) and every middle between two.
fn around(value: impl Fn(u16) -> f32) -> impl Iterator<Item = f32> {
    (0..=u16::MAX).flat_map(move |bits| {
        let (here, next) = (value(bits), value(bits.wrapping_add(1)));
        let middle = if next.is_finite() { here / 2.0 + next / 2.0 } else { here * 1.001 };
        [here, here.next_up(), here.next_down(), middle, middle.next_up(), middle.next_down()]
    })
}

#[test]
fn f32_is_rounded_to_f16_and_bf16_as_half_does_around_every_value_and_every_tie() {
    let mut random = Random(9);
    let any = std::iter::from_fn(move || Some(f32::from_bits(random.float(8, 23) as u32))).take(300_000);
    let halves =
        around(|bits| f16::from_bits(bits).to_f32()).chain(around(|bits| bf16::from_bits(bits).to_f32()));
    for x in halves.chain(any) {
        let (half, brain) = (f16::from_f32(x), bf16::from_f32(x));
        let (half, brain) = if x.is_nan() { (0x7fff, 0x7fff) } else { (half.to_bits(), brain.to_bits()) };
        assert_eq!(fast::f32_to_f16(x), half, "{x:e} to f16");
        assert_eq!(fast::f32_to_bf16(x), brain, "{x:e} to bf16");
        let bits = x.to_bits().into();
        assert_eq!(convert(F32, F16, bits, Rounding::Nearest, false), half.into(), "{x:e} to f16");
        assert_eq!(convert(F32, BF16, bits, Rounding::Nearest, false), brain.into(), "{x:e} to bf16");
        let cut = convert(F32, BF16, bits, Rounding::Zero, false);
        assert_eq!(u64::from(fast::f32_to_bf16_rz(x)), cut, "{x:e} to bf16, cut");
    }
}

#[test]
fn f32_is_rounded_in_every_direction_to_the_neighbours_of_f16() {
    for x in around(|bits| f16::from_bits(bits).to_f32()).filter(|x| x.is_finite()) {
        let to = |rounding| fast::f16_to_f32(convert(F32, F16, x.to_bits().into(), rounding, false) as u16);
        let (down, up, cut, away) =
            (to(Rounding::Down), to(Rounding::Up), to(Rounding::Zero), to(Rounding::NearestAway));
        assert!(down <= x && x <= up, "{x:e}: {down:e} {up:e}");
        // Neighbours, or the value itself.
        let next = f16::from_f32(down).to_bits();
        let next = if down < 0.0 || down == 0.0 && down.is_sign_negative() {
            next.wrapping_sub(1)
        } else {
            next + 1
        };
        let smallest = if down == 0.0 { fast::f16_to_f32(1) } else { fast::f16_to_f32(next) };
        assert!(down == x && up == x || up == smallest || up == 0.0, "{x:e}: {down:e} {up:e}");
        assert_eq!(cut, if x < 0.0 { up } else { down }, "{x:e} cut");
        if down.is_finite() && up.is_finite() {
            let (below, above) = (f64::from(x) - f64::from(down), f64::from(up) - f64::from(x));
            let far = if x < 0.0 { down } else { up };
            let expected = match below.partial_cmp(&above) {
                Some(Ordering::Less) => down,
                Some(Ordering::Greater) => up,
                _ => far,
            };
            assert_eq!(away, expected, "{x:e} to nearest, away");
        }
    }
}

#[test]
fn fma_of_f16_and_bf16_is_rounded_once() {
    let mut random = Random(10);
    for _ in 0..400_000 {
        let [a, b, c] = [(); 3].map(|()| random.float(5, 10) as u16);
        let exact = fma(F16, a.into(), b.into(), c.into(), Rounding::Nearest);
        assert_eq!(u64::from(fast::fma_f16(a, b, c)), exact, "f16 {a:#x} {b:#x} {c:#x}");
        let [a, b, c] = [(); 3].map(|()| random.float(8, 7) as u16);
        let exact = fma(BF16, a.into(), b.into(), c.into(), Rounding::Nearest);
        assert_eq!(u64::from(fast::fma_bf16(a, b, c)), exact, "bf16 {a:#x} {b:#x} {c:#x}");
    }
}

#[test]
fn a_tie_of_bf16_is_broken_by_what_is_far_below_it() {
    // 1.0078125 · 1.0078125 = 1 + 2^-6 + 2^-14; (1 + 2^-7) · 1.5 = 1.5 + 2^-7 + 2^-8 is a tie.
    let (a, b) = (0x3f81, 0x3fc0);
    let tiny = 0x0080;
    assert_eq!(fast::fma_bf16(a, b, tiny), 0x3fc2);
    assert_eq!(fast::fma_bf16(a, b, tiny | 0x8000), 0x3fc1);
    assert_eq!(fast::fma_bf16(a, b, 0), 0x3fc2);
}

/// The value of an 8-bit float by its definition.
fn eight_bit(bits: u8, exponent: u32, fraction: u32) -> f64 {
    let bias = (1 << (exponent - 1)) - 1;
    let field = i32::from(bits >> fraction) & ((1 << exponent) - 1);
    let part = f64::from(bits & ((1 << fraction) - 1)) / f64::from(1 << fraction);
    let magnitude =
        if field == 0 { part * 2f64.powi(1 - bias) } else { (1.0 + part) * 2f64.powi(field - bias) };
    if bits & 0x80 != 0 { -magnitude } else { magnitude }
}

#[test]
fn every_e4m3_and_e5m2_has_the_value_of_its_definition() {
    for bits in 0..=u8::MAX {
        for (format, exponent, fraction, largest) in [(E4M3, 4, 3, 448.0), (E5M2, 5, 2, 57344.0)] {
            let value = f64::from_bits(convert(format, F64, bits.into(), Rounding::Nearest, false));
            let by_definition = eight_bit(bits, exponent, fraction);
            if by_definition.abs() <= largest {
                assert_eq!(value.to_bits(), by_definition.to_bits(), "{bits:#x}");
            } else if exponent == 5 && bits & 3 == 0 {
                assert!(value.is_infinite(), "{bits:#x}");
            } else {
                assert!(value.is_nan(), "{bits:#x}");
            }
        }
    }
}

#[test]
fn f32_becomes_the_nearest_e4m3_and_e5m2_and_never_more_than_the_largest() {
    let mut random = Random(11);
    let values = |exponent, fraction, largest: f64| -> Vec<(u8, f64)> {
        let all = (0..=0x7fu8).map(|bits| (bits, eight_bit(bits, exponent, fraction)));
        all.filter(|(_, value)| *value <= largest).collect()
    };
    for (format, values) in [(E4M3, values(4, 3, 448.0)), (E5M2, values(5, 2, 57344.0))] {
        let ties = values.windows(2).map(|pair| ((pair[0].1 + pair[1].1) / 2.0) as f32);
        let ties = ties.flat_map(|tie| [tie, tie.next_up(), tie.next_down()]);
        let any = (0..5000).map(|_| f32::from_bits(random.float(8, 23) as u32)).filter(|x| !x.is_nan());
        let near = (0..5000).map(|n| n as f32 * 0.37 - 900.0);
        for x in ties.chain(any).chain(near).collect::<Vec<_>>() {
            let bits = convert(F32, format, x.to_bits().into(), Rounding::Nearest, true) as u8;
            assert_eq!(bits >> 7 == 1, x.is_sign_negative(), "{x:e}");
            let distance = |value: f64| (value - f64::from(x).abs().min(1e6)).abs();
            let best = values.iter().map(|(_, value)| distance(*value)).fold(f64::INFINITY, f64::min);
            let mut nearest =
                values.iter().filter(|(_, value)| distance(*value) == best).map(|(bits, _)| *bits);
            let (first, second) = (nearest.next().expect("one"), nearest.next());
            let expected = match second {
                Some(second) if first & 1 == 1 => second,
                _ => first,
            };
            assert_eq!(bits & 0x7f, expected, "{x:e}");
        }
        assert_eq!(convert(F32, format, F32.nan, Rounding::Nearest, true), 0x7f);
    }
}

#[test]
fn formats_have_the_limits_of_their_definitions() {
    assert_eq!(f32::MAX.to_bits(), F32.max() as u32);
    assert_eq!(f32::INFINITY.to_bits(), F32.infinity() as u32);
    assert_eq!(f64::MAX.to_bits(), F64.max());
    assert_eq!(f16::MAX.to_bits(), F16.max() as u16);
    assert_eq!(bf16::MAX.to_bits(), BF16.max() as u16);
    assert_eq!((E4M3.max(), E4M3.one()), (0x7e, 0x38));
    assert_eq!((E5M2.max(), E5M2.infinity(), E5M2.one()), (0x7b, 0x7c, 0x3c));
    assert_eq!((TF32.max(), TF32.one(), TF32.bits()), (0x7f7f_e000, 0x3f80_0000, 32));
    for format in [F16, BF16, TF32, F32, F64, E4M3, E5M2] {
        assert!(format.is_nan(format.nan) && !format.is_nan(format.max()));
        assert_eq!(format.is_nan(format.infinity()), !format.infinities);
    }
}

#[test]
fn numbers_become_integers_in_every_rounding() {
    let cases = [
        (2.5, [2, 3, 2, 2, 3]),
        (-2.5, [-2, -3, -2, -3, -2]),
        (-0.25, [0, 0, 0, -1, 0]),
        (0.75, [1, 1, 0, 0, 1]),
        (3.0, [3; 5]),
        (-1e20, [-100_000_000_000_000_000_000; 5]),
        (1e300, [1 << 100; 5]),
        (f64::from_bits(1), [0, 0, 0, 0, 1]),
    ];
    let roundings = [Rounding::Nearest, Rounding::NearestAway, Rounding::Zero, Rounding::Down, Rounding::Up];
    for (x, expected) in cases {
        let Value::Finite(finite) = Value::decode(F64, x.to_bits()) else { panic!("{x} is finite") };
        for (rounding, expected) in roundings.into_iter().zip(expected) {
            assert_eq!(finite.to_integer(rounding), expected, "{x} {rounding:?}");
        }
    }
    assert_eq!(Finite::integer(i128::from(i64::MIN)).to_integer(Rounding::Down), i128::from(i64::MIN));
}

/// The largest of `error` over a dense sweep of f32 between two numbers.
fn sweep(from: f32, to: f32, error: impl Fn(f32) -> f64) -> f64 {
    let steps = 200_000;
    let step = (f64::from(to) - f64::from(from)) / f64::from(steps);
    (0..=steps).map(|n| error((f64::from(from) + f64::from(n) * step) as f32)).fold(0.0, f64::max)
}

fn relative(ours: f32, truth: f64) -> f64 {
    if truth == 0.0 { f64::from(ours).abs() } else { ((f64::from(ours) - truth) / truth).abs() }
}

/// Half a unit in the last place of an f32, and a hair: nothing that is rounded to f32 is nearer.
const HALF: f64 = 6.0e-8;

#[test]
fn ex2_is_within_a_unit_of_the_last_place_over_its_whole_range() {
    assert!(sweep(-126.0, 127.99, |x| relative(approx::ex2(x), f64::from(x).exp2())) < HALF);
    // Subnormal results: a fraction of the smallest.
    let smallest = f64::from(f32::from_bits(1));
    let error = sweep(-150.0, -126.0, |x| (f64::from(approx::ex2(x)) - f64::from(x).exp2()).abs());
    assert!(error < 0.51 * smallest, "{error}");
    assert_eq!(approx::ex2(0.0), 1.0);
    assert_eq!(approx::ex2(-0.0), 1.0);
    assert_eq!((approx::ex2(128.0), approx::ex2(f32::INFINITY)), (f32::INFINITY, f32::INFINITY));
    assert_eq!(approx::ex2(f32::NEG_INFINITY).to_bits(), 0);
    assert_eq!(approx::ex2(-151.0).to_bits(), 0);
    assert_eq!(approx::ex2(f32::MIN).to_bits(), 0);
    assert_eq!(approx::ex2(-f32::NAN).to_bits(), 0x7fff_ffff);
    for n in -149..128 {
        assert_eq!(f64::from(approx::ex2(n as f32)), f64::from(n).exp2(), "2^{n}");
    }
}

#[test]
fn lg2_is_within_its_bounds() {
    let bound = 2f64.powi(-22);
    assert!(sweep(0.5, 2.0, |x| (f64::from(approx::lg2(x)) - f64::from(x).log2()).abs()) < bound);
    assert!(sweep(2.0, 1e6, |x| relative(approx::lg2(x), f64::from(x).log2())) < HALF);
    assert!(sweep(1e-38, 0.5, |x| relative(approx::lg2(x), f64::from(x).log2())) < HALF);
    for n in -149..128 {
        assert_eq!(approx::lg2(2f64.powi(n) as f32), n as f32);
    }
    assert_eq!((approx::lg2(0.0), approx::lg2(-0.0)), (f32::NEG_INFINITY, f32::NEG_INFINITY));
    assert_eq!(approx::lg2(f32::INFINITY), f32::INFINITY);
    for x in [-1.0, f32::NEG_INFINITY, f32::NAN, -f32::from_bits(1)] {
        assert_eq!(approx::lg2(x).to_bits(), 0x7fff_ffff, "{x}");
    }
}

#[test]
fn sin_and_cos_are_within_their_bounds_near_and_far() {
    use std::f32::consts::{PI, TAU};
    let error = |ours: fn(f32) -> f32, truth: fn(f64) -> f64| {
        move |x: f32| (f64::from(ours(x)) - truth(f64::from(x))).abs()
    };
    let near = 2f64.powf(-20.5);
    assert!(sweep(-TAU, TAU, error(approx::sin, f64::sin)) < near);
    assert!(sweep(-TAU, TAU, error(approx::cos, f64::cos)) < near);
    let far = 2f64.powf(-14.7);
    assert!(sweep(-100.0 * PI, 100.0 * PI, error(approx::sin, f64::sin)) < far);
    assert!(sweep(-100.0 * PI, 100.0 * PI, error(approx::cos, f64::cos)) < far);
    assert_eq!((approx::sin(0.0).to_bits(), approx::sin(-0.0).to_bits()), (0, 0x8000_0000));
    assert_eq!(approx::cos(0.0), 1.0);
    for x in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        assert_eq!((approx::sin(x).to_bits(), approx::cos(x).to_bits()), (0x7fff_ffff, 0x7fff_ffff));
    }
    assert!(approx::sin(1e30).abs() <= 1.0 && approx::cos(-3e38).abs() <= 1.0);
}

#[test]
fn tanh_and_rsqrt_are_within_a_unit_of_the_last_place() {
    assert!(sweep(-12.0, 12.0, |x| relative(approx::tanh(x), f64::from(x).tanh())) < HALF);
    assert!(sweep(-0.03, 0.03, |x| relative(approx::tanh(x), f64::from(x).tanh())) < HALF);
    let small = f32::from_bits(0x0000_1234);
    assert_eq!((approx::tanh(small), approx::tanh(-small)), (small, -small));
    assert_eq!((approx::tanh(f32::INFINITY), approx::tanh(f32::MIN)), (1.0, -1.0));
    assert_eq!(approx::tanh(-0.0).to_bits(), 0x8000_0000);
    assert_eq!(approx::tanh(f32::NAN).to_bits(), 0x7fff_ffff);
    assert!(sweep(1e-38, 1e-37, |x| relative(approx::rsqrt(x), f64::from(x).powf(-0.5))) < HALF);
    assert!(sweep(0.01, 1e5, |x| relative(approx::rsqrt(x), f64::from(x).powf(-0.5))) < HALF);
    assert_eq!((approx::rsqrt(0.0), approx::rsqrt(-0.0)), (f32::INFINITY, f32::NEG_INFINITY));
    assert_eq!(approx::rsqrt(f32::INFINITY).to_bits(), 0);
    assert_eq!(approx::rsqrt(-1.0).to_bits(), 0x7fff_ffff);
}

#[test]
fn a_result_is_flushed_and_clamped_with_its_sign() {
    let small = f32::from_bits(0x007f_ffff);
    assert_eq!(fast::flush(small).to_bits(), 0);
    assert_eq!(fast::flush(-small).to_bits(), 0x8000_0000);
    assert_eq!(fast::flush(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
    assert_eq!(fast::saturate(-0.0).to_bits(), 0);
    assert_eq!((fast::saturate(f32::NAN), fast::saturate(7.0), fast::saturate(0.25)), (0.0, 1.0, 0.25));
    assert_eq!(fast::relu(-0.0).to_bits(), 0);
    assert!(fast::relu(f32::NAN).is_nan());
    assert_eq!((fast::flush_f16(0x83ff), fast::flush_f16(0x0400)), (0x8000, 0x0400));
    assert_eq!((fast::flush_bf16(0x807f), fast::flush_bf16(0x0080)), (0x8000, 0x0080));
}
