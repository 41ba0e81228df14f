//! What can go wrong, in kinds that a caller can tell apart.

use std::io;
use std::path::{Path, PathBuf};

use crate::ImageDigest;

/// Why there is no image. After any of these the images that were there are as they were, and nothing is left on disk but
/// parts of layers that a later pull goes on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry, or this machine, has nothing of the name.
    #[error("image {name} is not there: {reason}")]
    NotFound {
        /// Of the image.
        name: String,
        /// What was said.
        reason: String,
    },
    /// The registry wants credentials, or others.
    #[error("registry {registry} refuses access to {name}: {reason}")]
    Unauthorized {
        /// Which, with its port.
        registry: String,
        /// Of the image.
        name: String,
        /// What was said, and whether credentials were sent.
        reason: String,
    },
    /// The registry does not answer, not in time, or with failures only.
    #[error("registry {registry} cannot be reached: {reason}")]
    Unreachable {
        /// Which, with its port.
        registry: String,
        /// The last failure of those that were tried again.
        reason: String,
    },
    /// The registry, or where it sends us, is not known to be who it says.
    #[error("registry {registry} is not trusted: {reason}")]
    Untrusted {
        /// Which, with its port.
        registry: String,
        /// What is wrong with its certificate, and what would do.
        reason: String,
    },
    /// The image is for other machines.
    #[error("image {name} is not for {wanted}; it is for {}", found.join(", "))]
    Architecture {
        /// Of the image.
        name: String,
        /// This machine's, `os/architecture`.
        wanted: String,
        /// What is there.
        found: Vec<String>,
    },
    /// Content is not that of its digest.
    #[error("{what} has digest {found}, but {expected} was announced")]
    Digest {
        /// Of what.
        what: String,
        /// As announced.
        expected: ImageDigest,
        /// Of what came.
        found: ImageDigest,
    },
    /// More than [`crate::Settings`] allow.
    #[error("{what} is larger than the {limit} {unit} that are allowed")]
    TooLarge {
        /// What is.
        what: String,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A layer would write where it may not.
    #[error("layer {layer} of the image is unsafe: entry {entry:?} {why}")]
    Unsafe {
        /// The first digits of its diff id.
        layer: String,
        /// Its name, shortened.
        entry: String,
        /// Which rule.
        why: &'static str,
    },
    /// No room on the disk or in the quota. What had been written is removed.
    #[error("no room left in {}; free some space and try again", path.display())]
    NoSpace {
        /// The folder.
        path: PathBuf,
    },
    /// A document or archive that is damaged or breaks its format's rules.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// What is.
        what: String,
        /// Why.
        why: String,
    },
    /// Something of the format that is not supported.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What is.
        what: String,
        /// What would be.
        why: String,
    },
    /// The image has no such user.
    #[error("user {user:?} is not in the image's {file}")]
    User {
        /// As asked for.
        user: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
    /// Whoever waited for it went away.
    #[error("interrupted")]
    Interrupted,
    /// The file system's own answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into(),
            why: why.into(),
        }
    }
}

/// The error of an operation on a path.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { path },
        _ => Error::Io { path, source },
    }
}

/// As `at`, of a call through rustix.
pub(crate) fn sys(path: &Path) -> impl FnOnce(rustix::io::Errno) -> Error + use<> {
    let at = at(path);
    move |errno| at(errno.into())
}
