//! Memory in use in a sandbox, for machines where no control group may be made.

use std::fs;

/// How often the watchdog looks, in milliseconds. What grows by a gigabyte a second gets 50 MiB over its limit.
pub(super) const EVERY_MS: i64 = 50;

/// Bytes in use by all processes but the init, and by files in memory. Pages that a language host shares with its zygote
/// count in full: better too early than too late.
pub(super) fn memory_in_use() -> u64 {
    let processes: u64 = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name != "1" && name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok())
        .map(|status| resident(&status))
        .sum();
    processes + used("/tmp") + used("/dev/shm")
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
