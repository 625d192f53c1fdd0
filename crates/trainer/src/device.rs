//! Which device computes, and in which precision.

#[cfg(unix)]
use std::ffi::CString;
use std::fmt;
#[cfg(unix)]
use std::mem::MaybeUninit;
use std::num::NonZero;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use wikigpt_cpu::Cpu;

use crate::fault::{BadInput, bad_input};
use crate::flags::PrecisionName;

/// `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The fastest that this build knows and this machine has.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
}

impl Device {
    /// What `auto` stands for on this machine; others are themselves.
    pub fn resolve(self) -> Device {
        match self {
            Device::Auto => Device::Cpu,
            named => named,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = BadInput;

    fn from_str(text: &str) -> Result<Self, BadInput> {
        let cuda = |number: &str| number.parse().ok().map(Device::Cuda);
        let device = match text {
            "auto" => Some(Device::Auto),
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(cuda),
        };
        device.ok_or_else(|| BadInput::new(format!("--device {text}: expected auto, cpu, cuda or cuda:N")))
    }
}

/// Refuses a device or precision that this build does not have.
pub fn check(device: Device, precision: PrecisionName) -> Result<()> {
    if let Device::Cuda(_) = device {
        bad_input!("--device cuda: this build has no GPU backend yet; use --device cpu");
    }
    if precision == PrecisionName::Bf16 {
        bad_input!("--precision bf16: the CPU computes in f32 only; use --precision f32");
    }
    Ok(())
}

/// `--threads`, by default one per core.
pub fn threads(asked: Option<usize>) -> Result<usize> {
    let threads = asked.unwrap_or_else(cores);
    if threads == 0 {
        bad_input!("--threads 0: at least one thread has to work");
    }
    if threads > 1024 {
        bad_input!(
            "--threads {threads}: more than 1024 threads make no sense here (the machine has {} cores)",
            cores()
        );
    }
    Ok(threads)
}

/// Opens the CPU with so many threads.
pub fn open_cpu(threads: usize) -> Result<Cpu> {
    wikigpt_cpu::cpu(threads).context("cannot start the CPU backend")
}

/// Cores that this process may use.
pub fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Bytes of memory that are free to use, where the system tells.
pub fn free_memory() -> Option<u64> {
    memory("MemAvailable")
}

/// An entry of Linux's /proc/meminfo, in bytes.
pub fn memory(entry: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(entry)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

/// Bytes that this user may still write to the file system of a folder, where the system tells.
#[cfg(unix)]
pub fn free_disk(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` ends in 0 and `found` has room for what the call writes; all zeros are a valid statvfs.
    let found = unsafe {
        if libc::statvfs(path.as_ptr(), found.as_mut_ptr()) != 0 {
            return None;
        }
        found.assume_init()
    };
    // The fields' types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    Some(found.f_bavail as u64 * found.f_frsize as u64)
}

/// Not asked for on other systems.
#[cfg(not(unix))]
pub fn free_disk(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_is_free() {
        let total = memory("MemTotal").unwrap();
        assert!(free_memory().unwrap() <= total && total > 1 << 24);
        assert_eq!(memory("NoSuchEntry"), None);
        assert!(free_disk(&std::env::temp_dir()).unwrap() > 0);
        assert_eq!(free_disk(Path::new("/nonexistent")), None);
    }

    #[test]
    fn devices_have_names() {
        assert_eq!("cuda:3".parse::<Device>().unwrap(), Device::Cuda(3));
        assert_eq!("auto".parse::<Device>().unwrap(), Device::Auto);
        for text in ["auto", "cpu", "cuda:0", "cuda:12"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            assert!(text.parse::<Device>().unwrap_err().to_string().contains("expected auto"));
        }
    }
}
