//! What of `/proc` a function does not see.
//!
//! Most of it is guarded by the kernel's own rights already: the files belong to a root that nobody in a sandbox is. That
//! is one wall, and it has had holes; besides, some files are open to everyone because a machine has one owner, and some
//! knobs belong to the namespaces of a sandbox, so that its own user may turn them. Hence a second wall: the knobs are
//! read-only, and what tells of the machine rather than of the sandbox is covered by something empty.
//!
//! The covers are binds of what the base root has in any case, an empty file and an empty folder, so that no file system is
//! made for them. They are mounted in the part of a start that is done ahead of time.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::mount_bind;

use super::enter::c_path;
use crate::sys;

/// Empty, in the base root and so read-only. Systems without an identity of their own have it so.
pub(super) const FILE: &str = "etc/machine-id";

/// Empty as well.
const FOLDER: &str = "sys";

/// Folders of `/proc` that are covered.
const FOLDERS: &[&str] = &[
    // Hardware, by what drives it.
    "acpi",
    "asound",
    "bus",
    "driver",
    "irq",
    "scsi",
    "tty",
    // File systems of the machine, by disk.
    "fs",
    // Trace points of the kernel's own messages.
    "dynamic_debug",
];

/// Files of `/proc` that are covered.
const FILES: &[&str] = &[
    // The machine's memory, and what lies where in it.
    "kcore",
    "kallsyms",
    "kpagecount",
    "kpageflags",
    "kpagecgroup",
    "iomem",
    "ioports",
    "vmallocinfo",
    "slabinfo",
    "pagetypeinfo",
    "modules",
    // Its keys, messages and orders.
    "keys",
    "key-users",
    "kmsg",
    "sysrq-trigger",
    "cmdline",
    "bootconfig",
    "config.gz",
    // What runs on it, by time and by name.
    "timer_list",
    "timer_stats",
    "sched_debug",
    "schedstat",
    "latency_stats",
    "interrupts",
    "softirqs",
    // Its disks.
    "diskstats",
    "partitions",
    "swaps",
    "mdstat",
];

/// The knobs.
const KNOBS: &str = "sys";

/// Covers what is there. `proc` is a fresh `/proc` in the base root.
pub(super) fn cover(proc: &Path) -> io::Result<()> {
    let root = proc.parent().unwrap_or(Path::new(""));
    for (names, with) in [(FOLDERS, FOLDER), (FILES, FILE)] {
        let with = root.join(with);
        for name in names {
            there(mount_bind(&with, proc.join(name)))?;
        }
    }
    let knobs = proc.join(KNOBS);
    if there(mount_bind(&knobs, &knobs))? {
        sys::mount_set(
            &c_path(&knobs)?,
            false,
            libc::MOUNT_ATTR_RDONLY
                | libc::MOUNT_ATTR_NOSUID
                | libc::MOUNT_ATTR_NODEV
                | libc::MOUNT_ATTR_NOEXEC,
        )?;
    }
    Ok(())
}

/// A kernel that lacks a file needs no cover for it.
fn there(mounted: rustix::io::Result<()>) -> io::Result<bool> {
    match mounted {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
