//! The names of tokenizers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The fewest tokens that `bpe:N` can have: one for each byte and `<|endoftext|>`.
pub const SMALLEST_BPE: usize = 257;
/// The most tokens that `bpe:N` can have.
pub const LARGEST_BPE: usize = 1 << 24;

/// Which tokenizer, written as on the command line: `bytes`, `gpt2`, `words`, `bpe:N` or `file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TokenizerSpec {
    /// Each byte is a token.
    Bytes,
    /// GPT-2's byte-level BPE of 50,257 tokens.
    Gpt2,
    /// The training text's words, for WikiText.
    Words,
    /// A byte-level BPE of so many tokens, trained on the training text.
    Bpe(usize),
    /// A `tokenizer.json` of Hugging Face's format.
    File(PathBuf),
}

impl FromStr for TokenizerSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || {
            Error::argument(format!(
                "unknown tokenizer `{text}`: expected bytes, gpt2, words, bpe:N or file:PATH"
            ))
        };
        match text {
            "bytes" => return Ok(TokenizerSpec::Bytes),
            "gpt2" => return Ok(TokenizerSpec::Gpt2),
            "words" => return Ok(TokenizerSpec::Words),
            _ => {}
        }
        match text.split_once(':') {
            Some(("file", "")) => Err(Error::argument("tokenizer `file:` names no file")),
            Some(("file", path)) => Ok(TokenizerSpec::File(path.into())),
            Some(("bpe", count)) => match count.parse() {
                Ok(count) if (SMALLEST_BPE..=LARGEST_BPE).contains(&count) => Ok(TokenizerSpec::Bpe(count)),
                _ => Err(Error::argument(format!(
                    "tokenizer `{text}`: the vocabulary of bpe:N is a number from {SMALLEST_BPE} (the bytes and \
                     <|endoftext|>) to {LARGEST_BPE}"
                ))),
            },
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for TokenizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenizerSpec::Bytes => f.write_str("bytes"),
            TokenizerSpec::Gpt2 => f.write_str("gpt2"),
            TokenizerSpec::Words => f.write_str("words"),
            TokenizerSpec::Bpe(count) => write!(f, "bpe:{count}"),
            TokenizerSpec::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl TryFrom<String> for TokenizerSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TokenizerSpec> for String {
    fn from(spec: TokenizerSpec) -> String {
        spec.to_string()
    }
}
