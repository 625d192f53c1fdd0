//! `cargo xtask emulator` and `cargo xtask emulated`: the libcuda that needs no GPU.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};

use crate::{cargo, python, root, run as execute, target};

/// Names by which programs look for the driver.
const NAMES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];

/// Where the emulator and the compiler for it lie.
pub struct Emulator {
    /// The folder with `libcuda.so`.
    driver: PathBuf,
    /// The folder with NVRTC; `None` where the loader finds it by itself.
    nvrtc: Option<PathBuf>,
}

/// Builds the emulator into `target/emulator` and sees that NVRTC is there.
pub fn build() -> Result<Emulator> {
    execute(cargo().args(["build", "--quiet", "--release", "--package", "wikigpt-emulator", "--lib"]))?;
    let driver = target().join("emulator");
    fs::create_dir_all(&driver)?;
    let built = target().join("release/libwikigpt_emulator.so");
    for name in NAMES {
        // Renamed into its place: a program that runs on the old one keeps it.
        let new = driver.join(format!(".{name}.{}", std::process::id()));
        fs::copy(&built, &new).with_context(|| format!("copying {}", built.display()))?;
        fs::rename(&new, driver.join(name))?;
    }
    Ok(Emulator { driver, nvrtc: nvrtc()? })
}

/// Says where everything is.
pub fn run() -> Result<()> {
    let emulator = build()?;
    println!("{}", emulator.driver.join(NAMES[0]).display());
    match &emulator.nvrtc {
        Some(folder) => println!("NVRTC: {}", folder.display()),
        None => println!("NVRTC: on the loader's path"),
    }
    println!("cargo xtask emulated -- PROGRAM runs a program on it");
    Ok(())
}

/// Runs a program on the emulator.
pub fn emulated(command: &[OsString]) -> Result<()> {
    let emulator = build()?;
    let [program, arguments @ ..] = command else {
        bail!("which program? cargo xtask emulated -- PROGRAM ARGS")
    };
    let mut command = Command::new(program);
    command.args(arguments).env("LD_LIBRARY_PATH", emulator.search_path()?);
    let status = command.status().with_context(|| format!("{command:?} did not start"))?;
    if status.success() { Ok(()) } else { std::process::exit(code(status)) }
}

/// The code that a shell would give.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

impl Emulator {
    /// The loader's path with the emulator's folders in front.
    pub fn search_path(&self) -> Result<OsString> {
        let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let before = std::env::split_paths(&before).filter(|path| !path.as_os_str().is_empty());
        let own = std::iter::once(self.driver.clone()).chain(self.nvrtc.clone());
        Ok(std::env::join_paths(own.chain(before))?)
    }
}

/// The folder with NVRTC: where the loader looks, in a CUDA toolkit, or a package of NVIDIA's in a virtual environment,
/// which is installed if nothing else is there.
fn nvrtc() -> Result<Option<PathBuf>> {
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| holds_nvrtc(&folder)) {
        return Ok(None);
    }
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(std::env::var_os).map(PathBuf::from);
    let toolkits = toolkits.chain(["/usr/local/cuda".into(), "/opt/cuda".into()]);
    let mut folders = toolkits.flat_map(|toolkit| [toolkit.join("lib64"), toolkit.join("lib")]);
    if let Some(folder) = folders.find(|folder| holds_nvrtc(folder)) {
        return Ok(Some(folder));
    }
    python::environment("nvrtc-venv", &root().join("tools/emulator/requirements.txt"))?;
    let libraries = target().join("nvrtc-venv/lib");
    let pythons = fs::read_dir(&libraries).with_context(|| format!("reading {}", libraries.display()))?;
    let mut folders = pythons.flatten().map(|python| python.path().join("site-packages/nvidia/cu13/lib"));
    match folders.find(|folder| holds_nvrtc(folder)) {
        Some(folder) => Ok(Some(folder)),
        None => bail!("NVRTC was installed into {} and is not there", libraries.display()),
    }
}

/// Whether a folder has an NVRTC that compiles for the devices that are emulated.
fn holds_nvrtc(folder: &Path) -> bool {
    ["libnvrtc.so.13", "libnvrtc.so.12"].iter().any(|name| folder.join(name).exists())
}
