//! Tokenizers of Hugging Face's `tokenizers`: those read from a file, and the byte-level BPE trained here.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessorWrapper, TokenizerBuilder};

use super::gpt2::END_OF_TEXT;
use super::{alphabet, pieces};
use crate::error::{Error, Result};

/// Names that models give the token between documents, most usual first.
const ENDS_OF_TEXT: [&str; 4] = [END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>"];

/// A tokenizer in Hugging Face's format.
#[derive(Debug)]
pub(super) struct HfTokenizer {
    inner: tokenizers::Tokenizer,
    json: String,
    vocab_size: usize,
    end_of_text: Option<u32>,
    /// The bytes of each token, where tokens stand for bytes; other tokenizers decode whole sequences only.
    bytes: Option<Vec<Option<Vec<u8>>>>,
    /// Whether GPT-2's pattern decides where tokens can meet, so that long texts may be cut.
    gpt2_pattern: bool,
}

impl HfTokenizer {
    /// Takes a `tokenizer.json`, parsed.
    ///
    /// # Errors
    /// What the library, or a look at the merges before it, does not accept.
    pub fn from_json(value: &Value) -> std::result::Result<Self, String> {
        check_model(value)?;
        let json = value.to_string();
        let mut inner: tokenizers::Tokenizer = json.parse().map_err(|error| format!("{error}"))?;
        // Texts are encoded whole, and a special token's name in a text is text.
        inner.with_truncation(None).map_err(|error| format!("{error}"))?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);

        let vocabulary = inner.get_vocab(true);
        let vocab_size = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
        if vocab_size == 0 {
            return Err("its vocabulary is empty".to_owned());
        }
        if vocab_size > vocabulary.len().saturating_mul(4).max(1 << 16) {
            return Err(format!("{} tokens have ids up to {}", vocabulary.len(), vocab_size - 1));
        }
        let special = value.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let special: HashSet<&str> = special.filter_map(|token| token.get("content")?.as_str()).collect();
        let end_of_text = ENDS_OF_TEXT
            .iter()
            .find(|name| special.contains(**name))
            .and_then(|name| vocabulary.get(*name).copied());
        let bytes = is_byte_level(value.get("decoder")).then(|| {
            let mut bytes = vec![None; vocab_size];
            for (token, id) in &vocabulary {
                let written = if special.contains(token.as_str()) { None } else { alphabet::to_bytes(token) };
                bytes[*id as usize] = Some(written.unwrap_or_else(|| token.clone().into_bytes()));
            }
            bytes
        });
        let pre_tokenizer = value.get("pre_tokenizer");
        let gpt2_pattern = is_byte_level(pre_tokenizer)
            && pre_tokenizer.is_some_and(|p| p["add_prefix_space"] == false && p["use_regex"] != false)
            && value.get("normalizer").is_none_or(Value::is_null)
            && special.len() <= usize::from(end_of_text.is_some());
        Ok(HfTokenizer { inner, json, vocab_size, end_of_text, bytes, gpt2_pattern })
    }

    /// Takes GPT-2's older pair of files: `vocab.json` and `merges.txt`.
    pub fn json_of_vocabulary(vocabulary: &Map<String, Value>, merges: &str) -> Value {
        let mut json = super::gpt2::hf_json_frame();
        let merges = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
        json["model"]["merges"] = merges.collect();
        json["model"]["vocab"] = vocabulary.clone().into();
        match vocabulary.get(END_OF_TEXT) {
            Some(id) => json["added_tokens"][0]["id"] = id.clone(),
            None => json["added_tokens"] = json!([]),
        }
        json
    }

    /// Trains a byte-level BPE of `vocab_size` tokens, `<|endoftext|>` the last of them, on a text.
    ///
    /// The same text gives the same tokenizer, whatever the number of threads: pairs are merged by frequency, equal ones
    /// by their ids.
    pub fn train(text: &str, vocab_size: usize) -> Result<Self> {
        let byte_level = ByteLevel::new(false, true, true);
        let mut tokenizer =
            TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, PostProcessorWrapper, ByteLevel>::new()
                .with_model(BPE::default())
                .with_pre_tokenizer(Some(byte_level))
                .with_decoder(Some(byte_level))
                .build()
                .map_err(|error| Error::argument(format!("cannot set up the BPE trainer: {error}")))?;
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(vocab_size - 1)
            .min_frequency(0)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        tokenizer.train(&mut trainer, pieces::split(text)).map_err(|error| {
            Error::argument(format!("cannot train a BPE of {vocab_size} tokens: {error}"))
        })?;
        let trained = tokenizer.get_vocab_size(false) + 1;
        if trained < vocab_size {
            return Err(Error::argument(format!(
                "the training text yields {trained} tokens at most, fewer than bpe:{vocab_size} asks for: use \
                 bpe:{trained} or less, or more text"
            )));
        }
        let added = tokenizer.add_special_tokens([AddedToken::from(END_OF_TEXT, true)]);
        added.map_err(|error| Error::argument(format!("cannot add {END_OF_TEXT}: {error}")))?;
        let json = tokenizer.to_string(false).ok().and_then(|json| serde_json::from_str(&json).ok());
        json.ok_or("it is not JSON".to_owned())
            .and_then(|json: Value| HfTokenizer::from_json(&json))
            .map_err(|error| Error::argument(format!("the trained BPE cannot be used: {error}")))
    }

    /// Tokens in the vocabulary: one more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token between documents, if there is one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The file.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Whether tokens of the parts of a text, as `pieces` makes them, are the tokens of the whole.
    pub fn can_be_cut(&self) -> bool {
        self.gpt2_pattern
    }

    /// The ids of a text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encode = |part: &str| {
            let encoding = self.inner.encode_fast(part, false);
            encoding.map_err(|error| Error::argument(format!("the tokenizer cannot encode a text: {error}")))
        };
        if !self.gpt2_pattern {
            return Ok(encode(text)?.get_ids().to_vec());
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        for piece in pieces::split(text) {
            ids.extend_from_slice(encode(piece)?.get_ids());
        }
        Ok(ids)
    }

    /// The bytes of a token by itself, where that is possible.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.as_ref()?.get(id as usize)?.as_deref()
    }

    /// Whether every token has bytes of its own, whatever stands around it.
    pub fn is_byte_level(&self) -> bool {
        self.bytes.is_some()
    }

    /// The text of a sequence.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }
}

/// Whether a decoder or pre-tokenizer is the byte-level one.
fn is_byte_level(part: Option<&Value>) -> bool {
    part.is_some_and(|part| part["type"] == "ByteLevel")
}

/// Looks for what the library takes for granted of a BPE.
fn check_model(value: &Value) -> std::result::Result<(), String> {
    let model = value.get("model").and_then(Value::as_object).ok_or("it has no model")?;
    let Some(merges) = model.get("merges").and_then(Value::as_array) else { return Ok(()) };
    let vocabulary =
        model.get("vocab").and_then(Value::as_object).ok_or("its model has merges, but no vocab")?;
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    for merge in merges {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let (left, right) = pair.ok_or_else(|| format!("the merge {merge} is no pair of tokens"))?;
        let merged = format!("{left}{}", right.strip_prefix(prefix).unwrap_or(right));
        if let Some(missing) =
            [left, right, &merged].into_iter().find(|token| !vocabulary.contains_key(*token))
        {
            return Err(format!(
                "the merge {merge} needs the token `{missing}`, which is not in the vocabulary"
            ));
        }
    }
    Ok(())
}
