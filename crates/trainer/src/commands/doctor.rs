//! `wikigpt doctor`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{device, output, progress};

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
    /// Null: this build has no GPU backend.
    gpu: Option<()>,
    /// What `--device auto` takes.
    auto: &'static str,
    precisions: [&'static str; 1],
}

#[derive(Serialize)]
struct Processor {
    name: Option<String>,
    threads: usize,
    features: Vec<&'static str>,
    free_memory: Option<u64>,
}

/// Describes the machine.
pub fn run(arguments: Arguments) -> Result<()> {
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        cpu: Processor {
            name: processor_name(),
            threads: device::cores(),
            features: features(),
            free_memory: device::free_memory(),
        },
        gpu: None,
        auto: "cpu",
        precisions: ["f32"],
    };
    output::print(arguments.json, &report, || describe(&report))
}

fn describe(report: &Report) -> String {
    let cpu = &report.cpu;
    let memory = cpu.free_memory.map_or("unknown".to_owned(), progress::bytes);
    let features = if cpu.features.is_empty() { "none known".to_owned() } else { cpu.features.join(", ") };
    [
        format!("wikigpt {} on {}", report.version, report.target),
        format!("CPU     {}, {} threads", cpu.name.as_deref().unwrap_or("unknown"), cpu.threads),
        format!("        vector units: {features}"),
        format!("memory  {memory} free"),
        "GPU     none: this build has no GPU backend yet".to_owned(),
        format!("so      --device auto takes the {}; precision f32", report.auto),
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
