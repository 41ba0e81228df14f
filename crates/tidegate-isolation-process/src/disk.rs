//! What a job's folders hold, looked at while it runs.
//!
//! There is no quota that every file system has, so a watcher counts. Walking a tree of a hundred thousand files takes a
//! while; asking the file system how much it has free takes a microsecond. So the cheap question is asked often, and the
//! walk is made when the answer says that it could matter, or now and then in any case.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::walk::{MAX_DEPTH, MAX_ENTRIES, Stop, walk};

/// How often the cheap question is asked. A disk that takes a gigabyte a second gets 50 MiB on in that time.
pub(crate) const EVERY: Duration = Duration::from_millis(50);

/// Time between two walks while nothing seems to grow; at least [`SELDOM`] times as long as the last one took.
const REST: Duration = Duration::from_millis(500);
const SELDOM: u32 = 16;

/// While something grows, a walk may take one part of the time in so many.
const OFTEN: u32 = 4;

/// Least growth of the file system's use that is worth a walk, in bytes.
const WORTH: u64 = 8 << 20;

/// Bytes that the file system must have left: a job never takes the machine's last ones, however it hid them.
const FLOOR: u64 = 64 << 20;

/// Most files with several names that are told apart; beyond that each name counts.
const MAX_LINKED: usize = 100_000;

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMuch {
    Bytes { limit: u64 },
    Entries,
    Depth,
    MachineFull,
}

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes { limit } => write!(
                f,
                "its folders hold more than the {} MiB that they may",
                limit >> 20
            ),
            Self::Entries => write!(f, "its folders hold more than {MAX_ENTRIES} files"),
            Self::Depth => write!(f, "its folders are nested deeper than {MAX_DEPTH}"),
            Self::MachineFull => write!(
                f,
                "the machine's disk has less than {} MiB left",
                FLOOR >> 20
            ),
        }
    }
}

/// Bytes in all these folders: a file's length or what it takes of the disk, whichever is more. Blocks.
pub(crate) fn measure(folders: &[PathBuf], limit: u64) -> Result<u64, TooMuch> {
    let (mut bytes, mut entries) = (0_u64, 0);
    let mut linked = HashSet::new();
    for folder in folders {
        let walked = walk(folder, &mut entries, &mut |entry| {
            let stat = entry.stat;
            let counted = stat.st_nlink > 1
                && entry.is_file()
                && linked.len() < MAX_LINKED
                && !linked.insert((stat.st_dev, stat.st_ino));
            if !counted {
                let length = if entry.is_file() { stat.st_size } else { 0 };
                let most = length.max(stat.st_blocks.saturating_mul(512));
                bytes = bytes.saturating_add(u64::try_from(most).unwrap_or_default());
            }
            bytes <= limit
        });
        match walked {
            Err(Stop::Enough) => return Err(TooMuch::Bytes { limit }),
            Err(Stop::Entries) => return Err(TooMuch::Entries),
            Err(Stop::Depth) => return Err(TooMuch::Depth),
            // A folder that the job may not take away is there; should it be gone, it holds nothing.
            Ok(()) | Err(Stop::Io(_)) => {}
        }
    }
    Ok(bytes)
}

/// Bytes in files that have no name any more and that these processes hold open, on the file systems of the folders.
pub(crate) fn nameless(processes: &[i32], folders: &[PathBuf]) -> u64 {
    let devices: HashSet<u64> = folders
        .iter()
        .filter_map(|f| Some(fs::metadata(f).ok()?.dev()))
        .collect();
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    for pid in processes {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        for fd in open.into_iter().flatten().flatten() {
            let Ok(meta) = fs::metadata(fd.path()) else {
                continue;
            };
            let hidden = meta.is_file() && meta.nlink() == 0 && devices.contains(&meta.dev());
            if hidden && seen.insert((meta.dev(), meta.ino())) {
                bytes = bytes.saturating_add(meta.blocks().saturating_mul(512));
            }
        }
    }
    bytes
}

