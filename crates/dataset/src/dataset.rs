//! A dataset, opened: its manifest, its tokenizer and the tokens of its splits.

use std::path::Path;

use crate::embedded;
use crate::error::{Error, Result};
use crate::manifest::{MANIFEST_FILE, Manifest, Split, SplitInfo};
use crate::tokenizer::{TOKENIZER_FILE, Tokenizer, TokenizerSpec};
use crate::tokens::Tokens;

/// A dataset whose files have been checked.
#[derive(Clone, Debug)]
pub struct Dataset {
    manifest: Manifest,
    tokenizer: Tokenizer,
    /// Tokens of each split there is.
    splits: Vec<(Split, Tokens)>,
}

impl Dataset {
    /// Opens a folder that [`prepare`](crate::prepare()) wrote, or one with a `dataset.json` written by hand round existing
    /// token files. Every token is looked at: afterwards all are known to be below the vocabulary's size.
    ///
    /// # Errors
    /// A folder without `dataset.json`, or files that are not what it says.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let manifest = Manifest::read(folder)?;
        let tokenizer = tokenizer(folder, &manifest)?;
        if tokenizer.vocab_size() != manifest.vocab_size {
            return Err(Error::file(
                folder.join(MANIFEST_FILE),
                format!(
                    "a vocabulary of {} tokens, but the tokenizer beside it has {}",
                    manifest.vocab_size,
                    tokenizer.vocab_size()
                ),
            ));
        }
        let mut splits = Vec::new();
        for split in Split::ALL {
            if let Some(info) = manifest.split(split) {
                splits.push((split, open_split(folder, &manifest, info)?));
            }
        }
        Ok(Dataset { manifest, tokenizer, splits })
    }

    /// The corpus that is part of the program: articles in WikiText's layout, as bytes.
    pub fn embedded() -> Self {
        let (manifest, splits) = embedded::open();
        let tokenizer = Tokenizer::build(&manifest.tokenizer, "").expect("bytes need nothing");
        Dataset { manifest, tokenizer, splits }
    }

    /// What `dataset.json` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The tokenizer that the tokens are of.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens of a split (shared, not copied).
    ///
    /// # Errors
    /// A split that this dataset does not have.
    pub fn tokens(&self, split: Split) -> Result<Tokens> {
        let found = self.splits.iter().find(|(name, _)| *name == split);
        found.map(|(_, tokens)| tokens.clone()).ok_or_else(|| {
            Error::argument(format!("this data has no {split} split: it was prepared without one"))
        })
    }
}

/// The tokenizer beside the manifest, or, if there is none, one that needs nothing but its name.
fn tokenizer(folder: &Path, manifest: &Manifest) -> Result<Tokenizer> {
    let spec = &manifest.tokenizer;
    if matches!(spec, TokenizerSpec::Bytes | TokenizerSpec::Gpt2) && !folder.join(TOKENIZER_FILE).exists() {
        return Tokenizer::build(spec, "");
    }
    Ok(Tokenizer::load(folder)?.with_spec(spec.clone()))
}

/// Opens a split's files and checks them against the manifest and the vocabulary.
fn open_split(folder: &Path, manifest: &Manifest, info: &SplitInfo) -> Result<Tokens> {
    let path = folder.join(&info.file);
    let tokens = Tokens::open(&path, manifest.format)?;
    if info.tokens != 0 && info.tokens != tokens.len() {
        return Err(Error::file(
            path,
            format!(
                "{} tokens, but {MANIFEST_FILE} counts {}: they do not belong together",
                tokens.len(),
                info.tokens
            ),
        ));
    }
    tokens.check(manifest.vocab_size)?;
    Ok(tokens)
}
