//! Operations of asynchronous reductions on one element.

use half::{bf16, f16};

use crate::ptx::Type;
use crate::tensormap::DataType;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
}

impl Reduction {
    /// By its modifier, one of eight.
    pub fn parse(name: &str) -> Reduction {
        match name {
            "add" => Reduction::Add,
            "min" => Reduction::Min,
            "max" => Reduction::Max,
            "inc" => Reduction::Inc,
            "dec" => Reduction::Dec,
            "and" => Reduction::And,
            "or" => Reduction::Or,
            _ => Reduction::Xor,
        }
    }

    /// Whether it exists for a type, in global memory or in shared.
    pub fn takes(self, ty: Type, global: bool) -> bool {
        use Reduction::{Add, And, Dec, Inc, Max, Min, Or, Xor};
        match (self, ty) {
            (Add, Type::U32 | Type::S32 | Type::U64) => true,
            (Add, Type::F16 | Type::Bf16 | Type::F32 | Type::F64) => global,
            (Min | Max, Type::U32 | Type::S32) => true,
            (Min | Max, Type::U64 | Type::S64 | Type::F16 | Type::Bf16) => global,
            (Inc | Dec, Type::U32) => true,
            (And | Or | Xor, Type::B32) => true,
            (And | Or | Xor, Type::B64) => global,
            _ => false,
        }
    }

    /// The type with which it works on the elements of a tensor; `None` where it has none for them.
    pub fn of_tensor(self, ty: DataType) -> Option<Type> {
        use Reduction::{Add, And, Or, Xor};
        let ty = match (self, ty) {
            (And | Or | Xor, DataType::U32 | DataType::S32) => Type::B32,
            (And | Or | Xor, DataType::U64 | DataType::S64) => Type::B64,
            // Sums of both signs have the same bits.
            (Add, DataType::S64) => Type::U64,
            (_, DataType::U32) => Type::U32,
            (_, DataType::S32) => Type::S32,
            (_, DataType::U64) => Type::U64,
            (_, DataType::S64) => Type::S64,
            (_, DataType::F16) => Type::F16,
            (_, DataType::Bf16) => Type::Bf16,
            (_, DataType::F32) => Type::F32,
            (_, DataType::F64) => Type::F64,
            _ => return None,
        };
        self.takes(ty, true).then_some(ty)
    }

    /// The new value of an element that holds `old`, both in the low bits. Subnormals are kept; a NaN that is computed is PTX's own.
    pub fn apply(self, ty: Type, old: u64, value: u64) -> u64 {
        let (a, b) = (old as u32, value as u32);
        match (self, ty) {
            (Reduction::And, _) => old & value,
            (Reduction::Or, _) => old | value,
            (Reduction::Xor, _) => old ^ value,
            (Reduction::Inc, _) => u64::from(if a >= b { 0 } else { a + 1 }),
            (Reduction::Dec, _) => u64::from(if a == 0 || a > b { b } else { a - 1 }),
            (Reduction::Add, Type::F16) => {
                // Exact in f32 but for one rounding that the second cannot disturb: 24 bits are more than twice 11.
                let sum = f16::from_bits(a as u16).to_f32() + f16::from_bits(b as u16).to_f32();
                u64::from(if sum.is_nan() { 0x7fff } else { f16::from_f32(sum).to_bits() })
            }
            (Reduction::Add, Type::Bf16) => {
                let sum = bf16::from_bits(a as u16).to_f32() + bf16::from_bits(b as u16).to_f32();
                u64::from(if sum.is_nan() { 0x7fff } else { bf16::from_f32(sum).to_bits() })
            }
            (Reduction::Add, Type::F32) => {
                let sum = f32::from_bits(a) + f32::from_bits(b);
                u64::from(if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits() })
            }
            (Reduction::Add, Type::F64) => {
                let sum = f64::from_bits(old) + f64::from_bits(value);
                if sum.is_nan() { 0x7fff_ffff_ffff_ffff } else { sum.to_bits() }
            }
            (Reduction::Add, Type::U64 | Type::S64) => old.wrapping_add(value),
            (Reduction::Add, _) => u64::from(a.wrapping_add(b)),
            (Reduction::Min, Type::U64) => old.min(value),
            (Reduction::Max, Type::U64) => old.max(value),
            (Reduction::Min, Type::S64) => (old as i64).min(value as i64) as u64,
            (Reduction::Max, Type::S64) => (old as i64).max(value as i64) as u64,
            (Reduction::Min, Type::S32) => (a as i32).min(b as i32) as u32 as u64,
            (Reduction::Max, Type::S32) => (a as i32).max(b as i32) as u32 as u64,
            (Reduction::Min | Reduction::Max, Type::F16 | Type::Bf16) => {
                // The bits above which a magnitude is NaN.
                let infinity = if ty == Type::F16 { 0x7c00 } else { 0x7f80 };
                u64::from(extreme(a as u16, b as u16, infinity, self == Reduction::Max))
            }
            (Reduction::Min, _) => u64::from(a.min(b)),
            (Reduction::Max, _) => u64::from(a.max(b)),
        }
    }
}

/// The smaller or larger of two 16-bit floats: of a number and NaN the number, and -0 below +0.
fn extreme(a: u16, b: u16, infinity: u16, largest: bool) -> u16 {
    let is_nan = |bits: u16| bits & 0x7fff > infinity;
    // Maps floats to integers in their order.
    let key = |bits: u16| if bits & 0x8000 == 0 { i32::from(bits) } else { -1 - i32::from(bits & 0x7fff) };
    match (is_nan(a), is_nan(b)) {
        (true, true) => 0x7fff,
        (true, false) => b,
        (false, true) => a,
        _ if (key(a) > key(b)) == largest => a,
        _ => b,
    }
}
