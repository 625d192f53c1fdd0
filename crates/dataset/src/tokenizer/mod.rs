//! Text into tokens and back.

mod alphabet;
mod bytes;
mod gpt2;
mod hf;
mod pieces;
mod spec;
mod stream;
mod words;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use hf::HfTokenizer;
use words::Words;

pub use spec::{LARGEST_BPE, SMALLEST_BPE, TokenizerSpec};
pub use stream::{StreamDecoder, Utf8Stream};

use crate::atomic::AtomicFile;
use crate::error::{Error, Result};
use crate::text_file;

/// The file that holds a tokenizer, in Hugging Face's format.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// What Hugging Face's loaders want to know besides.
const CONFIG_FILE: &str = "tokenizer_config.json";

/// A tokenizer. Clones share its tables.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    spec: TokenizerSpec,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Bytes,
    Gpt2,
    Words(Arc<Words>),
    Hf(Arc<HfTokenizer>),
}

impl Tokenizer {
    /// Makes a tokenizer; `words` and `bpe:N` learn from the training text, the others do not look at it.
    ///
    /// # Errors
    /// A `file:` that is not there or is none; a `bpe:N` that the text is too short for.
    pub fn build(spec: &TokenizerSpec, train_text: &str) -> Result<Self> {
        let kind = match spec {
            TokenizerSpec::Bytes => Kind::Bytes,
            TokenizerSpec::Gpt2 => Kind::Gpt2,
            TokenizerSpec::Words => Kind::Words(Arc::new(Words::learn(train_text))),
            TokenizerSpec::Bpe(vocab_size) => {
                Kind::Hf(Arc::new(HfTokenizer::train(train_text, *vocab_size)?))
            }
            TokenizerSpec::File(path) => kind_of_file(path)?,
        };
        Ok(Tokenizer { spec: spec.clone(), kind })
    }

    /// What it was made from. A tokenizer read from a folder is `file:` of that folder's file if it is none of ours.
    pub fn spec(&self) -> &TokenizerSpec {
        &self.spec
    }

    /// The same tokenizer under the name that a dataset's manifest gives it.
    pub(crate) fn with_spec(self, spec: TokenizerSpec) -> Self {
        Tokenizer { spec, ..self }
    }

