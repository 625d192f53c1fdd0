//! What can go wrong with a model.

use std::path::PathBuf;

/// A model's error: each is one sentence for the person who runs the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A shape that no model can have, or a setting that does not fit it.
    #[error("{0}")]
    Config(String),
    /// The backend refused or failed.
    #[error(transparent)]
    Ops(#[from] wikigpt_ops::Error),
    /// The backward pass left a parameter without a gradient.
    #[error(
        "{tensor} received no gradient in the first step: the first micro-batch must set gradients, and the backward pass write all of them"
    )]
    NoGradient {
        /// The parameter.
        tensor: String,
    },
    /// A file is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// The system could not read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file could not be written: the disk is full, or the folder unwritable.
    #[error("{}: cannot write its {bytes} bytes: {source}", path.display())]
    Write {
        /// The file, under the name that it would have got.
        path: PathBuf,
        /// How long it would have become.
        bytes: u64,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The caller could not write its own files into a model folder.
    #[error("{}: {source}", path.display())]
    Fill {
        /// The folder.
        path: PathBuf,
        /// The caller's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The result of working with a model.
pub type Result<T = ()> = std::result::Result<T, Error>;
