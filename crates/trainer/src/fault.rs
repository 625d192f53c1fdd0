//! Errors and the exit status that they end in.

use std::error::Error;
use std::fmt;
use std::io;

/// What was given is wrong: a flag, a file, a shape. Ends in exit status 2.
#[derive(Debug)]
pub struct BadInput(String);

impl BadInput {
    /// One sentence: what is wrong, where, and what to do.
    pub fn new(sentence: impl Into<String>) -> Self {
        BadInput(sentence.into())
    }
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for BadInput {}

/// Returns with [`BadInput`].
macro_rules! bad_input {
    ($($sentence:tt)*) => {
        return Err($crate::fault::BadInput::new(format!($($sentence)*)).into())
    };
}
pub(crate) use bad_input;

/// The exit status for an error: 2 where the input is at fault, 1 for everything else.
///
/// What lies deepest decides: a file that is missing or holds nonsense is bad input, a full disk is not.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let is = |test: fn(&(dyn Error + 'static)) -> bool| error.chain().any(test);
    if is(|cause| cause.is::<BadInput>()) {
        return 2;
    }
    if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()) {
        return status_of_io(error.kind());
    }
    // What the model and the dataset have to say without the system's, the network's or the device's help is about
    // their input.
    let model = error.chain().find_map(|cause| cause.downcast_ref::<wikigpt_gpt::Error>());
    let dataset = error.chain().find_map(|cause| cause.downcast_ref::<wikigpt_dataset::Error>());
    match (model, dataset) {
        (Some(wikigpt_gpt::Error::Ops(_)), _) => 1,
        (Some(_), _) => 2,
        (_, Some(error)) if error.is_bad_input() => 2,
        _ => 1,
    }
}

/// Wrong names and wrong contents are the user's; permissions, full disks and broken devices are the world's.
fn status_of_io(kind: io::ErrorKind) -> u8 {
    use io::ErrorKind::*;
    match kind {
        NotFound | NotADirectory | IsADirectory | InvalidData | InvalidInput | UnexpectedEof
        | InvalidFilename => 2,
        _ => 1,
    }
}

/// Whether whoever read our output has gone away: no failure (`wikigpt generate … | head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken))
}

/// The error on one line: its causes joined by colons, line breaks and repeated causes left out.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        // Many errors already repeat their source.
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_cause_decides_the_status_whatever_context_is_around_it() {
        let missing: anyhow::Result<()> =
            Err(io::Error::from(io::ErrorKind::NotFound)).context("cannot open model.safetensors");
        assert_eq!(exit_status(&missing.unwrap_err()), 2);
        let full: anyhow::Result<()> =
            Err(io::Error::from(io::ErrorKind::StorageFull)).context("cannot save");
        assert_eq!(exit_status(&full.unwrap_err()), 1);
        let bad: anyhow::Result<()> = Err(BadInput::new("no")).context("reading config.toml");
        assert_eq!(exit_status(&bad.unwrap_err()), 2);
        assert_eq!(exit_status(&anyhow::anyhow!("something else")), 1);
    }

    #[test]
    fn a_model_errs_about_its_input_and_a_device_about_itself() {
        let status = |error: wikigpt_gpt::Error| exit_status(&error.into());
        assert_eq!(status(wikigpt_gpt::Error::Config("0 heads".into())), 2);
        let error = wikigpt_ops::Error::OutOfMemory { device: "cpu".into(), wanted: 1, free: None };
        assert_eq!(status(error.into()), 1);
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(status(wikigpt_gpt::Error::Io { path: "x".into(), source }), 1);
    }

    #[test]
    fn a_sentence_is_one_line_and_says_nothing_twice() {
        let error = anyhow::anyhow!("no such file").context("x.bin: no such file").context("two\n  lines");
        assert_eq!(sentence(&error), "two lines: x.bin: no such file");
    }
}
