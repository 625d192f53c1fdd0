//! What a run knows of how its model completes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use wikigpt_dataset::completion::Template;

use super::KeepName;
use crate::fault::bad_input;
use crate::{folder, tuning};

/// The part of a run's `finetune.toml` that completing needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Stored {
    /// What stands around a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Which end of a long prompt is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepName>,
    /// Positions that a prompt and its completion take at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Tokens that a completion has at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// Positions of the context that a prompt leaves to its completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<usize>,
}

impl Stored {
    /// Reads it for a run, for a checkpoint in one, or for a folder that one was exported to; nothing where there is none.
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

    /// Writes it into a folder that a model is exported to, where it is one that completes.
    pub fn write(&self, folder: &Path) -> Result<()> {
        if self.template.is_none() {
            return Ok(());
        }
        let head = "# How this model was fine-tuned to complete prompts: `wikigpt complete` goes by it.\n";
        let text = head.to_owned() + &toml::to_string(self)?;
        folder::write_file(&folder.join(tuning::FILE), text.as_bytes())
    }
}
