//! What a run knows of how its model completes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use wikigpt_dataset::completion::Template;

use super::KeepName;
use crate::fault::bad_input;
use crate::tuning;

/// The part of a run's `finetune.toml` that completing needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Stored {
    /// What stands around a prompt.
    pub template: Option<Template>,
    /// Which end of a long prompt is kept.
    pub keep: Option<KeepName>,
    /// Tokens that a completion has at most.
    pub max_new_tokens: Option<usize>,
    /// Positions of the context that a prompt leaves to its completion.
    pub room: Option<usize>,
}

impl Stored {
    /// Reads it for a run, or for a checkpoint in one; nothing where there is none.
    pub fn of(model: &Path, checkpoint: &Path) -> Result<Stored> {
        let run = checkpoint.parent().filter(|folder| folder.ends_with("checkpoints")).and_then(Path::parent);
        let places = [Some(model), run].into_iter().flatten().map(|folder| folder.join(tuning::FILE));
        let Some(path) = places.into_iter().find(|path: &PathBuf| path.is_file()) else {
            return Ok(Stored::default());
        };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match toml::from_str(&text) {
            Ok(stored) => Ok(stored),
            Err(error) => bad_input!("{}: {}", path.display(), error.message()),
        }
    }
}
