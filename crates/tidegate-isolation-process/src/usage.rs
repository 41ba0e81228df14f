//! What a sandbox has used.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use tidegate_instance::Usage;

use crate::cgroup;

/// Reads the accounts of the control groups; where there are none, those of the processes that can be found: the main
/// one and the init's children. `None` when the sandbox is gone.
pub(crate) fn read(
    groups: &[PathBuf],
    init: BorrowedFd<'_>,
    main: Option<BorrowedFd<'_>>,
) -> Option<Usage> {
    let reading = cgroup::read(groups);
    let by_process = || {
        let init = number(init)?;
        let main = main.and_then(number);
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
        let pids = children
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
            .chain(main);
        Some(
            pids.filter_map(process)
                .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        )
    };
    let cpu_us = match reading.cpu_us {
        Some(cpu) => cpu,
        None => by_process()?.0,
    };
    let memory = match reading.memory {
        Some(memory) => memory,
        None => by_process()?.1,
    };
    Some(Usage {
        cpu_us,
        memory,
        memory_peak: reading.memory_peak.unwrap_or(memory),
    })
}

/// Bytes of memory of all the processes in a sandbox, each shared page counted once in all. Costs a walk over every
/// process's pages, so it is asked for only when cheaper means cannot tell.
pub(crate) fn proportional(init: BorrowedFd<'_>, main: Option<BorrowedFd<'_>>) -> u64 {
    processes(init, main).into_iter().filter_map(share).sum()
}

/// The numbers of all the processes in a sandbox but its init, as far as they are found.
pub(crate) fn processes(init: BorrowedFd<'_>, main: Option<BorrowedFd<'_>>) -> Vec<i32> {
    let mut look: Vec<i32> = number(init).into_iter().flat_map(children).collect();
    look.extend(main.and_then(number));
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::new();
    while let Some(pid) = look.pop() {
        // A main process that lost its zygote can be found both ways.
        if seen.len() < MAX_LOOK && seen.insert(pid) {
            found.push(pid);
            look.extend(children(pid));
        }
    }
    found
}

/// Most processes looked at; far above any limit of processes in use.
const MAX_LOOK: usize = 16 * 1024;

fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            let pids = list.split_whitespace().filter_map(|p| p.parse().ok());
            pids.collect::<Vec<i32>>()
        })
        .collect()
}

fn share(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let of = |name: &str| {
        let line = rollup.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    // Mapped programs are the machine's, not the function's; files in memory are counted elsewhere.
    Some(of("Pss_Anon:")? * 1024)
}

/// The process's number as we count, which a launcher in a pid namespace of its own does not know.
fn number(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|&pid| pid > 0)
}

/// Processor time in microseconds and resident memory in bytes of one process and of the children it has waited for.
fn process(pid: i32) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(&stat)
}

/// Kernel ticks: 100 a second on every architecture, as user space is told.
pub(crate) const TICK_US: u64 = 10_000;

fn parse(stat: &str) -> Option<(u64, u64)> {
    // The name in parentheses may hold anything, so fields are counted after its end; the first is the state.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    let page = crate::sys::page_size();
    Some((ticks * TICK_US, number(21)? * page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let stat =
            "42 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 7 3 2 1 20 0 1 0 100 1000000 25 184467";
        let page = crate::sys::page_size();
        assert_eq!(parse(stat), Some((130_000, 25 * page)));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn our_own_process_has_used_something() {
        let me = rustix::process::getpid();
        let pidfd = rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty()).unwrap();
        let pid = number(std::os::fd::AsFd::as_fd(&pidfd)).unwrap();
        assert_eq!(pid, me.as_raw_nonzero().get());
        assert!(process(pid).unwrap().1 > 0);
    }
}
