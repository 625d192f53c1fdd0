//! GPT-2's byte-level BPE with its published ranks, which `tiktoken-rs` carries.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use tiktoken_rs::{CoreBPE, r50k_base_singleton};

use super::{alphabet, pieces};

/// The token between documents.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";
/// Its id; all ids below it are ranks.
pub(super) const END_OF_TEXT_ID: u32 = 50_256;
/// Tokens in the vocabulary.
pub(super) const VOCABULARY: usize = 50_257;

fn bpe() -> &'static CoreBPE {
    r50k_base_singleton()
}

/// The ids of a text. `<|endoftext|>` in it is text like any other.
pub(super) fn encode(text: &str) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len() / 4 + 1);
    // The pattern's engine gives up on very long runs of white space, which `pieces` takes apart.
    for piece in pieces::split(text) {
        ids.extend(bpe().encode_ordinary(piece));
    }
    ids
}

/// The bytes of a token; `None` if there is no such token.
pub(super) fn token_bytes(id: u32) -> Option<Vec<u8>> {
    bpe().decode_bytes(&[id]).ok()
}

/// The tokenizer in Hugging Face's format.
pub(super) fn hf_json() -> Value {
    let (vocabulary, merges) = vocabulary_and_merges();
    let mut json = hf_json_frame();
    json["model"]["vocab"] = vocabulary.clone().into();
    json["model"]["merges"] = merges.clone().into();
    json
}

/// A `tokenizer.json` like GPT-2's without its vocabulary and merges.
pub(super) fn hf_json_frame() -> Value {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": END_OF_TEXT_ID,
            "content": END_OF_TEXT,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": {},
            "merges": [],
        },
    })
}

/// Whether a `tokenizer.json` is GPT-2's, in whichever of its spellings.
pub(super) fn is_gpt2(json: &Value) -> bool {
    let Some(vocabulary) = json.pointer("/model/vocab").and_then(Value::as_object) else { return false };
    let Some(merges) = json.pointer("/model/merges").and_then(Value::as_array) else { return false };
    let null_or_empty = |value: &Value| value.is_null() || value == "";
    let part = |name: &str| &json[name];
    if vocabulary.len() != VOCABULARY
        || !part("normalizer").is_null()
        || part("pre_tokenizer")["type"] != "ByteLevel"
        || part("pre_tokenizer")["add_prefix_space"] != false
        || part("pre_tokenizer")["use_regex"] == false
        || part("decoder")["type"] != "ByteLevel"
        || !part("model")["dropout"].is_null()
        || !null_or_empty(&part("model")["continuing_subword_prefix"])
        || !null_or_empty(&part("model")["end_of_word_suffix"])
        || part("added_tokens").as_array().is_none_or(|added| added.len() > 1)
    {
        return false;
    }
    let (ours, our_merges) = vocabulary_and_merges();
    let equal = |(theirs, ours): (&Value, &String)| match theirs {
        Value::String(theirs) => theirs == ours,
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(left), Value::String(right)] => ours.split_once(' ') == Some((left, right)),
            _ => false,
        },
        _ => false,
    };
    vocabulary == ours && merges.len() == our_merges.len() && merges.iter().zip(our_merges).all(equal)
}

/// Each token's id by its spelling, and the merges in order, as `vocab.json` and `merges.txt` have them. Found once: every
/// checkpoint carries them.
fn vocabulary_and_merges() -> &'static (Map<String, Value>, Vec<String>) {
    static FOUND: LazyLock<(Map<String, Value>, Vec<String>)> = LazyLock::new(find_vocabulary_and_merges);
    &FOUND
}

fn find_vocabulary_and_merges() -> (Map<String, Value>, Vec<String>) {
    let tokens: Vec<Vec<u8>> =
        (0..END_OF_TEXT_ID).map(|rank| token_bytes(rank).expect("every rank has a token")).collect();
    let ranks: HashMap<&[u8], u32> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    let merges = tokens.iter().filter(|token| token.len() > 1).map(|token| {
        let (left, right) = merged_from(token, &ranks);
        format!("{} {}", alphabet::spell(left), alphabet::spell(right))
    });
    let mut vocabulary: Map<String, Value> =
        tokens.iter().zip(0..).map(|(token, rank): (_, u32)| (alphabet::spell(token), rank.into())).collect();
    vocabulary.insert(END_OF_TEXT.to_owned(), END_OF_TEXT_ID.into());
    (vocabulary, merges.collect())
}

/// The two parts whose merge made a token: what the merges of lower rank leave of its bytes.
fn merged_from<'a>(token: &'a [u8], ranks: &HashMap<&[u8], u32>) -> (&'a [u8], &'a [u8]) {
    let mut ends: Vec<usize> = (0..=token.len()).collect();
    while ends.len() > 3 {
        let rank = |i: usize| ranks.get(&token[ends[i]..ends[i + 2]]).copied().unwrap_or(u32::MAX);
        let best = (0..ends.len() - 2).min_by_key(|i| rank(*i)).expect("three parts or more");
        ends.remove(best + 1);
    }
    token.split_at(ends[1])
}
