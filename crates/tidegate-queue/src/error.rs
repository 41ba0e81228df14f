//! What can go wrong, told apart by what the caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_core::InvocationId;
use tidegate_store::BlobError;

/// Why the queue could not read or write its file.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, or the disk under it.
    #[error(transparent)]
    Store(#[from] tidegate_store::Error),
    /// Nothing with this id is in the queue, among the dead letters or the results.
    #[error("invocation {id} is not in the queue; it may have ended, see its record")]
    NotFound {
        /// The id asked for.
        id: InvocationId,
    },
    /// What is stored of this invocation is not what was written. It is among the dead letters now, without its request.
    #[error("invocation {id} is damaged on disk: {detail}")]
    Damaged {
        /// The id.
        id: InvocationId,
        /// What does not fit.
        detail: String,
    },
    /// The lease under which this was asked is over.
    #[error("the lease is over: the invocation ended, was cancelled or is somebody else's")]
    LeaseOver,
    /// More requests wait than the queue is willing to hold.
    #[error("the queue is busy: {what} did not come free in time; retry")]
    Busy {
        /// What was waited for.
        what: &'static str,
    },
    /// A page token that this queue did not give.
    #[error("page token {token:?} is not one of this queue's; begin without one")]
    Token {
        /// The token, shortened.
        token: String,
    },
    /// The queue was closed meanwhile.
    #[error("the queue is closed")]
    Closed,
}

/// Why a submission was not accepted. It will not run.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No room, or none that can be had now: the disk is full, or the queue is as long as it may be.
    #[error("the queue has no room: {what}; try again in {} s", retry_after.as_secs())]
    Full {
        /// What is full.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// A part is larger than what is kept.
    #[error("{what} of the request has {bytes} bytes; at most {limit} are kept")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An invocation with this id is in the queue already.
    #[error("an invocation {id} is in the queue already; give each submission an id of its own")]
    IdTaken {
        /// The id.
        id: InvocationId,
    },
    /// The file could not be written. Whether the submission was accepted is known to be no.
    #[error("the queue cannot be written: {source}; try again in {} s", retry_after.as_secs())]
    Store {
        /// Why.
        source: Error,
        /// When to try again.
        retry_after: Duration,
    },
}

/// Why the queue could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file, or the folder.
    #[error(transparent)]
    Store(#[from] tidegate_store::OpenError),
    /// The folder of spooled bodies.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<tidegate_store::Error> for OpenError {
    fn from(error: tidegate_store::Error) -> Self {
        Self::Store(error.into())
    }
}
