//! Checkpoints: `checkpoints/step-NNNNNNNN` of a run, N being the steps done.
//!
//! Each is a model folder that also holds `optimizer.safetensors` (`m.` and `v.` before the names of
//! `model.safetensors`) and `state.json`, which has the length and the CRC-32C of every other file and is written
//! last. A folder gets its name only when all of it has reached the disk, so a kill at any instant leaves the last
//! good one.
//!
//! Where one checkpoint of a run is better than the others, each says which it was when it was written: that one is the run's model,
//! and is kept, while the newest is where training goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adapters::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapters, Base, write_adapters};
use super::archive::{Archive, file, read_json};
use super::folder::{Digest, NewFolder, digest, sync_folder};
use super::huggingface::{CONFIG, Extras, WEIGHTS, Weights, write_model};
use super::tensors::{Named, Source, Writer, entries, prefix};
use crate::{AdapterLayout, Array, Config, Error, Layout, Result, Tensor};

const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const STATE: &str = "state.json";
/// The version of `state.json` that is written and read.
const FORMAT: u32 = 1;
/// Names of folders that are not, or no longer, checkpoints: being written or removed, and making way for another.
const TEMPORARY: &str = ".tmp-";
const ASIDE: &str = ".old-";

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct State<S> {
    format: u32,
    step: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best: Option<u64>,
    files: BTreeMap<String, Digest>,
    state: S,
}

impl<S> State<S> {
    /// Whether the checkpoint is of adapters.
    fn has_adapters(&self) -> bool {
        self.files.contains_key(ADAPTER_CONFIG)
    }
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// The checkpoint of a run that is whole and was asked for: the newest, or the best.
#[derive(Debug)]
pub struct Found {
    /// It.
    pub checkpoint: Checkpoint,
    /// A sentence for each that would have come before it, but is damaged and was passed over.
    pub warnings: Vec<String>,
}

impl Checkpoints {
    /// Those of a run folder; nothing is read or made yet.
    pub fn of(run: &Path) -> Checkpoints {
        Checkpoints { folder: run.join("checkpoints") }
    }

    /// Where the checkpoint of a step is, or would be.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// Writes the checkpoint of `step` and returns its folder; replaces one of the same step, and removes what a killed
    /// process left half-written.
    ///
    /// `read` fills its last argument with values of an array, from an element on; it is asked for a piece at a time,
    /// at most for one matrix, and no more is held. Values are kept bit for bit.
    ///
    /// # Errors
    /// [`Error::File`] when a value is NaN or infinite: nothing is left, so that the last good checkpoint stays the newest.
    /// [`Error::Write`] and [`Error::Io`] when the system refuses, [`Error::Fill`] when `extras.fill` does, and those of
    /// `read`.
    ///
    /// # Panics
    /// When `state` cannot be JSON.
    pub fn save<S: Serialize>(
        &self,
        step: u64,
        config: &Config,
        state: &S,
        extras: &Extras,
        mut read: impl FnMut(Array, usize, &mut [f32]) -> Result,
    ) -> Result<PathBuf> {
        let layout = Layout::new(config)?;
        self.write(step, extras.best, &layout.tensors, state, &mut read, |new, read| {
            write_model(new, config, &layout, read, extras)
        })
    }

    /// The same of adapters for a model of this shape; the arrays are in the order of their layout. The model itself is not written.
    ///
    /// # Errors
    /// Those of [`save`](Checkpoints::save).
    ///
    /// # Panics
    /// When `state` cannot be JSON.
    pub fn save_adapters<S: Serialize>(
        &self,
        step: u64,
        config: &Config,
        layout: &AdapterLayout,
        base: &Base,
        state: &S,
        extras: &Extras,
        mut read: impl FnMut(Array, usize, &mut [f32]) -> Result,
    ) -> Result<PathBuf> {
        self.write(step, extras.best, &layout.tensors, state, &mut read, |new, read| {
            write_adapters(new, config, layout, base, extras, read)
        })
    }

    /// Writes a checkpoint: what `write_weights` writes, the moments of these tensors and the state.
    fn write<S: Serialize>(
        &self,
        step: u64,
        best: Option<u64>,
        tensors: &[Tensor],
        state: &S,
        read: &mut Source,
        write_weights: impl FnOnce(&NewFolder, &mut Source) -> Result,
    ) -> Result<PathBuf> {
        let place = self.path(step);
        self.clean()?;
        let name = format!("step-{step:08}");
        let new = NewFolder::create(place.clone(), self.folder.join(format!("{TEMPORARY}{name}")))?;
        write_weights(&new, read)?;
        let moments = entries(tensors, Array::M).chain(entries(tensors, Array::V));
        let optimizer = Writer::new(moments.collect(), "");
        new.write(OPTIMIZER, optimizer.bytes, |out| optimizer.write(out, &place, read))?;
        let state = State { format: FORMAT, step, best, files: new.digests()?, state };
        let text = serde_json::to_vec_pretty(&state).expect("a state that can be JSON");
        new.write(STATE, text.len() as u64, |out| out.write(&text))?;
        new.finish(Some(&self.folder.join(format!("{ASIDE}{name}"))))?;
        Ok(place)
    }

