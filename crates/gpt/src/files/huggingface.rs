//! Hugging Face GPT-2 folders: `config.json` and `model.safetensors`, read and written.

use std::error::Error as StdError;
use std::fs;
use std::path::{Path, PathBuf};

use super::adapters::{Adapters, Base, base_of};
use super::archive::{Archive, file};
use super::checkpoint::Checkpoint;
use super::config_json::{self, Settings};
use super::folder::NewFolder;
use super::locate::{ModelKind, ModelPath, model_path};
use super::tensors::{Named, Source, Writer, entries, is_bias, zero_biases};
use crate::{Array, Config, Error, Layout, Lora, Result, carry_over, merge};

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const SHARDS: &str = "model.safetensors.index.json";

/// A model in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The folder that its files are in: of a run, its best or newest good checkpoint; a tokenizer lies there too, if any. Of
    /// adapters that have no `config.json` it is their model's.
    pub folder: PathBuf,
    /// Where it was read from, as exactly as can be said: of a run, that checkpoint.
    pub path: PathBuf,
    /// Its shape.
    pub config: Config,
    /// Its parameters, flat, in the order of its [`Layout`]; padding is 0.
    pub params: Vec<f32>,
    /// Sentences about damaged checkpoints that were passed over, for the person who runs the program.
    pub warnings: Vec<String>,
}

/// Loads MODEL: a run folder, a checkpoint, a Hugging Face folder, or a `.safetensors` file beside a `config.json`. Where these hold
/// adapters, it is the model that they are for with them added.
///
/// Weights may be f32, f16 or bf16, in one file or in shards, with names with or without `transformer.`. A missing
/// `lm_head.weight`, or one that equals `wte.weight`, is a tied head. Where the biases of `c_attn` are missing from all
/// layers they are 0, and a warning says so.
///
/// # Errors
/// [`Error::Io`] when a file cannot be read; [`Error::File`] when it is damaged, is no GPT-2 that can be computed
/// here, has tensors missing, unknown, of a wrong shape or type, or holds NaN or infinity.
pub fn load_model(path: &Path) -> Result<Model> {
    load(path, None, MOST_ADAPTERS)
}

/// The same of adapters whose model is not where they say, but at `base`.
///
/// # Errors
/// As [`load_model`], and [`Error::File`] when `path` holds no adapters.
pub fn load_adapted(path: &Path, base: &Path) -> Result<Model> {
    load(path, Some(base), MOST_ADAPTERS)
}

/// Adapters may be for a model that is itself one with adapters, so many times: they could also be for themselves.
const MOST_ADAPTERS: usize = 16;

fn load(path: &Path, base: Option<&Path>, depth: usize) -> Result<Model> {
    let found = model_path(path)?;
    if base.is_some() {
        found.check_adapters()?;
    }
    let has_adapters = found.has_adapters();
    let ModelPath { kind, folder, weights: held, mut warnings, .. } = found;
    let path = if kind == ModelKind::Safetensors { held.clone() } else { folder.clone() };
    if !has_adapters {
        let weights = Weights::open(&folder.join(CONFIG), &held)?;
        let params = weights.read()?;
        warnings.extend(weights.warning);
        return Ok(Model { folder, path, config: weights.config, params, warnings });
    }
    let base = match base {
        Some(base) => base.to_path_buf(),
        None => base_of(&folder)?,
    };
    let (adapters, mut model) = load_base(&folder, &base, depth)?;
    merge(&model.config, &mut model.params, &adapters.layout, &adapters.read()?)?;
    model.warnings.append(&mut warnings);
    // What PEFT writes has no tokenizer.
    let folder = if folder.join(CONFIG).is_file() { folder } else { model.folder };
    Ok(Model { folder, path, ..model })
}

/// The adapters of a folder, and the model that they are for, with their head.
fn load_base(folder: &Path, base: &Path, depth: usize) -> Result<(Adapters, Model)> {
    if depth == 0 {
        return Err(file(folder, "its adapters are for a model with adapters, and so on without an end"));
    }
    let mut model = load(base, None, depth - 1)?;
    let adapters = match folder.join(CONFIG).is_file() {
        true => Adapters::open_alone(folder)?,
        false => Adapters::of_model(folder, &model.config)?,
    };
    // Those of a classifier bring its head, and its labels' names.
    let config = match adapters.config.is_classifier() {
        true => model.config.clone().classifier(adapters.config.labels.clone()),
        false => model.config.clone(),
    };
    adapters.check_shape(&config)?;
    if config != model.config {
        let mut params = vec![0.0; Layout::new(&config)?.len];
        carry_over(&model.config, &model.params, &config, &mut params)?;
        model.params = params;
    }
    adapters.check_base(&model.path, &config, &model.params)?;
    Ok((adapters, Model { config, ..model }))
}

