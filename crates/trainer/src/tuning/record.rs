//! `finetune.toml`: how a run was fine-tuned, so that it can be gone on with.

use std::fs;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};
use wikigpt_dataset::sha256_of_files;
use wikigpt_gpt::Config;
use wikigpt_gpt::files::Model;

use super::{Given, State};
use crate::config::{self, DIGESTS, Digests};
use crate::fault::{BadInput, bad_input};
use crate::folder;
use crate::origin::Origin;
use crate::run_folder::RunFolder;

/// The file in a run's folder.
pub const FILE: &str = "finetune.toml";

/// The key that says which task it is.
const TASK: &str = "task";

/// Keys that are paths; they mean the same from anywhere.
const PATHS: [&str; 4] = ["model", "train", "valid", "test"];

/// What may be said anew when a run goes on: how long, how fast and on what machine, and where its data is now. Everything else
/// would make it another run.
const MAY_CHANGE: [&str; 18] = [
    "train",
    "valid",
    "test",
    "epochs",
    "lr",
    "min-lr",
    "warmup",
    "schedule",
    "weight-decay",
    "grad-clip",
    "dropout",
    "eval-every",
    "checkpoint-every",
    "patience",
    "log-every",
    "device",
    "precision",
    "threads",
];

/// A run that is to begin, or to go on.
pub struct Start {
    task: &'static str,
    /// The folder of one that goes on.
    run: Option<RunFolder>,
    /// Where a new one goes; nothing for the next number.
    out: Option<PathBuf>,
    /// What its data is recognised by, where it goes on.
    digests: Digests,
}

/// What a run starts from.
pub struct Base {
    /// Where the tokenizer is.
    pub folder: PathBuf,
    /// Where the model is, or the checkpoint.
    pub path: PathBuf,
    pub origin: Origin<State>,
}

/// The flags of a run: those given, or with `resume` those that it was begun with and those given on top of them.
pub fn open<A: Serialize + DeserializeOwned>(
    task: &'static str,
    given: Given<A>,
    resume: Option<&Path>,
    out: Option<&Path>,
) -> Result<(A, Start)> {
    let Some(path) = resume else {
        if let Some(out) = out {
            folder::check_new(out, "--out")?;
        }
        let start = Start { task, run: None, out: out.map(Path::to_path_buf), digests: Digests::new() };
        return Ok((given.flags, start));
    };
    let run = RunFolder::open(path, FILE, "finetune")?;
    let file = run.path().join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let wrong = |error: toml::de::Error| BadInput::new(format!("{}: {}", file.display(), error.message()));
    let mut table: Table = toml::from_str(&text).map_err(wrong)?;
    let found = table.remove(TASK);
    if found.as_ref().and_then(Value::as_str) != Some(task) {
        let found = found.map_or("no task".to_owned(), |found| found.to_string());
        bad_input!("--resume {}: its {FILE} says {found}, and this is \"{task}\"", path.display());
    }
    let digests = match table.remove(DIGESTS) {
        Some(digests) => digests.try_into().map_err(wrong)?,
        None => Digests::new(),
    };
    let typed = given.typed()?;
    // A file that the run was begun without would change what the others are for.
    let is_new = |key: &str| PATHS.contains(&key) && !table.contains_key(key);
    config::check_fixed(&table, &typed, |key| is_new(key) || !MAY_CHANGE.contains(&key))?;
    table.extend(typed);
    let flags = table.try_into().map_err(wrong)?;
    Ok((flags, Start { task, run: Some(run), out: None, digests }))
}

impl Start {
    /// What it starts from: its newest checkpoint if it goes on and has one, else MODEL.
    pub fn base(&self, model: Option<&Path>, open: impl Fn(&Path) -> Result<Model>) -> Result<Base> {
        if let Some(run) = &self.run
            && let Some(Origin::Run(checkpoint, state)) = Origin::newest(run)?
        {
            let folder = checkpoint.folder().to_path_buf();
            return Ok(Base { path: folder.clone(), folder, origin: Origin::Run(checkpoint, state) });
        }
        let Model { folder, path, config, params, .. } = open(self.needed(model, "model")?)?;
        Ok(Base { folder, path, origin: Origin::Model(config, params) })
    }

    /// A value that a run cannot do without.
    pub fn needed<'a, T: ?Sized>(&self, value: Option<&'a T>, key: &str) -> Result<&'a T> {
        match value {
            Some(value) => Ok(value),
            None if self.run.is_some() => bad_input!("{FILE} has no `{key}`"),
            None => bad_input!("{}: what to start from is missing; see --help", key.to_uppercase()),
        }
    }

    /// What the run's folder will say of how it was made. `data` are its files, by what they are for.
    ///
    /// # Errors
    /// Bad input if the run goes on and these are not the data that it was begun with.
    pub fn record(&self, flags: &impl Serialize, data: &[(&str, &[PathBuf])]) -> Result<Record> {
        let mut digests = Digests::new();
        for (part, files) in data.iter().filter(|(_, files)| !files.is_empty()) {
            let digest = sha256_of_files(files.iter().map(PathBuf::as_path))?;
            digests.insert((*part).to_owned(), digest);
        }
        if let Some(run) = &self.run {
            config::check_digests(&digests, &self.digests, &run.path().join(FILE))?;
        }
        let mut table = Table::try_from(flags)?;
        for key in PATHS {
            table.get_mut(key).map_or(Ok(()), make_absolute)?;
        }
        table.insert(TASK.into(), self.task.into());
        table.insert(DIGESTS.into(), Table::try_from(digests)?.into());
        Ok(Record(table))
    }

    /// The run's folder: made now if it is a new one.
    pub fn folder(self) -> Result<RunFolder> {
        match self.run {
            Some(run) => Ok(run),
            None => RunFolder::create(self.out.as_deref()),
        }
    }
}

impl Base {
    /// The shape of what it starts from.
    pub fn config(&self) -> &Config {
        self.origin.config()
    }
}

/// A path, or several.
fn make_absolute(value: &mut Value) -> Result<()> {
    match value {
        Value::String(path) => {
            let full = absolute(&*path)?;
            let Some(text) = full.to_str() else {
                bad_input!(
                    "{}: its whole name is not UTF-8, and {FILE} could not say where it is",
                    full.display()
                );
            };
            *path = text.to_owned();
        }
        Value::Array(paths) => paths.iter_mut().try_for_each(make_absolute)?,
        _ => {}
    }
    Ok(())
}

/// What a run's folder says of how it was made.
pub struct Record(Table);

impl Record {
    /// Puts in what the flags leave open.
    pub fn set(&mut self, key: &str, value: impl Serialize) -> Result<()> {
        self.0.insert(key.to_owned(), Value::try_from(value)?);
        Ok(())
    }

    /// Writes it into a run's folder.
    pub fn write(&self, run: &RunFolder) -> Result<()> {
        let text = format!(
            "# How this run was fine-tuned. Written by wikigpt {}.\n{}",
            env!("CARGO_PKG_VERSION"),
            self.0
        );
        folder::write_file(&run.path().join(FILE), text.as_bytes())
    }
}
