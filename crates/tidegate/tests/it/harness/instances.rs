//! Processes, as the kernel tells of them.

use std::fs;

/// Process ids, in the order of the kernel's own list, whose environment holds the given variable.
fn with_variable(variable: &str) -> Vec<i32> {
    let wanted = variable.as_bytes();
    pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|text| text.split(|&b| b == 0).any(|pair| pair == wanted))
        })
        .collect()
}

/// Processes of the instances of a function that is given a variable `TEST_TAG`, the sandbox's init among them or not.
pub(crate) fn instance_pids(tag: &str) -> Vec<i32> {
    with_variable(&format!("TEST_TAG={tag}"))
}

/// The process and all its descendants that are alive.
pub(crate) fn processes_of(root: i32) -> Vec<i32> {
    let all: Vec<(i32, i32)> = pids().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let above = found[at];
        found.extend(all.iter().filter(|(_, p)| *p == above).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent; none for a process that is gone.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so the fields are counted from its last bracket: state, parent.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}
