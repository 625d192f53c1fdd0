//! PTX's scalar types.

/// A type suffix, as in `add.f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    U16x2,
    S16x2,
    E4m3,
    E5m2,
    E4m3x2,
    E5m2x2,
}

/// What a type's bits mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing in particular: it agrees with every other kind.
    Bits,
    /// An unsigned integer.
    Unsigned,
    /// A two's complement integer.
    Signed,
    /// A floating-point number, or a pair of them.
    Float,
    /// A truth value.
    Predicate,
}

impl Type {
    const NAMES: [(&'static str, Type); 27] = [
        ("pred", Type::Pred),
        ("b8", Type::B8),
        ("b16", Type::B16),
        ("b32", Type::B32),
        ("b64", Type::B64),
        ("b128", Type::B128),
        ("u8", Type::U8),
        ("u16", Type::U16),
        ("u32", Type::U32),
        ("u64", Type::U64),
        ("s8", Type::S8),
        ("s16", Type::S16),
        ("s32", Type::S32),
        ("s64", Type::S64),
        ("f16", Type::F16),
        ("f16x2", Type::F16x2),
        ("bf16", Type::Bf16),
        ("bf16x2", Type::Bf16x2),
        ("tf32", Type::Tf32),
        ("f32", Type::F32),
        ("f64", Type::F64),
        ("u16x2", Type::U16x2),
        ("s16x2", Type::S16x2),
        ("e4m3", Type::E4m3),
        ("e5m2", Type::E5m2),
        ("e4m3x2", Type::E4m3x2),
        ("e5m2x2", Type::E5m2x2),
    ];

    /// The type of a suffix without its dot.
    pub fn parse(name: &str) -> Option<Type> {
        Type::NAMES.iter().find(|(known, _)| *known == name).map(|(_, ty)| *ty)
    }

    /// Its suffix, without the dot.
    pub fn name(self) -> &'static str {
        Type::NAMES.iter().find(|(_, ty)| *ty == self).map_or("", |(name, _)| name)
    }

    /// Bits of a value; 1 for a predicate.
    pub fn bits(self) -> u32 {
        match self {
            Type::Pred => 1,
            Type::B8 | Type::U8 | Type::S8 | Type::E4m3 | Type::E5m2 => 8,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 | Type::E4m3x2 | Type::E5m2x2 => 16,
            Type::B32
            | Type::U32
            | Type::S32
            | Type::F32
            | Type::Tf32
            | Type::F16x2
            | Type::Bf16x2
            | Type::U16x2
            | Type::S16x2 => 32,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 64,
            Type::B128 => 128,
        }
    }

    /// Bytes of a value in memory.
    pub fn bytes(self) -> u32 {
        self.bits().div_ceil(8)
    }

    /// 32-bit slots of the register file that a value takes.
    pub fn slots(self) -> u32 {
        self.bits().div_ceil(32)
    }

    /// What its bits mean.
    pub fn kind(self) -> Kind {
        match self {
            Type::Pred => Kind::Predicate,
            Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::B128 => Kind::Bits,
            Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::U16x2 => Kind::Unsigned,
            Type::S8 | Type::S16 | Type::S32 | Type::S64 | Type::S16x2 => Kind::Signed,
            _ => Kind::Float,
        }
    }
}
