//! What can go wrong, told apart by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another server has the folder.
    #[error(
        "records folder {path} is in use by another server; give each server a data folder of its own"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The machine refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
    /// A page was asked for that begins nowhere.
    #[error("continue token {token:?} is none that was given out; ask again from the beginning")]
    Token {
        /// The token.
        token: String,
    },
    /// More sums than one answer holds.
    #[error(
        "more than {max} rows of usage match; ask by the day, for a shorter time, or for one function"
    )]
    TooManyRows {
        /// The most there may be.
        max: usize,
    },
    /// What is pending could not be written.
    #[error("records cannot be written: {why}")]
    NotWritten {
        /// What the machine said last.
        why: String,
    },
    /// The recorder has been closed.
    #[error("records are closed")]
    Closed,
}

impl Error {
    /// What the machine said, with what was tried on what.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
