//! Datasets and tokenizers as the commands need them.

use std::path::Path;

use anyhow::{Context, Result};
use wikigpt_dataset::{Dataset, Split, Tokenizer, TokenizerSpec};
use wikigpt_gpt::Config;

use crate::fault::bad_input;
use crate::model::Model;
use crate::settings::Facts;

/// The dataset at `--data`, or the embedded corpus.
pub fn open(data: Option<&Path>) -> Result<Dataset> {
    let Some(path) = data else {
        return Dataset::embedded().context("cannot open the embedded corpus");
    };
    if path.is_file() {
        bad_input!("--data {}: a file, not the folder that `wikigpt prepare` writes", path.display());
    }
    if !path.is_dir() {
        bad_input!(
            "--data {}: there is no data folder of this name; `wikigpt prepare` makes one",
            path.display()
        );
    }
    Ok(Dataset::open(path)?)
}

/// What settings need to know of a dataset.
pub fn facts(dataset: &Dataset, embedded: bool) -> Result<Facts> {
    let tokens = |split| dataset.tokens(split).map_or(0, |tokens| tokens.len() as u64);
    // The training split must be there; validation may be missing.
    dataset.tokens(Split::Train)?;
    Ok(Facts {
        vocab_size: dataset.info().vocab_size,
        train_tokens: tokens(Split::Train),
        valid_tokens: tokens(Split::Valid),
        embedded,
    })
}

/// The tokenizer that lies in a model's folder, or the one that the size of its vocabulary stands for.
pub fn tokenizer_of(model: &Path, config: &Config) -> Result<Tokenizer> {
    if has_tokenizer(model) {
        let tokenizer = Tokenizer::open(model)?;
        if tokenizer.vocab_size() > config.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
            bad_input!(
                "{}: its tokenizer has {tokens} tokens, but the model's vocabulary {rows}",
                model.display()
            );
        }
        return Ok(tokenizer);
    }
    let spec = match config.vocab_size {
        256 => TokenizerSpec::Bytes,
        50257 => TokenizerSpec::Gpt2,
        size => {
            bad_input!("{}: no tokenizer for this model of {size} tokens (tokenizer.json)", model.display())
        }
    };
    eprintln!("no tokenizer in {}: taking `{spec}`, which has as many tokens as the model", model.display());
    Ok(Tokenizer::from_spec(&spec)?)
}

/// Whether tokenizer files lie in a folder.
pub fn has_tokenizer(folder: &Path) -> bool {
    folder.join("tokenizer.json").is_file()
}

/// Refuses data that is not in a model's tokens.
pub fn check_vocabulary(model: &Model, dataset: &Dataset) -> Result<()> {
    let (rows, tokens) = (model.config.vocab_size, dataset.info().vocab_size);
    if rows != tokens {
        bad_input!(
            "the model has a vocabulary of {rows} tokens, but the data one of {tokens}: prepare the data with the \
             model's tokenizer"
        );
    }
    Ok(())
}
