//! Two files of which line n belongs to line n.

use std::path::Path;

use super::{Examples, example};
use crate::error::{Error, Result};
use crate::text_file;

/// Reads both files.
pub fn read(prompts: &Path, completions: &Path) -> Result<Examples> {
    let texts = (text_file::read(prompts)?, text_file::read(completions)?);
    let (left, right) = (texts.0.lines().count(), texts.1.lines().count());
    if left != right {
        let message = format!(
            "{left} lines, but {} has {right}: line n of one must belong to line n of the other",
            completions.display()
        );
        return Err(Error::file(prompts, message));
    }
    let mut examples = Examples::default();
    for (number, (prompt, completion)) in (1..).zip(texts.0.lines().zip(texts.1.lines())) {
        let example = example(prompt, completion).map_err(|message| {
            let path = if prompt.trim().is_empty() { prompts } else { completions };
            Error::at_line(path, number, message)
        })?;
        examples.list.push(example);
    }
    Ok(examples)
}
