//! Results on stdout, text for people on stderr.

use std::io::{Write, stderr, stdout};

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

/// Tells a person something. Nobody may be there to read it any more: a run goes on without its terminal.
pub fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

/// Warns a person.
pub fn warn(text: &str) {
    note(&format!("warning: {text}"));
}
