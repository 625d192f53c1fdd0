//! From a model and a task to a run.

use anyhow::Result;
use wikigpt_gpt::{Config, Layout, Plan, Trainer};
use wikigpt_ops::Ops;

use super::record::{Record, Start};
use super::steps::Tuning;
use super::{Settings, State, Task};
use crate::device::{Machine, with_backend};
use crate::fault::bad_input;
use crate::origin::Origin;
use crate::progress::{bytes, thousands};
use crate::run_folder::RunFolder;
use crate::{folder, output};

/// Fine-tunes: begins a run, or goes on with one. `record` is what its folder will say of how it was made, beside the settings.
pub fn tune<K: Task>(
    origin: Origin<State>,
    task: &mut K,
    settings: &Settings,
    start: Start,
    mut record: Record,
) -> Result<()> {
    settings.record(&mut record)?;
    let steps = settings.schedule.steps;
    if let Some(done) = origin.state().map(|state| state.step).filter(|done| *done > steps) {
        bad_input!("--epochs {}: {steps} steps, and the run has already done {done}", settings.epochs);
    }
    let backend = settings.machine.open()?;
    check_memory(origin.config(), task.shape(), &settings.machine, backend.free_memory())?;
    with_backend!(backend, ops => tune_on(ops, origin, task, settings, start, &record))
}

fn tune_on<O: Ops, K: Task>(
    ops: O,
    origin: Origin<State>,
    task: &mut K,
    settings: &Settings,
    start: Start,
    record: &Record,
) -> Result<()> {
    let (B, T) = task.shape();
    let mut trainer = Trainer::new(ops, origin.config(), B, T)?;
    let state = origin.put(&mut trainer)?;
    trainer.freeze(settings.freeze)?;
    let run = start.folder()?;
    folder::remove_partial(run.path())?;
    record.write(&run).inspect_err(|_| run.discard())?;
    if let Some(state) = &state {
        output::note(&format!("going on from step {} to {}", state.step, settings.schedule.steps));
    }
    announce(settings, (B, T), &run, &mut trainer)?;
    let tuning = Tuning::new(trainer, task, settings, &run, state);
    // A run that cannot begin leaves no folder that looks like one.
    tuning.inspect_err(|_| run.discard())?.run()
}

fn announce<O: Ops>(
    settings: &Settings,
    (B, T): (usize, usize),
    run: &RunFolder,
    trainer: &mut Trainer<O>,
) -> Result<()> {
    let frozen = match settings.freeze {
        None => String::new(),
        Some(n) => format!("; the embeddings and {n} layers are frozen"),
    };
    let device = trainer.backend().device();
    let config = trainer.config();
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
