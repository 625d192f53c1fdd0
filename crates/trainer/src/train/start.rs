//! From flags to a model that is ready to train: a new run, or one that goes on.

use std::path::{Path, absolute};

use anyhow::{Context, Result};
use wikigpt_dataset::{Dataset, Split};
use wikigpt_gpt::{Layout, Trainer, files};
use wikigpt_ops::Ops;

use super::save::Place;
use super::steps::Training;
use crate::device::with_backend;
use crate::fault::bad_input;
use crate::flags::Flags;
use crate::progress::thousands;
use crate::run_folder::RunFolder;
use crate::settings::Settings;
use crate::{commands, config, corpus, folder, model, output, settings, shape};

type Origin = crate::origin::Origin<Place>;

/// Begins a run.
pub fn fresh(file: Option<&Path>, given: &Flags) -> Result<()> {
    let (mut flags, digests) = match file {
        Some(file) => config::read(file, given)?,
        None => (given.clone(), config::Digests::new()),
    };
    if let Some(out) = &flags.out {
        folder::check_new(out, "--out")?;
    }
    let dataset = corpus::open(flags.data.as_deref())?;
    // Whoever names other data means it.
    if let (Some(file), None) = (file, &given.data) {
        config::check_digests(&corpus::digests(dataset.manifest()), &digests, file)?;
    }
    let facts = corpus::facts(&dataset, flags.data.is_none())?;
    let origin = initial(&flags, &facts)?;
    make_absolute(&mut flags)?;
    let settings = Settings::resolve(&flags, &facts, origin.as_ref().map(Origin::config))?;
    let out = flags.out.clone();
    begin(&settings, &dataset, origin, || {
        let run = RunFolder::create(out.as_deref())?;
        let digests = corpus::digests(dataset.manifest());
        config::write(&run.config(), &settings.flags, &digests).inspect_err(|_| run.discard())?;
        Ok(run)
    })
}

/// Goes on with a run.
pub fn resumed(path: &Path, given: &Flags) -> Result<()> {
    let run = RunFolder::open(path, config::FILE, "train")?;
    let (stored, digests) = config::read(&run.config(), &Flags::default())?;
    config::check_resumed(&stored, given)?;
    let (mut flags, _) = config::read(&run.config(), given)?;
    let dataset = corpus::open(flags.data.as_deref())?;
    config::check_digests(&corpus::digests(dataset.manifest()), &digests, &run.config())?;
    let facts = corpus::facts(&dataset, flags.data.is_none())?;
    let origin = match Origin::newest(&run)? {
        Some(newest) => Some(newest),
        None => initial(&flags, &facts)?,
    };
    make_absolute(&mut flags)?;
    let settings = Settings::resolve(&flags, &facts, origin.as_ref().map(Origin::config))?;
    let done = origin.as_ref().and_then(Origin::state).map_or(0, |place| place.step);
    if settings.steps < done {
        bad_input!("--steps {}: the run has already done {done} steps", settings.steps);
    }
    begin(&settings, &dataset, origin, || {
        folder::remove_partial(run.path())?;
        config::write(&run.config(), &settings.flags, &digests)?;
        output::note(&format!("going on from step {done} to {}", settings.steps));
        Ok(run)
    })
}

/// The model that `--init` names.
fn initial(flags: &Flags, facts: &settings::Facts) -> Result<Option<Origin>> {
    let Some(init) = flags.init.as_deref().filter(|init| *init != "scratch") else { return Ok(None) };
    let path = Path::new(init);
    let alone = path.is_file() && !path.with_file_name("config.json").is_file();
    Ok(Some(if alone {
        // The file does not say how many heads there are, so flags do.
        let (config, _) = shape::resolve(flags, facts.vocab_size, None)?;
        let (params, warning) = files::load_weights(path, &config)?;
        warning.iter().for_each(|warning| output::warn(warning));
        Origin::Model(config, params)
    } else {
        let model = model::open_language(path).with_context(|| format!("--init {init}"))?;
        Origin::Model(model.config, model.params)
    }))
}

/// So that the run's `config.toml` means the same from anywhere.
fn make_absolute(flags: &mut Flags) -> Result<()> {
    if let Some(data) = &mut flags.data {
        *data = absolute(&*data)?;
    }
    if let Some(init) = flags.init.as_mut().filter(|init| *init != "scratch") {
        *init = absolute(&*init)?.to_string_lossy().into_owned();
    }
    Ok(())
}

/// Opens the device and trains. `run` gives the run's folder once everything that it needs is there.
fn begin(
    settings: &Settings,
    dataset: &Dataset,
    origin: Option<Origin>,
    run: impl FnOnce() -> Result<RunFolder>,
) -> Result<()> {
    let backend = settings.machine.open()?;
    commands::plan::check_memory(settings, backend.free_memory())?;
    with_backend!(backend, ops => begin_on(ops, settings, dataset, origin, run))
}

fn begin_on<O: Ops>(
    ops: O,
    settings: &Settings,
    dataset: &Dataset,
    origin: Option<Origin>,
    run: impl FnOnce() -> Result<RunFolder>,
) -> Result<()> {
    let mut trainer = Trainer::new(ops, &settings.config, settings.batch, settings.context)?;
    let place = match origin {
        None => {
            trainer.set_params(&wikigpt_gpt::init(&settings.config, settings.seed)?)?;
            None
        }
        Some(origin) => origin.put(&mut trainer)?,
    };
    if let Some(place) = &place {
        trainer.round_params(settings.rounding, place.updates)?;
    }
    let tokens = dataset.tokens(Split::Train)?;
    let run = run()?;
    announce(settings, dataset, &run, trainer.backend().device())?;
    let training = Training::new(trainer, settings, dataset, &tokens, &run, place);
    // A run that cannot begin leaves no folder that looks like one.
    training.inspect_err(|_| run.discard())?.run()
}

fn announce(settings: &Settings, dataset: &Dataset, run: &RunFolder, device: String) -> Result<()> {
    let config = &settings.config;
    let manifest = dataset.manifest();
    let tokens = dataset.tokens(Split::Train)?.len();
    let source =
        settings.flags.data.as_ref().map_or("the embedded articles".to_owned(), |d| d.display().to_string());
    let steps = match settings.eval_every {
        0 => format!("{} steps without validation", thousands(settings.steps)),
        _ => format!("{} steps", thousands(settings.steps)),
    };
    output::note(&format!(
        "data    {source}: {} training tokens ({}), vocabulary {}\n\
         model   {} layers, {} heads, {} channels, context {}: {} parameters\n\
         step    {} tokens ({} × {} sequences of {}); {steps} on {device}\n\
         run     {}",
        thousands(tokens),
        manifest.tokenizer,
        thousands(manifest.vocab_size as u64),
        config.n_layer,
        config.n_head,
        config.n_embd,
        settings.context,
        thousands(Layout::new(config)?.parameters() as u64),
        thousands(settings.step_tokens()),
        settings.grad_accum,
        settings.batch,
        settings.context,
        run.path().display()
    ));
    Ok(())
}
