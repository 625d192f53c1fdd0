//! `wikigpt doctor`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{device, output, progress};

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
    /// Why there is no such device.
    cuda: &'static str,
    /// What `--device auto` takes.
    auto: &'static str,
    precisions: [&'static str; 1],
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
        cuda: "not built into this version",
        auto: "cpu",
        precisions: ["f32"],
    };
    output::print(arguments.json, &report, || describe(&report))
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
    [
        format!("wikigpt {} on {}", report.version, report.target),
        format!("cpu:     {}, {} threads", cpu.name.as_deref().unwrap_or("unknown"), cpu.threads),
        format!("         vector units: {features}"),
        format!("memory:  {}, {} free", size(report.memory.total), size(report.memory.free)),
        format!("cache:   {}", folder(&report.cache)),
        format!("here:    {}", folder(&report.here)),
        format!("cuda:    {}", report.cuda),
        format!("so:      --device auto takes the {}; precision f32", report.auto),
    ]
    .join("\n")
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
