//! Corpora in, tokens out.
//!
//! [`prepare()`] turns a corpus (WikiText, which it downloads, or any text) into a folder: token files, the tokenizer and a
//! [`Manifest`]. [`Dataset`] opens such a folder, [`Tokens`] are a split's tokens where they lie on the disk, and
//! [`Batches`] deals them out in order. [`Tokenizer`] turns text into tokens and back.
//!
//! [`completion`] reads prompts with their answers, and lays several of them in one row.
//!
//! Every file is checked when it is opened, so that a damaged one is an error before training and not a wrong number in it.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod archive;
mod atomic;
pub mod completion;
mod corpus;
mod dataset;
mod digest;
mod download;
mod embedded;
mod error;
pub mod labelled;
mod manifest;
mod order;
mod prepare;
mod progress;
mod shard;
mod text_file;
mod tokenizer;
mod tokens;
mod wikitext;

pub use dataset::Dataset;
pub use digest::sha256_of_files;
pub use download::cache_folder;
pub use error::{Error, Result};
pub use manifest::{MANIFEST_FILE, Manifest, Split, SplitInfo};
pub use order::{Batches, Order, Position};
pub use prepare::{Prepare, Source, prepare};
pub use progress::{Bar, Progress, Silent};
pub use shard::{Format, MAX_SHARD_TOKENS, TokenSlice, Width};
pub use text_file::{open as open_text, read as read_text};
pub use tokenizer::{
    LARGEST_BPE, SMALLEST_BPE, StreamDecoder, TOKENIZER_FILE, Tokenizer, TokenizerSpec, Utf8Stream,
};
pub use tokens::Tokens;