    /// Number of tokens (V): every id is below it.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Bytes => bytes::VOCABULARY,
            Kind::Gpt2 => gpt2::VOCABULARY,
            Kind::Words(words) => words.vocab_size(),
            Kind::Hf(hf) => hf.vocab_size(),
        }
    }

    /// The ids of a text. A special token's name inside it is text like any other; with `words`, what is not in the
    /// vocabulary is `<unk>`.
    ///
    /// # Errors
    /// Only from a `file:` tokenizer, if it has no token for something.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(match &self.kind {
            Kind::Bytes => text.bytes().map(u32::from).collect(),
            Kind::Gpt2 => gpt2::encode(text),
            Kind::Words(words) => words.encode(text),
            Kind::Hf(hf) => hf.encode(text)?,
        })
    }

    /// The bytes that tokens stand for; a token may begin or end inside a character. An id without a token is U+FFFD.
    ///
    /// `words` are written in WikiText's layout: a space before each, and a space and a line end for `<eos>`.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        if let Kind::Hf(hf) = &self.kind
            && !hf.is_byte_level()
        {
            return hf.decode(ids).into_bytes();
        }
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for id in ids {
            bytes.extend_from_slice(&self.token_bytes(*id).unwrap_or("\u{fffd}".as_bytes().into()));
        }
        bytes
    }

    /// The bytes of one token, where they do not depend on what stands around it.
    fn token_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        match &self.kind {
            Kind::Bytes => Some(vec![u8::try_from(id).ok()?].into()),
            Kind::Gpt2 => gpt2::token_bytes(id).map(Cow::from),
            Kind::Words(words) => words.token_text(id).map(|text| text.into_bytes().into()),
            Kind::Hf(hf) => hf.token_bytes(id).map(Cow::from),
        }
    }

    /// Whether [`Tokenizer::decode`] of two sequences one after the other is that of both together.
    fn decodes_token_by_token(&self) -> bool {
        !matches!(&self.kind, Kind::Hf(hf) if !hf.is_byte_level())
    }

    /// The token between documents (`<|endoftext|>`), where there is one.
    pub fn end_of_text(&self) -> Option<u32> {
        match &self.kind {
            Kind::Bytes | Kind::Words(_) => None,
            Kind::Gpt2 => Some(gpt2::END_OF_TEXT_ID),
            Kind::Hf(hf) => hf.end_of_text(),
        }
    }

    /// Parts of a text whose tokens, one after the other, are the tokens of the whole: work for several threads.
    pub(crate) fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        match &self.kind {
            Kind::Bytes | Kind::Gpt2 => pieces::split(text).collect(),
            Kind::Words(_) => pieces::lines(text).collect(),
            Kind::Hf(hf) if hf.can_be_cut() => pieces::split(text).collect(),
            Kind::Hf(_) => vec![text],
        }
    }

    /// The tokenizer as a `tokenizer.json` in Hugging Face's format, with the same ids.
    pub fn to_hf_json(&self) -> String {
        match &self.kind {
            Kind::Bytes => bytes::hf_json().to_string(),
            Kind::Gpt2 => gpt2::hf_json().to_string(),
            Kind::Words(words) => words.hf_json().to_string(),
            Kind::Hf(hf) => hf.json().to_owned(),
        }
    }

    /// What `tokenizer_config.json` says for Hugging Face's loaders.
    fn hf_config_json(&self) -> String {
        let name = |id: u32| String::from_utf8_lossy(&self.decode(&[id])).into_owned();
        let end = self.end_of_text().map(name);
        let unknown = matches!(self.kind, Kind::Words(_)).then_some(words::UNKNOWN);
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "bos_token": end,
            "eos_token": end,
            "unk_token": unknown,
        });
        config.to_string()
    }

    /// Writes `tokenizer.json` (and `tokenizer_config.json` for Hugging Face's loaders) to a folder.
    pub fn save(&self, folder: &Path) -> Result {
        for (path, file) in self.files(folder)? {
            file.rename_to(&path)?;
        }
        Ok(())
    }

    /// The files of [`Tokenizer::save`], on the disk but not yet under their names.
    pub(crate) fn files(&self, folder: &Path) -> Result<Vec<(std::path::PathBuf, AtomicFile)>> {
        let contents = [(TOKENIZER_FILE, self.to_hf_json()), (CONFIG_FILE, self.hf_config_json())];
        let files = contents.into_iter().map(|(name, contents)| {
            let path = folder.join(name);
            let file = AtomicFile::with_contents(&path, contents.as_bytes())?;
            Ok((path, file))
        });
        files.collect()
    }

    /// Reads the tokenizer of a folder: `tokenizer.json`, or the older `vocab.json` with `merges.txt`.
    ///
    /// # Errors
    /// A folder without either, or with files that hold something else.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(TOKENIZER_FILE);
        let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let kind = if path.exists() {
            kind_of_file(&path)?
        } else if vocabulary.exists() && merges.exists() {
            let Value::Object(map) = read_json(&vocabulary)? else {
                return Err(Error::file(
                    vocabulary,
                    "not a vocabulary: expected an object of tokens and ids",
                ));
            };
            kind_of_json(&vocabulary, &HfTokenizer::json_of_vocabulary(&map, &text_file::read(&merges)?))?
        } else {
            return Err(Error::file(
                folder,
                "no tokenizer in it: neither tokenizer.json nor vocab.json and merges.txt",
            ));
        };
        let spec = match &kind {
            Kind::Bytes => TokenizerSpec::Bytes,
            Kind::Gpt2 => TokenizerSpec::Gpt2,
            Kind::Words(_) => TokenizerSpec::Words,
            Kind::Hf(_) => TokenizerSpec::File(path),
        };
        Ok(Tokenizer { spec, kind })
    }
}

fn kind_of_file(path: &Path) -> Result<Kind> {
    kind_of_json(path, &read_json(path)?)
}

/// Recognises our own tokenizers, which have faster or exact code of their own.
fn kind_of_json(path: &Path, json: &Value) -> Result<Kind> {
    if *json == bytes::hf_json() {
        return Ok(Kind::Bytes);
    }
    if gpt2::is_gpt2(json) {
        return Ok(Kind::Gpt2);
    }
    if let Some(words) = Words::from_hf_json(json) {
        return Ok(Kind::Words(Arc::new(words)));
    }
    match HfTokenizer::from_json(json) {
        Ok(tokenizer) => Ok(Kind::Hf(Arc::new(tokenizer))),
        Err(error) => Err(Error::file(path, format!("not a tokenizer of Hugging Face's format: {error}"))),
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = text_file::read(path)?;
    serde_json::from_str(&text).map_err(|error| Error::file(path, format!("not JSON: {error}")))
}
