//! The crate as its users see it.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod completion;
mod order;
mod prepare;
mod texts;
mod token_files;
mod tokenizers;
mod wikitext2;
