//! Copies between host and device.

use std::sync::Arc;

use super::abi::{Handle, Host};
use super::context::Context;
use super::entry::entries;
use super::memory::{Address, resolve};
use super::stream::{Queue, Stream};
use super::work::{Action, submit};
use super::{Driver, Result, capture};
use crate::memory::{Allocation, GLOBAL_BASE, SHARED_WINDOW};

/// Where a copy starts or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Memory that the program names as the device's.
    Device(Address),
    /// Memory that it names as the host's.
    Host(u64),
    /// Memory that is what its address says.
    Unified(Address),
}

/// One end of a copy of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Its first byte.
    pub side: Side,
    /// Bytes from a row to the next.
    pub pitch: u64,
    /// Bytes from a slice of rows to the next.
    pub slice: u64,
}

/// A copy: bytes of rows of slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// Where to.
    pub to: End,
    /// Where from.
    pub from: End,
    /// Bytes of a row.
    pub width: u64,
    /// Rows of a slice.
    pub height: u64,
    /// Slices.
    pub depth: u64,
}

/// What an address leads to.
enum Found {
    Global(Arc<Allocation>, u64),
    Host(Host),
}

impl Side {
    /// The same, further on.
    pub(super) fn offset(self, bytes: u64) -> Side {
        match self {
            Side::Device(address) => Side::Device(address.wrapping_add(bytes)),
            Side::Host(address) => Side::Host(address.wrapping_add(bytes)),
            Side::Unified(address) => Side::Unified(address.wrapping_add(bytes)),
        }
    }

    fn find(self, driver: &Driver, len: u64) -> Result<Found> {
        match self {
            Side::Device(address) => {
                resolve(driver, address, len).map(|(found, at)| Found::Global(found, at))
            }
            Side::Host(address) | Side::Unified(address) => match driver.memory.find(address, len) {
                Ok(found) => {
                    let at = address - found.base;
                    Ok(Found::Global(found, at))
                }
                // No memory of the host lies where the device's does.
                Err(_) if (SHARED_WINDOW..GLOBAL_BASE + (1 << 42)).contains(&address) => {
                    resolve(driver, address, len).map(|(found, at)| Found::Global(found, at))
                }
                // SAFETY: an address that the caller of an entry point passed as the host's.
                Err(_) => Ok(Found::Host(unsafe { Host::from_address(address) })),
            },
        }
    }
}

impl Copy {
    /// Bytes in a row.
    pub(super) fn line(to: Side, from: Side, len: usize) -> Copy {
        let end = |side| End { side, pitch: 0, slice: 0 };
        Copy { to: end(to), from: end(from), width: len as u64, height: 1, depth: 1 }
    }

    /// Copies.
    ///
    /// # Errors
    /// Where one of the ends leads to memory that is not there: then nothing is copied.
    pub(super) fn run(&self, driver: &Driver) -> Result<()> {
        self.rows().try_for_each(|(to, from)| {
            to.find(driver, self.width)?;
            from.find(driver, self.width).map(|_| ())
        })?;
        self.rows().try_for_each(|(to, from)| copy_row(driver, to, from, self.width))
    }

    /// Where each row goes and comes from; none where rows have no bytes.
    fn rows(&self) -> impl Iterator<Item = (Side, Side)> {
        let height = if self.width > 0 { self.height } else { 0 };
        let places = (0..self.depth).flat_map(move |slice| (0..height).map(move |row| (slice, row)));
        let (to, from) = (self.to, self.from);
        places.map(move |(slice, row)| {
            let at = |end: End| slice.wrapping_mul(end.slice).wrapping_add(row.wrapping_mul(end.pitch));
            (to.side.offset(at(to)), from.side.offset(at(from)))
        })
    }
}

