//! Folders of low-rank adapters as Hugging Face's PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`, which say
//! where the model is that they are for, and hold no more than was trained.
//!
//! PEFT scales b·a by α/r. What is trained here has that factor in `b` already, so that it is written with α = r, and read back bit for
//! bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::archive::{Archive, file, read_json};
use super::checkpoint::STATE;
use super::config_json;
use super::folder::NewFolder;
use super::huggingface::{
    CONFIG, Extras, SHARDS, Weights, head_rows, load_model, nameless_labels, write_settings,
};
use super::locate::{ModelKind, model_path};
use super::tensors::{Named, Source, Writer, entries};
use crate::{AdapterLayout, Array, Config, Error, Layout, Lora, Projection, Result};

pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";
pub(super) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of the model that it wraps.
const ROOT: &str = "base_model.model.";

/// The folder of a run that keeps the model that its adapters are for.
pub const BASE: &str = "base";

/// The model that adapters are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Where it is.
    pub path: PathBuf,
    /// CRC-32C of its parameters without a classifier's head, which adapters bring; none where nobody noted it.
    pub crc32c: Option<u32>,
}

impl Base {
    /// A model with these parameters.
    ///
    /// # Errors
    /// [`Error::Config`] when the shape is impossible, [`Error::Io`] when the path has no
    /// absolute form, [`Error::File`] when that is not UTF-8.
    ///
    /// # Panics
    /// When the parameters are not as many as the model has.
    pub fn of(path: &Path, config: &Config, params: &[f32]) -> Result<Base> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let path = path.canonicalize().map_err(io)?;
        if path.to_str().is_none() {
            return Err(file(
                &path,
                "its name is not UTF-8, and adapters could not say where their model is",
            ));
        }
        Ok(Base { path, crc32c: Some(crc32c_of(config, params)?) })
    }
}

fn crc32c_of(config: &Config, params: &[f32]) -> Result<u32> {
    let layout = Layout::new(config)?;
    let tensors = layout.tensors.iter().filter(|tensor| tensor.name != "score.weight");
    let mut buffer = Vec::new();
    let mut crc = 0;
    for piece in tensors.flat_map(|tensor| params[tensor.live()].chunks(1 << 16)) {
        buffer.clear();
        buffer.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
        crc = crc32c::crc32c_append(crc, &buffer);
    }
    Ok(crc)
}

/// The keys of `adapter_config.json` that say what is to be computed; the others do not.
#[derive(Deserialize)]
struct Read {
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    bias: Option<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Keys of `adapter_config.json` that would have something else computed, unless they are null, false or empty.
const NOT_COMPUTED: [&str; 12] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "velora_config",
];

/// Ways to begin adapters that leave the model's weights as they are; others change these, each time that the adapters are read.
const INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What is written: the keys that PEFT writes.
#[derive(Serialize)]
struct Written<'a> {
    peft_type: &'static str,
    task_type: &'static str,
    base_model_name_or_path: &'a Path,
    r: usize,
    lora_alpha: usize,
    lora_dropout: f32,
    target_modules: Vec<&'static str>,
    layers_to_transform: Option<Vec<usize>>,
    modules_to_save: Option<[&'static str; 1]>,
    /// GPT-2's matrices are (in,out).
    fan_in_fan_out: bool,
    bias: &'static str,
    inference_mode: bool,
}

/// Adapters: opened and checked, not yet read.
pub(super) struct Adapters {
    /// The shape of the model with them.
    pub config: Config,
    pub layout: AdapterLayout,
    pub base: Base,
    /// α/r, or α/√r: what `b` is to be multiplied by.
    scale: f64,
    archive: Archive,
}

impl Adapters {
    /// Opens adapters for a model of this shape and CRC-32C, trained with this α, and checks each tensor's name, shape and type.
    fn open(folder: &Path, config: &Config, crc32c: Option<u32>, alpha: Option<f64>) -> Result<Adapters> {
        let path = folder.join(ADAPTER_CONFIG);
        let read = read(&path)?;
        let archive = Archive::open(&folder.join(ADAPTER_WEIGHTS))?;
        let named = Named::new(&archive, ROOT)?;
        let has = |layer: usize, projection: &Projection| {
            named.get(&format!("h.{layer}.{projection}.lora_A.weight")).is_some()
        };
        let in_layer = |layer: usize| Projection::ALL.iter().any(|projection| has(layer, projection));
        let Some(frozen) = (0..config.n_layer).find(|layer| in_layer(*layer)) else {
            return Err(file(&archive.path, "it holds no adapter of a GPT-2's layer"));
        };
        let targets = Projection::ALL.into_iter().filter(|projection| has(frozen, projection)).collect();
        let lora = Lora { rank: read.r, alpha: alpha.unwrap_or(read.lora_alpha), targets, frozen };
        let layout = AdapterLayout::new(config, &lora).map_err(|error| file(&path, error.to_string()))?;
        named.check_all(layout.tensors.iter())?;
        named.check_all_known(|name| layout.tensors.iter().any(|tensor| tensor.name == name))?;
        let r = read.r as f64;
        let scale = read.lora_alpha / if read.use_rslora { r.sqrt() } else { r };
        let base = Base { path: read.base_model_name_or_path.unwrap_or_default().into(), crc32c };
        Ok(Adapters { config: config.clone(), layout, base, scale, archive })
    }

