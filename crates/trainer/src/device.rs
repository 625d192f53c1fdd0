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
use clap::Args;
use serde::{Deserialize, Serialize};
use wikigpt_cpu::Cpu;
use wikigpt_kernels::{Gpu, Options, Precision};

use crate::fault::{BadInput, bad_input};
use crate::flags::PrecisionName;
use crate::output;

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
    /// What `auto` stands for on this machine; others are themselves. If there is a GPU that `auto` cannot take, the second says why.
    pub fn resolve(self) -> (Device, Option<String>) {
        match self {
            Device::Auto => match wikigpt_kernels::ready() {
                Ok(()) => (Device::Cuda(0), None),
                Err(wikigpt_kernels::Error::NoDriver | wikigpt_kernels::Error::NoDevice) => {
                    (Device::Cpu, None)
                }
                Err(why) => (Device::Cpu, Some(why.to_string())),
            },
            named => (named, None),
        }
    }

    /// The precision to train in where none is asked for: tensor cores multiply bf16.
    pub fn usual_precision(self) -> PrecisionName {
        match self {
            Device::Auto | Device::Cpu => PrecisionName::F32,
            Device::Cuda(ordinal) => match wikigpt_kernels::Device::open(ordinal) {
                Ok(device) if device.capability < (8, 0) => PrecisionName::F32,
                _ => PrecisionName::Bf16,
            },
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

/// A device, opened.
pub enum Backend {
    /// The CPU.
    Cpu(Cpu),
    /// A GPU.
    Cuda(Box<Gpu>),
}

/// Calls a function that takes any backend with the one that is there.
macro_rules! with_backend {
    ($backend:expr, $ops:ident => $call:expr) => {
        match $backend {
            $crate::device::Backend::Cpu($ops) => $call,
            $crate::device::Backend::Cuda(boxed) => {
                let $ops = *boxed;
                $call
            }
        }
    };
}
pub(crate) use with_backend;

/// Which device, and how it computes.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// The device, `auto` resolved.
    pub device: Device,
    /// Weights and activations.
    pub precision: PrecisionName,
    /// Gradients of parameters.
    pub grads: PrecisionName,
    /// Whether steps are recorded as CUDA graphs.
    pub graph: bool,
    /// CPU threads.
    pub threads: usize,
}

impl Machine {
    /// Refuses what no device of this kind does.
    pub fn check(&self) -> Result<()> {
        if self.device == Device::Cpu && self.precision == PrecisionName::Bf16 {
            bad_input!("--precision bf16: the CPU computes in f32 only; use --precision f32");
        }
        if self.grads == PrecisionName::Bf16 && self.precision == PrecisionName::F32 {
            bad_input!("--grad-precision bf16: gradients of f32 weights are f32; use --precision bf16");
        }
        Ok(())
    }

    /// Opens the device.
    pub fn open(&self) -> Result<Backend> {
        self.check()?;
        let Device::Cuda(ordinal) = self.device else { return Ok(Backend::Cpu(open_cpu(self.threads)?)) };
        let options = Options {
            grads: kernels_precision(self.grads),
            graph: self.graph,
            progress: Box::new(output::note),
            ..Options::new(ordinal, kernels_precision(self.precision))
        };
        match Gpu::open(options) {
            Ok(gpu) => Ok(Backend::Cuda(Box::new(gpu))),
            Err(error) => bad_input!("--device {}: {error}", self.device),
        }
    }
}

impl Backend {
    /// Bytes of the device's memory that are free, where it tells.
    pub fn free_memory(&self) -> Option<u64> {
        match self {
            Backend::Cpu(_) => free_memory(),
            Backend::Cuda(gpu) => gpu.memory().ok().map(|(free, _)| free),
        }
    }
}

/// The kernels' name of a precision.
fn kernels_precision(name: PrecisionName) -> Precision {
    match name {
        PrecisionName::F32 => Precision::F32,
        PrecisionName::Bf16 => Precision::Bf16,
    }
}

/// Flags of commands that compute with a model: which device, and how.
#[derive(Args, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineFlags {
    /// What computes: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    device: String,
    /// Precision of weights and activations
    #[arg(long, default_value = "f32")]
    precision: PrecisionName,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
}

impl MachineFlags {
    /// The machine that they name.
    pub fn resolve(&self) -> Result<Machine> {
        let (device, why) = self.device.parse::<Device>()?.resolve();
        if let Some(why) = why {
            output::warn(&format!("--device auto takes the CPU: {why}"));
        }
        let threads = threads(self.threads)?;
        Ok(Machine { device, precision: self.precision, grads: PrecisionName::F32, graph: true, threads })
    }
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
fn open_cpu(threads: usize) -> Result<Cpu> {
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

/// The same of a device, where it is there.
pub fn free_memory_of(device: Device) -> Option<u64> {
    match device {
        Device::Auto | Device::Cpu => free_memory(),
        Device::Cuda(ordinal) => wikigpt_kernels::free_memory(ordinal),
    }
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
