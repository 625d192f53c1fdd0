//! Where the elements of a box lie, in shared and in global memory.

use crate::tensormap::{Swizzle, TensorMap};

/// How bytes lie in shared memory: rows one behind the other, their 16-byte chunks swizzled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows.
    pub rows: u64,
    /// Bytes of a row.
    pub row_bytes: u32,
    /// Bytes from a row to the next.
    pub pitch: u32,
    /// Swizzle.
    pub swizzle: Swizzle,
}

/// Bytes that lie together in global memory and in the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes from the tensor's first element.
    pub at: u64,
    /// Where it starts among the box's bytes, without swizzle and padding.
    pub start: u32,
    /// Its bytes.
    pub len: u32,
}

impl Tile {
    /// Bytes in one piece.
    pub fn flat(len: u32) -> Tile {
        Tile { rows: 1, row_bytes: len, pitch: len, swizzle: Swizzle::None }
    }

    /// The box of a map.
    ///
    /// Rows that are narrower than the swizzle lie as far apart as it spans: the programming guide asks to reserve that much.
    pub fn of(map: &TensorMap) -> Tile {
        let row_bytes = map.box_dims[0] * map.ty.bytes();
        Tile {
            rows: (1..map.rank as usize).map(|i| u64::from(extent(map, i))).product(),
            row_bytes,
            pitch: row_bytes.max(map.swizzle.span().unwrap_or(0)),
            swizzle: map.swizzle,
        }
    }

    /// Bytes that are moved: those of the whole box.
    pub fn bytes(&self) -> u64 {
        self.rows * u64::from(self.row_bytes)
    }

    /// Bytes of shared memory from the first to the last, padding included.
    pub fn extent(&self) -> u64 {
        self.rows * u64::from(self.pitch)
    }

    /// Where `len` bytes from `start` of the box lie in shared memory when the box is at `offset`: calls `f` with an offset in shared memory, one in
    /// the box, and a length, until all are named.
    pub fn chunks(&self, offset: u32, start: u32, len: u32, mut f: impl FnMut(u32, u32, u32)) {
        // Without swizzle the pitch is that of the row.
        if self.swizzle == Swizzle::None {
            return f(offset + start, start, len);
        }
        let mut at = start;
        while at < start + len {
            let (row, column) = (at / self.row_bytes, at % self.row_bytes);
            let chunk = (16 - column % 16).min(start + len - at);
            f(self.swizzle.apply(offset + row * self.pitch + column), at, chunk);
            at += chunk;
        }
    }

    /// The ranges of shared memory that pieces of the box lie in, from low to high, as few as there can be.
    pub fn ranges(&self, offset: u32, pieces: impl Iterator<Item = (u32, u32)>) -> Vec<(u32, u32)> {
        let mut ranges = Vec::new();
        for (start, len) in pieces {
            // Chunks change places within the swizzle's span: whole rows that are as wide fill the same bytes.
            if u64::from(len) == self.bytes() && self.pitch == self.row_bytes {
                return vec![(offset, len)];
            }
            self.chunks(offset, start, len, |at, _, len| ranges.push((at, len)));
        }
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let joined = last.0 + last.1 == next.0;
            last.1 += if joined { next.1 } else { 0 };
            joined
        });
        ranges
    }
}

/// Elements that a box takes along dimension `i`.
fn extent(map: &TensorMap, i: usize) -> u32 {
    match i {
        // The innermost dimension has no stride unless it is interleaved.
        0 => map.box_dims[0],
        _ => map.box_dims[i].div_ceil(map.element_strides[i]),
    }
}

/// The pieces of a box that lie inside the tensor, when the box starts at `coordinates`.
pub(super) fn pieces(map: &TensorMap, coordinates: &[i32]) -> Vec<Piece> {
    let rank = map.rank as usize;
    let bytes = i128::from(map.ty.bytes());
    let row_bytes = map.box_dims[0] * map.ty.bytes();
    let first = i128::from(coordinates[0]).max(0);
    let last = (i128::from(coordinates[0]) + i128::from(map.box_dims[0])).min(i128::from(map.dims[0]));
    let mut pieces: Vec<Piece> = Vec::new();
    if first >= last {
        return pieces;
    }
    let column = ((first - i128::from(coordinates[0])) * bytes) as u32;
    let len = ((last - first) * bytes) as u32;
    let mut index = [0u32; 5];
    for row in 0..(1..rank).map(|i| extent(map, i)).product() {
        let mut at = first * bytes;
        let mut inside = true;
        for i in 1..rank {
            let x = i128::from(coordinates[i]) + i128::from(index[i] * map.element_strides[i]);
            inside &= (0..i128::from(map.dims[i])).contains(&x);
            at += x * i128::from(map.strides[i - 1]);
        }
        if inside {
            // What is past 2^63 is past every allocation too.
            let at = at.min(i64::MAX.into()) as u64;
            let start = row * row_bytes + column;
            match pieces.last_mut() {
                Some(last) if last.at + u64::from(last.len) == at && last.start + last.len == start => {
                    last.len += len
                }
                _ => pieces.push(Piece { at, start, len }),
            }
        }
        for (i, index) in index.iter_mut().enumerate().take(rank).skip(1) {
            *index += 1;
            if *index < extent(map, i) {
                break;
            }
            *index = 0;
        }
    }
    pieces
}
