//! What can go wrong, told apart by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::{KeyringError, ObjectKey, ResourceVersion, SelectorError};

/// How much of a refused value is shown in a message: enough to recognise it, not enough to flood a log.
const SHOWN_CHARS: usize = 80;

/// Why an operation on objects was not done. Unless a variant says otherwise, nothing was changed.
///
/// Cloneable because one failed group commit answers everyone who was part of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No object has this key.
    #[error("{key} does not exist")]
    NotFound {
        /// The key asked for.
        key: ObjectKey,
    },
    /// The key is taken.
    #[error("{key} already exists")]
    AlreadyExists {
        /// The key wanted.
        key: ObjectKey,
    },
    /// The object is not the one, or no longer in the state, that the caller last saw.
    #[error("{key} has {field} {found:?}, not {wanted:?}; read it again and retry")]
    Conflict {
        /// The object.
        key: ObjectKey,
        /// `resourceVersion` or `uid`.
        field: &'static str,
        /// What the store has.
        found: String,
        /// What the caller expected.
        wanted: String,
    },
    /// A document, key or token does not have the shape asked for.
    #[error("{field} is {found}; expected {expected}")]
    Invalid {
        /// Where: a path into the document, as `metadata.name`.
        field: String,
        /// What stood there, shortened.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// The document is over [`MAX_DOCUMENT_BYTES`](crate::MAX_DOCUMENT_BYTES); large values belong into blobs.
    #[error(
        "{key} is {bytes} bytes as JSON; at most {max} are stored, put large values into a blob"
    )]
    TooLarge {
        /// The object.
        key: ObjectKey,
        /// Its size as JSON, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// A label selector was not understood.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The history no longer reaches back to this version: list again and watch from there.
    #[error(
        "the history kept for watching no longer holds everything after version {version}; list again"
    )]
    Expired {
        /// The version the watch stood at.
        version: ResourceVersion,
    },
    /// What is stored for this object is not what was written.
    #[error("{key} is damaged on disk: {detail}")]
    Damaged {
        /// The object.
        key: ObjectKey,
        /// What does not fit.
        detail: String,
    },
    /// The database file itself cannot be read at this place.
    #[error("{} is damaged: {detail}", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// No room: the disk, a quota, or the limit set for the database.
    #[error("no room left for {}; free some space and retry", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The file or its file system does not take writes.
    #[error("{} is read-only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Another program holds the database file.
    #[error("{} is locked by another program", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// More requests wait than the store is willing to hold. Retry later.
    #[error("the store is busy: {what} did not come free in time; retry")]
    Busy {
        /// What was waited for.
        what: &'static str,
    },
    /// The operating system refused. The outcome of a write is unknown until the store is opened again.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Anything else SQLite says.
    #[error("{}: {detail}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's message.
        detail: String,
    },
    /// The store was closed while the request waited.
    #[error("the store is closed")]
    Closed,
    /// A bug in the store. The request changed nothing.
    #[error("the store failed inside: {detail}")]
    Internal {
        /// What was being done.
        detail: String,
    },
}

impl Error {
    /// A refused value at `field`, shown shortened.
    pub(crate) fn invalid(
        field: impl Into<String>,
        found: &str,
        expected: impl Into<String>,
    ) -> Self {
        let mut shown: String = found.chars().take(SHOWN_CHARS).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        Self::Invalid {
            field: field.into(),
            found: format!("{shown:?}"),
            expected: expected.into(),
        }
    }

    /// A value missing at `field`.
    pub(crate) fn missing(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            found: "missing".to_owned(),
            expected: expected.into(),
        }
    }

    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let detail = error.to_string();
        // The one write for want of room that SQLite does not call so: of the index of its log.
        if error
            .sqlite_error()
            .is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
        {
            return Self::Full { path };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { path },
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Locked { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, detail }
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Self::Io {
                path,
                source: Arc::new(io::Error::other(detail)),
            },
            _ => Self::Database { path, detail },
        }
    }
}

/// Why the data folder could not be opened. The data is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another server uses the folder.
    #[error("{} is in use by {}; stop that server or name another data folder", path.display(), Holder(*pid))]
    Locked {
        /// The data folder.
        path: PathBuf,
        /// The process that wrote itself into the lock file, if readable.
        pid: Option<u32>,
    },
    /// The folder cannot be made or written.
    #[error("{} is not writable: {source}", path.display())]
    NotWritable {
        /// The folder or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer release has written this data.
    #[error("{} has data of version {found}, this release knows versions up to {known}; use a newer release", path.display())]
    NewerData {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version this release knows.
        known: u32,
    },
    /// A SQLite file, but not one of ours.
    #[error("{} belongs to another program (application id {found:#010x}); name another data folder", path.display())]
    NotOurs {
        /// The database file.
        path: PathBuf,
        /// The application id found.
        found: u32,
    },
    /// The key folder is not fit for use.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The database cannot be read or prepared.
    #[error(transparent)]
    Store(#[from] Error),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Prints who holds a lock.
struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}
