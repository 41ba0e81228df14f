//! What the kernel tells about processes and the machine.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Unit of the times in `/proc/PID/stat`, which the kernel's interface fixes at a hundredth of a second.
const TICK_US: u64 = 10_000;

/// User and system time that the process itself has used, in microseconds; its children's are not in it.
pub(super) fn cpu_us(pid: u32) -> Result<u64> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).context("the measured process is gone")?;
    ticks(&stat)
        .map(|ticks| ticks * TICK_US)
        .context("/proc/PID/stat has another shape")
}

fn ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets, which may hold anything; the rest begins behind the last.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory of the process in bytes, shared pages counted by its part in them.
pub(super) fn pss(pid: u32) -> Result<u64> {
    let name = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&name).with_context(|| format!("cannot read {name}"))?;
    kibibytes(&text, "Pss:")
        .map(|kib| kib * 1024)
        .context("no Pss in smaps_rollup")
}

/// Resident memory of the process in bytes, cheaper to ask for than [`pss`].
pub(super) fn rss(pid: u32) -> Result<u64> {
    let name = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&name).with_context(|| format!("cannot read {name}"))?;
    kibibytes(&text, "VmRSS:")
        .map(|kib| kib * 1024)
        .context("no VmRSS in status")
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// All processes below `pid`, itself excluded.
pub(super) fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // One that ended meanwhile is nobody's child.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

/// What the figures were taken on.
pub(super) fn machine() -> Value {
    let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    json!({
        "processor": model,
        "cores": cores,
        "kernel": kernel,
        "load_before": load,
        "text": format!("{cores} cores of {model}, Linux {kernel}, load before {load}"),
    })
}

#[cfg(test)]
mod tests {
    use super::{cpu_us, descendants, kibibytes, pss, rss, ticks};
    use std::process::{Command, Stdio};

    #[test]
    fn times_are_behind_any_name() {
        let stat = "7 (a ) R (b) S 1 7 7 0 -1 4194304 100 0 0 0 12 34 5 6 20 0 1 0 100";
        assert_eq!(ticks(stat), Some(46));
    }

    #[test]
    fn memory_is_read() {
        assert_eq!(
            kibibytes("Rss:  90 kB\nPss:     1584 kB\nPss_Anon: 3 kB\n", "Pss:"),
            Some(1584)
        );
    }

    #[test]
    fn own_figures_are_there() {
        let own = std::process::id();
        cpu_us(own).unwrap();
        assert!(pss(own).unwrap() > 100 * 1024);
        assert!(rss(own).unwrap() > 100 * 1024);
        let mut child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(descendants(own).contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
