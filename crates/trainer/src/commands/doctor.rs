//! `wikigpt doctor`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use wikigpt_kernels::nvrtc::Nvrtc;
use wikigpt_kernels::{Gpu, Options, Precision};

use crate::device::{self, Device};
use crate::flags::PrecisionName;
use crate::{output, progress};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt doctor
  wikigpt doctor --json";

/// Flags of `wikigpt doctor`.
#[derive(Args)]
pub struct Arguments {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    target: String,
    cpu: Processor,
    memory: Memory,
    /// Where downloads are kept.
    cache: Folder,
    /// Where `train` puts its runs unless told otherwise.
    here: Folder,
    cuda: Cuda,
    /// What `--device auto` takes.
    auto: String,
}

#[derive(Serialize)]
struct Cuda {
    /// What is missing, and what to do; null if GPUs can be used.
    problem: Option<String>,
    /// The newest CUDA that the driver knows.
    driver: Option<String>,
    compiler: Option<Compiler>,
    /// Where compiled kernels are kept; null if nowhere.
    kernels: Option<PathBuf>,
    devices: Vec<CudaDevice>,
}

#[derive(Serialize)]
struct Compiler {
    path: PathBuf,
    version: String,
}

#[derive(Serialize)]
struct CudaDevice {
    name: String,
    capability: String,
    multiprocessors: u32,
    memory: Memory,
    /// The kernels that it would be given, and why those, by precision.
    tiers: Vec<Tier>,
    /// What came of compiling and running a kernel.
    self_test: String,
}

#[derive(Serialize)]
struct Tier {
    precision: PrecisionName,
    tier: &'static str,
    why: &'static str,
}

#[derive(Serialize)]
struct Processor {
    name: Option<String>,
    threads: usize,
    /// The vector extensions that matrix products use.
    features: Vec<&'static str>,
}

/// Bytes; null where the system does not tell.
#[derive(Serialize)]
struct Memory {
    total: Option<u64>,
    free: Option<u64>,
}

#[derive(Serialize)]
struct Folder {
    path: Option<PathBuf>,
    /// Bytes; null where the system does not tell.
    free: Option<u64>,
}

/// Describes the machine.
pub fn run(arguments: Arguments) -> Result<()> {
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        cpu: Processor { name: processor_name(), threads: device::cores(), features: features() },
        memory: Memory { total: device::memory("MemTotal"), free: device::free_memory() },
        cache: folder(wikigpt_dataset::cache_folder()),
        here: folder(std::env::current_dir().ok()),
        cuda: cuda(),
        auto: Device::Auto.resolve().0.to_string(),
    };
    output::print(arguments.json, &report, || describe(&report))
}

/// Looks at driver, compiler and devices, and tries them.
fn cuda() -> Cuda {
    let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let found = wikigpt_kernels::devices();
    let nvrtc = Nvrtc::find();
    let problem = found.as_ref().err().or(nvrtc.as_ref().err()).map(ToString::to_string);
    Cuda {
        problem,
        driver: wikigpt_kernels::driver_version().map(version),
        compiler: nvrtc
            .ok()
            .map(|nvrtc| Compiler { path: nvrtc.path().to_owned(), version: version(nvrtc.version()) }),
        kernels: wikigpt_kernels::default_cache(),
        devices: found.unwrap_or_default().iter().map(cuda_device).collect(),
    }
}

fn cuda_device(device: &wikigpt_kernels::Device) -> CudaDevice {
    let tiers = [(PrecisionName::F32, Precision::F32), (PrecisionName::Bf16, Precision::Bf16)];
    let tier = |(name, precision)| {
        let tier = device.tier(precision).ok()?;
        Some(Tier { precision: name, tier: tier.name(), why: tier.why() })
    };
    let tried = Gpu::open(Options::new(device.ordinal, Precision::F32)).map_err(|error| error.to_string());
    let tried = tried.and_then(|mut gpu| gpu.self_test().map_err(|error| error.to_string()));
    CudaDevice {
        name: device.name.clone(),
        capability: format!("{}.{}", device.capability.0, device.capability.1),
        multiprocessors: device.multiprocessors,
        memory: Memory {
            total: Some(device.memory),
            free: device::free_memory_of(Device::Cuda(device.ordinal)),
        },
        tiers: tiers.into_iter().filter_map(tier).collect(),
        self_test: tried.map_or_else(|problem| problem, |()| "a kernel was compiled, run and checked".into()),
    }
}

fn folder(path: Option<PathBuf>) -> Folder {
    let free = path.as_deref().and_then(free_space);
    Folder { path, free }
}

/// Bytes that this user may still write where `path` is or will be.
fn free_space(path: &Path) -> Option<u64> {
    device::free_disk(path.ancestors().find(|folder| folder.is_dir())?)
}

fn describe(report: &Report) -> String {
    let cpu = &report.cpu;
    let size = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), progress::bytes);
    let features = if cpu.features.is_empty() { "none known".to_owned() } else { cpu.features.join(", ") };
    let folder = |folder: &Folder| {
        let path =
            folder.path.as_ref().map_or("none: HOME is not set".to_owned(), |p| p.display().to_string());
        format!("{path}, {} free", size(folder.free))
    };
    let mut lines = vec![
        format!("wikigpt {} on {}", report.version, report.target),
        format!("cpu:     {}, {} threads", cpu.name.as_deref().unwrap_or("unknown"), cpu.threads),
        format!("         vector units: {features}"),
        format!("memory:  {}, {} free", size(report.memory.total), size(report.memory.free)),
        format!("cache:   {}", folder(&report.cache)),
        format!("here:    {}", folder(&report.here)),
    ];
    lines.extend(describe_cuda(&report.cuda));
    lines.push(format!("so:      --device auto takes {}", report.auto));
    lines.join("\n")
}

fn describe_cuda(cuda: &Cuda) -> Vec<String> {
    let size = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), progress::bytes);
    let mut lines = Vec::new();
    if let Some(driver) = &cuda.driver {
        lines.push(format!("driver:  CUDA {driver}"));
    }
    if let Some(Compiler { path, version }) = &cuda.compiler {
        lines.push(format!("nvrtc:   {version}, {}", path.display()));
    }
    if !cuda.devices.is_empty() {
        let kept = cuda.kernels.as_ref().map_or("not kept".to_owned(), |path| path.display().to_string());
        lines.push(format!("kernels: {kept}"));
    }
    for (number, device) in cuda.devices.iter().enumerate() {
        lines.push(format!(
            "cuda:{number}:  {}, compute capability {}, {} multiprocessors, {}, {} free",
            device.name,
            device.capability,
            device.multiprocessors,
            size(device.memory.total),
            size(device.memory.free)
        ));
        for Tier { precision, tier, why } in &device.tiers {
            let precision = match precision {
                PrecisionName::F32 => "f32: ",
                PrecisionName::Bf16 => "bf16:",
            };
            lines.push(format!("         {precision} {tier} kernels, {why}"));
        }
        lines.push(format!("         self-test: {}", device.self_test));
    }
    if let Some(problem) = &cuda.problem {
        lines.push(format!("cuda:    {problem}"));
    }
    lines
}

fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The vector extensions that matrix products use.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        known.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec!["neon"]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}
