//! Prompts and what is to be written after them: translations, summaries, answers.
//!
//! [`read`] takes [`Example`]s from files, a [`Template`] says what stands around a prompt, [`Encoder`] makes [`Sequence`]s of
//! tokens of both, and [`pack`] lays short ones together in rows.

mod encode;
mod jsonl;
mod pack;
mod parallel;
mod split;
mod squad;
mod template;
mod titles;

use std::path::PathBuf;

pub use encode::{Encoder, Keep, Sequence, Shortened};
pub use pack::{Packing, one_a_row, pack};
pub use split::hold_out;
pub use template::Template;

use crate::error::{Error, Result};
use crate::manifest::Split;
use crate::text_file;

/// A prompt and what may come after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// What is given.
    pub prompt: String,
    /// What is to be learned.
    pub completion: String,
    /// All that is right, the completion among them.
    pub references: Vec<String>,
    /// What examples of one source share: they are held out together.
    pub group: Option<String>,
}

/// Examples, and how many of a file's were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples {
    /// In the file's order.
    pub list: Vec<Example>,
    /// What was left out: how many, and why.
    pub left_out: Option<(usize, &'static str)>,
}

/// How files hold examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// An object `{"prompt": …, "completion": …}` a line.
    JsonLines,
    /// Two files, the prompts and the completions, a line each.
    Parallel,
    /// SQuAD's JSON: contexts with questions, and answers.
    Squad,
    /// WikiText: articles, and their titles. A text, or the published archive.
    Titles,
}

impl Layout {
    /// The layout that names of files stand for.
    pub fn of(files: &[PathBuf]) -> Option<Layout> {
        let [file] = files else { return (files.len() == 2).then_some(Layout::Parallel) };
        match text_file::extension(file)?.as_str() {
            "jsonl" | "ndjson" => Some(Layout::JsonLines),
            "json" => Some(Layout::Squad),
            "tokens" | "zip" => Some(Layout::Titles),
            _ => None,
        }
    }
}

/// Reads examples from one file, or from two for [`Layout::Parallel`]; any but an archive may be compressed with gzip.
/// `split` is the part of an archive that is meant.
///
/// # Errors
/// What is wrong in a file, with its line; a file without examples.
pub fn read(files: &[PathBuf], layout: Layout, split: Split) -> Result<Examples> {
    let wanted = if layout == Layout::Parallel { 2 } else { 1 };
    if files.len() != wanted {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        return Err(Error::argument(format!(
            "{} files ({}) where this layout takes {wanted}",
            files.len(),
            names.join(", ")
        )));
    }
    let examples = match layout {
        Layout::JsonLines => jsonl::read(&files[0])?,
        Layout::Parallel => parallel::read(&files[0], &files[1])?,
        Layout::Squad => squad::read(&files[0])?,
        Layout::Titles => titles::read(&files[0], split)?,
    };
    if examples.list.is_empty() {
        let why = match examples.left_out {
            Some((count, why)) => format!("no example is left: {count} were left out ({why})"),
            None => "there is no example in it".to_owned(),
        };
        return Err(Error::file(&files[0], why));
    }
    Ok(examples)
}

/// An example with one right completion, if both sides have something to say.
fn example(prompt: &str, completion: &str) -> std::result::Result<Example, &'static str> {
    if prompt.trim().is_empty() {
        return Err("an empty prompt: there is nothing to complete");
    }
    if completion.trim().is_empty() {
        return Err("an empty completion: there is nothing to learn");
    }
    Ok(Example {
        prompt: prompt.to_owned(),
        completion: completion.to_owned(),
        references: vec![completion.to_owned()],
        group: None,
    })
}