impl Checkpoint {
    /// The model that the checkpoint's adapters are for, as it was before they were trained, but for a classifier's head, which they
    /// bring.
    ///
    /// # Errors
    /// Those of [`load_model`], and [`Error::File`] when the checkpoint is of a whole model.
    pub fn base(&self) -> Result<Model> {
        Ok(load_base(self.folder(), &base_of(self.folder())?, MOST_ADAPTERS)?.1)
    }
}

/// Loads the parameters of a model of known shape, flat, from a `.safetensors` file that has no `config.json`; and a
/// warning, if the biases of `c_attn` are missing from all layers.
///
/// # Errors
/// As [`load_model`]: the tensors must be those of `config`, but a tied model's head may be there once more.
pub fn load_weights(path: &Path, config: &Config) -> Result<(Vec<f32>, Option<String>)> {
    let archive = Archive::open(path)?;
    let named = Named::new(&archive, "")?;
    if config.n_layer > named.len() {
        let message = format!("{} tensors cannot be a model of {} layers", named.len(), config.n_layer);
        return Err(file(path, message));
    }
    let layout = Layout::new(config)?;
    let warning = named.check_all(layout.tensors.iter())?;
    let head = |name: &str| config.tied && name == "lm_head.weight" && named.equal(name, "wte.weight");
    named.check_all_known(|name| layout.tensors.iter().any(|tensor| tensor.name == name) || head(name))?;
    Ok((read_flat(&named, &layout)?, warning))
}

/// The weights of a model: opened and checked, not yet read.
pub(super) struct Weights {
    /// The shape, as the tensors settle it.
    pub config: Config,
    /// Says that biases are missing, if any are.
    pub warning: Option<String>,
    /// Of this shape.
    pub layout: Layout,
    archive: Archive,
}

impl Weights {
    /// Opens a `config.json` and the weights that belong to it, and checks each tensor's name, shape and type.
    pub fn open(config: &Path, weights: &Path) -> Result<Weights> {
        let path = config;
        let settings = config_json::read(path)?;
        let archive = Archive::open(weights)?;
        let mut config = settings.config.clone();
        let named = Named::new(&archive, "")?;
        // A layout takes memory for each layer: count them before believing config.json.
        if config.n_layer > named.len() {
            let message =
                format!("n_layer is {}, but the weights are {} tensors", config.n_layer, named.len());
            return Err(file(path, message));
        }
        config.labels = labels(&named, &settings, &config, path, weights)?;
        let classifies = config.is_classifier();
        let has_head = classifies || named.get("lm_head.weight").is_some();
        if settings.untied && !has_head {
            let message = "lm_head.weight is missing, although config.json says tie_word_embeddings: false";
            return Err(file(weights, message));
        }
        let all = Layout::new(&Config { tied: !has_head, bias: true, ..config.clone() })
            .map_err(|error| file(path, error.to_string()))?;
        // Without biases there may be none in the file, or zeros for transformers to read. If they are something
        // else by now, the model has been trained on with them.
        let no_bias =
            !config.bias && !all.tensors.iter().any(|t| is_bias(&t.name) && named.get(&t.name).is_some());
        let warning = named.check_all(all.tensors.iter().filter(|t| !(no_bias && is_bias(&t.name))))?;
        named.check_all_known(|name| all.tensors.iter().any(|tensor| tensor.name == name))?;
        if !config.bias && !no_bias {
            config.bias = !all.tensors.iter().all(|t| !is_bias(&t.name) || named.is_zero(&t.name));
        }
        config.tied =
            !has_head || (!classifies && !settings.untied && named.equal("lm_head.weight", "wte.weight"));
        let layout = Layout::new(&config)?;
        Ok(Weights { config, warning, layout, archive })
    }

    /// The tensors as they are in the file.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Reads the parameters, flat.
    pub fn read(&self) -> Result<Vec<f32>> {
        read_flat(&Named::new(&self.archive, "")?, &self.layout)
    }
}

/// The names of the labels that a classifier's head has rows for; none of a language model.
fn labels(
    named: &Named,
    settings: &Settings,
    config: &Config,
    path: &Path,
    weights: &Path,
) -> Result<Vec<String>> {
    let Some(rows) = head_rows(named, config, weights)? else {
        if settings.classifies {
            let message = "score.weight is missing, although config.json says GPT2ForSequenceClassification";
            return Err(file(weights, message));
        }
        return Ok(Vec::new());
    };
    match &settings.labels {
        Some(names) if names.len() != rows => {
            let message =
                format!("its id2label names {} labels, but score.weight has {rows} rows", names.len());
            Err(file(path, message))
        }
        Some(names) => Ok(names.clone()),
        // transformers leaves these names out.
        None => Ok(nameless_labels(rows)),
    }
}

