//! How much memory a container uses: all that is in it, files in memory included, is one nameless file of gVisor's kernel.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// How often it is looked at. What grows by a gigabyte a second gets 50 MiB over its limit, which the control group, where
/// there is one, has room for.
pub(crate) const EVERY: Duration = Duration::from_millis(50);

/// What the file is called.
const NAME: &str = "/memfd:runsc-memory";

/// The file, once it is found.
#[derive(Default)]
pub(crate) struct Memory {
    file: Option<File>,
}

impl Memory {
    /// Bytes in use. `None` before the container is that far, and where its kernel cannot be looked at.
    pub(crate) fn used(&mut self, kernel: u32) -> Option<u64> {
        if self.file.is_none() {
            self.file = File::open(find(kernel)?).ok();
        }
        let blocks = self.file.as_ref()?.metadata().ok()?.blocks();
        Some(blocks.saturating_mul(512))
    }
}

fn find(kernel: u32) -> Option<PathBuf> {
    let open = fs::read_dir(format!("/proc/{kernel}/fd")).ok()?;
    open.flatten()
        .map(|entry| entry.path())
        .find(|path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with(NAME)))
}
