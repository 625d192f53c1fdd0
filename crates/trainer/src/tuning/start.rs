//! From a model and a task to a run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wikigpt_dataset::Tokenizer;
use wikigpt_gpt::files::{self, Extras};
use wikigpt_gpt::{AdapterLayout, Bytes, Config, Layout, Lora, Plan, Tensor, Trainer};
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
    check_memory(origin.config(), task, &settings.machine, settings.lora.as_ref(), backend.free_memory())?;
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
    let (mut trainer, beside, state) = match &settings.lora {
        Some(lora) => begin_adapters(ops, base, lora, settings.seed, (B, T))?,
        None => {
            let mut trainer = Trainer::new(ops, base.config(), B, T)?;
            let state = base.origin.put(&mut trainer)?;
            trainer.freeze(settings.freeze)?;
            (trainer, None, state)
        }
    };
    let run = start.folder()?;
    let begin = || -> Result<Option<files::Base>> {
        folder::remove_partial(run.path())?;
        record.write(&run)?;
        beside.map(|beside| beside.keep(&run, task.tokenizer())).transpose()
    };
    let base = begin().inspect_err(|_| run.discard())?;
    if let Some(state) = &state {
        output::note(&format!("going on from step {} to {}", state.step, settings.schedule.steps));
    }
    announce(settings, (B, T), &run, &mut trainer)?;
    let tuning = Tuning::new(trainer, base, task, settings, &run, state);
    // A run that cannot begin leaves no folder that looks like one.
    tuning.inspect_err(|_| run.discard())?.run()
}

/// The model that adapters are for.
enum Beside {
    /// One that the run is to keep: where it is, and what it is.
    Model(PathBuf, Config, Vec<f32>),
    /// One that it keeps.
    Kept(files::Base),
}

impl Beside {
    /// Sees to it that a run keeps the model, which others may remove or train on: by further names of the same files where that can be.
    fn keep(self, run: &RunFolder, tokenizer: &Tokenizer) -> Result<files::Base> {
        let (path, config, params) = match self {
            Beside::Model(path, config, params) => (path, config, params),
            Beside::Kept(base) => return Ok(base),
        };
        let kept = run.path().join(files::BASE);
        // Of a run that was stopped before its first checkpoint.
        if kept.is_dir() {
            fs::remove_dir_all(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
        }
        if !files::link_model(&path, &kept)? {
            let fill = |folder: &Path| Ok(tokenizer.save(folder)?);
            let extras = Extras { fill: Some(&fill), ..Extras::default() };
            files::save_model(&kept, &config, &params, &extras)?;
        }
        Ok(files::Base::of(&kept, &config, &params)?)
    }
}

/// A trainer of adapters, the model that they are for, and how far the run has come, if it goes on.
fn begin_adapters<O: Ops>(
    ops: O,
    base: Base,
    lora: &Lora,
    seed: u64,
    (B, T): (usize, usize),
) -> Result<(Trainer<O>, Option<Beside>, Option<State>)> {
    match base.origin {
        Origin::Model(config, params) => {
            let trainer = Trainer::with_adapters(ops, &config, &params, lora, seed, B, T)?;
            Ok((trainer, Some(Beside::Model(base.path, config, params)), None))
        }
        Origin::Run(checkpoint, state) => {
            let model = checkpoint.base()?;
            let mut trainer = Trainer::with_adapters(ops, &model.config, &model.params, lora, seed, B, T)?;
            let tensors = |layout: &AdapterLayout| layout.tensors.clone();
            let found = checkpoint.adapters();
            if found.map(|(layout, _)| tensors(layout)) != trainer.adapters().map(tensors) {
                bad_input!("{}: its adapters are not those that {FILE} asks for", base.path.display());
            }
            checkpoint.read(|array, start, values| trainer.write(array, start, values))?;
            let kept = found.map(|(_, base)| files::Base { path: model.path, ..base.clone() });
            Ok((trainer, kept.map(Beside::Kept), Some(state)))
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
fn check_memory<K: Task>(
    config: &Config,
    task: &K,
    machine: &Machine,
    lora: Option<&Lora>,
    free: Option<u64>,
) -> Result<()> {
    let (act, grad) = (machine.precision.bytes(), machine.grads.bytes());
    let ((B, T), slots) = (task.shape(), task.slots());
    let mut total = match lora {
        Some(lora) => Bytes::with_adapters(config, lora, B, T, act, grad)?.total,
        None => Plan::new(config, B, T, true, act, grad)?.bytes.total,
    };
    if slots > 0 {
        let R = lora.map_or(0, |lora| lora.rank);
        total = total.saturating_add(Bytes::of_generator(config, R, slots, act)?);
    }
    match free.filter(|free| *free < total) {
        None => Ok(()),
        Some(free) => bad_input!(
            "fine-tuning takes {} of memory and {} are free: use a smaller --batch (--grad-accum keeps the step's size)",
            bytes(total),
            bytes(free)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wikigpt_dataset::Tokenizer;

    use super::*;
    use crate::device::Device;
    use crate::flags::PrecisionName;
    use crate::tuning::{Batch, Score};

    /// So many texts are written at once; nothing else is asked of it here.
    struct Writes(usize);

    impl Task for Writes {
        const NAME: &'static str = "write";

        fn shape(&self) -> (usize, usize) {
            (2, 16)
        }

        fn slots(&self) -> usize {
            self.0
        }

        fn batches(&self) -> u64 {
            unreachable!()
        }

        fn batch(&mut self, _: u64, _: u64, _: &mut Batch) -> Result<()> {
            unreachable!()
        }

        fn evaluate<O: Ops>(&mut self, _: &mut Trainer<O>) -> Result<Option<Score>> {
            unreachable!()
        }

        fn finish<O: Ops>(&mut self, _: &mut Trainer<O>, _: &Path) -> Result<Option<String>> {
            unreachable!()
        }

        fn tokenizer(&self) -> &Tokenizer {
            unreachable!()
        }
    }

    #[test]
    fn what_writing_takes_is_counted() {
        let config = Config::preset("tiny", 256).unwrap();
        let precision = PrecisionName::F32;
        let machine = Machine { device: Device::Cpu, precision, grads: precision, graph: false, threads: 1 };
        let trained = Plan::new(&config, 2, 16, true, 4, 4).unwrap().bytes.total;
        let written = Bytes::of_generator(&config, 0, 2, 4).unwrap();
        let check = |slots, free| check_memory(&config, &Writes(slots), &machine, None, Some(free));
        assert!(check(0, trained).is_ok() && check(0, trained - 1).is_err());
        assert!(check(2, trained + written).is_ok() && check(2, trained + written - 1).is_err());
    }
}
