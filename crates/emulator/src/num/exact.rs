//! Arithmetic of any format in integers: the exact result, or enough of it to round it once.

use super::{F32, Format, Rounding};

/// A number as `±significand · 2^exponent`. Where bits were dropped below, the lowest is set: then the number lies
/// strictly between two that more bits could tell apart, and rounding to far fewer bits sees the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finite {
    /// Its sign; zeros have one.
    pub negative: bool,
    /// Power of two of the lowest bit.
    pub exponent: i32,
    /// Below 2^127.
    pub significand: u128,
}

/// What the bits of a format stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// No number.
    Nan,
    /// Infinity, negative if so.
    Infinite(bool),
    /// A number.
    Finite(Finite),
}

/// Bits of the significand to which [`Finite::normal`] shifts.
const TOP: u32 = 126;

impl Finite {
    /// An integer.
    pub fn integer(value: i128) -> Finite {
        Finite { negative: value < 0, exponent: 0, significand: value.unsigned_abs() }
    }

    /// The same number with the opposite sign.
    pub fn negated(self) -> Finite {
        Finite { negative: !self.negative, ..self }
    }

    /// The same number with its highest bit at 2^125; zero stays.
    fn normal(self) -> Finite {
        if self.significand == 0 {
            return self;
        }
        let shift = TOP as i32 - (128 - self.significand.leading_zeros() as i32);
        if shift < 0 {
            return Finite {
                significand: drop(self.significand, shift.unsigned_abs()),
                exponent: self.exponent - shift,
                ..self
            };
        }
        Finite { significand: self.significand << shift, exponent: self.exponent - shift, ..self }
    }

    /// The exact product; both significands are below 2^63.
    pub fn times(self, other: Finite) -> Finite {
        Finite {
            negative: self.negative != other.negative,
            exponent: self.exponent + other.exponent,
            significand: self.significand * other.significand,
        }
    }

    /// The sum. An exact zero of two numbers with different signs is negative only where rounding goes down.
    pub fn plus(self, other: Finite, rounding: Rounding) -> Finite {
        let zero = |negative| Finite { negative, exponent: 0, significand: 0 };
        match (self.significand, other.significand) {
            (0, 0) if self.negative == other.negative => return zero(self.negative),
            (0, 0) => return zero(rounding == Rounding::Down),
            (0, _) => return other,
            (_, 0) => return self,
            _ => {}
        }
        let (a, b) = (self.normal(), other.normal());
        let (large, small) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        let aligned = drop(small.significand, (large.exponent - small.exponent) as u32);
        let exponent = large.exponent;
        if large.negative == small.negative {
            return Finite { negative: large.negative, exponent, significand: large.significand + aligned };
        }
        if large.significand == aligned {
            return zero(rounding == Rounding::Down);
        }
        let negative = large.negative == (large.significand > aligned);
        Finite { negative, exponent, significand: large.significand.abs_diff(aligned) }
    }

    /// The quotient by a number that is not zero, whose significand is below 2^63.
    pub fn over(self, other: Finite) -> Finite {
        let a = self.normal();
        let quotient = a.significand / other.significand;
        let inexact = u128::from(!a.significand.is_multiple_of(other.significand));
        Finite {
            negative: self.negative != other.negative,
            exponent: a.exponent - other.exponent,
            significand: quotient | inexact,
        }
    }

    /// The square root of a number that is not negative.
    pub fn root(self) -> Finite {
        let mut a = self.normal();
        if a.exponent % 2 != 0 {
            a.significand = drop(a.significand, 1);
            a.exponent += 1;
        }
        let root = a.significand.isqrt();
        let inexact = u128::from(root * root != a.significand);
        Finite { negative: self.negative, exponent: a.exponent / 2, significand: root | inexact }
    }

