//! Device and managed memory: allocation, and who owns what.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint};
use std::sync::{Arc, Mutex};

use super::abi::{Handle, Out};
use super::context::{Context, current};
use super::entry::{entries, refuse};
use super::host_memory::Pages;
use super::pool::Pool;
use super::stream::{Queue, Stream};
use super::table::lock;
use super::{Code, Driver, Result, capture, driver};
use crate::memory::{Allocation, Nowhere};

/// A device address, `CUdeviceptr`.
pub(super) type Address = u64;

/// How a piece of memory came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// `cuMemAlloc`
    Device,
    /// `cuMemAllocAsync`
    Pool(Handle<Pool>),
    /// `cuMemAllocManaged`
    Managed,
    /// `cuMemHostAlloc`, with its flags.
    Host(c_uint),
    /// `cuMemHostRegister`, with its flags.
    Registered(c_uint),
    /// A variable of a module.
    Variable,
}

/// A piece of memory.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// Its address.
    pub start: Address,
    /// Its bytes.
    pub len: u64,
    /// How it came to be.
    pub origin: Origin,
    /// The context that it belongs to.
    pub context: Handle<Context>,
    /// Its number, which no other ever has.
    pub id: u64,
    /// Where it lies, if that is memory of the host that the driver allocated.
    _pages: Option<Arc<Pages>>,
}

/// All pieces, by the address of their allocation.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    table: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ranges: BTreeMap<u64, Range>,
    given: u64,
    used: u64,
}

impl Origin {
    /// Whether it lies in the device's memory.
    pub(super) fn on_device(self) -> bool {
        !matches!(self, Origin::Host(_) | Origin::Registered(_))
    }
}

impl Ranges {
    /// Enters a piece of memory; its address.
    pub(super) fn insert(
        &self,
        allocation: Arc<Allocation>,
        pages: Option<Pages>,
        len: u64,
        origin: Origin,
        context: Handle<Context>,
    ) -> Address {
        let mut table = lock(&self.table);
        table.given += 1;
        if origin.on_device() {
            table.used += len;
        }
        let (id, start, pages) = (table.given, allocation.base, pages.map(Arc::new));
        table.ranges.insert(start, Range { start, len, origin, context, id, _pages: pages });
        start
    }

    /// The piece that holds an address.
    pub(super) fn find(&self, address: u64) -> Option<Range> {
        let table = lock(&self.table);
        let (_, range) = table.ranges.range(..=address).next_back()?;
        (address >= range.start && address - range.start < range.len).then(|| range.clone())
    }

    /// Takes out the piece that starts at an address, if `fits` accepts how it came to be.
    pub(super) fn free(&self, driver: &Driver, start: u64, fits: impl Fn(Origin) -> bool) -> Option<Range> {
        let found = self.find(start).filter(|range| range.start == start && fits(range.origin))?;
        self.forget(driver, found.start)
    }

    /// Frees all of a context.
    pub(super) fn free_all(&self, driver: &Driver, context: Handle<Context>) {
        self.free_where(driver, |range| range.context == context);
    }

    /// Frees all for which `gone` holds.
    pub(super) fn free_where(&self, driver: &Driver, gone: impl Fn(&Range) -> bool) {
        let bases: Vec<u64> =
            lock(&self.table).ranges.iter().filter(|(_, range)| gone(range)).map(|(base, _)| *base).collect();
        for base in bases {
            self.forget(driver, base);
        }
    }

    /// Bytes of the device's memory that are taken.
    pub(super) fn used(&self) -> u64 {
        lock(&self.table).used
    }

    /// Bytes that a pool has given out.
    pub(super) fn used_by(&self, pool: Handle<Pool>) -> u64 {
        let table = lock(&self.table);
        table.ranges.values().filter(|range| range.origin == Origin::Pool(pool)).map(|range| range.len).sum()
    }

    /// Takes a piece out. Memory of the host must not go while the device is at work on it.
    fn forget(&self, driver: &Driver, base: Address) -> Option<Range> {
        let _work = driver.work();
        let mut table = lock(&self.table);
        let range = table.ranges.remove(&base)?;
        if range.origin.on_device() {
            table.used -= range.len;
        }
        // An address that is not there any more would be a defect of this table, not of the program.
        let freed = driver.memory.free(base);
        debug_assert!(freed.is_ok(), "{range:?}: {freed:?}");
        Some(range)
    }
}

