//! Tensor maps: what `cuTensorMapEncodeTiled` makes of a tensor in global memory, and bulk tensor copies read.
//!
//! A map is 128 bytes that are opaque to programs. NVIDIA's encoding is not documented; this one starts with a word of its own and ends with a
//! checksum, so that a copy handed anything else is noticed.

/// Bytes of a map.
pub const BYTES: usize = 128;
/// What a map's address is a multiple of.
pub const ALIGN: u64 = 64;

const MAGIC: u64 = u64::from_le_bytes(*b"TensrMap");

/// The type of a tensor's elements (`CUtensorMapDataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are CUDA's own")]
pub enum DataType {
    U8,
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F32,
    F64,
    Bf16,
    F32Ftz,
    Tf32,
    Tf32Ftz,
}

impl DataType {
    /// All, in the order of their numbers.
    const ALL: [DataType; 13] = [
        DataType::U8,
        DataType::U16,
        DataType::U32,
        DataType::S32,
        DataType::U64,
        DataType::S64,
        DataType::F16,
        DataType::F32,
        DataType::F64,
        DataType::Bf16,
        DataType::F32Ftz,
        DataType::Tf32,
        DataType::Tf32Ftz,
    ];

    /// Bytes of an element.
    pub fn bytes(self) -> u32 {
        match self {
            DataType::U8 => 1,
            DataType::U16 | DataType::F16 | DataType::Bf16 => 2,
            DataType::U64 | DataType::S64 | DataType::F64 => 8,
            _ => 4,
        }
    }

    fn is_float(self) -> bool {
        !matches!(
            self,
            DataType::U8 | DataType::U16 | DataType::U32 | DataType::S32 | DataType::U64 | DataType::S64
        )
    }
}

/// How channels are interleaved (`CUtensorMapInterleave`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interleave {
    /// Not at all.
    None,
    /// In slices of 16 bytes.
    Bytes16,
    /// In slices of 32 bytes.
    Bytes32,
}

/// How 16-byte chunks of a box change places in shared memory (`CUtensorMapSwizzle`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    Bytes32,
    /// Within 64 bytes.
    Bytes64,
    /// Within 128 bytes.
    Bytes128,
}

impl Swizzle {
    /// Bytes within which chunks change places; `None` where they do not.
    pub fn span(self) -> Option<u32> {
        match self {
            Swizzle::None => None,
            Swizzle::Bytes32 => Some(32),
            Swizzle::Bytes64 => Some(64),
            Swizzle::Bytes128 => Some(128),
        }
    }

    /// Where the byte at a shared address goes: the bits of its 16-byte chunk are crossed with those of its 128-byte row.
    #[inline]
    pub fn apply(self, address: u32) -> u32 {
        let mask = match self {
            Swizzle::None => 0,
            Swizzle::Bytes32 => 1,
            Swizzle::Bytes64 => 3,
            Swizzle::Bytes128 => 7,
        };
        address ^ (address >> 7 & mask) << 4
    }
}

/// What elements outside the tensor read as (`CUtensorMapFloatOOBfill`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zeros.
    Zeros,
    /// A NaN that a matrix product takes for zero.
    Nan,
}

/// A tensor in global memory, and the box that one copy moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Of its elements.
    pub ty: DataType,
    /// Dimensions that count, from the innermost on.
    pub rank: u32,
    /// Of its first element.
    pub address: u64,
    /// Elements along each dimension.
    pub dims: [u64; 5],
    /// Bytes from an element to the next along dimensions 1 and up.
    pub strides: [u64; 4],
    /// Elements that a box spans along each dimension.
    pub box_dims: [u32; 5],
    /// Of them, every how manieth is copied.
    pub element_strides: [u32; 5],
    /// Interleaving.
    pub interleave: Interleave,
    /// Swizzle.
    pub swizzle: Swizzle,
    /// A hint (`CUtensorMapL2promotion`).
    pub l2_promotion: u32,
    /// What lies outside.
    pub fill: Fill,
}

