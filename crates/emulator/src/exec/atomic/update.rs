//! What an atomic makes of an old value.

use half::{bf16, f16};

use crate::ptx::Type;

/// The operation, without its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Operation {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exch,
    Cas,
}

impl Operation {
    /// All, by PTX's name.
    pub const NAMES: [(&'static str, Operation); 10] = [
        ("add", Operation::Add),
        ("min", Operation::Min),
        ("max", Operation::Max),
        ("inc", Operation::Inc),
        ("dec", Operation::Dec),
        ("and", Operation::And),
        ("or", Operation::Or),
        ("xor", Operation::Xor),
        ("exch", Operation::Exch),
        ("cas", Operation::Cas),
    ];
}

/// An operation on values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// What is done.
    pub operation: Operation,
    /// To what.
    pub ty: Type,
}

impl Update {
    /// Whether PTX has it, on one value (`vector` = 1) or on so many.
    pub fn exists(self, vector: u32) -> bool {
        use Operation::{Add, And, Cas, Dec, Exch, Inc, Max, Min, Or, Xor};
        if vector > 1 {
            return match (self.operation, self.ty) {
                (Add, Type::F32) => vector <= 4,
                (Add | Min | Max, Type::F16x2 | Type::Bf16x2) => vector <= 4,
                (Add | Min | Max, Type::F16 | Type::Bf16) => vector <= 8,
                _ => false,
            };
        }
        match self.operation {
            Add => matches!(
                self.ty,
                Type::U32
                    | Type::S32
                    | Type::U64
                    | Type::F32
                    | Type::F64
                    | Type::F16
                    | Type::F16x2
                    | Type::Bf16
                    | Type::Bf16x2
            ),
            Min | Max => matches!(self.ty, Type::U32 | Type::S32 | Type::U64 | Type::S64),
            Inc | Dec => self.ty == Type::U32,
            And | Or | Xor => matches!(self.ty, Type::B32 | Type::B64),
            Exch => matches!(self.ty, Type::B32 | Type::B64 | Type::B128),
            Cas => matches!(self.ty, Type::B16 | Type::B32 | Type::B64 | Type::B128),
        }
    }

    /// The new value, from up to 64 bits. `flush` where an f32 addition takes subnormal numbers for zeros, as in global memory.
    pub fn apply(self, old: u64, b: u64, c: u64, flush: bool) -> u64 {
        let (low, b32) = (old as u32, b as u32);
        match (self.operation, self.ty) {
            (Operation::Add, Type::U64) => old.wrapping_add(b),
            (Operation::Add, Type::F32) => add_f32(low, b32, flush).into(),
            (Operation::Add, Type::F64) => add_f64(old, b),
            (Operation::Add | Operation::Min | Operation::Max, Type::F16 | Type::Bf16) => {
                self.half(old as u16, b as u16).into()
            }
            (Operation::Add | Operation::Min | Operation::Max, Type::F16x2 | Type::Bf16x2) => {
                let high = u64::from(self.half((old >> 16) as u16, (b >> 16) as u16));
                u64::from(self.half(old as u16, b as u16)) | high << 16
            }
            (Operation::Add, _) => low.wrapping_add(b32).into(),
            (Operation::Min, Type::S32) => ((low as i32).min(b32 as i32) as u32).into(),
            (Operation::Max, Type::S32) => ((low as i32).max(b32 as i32) as u32).into(),
            (Operation::Min, Type::S64) => (old as i64).min(b as i64) as u64,
            (Operation::Max, Type::S64) => (old as i64).max(b as i64) as u64,
            (Operation::Min, _) => old.min(b),
            (Operation::Max, _) => old.max(b),
            (Operation::Inc, _) => if low >= b32 { 0 } else { low + 1 }.into(),
            (Operation::Dec, _) => if low == 0 || low > b32 { b32 } else { low - 1 }.into(),
            (Operation::And, _) => old & b,
            (Operation::Or, _) => old | b,
            (Operation::Xor, _) => old ^ b,
            (Operation::Exch, _) => b,
            (Operation::Cas, _) => {
                if old == b {
                    c
                } else {
                    old
                }
            }
        }
    }

    /// The new value of 128 bits: exchange and compare alone.
    pub fn wide(self, old: u128, b: u128, c: u128) -> u128 {
        match self.operation {
            Operation::Cas if old == b => c,
            Operation::Cas => old,
            _ => b,
        }
    }

    /// f16 and bf16. A sum in f32 has more than twice their digits: rounding it once more is rounding once.
    fn half(self, old: u16, b: u16) -> u16 {
        const NAN: u16 = 0x7FFF;
        let bf = matches!(self.ty, Type::Bf16 | Type::Bf16x2);
        let number = |bits: u16| {
            if bf { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() }
        };
        let (x, y) = (number(old), number(b));
        match self.operation {
            Operation::Add => {
                let sum = x + y;
                match sum.is_nan() {
                    true => NAN,
                    false if bf => bf16::from_f32(sum).to_bits(),
                    false => f16::from_f32(sum).to_bits(),
                }
            }
            _ if x.is_nan() && y.is_nan() => NAN,
            _ if x.is_nan() => b,
            _ if y.is_nan() => old,
            _ => {
                // -0 is less than +0.
                let less = x < y || (x == y && x.is_sign_negative());
                if less == (self.operation == Operation::Min) { old } else { b }
            }
        }
    }
}

fn add_f32(a: u32, b: u32, flush: bool) -> u32 {
    let flushed = |bits: u32| {
        let number = f32::from_bits(bits);
        if flush && number.is_subnormal() { 0.0_f32.copysign(number) } else { number }
    };
    let sum = flushed(a) + flushed(b);
    if sum.is_nan() { 0x7FFF_FFFF } else { flushed(sum.to_bits()).to_bits() }
}

fn add_f64(a: u64, b: u64) -> u64 {
    let sum = f64::from_bits(a) + f64::from_bits(b);
    if sum.is_nan() { 0x7FF8_0000_0000_0000 } else { sum.to_bits() }
}
