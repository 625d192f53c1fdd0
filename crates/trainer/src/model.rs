//! MODEL on the command line, and what an evaluation or a sample needs of it.

use std::path::Path;

use anyhow::Result;
use wikigpt_gpt::files::{self, Extras, Model};

use crate::fault::bad_input;
use crate::{corpus, output};

/// Reads MODEL: a run folder (its newest good checkpoint), a checkpoint, a Hugging Face folder, or a safetensors file
/// with a config.json beside it.
pub fn open(path: &Path) -> Result<Model> {
    let model = files::load_model(path)?;
    model.warnings.iter().for_each(|warning| output::warn(warning));
    Ok(model)
}

/// The same of a language model: refuses a classifier.
pub fn open_language(path: &Path) -> Result<Model> {
    let model = open(path)?;
    if model.config.is_classifier() {
        bad_input!(
            "{}: a classifier, whose head tells labels apart and not tokens: a language model is asked for",
            path.display()
        );
    }
    Ok(model)
}

/// Reads MODEL and writes it as a Hugging Face folder, which is what a model folder is here.
pub fn convert(from: &Path, out: &Path) -> Result<()> {
    let model = open(from)?;
    let tokenizer = corpus::stored_tokenizer(&model.folder)?;
    let end_of_text = tokenizer.as_ref().and_then(|tokenizer| tokenizer.end_of_text());
    let fill = |folder: &Path| match &tokenizer {
        Some(tokenizer) => Ok(tokenizer.save(folder)?),
        None => Ok(()),
    };
    let extras = Extras {
        bos_token_id: end_of_text,
        eos_token_id: end_of_text,
        tokenizer_json: None,
        fill: Some(&fill),
    };
    files::save_model(out, &model.config, &model.params, &extras)?;
    let without = if tokenizer.is_some() { "" } else { " (it has no tokenizer)" };
    output::note(&format!("{} is now in {}{without}", model.folder.display(), out.display()));
    Ok(())
}
