//! `cargo xtask kernels`: what each kernel takes of a multiprocessor, and what it does to memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wikigpt_kernels::nvrtc::Nvrtc;
use wikigpt_kernels::{Arch, Constant, Gpu, Options, Precision, Program, Resources};
use wikigpt_ops::Ops;
use wikigpt_ops::workload::{OPS, Shape, Sizes, Tensors, Work};

use crate::{emulator, run as execute, target};

/// GPT-2's widths with few rows and a small vocabulary: what a kernel does to a row does not depend on how many there are.
const SHAPE: Shape = Shape { B: 1, T: 128, NH: 12, HS: 64, V: 1000, Vp: 1024, parameters: 1 << 16 };

/// The variable that names the emulator's file of counters.
const COUNTERS: &str = "WIKIGPT_EMU_COUNTERS";

/// Architectures of every generation that there are kernels for.
const ARCHS: [(u32, u32); 7] = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)];

/// What an op launched.
struct Counted {
    op: &'static str,
    precision: &'static str,
    /// Bytes that it must move, if it is bound by memory.
    floor: Option<u64>,
    launches: Vec<Value>,
}

/// What the run on the emulator found.
#[derive(Default)]
struct Survey {
    counted: Vec<Counted>,
    programs: Vec<Program>,
}

/// Runs this program again on the emulator, where it prints both reports. `all` asks for every architecture instead of Hopper's.
pub fn run(filter: &str, all: bool) -> Result<()> {
    let emulator = emulator::build()?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["kernels", filter, "--on-emulator"]).args(all.then_some("--all"));
    command.env("LD_LIBRARY_PATH", emulator.search_path()?);
    // What is counted does not depend on what is checked.
    command.env(COUNTERS, folder.path().join("counters.jsonl")).env("WIKIGPT_EMU_CHECK", "none");
    execute(&mut command)
}

/// Runs every op in every precision and prints both reports.
pub fn report(filter: &str, all: bool) -> Result<()> {
    let file = std::env::var_os(COUNTERS).map(PathBuf::from);
    let survey = survey(&file.with_context(|| format!("{COUNTERS} names no file"))?)?;
    let spilling = resources(&survey, filter, all)?;
    println!();
    counters(&survey, filter);
    if spilling > 0 {
        bail!("{spilling} kernels keep registers in local memory");
    }
    Ok(())
}

/// Runs every op in every precision and collects what was counted.
fn survey(file: &Path) -> Result<Survey> {
    let mut survey = Survey::default();
    let mut seen = 0;
    for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
        let gpu = Gpu::open(Options {
            cache: Some(target().join("kernels")),
            progress: Box::new(|line| eprintln!("{line}")),
            ..Options::new(0, precision)
        })?;
        let sizes = Sizes::of(&gpu);
        let mut tensors = Tensors::new(gpu, SHAPE)?;
        for (op, op_name) in OPS {
            tensors.run(op).with_context(|| format!("{op_name} in {name}"))?;
            tensors.backend().synchronize()?;
            let all = lines(file)?;
            let floor = match op.work(SHAPE, sizes) {
                Work::Bytes(bytes) => Some(bytes as u64),
                Work::Flops(_) => None,
            };
            let launches =
                all[seen..].iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
            seen = all.len();
            survey.counted.push(Counted { op: op_name, precision: name, floor, launches });
        }
        survey.programs.extend_from_slice(tensors.backend().compiler().programs());
    }
    Ok(survey)
}

fn lines(file: &Path) -> Result<Vec<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

/// What the compiler reports of each program; returns how many kernels use local memory.
fn resources(survey: &Survey, filter: &str, all: bool) -> Result<usize> {
    let nvrtc = Nvrtc::find()?;
    let (major, minor) = nvrtc.version();
    println!(
        "NVRTC {major}.{minor}: registers of a thread, bytes spilled, bytes of static shared memory of a block\n"
    );
    println!(
        "{:58} {:36} {:8} {:>9} {:>7} {:>7}",
        "program", "kernel", "for", "registers", "spilled", "shared"
    );
    let mut spilling = 0;
    let archs: Vec<_> = ARCHS.into_iter().filter(|arch| all || *arch == (9, 0)).collect();
    for program in survey.programs.iter().filter(|program| program.name().contains(filter)) {
        let bf16 = program.defines.contains(&("ACT", Constant::Type("bf16")));
        for arch in archs.iter().filter(|arch| !bf16 || **arch >= (8, 0)) {
            let arch = Arch::of(*arch);
            let found = program.resources(&nvrtc, arch);
            let found =
                found.map_err(|said| anyhow::anyhow!("{} for {}: {said}", program.name(), arch.name()))?;
            for Resources { kernel, registers, stack, spills: (stores, loads), shared } in found {
                spilling += usize::from(stack > 0 || stores + loads > 0);
                let spilled = stores + loads + stack;
                let (name, arch) = (program.name(), arch.name());
                println!("{name:58} {kernel:36} {arch:8} {registers:9} {spilled:7} {shared:7}");
            }
        }
    }
    Ok(spilling)
}

/// What the emulator counted for each launch.
fn counters(survey: &Survey, filter: &str) {
    let Shape { B, T, NH, HS, V, .. } = SHAPE;
    println!(
        "emulator: B={B} T={T} NH={NH} HS={HS} V={V}; bytes of global memory that lanes asked for, of whole sectors by request, and \
         of distinct sectors; the op's floor\n"
    );
    println!(
        "{:38} {:5} {:36} {:>11} {:>11} {:>11} {:>11} {:>9} {:>12}",
        "op", "", "kernel", "asked", "requested", "distinct", "floor", "conflicts", "tensor FLOPs"
    );
    for Counted { op, precision, floor, launches } in &survey.counted {
        if !op.contains(filter) {
            continue;
        }
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for launch in launches {
            let get = |name: &str| launch[name].as_u64().unwrap_or(0);
            let asked = get("global_load_bytes") + get("global_store_bytes");
            let requested = 32 * (get("global_load_sectors") + get("global_store_sectors"));
            let (distinct, conflicts) = (get("dram_floor_bytes"), get("shared_conflicts"));
            let flops = get("tensor_flops");
            let kernel = launch["kernel"].as_str().unwrap_or("?");
            println!(
                "{op:38} {precision:5} {kernel:36} {asked:11} {requested:11} {distinct:11} {:>11} {conflicts:9} {flops:12}",
                ""
            );
            *sums.entry("asked").or_default() += asked;
            *sums.entry("distinct").or_default() += distinct;
        }
        if let Some(floor) = floor {
            let of = |name: &str| sums.get(name).copied().unwrap_or(0);
            println!("{:80} {:11} {:11} {:11} {floor:11}", "", of("asked"), "", of("distinct"));
        }
    }
}
