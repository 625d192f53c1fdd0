//! What can go wrong with data.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A dataset's error: each is one sentence for the person who runs the program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read or write something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "create" and so on.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and what to do.
        message: String,
    },
    /// An argument makes no sense, by itself or with this data.
    #[error("{0}")]
    Argument(String),
    /// A download failed; nothing of it is under a final name.
    #[error("cannot download {url}: {message}")]
    Download {
        /// What was asked for.
        url: String,
        /// What happened, and what to do.
        message: String,
    },
}

/// The result of working with data.
pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// Whether what was given is at fault (a wrong file, a wrong argument), not the system or the network.
    pub fn is_bad_input(&self) -> bool {
        use io::ErrorKind::*;
        match self {
            Error::File { .. } | Error::Argument(_) => true,
            Error::Download { .. } => false,
            Error::Io { source, .. } => matches!(
                source.kind(),
                NotFound
                    | NotADirectory
                    | IsADirectory
                    | InvalidData
                    | InvalidInput
                    | InvalidFilename
                    | UnexpectedEof
            ),
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Error::File { path: path.into(), message: message.into() }
    }

    /// What is wrong in one line of a file.
    pub(crate) fn at_line(path: impl Into<PathBuf>, line: u64, message: impl fmt::Display) -> Self {
        Error::file(path, format!("line {line}: {message}"))
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Error::Argument(message.into())
    }
}

/// Says what the system was asked to do when it refused.
pub(crate) trait IoContext<T> {
    fn while_trying(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn while_trying(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { action, path: path.to_path_buf(), source })
    }
}
