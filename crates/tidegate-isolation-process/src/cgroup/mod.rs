//! Control groups: limits that the kernel keeps, and accounts of what was used.
//!
//! Version 1, version 2 and the hybrid layout (version 1 controllers beside a version 2 tree) are all in use, so each of
//! the four controllers is looked up on its own: a version 2 tree that offers it wins, else its version 1 hierarchy. The
//! layout below our own group is `tidegate/<server pid>-<random>/<number>`, so that what a killed server left behind can
//! be told from what a living neighbour uses.
//!
//! Everything takes the root of the file system as an argument. The machines this is tested on every day have version 1
//! controllers only; version 2 is written against the kernel's documents and tested against a tree of plain files.

mod counters;
mod discover;
mod group;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use counters::Accounts;
pub(crate) use discover::Found;
pub(crate) use group::{Group, read};

/// What a group is held to.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct GroupLimits {
    /// Bytes.
    pub(crate) memory: u64,
    /// Thousandths of a core; 0 is no limit.
    pub(crate) cpu_milli: u32,
    /// Processes and threads, the init's own one included.
    pub(crate) pids: u32,
}

/// What can be limited or accounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    /// Version 1 only: processor time used. Version 2 keeps it in every group.
    CpuAccount,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::CpuAccount, Self::Pids];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::CpuAccount => "cpuacct",
            Self::Pids => "pids",
        }
    }
}

/// Which of the two interfaces a folder speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A folder and what it controls.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) version: Version,
    pub(crate) controllers: Vec<Controller>,
}

/// The groups of one server.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tree {
    /// The server's folder in each hierarchy.
    places: Vec<Place>,
    next: u64,
}

impl Tree {
    /// Makes the server's folders below what was found, after removing what dead servers left. Says for each controller
    /// that cannot be had why.
    pub(crate) fn make(
        found: &Found,
        root: &Path,
        server_pid: u32,
        ours: &[u32],
    ) -> (Self, Vec<(Controller, String)>) {
        let mut tree = Self::default();
        let mut refused: Vec<_> = found
            .absent
            .iter()
            .map(|&c| (c, "no control group hierarchy offers it".to_owned()))
            .collect();
        let run = format!("{server_pid}-{:08x}", random());
        for place in &found.places {
            let base = place.dir.join("tidegate");
            let made = prepare(place, &base, ours).and_then(|()| {
                remove_leftovers(root, &base);
                let dir = base.join(&run);
                fs::create_dir(&dir)?;
                if place.version == Version::V2 {
                    enable(&dir, &place.controllers)?;
                }
                Ok(dir)
            });
            match made {
                Ok(dir) => tree.places.push(Place {
                    dir,
                    ..place.clone()
                }),
                Err(error) => refused.extend(
                    place
                        .controllers
                        .iter()
                        .map(|&c| (c, format!("{}: {error}", base.display()))),
                ),
            }
        }
        (tree, refused)
    }

    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.places
            .iter()
            .any(|p| p.controllers.contains(&controller))
    }

    /// Whether processor time is accounted.
    pub(crate) fn accounts_cpu(&self) -> bool {
        self.has(Controller::CpuAccount) || self.places.iter().any(|p| p.version == Version::V2)
    }

    /// An empty group without limits.
    pub(crate) fn group(&mut self) -> io::Result<Group> {
        let number = self.next;
        self.next += 1;
        Group::make(&self.places, number)
    }

    /// Removes the server's folders; the groups in them are gone by now.
    pub(crate) fn remove(&self) {
        for place in &self.places {
            let _ = fs::remove_dir(&place.dir);
            // Fails while another server lives there, as it should.
            if let Some(base) = place.dir.parent() {
                let _ = fs::remove_dir(base);
            }
        }
    }
}

/// Makes `base`, delegating the controllers to it where the version 2 rules ask for that: a group that hands controllers
/// on may hold no process, so ours move to a leaf first, if no stranger is there.
fn prepare(place: &Place, base: &Path, ours: &[u32]) -> io::Result<()> {
    if place.version == Version::V2 {
        let enabled = fs::read_to_string(place.dir.join("cgroup.subtree_control"))?;
        let missing = place
            .controllers
            .iter()
            .any(|c| !enabled.split_whitespace().any(|e| e == c.name()));
        if missing {
            move_to_leaf(&place.dir, ours)?;
            enable(&place.dir, &place.controllers)?;
        }
    }
    match fs::create_dir(base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if place.version == Version::V2 {
        enable(base, &place.controllers)?;
    }
    Ok(())
}

fn move_to_leaf(dir: &Path, ours: &[u32]) -> io::Result<()> {
    let present = pids(dir)?;
    if present.is_empty() {
        return Ok(());
    }
    if let Some(stranger) = present.iter().find(|pid| !ours.contains(pid)) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} holds process {stranger}, which is not ours to move; start the server in a group of its own, as \
                 `systemd-run --user --scope -p Delegate=yes` does",
                dir.display()
            ),
        ));
    }
    let leaf = dir.join("tidegate-server");
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for pid in present {
        fs::write(leaf.join("cgroup.procs"), pid.to_string())?;
    }
    Ok(())
}

fn enable(dir: &Path, controllers: &[Controller]) -> io::Result<()> {
    let wanted: Vec<_> = controllers
        .iter()
        .map(|c| format!("+{}", c.name()))
        .collect();
    fs::write(dir.join("cgroup.subtree_control"), wanted.join(" "))
}

fn pids(dir: &Path) -> io::Result<Vec<u32>> {
    Ok(fs::read_to_string(dir.join("cgroup.procs"))?
        .lines()
        .filter_map(|l| l.trim().parse().ok())
        .collect())
}

/// Ends and removes what servers that no longer exist left. Best effort: what cannot be removed does no harm.
fn remove_leftovers(root: &Path, base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|n| n.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok())
        else {
            continue;
        };
        if root.join(format!("proc/{pid}")).exists() {
            continue;
        }
        let Ok(groups) = fs::read_dir(entry.path()) else {
            continue;
        };
        for group in groups.flatten().filter(|g| g.path().is_dir()) {
            for pid in pids(&group.path()).unwrap_or_default() {
                if let Ok(pid) = i32::try_from(pid)
                    && pid > 1
                {
                    crate::sys::kill(pid, libc::SIGKILL);
                }
            }
            let _ = fs::remove_dir(group.path());
        }
        let _ = fs::remove_dir(entry.path());
    }
}

fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hash keys are random for each process.
    let hash = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
