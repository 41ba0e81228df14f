//! Processes, as the kernel tells of them.

use std::fs;
use std::path::Path;

/// Processes that were executed with a variable `TEST_TAG` of this value.
pub(crate) fn tagged(tag: &str) -> Vec<i32> {
    let wanted = format!("TEST_TAG={tag}");
    pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
                text.split(|&b| b == 0)
                    .any(|pair| pair == wanted.as_bytes())
            })
        })
        .collect()
}

/// Processes below a server that run a function's code: they work in its folder.
pub(crate) fn code_of(server: i32) -> Vec<i32> {
    let mut found = processes_of(server);
    found.retain(|pid| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == Path::new("/function"))
    });
    found
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

/// Whether it is alive.
pub(crate) fn is_alive(pid: i32) -> bool {
    parent(pid).is_some()
}

/// Control groups that a server with this process id has made and not removed.
pub(crate) fn groups_of(server: i32) -> Vec<std::path::PathBuf> {
    fn look(folder: &Path, prefix: &str, depth: u32, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if folder.ends_with("tidegate") && name.starts_with(prefix) {
                found.push(path);
            } else if depth > 0 {
                look(&path, prefix, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    look(
        Path::new("/sys/fs/cgroup"),
        &format!("{server}-"),
        8,
        &mut found,
    );
    found
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent; none for a process that has ended.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so the fields are counted from its last bracket: state, parent.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}
