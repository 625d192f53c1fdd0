//! f16 and bf16 against f64 and `half`: every value alone, random pairs and triples, single and packed.

use half::{bf16, f16};

use super::super::one_warp::{OneWarp, Random, Values, over, try_over};
use crate::num::{BF16, F16, Format, Rounding, exact};
use crate::ptx::Type;

/// One of the two formats.
#[derive(Clone, Copy)]
struct Half {
    name: &'static str,
    single: Type,
    packed: Type,
    format: Format,
}

const HALVES: [Half; 2] = [
    Half { name: "f16", single: Type::F16, packed: Type::F16x2, format: F16 },
    Half { name: "bf16", single: Type::Bf16, packed: Type::Bf16x2, format: BF16 },
];

impl Half {
    fn value(self, bits: u64) -> f64 {
        match self.single {
            Type::F16 => f16::from_bits(bits as u16).to_f64(),
            _ => bf16::from_bits(bits as u16).to_f64(),
        }
    }

    fn random(self, random: &mut Random) -> Values {
        random.row(|random| random.float(self.format.exponent, self.format.fraction))
    }

    fn is_nan(self, bits: u64) -> bool {
        self.format.is_nan(bits)
    }

    fn flush(self, bits: u64) -> u64 {
        if bits & self.format.infinity() == 0 { bits & 0x8000 } else { bits }
    }
}

/// Checks an instruction, single and packed, over `rounds` rows of random sources.
fn check(half: Half, op: &str, count: usize, rounds: u32, expected: impl Fn(&[u64]) -> u64) {
    let mut random = Random(op.len() as u64);
    for _ in 0..rounds {
        let low: Vec<Values> = (0..count).map(|_| half.random(&mut random)).collect();
        let high: Vec<Values> = (0..count).map(|_| half.random(&mut random)).collect();
        let sources: Vec<_> = low.iter().map(|row| (Type::B16, row)).collect();
        let result = over(&format!("{op}.{}", half.name), Type::B16, &sources, u32::MAX);
        let words: Vec<Values> = low
            .iter()
            .zip(&high)
            .map(|(low, high)| std::array::from_fn(|i| low[i] | high[i] << 16))
            .collect();
        let sources: Vec<_> = words.iter().map(|row| (Type::B32, row)).collect();
        let pairs = over(&format!("{op}.{}x2", half.name), Type::B32, &sources, 0x7fff_ffff);
        for lane in 0..32 {
            let bits = |rows: &[Values]| rows.iter().map(|row| row[lane]).collect::<Vec<_>>();
            let (low, high) = (bits(&low), bits(&high));
            let (expected_low, expected_high) = (expected(&low), expected(&high));
            assert_eq!(result[lane], expected_low, "{op}.{} of {low:x?}", half.name);
            if lane < 31 {
                assert_eq!(
                    pairs[lane],
                    expected_low | expected_high << 16,
                    "{op}.{}x2 of {low:x?}, {high:x?}",
                    half.name
                );
            }
        }
    }
}

#[test]
fn sums_and_products_are_rounded_once_and_nan_is_canonical() {
    for half in HALVES {
        // f64 holds sums and products of two f16 or the products of two bf16 exactly; a bf16 sum is rounded to odd there.
        let nearest = Rounding::Nearest;
        let format = half.format;
        for op in ["add", "add.rn"] {
            check(half, op, 2, 1000, |x| exact::add(format, x[0], x[1], nearest));
        }
        check(half, "sub", 2, 1000, |x| exact::add(format, x[0], x[1] ^ 0x8000, nearest));
        check(half, "mul.rn", 2, 1000, |x| exact::mul(format, x[0], x[1], nearest));
        check(half, "fma.rn", 3, 2000, |x| exact::fma(format, x[0], x[1], x[2], nearest));
        check(half, "fma.rn.relu", 3, 1000, |x| {
            let bits = exact::fma(format, x[0], x[1], x[2], nearest);
            if bits & 0x8000 != 0 { 0 } else { bits }
        });
    }
}

