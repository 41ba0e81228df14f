//! Why a server does not start, one clear line each.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data folder is in use, not writable, of a newer version, full or damaged beyond use.
    #[error("data folder {path}: {source}")]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: tidegate_store::OpenError,
    },
    /// A file of the server's own could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}{hint}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// What would help, as the rest of the sentence.
        hint: &'static str,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The machine does not permit what the settings demand.
    #[error(transparent)]
    Isolation(#[from] tidegate_isolation_process::Error),
    /// Containers cannot be made.
    #[error(transparent)]
    Runsc(#[from] tidegate_isolation_runsc::Error),
    /// The platform did not start.
    #[error(transparent)]
    Platform(#[from] tidegate_platform::Error),
    /// Reachable from other machines, and anyone may do anything.
    #[error(
        "listening on {address} without authentication would let anyone on the network run code here; \
         leave auth at \"key\", listen on a loopback address, or set allow-unauthenticated-network = true"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// The launcher of sandboxes ended: nothing can be started any more, so the server ends and is started again.
    #[error("the launcher of sandboxes ended unexpectedly, and every instance with it")]
    LauncherLost,
    /// A thread or runtime could not be made.
    #[error("cannot start a serving thread: {0}")]
    Thread(io::Error),
}
