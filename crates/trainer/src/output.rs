//! Results on stdout.

use std::io::{Write, stdout};

use anyhow::Result;
use serde::Serialize;

/// Prints a result: one JSON object with `--json`, else lines for people.
pub fn print(json: bool, value: &impl Serialize, lines: impl FnOnce() -> String) -> Result<()> {
    let text = if json { serde_json::to_string(value)? } else { lines() };
    line(text.trim_end())
}

/// Prints a line. Unlike `println!`, a reader that has gone away is an error, not a panic.
pub fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints text as it comes.
pub fn stream(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
