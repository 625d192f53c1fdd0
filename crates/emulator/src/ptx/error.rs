//! What is wrong with a PTX text.

/// Why a module or kernel was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {message}")]
pub struct Error {
    /// Which kind of refusal.
    pub kind: ErrorKind,
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// What is wrong, in one clause.
    pub message: String,
}

/// The kind of refusal, from which the driver's error code follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// ptxas would refuse it too.
    Invalid,
    /// `.version` newer than any known.
    Version,
    /// `.target` that the device cannot run.
    Target,
    /// Valid as far as known, but not emulated.
    Unsupported,
}

impl Error {
    /// PTX that no compiler accepts.
    pub fn invalid(line: u32, message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Invalid, line, message: message.into() }
    }

    /// PTX that this emulator does not know.
    pub fn unsupported(line: u32, message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Unsupported, line, message: message.into() }
    }
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
