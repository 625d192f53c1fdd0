//! Texts with labels, from CSV, TSV or JSONL.
//!
//! [`read`] gives a file's [`Example`]s, [`Labels`] are the names that stand in a training file, and [`Buckets`] puts texts of
//! like length together into batches.

mod buckets;
mod labels;
mod lines;
mod table;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use buckets::{Buckets, Chosen};
pub use labels::{Label, Labels};

use crate::error::{Error, Result};
use crate::text_file;

/// A text and its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Not empty.
    pub text: String,
    /// What it is.
    pub label: Label,
    /// The line of the file that it begins in, from 1.
    pub line: u64,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Fields between commas, or between quotes where they hold commas, quotes (twice) or line breaks.
    Csv,
    /// Fields between tabs.
    Tsv,
    /// An object a line.
    Jsonl,
}

impl Layout {
    /// What a file's extension says, or the one before `.gz`.
    ///
    /// # Errors
    /// [`Error::File`] when it says nothing.
    pub fn of(path: &Path) -> Result<Layout> {
        match text_file::extension(path).as_deref() {
            Some("csv") => Ok(Layout::Csv),
            Some("tsv") => Ok(Layout::Tsv),
            Some("jsonl" | "ndjson") => Ok(Layout::Jsonl),
            _ => Err(Error::file(
                path,
                "its name ends in neither .csv, .tsv nor .jsonl: say which it is with --format",
            )),
        }
    }
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By the header, or the object's keys.
    Name(String),
    /// By its place, from 1.
    Number(usize),
}

impl FromStr for Column {
    type Err = std::convert::Infallible;

    /// What is a number is a place.
    fn from_str(text: &str) -> std::result::Result<Column, Self::Err> {
        Ok(text.parse().map_or_else(|_| Column::Name(text.to_owned()), Column::Number))
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Column::Name(name) => write!(f, "'{name}'"),
            Column::Number(number) => write!(f, "{number}"),
        }
    }
}

/// How to read a file.
#[derive(Clone, Debug)]
pub struct Reading {
    /// How it is written; as its extension says where it is not given.
    pub layout: Option<Layout>,
    /// Whether the first line of CSV and TSV names the columns.
    pub header: bool,
    /// Whether fields may stand between quotes; where it is not given, in CSV.
    pub quotes: Option<bool>,
    /// The texts' column: by default `text`, or the first without a header.
    pub text: Option<Column>,
    /// The labels' column: by default `label`, or the second without a header.
    pub label: Option<Column>,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { layout: None, header: true, quotes: None, text: None, label: None }
    }
}

impl Reading {
    /// The columns to read from a file with names, or without.
    fn columns(&self, named: bool) -> [Column; 2] {
        let column = |given: &Option<Column>, name: &str, number| {
            let default = if named { Column::Name(name.to_owned()) } else { Column::Number(number) };
            given.clone().unwrap_or(default)
        };
        [column(&self.text, "text", 1), column(&self.label, "label", 2)]
    }
}

/// The examples of a file, which may be compressed with gzip, in its order.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::File`] with the line: of what is not UTF-8, of a missing column or field, an
/// empty text or label, a quote that is not closed, no JSON object, labels that are numbers here and words there; and where there
/// is no example at all.
pub fn read(path: &Path, reading: &Reading) -> Result<Vec<Example>> {
    let layout = reading.layout.map_or_else(|| Layout::of(path), Ok)?;
    let text = text_file::read(path)?;
    let examples = match layout {
        Layout::Csv => table::read(path, &text, b',', reading.quotes.unwrap_or(true), reading),
        Layout::Tsv => table::read(path, &text, b'\t', reading.quotes.unwrap_or(false), reading),
        Layout::Jsonl => lines::read(path, &text, reading),
    }?;
    labels::check_kinds(path, &examples)?;
    if examples.is_empty() {
        return Err(Error::file(path, "there is no text in it"));
    }
    Ok(examples)
}
