//! Where a wgmma descriptor says that the elements of a matrix lie in shared memory.

use std::ops::Range;

use super::elements::Format;
use super::product::{COLUMNS, panel};

/// Bytes that lie together in every layout.
pub const CHUNK: u32 = 16;

/// A matrix descriptor, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Byte offset in shared memory of the first element.
    pub start: u32,
    /// Leading dimension's byte offset.
    pub leading: u32,
    /// Stride dimension's byte offset.
    pub stride: u32,
    /// Address bits that are swizzled: 0 to 3, for no swizzle or spans of 32, 64 and 128 bytes.
    pub swizzle: u32,
}

impl Descriptor {
    /// Takes the 64 bits apart.
    ///
    /// # Errors
    /// What about them is not known.
    pub fn decode(bits: u64) -> Result<Descriptor, String> {
        const RESERVED: u64 = 3 << 14 | 3 << 30 | 7 << 46 | 0x3ff << 52;
        if bits & RESERVED != 0 {
            return Err(format!("descriptor 0x{bits:016x} has bits that must be 0"));
        }
        if bits >> 49 & 7 != 0 {
            return Err(format!("descriptor 0x{bits:016x} has a base offset, which is not emulated"));
        }
        let field = |shift: u32| (bits >> shift & 0x3fff) as u32 * CHUNK;
        // 1 is the widest swizzle, 3 the narrowest.
        let swizzle = [0, 3, 2, 1][(bits >> 62) as usize];
        Ok(Descriptor { start: field(0), leading: field(16), stride: field(32), swizzle })
    }
}

/// Which dimension of a matrix is contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Major {
    /// K.
    K,
    /// M of A, N of B.
    Mn,
}

/// A matrix of M or N rows of K elements in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its contiguous dimension.
    pub major: Major,
    /// Bytes of an element.
    pub bytes: u32,
}

impl Tile {
    /// Byte offset in shared memory of element (i, k): i counts along M or N.
    pub fn address(&self, i: u32, k: u32) -> u32 {
        let Descriptor { start, leading, stride, swizzle } = self.descriptor;
        // Elements and chunks that lie side by side.
        let (together, chunks) = (CHUNK / self.bytes, 1 << swizzle);
        let span = CHUNK * chunks;
        let offset = match (self.major, swizzle) {
            (Major::K, 0) => {
                i / 8 * stride + i % 8 * CHUNK + k / together * leading + k % together * self.bytes
            }
            // The bytes of K always fit in a row of the pattern.
            (Major::K, _) => i / 8 * stride + i % 8 * span + k * self.bytes,
            (Major::Mn, 0) => {
                i % together * self.bytes + i / together * stride + k % 8 * CHUNK + k / 8 * leading
            }
            (Major::Mn, _) => {
                let (chunk, block) = (i / together % chunks, i / (together * chunks));
                i % together * self.bytes + chunk * CHUNK + block * leading + k % 8 * span + k / 8 * stride
            }
        };
        swizzled(start + offset, swizzle)
    }

    /// The chunks of some rows with `depth` elements of K each: byte offset, and the (i, k) of the first element. The others follow along
    /// K, or along i where that is contiguous. `rows` starts and ends at multiples of 8, `depth` is one of a chunk's elements.
    pub fn chunks(&self, rows: Range<u32>, depth: u32) -> impl Iterator<Item = (u32, u32, u32)> + use<> {
        let tile = *self;
        let together = CHUNK / self.bytes;
        let (step_i, step_k) = match self.major {
            Major::K => (1, together),
            Major::Mn => (together, 1),
        };
        rows.step_by(step_i as usize)
            .flat_map(move |i| (0..depth).step_by(step_k as usize).map(move |k| (tile.address(i, k), i, k)))
    }

    /// The byte ranges of some rows, sorted and joined where they touch.
    pub fn ranges(&self, rows: Range<u32>, depth: u32) -> Vec<Range<u32>> {
        let mut starts: Vec<u32> = self.chunks(rows, depth).map(|(address, ..)| address).collect();
        starts.sort_unstable();
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for start in starts {
            match ranges.last_mut() {
                Some(last) if last.end >= start => last.end = start + CHUNK,
                _ => ranges.push(start..start + CHUNK),
            }
        }
        ranges
    }
}

/// Chunk bits exchanged by the row they are in, on the address itself.
fn swizzled(address: u32, bits: u32) -> u32 {
    address ^ ((address >> 7 & ((1 << bits) - 1)) << 4)
}

/// How a matrix of a product lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A: i after i, each along k.
    A,
    /// B: in panels of 8 of i, in each k after k.
    B,
}

/// Copies some rows of a tile as numbers, the first row to the front.
///
/// # Errors
/// The byte offset that lies outside `shared`.
pub fn gather<F: Format>(
    tile: &Tile,
    shared: &[u8],
    rows: Range<u32>,
    depth: u32,
    role: Role,
    out: &mut [f64],
) -> Result<(), u32> {
    let bytes_each = (F::BITS / 8).max(1);
    let first = rows.start;
    // A chunk has at most 8 elements along i, so it stays in a panel.
    let along = match (role, tile.major) {
        (Role::A, Major::K) | (Role::B, Major::Mn) => 1,
        (Role::A, Major::Mn) => depth as usize,
        (Role::B, Major::K) => COLUMNS,
    };
    for (address, i, k) in tile.chunks(rows, depth) {
        let at = address as usize;
        let bytes = shared.get(at..at + CHUNK as usize).ok_or(address)?;
        let (i, k) = ((i - first) as usize, k as usize);
        let out = match role {
            Role::A => &mut out[i * depth as usize + k..],
            Role::B => &mut out[panel(depth as usize, k, i)..],
        };
        for (element, bytes) in bytes.chunks_exact(bytes_each).enumerate() {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            out[element * along] = F::value(u32::from_le_bytes(word));
        }
    }
    Ok(())
}
