//! WikiText's own tokens: words, as white space separates them, and `<eos>` for the end of a line.
//!
//! The vocabulary is that of the training text, in the order of first occurrence, as the usual word-level programs number
//! it; `<unk>` and `<eos>` are added if they do not occur. WikiText-2 has 33,278 tokens.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// The word for all words that are not in the vocabulary.
pub(super) const UNKNOWN: &str = "<unk>";
/// The end of a line.
pub(super) const END_OF_LINE: &str = "<eos>";

/// A vocabulary of words.
#[derive(Debug)]
pub(super) struct Words {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    unknown: u32,
    end_of_line: u32,
}

impl Words {
    /// The vocabulary of a training text.
    pub fn learn(text: &str) -> Self {
        let mut seen = HashMap::new();
        let mut words = Vec::new();
        for word in tokens_of(text).chain([UNKNOWN, END_OF_LINE]) {
            seen.entry(word).or_insert_with(|| words.push(word.to_owned()));
        }
        Words::new(words).expect("each word once, both marks among them")
    }

    /// A vocabulary in the order of its ids; `None` if a word occurs twice or a mark is missing.
    fn new(words: Vec<String>) -> Option<Self> {
        let ids: HashMap<String, u32> = words.iter().cloned().zip(0..).collect();
        let (unknown, end_of_line) = (*ids.get(UNKNOWN)?, *ids.get(END_OF_LINE)?);
        (ids.len() == words.len()).then_some(Words { words, ids, unknown, end_of_line })
    }

    /// Number of words, both marks included.
    pub fn vocab_size(&self) -> usize {
        self.words.len()
    }

    /// The ids of a text; what is not in the vocabulary is `<unk>`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        tokens_of(text).map(|word| self.ids.get(word).copied().unwrap_or(self.unknown)).collect()
    }

    /// A token's text in WikiText's layout: a space and the word, so lines begin and, with `<eos>`, end with a space.
    pub fn token_text(&self, id: u32) -> Option<String> {
        let word = self.words.get(id as usize)?;
        Some(if id == self.end_of_line { " \n".to_owned() } else { format!(" {word}") })
    }

    /// The same tokenizer in Hugging Face's format.
    pub fn hf_json(&self) -> Value {
        let vocabulary: Map<String, Value> =
            self.words.iter().zip(0..).map(|(word, id): (_, u32)| (word.clone(), id.into())).collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": { "type": "Replace", "pattern": { "String": "\n" }, "content": format!(" {END_OF_LINE} ") },
            "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": null,
            "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN },
        })
    }

    /// The vocabulary of what [`Words::hf_json`] wrote; `None` if it is something else.
    pub fn from_hf_json(json: &Value) -> Option<Self> {
        let vocabulary = json.pointer("/model/vocab")?.as_object()?;
        let mut words = vec![String::new(); vocabulary.len()];
        for (word, id) in vocabulary {
            *words.get_mut(usize::try_from(id.as_u64()?).ok()?)? = word.clone();
        }
        Words::new(words).filter(|words| words.hf_json() == *json)
    }
}

/// Words and ends of lines.
fn tokens_of(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| {
        let end = line.ends_with('\n').then_some(END_OF_LINE);
        line.split_whitespace().chain(end)
    })
}
