//! What the platform answers when it does not do as asked. Model errors: status codes are the dialects' tables.

use tidegate_store::{BlobError, DigestError, KeyringError};

/// Why the platform did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] tidegate_store::Error),
    /// The blob store's answer.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Code that was sent cannot be used.
    #[error("{0}")]
    Code(String),
    /// The text is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// What was asked for breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// What is kept of invocations could not be read.
    #[error(transparent)]
    Records(#[from] tidegate_records::Error),
    /// There is no such image, or it is not as images must be.
    #[error(transparent)]
    Image(#[from] tidegate_image::Error),
    /// The namespace may have no more of it.
    #[error("{0}")]
    Quota(String),
    /// A call that was to be made later was not accepted.
    #[error(transparent)]
    NotQueued(#[from] crate::NotQueued),
    /// What is queued could not be read or written.
    #[error(transparent)]
    Queue(tidegate_queue::Error),
    /// Something else is in the way.
    #[error("{0}")]
    InUse(String),
}

impl From<crate::bundles::BundleError> for Error {
    fn from(error: crate::bundles::BundleError) -> Self {
        use crate::bundles::BundleError;
        match error {
            BundleError::Unpack { source, .. } => Self::Code(source.to_string()),
            BundleError::Blob { source, .. } => source.into(),
            error @ BundleError::Io { .. } => Self::Invalid(error.to_string()),
        }
    }
}
