//! Which device computes, and in which precision.

use std::num::NonZero;
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

/// Opens the CPU with so many threads.
pub fn open_cpu(threads: Option<usize>) -> Result<Cpu> {
    let threads = threads.unwrap_or_else(cores);
    if threads == 0 {
        bad_input!("--threads 0: at least one thread has to work");
    }
    if threads > 1024 {
        bad_input!(
            "--threads {threads}: more than 1024 threads make no sense here (the machine has {} cores)",
            cores()
        );
    }
    Cpu::new(threads).context("cannot start the CPU backend")
}

/// Cores that this process may use.
pub fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Bytes of memory that are free to use, where the system tells.
pub fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!("cuda:3".parse::<Device>().unwrap(), Device::Cuda(3));
        assert_eq!("auto".parse::<Device>().unwrap(), Device::Auto);
        for text in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            assert!(text.parse::<Device>().unwrap_err().to_string().contains("expected auto"));
        }
    }
}