/// The rows of a classifier's head, if there is one; each is the size of a real one.
pub(super) fn head_rows(named: &Named, config: &Config, weights: &Path) -> Result<Option<usize>> {
    let Some(score) = named.get("score.weight") else { return Ok(None) };
    match score.shape {
        [rows, columns] if *columns == config.n_embd => Ok(Some(*rows)),
        shape => {
            let C = config.n_embd;
            let message =
                format!("score.weight has the shape {shape:?}; the model asks for a row of {C} a label");
            Err(file(weights, message))
        }
    }
}

/// What transformers calls labels that have no names.
pub(super) fn nameless_labels(count: usize) -> Vec<String> {
    (0..count).map(|row| format!("LABEL_{row}")).collect()
}

/// Reads the tensors of a layout, all checked, into one array. What a file does not hold is 0.
fn read_flat(named: &Named, layout: &Layout) -> Result<Vec<f32>> {
    let mut values = vec![0.0; layout.len];
    for tensor in layout.tensors.iter().filter(|tensor| named.get(&tensor.name).is_some()) {
        named.read(tensor, &mut values[tensor.live()])?;
    }
    Ok(values)
}

/// Writes further files into a folder before it gets its name; the error is passed on.
pub type Fill<'a> = &'a dyn Fn(&Path) -> std::result::Result<(), Box<dyn StdError + Send + Sync>>;

/// What a model folder holds beside the weights.
#[derive(Clone, Copy, Default)]
pub struct Extras<'a> {
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The token that ends a text.
    pub eos_token_id: Option<u32>,
    /// The contents of `tokenizer.json`, where the tokenizer has such a form.
    pub tokenizer_json: Option<&'a str>,
    /// Writes other files, such as a tokenizer in another form.
    pub fill: Option<Fill<'a>>,
    /// With a checkpoint: the step of its run's best, if one is better than others.
    pub best: Option<u64>,
}

/// Writes a Hugging Face folder, which must be new or empty: all of it, or nothing under that name.
///
/// `transformers` loads it as `GPT2LMHeadModel`. Of a model without biases it reads zeros, and a note in `config.json`
/// tells [`load_model`]. Weights are converted a piece at a time; no second copy of the model is held.
///
/// # Errors
/// [`Error::File`] when the folder already holds something, the weights hold NaN or infinity, or the tokenizer is no
/// JSON; [`Error::Write`] and [`Error::Io`] when the system refuses.
///
/// # Panics
/// When `params` is not as long as the [`Layout`].
pub fn save_model(folder: &Path, config: &Config, params: &[f32], extras: &Extras) -> Result {
    let new = NewFolder::vacant(folder)?;
    let layout = Layout::new(config)?;
    assert_eq!(params.len(), layout.len, "parameters are an array in the order of their layout");
    let mut source = |_, start: usize, out: &mut [f32]| {
        out.copy_from_slice(&params[start..start + out.len()]);
        Ok(())
    };
    write_model(&new, config, &layout, &mut source, extras)?;
    new.finish(None)
}

/// Writes a model's files into a new folder.
pub(super) fn write_model(
    new: &NewFolder,
    config: &Config,
    layout: &Layout,
    source: &mut Source,
    extras: &Extras,
) -> Result {
    let tensors = entries(&layout.tensors, Array::Params).chain(zero_biases(config)?).collect();
    let weights = Writer::new(tensors, "");
    new.write(WEIGHTS, weights.bytes, |out| weights.write(out, new.place(), source))?;
    write_settings(new, config, extras, None)
}

/// Writes what a folder holds beside weights, or beside adapters for a model.
pub(super) fn write_settings(
    new: &NewFolder,
    config: &Config,
    extras: &Extras,
    adapters: Option<(&Base, &Lora)>,
) -> Result {
    let (bos, eos) = (extras.bos_token_id, extras.eos_token_id);
    let text = |name: &str, text: &str| new.write(name, text.len() as u64, |out| out.write(text.as_bytes()));
    text(CONFIG, &config_json::config_json(config, bos, eos, adapters))?;
    text("generation_config.json", &config_json::generation_config_json(bos, eos))?;
    if let Some(tokenizer) = extras.tokenizer_json {
        text("tokenizer.json", tokenizer)?;
    }
    if let Some(fill) = extras.fill {
        fill(new.path()).map_err(|source| Error::Fill { path: new.place().to_path_buf(), source })?;
    }
    let tokenizer = new.path().join("tokenizer.json");
    if let Ok(tokenizer) = fs::read_to_string(&tokenizer)
        && !new.path().join("tokenizer_config.json").exists()
    {
        let Some(settings) = config_json::tokenizer_config_json(&tokenizer, config, bos, eos) else {
            return Err(file(&new.place().join("tokenizer.json"), "not written, because it is no JSON"));
        };
        text("tokenizer_config.json", &settings)?;
    }
    Ok(())
}