    /// Opens those of a folder that has a `config.json` of its own, as checkpoints have.
    pub fn open_alone(folder: &Path) -> Result<Adapters> {
        let settings = config_json::read(&folder.join(CONFIG))?;
        let (crc32c, alpha) = (settings.base_crc32c, settings.lora_alpha);
        Adapters::open(folder, &settings.alone(), crc32c, alpha)
    }

    /// Opens those of a folder that PEFT wrote, which leaves the shape to the model, and the names of labels to nobody.
    pub fn of_model(folder: &Path, config: &Config) -> Result<Adapters> {
        let archive = Archive::open(&folder.join(ADAPTER_WEIGHTS))?;
        let rows = head_rows(&Named::new(&archive, ROOT)?, config, &archive.path)?;
        match rows.filter(|_| !config.is_classifier()) {
            Some(rows) => {
                Adapters::open(folder, &config.clone().classifier(nameless_labels(rows)), None, None)
            }
            None => Adapters::open(folder, config, None, None),
        }
    }

    /// Opens those of a folder; where that has no `config.json`, the model has.
    pub fn open_any(folder: &Path) -> Result<Adapters> {
        match folder.join(CONFIG).is_file() {
            true => Adapters::open_alone(folder),
            false => Adapters::of_model(folder, &shape_of(&base_of(folder)?)?),
        }
    }

