//! From a model and a task to a run.

use anyhow::Result;
use wikigpt_gpt::{AdapterLayout, Bytes, Config, Layout, Lora, Plan, Tensor, Trainer, files};
use wikigpt_ops::Ops;

use super::record::{Base, FILE, Record, Start};
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
    base: Base,
    task: &mut K,
    settings: &Settings,
    start: Start,
    mut record: Record,
) -> Result<()> {
    settings.record(&mut record)?;
    let origin = &base.origin;
    let steps = settings.schedule.steps;
    if let Some(done) = origin.state().map(|state| state.step).filter(|done| *done > steps) {
        bad_input!("--epochs {}: {steps} steps, and the run has already done {done}", settings.epochs);
    }
    if let Origin::Run(checkpoint, _) = origin
        && checkpoint.adapters().is_some() != settings.lora.is_some()
    {
        let (found, asked) =
            if settings.lora.is_some() { ("a model", "adapters") } else { ("adapters", "a model") };
        bad_input!(
            "{}: a checkpoint of {found}, but {FILE} says that {asked} is trained",
            base.path.display()
        );
    }
    let backend = settings.machine.open()?;
    check_memory(origin.config(), task.shape(), settings, backend.free_memory())?;
    with_backend!(backend, ops => tune_on(ops, base, task, settings, start, &record))
}

fn tune_on<O: Ops, K: Task>(
    ops: O,
    base: Base,
    task: &mut K,
    settings: &Settings,
    start: Start,
    record: &Record,
) -> Result<()> {
    let (B, T) = task.shape();
    let (mut trainer, base, state) = match &settings.lora {
        Some(lora) => begin_adapters(ops, base, lora, settings.seed, (B, T))?,
        None => {
            let mut trainer = Trainer::new(ops, base.config(), B, T)?;
            let state = base.origin.put(&mut trainer)?;
            trainer.freeze(settings.freeze)?;
            (trainer, None, state)
        }
    };
    let run = start.folder()?;
    folder::remove_partial(run.path())?;
    record.write(&run).inspect_err(|_| run.discard())?;
    if let Some(state) = &state {
        output::note(&format!("going on from step {} to {}", state.step, settings.schedule.steps));
    }
    announce(settings, (B, T), &run, &mut trainer)?;
    let tuning = Tuning::new(trainer, base, task, settings, &run, state);
    // A run that cannot begin leaves no folder that looks like one.
    tuning.inspect_err(|_| run.discard())?.run()
}

/// A trainer of adapters, the model that they are for, and how far the run has come, if it goes on.
fn begin_adapters<O: Ops>(
    ops: O,
    base: Base,
    lora: &Lora,
    seed: u64,
    (B, T): (usize, usize),
) -> Result<(Trainer<O>, Option<files::Base>, Option<State>)> {
    match base.origin {
        Origin::Model(config, params) => {
            let of = files::Base::of(&base.path, &config, &params)?;
            let mut trainer = Trainer::with_adapters(ops, &config, &params, lora, B, T)?;
            trainer.set_params(&AdapterLayout::new(&config, lora)?.init(&config, &params, seed)?)?;
            Ok((trainer, Some(of), None))
        }
        Origin::Run(checkpoint, state) => {
            let model = checkpoint.base()?;
            let mut trainer = Trainer::with_adapters(ops, &model.config, &model.params, lora, B, T)?;
            checkpoint.read(|array, start, values| trainer.write(array, start, values))?;
            let of = checkpoint.adapters().map(|(_, base)| base.clone());
            Ok((trainer, of, Some(state)))
        }
    }
}

fn announce<O: Ops>(
    settings: &Settings,
    (B, T): (usize, usize),
    run: &RunFolder,
    trainer: &mut Trainer<O>,
) -> Result<()> {
    let frozen = match (trainer.adapters(), settings.freeze) {
        (Some(layout), _) => {
            let trained: usize = layout.tensors.iter().map(Tensor::size).sum();
            format!(
                "; {} are trained beside it, adapters of rank {}",
                thousands(trained as u64),
                layout.lora.rank
            )
        }
        (None, Some(n)) => format!("; the embeddings and {n} layers are frozen"),
        (None, None) => String::new(),
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
fn check_memory(
    config: &Config,
    (B, T): (usize, usize),
    settings: &Settings,
    free: Option<u64>,
) -> Result<()> {
    let Machine { precision, grads, .. } = &settings.machine;
    let (act, grad) = (precision.bytes(), grads.bytes());
    let needed = match &settings.lora {
        Some(lora) => Bytes::with_adapters(config, lora, B, T, act, grad)?,
        None => Plan::new(config, B, T, true, act, grad)?.bytes,
    };
    let total = needed.total;
    match free.filter(|free| *free < total) {
        None => Ok(()),
        Some(free) => bad_input!(
            "fine-tuning takes {} of memory and {} are free: use a smaller --batch (--grad-accum keeps the step's size)",
            bytes(total),
            bytes(free)
        ),
    }
}
