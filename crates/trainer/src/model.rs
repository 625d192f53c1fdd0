//! MODEL on the command line, and what an evaluation or a sample needs of it.

use std::path::Path;

use anyhow::Result;
use wikigpt_gpt::files::{self, Extras, Model};

use crate::complete::Stored;
use crate::fault::bad_input;
use crate::{corpus, output};

/// Reads MODEL: a run folder (its best checkpoint, or its newest where none is better than others), a checkpoint, a Hugging Face folder, or a safetensors file
/// with a config.json beside it.
pub fn open(path: &Path) -> Result<Model> {
    opened(files::load_model(path)?)
}

fn opened(model: Model) -> Result<Model> {
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

/// Reads MODEL, of adapters with the model `base` if one is given, and writes it as a Hugging Face folder, which is what a model folder
/// is here.
pub fn convert(from: &Path, base: Option<&Path>, out: &Path) -> Result<()> {
    let model = match base {
        Some(base) => opened(files::load_adapted(from, base)?)?,
        None => open(from)?,
    };
    let Model { folder, config, params, .. } = &model;
    write_with_extras(from, folder, out, |extras| files::save_model(out, config, params, extras))
}

/// Writes the adapters of MODEL as a folder of their own, which says that their model is `base`, or where it is now.
pub fn export_adapters(from: &Path, base: Option<&Path>, out: &Path) -> Result<()> {
    let folder = files::model_path(from)?.folder;
    write_with_extras(from, &folder, out, |extras| files::export_adapters(from, base, out, extras))
}

/// Writes a folder that gets the tokenizer of `folder`, and what MODEL knows of completing prompts.
fn write_with_extras(
    from: &Path,
    folder: &Path,
    out: &Path,
    write: impl FnOnce(&Extras) -> wikigpt_gpt::Result,
) -> Result<()> {
    let tokenizer = corpus::stored_tokenizer(folder)?;
    let end_of_text = tokenizer.as_ref().and_then(|tokenizer| tokenizer.end_of_text());
    let stored = Stored::of(from, folder)?;
    let fill = |folder: &Path| {
        tokenizer.as_ref().map_or(Ok(()), |tokenizer| tokenizer.save(folder))?;
        Ok(stored.write(folder)?)
    };
    let extras = Extras {
        bos_token_id: end_of_text,
        eos_token_id: end_of_text,
        tokenizer_json: None,
        fill: Some(&fill),
        best: None,
    };
    write(&extras)?;
    let without = if tokenizer.is_some() { "" } else { " (it has no tokenizer)" };
    output::note(&format!("{} is now in {}{without}", folder.display(), out.display()));
    Ok(())
}