fn copy_row(driver: &Driver, to: Side, from: Side, len: u64) -> Result<()> {
    match (to.find(driver, len)?, from.find(driver, len)?) {
        (Found::Global(to, at), Found::Host(from)) => to.write(at, from.read(len as usize)?),
        (Found::Host(to), Found::Global(from, at)) => from.read(at, to.write(len as usize)?),
        (Found::Host(to), Found::Host(from)) => {
            to.write(len as usize)?.copy_from_slice(from.read(len as usize)?);
        }
        (Found::Global(to, to_at), Found::Global(from, from_at)) => {
            const STEP: u64 = 64 << 10;
            let mut buffer = vec![0; STEP.min(len) as usize];
            for start in (0..len).step_by(STEP as usize) {
                let piece = &mut buffer[..STEP.min(len - start) as usize];
                from.read(from_at + start, piece);
                to.write(to_at + start, piece);
            }
        }
    }
    Ok(())
}

/// A copy that is done when the call returns, in the legacy stream.
pub(super) fn synchronous(copy: Copy) -> Result<()> {
    let queue = Queue::legacy()?;
    queue.capture()?;
    capture::refuse_unsafe(&queue.context)?;
    queue.context.synchronize()?;
    submit(&queue, Action::Copy(copy))
}

/// A copy in the order of a stream.
pub(super) fn in_stream(copy: Copy, stream: Handle<Stream>) -> Result<()> {
    submit(&Queue::of(stream)?, Action::Copy(copy))
}

/// Contexts named by a copy between peers must exist; there is one device.
fn check_peers(contexts: [Handle<Context>; 2]) -> Result<()> {
    contexts.into_iter().try_for_each(|context| super::context::healthy(context).map(|_| ()))
}

entries! {
    /// Copies from anywhere to anywhere.
    fn cuMemcpy(to: Address, from: Address, bytes: usize) {
        synchronous(Copy::line(Side::Unified(to), Side::Unified(from), bytes))
    }

    /// Copies from the host to the device.
    fn cuMemcpyHtoD_v2(to: Address, from: Host, bytes: usize) {
        synchronous(Copy::line(Side::Device(to), Side::Host(from.address()), bytes))
    }

    /// Copies from the device to the host.
    fn cuMemcpyDtoH_v2(to: Host, from: Address, bytes: usize) {
        synchronous(Copy::line(Side::Host(to.address()), Side::Device(from), bytes))
    }

    /// Copies on the device.
    fn cuMemcpyDtoD_v2(to: Address, from: Address, bytes: usize) {
        synchronous(Copy::line(Side::Device(to), Side::Device(from), bytes))
    }

    /// Copies from a device to a device: there is one.
    fn cuMemcpyPeer(to: Address, to_context: Handle<Context>, from: Address, from_context: Handle<Context>, bytes: usize) {
        check_peers([to_context, from_context])?;
        synchronous(Copy::line(Side::Device(to), Side::Device(from), bytes))
    }

    /// Copies from anywhere to anywhere, in a stream.
    fn cuMemcpyAsync(to: Address, from: Address, bytes: usize, stream: Handle<Stream>) {
        in_stream(Copy::line(Side::Unified(to), Side::Unified(from), bytes), stream)
    }

    /// Copies from the host to the device, in a stream.
    fn cuMemcpyHtoDAsync_v2(to: Address, from: Host, bytes: usize, stream: Handle<Stream>) {
        in_stream(Copy::line(Side::Device(to), Side::Host(from.address()), bytes), stream)
    }

    /// Copies from the device to the host, in a stream.
    fn cuMemcpyDtoHAsync_v2(to: Host, from: Address, bytes: usize, stream: Handle<Stream>) {
        in_stream(Copy::line(Side::Host(to.address()), Side::Device(from), bytes), stream)
    }

    /// Copies on the device, in a stream.
    fn cuMemcpyDtoDAsync_v2(to: Address, from: Address, bytes: usize, stream: Handle<Stream>) {
        in_stream(Copy::line(Side::Device(to), Side::Device(from), bytes), stream)
    }

    /// Copies from a device to a device, in a stream.
    fn cuMemcpyPeerAsync(
        to: Address,
        to_context: Handle<Context>,
        from: Address,
        from_context: Handle<Context>,
        bytes: usize,
        stream: Handle<Stream>,
    ) {
        check_peers([to_context, from_context])?;
        in_stream(Copy::line(Side::Device(to), Side::Device(from), bytes), stream)
    }
}
