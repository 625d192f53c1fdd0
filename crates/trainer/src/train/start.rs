//! From flags to a model that is ready to train: a new run, or one that goes on.

use std::path::{Path, absolute};

use anyhow::{Context, Result};
use wikigpt_cpu::Cpu;
use wikigpt_dataset::{Dataset, Split};
use wikigpt_gpt::plan::Plan;
use wikigpt_gpt::{Gpt, Mode, hf};

use super::save;
use super::steps::{Position, Training};
use crate::checkpoint::State;
use crate::fault::bad_input;
use crate::flags::Flags;
use crate::model::Model;
use crate::run_folder::RunFolder;
use crate::settings::Settings;
use crate::{checkpoint, commands, config, corpus, device, folder, settings, shape};

/// Begins a run.
pub fn fresh(file: Option<&Path>, flags: &Flags) -> Result<()> {
    let mut flags = match file {
        Some(file) => config::read(file, flags)?,
        None => flags.clone(),
    };
    if let Some(out) = &flags.out {
        folder::check_new(out, "--out")?;
    }
    let dataset = corpus::open(flags.data.as_deref())?;
    let facts = corpus::facts(&dataset, flags.data.is_none())?;
    let initial = initial(&flags, &facts)?;
    make_absolute(&mut flags)?;
    let settings = Settings::resolve(&flags, &facts, initial.as_ref().map(|model| &model.config))?;
    let mut gpt = allocate(&settings)?;
    match &initial {
        Some(model) => gpt.load(&model.weights)?,
        None => gpt.init(settings.seed)?,
    }
    drop(initial);
    let run = RunFolder::create(flags.out.as_deref())?;
    announce(&settings, &dataset, &run, &gpt);
    let written = config::write(&run.config(), &settings.flags);
    let training =
        written.and_then(|()| Training::new(gpt, &settings, &dataset, &run, Position::default(), None));
    // A run that cannot begin leaves no folder that looks like one.
    training.inspect_err(|_| run.discard())?.run()
}

/// Goes on with a run.
pub fn resumed(path: &Path, flags: &Flags) -> Result<()> {
    let run = RunFolder::open(path)?;
    let stored = config::read(&run.config(), &Flags::default())?;
    config::check_resumed(&stored, flags)?;
    let mut flags = config::read(&run.config(), flags)?;
    let warn = |text: &str| eprintln!("warning: {text}");
    let Some((folder, state)) = checkpoint::newest(&run.checkpoints(), warn)? else {
        bad_input!("--resume {}: there is no checkpoint in this run that can be read", path.display());
    };
    let model = Model::open(&folder)?;
    let dataset = corpus::open(flags.data.as_deref())?;
    let facts = corpus::facts(&dataset, flags.data.is_none())?;
    make_absolute(&mut flags)?;
    let settings = Settings::resolve(&flags, &facts, Some(&model.config))?;
    check_data(&dataset, &state, path)?;
    if settings.steps < state.step {
        bad_input!("--steps {}: the run has already done {} steps", settings.steps, state.step);
    }
    let mut gpt = allocate(&settings)?;
    gpt.load(&model.weights)?;
    save::load_optimizer(&mut gpt, &folder, &state)?;
    drop(model);

    folder::remove_partial(run.path()).and_then(|()| folder::remove_partial(&run.checkpoints()))?;
    checkpoint::set_aside_from(&run.checkpoints(), state.step + 1)?;
    config::write(&run.config(), &settings.flags)?;
    eprintln!("going on with {} from step {} to {}", run.path().display(), state.step, settings.steps);
    let position = Position { step: state.step, micro_batches: state.micro_batches, tokens: state.tokens };
    Training::new(gpt, &settings, &dataset, &run, position, Some(state.step))?.run()
}

/// The model that `--init` names.
fn initial(flags: &Flags, facts: &settings::Facts) -> Result<Option<Model>> {
    let Some(init) = flags.init.as_deref().filter(|init| *init != "scratch") else { return Ok(None) };
    let path = Path::new(init);
    if path.is_file() {
        let (config, _) = shape::resolve(flags, facts.vocab_size, None)?;
        let weights = hf::read_file(path, &config)?;
        return Ok(Some(Model { folder: path.to_path_buf(), config, weights }));
    }
    Model::open(path).map(Some).with_context(|| format!("--init {init}"))
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

/// The model on the device, after a look at whether it fits.
fn allocate(settings: &Settings) -> Result<Gpt<Cpu>> {
    let plan = Plan::new(&settings.config, settings.batch, settings.context);
    commands::plan::check_memory(&plan, settings)?;
    let cpu = device::open_cpu(settings.threads)?;
    Ok(Gpt::new(cpu, &settings.config, settings.batch, settings.context, Mode::Train)?)
}

fn check_data(dataset: &Dataset, state: &State, run: &Path) -> Result<()> {
    let found = save::data_digest(dataset);
    if found != state.data_sha256 {
        bad_input!(
            "--resume {}: the run was trained on other data (SHA-256 {}, here {found}); --data DIR says where its data is",
            run.display(),
            state.data_sha256
        );
    }
    Ok(())
}

fn announce(settings: &Settings, dataset: &Dataset, run: &RunFolder, gpt: &Gpt<Cpu>) {
    let config = &settings.config;
    let plan = Plan::new(config, settings.batch, settings.context);
    let info = dataset.info();
    let tokens = dataset.tokens(Split::Train).map_or(0, |tokens| tokens.len() as u64);
    let source =
        settings.flags.data.as_ref().map_or("the embedded articles".to_owned(), |d| d.display().to_string());
    let thousands = crate::progress::thousands;
    eprintln!("data    {source}: {} training tokens, vocabulary {}", thousands(tokens), info.vocab_size);
    eprintln!(
        "model   {} layers, {} heads, {} channels, context {}: {} parameters",
        config.n_layer,
        config.n_head,
        config.n_embd,
        settings.context,
        thousands(plan.parameters)
    );
    eprintln!(
        "step    {} tokens ({} × {} sequences of {}); {} steps on {}",
        thousands(settings.step_tokens()),
        settings.grad_accum,
        settings.batch,
        settings.context,
        thousands(settings.steps),
        gpt.device()
    );
    eprintln!("run     {}", run.path().display());
}