/// What `cuTensorMapEncodeTiled` does, with the numbers of its enumerations; the rank is the length of `dims`.
///
/// # Errors
/// Which constraint is violated, in one clause: the driver says CUDA_ERROR_INVALID_VALUE.
pub fn encode(
    data_type: u32,
    address: u64,
    dims: &[u64],
    strides: &[u64],
    box_dims: &[u32],
    element_strides: &[u32],
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    fill: u32,
) -> Result<[u8; BYTES], String> {
    let rank = dims.len();
    if !(1..=5).contains(&rank) {
        return Err(format!("rank {rank} is not from 1 to 5"));
    }
    if strides.len() != rank - 1 || box_dims.len() != rank || element_strides.len() != rank {
        return Err(format!("the numbers of strides and box dimensions do not go with rank {rank}"));
    }
    let mut map = TensorMap {
        ty: *numbered(&DataType::ALL, data_type, "data type")?,
        rank: rank as u32,
        address,
        interleave: *numbered(&Interleave::ALL, interleave, "interleave")?,
        swizzle: *numbered(&Swizzle::ALL, swizzle, "swizzle")?,
        l2_promotion,
        fill: *numbered(&Fill::ALL, fill, "fill for what is out of bounds")?,
        ..TensorMap::BLANK
    };
    map.dims[..rank].copy_from_slice(dims);
    map.strides[..rank - 1].copy_from_slice(strides);
    map.box_dims[..rank].copy_from_slice(box_dims);
    map.element_strides[..rank].copy_from_slice(element_strides);
    map.check()?;
    Ok(map.to_bytes())
}

fn numbered<'t, T>(all: &'t [T], number: u32, what: &str) -> Result<&'t T, String> {
    all.get(number as usize).ok_or_else(|| format!("{what} {number} is not known"))
}

impl Interleave {
    const ALL: [Interleave; 3] = [Interleave::None, Interleave::Bytes16, Interleave::Bytes32];
}

impl Swizzle {
    const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];
}

impl Fill {
    const ALL: [Fill; 2] = [Fill::Zeros, Fill::Nan];
}

impl TensorMap {
    /// One byte at address 0: what a map of zeros is taken for when `tensormap.replace` fills it in.
    pub const BLANK: TensorMap = TensorMap {
        ty: DataType::U8,
        rank: 1,
        address: 0,
        dims: [1; 5],
        strides: [0; 4],
        box_dims: [1; 5],
        element_strides: [1; 5],
        interleave: Interleave::None,
        swizzle: Swizzle::None,
        l2_promotion: 0,
        fill: Fill::Zeros,
    };

    /// Refuses what `cuTensorMapEncodeTiled` refuses.
    ///
    /// # Errors
    /// Which constraint is violated, in one clause.
    pub fn check(&self) -> Result<(), String> {
        let rank = self.rank as usize;
        if !(1..=5).contains(&rank) {
            return Err(format!("rank {rank} is not from 1 to 5"));
        }
        let interleaved = self.interleave != Interleave::None;
        if interleaved && rank < 3 {
            return Err(format!("rank {rank} is below 3, which interleaved layouts need"));
        }
        let align = if self.interleave == Interleave::Bytes32 { 32 } else { 16 };
        if !self.address.is_multiple_of(align) {
            return Err(format!("the global address 0x{:x} is no multiple of {align}", self.address));
        }
        for (i, dim) in self.dims[..rank].iter().enumerate() {
            if !(1..=1 << 32).contains(dim) {
                return Err(format!("dimension {i} of {dim} elements is not from 1 to 2^32"));
            }
        }
        for (i, stride) in self.strides[..rank - 1].iter().enumerate() {
            if !stride.is_multiple_of(align) || *stride >= 1 << 40 {
                let dim = i + 1;
                return Err(format!(
                    "the stride of dimension {dim}, {stride} bytes, is no multiple of {align} below 2^40"
                ));
            }
        }
        for (i, extent) in self.box_dims[..rank].iter().enumerate() {
            if !(1..=256).contains(extent) {
                return Err(format!("dimension {i} of the box, {extent} elements, is not from 1 to 256"));
            }
        }
        // A stride along the innermost dimension counts in interleaved layouts alone.
        for (i, stride) in self.element_strides[..rank].iter().enumerate() {
            if !(1..=8).contains(stride) && (i > 0 || interleaved) {
                return Err(format!("the element stride of dimension {i}, {stride}, is not from 1 to 8"));
            }
        }
        let row = self.box_dims[0] * self.ty.bytes();
        if !interleaved && !row.is_multiple_of(16) {
            return Err(format!("the box's innermost dimension, {row} bytes, is no multiple of 16"));
        }
        if let (false, Some(span)) = (interleaved, self.swizzle.span())
            && row > span
        {
            return Err(format!(
                "the box's innermost dimension, {row} bytes, is more than its swizzle of {span}"
            ));
        }
        if self.interleave == Interleave::Bytes32 && self.swizzle != Swizzle::Bytes32 {
            return Err("an interleave of 32 bytes needs a swizzle of 32 bytes".to_owned());
        }
        if self.l2_promotion > 3 {
            return Err(format!("L2 promotion {} is not known", self.l2_promotion));
        }
        if self.fill == Fill::Nan && !self.ty.is_float() {
            return Err("what is out of bounds cannot be NaN in a tensor of integers".to_owned());
        }
        Ok(())
    }