    /// The multiple of 2^`unit` to which the number is rounded, over 2^`unit`, without its sign.
    fn rounded(self, unit: i32, rounding: Rounding) -> u128 {
        let shift = unit - self.exponent;
        if shift <= 0 {
            // Callers leave room: `unit` is no further below the highest bit than a significand is long.
            return self.significand << shift.unsigned_abs();
        }
        let shift = shift.unsigned_abs();
        let (kept, rest, half) = match shift {
            1..=127 => {
                let rest = self.significand & ((1 << shift) - 1);
                (self.significand >> shift, rest, 1 << (shift - 1))
            }
            _ => (0, u128::from(self.significand != 0), 2),
        };
        let up = match rounding {
            Rounding::Nearest => rest > half || rest == half && kept & 1 == 1,
            Rounding::NearestAway => rest >= half,
            Rounding::Zero => false,
            Rounding::Down => self.negative && rest != 0,
            Rounding::Up => !self.negative && rest != 0,
        };
        kept + u128::from(up)
    }

    /// The nearest value of a format in the sense of `rounding`. What is too large becomes infinity or the largest number,
    /// as the rounding asks; always the largest number with `saturate`.
    pub fn encode(self, format: Format, rounding: Rounding, saturate: bool) -> u64 {
        let sign = if self.negative { format.sign() } else { 0 };
        if self.significand == 0 {
            return sign;
        }
        let top = 127 - self.significand.leading_zeros() as i32 + self.exponent;
        let exponent = top.max(1 - format.bias());
        let kept = self.rounded(exponent - format.fraction as i32, rounding);
        // The implicit bit adds 1 to the exponent's field, and so does a carry out of the fraction.
        let field = (exponent + format.bias() - 1) as u128;
        let bits = ((field << format.fraction) + kept) << format.padding;
        if bits <= u128::from(format.max()) {
            return sign | bits as u64;
        }
        let away = match rounding {
            Rounding::Nearest | Rounding::NearestAway => true,
            Rounding::Zero => false,
            Rounding::Down => self.negative,
            Rounding::Up => !self.negative,
        };
        sign | if away && !saturate { format.infinity() } else { format.max() }
    }

    /// The integer to which the number is rounded; what is beyond ±2^100 becomes that.
    pub fn to_integer(self, rounding: Rounding) -> i128 {
        const LIMIT: i32 = 100;
        if self.significand == 0 {
            return 0;
        }
        let top = 127 - self.significand.leading_zeros() as i32 + self.exponent;
        let magnitude = if top >= LIMIT { 1 << LIMIT } else { self.rounded(0, rounding) as i128 };
        if self.negative { -magnitude } else { magnitude }
    }
}

/// Shifts right; where bits fall out, the lowest that stays is set.
fn drop(significand: u128, shift: u32) -> u128 {
    match shift {
        0 => significand,
        1..=127 => significand >> shift | u128::from(significand & ((1 << shift) - 1) != 0),
        _ => u128::from(significand != 0),
    }
}

impl Value {
    /// What bits of a format stand for.
    pub fn decode(format: Format, bits: u64) -> Value {
        let negative = bits & format.sign() != 0;
        let magnitude = bits & (format.sign() - 1);
        if format.is_nan(bits) {
            return Value::Nan;
        }
        if format.infinities && magnitude >= format.infinity() {
            return Value::Infinite(negative);
        }
        let magnitude = magnitude >> format.padding;
        let field = (magnitude >> format.fraction) as i32;
        let fraction = u128::from(magnitude & ((1 << format.fraction) - 1));
        let implicit = if field > 0 { 1 << format.fraction } else { 0 };
        Value::Finite(Finite {
            negative,
            exponent: field.max(1) - format.bias() - format.fraction as i32,
            significand: fraction | implicit,
        })
    }

    /// The bits of a format for it: rounded, and with `saturate` the largest numbers instead of infinities.
    pub fn encode(self, format: Format, rounding: Rounding, saturate: bool) -> u64 {
        match self {
            Value::Nan => format.nan,
            Value::Infinite(negative) => {
                let sign = if negative { format.sign() } else { 0 };
                sign | if saturate { format.max() } else { format.infinity() }
            }
            Value::Finite(finite) => finite.encode(format, rounding, saturate),
        }
    }

    fn is_negative(self) -> bool {
        match self {
            Value::Nan => false,
            Value::Infinite(negative) => negative,
            Value::Finite(finite) => finite.negative,
        }
    }
}

/// Bits of one format to those of another.
pub fn convert(from: Format, to: Format, bits: u64, rounding: Rounding, saturate: bool) -> u64 {
    Value::decode(from, bits).encode(to, rounding, saturate)
}