#[test]
fn sums_and_products_of_f16_are_those_of_half_through_f64() {
    check(HALVES[0], "add", 2, 1000, |x| {
        let sum = f16::from_f64(HALVES[0].value(x[0]) + HALVES[0].value(x[1]));
        if sum.is_nan() { 0x7fff } else { sum.to_bits().into() }
    });
    check(HALVES[0], "mul", 2, 1000, |x| {
        let product = f16::from_f64(HALVES[0].value(x[0]) * HALVES[0].value(x[1]));
        if product.is_nan() { 0x7fff } else { product.to_bits().into() }
    });
}

#[test]
fn f16_is_flushed_and_clamped_where_asked() {
    let half = HALVES[0];
    let (format, nearest) = (half.format, Rounding::Nearest);
    let clamp = |bits: u64| {
        let value = half.value(bits);
        if value > 1.0 {
            0x3c00
        } else if value > 0.0 {
            bits
        } else {
            0
        }
    };
    check(half, "add.ftz", 2, 500, |x| {
        half.flush(exact::add(format, half.flush(x[0]), half.flush(x[1]), nearest))
    });
    check(half, "mul.ftz.sat", 2, 500, |x| {
        clamp(half.flush(exact::mul(format, half.flush(x[0]), half.flush(x[1]), nearest)))
    });
    check(half, "sub.sat", 2, 500, |x| clamp(exact::add(format, x[0], x[1] ^ 0x8000, nearest)));
    check(half, "fma.rn.ftz.sat", 3, 500, |x| {
        clamp(half.flush(exact::fma(format, half.flush(x[0]), half.flush(x[1]), half.flush(x[2]), nearest)))
    });
    check(half, "neg.ftz", 1, 100, |x| half.flush(x[0]) ^ 0x8000);
    check(half, "abs.ftz", 1, 100, |x| half.flush(x[0]) & 0x7fff);
}

#[test]
fn every_value_is_negated_and_made_absolute_by_its_sign_bit_alone() {
    for half in HALVES {
        for start in (0..=u16::MAX).step_by(32) {
            let row: Values = std::array::from_fn(|lane| u64::from(start) + lane as u64);
            let negated = over(&format!("neg.{}", half.name), half.single, &[(half.single, &row)], u32::MAX);
            let absolute = over(&format!("abs.{}", half.name), half.single, &[(half.single, &row)], u32::MAX);
            for lane in 0..32 {
                assert_eq!(negated[lane], row[lane] ^ 0x8000);
                assert_eq!(absolute[lane], row[lane] & 0x7fff);
            }
        }
    }
}

#[test]
fn extremes_prefer_numbers_to_nan_and_know_minus_zero() {
    for half in HALVES {
        for (name, max) in [("min", false), ("max", true)] {
            let pick = |a: u64, b: u64| {
                // By value, then by sign: -0 is below +0.
                let key = |bits: u64| (half.value(bits), bits & 0x8000 == 0);
                if (key(a) < key(b)) == max { b } else { a }
            };
            check(half, name, 2, 1000, |x| match (half.is_nan(x[0]), half.is_nan(x[1])) {
                (true, true) => 0x7fff,
                (true, false) => x[1],
                (false, true) => x[0],
                _ => pick(x[0], x[1]),
            });
            check(half, &format!("{name}.NaN"), 2, 1000, |x| {
                if half.is_nan(x[0]) || half.is_nan(x[1]) { 0x7fff } else { pick(x[0], x[1]) }
            });
            check(half, &format!("{name}.xorsign.abs"), 2, 1000, |x| {
                let (a, b) = (x[0] & 0x7fff, x[1] & 0x7fff);
                let number = match (half.is_nan(a), half.is_nan(b)) {
                    (true, true) => return 0x7fff,
                    (true, false) => b,
                    (false, true) => a,
                    _ => pick(a, b),
                };
                number | (x[0] ^ x[1]) & 0x8000
            });
        }
    }
    check(HALVES[0], "min.ftz", 2, 300, |x| {
        let (a, b) = (HALVES[0].flush(x[0]), HALVES[0].flush(x[1]));
        let key = |bits: u64| (HALVES[0].value(bits), bits & 0x8000 == 0);
        match (HALVES[0].is_nan(a), HALVES[0].is_nan(b)) {
            (true, true) => 0x7fff,
            (true, false) => b,
            (false, true) => a,
            _ if key(b) < key(a) => b,
            _ => a,
        }
    });
}

