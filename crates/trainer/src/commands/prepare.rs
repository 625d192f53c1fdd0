//! `wikigpt prepare`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgGroup, Args, ValueEnum};
use wikigpt_dataset::{Bar, MANIFEST_FILE, Prepare, Source, TokenizerSpec, prepare};

use crate::fault::{BadInput, bad_input};
use crate::{folder, output};

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  wikigpt prepare wikitext-2 --tokenizer words --out data/wikitext-2-words
  wikigpt prepare wikitext-2 --archive wikitext-2-v1.zip --tokenizer gpt2 --out data/wikitext-2
  wikigpt prepare --text book.txt notes.txt --tokenizer bpe:4096 --valid-fraction 0.05 --out data/books";

/// Flags of `wikigpt prepare`.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["corpus", "text"])))]
pub struct Arguments {
    /// A corpus by name; it is downloaded once and kept in the user's cache folder
    #[arg(value_name = "CORPUS")]
    corpus: Option<Corpus>,
    /// Any UTF-8 text files instead
    #[arg(long, value_name = "FILE", num_args = 1..)]
    text: Vec<PathBuf>,
    /// Take CORPUS from this archive instead of the network
    #[arg(long, value_name = "ZIP", requires = "corpus")]
    archive: Option<PathBuf>,
    /// How text becomes tokens: bytes, gpt2, words, bpe:N (trained on the corpus) or file:tokenizer.json
    #[arg(long, value_name = "KIND", default_value = "bytes")]
    tokenizer: String,
    /// Share of --text that is held back for validation [default: 0.1]
    #[arg(long, value_name = "F", requires = "text", allow_negative_numbers = true)]
    valid_fraction: Option<f64>,
    /// Leave out the <|endoftext|> that gpt2 and bpe:N put before each article
    #[arg(long)]
    no_document_tokens: bool,
    /// Write nanoGPT's bare u16 tokens instead of llm.c's files
    #[arg(long)]
    raw_u16: bool,
    /// Folder to write: new, empty, or with data of an earlier call, which is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Corpus {
    /// WikiText-2, two million words of Wikipedia
    #[value(name = "wikitext-2")]
    WikiText2,
    /// WikiText-103, a hundred million words of Wikipedia
    #[value(name = "wikitext-103")]
    WikiText103,
}

/// Writes token files.
pub fn run(arguments: Arguments) -> Result<()> {
    let tokenizer: TokenizerSpec = match arguments.tokenizer.parse() {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            return Err(BadInput::new(format!("--tokenizer {}: {error}", arguments.tokenizer)).into());
        }
    };
    let valid_fraction = arguments.valid_fraction.unwrap_or(0.1);
    if !(0.0..1.0).contains(&valid_fraction) {
        bad_input!("--valid-fraction {valid_fraction}: must be at least 0 and below 1");
    }
    // What an earlier call wrote is replaced once the new data is whole; anything else stays as it is.
    if !arguments.out.join(MANIFEST_FILE).is_file() {
        folder::check_new(&arguments.out, "--out")?;
    }
    let source = match arguments.corpus {
        Some(Corpus::WikiText2) => Source::WikiText2,
        Some(Corpus::WikiText103) => Source::WikiText103,
        None => Source::Text(arguments.text),
    };
    let manifest = prepare(
        &Prepare {
            archive: arguments.archive,
            valid_fraction,
            document_tokens: !arguments.no_document_tokens,
            raw_u16: arguments.raw_u16,
            ..Prepare::new(source, tokenizer, &arguments.out)
        },
        &mut Bar::default(),
    )?;
    output::line(&super::inspect::describe_dataset(&manifest))?;
    output::note(&format!("next: wikigpt train --data {}", arguments.out.display()));
    Ok(())
}
