//! Host memory that the device reaches: at the same address.

use std::ffi::c_uint;
use std::sync::Arc;

use super::abi::{Host, Out};
use super::context::{Context, current};
use super::entry::{entries, refuse};
use super::memory::{Address, Origin};
use super::{Code, Driver, Result, capture, driver};
use crate::memory::Allocation;

/// PORTABLE, DEVICEMAP, WRITECOMBINED.
const ALLOCATE_FLAGS: c_uint = 7;
/// PORTABLE, DEVICEMAP, IOMEMORY, READ_ONLY.
const REGISTER_FLAGS: c_uint = 15;
const IO_MEMORY: c_uint = 4;

/// Memory of the host that the driver allocated.
#[derive(Debug)]
pub(super) struct Pages {
    at: *mut u8,
    len: usize,
}

// SAFETY: nothing but an address, which is given back once.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; the range that held it was taken out of the table before.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

/// Allocates memory of the host that kernels reach at its own address.
pub(super) fn map(driver: &Driver, len: u64) -> Result<(Arc<Allocation>, Pages)> {
    let none = || refuse(Code::OUT_OF_MEMORY, format_args!("the host has no room for {len} bytes"));
    let bytes = usize::try_from(len).map_err(|_| none())?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: an anonymous mapping of its own; the result is checked.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(none());
    }
    let pages = Pages { at: at.cast(), len: bytes };
    // SAFETY: `pages` keeps the mapping until its range has been freed; see `Ranges::forget`.
    let allocation = unsafe { driver.memory.register(pages.at, len) }.ok_or_else(none)?;
    Ok((allocation, pages))
}

fn allocate(
    driver: &Driver,
    pointer: Out<Address>,
    bytes: usize,
    flags: c_uint,
    context: &Context,
) -> Result<()> {
    capture::refuse_unsafe(context)?;
    pointer.check()?;
    if bytes == 0 {
        return Err(refuse(Code::INVALID_VALUE, "0 bytes were asked for"));
    }
    let (allocation, pages) = map(driver, bytes as u64)?;
    pointer.set(driver.ranges.insert(
        allocation,
        Some(pages),
        bytes as u64,
        Origin::Host(flags),
        context.handle,
    ))
}

fn flags_of(driver: &Driver, pointer: Host) -> Result<c_uint> {
    match driver.ranges.find(pointer.address()).map(|range| range.origin) {
        Some(Origin::Host(flags) | Origin::Registered(flags)) => Ok(flags),
        _ => Err(unknown(pointer)),
    }
}

fn unknown(pointer: Host) -> Code {
    refuse(Code::INVALID_VALUE, format_args!("{:#x} is no host memory of the driver's", pointer.address()))
}

entries! {
    /// Allocates host memory that the device reaches.
    fn cuMemAllocHost_v2 or cuMemAllocHost(pointer: Out<Address>, bytes: usize) {
        let (driver, context) = (driver()?, current()?);
        allocate(driver, pointer, bytes, 0, &context)
    }

    /// The same, with flags.
    fn cuMemHostAlloc(pointer: Out<Address>, bytes: usize, flags: c_uint) {
        let (driver, context) = (driver()?, current()?);
        if flags & !ALLOCATE_FLAGS != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} are not known")));
        }
        allocate(driver, pointer, bytes, flags, &context)
    }

    /// Frees it.
    fn cuMemFreeHost(pointer: Host) {
        let (driver, context) = (driver()?, current()?);
        capture::refuse_unsafe(&context)?;
        context.synchronize()?;
        let fits = |origin| matches!(origin, Origin::Host(_));
        driver.ranges.free(driver, pointer.address(), fits).map(|_| ()).ok_or_else(|| unknown(pointer))
    }

    /// Lets the device reach memory of the program.
    fn cuMemHostRegister_v2 or cuMemHostRegister(pointer: Host, bytes: usize, flags: c_uint) {
        let (driver, context) = (driver()?, current()?);
        capture::refuse_unsafe(&context)?;
        if flags & !REGISTER_FLAGS != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} are not known")));
        }
        if flags & IO_MEMORY != 0 {
            return Err(refuse(Code::NOT_SUPPORTED, "memory of other devices is not registered"));
        }
        let (start, len) = (pointer.address(), bytes as u64);
        if start == 0 || len == 0 || start.checked_add(len).is_none() {
            return Err(refuse(Code::INVALID_VALUE, format_args!("{len} bytes at {start:#x} cannot be registered")));
        }
        // SAFETY: the caller vouches for the memory until it is unregistered.
        let allocation = unsafe { driver.memory.register(pointer.pointer().cast(), len) }.ok_or_else(|| {
            refuse(Code::HOST_MEMORY_ALREADY_REGISTERED, format_args!("of {len} bytes at {start:#x} some are registered"))
        })?;
        driver.ranges.insert(allocation, None, len, Origin::Registered(flags), context.handle);
        Ok(())
    }

    /// Takes that back.
    fn cuMemHostUnregister(pointer: Host) {
        let (driver, context) = (driver()?, current()?);
        capture::refuse_unsafe(&context)?;
        context.synchronize()?;
        let fits = |origin| matches!(origin, Origin::Registered(_));
        driver.ranges.free(driver, pointer.address(), fits).map(|_| ()).ok_or_else(|| {
            refuse(Code::HOST_MEMORY_NOT_REGISTERED, format_args!("{:#x} is not registered", pointer.address()))
        })
    }

    /// The device's address of host memory: the same.
    fn cuMemHostGetDevicePointer_v2(address: Out<Address>, pointer: Host, flags: c_uint) {
        let driver = driver()?;
        current()?;
        if flags != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} where 0 is required")));
        }
        flags_of(driver, pointer)?;
        address.set(pointer.address())
    }

    /// The flags that host memory was allocated with.
    fn cuMemHostGetFlags(flags: Out<c_uint>, pointer: Host) {
        let driver = driver()?;
        current()?;
        flags.set(flags_of(driver, pointer)?)
    }
}
