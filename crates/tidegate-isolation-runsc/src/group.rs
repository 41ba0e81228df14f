//! The control groups of containers, where the server is root: `runsc` makes them, and leaves behind what it was killed
//! over; here they are counted, and removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Holds one group a container.
const PARENT: &str = "tidegate-runsc";

/// How often, and after how long, it is tried again to remove a group that the kernel still holds.
const ATTEMPTS: u32 = 50;
const AGAIN: Duration = Duration::from_millis(20);

/// One container's group, in every hierarchy that has it.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Where hierarchies are mounted.
    root: PathBuf,
    name: String,
}

impl Group {
    /// The name says whose it is, so that what a dead server left can be told from what a living one uses.
    pub(crate) fn new(root: &Path, server: u32, number: u64) -> Self {
        Self {
            root: root.to_owned(),
            name: format!("tidegate-{server}-{number}"),
        }
    }

    /// As a bundle names it.
    pub(crate) fn path(&self) -> String {
        format!("/{PARENT}/{}", self.name)
    }

    /// Processes that the kernel ended for want of memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        let fields = ["memory.oom_control", "memory.events"];
        self.field(&fields, "oom_kill ").unwrap_or_default()
    }

    /// Processor time in microseconds, that of gVisor's kernel included.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        let nanos = self
            .files("cpuacct.usage")
            .find_map(|t| t.trim().parse().ok());
        nanos.map_or_else(
            || self.field(&["cpu.stat"], "usage_usec "),
            |nanos: u64| Some(nanos / 1000),
        )
    }

    /// Removes it. Waits for the kernel, which holds it until its last process is gone.
    pub(crate) fn remove(&self) {
        for _ in 0..ATTEMPTS {
            let left: Vec<_> = parents(&self.root)
                .map(|parent| parent.join(&self.name))
                .filter(|folder| fs::remove_dir(folder).is_err() && folder.exists())
                .collect();
            if left.is_empty() {
                return;
            }
            std::thread::sleep(AGAIN);
        }
        tracing::warn!(group = self.name, "a control group is not removed");
    }

    fn files<'a>(&'a self, file: &'a str) -> impl Iterator<Item = String> + 'a {
        parents(&self.root)
            .filter_map(move |parent| fs::read_to_string(parent.join(&self.name).join(file)).ok())
    }

    fn field(&self, files: &[&str], name: &str) -> Option<u64> {
        files.iter().find_map(|file| {
            self.files(file).find_map(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse().ok()
            })
        })
    }
}

/// Removes what servers that are no more left, and the folders of all groups where none is in use.
pub(crate) fn tidy(root: &Path) {
    for parent in parents(root) {
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let server = name
                .to_str()
                .and_then(|n| n.split('-').nth(1)?.parse().ok());
            let is_left =
                server.is_some_and(|pid: u32| !Path::new("/proc").join(pid.to_string()).exists());
            if is_left {
                // Fails where a process is in it still, and there is nobody to ask about it.
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(parent);
    }
}

/// The folder in each hierarchy: below a folder each in version 1, at once in version 2.
fn parents(root: &Path) -> impl Iterator<Item = PathBuf> {
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    hierarchies
        .map(|entry| entry.path())
        .chain([root.to_owned()])
        .map(|hierarchy| hierarchy.join(PARENT))
        .filter(|parent| parent.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn both_versions_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let old = Group::new(root.path(), 1, 7);
        assert_eq!((old.memory_kills(), old.cpu_us()), (0, None));
        let at = |path: &str| root.path().join(path);
        put(
            &at("memory/tidegate-runsc/tidegate-1-7/memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        );
        put(
            &at("cpuacct/tidegate-runsc/tidegate-1-7/cpuacct.usage"),
            "5000000\n",
        );
        assert_eq!((old.memory_kills(), old.cpu_us()), (2, Some(5000)));
        let new = Group::new(root.path(), 1, 8);
        put(
            &at("tidegate-runsc/tidegate-1-8/memory.events"),
            "oom 1\noom_kill 1\n",
        );
        put(
            &at("tidegate-runsc/tidegate-1-8/cpu.stat"),
            "usage_usec 42\nuser_usec 40\n",
        );
        assert_eq!((new.memory_kills(), new.cpu_us()), (1, Some(42)));
    }

    #[test]
    fn what_dead_servers_left_goes_and_what_is_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let me = std::process::id();
        for hierarchy in ["memory", "pids"] {
            let parent = root.path().join(hierarchy).join(PARENT);
            fs::create_dir_all(parent.join("tidegate-4194305-1")).unwrap();
            fs::create_dir(parent.join(format!("tidegate-{me}-1"))).unwrap();
        }
        tidy(root.path());
        let mut left: Vec<_> = fs::read_dir(root.path().join("pids").join(PARENT))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [format!("tidegate-{me}-1")]);
        Group::new(root.path(), me, 1).remove();
        tidy(root.path());
        assert!(!root.path().join("pids").join(PARENT).exists());
        assert!(!root.path().join("memory").join(PARENT).exists());
    }
}
