//! The two accounts of a group that are read at the end of calls, through descriptors that are kept: opening a file costs
//! several times what reading it does.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Longest text of one account in bytes: a number, or the few lines of `cpu.stat`.
const MAX_TEXT: usize = 1024;

/// Open accounts of one group.
#[derive(Debug)]
pub(crate) struct Accounts {
    cpu: Cpu,
    /// Absent where the kernel does not keep it.
    peak: Option<File>,
}

#[derive(Debug)]
enum Cpu {
    /// A number of nanoseconds.
    V1(File),
    /// A line of several, in microseconds.
    V2(File),
}

impl Accounts {
    /// `None` where processor time is not accounted.
    pub(crate) fn open(dirs: &[PathBuf]) -> Option<Self> {
        let first = |name: &str| dirs.iter().find_map(|dir| File::open(dir.join(name)).ok());
        // A version 2 tree beside version 1 controllers has a `cpu.stat` without them, and the time in it all the same.
        let cpu = first("cpuacct.usage")
            .map(Cpu::V1)
            .or_else(|| dirs.iter().find_map(|dir| timed(dir)).map(Cpu::V2))?;
        let peak = first("memory.max_usage_in_bytes").or_else(|| first("memory.peak"));
        Some(Self { cpu, peak })
    }

    /// Processor time in microseconds; `None` where the group is gone.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        match &self.cpu {
            Cpu::V1(file) => Some(with(file, number)?? / 1000),
            Cpu::V2(file) => with(file, used)?,
        }
    }

    /// Highest memory so far in bytes; `None` where the group is gone, or nobody keeps it.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        with(self.peak.as_ref()?, number)?
    }
}

/// The file with processor time of version 2; version 1 has one of that name that does not tell.
fn timed(dir: &Path) -> Option<File> {
    let file = File::open(dir.join("cpu.stat")).ok()?;
    with(&file, used)??;
    Some(file)
}

/// What the file says now, in one system call and without an allocation.
fn with<T>(file: &File, read: impl FnOnce(&str) -> T) -> Option<T> {
    let mut text = [0; MAX_TEXT];
    let len = file.read_at(&mut text, 0).ok()?;
    Some(read(std::str::from_utf8(&text[..len]).ok()?))
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn used(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| number(line.strip_prefix("usage_usec ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_version_is_read_and_read_again() {
        let one = tempfile::tempdir().unwrap();
        let two = tempfile::tempdir().unwrap();
        let write = |dir: &Path, name: &str, text: &str| std::fs::write(dir.join(name), text);
        write(one.path(), "cpuacct.usage", "5000000\n").unwrap();
        write(one.path(), "cpu.stat", "nr_periods 0\n").unwrap();
        write(two.path(), "memory.max_usage_in_bytes", "4096\n").unwrap();
        let dirs = [two.path().to_owned(), one.path().to_owned()];
        let accounts = Accounts::open(&dirs).unwrap();
        let read = |accounts: &Accounts| (accounts.cpu_us(), accounts.memory_peak());
        assert_eq!(read(&accounts), (Some(5000), Some(4096)));
        write(one.path(), "cpuacct.usage", "6000000\n").unwrap();
        assert_eq!(read(&accounts), (Some(6000), Some(4096)));

        let unified = tempfile::tempdir().unwrap();
        let stat = "usage_usec 77\nuser_usec 70\nsystem_usec 7\n";
        write(unified.path(), "cpu.stat", stat).unwrap();
        write(unified.path(), "memory.peak", "8192\n").unwrap();
        let accounts = Accounts::open(&[unified.path().to_owned()]).unwrap();
        assert_eq!(read(&accounts), (Some(77), Some(8192)));

        assert!(Accounts::open(&[two.path().to_owned()]).is_none());
    }
}
