//! MODEL on a command line: what a path to a model means.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::adapters::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use super::archive::file;
use super::checkpoint::{Checkpoint, Checkpoints, STATE};
use super::huggingface::{CONFIG, SHARDS, WEIGHTS};
use crate::{Error, Result};

/// What kind of place holds a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A run folder; the model is its best good checkpoint, or its newest where none is better than others.
    Run,
    /// A checkpoint folder.
    Checkpoint,
    /// A folder with `config.json` and weights.
    HuggingFace,
    /// A folder with `adapter_config.json` and the adapters, as PEFT writes it.
    Adapters,
    /// A `.safetensors` file with a `config.json` beside it.
    Safetensors,
}

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPath {
    /// What the path named.
    pub kind: ModelKind,
    /// The folder of `config.json` and of the tokenizer, if there is one.
    pub folder: PathBuf,
    /// The weights: a `.safetensors` file or the index of shards; or adapters.
    pub weights: PathBuf,
    /// Steps done, of a run or checkpoint.
    pub step: Option<u64>,
    /// Sentences about damaged checkpoints that were passed over.
    pub warnings: Vec<String>,
}

impl ModelPath {
    /// Whether it is adapters, which are for another model.
    pub fn has_adapters(&self) -> bool {
        self.weights.ends_with(ADAPTER_WEIGHTS)
    }

    /// Refuses a model that is whole.
    pub(super) fn check_adapters(&self) -> Result {
        if self.has_adapters() {
            return Ok(());
        }
        Err(file(&self.folder, "a model that is whole, not adapters that are for another"))
    }
}

/// Finds the model that a path means. Of a checkpoint, the files are checked to be whole.
///
/// # Errors
/// [`Error::File`] when the path holds no model, or a damaged checkpoint; [`Error::Io`] when it cannot be looked at.
pub fn model_path(path: &Path) -> Result<ModelPath> {
    let metadata = path.metadata().map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    if !metadata.is_dir() {
        return beside_config(path);
    }
    if path.join("checkpoints").is_dir() {
        let Some(found) = Checkpoints::of(path).best_good()? else {
            return Err(file(path, "this run has no checkpoint yet"));
        };
        return Ok(checkpoint(ModelKind::Run, &found.checkpoint, found.warnings));
    }
    if path.join(STATE).is_file() {
        return Ok(checkpoint(ModelKind::Checkpoint, &Checkpoint::open(path)?, Vec::new()));
    }
    if path.join(ADAPTER_CONFIG).is_file() {
        let (folder, weights) = (path.to_path_buf(), path.join(ADAPTER_WEIGHTS));
        return Ok(ModelPath {
            kind: ModelKind::Adapters,
            folder,
            weights,
            step: None,
            warnings: Vec::new(),
        });
    }
    if !path.join(CONFIG).is_file() {
        let message =
            "not a model: a run folder, a checkpoint or a Hugging Face folder (config.json) is asked for";
        return Err(file(path, message));
    }
    let Some(weights) =
        [WEIGHTS, SHARDS].iter().map(|name| path.join(name)).find(|weights| weights.is_file())
    else {
        let message = if path.join("pytorch_model.bin").is_file() {
            "pytorch_model.bin cannot be read: save the model in transformers again, which writes model.safetensors"
        } else {
            "it has a config.json, but neither model.safetensors nor model.safetensors.index.json"
        };
        return Err(file(path, message));
    };
    let folder = path.to_path_buf();
    Ok(ModelPath { kind: ModelKind::HuggingFace, folder, weights, step: None, warnings: Vec::new() })
}

fn beside_config(path: &Path) -> Result<ModelPath> {
    if path.extension().is_none_or(|extension| extension != "safetensors") {
        return Err(file(path, "not a model: a folder or a .safetensors file is asked for"));
    }
    let folder = super::folder::parent(path);
    if !folder.join(CONFIG).is_file() {
        return Err(file(
            path,
            "there is no config.json beside it, which says what model these weights are of",
        ));
    }
    let (kind, weights) = (ModelKind::Safetensors, path.to_path_buf());
    Ok(ModelPath { kind, folder, weights, step: None, warnings: Vec::new() })
}

fn checkpoint(kind: ModelKind, checkpoint: &Checkpoint, warnings: Vec<String>) -> ModelPath {
    let folder = checkpoint.folder().to_path_buf();
    let weights = folder.join(if checkpoint.adapters().is_some() { ADAPTER_WEIGHTS } else { WEIGHTS });
    ModelPath { kind, folder, weights, step: Some(checkpoint.step()), warnings }
}
