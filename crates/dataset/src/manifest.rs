//! `dataset.json`: what a dataset folder holds.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::shard::Format;
use crate::tokenizer::TokenizerSpec;

/// The manifest's file.
pub const MANIFEST_FILE: &str = "dataset.json";

/// A part of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What a model is trained on.
    Train,
    /// What is held back to watch training by.
    Valid,
    /// What is held back for the final figure.
    Test,
}

impl Split {
    /// All splits, training first.
    pub const ALL: [Split; 3] = [Split::Train, Split::Valid, Split::Test];

    /// `train`, `valid` or `test`: the stem of its files.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Split::ALL.into_iter().find(|split| split.name() == text);
        found.ok_or_else(|| Error::argument(format!("unknown split `{text}`: expected train, valid or test")))
    }
}

/// One split's files and figures. Only `file` is needed: a figure that is left out (or 0) is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitInfo {
    /// Token file in the folder, or a pattern (`train_*.bin`) for several.
    pub file: String,
    /// Number of tokens.
    #[serde(default)]
    pub tokens: u64,
    /// Words of the text as the literature on WikiText counts them: what white space separates, and one `<eos>` for each
    /// line. The denominator of word perplexity.
    #[serde(default)]
    pub words: u64,
    /// UTF-8 bytes of the text. The denominator of bits per byte.
    #[serde(default)]
    pub bytes: u64,
    /// SHA-256 of the token file (of several, one after the other), in hexadecimal digits.
    #[serde(default)]
    pub sha256: String,
}

/// What a dataset folder holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The tokenizer, as `--tokenizer` has it; the folder's `tokenizer.json` is the one to use.
    pub tokenizer: TokenizerSpec,
    /// Tokens in the vocabulary (V).
    pub vocab_size: usize,
    /// Layout of the token files.
    #[serde(default)]
    pub format: Format,
    /// Whether `<|endoftext|>` stands before each document.
    #[serde(default)]
    pub document_tokens: bool,
    /// Where the text comes from, for people.
    #[serde(default)]
    pub source: String,
    /// SHA-256 of the archive that the text was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_sha256: Option<String>,
    /// The training split.
    pub train: SplitInfo,
    /// The validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<SplitInfo>,
    /// The test split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<SplitInfo>,
}

impl Manifest {
    /// What it says about a split, if the dataset has it.
    pub fn split(&self, split: Split) -> Option<&SplitInfo> {
        match split {
            Split::Train => Some(&self.train),
            Split::Valid => self.valid.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }

    /// Reads a folder's `dataset.json`.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder.is_dir() => {
                let message = "no dataset.json in it: not a dataset, or one that was never finished; `wikigpt prepare` \
                               makes one";
                return Err(Error::file(folder, message));
            }
            read => read.while_trying("read", &path)?,
        };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| Error::file(&path, format!("not a dataset's: {error}")))?;
        if manifest.vocab_size == 0 {
            return Err(Error::file(&path, "a vocabulary of 0 tokens"));
        }
        Ok(manifest)
    }
}