    /// All checkpoints, oldest first, damaged ones too: step and folder.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is there and cannot be read.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = BTreeMap::new();
        for name in self.names()? {
            // One that made way for another of its step, which then never came, is still the checkpoint of that step.
            let (aside, bare) = match name.strip_prefix(ASIDE) {
                Some(bare) => (true, bare),
                None => (false, name.as_str()),
            };
            if let Some(step) = step_of(bare)
                && !(aside && found.contains_key(&step))
            {
                found.insert(step, self.folder.join(&name));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Opens the newest checkpoint that is whole; `None` if there is none at all.
    ///
    /// # Errors
    /// [`Error::File`] when there are checkpoints and all are damaged; [`Error::Io`] as for [`Checkpoints::list`].
    pub fn newest_good(&self) -> Result<Option<Found>> {
        self.find(|_| None)
    }

    /// Opens the checkpoint that is the run's model: the best, as the newest names it; the newest itself where it names none, or
    /// the best is damaged. `None` if there is none at all.
    ///
    /// # Errors
    /// As [`Checkpoints::newest_good`].
    pub fn best_good(&self) -> Result<Option<Found>> {
        self.find(|folder| read_state(folder).ok()?.best)
    }

    /// The first that is whole, of those that `preferred` names for each and each itself, from the newest on.
    fn find(&self, preferred: impl Fn(&Path) -> Option<u64>) -> Result<Option<Found>> {
        let list = self.list()?;
        let mut warnings = Vec::new();
        for (step, folder) in list.iter().rev() {
            let preferred = preferred(folder).filter(|preferred| preferred != step);
            let preferred = preferred.and_then(|preferred| list.iter().find(|(step, _)| *step == preferred));
            for folder in preferred.map(|(_, folder)| folder).into_iter().chain([folder]) {
                match Checkpoint::open(folder) {
                    Ok(checkpoint) => return Ok(Some(Found { checkpoint, warnings })),
                    Err(error) => warnings.push(format!("passing over a damaged checkpoint: {error}")),
                }
            }
        }
        match warnings.first() {
            None => Ok(None),
            Some(first) => Err(file(&self.folder, format!("no checkpoint is whole; the newest: {first}"))),
        }
    }

    /// Removes checkpoints, damaged ones too, that are older than the newest `keep` whole ones; at least one is kept, and the best
    /// that it names.
    ///
    /// # Errors
    /// [`Error::Io`] when one cannot be removed.
    pub fn prune(&self, keep: usize) -> Result {
        let (mut whole, mut best) = (0, None);
        for (step, folder) in self.list()?.into_iter().rev() {
            if whole >= keep.max(1) {
                if best != Some(step) {
                    self.remove(&folder)?;
                }
            } else if whole == 0 {
                // What a run would be resumed from is read throughout before anything older goes.
                if let Ok(checkpoint) = Checkpoint::open(&folder) {
                    (whole, best) = (1, checkpoint.best());
                }
            } else {
                whole += usize::from(read_state(&folder).is_ok());
            }
        }
        Ok(())
    }

    /// Removes a folder under another name first, so that a kill on the way leaves nothing that looks like a checkpoint.
    fn remove(&self, folder: &Path) -> Result {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.folder.join(format!("{TEMPORARY}{}", name.trim_start_matches(ASIDE)));
        fs::rename(folder, &aside)
            .and_then(|()| fs::remove_dir_all(&aside))
            .map_err(|source| Error::Io { path: folder.to_path_buf(), source })
    }

    /// Undoes what a killed process left: half-written folders go, one that made way comes back.
    fn clean(&self) -> Result {
        for name in self.names()? {
            let path = self.folder.join(&name);
            let io = |source| Error::Io { path: path.clone(), source };
            if let Some(step) = name.strip_prefix(ASIDE).and_then(step_of) {
                let place = self.path(step);
                if place.exists() {
                    fs::remove_dir_all(&path).map_err(io)?;
                } else {
                    fs::rename(&path, &place).and_then(|()| sync_folder(&self.folder)).map_err(io)?;
                }
            } else if name.strip_prefix(TEMPORARY).and_then(step_of).is_some() {
                fs::remove_dir_all(&path).map_err(io)?;
            }
        }
        Ok(())
    }

    /// Names in the folder; none where there is no folder.
    fn names(&self) -> Result<Vec<String>> {
        let names = || -> std::io::Result<Vec<String>> {
            let entries = match fs::read_dir(&self.folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut names = entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<std::io::Result<Vec<_>>>()?;
            // `.old-step-…` before `step-…`, which then takes its place in a list.
            names.sort();
            Ok(names)
        };
        names().map_err(|source| Error::Io { path: self.folder.clone(), source })
    }
}

/// The step that a checkpoint's name says.
fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    let valid = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if valid { digits.parse().ok() } else { None }
}

/// Reads a checkpoint's `state.json`, and checks that the files that it lists are there, each of its length.
fn read_state(folder: &Path) -> Result<State<Value>> {
    let path = folder.join(STATE);
    let state: State<Value> = read_json(&path)?;
    if state.format != FORMAT {
        let message = format!("its format is {}, but this program knows {FORMAT} only", state.format);
        return Err(file(&path, message));
    }
    let weights = if state.has_adapters() { ADAPTER_WEIGHTS } else { WEIGHTS };
    for required in [CONFIG, weights, OPTIMIZER] {
        if !state.files.contains_key(required) {
            return Err(file(&path, format!("it does not list {required}")));
        }
    }
    for (name, expected) in &state.files {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(file(&path, format!("'{name}' is not the plain name of a file beside it")));
        }
        let path = folder.join(name);
        let found = fs::metadata(&path).map_err(|source| Error::Io { path: path.clone(), source })?.len();
        if found != expected.bytes {
            return Err(file(&path, format!("it has {found} bytes instead of {}", expected.bytes)));
        }
    }
    Ok(state)
}

/// A checkpoint whose files are all as they were written.
pub struct Checkpoint {
    folder: PathBuf,
    state: State<Value>,
    weights: Trained,
    optimizer: Archive,
}

/// What was trained: a whole model, or adapters.
enum Trained {
    Model(Weights),
    Adapters(Adapters),
}

impl Trained {
    fn config(&self) -> &Config {
        match self {
            Trained::Model(weights) => &weights.config,
            Trained::Adapters(adapters) => &adapters.config,
        }
    }

