//! Examples from files, as tokens.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use wikigpt_dataset::Split;
use wikigpt_dataset::completion::{self, Encoder, Example, Examples, Keep, Layout, Sequence};

use crate::fault::bad_input;
use crate::flags::Long;
use crate::output;
use crate::progress::thousands;

/// How files hold examples, and what happens to long ones.
#[derive(Args, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExampleFlags {
    /// How the files are written [default: as their names end; two are parallel]
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<FormatName>,
    /// What to do with an example of more tokens than the model takes
    #[arg(long, default_value = "truncate", help_heading = "Data")]
    pub long: Long,
}

/// Names of layouts.
#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    /// An object {"prompt": …, "completion": …} a line
    Jsonl,
    /// Two files, prompts and completions, a line each
    Parallel,
    /// SQuAD's JSON: a paragraph and a question, and the answer
    Squad,
    /// Articles in WikiText's layout (or its archive), and their titles
    Titles,
}

/// Names of a prompt's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepName {
    /// Its beginning, as of articles
    Start,
    /// Its end, as of questions
    End,
}

impl From<KeepName> for Keep {
    fn from(name: KeepName) -> Keep {
        match name {
            KeepName::Start => Keep::Start,
            KeepName::End => Keep::End,
        }
    }
}

/// One file, or two that belong together.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// The flag that names them.
    pub flag: &'static str,
    pub paths: &'a [PathBuf],
}

impl Files<'_> {
    /// Reads them; tells a person what was left out.
    pub fn read(&self, format: Option<FormatName>, split: Split) -> Result<Vec<Example>> {
        let layout = match format {
            Some(FormatName::Jsonl) => Layout::JsonLines,
            Some(FormatName::Parallel) => Layout::Parallel,
            Some(FormatName::Squad) => Layout::Squad,
            Some(FormatName::Titles) => Layout::Titles,
            None => match Layout::of(self.paths) {
                Some(layout) => layout,
                None => bad_input!(
                    "{self}: the name does not tell how the file is written: give --format jsonl, squad or titles, or \
                     two files that belong together line by line"
                ),
            },
        };
        let Examples { list, left_out } =
            completion::read(self.paths, layout, split).with_context(|| self.flag.to_owned())?;
        if let Some((count, why)) = left_out {
            output::note(&format!("{self}: {} {why} are left out", thousands(count as u64)));
        }
        Ok(list)
    }
}

impl std::fmt::Display for Files<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.flag)?;
        self.paths.iter().try_for_each(|path| write!(f, " {}", path.display()))
    }
}

/// The split that is meant where a flag names an archive of all three.
pub fn split_of(flag: &str) -> Split {
    match flag {
        "--valid" => Split::Valid,
        "--test" => Split::Test,
        _ => Split::Train,
    }
}

/// How examples become tokens.
pub struct Texts<'a> {
    pub encoder: Encoder<'a>,
    /// Positions of a row (T), which no example is longer than.
    pub context: usize,
    pub long: Long,
}

/// Examples with their tokens.
pub struct Part {
    /// For a person.
    pub name: String,
    pub examples: Vec<Example>,
    /// The same as tokens.
    pub sequences: Vec<Sequence>,
}

impl Part {
    /// Turns examples into tokens; tells a person how many and how long they are, and how many were shortened.
    pub fn new(name: String, examples: Vec<Example>, texts: &mut Texts) -> Result<Part> {
        texts.encoder.shortened = Default::default();
        let mut sequences = Vec::with_capacity(examples.len());
        for (number, example) in (1..).zip(&examples) {
            let (sequence, whole) = texts.encoder.example(example, texts.context)?;
            if !whole && texts.long == Long::Refuse {
                bad_input!(
                    "{name}: example {number} has more tokens than the {} positions that there are (--long refuse)",
                    texts.context
                );
            }
            sequences.push(sequence);
        }
        let part = Part { name, examples, sequences };
        part.announce(texts);
        Ok(part)
    }

    fn announce(&self, texts: &Texts) {
        let count = self.sequences.len() as f64;
        let prompts: usize = self.sequences.iter().map(|sequence| sequence.prompt).sum();
        let all: usize = self.sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        let mut line = format!(
            "{}: {} examples of {:.1} + {:.1} tokens on average",
            self.name,
            thousands(self.sequences.len() as u64),
            prompts as f64 / count,
            (all - prompts) as f64 / count
        );
        let shortened = texts.encoder.shortened;
        if shortened.prompts > 0 {
            line += &format!("; {} prompts are shortened", thousands(shortened.prompts as u64));
        }
        if shortened.completions > 0 {
            line += &format!("; {} completions lack their end", thousands(shortened.completions as u64));
        }
        output::note(&line);
    }

    /// Positions that each takes in a row.
    pub fn lengths(&self) -> Vec<usize> {
        self.sequences.iter().map(Sequence::positions).collect()
    }
}
