//! Every byte is a token, its own value.

use serde_json::{Map, Value, json};

use super::alphabet;

/// Tokens in the vocabulary.
pub(super) const VOCABULARY: usize = 256;

/// The same tokenizer in Hugging Face's format: byte-level BPE without merges, each byte's token being its value.
pub(super) fn hf_json() -> Value {
    let vocabulary: Map<String, Value> =
        (0..=u8::MAX).map(|byte| (alphabet::to_char(byte).to_string(), byte.into())).collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": [],
        },
    })
}
