//! What the isolation is told when it starts.

use std::path::PathBuf;

/// What the isolation is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the isolation's own. Its path is short: sockets are in it, and the kernel takes 107 bytes of a path.
    pub state_dir: PathBuf,
    /// gVisor's program; see [`find`].
    pub runsc: PathBuf,
    /// The program that becomes the relay inside; must call [`crate::is_relay`] and [`crate::relay_main`] first of all. It
    /// sees the machine's `/usr`, so it may be linked to its libraries.
    pub relay: PathBuf,
}

/// Why the isolation did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `runsc` is not there.
    #[error(
        "runsc is not installed: no folder of PATH has it; install gVisor, or choose the isolation \"process\""
    )]
    Missing,
    /// The folder cannot be used.
    #[error("the folder {path} cannot be used: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where `runsc` is, as a shell would find it.
///
/// # Errors
/// No folder of `path` has one.
pub fn find(path: &str) -> Result<PathBuf, Error> {
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| PathBuf::from(folder).join("runsc"))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
        .ok_or(Error::Missing)
}
