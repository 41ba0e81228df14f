//! Folders for one run, removed when it ends.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A temporary folder that only its owner can enter.
pub(crate) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    pub(crate) fn new(what: &str) -> Result<Self> {
        let base = std::env::temp_dir();
        for attempt in 0..100 {
            let path = base.join(format!("tidegate-{what}-{}-{attempt}", std::process::id()));
            // Made, not opened: in a folder that everybody may write to, one that exists could be a trap.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, keep: false }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context(format!("cannot make {}", path.display())),
            }
        }
        anyhow::bail!(
            "a hundred folders tidegate-{what}-… are left in {}",
            base.display()
        );
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder behind.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}
