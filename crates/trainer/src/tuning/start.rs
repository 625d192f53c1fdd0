//! From a model and a task to a run.

use std::path::Path;

use anyhow::Result;
use toml::Table;
use wikigpt_gpt::{Config, Layout, Plan, Trainer};
use wikigpt_ops::Ops;

use super::steps::Tuning;
use super::{Settings, Task};
use crate::device::{Machine, with_backend};
use crate::fault::bad_input;
use crate::progress::{bytes, thousands};
use crate::run_folder::RunFolder;
use crate::{folder, output};

/// The file in a run's folder that says how it was fine-tuned.
pub const FILE: &str = "finetune.toml";

/// Fine-tunes a model in a run folder of its own: `out`, or the next number under `runs`. `record` is what the folder will
/// say of how it was made.
pub fn tune<K: Task>(
    config: &Config,
    params: Vec<f32>,
    task: &mut K,
    settings: &Settings,
    out: Option<&Path>,
    record: &Table,
) -> Result<()> {
    let backend = settings.machine.open()?;
    check_memory(config, task.shape(), &settings.machine, backend.free_memory())?;
    with_backend!(backend, ops => tune_on(ops, config, params, task, settings, out, record))
}

fn tune_on<O: Ops, K: Task>(
    ops: O,
    config: &Config,
    params: Vec<f32>,
    task: &mut K,
    settings: &Settings,
    out: Option<&Path>,
    record: &Table,
) -> Result<()> {
    let (B, T) = task.shape();
    let mut trainer = Trainer::new(ops, config, B, T)?;
    trainer.set_params(&params)?;
    // The device has its own copy.
    drop(params);
    trainer.freeze(settings.freeze)?;
    let run = RunFolder::create(out)?;
    let begin = || -> Result<()> {
        let head =
            format!("# How this run was fine-tuned. Written by wikigpt {}.\n", env!("CARGO_PKG_VERSION"));
        folder::write_file(&run.path().join(FILE), format!("{head}{record}").as_bytes())
    };
    begin().inspect_err(|_| run.discard())?;
    announce(config, settings, (B, T), &run, trainer.backend().device())?;
    let tuning = Tuning::new(trainer, task, settings, &run);
    // A run that cannot begin leaves no folder that looks like one.
    tuning.inspect_err(|_| run.discard())?.run()
}

fn announce(
    config: &Config,
    settings: &Settings,
    (B, T): (usize, usize),
    run: &RunFolder,
    device: String,
) -> Result<()> {
    let frozen = match settings.freeze {
        None => String::new(),
        Some(n) => format!("; the embeddings and {n} layers are frozen"),
    };
    output::note(&format!(
        "model   {} layers, {} heads, {} channels, context {}: {} parameters{frozen}\n\
         step    {} × {B} examples of up to {T} tokens; {} steps in {} epochs on {device}\n\
         run     {}",
        config.n_layer,
        config.n_head,
        config.n_embd,
        config.context,
        thousands(Layout::new(config)?.parameters() as u64),
        settings.grad_accum,
        thousands(settings.schedule.steps),
        settings.epochs,
        run.path().display()
    ));
    Ok(())
}

/// Refuses what would not fit into so many free bytes.
fn check_memory(config: &Config, (B, T): (usize, usize), machine: &Machine, free: Option<u64>) -> Result<()> {
    let Machine { precision, grads, .. } = machine;
    let total = Plan::new(config, B, T, true, precision.bytes(), grads.bytes())?.bytes.total;
    match free.filter(|free| *free < total) {
        None => Ok(()),
        Some(free) => bad_input!(
            "fine-tuning takes {} of memory and {} are free: use a smaller --batch (--grad-accum keeps the step's size)",
            bytes(total),
            bytes(free)
        ),
    }
}
