//! Folders of work, each of which goes with a value.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tries of removing what a stage leaves, and the time between two: longer together than the isolation takes to end a job
/// that was given up, which writes until then.
const REMOVALS: u32 = 100;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(250);

/// A folder that only the server can enter, on the disk that builds use, and that goes with this value. What a killed server
/// leaves goes at the next start.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        Ok(Self(tempfile::tempdir_in(parent)?.keep()))
    }

    /// A place in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Removes it, and returns when it is gone.
    pub async fn remove(mut self) {
        let folder = std::mem::take(&mut self.0);
        joined(tokio::task::spawn_blocking(move || remove(&folder)).await);
    }
}

impl Drop for Scratch {
    /// For work that was given up: its job still ends, and there may be a hundred thousand files.
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.0);
        if folder.as_os_str().is_empty() {
            return;
        }
        // Without a runtime the server is ending, and the next start removes it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || remove(&folder));
        }
    }
}

/// Removes a folder that somebody may still write into, for a moment. Blocks.
fn remove(folder: &Path) {
    for left in (0..REMOVALS).rev() {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                if left == 0 {
                    tracing::warn!(folder = %folder.display(), %error, "a build's folder could not be removed");
                    return;
                }
                std::thread::sleep(BETWEEN_REMOVALS);
            }
            _ => return,
        }
    }
}

/// What a thread for blocking gave, or its panic.
pub(crate) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