/// When to walk.
pub(crate) struct Watch {
    folders: Vec<PathBuf>,
    limit: u64,
    /// What the last walk found, in bytes.
    held: u64,
    /// What the file systems had in use then, in bytes.
    used: u64,
    walked: Instant,
    took: Duration,
}

impl Watch {
    pub(crate) fn new(folders: Vec<PathBuf>, limit: u64) -> Self {
        Self {
            used: used(&folders).0,
            folders,
            limit,
            held: 0,
            walked: Instant::now(),
            took: Duration::ZERO,
        }
    }

    /// Asks the cheap question. `Ok(true)`: it is time to walk.
    pub(crate) fn is_due(&self) -> Result<bool, TooMuch> {
        let (used, left) = used(&self.folders);
        if left < FLOOR {
            return Err(TooMuch::MachineFull);
        }
        let since = self.walked.elapsed();
        let room = self.limit.saturating_sub(self.held);
        let grown = used.saturating_sub(self.used) >= (room / 2).max(WORTH);
        let rest = if grown {
            self.took * OFTEN
        } else {
            REST.max(self.took * SELDOM)
        };
        Ok(since >= rest)
    }

    /// Walks. Blocks. `processes` are looked at for files that they hold without a name.
    pub(crate) fn walk(&mut self, processes: &[i32]) -> Result<(), TooMuch> {
        let began = Instant::now();
        self.used = used(&self.folders).0;
        let named = measure(&self.folders, self.limit)?;
        self.held = named.saturating_add(nameless(processes, &self.folders));
        if self.held > self.limit {
            return Err(TooMuch::Bytes { limit: self.limit });
        }
        self.walked = Instant::now();
        self.took = began.elapsed();
        Ok(())
    }
}

/// Bytes in use on the folders' file systems together, each counted once, and the least that one of them has left.
fn used(folders: &[PathBuf]) -> (u64, u64) {
    let (mut used, mut left) = (0_u64, u64::MAX);
    let mut seen = HashSet::new();
    for folder in folders {
        let (Ok(meta), Ok(stat)) = (fs::metadata(folder), statvfs(folder)) else {
            continue;
        };
        if seen.insert(meta.dev()) && stat.f_blocks > 0 {
            used =
                used.saturating_add((stat.f_blocks - stat.f_bfree).saturating_mul(stat.f_frsize));
            left = left.min(stat.f_bavail.saturating_mul(stat.f_frsize));
        }
    }
    (used, left)
}

fn statvfs(path: &Path) -> std::io::Result<rustix::fs::StatVfs> {
    Ok(rustix::fs::statvfs(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_count_once_and_the_limit_ends_the_walk() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let folders = [folder.path().to_owned()];
        let empty = measure(&folders, u64::MAX).unwrap();
        fs::write(at("one"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(at("one"), at("two")).unwrap();
        let held = measure(&folders, u64::MAX).unwrap() - empty;
        assert!((1 << 20..2 << 20).contains(&held), "{held}");
        // A hole is as long as it says it is: that is what reading it gives.
        fs::File::create(at("hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        assert_eq!(
            measure(&folders, 100 << 20),
            Err(TooMuch::Bytes { limit: 100 << 20 })
        );
    }

    #[test]
    fn a_file_without_a_name_is_found_while_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let me = [rustix::process::getpid().as_raw_nonzero().get()];
        let path = folder.path().join("x");
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        let open = fs::File::open(&path).unwrap();
        open.sync_all().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(nameless(&me, &folders) >= 1 << 20);
        let mut watch = Watch::new(folders.to_vec(), 512 << 10);
        assert_eq!(watch.walk(&me), Err(TooMuch::Bytes { limit: 512 << 10 }));
        drop(open);
        assert_eq!(watch.walk(&me), Ok(()));
    }
}
