//! Why there is no GPU to compute on.

use std::path::PathBuf;

/// Each is one sentence for the person who runs the program: what is missing, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The driver's library is not on the loader's path.
    #[error(
        "there is no NVIDIA driver on this machine (libcuda.so was not found): install one, or use --device cpu"
    )]
    NoDriver,
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {0}")]
    Driver(String),
    /// The driver knows no GPU.
    #[error("the NVIDIA driver finds no GPU on this machine: use --device cpu")]
    NoDevice,
    /// No device of that number.
    #[error("there is no cuda:{asked}: this machine has {} (cuda:0{})", devices(*found), up_to(*found))]
    NoSuchDevice {
        /// The number asked for.
        asked: usize,
        /// How many devices there are.
        found: usize,
    },
    /// The device is older than any kernel here.
    #[error("cuda:{ordinal} ({name}) is of compute capability {}.{}, and the kernels need 7.0 or later", capability.0, capability.1)]
    TooOld {
        /// The device's number.
        ordinal: usize,
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// The device has no bf16 arithmetic.
    #[error(
        "cuda:{ordinal} ({name}) is of compute capability {}.{}, and bf16 needs 8.0 or later: use --precision f32",
        capability.0,
        capability.1
    )]
    NoBf16 {
        /// The device's number.
        ordinal: usize,
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// The compiler's library was not found.
    #[error(
        "NVRTC, which compiles the kernels, was not found: install CUDA's toolkit, or `pip install nvidia-cuda-nvrtc`, or put the folder \
         of libnvrtc.so on LD_LIBRARY_PATH; looked for {}",
        looked.join(", ")
    )]
    NoNvrtc {
        /// The places, in the order in which they were looked at.
        looked: Vec<String>,
    },
    /// NVRTC does not know the device.
    #[error("NVRTC {}.{} ({}) compiles for no device as old or as new as sm_{arch}: install another version of it", version.0, version.1, path.display())]
    UnknownArch {
        /// NVRTC's version.
        version: (u32, u32),
        /// Where it was found.
        path: PathBuf,
        /// The device's architecture.
        arch: u32,
    },
}

fn devices(n: usize) -> String {
    if n == 1 { "1 GPU".into() } else { format!("{n} GPUs") }
}

fn up_to(n: usize) -> String {
    if n > 1 { format!(" to cuda:{}", n - 1) } else { String::new() }
}
