//! `wikigpt import`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::model;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Example:
  wikigpt import gpt2/ --out models/gpt2";

/// Flags of `wikigpt import`.
#[derive(Args)]
pub struct Arguments {
    /// Folder with config.json and model.safetensors
    #[arg(value_name = "HF_DIR")]
    from: PathBuf,
    /// Model folder to write; must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Checks a Hugging Face folder and writes it as this program does: one file, full names, f32.
pub fn run(arguments: Arguments) -> Result<()> {
    model::convert(&arguments.from, None, &arguments.out)
}