    /// The map's bytes, whatever [`check`](Self::check) says of it.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut at = 0;
        let mut put = |value: u64, len: usize| {
            bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            at += len;
        };
        put(MAGIC, 8);
        put(self.address, 8);
        self.dims.iter().for_each(|dim| put(*dim, 8));
        self.strides.iter().for_each(|stride| put(*stride, 8));
        self.box_dims.iter().for_each(|extent| put(u64::from(*extent), 2));
        self.element_strides.iter().for_each(|stride| put(u64::from(*stride), 1));
        put(u64::from(self.rank), 1);
        let number = DataType::ALL.iter().position(|ty| *ty == self.ty);
        put(number.unwrap_or(0) as u64, 1);
        put(self.interleave as u64, 1);
        put(self.swizzle as u64, 1);
        put(u64::from(self.l2_promotion), 1);
        put(self.fill as u64, 1);
        let sum = checksum(&bytes[..BYTES - 8]);
        bytes[BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The map that these bytes are; `None` where they are none.
    pub fn decode(bytes: &[u8; BYTES]) -> Option<TensorMap> {
        let mut at = 0;
        let mut take = |len: usize| {
            let mut value = [0; 8];
            value[..len].copy_from_slice(&bytes[at..at + len]);
            at += len;
            u64::from_le_bytes(value)
        };
        if take(8) != MAGIC || checksum(&bytes[..BYTES - 8]).to_le_bytes() != bytes[BYTES - 8..] {
            return None;
        }
        let address = take(8);
        let dims = std::array::from_fn(|_| take(8));
        let strides = std::array::from_fn(|_| take(8));
        let box_dims = std::array::from_fn(|_| take(2) as u32);
        let element_strides = std::array::from_fn(|_| take(1) as u32);
        let rank = take(1) as u32;
        Some(TensorMap {
            address,
            dims,
            strides,
            box_dims,
            element_strides,
            rank,
            ty: *DataType::ALL.get(take(1) as usize)?,
            interleave: *Interleave::ALL.get(take(1) as usize)?,
            swizzle: *Swizzle::ALL.get(take(1) as usize)?,
            l2_promotion: take(1) as u32,
            fill: *Fill::ALL.get(take(1) as usize)?,
        })
    }

    /// Puts a value into a field, as `tensormap.replace` does: nothing is checked before the map is used, because fields come one
    /// by one.
    ///
    /// # Errors
    /// Where the field cannot hold it, or its meaning is not known.
    pub fn replace(&mut self, field: Field, value: u64) -> Result<(), String> {
        let dimension = |index: u32, count: usize| match index as usize {
            i if i < count => Ok(i),
            _ => Err(format!("dimension {index} of {count}")),
        };
        let small = |value: u64, limit: u64| match value {
            0 => Err("a value of 0".to_owned()),
            value if value > limit => Err(format!("{value} is more than {limit}")),
            value => Ok(value as u32),
        };
        let number = value.min(u64::from(u32::MAX)) as u32;
        match field {
            Field::GlobalAddress => self.address = value,
            // The field counts from 0.
            Field::Rank if value < 5 => self.rank = value as u32 + 1,
            Field::Rank => return Err(format!("rank {value} + 1 is more than 5")),
            Field::BoxDim(index) => self.box_dims[dimension(index, 5)?] = small(value, 256)?,
            Field::GlobalDim(index) => self.dims[dimension(index, 5)?] = value,
            Field::GlobalStride(index) => self.strides[dimension(index, 4)?] = value,
            Field::ElementStride(index) => self.element_strides[dimension(index, 5)?] = small(value, 8)?,
            // From 8 on the instruction's numbers are not those of the driver's enumeration.
            Field::ElementType if value < 8 => self.ty = DataType::ALL[value as usize],
            Field::ElementType => return Err(format!("element type {value} is not emulated")),
            Field::InterleaveLayout => self.interleave = *numbered(&Interleave::ALL, number, "interleave")?,
            Field::SwizzleMode => self.swizzle = *numbered(&Swizzle::ALL, number, "swizzle")?,
            Field::FillMode => self.fill = *numbered(&Fill::ALL, number, "fill")?,
        }
        Ok(())
    }
}

/// A field that `tensormap.replace` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Field {
    GlobalAddress,
    Rank,
    BoxDim(u32),
    GlobalDim(u32),
    GlobalStride(u32),
    ElementStride(u32),
    ElementType,
    InterleaveLayout,
    SwizzleMode,
    FillMode,
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests;