    /// The tensors as they are in the file.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The tensors by their names.
    pub fn named(&self) -> Result<Named<'_>> {
        Named::new(&self.archive, ROOT)
    }

    /// Reads them, flat, with the scale in `b`.
    pub fn read(&self) -> Result<Vec<f32>> {
        let named = self.named()?;
        let mut values = vec![0.0; self.layout.len];
        for tensor in &self.layout.tensors {
            let values = &mut values[tensor.live()];
            named.read(tensor, values)?;
            if self.scale != 1.0 && tensor.name.ends_with("lora_B.weight") {
                values.iter_mut().for_each(|value| *value = (f64::from(*value) * self.scale) as f32);
            }
        }
        Ok(values)
    }

    /// Refuses a model of another shape.
    pub fn check_shape(&self, config: &Config) -> Result {
        // Whether there are biases, and whether the head is the embedding's, is the tensors' to say.
        let Config { bias, tied, .. } = self.config;
        if (Config { bias, tied, ..config.clone() }) == self.config {
            return Ok(());
        }
        let shape = |config: &Config| {
            let Config { n_layer, n_head, n_embd, vocab_size, context, layernorm_eps, .. } = config;
            let labels = if config.is_classifier() { config.labels.len().to_string() } else { "no".into() };
            format!(
                "{n_layer} layers, {n_head} heads, {n_embd} channels, context {context}, vocabulary {vocab_size}, {labels} labels \
                 (layernorm_eps {layernorm_eps:e})"
            )
        };
        let message = format!("they are for a GPT-2 of {}, not {}", shape(&self.config), shape(config));
        Err(file(&self.archive.path, message))
    }

    /// Refuses parameters (without adapters) that are not those of the model that the adapters were trained beside.
    pub fn check_base(&self, path: &Path, config: &Config, params: &[f32]) -> Result {
        match self.base.crc32c {
            Some(crc) if crc != crc32c_of(config, params)? => Err(file(
                &self.archive.path,
                format!(
                    "trained beside a model that is not the one in {} as it is now (CRC-32C of the parameters)",
                    path.display()
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The adapters of a run, a checkpoint or a folder, in a new folder: without what training goes on from, and without the model, which
/// `base` is the name of, for PEFT; none for where it is now.
///
/// # Errors
/// [`Error::File`] when there are none, or the folder holds something; else those of
/// [`load_model`](super::load_model) and [`save_model`](super::save_model).
pub fn export_adapters(path: &Path, base: Option<&Path>, out: &Path, extras: &Extras) -> Result {
    let found = model_path(path)?;
    found.check_adapters()?;
    let mut adapters = Adapters::open_any(&found.folder)?;
    adapters.base.path = match base {
        Some(base) => base.to_path_buf(),
        None => base_of(&found.folder).unwrap_or(adapters.base.path),
    };
    let values = adapters.read()?;
    let new = NewFolder::vacant(out)?;
    let mut source = |_, start: usize, out: &mut [f32]| {
        out.copy_from_slice(&values[start..start + out.len()]);
        Ok(())
    };
    write_adapters(&new, &adapters.config, &adapters.layout, &adapters.base, extras, &mut source)?;
    new.finish(None)
}

/// Puts a model's files into a new folder under further names, where the file system has such, or copies them. Whether it did: not where
/// the model is adapters, or a lone file.
///
/// # Errors
/// [`Error::File`] when there is no model; [`Error::Io`] when the system refuses.
pub fn link_model(from: &Path, to: &Path) -> Result<bool> {
    let found = model_path(from)?;
    if found.kind == ModelKind::Safetensors || found.has_adapters() {
        return Ok(false);
    }
    let new = NewFolder::vacant(to)?;
    let io = |source| Error::Io { path: found.folder.clone(), source };
    let weights = found.weights.file_name();
    let is_index = weights.is_some_and(|name| name == SHARDS);
    for entry in fs::read_dir(&found.folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let name = path.file_name();
        let wanted = match extension {
            Some("json" | "txt" | "model" | "toml") => name.is_some_and(|name| name != STATE),
            Some("safetensors") => name == weights || is_index,
            _ => false,
        };
        if wanted && path.is_file() {
            let place = new.path().join(name.unwrap_or_default());
            fs::hard_link(&path, &place).or_else(|_| fs::copy(&path, &place).map(drop)).map_err(io)?;
        }
    }
    new.finish(None)?;
    Ok(true)
}

/// The shape of a model whose values are not asked for.
fn shape_of(path: &Path) -> Result<Config> {
    let found = model_path(path)?;
    if found.has_adapters() {
        return Ok(load_model(path)?.config);
    }
    Ok(Weights::open(&found.folder.join(CONFIG), &found.weights)?.config)
}

/// The path of the model that a folder's adapters are for.
pub(super) fn base_of(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(ADAPTER_CONFIG);
    let name = read(&path)?.base_model_name_or_path.unwrap_or_default();
    // A run keeps its model, wherever it is moved to.
    let kept = folder.parent().filter(|_| folder.join(STATE).is_file()).and_then(Path::parent);
    // In full, for it is written down where others read it.
    let kept = kept.and_then(|run| run.join(BASE).canonicalize().ok());
    // As transformers has it, relative to where the program runs; or beside the adapters.
    let named = [PathBuf::from(&name), folder.join(&name)].into_iter().filter(|_| !name.is_empty());
    kept.into_iter().chain(named).find(|place| place.exists()).ok_or_else(|| {
        let message = format!(
            "its model '{name}' is not there: merge it with its adapters first, `wikigpt export {} --base MODEL --out DIR`",
            folder.display()
        );
        file(&path, message)
    })
}

fn read(path: &Path) -> Result<Read> {
    let refuse = |message: String| Err(file(path, message));
    let read: Read = match serde_json::from_value(read_json(path)?) {
        Ok(read) => read,
        Err(error) => return refuse(format!("not the configuration of LoRA adapters: {error}")),
    };
    let kind = read.peft_type.as_deref().unwrap_or("none");
    if kind != "LORA" {
        return refuse(format!("its peft_type is '{kind}'; only 'LORA' can be read"));
    }
    if let Some(bias) = read.bias.as_deref().filter(|bias| *bias != "none") {
        return refuse(format!("its bias is '{bias}'; only 'none' can be read"));
    }
    for key in NOT_COMPUTED {
        match read.others.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Object(map)) if map.is_empty() => {}
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(other) => return refuse(format!("its {key} is {other}; that cannot be computed here")),
        }
    }
    if let Some(Value::String(init)) = read.others.get("init_lora_weights")
        && !INITS.contains(&init.as_str())
    {
        return refuse(format!("its init_lora_weights is '{init}', which changes the model's own weights"));
    }
    Ok(read)
}

/// Writes the files of adapters into a folder.
pub(super) fn write_adapters(
    new: &NewFolder,
    config: &Config,
    layout: &AdapterLayout,
    base: &Base,
    extras: &Extras,
    source: &mut Source,
) -> Result {
    let AdapterLayout { lora, head, tensors, blocks, .. } = layout;
    let weights = Writer::new(entries(tensors, Array::Params).collect(), ROOT);
    new.write(ADAPTER_WEIGHTS, weights.bytes, |out| weights.write(out, new.place(), source))?;
    let written = Written {
        peft_type: "LORA",
        task_type: if head.is_some() { "SEQ_CLS" } else { "CAUSAL_LM" },
        base_model_name_or_path: &base.path,
        r: lora.rank,
        lora_alpha: lora.rank,
        lora_dropout: 0.0,
        target_modules: lora.targets.iter().map(|target| target.name()).collect(),
        layers_to_transform: (lora.frozen > 0).then(|| (lora.frozen..blocks.len()).collect()),
        modules_to_save: head.is_some().then_some(["score"]),
        fan_in_fan_out: true,
        bias: "none",
        inference_mode: true,
    };
    let text = config_json::pretty(&written);
    new.write(ADAPTER_CONFIG, text.len() as u64, |out| out.write(text.as_bytes()))?;
    write_settings(new, config, extras, Some((base, lora)))
}