/// `a · b + c`, rounded once.
pub fn fma(format: Format, a: u64, b: u64, c: u64, rounding: Rounding) -> u64 {
    let (a, b, c) = (Value::decode(format, a), Value::decode(format, b), Value::decode(format, c));
    plus(times(a, b), c, rounding).encode(format, rounding, false)
}

/// `a + b`
pub fn add(format: Format, a: u64, b: u64, rounding: Rounding) -> u64 {
    plus(Value::decode(format, a), Value::decode(format, b), rounding).encode(format, rounding, false)
}

/// `a · b`
pub fn mul(format: Format, a: u64, b: u64, rounding: Rounding) -> u64 {
    times(Value::decode(format, a), Value::decode(format, b)).encode(format, rounding, false)
}

/// `a / b`
pub fn div(format: Format, a: u64, b: u64, rounding: Rounding) -> u64 {
    quotient(Value::decode(format, a), Value::decode(format, b)).encode(format, rounding, false)
}

/// f32 with exponents without end.
const UNBOUNDED: Format = Format { exponent: 11, ..F32 };

/// Whether a result is below the normal numbers of f32 when it is rounded to 24 bits, whatever its exponent: then `.ftz`
/// makes it 0, even where f32 would round it up to the smallest normal number. ptxas 13.0 folds `mul.ftz` so, and its
/// `div.rn.ftz` works so.
fn is_tiny(value: Value, rounding: Rounding) -> bool {
    let smallest = ((UNBOUNDED.bias() - F32.bias() + 1) as u64) << F32.fraction;
    value.encode(UNBOUNDED, rounding, false) & (UNBOUNDED.sign() - 1) < smallest
}

/// `is_tiny` of `a · b + c`.
#[cold]
pub fn fma_is_tiny(a: f32, b: f32, c: f32, rounding: Rounding) -> bool {
    let [a, b, c] = [a, b, c].map(|x| Value::decode(F32, x.to_bits().into()));
    is_tiny(plus(times(a, b), c, rounding), rounding)
}

/// `is_tiny` of `a / b`.
#[cold]
pub fn div_is_tiny(a: f32, b: f32, rounding: Rounding) -> bool {
    let [a, b] = [a, b].map(|x| Value::decode(F32, x.to_bits().into()));
    is_tiny(quotient(a, b), rounding)
}

fn quotient(a: Value, b: Value) -> Value {
    let negative = a.is_negative() != b.is_negative();
    match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) | (Value::Infinite(_), Value::Infinite(_)) => Value::Nan,
        (Value::Infinite(_), _) => Value::Infinite(negative),
        (_, Value::Infinite(_)) => Value::Finite(Finite { negative, exponent: 0, significand: 0 }),
        (Value::Finite(a), Value::Finite(b)) => match (a.significand, b.significand) {
            (0, 0) => Value::Nan,
            (_, 0) => Value::Infinite(negative),
            _ => Value::Finite(a.over(b)),
        },
    }
}

/// `√a`
pub fn sqrt(format: Format, a: u64, rounding: Rounding) -> u64 {
    let root = match Value::decode(format, a) {
        Value::Finite(a) if a.significand == 0 => Value::Finite(a),
        Value::Finite(a) if !a.negative => Value::Finite(a.root()),
        Value::Infinite(false) => Value::Infinite(false),
        _ => Value::Nan,
    };
    root.encode(format, rounding, false)
}

fn times(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) => Value::Nan,
        (Value::Finite(a), Value::Finite(b)) => Value::Finite(a.times(b)),
        (Value::Infinite(_), Value::Finite(Finite { significand: 0, .. }))
        | (Value::Finite(Finite { significand: 0, .. }), Value::Infinite(_)) => Value::Nan,
        _ => Value::Infinite(a.is_negative() != b.is_negative()),
    }
}

fn plus(a: Value, b: Value, rounding: Rounding) -> Value {
    match (a, b) {
        (Value::Finite(a), Value::Finite(b)) => Value::Finite(a.plus(b, rounding)),
        (Value::Nan, _) | (_, Value::Nan) => Value::Nan,
        (Value::Infinite(a), Value::Infinite(b)) if a != b => Value::Nan,
        (Value::Infinite(negative), _) | (_, Value::Infinite(negative)) => Value::Infinite(negative),
    }
}
