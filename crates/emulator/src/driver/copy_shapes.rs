//! Copies of rectangles and boxes, as their descriptions say.

use std::ffi::c_uint;

use super::abi::{Handle, In};
use super::copy::{Copy, End, Side, in_stream, synchronous};
use super::entry::{entries, refuse};
use super::stream::Stream;
use super::{Code, Result};

/// `CUDA_MEMCPY2D`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Rectangle {
    src_x: usize,
    src_y: usize,
    src_kind: c_uint,
    src_host: u64,
    src_device: u64,
    src_array: usize,
    src_pitch: usize,
    dst_x: usize,
    dst_y: usize,
    dst_kind: c_uint,
    dst_host: u64,
    dst_device: u64,
    dst_array: usize,
    dst_pitch: usize,
    width: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Cuboid {
    pub(super) src_x: usize,
    pub(super) src_y: usize,
    pub(super) src_z: usize,
    pub(super) src_level: usize,
    pub(super) src_kind: c_uint,
    pub(super) src_host: u64,
    pub(super) src_device: u64,
    pub(super) src_array: usize,
    pub(super) reserved_src: usize,
    pub(super) src_pitch: usize,
    pub(super) src_height: usize,
    pub(super) dst_x: usize,
    pub(super) dst_y: usize,
    pub(super) dst_z: usize,
    pub(super) dst_level: usize,
    pub(super) dst_kind: c_uint,
    pub(super) dst_host: u64,
    pub(super) dst_device: u64,
    pub(super) dst_array: usize,
    pub(super) reserved_dst: usize,
    pub(super) dst_pitch: usize,
    pub(super) dst_height: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) depth: usize,
}

/// `CUmemorytype`
const HOST: c_uint = 1;
const DEVICE: c_uint = 2;
const ARRAY: c_uint = 3;
const UNIFIED: c_uint = 4;

impl Rectangle {
    fn cuboid(self) -> Cuboid {
        Cuboid {
            src_x: self.src_x,
            src_y: self.src_y,
            src_z: 0,
            src_level: 0,
            src_kind: self.src_kind,
            src_host: self.src_host,
            src_device: self.src_device,
            src_array: self.src_array,
            reserved_src: 0,
            src_pitch: self.src_pitch,
            src_height: 0,
            dst_x: self.dst_x,
            dst_y: self.dst_y,
            dst_z: 0,
            dst_level: 0,
            dst_kind: self.dst_kind,
            dst_host: self.dst_host,
            dst_device: self.dst_device,
            dst_array: self.dst_array,
            reserved_dst: 0,
            dst_pitch: self.dst_pitch,
            dst_height: 0,
            width: self.width,
            height: self.height,
            depth: 1,
        }
    }
}

impl Cuboid {
    /// The copy that it describes.
    pub(super) fn copy(&self) -> Result<Copy> {
        let (from_at, to_at) = ([self.src_x, self.src_y, self.src_z], [self.dst_x, self.dst_y, self.dst_z]);
        let from = side(self.src_kind, self.src_host, self.src_device)?;
        let to = side(self.dst_kind, self.dst_host, self.dst_device)?;
        Ok(Copy {
            from: self.end(from, from_at, self.src_pitch, self.src_height)?,
            to: self.end(to, to_at, self.dst_pitch, self.dst_height)?,
            width: self.width as u64,
            height: self.height as u64,
            depth: self.depth as u64,
        })
    }

    /// Where one end starts and how far its rows and slices are apart.
    fn end(&self, side: Side, [x, y, z]: [usize; 3], pitch: usize, rows: usize) -> Result<End> {
        let pitch = if pitch == 0 { x + self.width } else { pitch };
        let rows = if rows == 0 { y + self.height } else { rows };
        if self.height > 1 && pitch < x.saturating_add(self.width) {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!("rows of {} bytes do not fit a pitch of {pitch}", self.width),
            ));
        }
        if self.depth > 1 && rows < y.saturating_add(self.height) {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!("slices of {} rows do not fit {rows}", self.height),
            ));
        }
        let far = || refuse(Code::INVALID_VALUE, "a pitch is too large");
        let slice = pitch.checked_mul(rows).ok_or_else(far)?;
        let start = z
            .checked_mul(slice)
            .zip(y.checked_mul(pitch))
            .and_then(|(z, y)| z.checked_add(y)?.checked_add(x));
        Ok(End { side: side.offset(start.ok_or_else(far)? as u64), pitch: pitch as u64, slice: slice as u64 })
    }
}

fn side(kind: c_uint, host: u64, device: u64) -> Result<Side> {
    match kind {
        HOST => Ok(Side::Host(host)),
        DEVICE => Ok(Side::Device(device)),
        UNIFIED => Ok(Side::Unified(device)),
        ARRAY => Err(refuse(Code::NOT_SUPPORTED, "there are no arrays")),
        _ => Err(refuse(Code::INVALID_VALUE, format_args!("memory type {kind} is not known"))),
    }
}

fn rectangle(description: In<Rectangle>) -> Result<Copy> {
    description.get()?.cuboid().copy()
}

entries! {
    /// Copies a rectangle.
    fn cuMemcpy2D_v2 or cuMemcpy2DUnaligned_v2(description: In<Rectangle>) {
        synchronous(rectangle(description)?)
    }

    /// Copies a rectangle, in a stream.
    fn cuMemcpy2DAsync_v2(description: In<Rectangle>, stream: Handle<Stream>) {
        in_stream(rectangle(description)?, stream)
    }

    /// Copies a box.
    fn cuMemcpy3D_v2(description: In<Cuboid>) {
        synchronous(description.get()?.copy()?)
    }

    /// Copies a box, in a stream.
    fn cuMemcpy3DAsync_v2(description: In<Cuboid>, stream: Handle<Stream>) {
        in_stream(description.get()?.copy()?, stream)
    }
}
