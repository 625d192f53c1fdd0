//! Fills of device memory.

use std::ffi::{c_uchar, c_uint, c_ushort};

use super::abi::Handle;
use super::entry::{entries, refuse};
use super::memory::{Address, resolve};
use super::stream::{Queue, Stream};
use super::work::{Action, submit};
use super::{Code, Driver, Result, capture};

/// A fill: elements of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    /// Where to.
    pub to: Address,
    /// Bytes from a row to the next.
    pub pitch: u64,
    /// What with: its low `element` bytes.
    pub value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub element: u32,
    /// Elements of a row.
    pub width: u64,
    /// Rows.
    pub height: u64,
}

impl Fill {
    fn line(to: Address, value: u32, element: u32, count: usize) -> Fill {
        Fill { to, pitch: 0, value, element, width: count as u64, height: 1 }
    }

    /// Refuses what no hardware fills.
    pub(super) fn check(self) -> Result<Fill> {
        let Fill { to, pitch, element, width, height, .. } = self;
        if !matches!(element, 1 | 2 | 4) {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!("elements of {element} bytes, expected 1, 2 or 4"),
            ));
        }
        let apart = if height > 1 { pitch } else { 0 };
        if !to.is_multiple_of(element.into()) || !apart.is_multiple_of(element.into()) {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!("{to:#x} or a pitch of {apart} is no multiple of {element} bytes"),
            ));
        }
        match width.checked_mul(element.into()) {
            Some(bytes) if height <= 1 || bytes <= pitch => Ok(self),
            _ => Err(refuse(
                Code::INVALID_VALUE,
                format_args!("rows of {width} elements do not fit a pitch of {pitch}"),
            )),
        }
    }

    /// Fills.
    ///
    /// # Errors
    /// Where it leads to memory that is not there: then nothing is filled.
    pub(super) fn run(&self, driver: &Driver) -> Result<()> {
        let bytes = self.width * u64::from(self.element);
        let pattern = &self.value.to_le_bytes()[..self.element as usize];
        let rows = if bytes > 0 { self.height } else { 0 };
        let row = |index: u64| resolve(driver, self.to.wrapping_add(index.wrapping_mul(self.pitch)), bytes);
        (0..rows).try_for_each(|index| row(index).map(|_| ()))?;
        for index in 0..rows {
            let (found, at) = row(index)?;
            found.fill(at, bytes, pattern);
        }
        Ok(())
    }
}

fn synchronous(fill: Fill) -> Result<()> {
    let queue = Queue::legacy()?;
    queue.capture()?;
    capture::refuse_unsafe(&queue.context)?;
    submit(&queue, Action::Fill(fill.check()?))
}

fn in_stream(fill: Fill, stream: Handle<Stream>) -> Result<()> {
    submit(&Queue::of(stream)?, Action::Fill(fill.check()?))
}

entries! {
    /// Fills bytes.
    fn cuMemsetD8_v2(to: Address, value: c_uchar, count: usize) {
        synchronous(Fill::line(to, value.into(), 1, count))
    }

    /// Fills 16-bit words.
    fn cuMemsetD16_v2(to: Address, value: c_ushort, count: usize) {
        synchronous(Fill::line(to, value.into(), 2, count))
    }

    /// Fills 32-bit words.
    fn cuMemsetD32_v2(to: Address, value: c_uint, count: usize) {
        synchronous(Fill::line(to, value, 4, count))
    }

    /// Fills bytes, in a stream.
    fn cuMemsetD8Async(to: Address, value: c_uchar, count: usize, stream: Handle<Stream>) {
        in_stream(Fill::line(to, value.into(), 1, count), stream)
    }

    /// Fills 16-bit words, in a stream.
    fn cuMemsetD16Async(to: Address, value: c_ushort, count: usize, stream: Handle<Stream>) {
        in_stream(Fill::line(to, value.into(), 2, count), stream)
    }

    /// Fills 32-bit words, in a stream.
    fn cuMemsetD32Async(to: Address, value: c_uint, count: usize, stream: Handle<Stream>) {
        in_stream(Fill::line(to, value, 4, count), stream)
    }

    /// Fills rows of bytes.
    fn cuMemsetD2D8_v2(to: Address, pitch: usize, value: c_uchar, width: usize, height: usize) {
        synchronous(rows(to, pitch, value.into(), 1, width, height))
    }

    /// Fills rows of 16-bit words.
    fn cuMemsetD2D16_v2(to: Address, pitch: usize, value: c_ushort, width: usize, height: usize) {
        synchronous(rows(to, pitch, value.into(), 2, width, height))
    }

    /// Fills rows of 32-bit words.
    fn cuMemsetD2D32_v2(to: Address, pitch: usize, value: c_uint, width: usize, height: usize) {
        synchronous(rows(to, pitch, value, 4, width, height))
    }

    /// Fills rows of bytes, in a stream.
    fn cuMemsetD2D8Async(to: Address, pitch: usize, value: c_uchar, width: usize, height: usize, stream: Handle<Stream>) {
        in_stream(rows(to, pitch, value.into(), 1, width, height), stream)
    }

    /// Fills rows of 16-bit words, in a stream.
    fn cuMemsetD2D16Async(to: Address, pitch: usize, value: c_ushort, width: usize, height: usize, stream: Handle<Stream>) {
        in_stream(rows(to, pitch, value.into(), 2, width, height), stream)
    }

    /// Fills rows of 32-bit words, in a stream.
    fn cuMemsetD2D32Async(to: Address, pitch: usize, value: c_uint, width: usize, height: usize, stream: Handle<Stream>) {
        in_stream(rows(to, pitch, value, 4, width, height), stream)
    }
}

fn rows(to: Address, pitch: usize, value: u32, element: u32, width: usize, height: usize) -> Fill {
    Fill { to, pitch: pitch as u64, value, element, width: width as u64, height: height as u64 }
}
