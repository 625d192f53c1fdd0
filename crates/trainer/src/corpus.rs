//! Datasets and tokenizers as the commands need them.

use std::path::Path;

use anyhow::Result;
use wikigpt_dataset::{Dataset, Manifest, Split, TOKENIZER_FILE, Tokenizer, TokenizerSpec};
use wikigpt_gpt::Config;

use crate::config::Digests;
use crate::fault::bad_input;
use crate::output;
use crate::settings::Facts;

/// The dataset at `--data`, or the embedded corpus.
pub fn open(data: Option<&Path>) -> Result<Dataset> {
    let Some(path) = data else { return Ok(Dataset::embedded()) };
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
    // The training split must be there; others may be missing.
    let train_tokens = dataset.tokens(Split::Train)?.len();
    let valid_tokens = dataset.tokens(Split::Valid).map_or(0, |tokens| tokens.len());
    Ok(Facts { vocab_size: dataset.manifest().vocab_size, train_tokens, valid_tokens, embedded })
}

/// What a run's data is recognised by: the digests that its manifest has.
pub fn digests(manifest: &Manifest) -> Digests {
    let digest = |split: Split| {
        let digest = &manifest.split(split)?.sha256;
        (!digest.is_empty()).then(|| (split.to_string(), digest.clone()))
    };
    Split::ALL.into_iter().filter_map(digest).collect()
}

/// The tokenizer in a model's folder, if there is one.
pub fn stored_tokenizer(folder: &Path) -> Result<Option<Tokenizer>> {
    let present = [TOKENIZER_FILE, "vocab.json"].iter().any(|name| folder.join(name).is_file());
    Ok(if present { Some(Tokenizer::load(folder)?) } else { None })
}

/// The tokenizer in a model's folder, or the one that the size of its vocabulary stands for.
pub fn tokenizer_of(folder: &Path, config: &Config) -> Result<Tokenizer> {
    if let Some(tokenizer) = stored_tokenizer(folder)? {
        if tokenizer.vocab_size() > config.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
            bad_input!(
                "{}: its tokenizer has {tokens} tokens, but the model's vocabulary {rows}",
                folder.display()
            );
        }
        return Ok(tokenizer);
    }
    let spec = match config.vocab_size {
        256 => TokenizerSpec::Bytes,
        50257 => TokenizerSpec::Gpt2,
        size => {
            bad_input!("{}: no tokenizer for this model of {size} tokens (tokenizer.json)", folder.display())
        }
    };
    output::note(&format!(
        "no tokenizer in {}: taking `{spec}`, which has as many tokens as the model",
        folder.display()
    ));
    Ok(Tokenizer::build(&spec, "")?)
}

/// Refuses data that is not in a model's tokens.
pub fn check_vocabulary(config: &Config, manifest: &Manifest) -> Result<()> {
    let (rows, tokens) = (config.vocab_size, manifest.vocab_size);
    if rows != tokens {
        bad_input!(
            "the model has a vocabulary of {rows} tokens, but the data one of {tokens}: prepare the data with the \
             model's tokenizer"
        );
    }
    Ok(())
}
