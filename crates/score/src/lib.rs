//! How good texts are beside references that people wrote, with the same numbers as the programs the field quotes.
//!
//! - [`Bleu`]: corpus BLEU as sacreBLEU computes it by default (tokenizer 13a, case kept, smoothing `exp`).
//! - [`rouge_l`]: ROUGE-L as the Python package `rouge_score` computes it by default (lower case, no stemming).
//! - [`squad`]: exact match and F1 as SQuAD's official script (that of version 2.0) counts them.
//!
//! `tests/vectors.json` holds what those programs say of sentences that were written to trip them;
//! `tools/checks/score_vectors.py` makes that file.

mod bleu;
mod rouge;
pub mod squad;
mod text;
mod tokenizer_13a;

pub use bleu::{Bleu, BleuScore};
pub use rouge::{RougeL, rouge_l};
pub use tokenizer_13a::tokenize_13a;