/// Allocates device memory for a context.
pub(super) fn allocate(driver: &Driver, len: u64, origin: Origin, context: &Context) -> Result<Address> {
    if len == 0 {
        return Err(refuse(Code::INVALID_VALUE, "0 bytes were asked for"));
    }
    let room = driver.device.memory - driver.ranges.used();
    if len > room {
        return Err(refuse(Code::OUT_OF_MEMORY, format_args!("{len} bytes were asked for, {room} are free")));
    }
    let (allocation, pages) = match origin {
        Origin::Managed => {
            super::host_memory::map(driver, len).map(|(allocation, pages)| (allocation, Some(pages)))?
        }
        _ => {
            let none = || refuse(Code::OUT_OF_MEMORY, format_args!("the host has no room for {len} bytes"));
            (driver.memory.allocate(len).ok_or_else(none)?, None)
        }
    };
    Ok(driver.ranges.insert(allocation, pages, len, origin, context.handle))
}

/// The allocation that holds these bytes and where in it they start; else an error that says what is there.
pub(super) fn resolve(driver: &Driver, address: Address, len: u64) -> Result<(Arc<Allocation>, u64)> {
    match driver.memory.find(address, len) {
        Ok(allocation) => {
            let offset = address - allocation.base;
            Ok((allocation, offset))
        }
        Err(nowhere) => {
            let near = nowhere.describe(address, len);
            Err(refuse(Code::INVALID_VALUE, format_args!("{len} bytes at {address:#x}{near}")))
        }
    }
}

/// Bytes that the rows of `cuMemAllocPitch` are a multiple of.
const PITCH: usize = 512;

entries! {
    /// Free and total bytes of the device's memory.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let driver = driver()?;
        current()?;
        free.offer((driver.device.memory - driver.ranges.used()) as usize);
        total.offer(driver.device.memory as usize);
        Ok(())
    }

    /// Allocates device memory.
    fn cuMemAlloc_v2(address: Out<Address>, bytes: usize) {
        let (driver, context) = (driver()?, current()?);
        capture::refuse_unsafe(&context)?;
        address.check()?;
        address.set(allocate(driver, bytes as u64, Origin::Device, &context)?)
    }

    /// Allocates rows.
    fn cuMemAllocPitch_v2(address: Out<Address>, pitch: Out<usize>, width: usize, height: usize, element: c_uint) {
        let (driver, context) = (driver()?, current()?);
        capture::refuse_unsafe(&context)?;
        address.check()?;
        pitch.check()?;
        if !matches!(element, 4 | 8 | 16) {
            return Err(refuse(Code::INVALID_VALUE, format_args!("elements of {element} bytes, expected 4, 8 or 16")));
        }
        let row = width.checked_next_multiple_of(PITCH);
        let bytes = row.and_then(|row| row.checked_mul(height)).ok_or(Code::OUT_OF_MEMORY)?;
        address.set(allocate(driver, bytes as u64, Origin::Device, &context)?)?;
        pitch.set(row.unwrap_or_default())
    }

    /// Allocates memory that host and device reach at one address.
    fn cuMemAllocManaged(address: Out<Address>, bytes: usize, flags: c_uint) {
        let (driver, context) = (driver()?, current()?);
        capture::refuse_unsafe(&context)?;
        address.check()?;
        if !matches!(flags, 1 | 2) {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x}, expected GLOBAL (1) or HOST (2)")));
        }
        address.set(allocate(driver, bytes as u64, Origin::Managed, &context)?)
    }

    /// Frees device memory.
    fn cuMemFree_v2(address: Address) {
        let (driver, context) = (driver()?, current()?);
        capture::refuse_unsafe(&context)?;
        context.synchronize()?;
        let freeable = |origin| matches!(origin, Origin::Device | Origin::Pool(_) | Origin::Managed);
        driver.ranges.free(driver, address, freeable).map(|_| ()).ok_or_else(|| not_allocated(driver, address))
    }

    /// The allocation that holds an address.
    fn cuMemGetAddressRange_v2(base: Out<Address>, bytes: Out<usize>, address: Address) {
        let driver = driver()?;
        current()?;
        let range = driver.ranges.find(address).ok_or_else(|| {
            refuse(Code::NOT_FOUND, format_args!("{address:#x} is in no allocation"))
        })?;
        base.offer(range.start);
        bytes.offer(range.len as usize);
        Ok(())
    }

    /// Allocates device memory in the order of a stream.
    fn cuMemAllocAsync(address: Out<Address>, bytes: usize, stream: Handle<Stream>) {
        let driver = driver()?;
        let queue = Queue::of(stream)?;
        let pool = super::pool::current(driver);
        allocate_async(driver, address, bytes, pool, &queue)
    }

    /// Allocates device memory of a pool in the order of a stream.
    fn cuMemAllocFromPoolAsync(address: Out<Address>, bytes: usize, pool: Handle<Pool>, stream: Handle<Stream>) {
        let driver = driver()?;
        let queue = Queue::of(stream)?;
        super::pool::check(pool)?;
        allocate_async(driver, address, bytes, pool, &queue)
    }

    /// Frees it in the order of a stream.
    fn cuMemFreeAsync(address: Address, stream: Handle<Stream>) {
        let driver = driver()?;
        let queue = Queue::of(stream)?;
        refuse_captured(&queue)?;
        let freeable = |origin| matches!(origin, Origin::Pool(_));
        driver.ranges.free(driver, address, freeable).map(|_| ()).ok_or_else(|| not_allocated(driver, address))
    }

    /// Moves managed memory where it is wanted: it is there.
    fn cuMemPrefetchAsync_v2(address: Address, bytes: usize, _place: Location, _flags: c_uint, stream: Handle<Stream>) {
        Queue::of(stream)?;
        managed(driver()?, address, bytes)
    }

    /// The same, for a device.
    fn cuMemPrefetchAsync(address: Address, bytes: usize, _device: c_int, stream: Handle<Stream>) {
        Queue::of(stream)?;
        managed(driver()?, address, bytes)
    }

    /// Advice on managed memory: heard.
    fn cuMemAdvise_v2(address: Address, bytes: usize, advice: c_uint, _place: Location) {
        advise(address, bytes, advice)
    }

    /// The same, for a device.
    fn cuMemAdvise(address: Address, bytes: usize, advice: c_uint, _device: c_int) {
        advise(address, bytes, advice)
    }

    /// Ties managed memory to a stream: all of it is everywhere at any time.
    fn cuStreamAttachMemAsync(stream: Handle<Stream>, address: Address, _len: usize, flags: c_uint) {
        Queue::of(stream)?;
        if !matches!(flags, 1 | 2 | 4) {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} are not known")));
        }
        managed(driver()?, address, 1)
    }
}

