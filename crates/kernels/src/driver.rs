//! The driver and its devices.

use cudarc::driver::result::device;
use cudarc::driver::sys::{self, CUdevice_attribute};
use cudarc::driver::{CudaContext, DriverError, result};

use crate::Error;

/// A device, as far as it can be described without being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Its compute capability.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: u64,
    /// Multiprocessors.
    pub multiprocessors: u32,
}

impl Device {
    /// The device of a number.
    ///
    /// # Errors
    /// [`Error::NoDriver`], [`Error::Driver`], [`Error::NoDevice`], [`Error::NoSuchDevice`], [`Error::TooOld`].
    pub fn open(ordinal: usize) -> Result<Device, Error> {
        let devices = devices()?;
        let found = devices.len();
        let Some(device) = devices.into_iter().nth(ordinal) else {
            return Err(Error::NoSuchDevice { asked: ordinal, found });
        };
        if device.capability < (7, 0) {
            let Device { ordinal, name, capability, .. } = device;
            return Err(Error::TooOld { ordinal, name, capability });
        }
        Ok(device)
    }
}

/// All devices; at least one.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::Driver`], [`Error::NoDevice`].
pub fn devices() -> Result<Vec<Device>, Error> {
    start()?;
    let failed = |error| Error::Driver(words(error));
    let count = device::get_count().map_err(failed)?;
    let describe = |ordinal: i32| -> Result<Device, DriverError> {
        let device = device::get(ordinal)?;
        // SAFETY: `device` is one that the driver has just named.
        let attribute = |which| unsafe { device::get_attribute(device, which) };
        let part = |which| Ok::<_, DriverError>(attribute(which)?.max(0) as u32);
        Ok(Device {
            ordinal: ordinal as usize,
            name: device::get_name(device)?,
            capability: (
                part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            // SAFETY: as above.
            memory: unsafe { device::total_mem(device) }? as u64,
            multiprocessors: part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        })
    };
    let devices = (0..count).map(describe).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if devices.is_empty() { Err(Error::NoDevice) } else { Ok(devices) }
}

/// Bytes of a device's memory that are free; none if there is no such device.
pub fn free_memory(ordinal: usize) -> Option<u64> {
    Device::open(ordinal).ok()?;
    let context = CudaContext::new(ordinal).ok()?;
    context.mem_get_info().ok().map(|(free, _)| free as u64)
}

/// Loads the driver and starts it.
fn start() -> Result<(), Error> {
    // SAFETY: looks for a library and loads it; NVIDIA's does nothing to this process before it is called.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDriver);
    }
    match result::init() {
        Ok(()) => Ok(()),
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Err(Error::NoDevice),
        Err(error) => Err(Error::Driver(words(error))),
    }
}

/// The newest CUDA that the driver knows, as major and minor version; none without a driver.
pub fn driver_version() -> Option<(u32, u32)> {
    let mut version = 0;
    // SAFETY: the library is there, and the call writes one number.
    let found =
        unsafe { sys::is_culib_present() && sys::cuDriverGetVersion(&raw mut version).result().is_ok() };
    found.then_some((version as u32 / 1000, version as u32 % 1000 / 10))
}

/// A driver's error in its own words.
pub(crate) fn words(error: DriverError) -> String {
    let name = format!("{:?}", error.0);
    match error.error_string() {
        Ok(text) => format!("{} ({name})", text.to_string_lossy()),
        Err(_) => name,
    }
}
