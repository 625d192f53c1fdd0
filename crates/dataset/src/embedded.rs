//! The corpus that is part of the program.

use crate::corpus::Text;
use crate::digest;
use crate::manifest::{Manifest, Split, SplitInfo};
use crate::shard::Format;
use crate::tokenizer::TokenizerSpec;
use crate::tokens::Tokens;

/// Articles in WikiText's layout, written for this project; see `corpus/README.md`.
const ARTICLES: &str = include_str!("../corpus/articles.txt");
/// Share of the text that is held back for validation, in whole articles from the end.
const VALID_FRACTION: f64 = 0.1;

/// The manifest and the tokens, which are the bytes.
pub(crate) fn open() -> (Manifest, Vec<(Split, Tokens)>) {
    let mut whole = Text::default();
    whole.push_file(ARTICLES.to_owned());
    let (train, valid) = whole.split(VALID_FRACTION);
    let info = |text: &Text, name: &str| SplitInfo {
        file: name.to_owned(),
        tokens: text.as_str().len() as u64,
        words: text.words(),
        bytes: text.as_str().len() as u64,
        sha256: digest::sha256(text.as_str().as_bytes()),
    };
    let tokens = |text: &Text, name: &str| {
        let bytes: Vec<u32> = text.as_str().bytes().map(u32::from).collect();
        Tokens::in_memory(name, &bytes)
    };
    let names = ["the embedded corpus (train)", "the embedded corpus (valid)"];
    let manifest = Manifest {
        tokenizer: TokenizerSpec::Bytes,
        vocab_size: 256,
        format: Format::LlmC,
        document_tokens: false,
        source: "the embedded corpus".to_owned(),
        archive_sha256: None,
        train: info(&train, names[0]),
        valid: Some(info(&valid, names[1])),
        test: None,
    };
    (manifest, vec![(Split::Train, tokens(&train, names[0])), (Split::Valid, tokens(&valid, names[1]))])
}