/// `CUmemLocation`: kind and number.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Location {
    /// 1: a device.
    pub kind: c_int,
    /// Which one.
    pub id: c_int,
}

fn allocate_async(
    driver: &Driver,
    address: Out<Address>,
    bytes: usize,
    pool: Handle<Pool>,
    queue: &Queue,
) -> Result<()> {
    address.check()?;
    refuse_captured(queue)?;
    address.set(allocate(driver, bytes as u64, Origin::Pool(pool), &queue.context)?)
}

/// Allocations are not captured: a graph would own memory between its launches.
fn refuse_captured(queue: &Queue) -> Result<()> {
    match queue.capture()? {
        None => Ok(()),
        Some(capture) => {
            capture.invalidate();
            Err(refuse(Code::NOT_SUPPORTED, "allocating and freeing are not captured into graphs here"))
        }
    }
}

fn managed(driver: &Driver, address: Address, bytes: usize) -> Result<()> {
    current()?;
    let range = driver.ranges.find(address).filter(|range| range.origin == Origin::Managed);
    match range {
        Some(range) if bytes as u64 <= range.start + range.len - address && bytes > 0 => Ok(()),
        _ => Err(refuse(
            Code::INVALID_VALUE,
            format_args!("{bytes} bytes at {address:#x} are not managed memory"),
        )),
    }
}

fn advise(address: Address, bytes: usize, advice: c_uint) -> Result<()> {
    if !(1..=6).contains(&advice) {
        return Err(refuse(Code::INVALID_VALUE, format_args!("advice {advice} is not known")));
    }
    managed(driver()?, address, bytes)
}

fn not_allocated(driver: &Driver, address: Address) -> Code {
    let why = match (driver.memory.find(address, 1), driver.ranges.find(address)) {
        (_, Some(range)) if range.start == address => {
            format!("{address:#x} was not allocated by the call that this one undoes")
        }
        (_, Some(range)) => format!("{address:#x} lies inside the allocation at {:#x}", range.start),
        (Err(Nowhere::Freed { .. }), _) => format!("{address:#x} was freed before"),
        _ => format!("{address:#x} was never allocated"),
    };
    refuse(Code::INVALID_VALUE, why)
}
