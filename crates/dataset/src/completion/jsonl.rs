//! JSON Lines: `{"prompt": "…", "completion": "…"}`, and `"references": ["…"]` where more than the completion is right.

use std::path::Path;

use serde::Deserialize;

use super::{Examples, example};
use crate::error::{Error, Result};
use crate::text_file;

#[derive(Deserialize)]
struct Line {
    prompt: String,
    completion: String,
    #[serde(default)]
    references: Vec<String>,
}

/// Reads a file; empty lines are passed over, and keys that have no meaning here.
pub fn read(path: &Path) -> Result<Examples> {
    let text = text_file::read(path)?;
    let mut examples = Examples::default();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |message: String| Error::at_line(path, number, message);
        let line: Line = serde_json::from_str(line).map_err(|error| {
            // The library counts lines within the line.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            wrong(format!("{message}, where {{\"prompt\": \"…\", \"completion\": \"…\"}} is expected"))
        })?;
        let mut example =
            example(&line.prompt, &line.completion).map_err(|message| wrong(message.to_owned()))?;
        for reference in line.references {
            if !example.references.contains(&reference) {
                example.references.push(reference);
            }
        }
        examples.list.push(example);
    }
    Ok(examples)
}
