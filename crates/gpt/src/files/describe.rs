//! What a model file or folder holds, for `inspect`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::adapters::{Adapters, Base};
use super::archive::Archive;
use super::checkpoint::{Checkpoint, Checkpoints};
use super::huggingface::{CONFIG, Weights};
use super::locate::{ModelKind, model_path};
use crate::{Config, Layout, Projection, Result};

/// What [`describe`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// What the path is.
    pub kind: ModelKind,
    /// The weights' file, or the index of its shards.
    pub weights: PathBuf,
    /// The model's shape; not of a lone safetensors file.
    pub config: Option<Config>,
    /// Parameters of the model, or elements of a lone file or of adapters.
    pub parameters: u64,
    /// What the adapters are, if it is such.
    pub adapters: Option<AdaptersDescription>,
    /// Bytes of the weights' files.
    pub bytes: u64,
    /// Steps done, of a run or checkpoint.
    pub step: Option<u64>,
    /// What the trainer saved with the checkpoint.
    pub state: Option<serde_json::Value>,
    /// All checkpoints of a run, by step: what is wrong with each, if anything.
    pub checkpoints: Option<BTreeMap<u64, Option<String>>>,
    /// The files' `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Every tensor, sorted by name.
    pub tensors: Vec<TensorDescription>,
}

/// The adapters of a [`Description`].
#[derive(Clone, Debug, Serialize)]
pub struct AdaptersDescription {
    /// The model that they are for.
    pub base: Base,
    /// R.
    pub rank: usize,
    /// The layers of a block that have one: `attn.c_attn`.
    pub targets: Vec<&'static str>,
    /// So many of the lowest blocks have none.
    pub frozen: usize,
}

/// One tensor of a [`Description`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorDescription {
    /// Its name in the file.
    pub name: String,
    /// Its type, such as `F32`.
    pub dtype: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
}

/// Describes a run, a checkpoint, a Hugging Face folder, or a `.safetensors` file, with or without its `config.json`.
///
/// # Errors
/// As [`load_model`](super::load_model), but values are not read: NaN goes unnoticed.
pub fn describe(path: &Path) -> Result<Description> {
    if path.is_file() && !path.with_file_name(CONFIG).is_file() {
        let archive = Archive::open(path)?;
        return Ok(of(ModelKind::Safetensors, &archive));
    }
    let found = model_path(path)?;
    let mut description = match found.has_adapters() {
        true => of_adapters(found.kind, &found.folder)?,
        false => {
            let weights = Weights::open(&found.folder.join(CONFIG), &found.weights)?;
            Description {
                parameters: Layout::new(&weights.config)?.parameters() as u64,
                config: Some(weights.config.clone()),
                ..of(found.kind, weights.archive())
            }
        }
    };
    if found.step.is_some() {
        description.step = found.step;
        description.state = Some(Checkpoint::open(&found.folder)?.state()?);
    }
    if found.kind == ModelKind::Run {
        let list = Checkpoints::of(path).list()?;
        let damage = |folder: &Path| Checkpoint::open(folder).err().map(|error| error.to_string());
        description.checkpoints =
            Some(list.into_iter().map(|(step, folder)| (step, damage(&folder))).collect());
    }
    Ok(description)
}

fn of_adapters(kind: ModelKind, folder: &Path) -> Result<Description> {
    let adapters = Adapters::open_any(folder)?;
    let lora = &adapters.layout.lora;
    Ok(Description {
        config: Some(adapters.config.clone()),
        adapters: Some(AdaptersDescription {
            base: adapters.base.clone(),
            rank: lora.rank,
            targets: lora.targets.iter().copied().map(Projection::name).collect(),
            frozen: lora.frozen,
        }),
        ..of(kind, adapters.archive())
    })
}

fn of(kind: ModelKind, archive: &Archive) -> Description {
    let tensor = |name: &str| {
        let view = archive.get(name).expect("a name of this archive");
        TensorDescription { name: name.into(), dtype: view.dtype.to_string(), shape: view.shape.to_vec() }
    };
    let tensors: Vec<_> = archive.names().map(tensor).collect();
    Description {
        kind,
        weights: archive.path.clone(),
        config: None,
        parameters: tensors.iter().map(|t| t.shape.iter().product::<usize>() as u64).sum(),
        adapters: None,
        bytes: archive.file_bytes(),
        step: None,
        state: None,
        checkpoints: None,
        metadata: archive.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        tensors,
    }
}
