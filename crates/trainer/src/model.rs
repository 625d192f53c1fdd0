//! MODEL on the command line: a run folder, a checkpoint folder or a Hugging Face folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wikigpt_gpt::{Config, Gpt, Mode, hf};
use wikigpt_ops::Ops;

use crate::fault::bad_input;
use crate::{checkpoint, run_folder};

/// A model in host memory.
pub struct Model {
    /// The folder it came from: a run's checkpoint, or the folder named.
    pub folder: PathBuf,
    /// Its shape.
    pub config: Config,
    /// Its weights.
    pub weights: hf::Weights,
}

impl Model {
    /// Reads MODEL.
    pub fn open(path: &Path) -> Result<Model> {
        let folder = locate(path)?;
        let (config, weights) = hf::read_folder(&folder)?;
        Ok(Model { folder, config, weights })
    }

    /// Puts the model on a backend, for so many sequences of so many tokens at once.
    pub fn load<O: Ops>(&self, ops: O, batch: usize, context: usize) -> Result<Gpt<O>> {
        let mut gpt = Gpt::new(ops, &self.config, batch, context, Mode::Infer)?;
        gpt.load(&self.weights)?;
        Ok(gpt)
    }
}

/// The folder that a MODEL's files are in: of a run, its newest good checkpoint.
pub fn locate(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        bad_input!("{}: there is no such model folder", path.display());
    }
    if !path.is_dir() {
        bad_input!(
            "{}: not a model: a run folder, a checkpoint or a Hugging Face folder is asked for",
            path.display()
        );
    }
    if run_folder::is_run(path) {
        let warn = |text: &str| eprintln!("warning: {text}");
        return match checkpoint::newest(&run_folder::checkpoints(path), warn)? {
            Some((folder, _)) => Ok(folder),
            None => bad_input!("{}: there is no checkpoint in this run that can be read", path.display()),
        };
    }
    if checkpoint::is_checkpoint(path) {
        checkpoint::verify(path).with_context(|| format!("{} is damaged", path.display()))?;
    }
    if path.join("dataset.json").is_file() {
        bad_input!("{}: a data folder, not a model", path.display());
    }
    Ok(path.to_path_buf())
}
