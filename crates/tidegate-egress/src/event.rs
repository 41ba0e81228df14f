//! What a job's log should hold of its connections.

use std::fmt;

use crate::target::Target;

/// Something worth a line in the log of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A host was reached for the first time.
    Connected {
        /// As the job named it.
        target: Target,
    },
    /// A connection was not allowed; told once a target.
    Refused {
        /// As the job named it.
        target: String,
        /// Why.
        why: String,
    },
    /// A host could not be reached; told once a target.
    Failed {
        /// As the job named it.
        target: Target,
        /// Why.
        why: String,
    },
    /// The job has moved as many bytes as it may; every connection of it ends.
    Exhausted {
        /// The bound.
        bytes: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { target } => write!(f, "connected {target}"),
            Self::Refused { target, why } => write!(f, "refused {target}: {why}"),
            Self::Failed { target, why } => write!(f, "not connected {target}: {why}"),
            Self::Exhausted { bytes } => write!(
                f,
                "the job has moved {} MiB over the network, which is as much as it may",
                bytes >> 20
            ),
        }
    }
}
