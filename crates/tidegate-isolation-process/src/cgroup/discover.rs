//! Which controllers the machine has, and where our own groups are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Controller, Place, Version};

/// Where the controllers are, below our own group in each hierarchy.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) places: Vec<Place>,
    /// Controllers that no hierarchy offers.
    pub(crate) absent: Vec<Controller>,
}

/// A mounted hierarchy.
struct Mounted {
    root: String,
    at: PathBuf,
    /// Version 1: the controllers in it. Version 2: none here, they are in a file.
    controllers: Option<Vec<String>>,
}

impl Found {
    /// Reads `proc/self/mountinfo` and `proc/self/cgroup` below `root`; the folders named there are taken below `root` too.
    pub(crate) fn discover(root: &Path) -> io::Result<Self> {
        let mounts = mounted(&fs::read_to_string(root.join("proc/self/mountinfo"))?);
        let own = fs::read_to_string(root.join("proc/self/cgroup"))?;
        let mut found = Self::default();
        let mut have = Vec::new();

        if let (Some(mount), Some(path)) = (
            mounts.iter().find(|m| m.controllers.is_none()),
            own.lines().find_map(|l| l.strip_prefix("0::")),
        ) {
            let dir = below(root, mount, path);
            let offered = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            let controllers: Vec<_> = Controller::ALL
                .into_iter()
                .filter(|c| offered.split_whitespace().any(|o| o == c.name()))
                .collect();
            if !controllers.is_empty() {
                have.extend_from_slice(&controllers);
                if controllers.contains(&Controller::Cpu) {
                    have.push(Controller::CpuAccount);
                }
                found.places.push(Place {
                    dir,
                    version: Version::V2,
                    controllers,
                });
            }
        }
        for controller in Controller::ALL {
            if have.contains(&controller) {
                continue;
            }
            let named = |names: &str| names.split(',').any(|n| n == controller.name());
            let mount = mounts.iter().find(|m| {
                m.controllers
                    .as_ref()
                    .is_some_and(|c| c.iter().any(|n| n == controller.name()))
            });
            let path = own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let names = parts.next()?;
                named(names).then(|| parts.next())?
            });
            let (Some(mount), Some(path)) = (mount, path) else {
                found.absent.push(controller);
                continue;
            };
            let dir = below(root, mount, path);
            // Hierarchies that hold several controllers get one folder.
            match found.places.iter_mut().find(|p| p.dir == dir) {
                Some(place) => place.controllers.push(controller),
                None => found.places.push(Place {
                    dir,
                    version: Version::V1,
                    controllers: vec![controller],
                }),
            }
        }
        Ok(found)
    }
}

/// Our folder in this hierarchy. A container sees a mount whose root is its own group, so that root comes off the path.
fn below(root: &Path, mount: &Mounted, path: &str) -> PathBuf {
    let inside = path
        .strip_prefix(mount.root.trim_end_matches('/'))
        .unwrap_or(path);
    root.join(mount.at.strip_prefix("/").unwrap_or(&mount.at))
        .join(inside.trim_start_matches('/'))
}

fn mounted(mountinfo: &str) -> Vec<Mounted> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ').skip(3);
            let (root, at) = (before.next()?, before.next()?);
            let mut after = after.split(' ');
            let kind = after.next()?;
            let options = after.nth(1)?;
            let controllers = match kind {
                "cgroup2" => None,
                "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
                _ => return None,
            };
            Some(Mounted {
                root: root.to_owned(),
                at: PathBuf::from(at),
                controllers,
            })
        })
        .collect()
}
