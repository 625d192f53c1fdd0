//! `wikigpt export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::model;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Example:
  wikigpt export runs/001 --out exported/    # transformers: AutoModelForCausalLM.from_pretrained(\"exported/\")";

/// Flags of `wikigpt export`.
#[derive(Args)]
pub struct Arguments {
    /// A run folder, a checkpoint or a model folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Hugging Face folder to write; must not exist yet, or be empty
    #[arg(long, value_name = "HF_DIR")]
    out: PathBuf,
}

/// Writes config.json, generation_config.json, model.safetensors and, where the model has one, its tokenizer.
pub fn run(arguments: Arguments) -> Result<()> {
    model::convert(&arguments.model, &arguments.out)
}