#[test]
fn comparisons_of_pairs_write_two_predicates_or_two_halves() {
    let mut random = Random(3);
    for half in HALVES {
        let (a, b) = (half.random(&mut random), half.random(&mut random));
        let (c, d) = (half.random(&mut random), half.random(&mut random));
        let low_high =
            |low: &Values, high: &Values| -> Values { std::array::from_fn(|i| low[i] | high[i] << 16) };
        let (left, right) = (low_high(&a, &c), low_high(&b, &d));
        let less = |a: &Values, b: &Values| {
            (0..32).fold(0u32, |mask, i| mask | u32::from(half.value(a[i]) < half.value(b[i])) << i)
        };
        let unordered_or_less = |a: &Values, b: &Values| {
            (0..32).fold(0u32, |mask, i| {
                let (x, y) = (half.value(a[i]), half.value(b[i]));
                mask | u32::from(x < y || x.is_nan() || y.is_nan()) << i
            })
        };
        let mut warp = OneWarp::new();
        warp.set("a", half.packed, &left);
        warp.set("b", half.packed, &right);
        warp.set_predicate("p", 0);
        warp.set_predicate("q", 0);
        warp.set_predicate("r", 0x3333_3333);
        let text = format!("setp.lt.and.{}x2 p|q, a, b, r", half.name);
        warp.run(&text, u32::MAX).expect("setp");
        assert_eq!(warp.predicate("p"), less(&a, &b) & 0x3333_3333);
        assert_eq!(warp.predicate("q"), less(&c, &d) & 0x3333_3333);
        let sources = [(half.packed, &left), (half.packed, &right)];
        let set = over(&format!("set.ltu.u32.{}x2", half.name), Type::U32, &sources, u32::MAX);
        let ones = over(&format!("set.ltu.{0}x2.{0}x2", half.name), half.packed, &sources, u32::MAX);
        let (low, high) = (unordered_or_less(&a, &b), unordered_or_less(&c, &d));
        for lane in 0..32 {
            let holds = [low >> lane & 1, high >> lane & 1].map(u64::from);
            assert_eq!(set[lane], (holds[0] * 0xffff) | (holds[1] * 0xffff_0000));
            assert_eq!(ones[lane], (holds[0] * half.format.one()) | ((holds[1] * half.format.one()) << 16));
        }
        let single = over(
            &format!("set.ltu.u16.{}", half.name),
            Type::U16,
            &[(half.single, &a), (half.single, &b)],
            u32::MAX,
        );
        for (lane, value) in single.into_iter().enumerate() {
            assert_eq!(value, u64::from(low >> lane & 1) * 0xffff);
        }
    }
}

#[test]
fn what_16_bit_floats_do_not_have_is_refused() {
    let zeros = [0; 32];
    let three = [(Type::B16, &zeros); 3];
    for (op, count) in [
        ("add.rz.f16", 2),
        ("add.ftz.bf16", 2),
        ("mul.sat.bf16", 2),
        ("fma.f16", 3),
        ("fma.rn.oob.f16", 3),
        ("fma.rn.sat.relu.f16", 3),
        ("add.relu.f16", 2),
        ("min.sat.f16", 2),
        ("min.xorsign.f16", 2),
        ("neg.rn.f16", 1),
        ("add.f32.f16", 2),
    ] {
        assert!(try_over(op, Type::B16, &three[..count], 1).is_err(), "{op}");
    }
}
