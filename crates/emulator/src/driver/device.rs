//! Initialisation, and the one device: its name, size and identity.

use std::ffi::{c_char, c_int, c_uint};

use super::abi::{In, Out, Text};
use super::entry::{entries, refuse};
use super::settings::{self, Settings};
use super::{Code, DRIVER, Driver, Result, attributes, driver};
use crate::device::Device;

/// `CUdevice`: an ordinal. There is one device.
pub(super) type Ordinal = c_int;

/// `CUuuid`.
pub(super) type Uuid = [u8; 16];

const PCI_BUS_ID: &str = "0000:01:00.0";

/// Refuses any other device than the first.
pub(super) fn check(device: Ordinal) -> Result<()> {
    match device {
        0 => Ok(()),
        _ => {
            Err(refuse(Code::INVALID_DEVICE, format_args!("device {device} where device 0 is the only one")))
        }
    }
}

fn identity(device: &Device) -> Uuid {
    let mut uuid = *b"wikigpt emulator";
    uuid[14..].copy_from_slice(&[device.capability.0 as u8, device.capability.1 as u8]);
    uuid
}

entries! {
    /// Starts the driver.
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} where 0 is required")));
        }
        if DRIVER.get().is_none() {
            let settings = Settings::read()?;
            DRIVER.get_or_init(|| Driver::new(settings));
        }
        Ok(())
    }

    /// The newest CUDA that the driver knows.
    fn cuDriverGetVersion(version: Out<c_int>) {
        let (major, minor) = settings::version();
        version.set((1000 * major + 10 * minor) as c_int)
    }

    /// How many devices there are: one.
    fn cuDeviceGetCount(count: Out<c_int>) {
        driver()?;
        count.set(1)
    }

    /// The device of an ordinal.
    fn cuDeviceGet(device: Out<Ordinal>, ordinal: c_int) {
        driver()?;
        device.check()?;
        check(ordinal)?;
        device.set(ordinal)
    }

    /// Its name.
    fn cuDeviceGetName(name: Out<c_char>, len: c_int, device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        name.text(driver.device.name, len)
    }

    /// Its identity.
    fn cuDeviceGetUuid_v2 or cuDeviceGetUuid(uuid: Out<Uuid>, device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        uuid.set(identity(driver.device))
    }

    /// Bytes of memory.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        bytes.set(driver.device.memory as usize)
    }

    /// One of its attributes.
    fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_uint, device: Ordinal) {
        let driver = driver()?;
        value.check()?;
        check(device)?;
        let found = attributes::of(driver.device, attribute);
        value.set(found.ok_or_else(|| {
            refuse(Code::INVALID_VALUE, format_args!("device attribute {attribute} is not known"))
        })?)
    }

    /// Its compute capability.
    fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        major.set(driver.device.capability.0 as c_int)?;
        minor.set(driver.device.capability.1 as c_int)
    }

    /// Properties of old: ten numbers.
    fn cuDeviceGetProperties(properties: Out<c_int>, device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        // maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3], sharedMemPerBlock, totalConstantMemory, SIMDWidth,
        // memPitch, regsPerBlock, clockRate, textureAlign.
        let numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        properties.fill(numbers.map(|number| attributes::of(driver.device, number).unwrap_or_default()))
    }

    /// Where it sits.
    fn cuDeviceGetPCIBusId(text: Out<c_char>, len: c_int, device: Ordinal) {
        driver()?;
        check(device)?;
        text.text(PCI_BUS_ID, len)
    }

    /// The device that sits there.
    fn cuDeviceGetByPCIBusId(device: Out<Ordinal>, text: Text) {
        driver()?;
        let text = text.get()?;
        if !PCI_BUS_ID.ends_with(text.trim_end_matches(".0")) && text != PCI_BUS_ID {
            return Err(refuse(Code::INVALID_DEVICE, format_args!("no device sits at {text}")));
        }
        device.set(0)
    }

    /// Whether a process may run kernels of that affinity: all multiprocessors belong to every context.
    fn cuDeviceGetExecAffinitySupport(supported: Out<c_int>, _kind: c_uint, device: Ordinal) {
        driver()?;
        check(device)?;
        supported.set(0)
    }

    /// Whether the device can reach itself as a peer: no device can.
    fn cuDeviceCanAccessPeer(can: Out<c_int>, device: Ordinal, peer: Ordinal) {
        driver()?;
        check(device)?;
        check(peer)?;
        can.set(0)
    }

    /// The profiler that is not there starts.
    fn cuProfilerStart() {
        super::context::current().map(|_| ())
    }

    /// The profiler that is not there stops.
    fn cuProfilerStop() {
        super::context::current().map(|_| ())
    }

    /// Undocumented tables of functions: none.
    fn cuGetExportTable(table: Out<usize>, id: In<Uuid>) {
        let id: String = id.get()?.iter().map(|byte| format!("{byte:02x}")).collect();
        table.offer(0);
        Err(refuse(Code::NOT_SUPPORTED, format_args!("the table of functions {id} is not documented")))
    }
}
