//! `wikigpt export`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use wikigpt_gpt::hf;

use crate::model::Model;
use crate::{corpus, folder};

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

/// Writes config.json, generation_config.json, model.safetensors and, where the model has one, tokenizer.json.
pub fn run(arguments: Arguments) -> Result<()> {
    convert(&arguments.model, &arguments.out)
}

/// Reads a model of any kind and writes it as a Hugging Face folder, which is what a model folder is here.
pub fn convert(from: &Path, out: &Path) -> Result<()> {
    folder::check_new(out, "--out")?;
    let model = Model::open(from)?;
    let has_tokenizer = corpus::has_tokenizer(&model.folder);
    folder::write_whole(out, |folder| {
        hf::write_folder(folder, &model.config, &model.weights)?;
        if has_tokenizer {
            corpus::tokenizer_of(&model.folder, &model.config)?.save(folder)?;
        }
        Ok(())
    })?;
    let tokenizer = if has_tokenizer { "" } else { " (it has no tokenizer)" };
    eprintln!("{} is now in {}{tokenizer}", model.folder.display(), out.display());
    Ok(())
}