    fn tensors(&self) -> &[Tensor] {
        match self {
            Trained::Model(weights) => &weights.layout.tensors,
            Trained::Adapters(adapters) => &adapters.layout.tensors,
        }
    }

    fn named(&self) -> Result<Named<'_>> {
        match self {
            Trained::Model(weights) => Named::new(weights.archive(), ""),
            Trained::Adapters(adapters) => adapters.named(),
        }
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Checkpoint({})", self.folder.display())
    }
}

impl Checkpoint {
    /// Opens a checkpoint folder and checks every file against `state.json`, and every tensor's name, shape and type.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Io`], naming the file that is missing or damaged.
    pub fn open(folder: &Path) -> Result<Checkpoint> {
        let state = read_state(folder)?;
        for (name, expected) in &state.files {
            let path = folder.join(name);
            if digest(&path)? != *expected {
                return Err(file(&path, "its contents have changed since it was written (CRC-32C)"));
            }
        }
        let weights = if state.has_adapters() {
            Trained::Adapters(Adapters::open_alone(folder)?)
        } else {
            Trained::Model(Weights::open(&folder.join(CONFIG), &folder.join(WEIGHTS))?)
        };
        let optimizer = Archive::open(&folder.join(OPTIMIZER))?;
        let tensors = weights.tensors();
        for array in [Array::M, Array::V] {
            let named = Named::new(&optimizer, prefix(array))?;
            tensors.iter().try_for_each(|tensor| named.check(tensor))?;
            named.check_all_known(|name| tensors.iter().any(|tensor| tensor.name == name))?;
        }
        Ok(Checkpoint { folder: folder.to_path_buf(), state, weights, optimizer })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// The step of the best checkpoint of its run when it was written, if one was better than others: its own, or an earlier one.
    pub fn best(&self) -> Option<u64> {
        self.state.best
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        self.weights.config()
    }

    /// Where everything lies in the arrays of adapters, and the model that they are for, if it is adapters that were trained.
    pub fn adapters(&self) -> Option<(&AdapterLayout, &Base)> {
        match &self.weights {
            Trained::Model(_) => None,
            Trained::Adapters(adapters) => Some((&adapters.layout, &adapters.base)),
        }
    }

    /// What the caller saved with it.
    ///
    /// # Errors
    /// [`Error::File`] when it is not of this type.
    pub fn state<S: DeserializeOwned>(&self) -> Result<S> {
        serde_json::from_value(self.state.state.clone()).map_err(|error| {
            file(&self.folder.join(STATE), format!("its state cannot be understood: {error}"))
        })
    }

    /// Reads parameters and moments tensor by tensor: each goes to `write` with its array and first element. Padding is
    /// left out.
    ///
    /// # Errors
    /// [`Error::File`] when a value is NaN or infinite, and those of `write`.
    pub fn read(&self, mut write: impl FnMut(Array, usize, &[f32]) -> Result) -> Result {
        let mut values = Vec::new();
        for array in [Array::Params, Array::M, Array::V] {
            let named = match array {
                Array::Params => self.weights.named()?,
                Array::M | Array::V => Named::new(&self.optimizer, prefix(array))?,
            };
            // What a file does not hold is 0, as everything is at first.
            for tensor in self.weights.tensors().iter().filter(|t| named.get(&t.name).is_some()) {
                values.resize(tensor.size(), 0.0);
                named.read(tensor, &mut values)?;
                write(array, tensor.range.start, &values)?;
            }
        }
        Ok(())
    }
}
