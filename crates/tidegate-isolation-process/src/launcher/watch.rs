//! Memory in use in a sandbox, for machines where no control group may be made.

use std::fs;

/// How often the watchdog looks, in milliseconds. What grows by a gigabyte a second gets 50 MiB over its limit.
pub(super) const EVERY_MS: i64 = 50;

/// What processes and files in memory use, in bytes. From inside it cannot be told which pages forked processes share, so
/// there are two bounds.
pub(super) struct InUse {
    /// Files in memory.
    pub(super) files: u64,
    /// At least this much: the largest process and the files.
    pub(super) least: u64,
    /// At most this much: all processes, as if they shared nothing, and the files.
    pub(super) most: u64,
}

/// Looks at all processes but the init.
pub(super) fn look() -> InUse {
    let files = used("/tmp") + used("/dev/shm");
    let (mut largest, mut sum) = (0, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name == "1" || !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        if let Ok(status) = fs::read_to_string(entry.path().join("status")) {
            let one = resident(&status);
            largest = one.max(largest);
            sum += one;
        }
    }
    InUse {
        files,
        least: largest + files,
        most: sum + files,
    }
}

fn resident(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| {
            let rest = line
                .strip_prefix("RssAnon:")
                .or_else(|| line.strip_prefix("RssShmem:"))?;
            rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .sum::<u64>()
        * 1024
}

fn used(folder: &str) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |s| (s.f_blocks - s.f_bfree) * s.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_and_shared_memory_count_and_mapped_files_do_not() {
        let status = "Name:\tx\nVmRSS:\t  9000 kB\nRssAnon:\t    1024 kB\nRssFile:\t  7000 kB\nRssShmem:\t       8 kB\n";
        assert_eq!(resident(status), 1032 * 1024);
        assert_eq!(resident("Name:\tkthread\n"), 0);
    }
}
