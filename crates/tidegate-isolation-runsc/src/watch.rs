//! What a container uses. Of memory: all that is in it, files in memory included, is one nameless file of gVisor's kernel.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::group::Group;

/// How often it is looked at. What grows by a gigabyte a second gets 50 MiB over its limit, which the control group, where
/// there is one, has room for.
pub(crate) const EVERY: Duration = Duration::from_millis(50);

/// Most processes that are looked at: far above what a function may have.
const MAX_PROCESSES: usize = 4096;

/// Kernel ticks: 100 a second on every architecture, as user space is told.
const TICK_US: u64 = 10_000;

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

/// Where a container's accounts are.
pub(crate) struct Accounts {
    pub(crate) group: Option<Group>,
    /// Holds the number of gVisor's kernel, once it is started.
    pub(crate) pid_file: PathBuf,
}

impl Accounts {
    /// The process number of gVisor's kernel.
    pub(crate) fn kernel(&self) -> Option<u32> {
        fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()
    }

    /// Processor time in microseconds, that of gVisor's kernel included: of the group, or else of the processes that are
    /// there.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        match &self.group {
            Some(group) => group.cpu_us(),
            None => Some(
                processes(self.kernel()?)
                    .into_iter()
                    .filter_map(spent)
                    .sum(),
            ),
        }
    }
}

/// A process and all below it, as far as they are found.
fn processes(first: u32) -> Vec<u32> {
    let mut found = vec![first];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied().filter(|_| at < MAX_PROCESSES) {
        at += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|p| p.parse::<u32>().ok()),
            );
        }
    }
    found
}

/// Processor time in microseconds of a process and of the children that it has waited for.
fn spent(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted after its end.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|f| f.parse::<u64>().ok());
    Some(ticks.sum::<Option<u64>>()? * TICK_US)
}

fn find(kernel: u32) -> Option<PathBuf> {
    let open = fs::read_dir(format!("/proc/{kernel}/fd")).ok()?;
    open.flatten()
        .map(|entry| entry.path())
        .find(|path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with(NAME)))
}
