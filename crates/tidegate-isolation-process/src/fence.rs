//! Landlock: a second fence behind the mount namespace, where the kernel has it.
//!
//! The mount namespace shows a program nothing that it may not read. The fence holds should something of outside be within
//! reach after all, a folder that was left open or another's root under `/proc`: whatever is not beneath the sandbox's own
//! `/` cannot be opened, executed or changed, by whatever way it was found; beneath it nothing can be made a device; and
//! where only scratch space is writable, only there can anything be written. It also ends what mount namespaces do not see:
//! a program cannot signal a process that was not started under the same fence, process 1 among them, nor connect to a
//! socket in the abstract namespace that such a process listens at, which matters where it shares the machine's network.
//!
//! What is fenced is the program and all that it starts, not process 1, which has to signal them. The rules are data, made
//! here for the version that the kernel has, and put in force at three places: before a program is executed, before one
//! that waits is, and in a zygote's child.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::sys;

/// From here on truncating is a right of its own, and moving between folders can be allowed: kernel 6.2. Below it the fence
/// would break what programs do every day.
const LEAST_VERSION: i32 = 3;

/// From here on device controls are a right of their own: kernel 6.10.
const WITH_IOCTL: i32 = 5;

/// From here on signals and abstract sockets can be held in: kernel 6.12.
const WITH_SCOPES: i32 = 6;

/// From here on refusals need not be written to the machine's audit log, where a program could fill it: kernel 6.15.
const WITH_LOG_FLAGS: i32 = 7;

mod right {
    pub(super) const EXECUTE: u64 = 1;
    pub(super) const WRITE_FILE: u64 = 1 << 1;
    pub(super) const READ_FILE: u64 = 1 << 2;
    pub(super) const READ_DIR: u64 = 1 << 3;
    pub(super) const REMOVE_DIR: u64 = 1 << 4;
    pub(super) const REMOVE_FILE: u64 = 1 << 5;
    pub(super) const MAKE_CHAR: u64 = 1 << 6;
    pub(super) const MAKE_DIR: u64 = 1 << 7;
    pub(super) const MAKE_REG: u64 = 1 << 8;
    pub(super) const MAKE_SOCK: u64 = 1 << 9;
    pub(super) const MAKE_FIFO: u64 = 1 << 10;
    pub(super) const MAKE_BLOCK: u64 = 1 << 11;
    pub(super) const MAKE_SYM: u64 = 1 << 12;
    pub(super) const REFER: u64 = 1 << 13;
    pub(super) const TRUNCATE: u64 = 1 << 14;
    pub(super) const IOCTL_DEV: u64 = 1 << 15;
}

const READ: u64 = right::EXECUTE | right::READ_FILE | right::READ_DIR;
const WRITE_THERE: u64 = right::WRITE_FILE | right::TRUNCATE;
const WRITE: u64 = WRITE_THERE
    | right::REMOVE_DIR
    | right::REMOVE_FILE
    | right::MAKE_DIR
    | right::MAKE_REG
    | right::MAKE_SOCK
    | right::MAKE_FIFO
    | right::MAKE_SYM
    | right::REFER;
/// Handled, so that it is refused, and given to nobody.
const DEVICES: u64 = right::MAKE_CHAR | right::MAKE_BLOCK;

const SCOPE_ABSTRACT_SOCKETS: u64 = 1;
const SCOPE_SIGNALS: u64 = 2;

/// Nothing about this program's refusals in the audit log.
const QUIET: u32 = 1;

/// Where a program may write, as far as the mounts let it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// In its scratch space, to devices, and to its own files of `/proc`.
    Scratch,
    /// Wherever something is writable: a job's folders, an image's root, and what is mounted only after the fence stands.
    Everywhere,
}

/// A fence as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The kernel's `landlock_ruleset_attr`, as long as this version knows it.
    pub(crate) attributes: Vec<u8>,
    /// What may be done beneath which folder of the sandbox.
    pub(crate) beneath: Vec<(&'static str, u64)>,
    pub(crate) flags: u32,
}

/// The kernel's version of Landlock; 0 where it has none.
pub(crate) fn version() -> i32 {
    sys::landlock_version()
}

/// The rules for this kernel, `None` where it has none to speak of.
pub(crate) fn rules(reach: Reach) -> Option<Rules> {
    rules_of(version(), reach)
}

fn rules_of(version: i32, reach: Reach) -> Option<Rules> {
    if version < LEAST_VERSION {
        return None;
    }
    let control = if version >= WITH_IOCTL {
        right::IOCTL_DEV
    } else {
        0
    };
    let mut attributes = (READ | WRITE | DEVICES | control).to_ne_bytes().to_vec();
    if version >= WITH_SCOPES {
        // No rule about ports: the network namespace and what leads out of it decide that.
        attributes.extend(0_u64.to_ne_bytes());
        attributes.extend((SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS).to_ne_bytes());
    }
    let beneath = match reach {
        Reach::Everywhere => vec![("/", READ | WRITE | control)],
        Reach::Scratch => vec![
            ("/", READ | control),
            ("/tmp", READ | WRITE),
            ("/dev/shm", READ | WRITE),
            ("/dev", READ | WRITE_THERE),
            ("/proc", READ | WRITE_THERE),
        ],
    };
    Some(Rules {
        attributes,
        beneath,
        flags: if version >= WITH_LOG_FLAGS { QUIET } else { 0 },
    })
}

/// A fence that stands ready, for programs that are executed.
pub(crate) struct Fence {
    rules: OwnedFd,
    flags: u32,
}

impl Fence {
    /// Made where the sandbox's root is the root. `None` where the kernel has no Landlock to speak of.
    pub(crate) fn new(reach: Reach) -> io::Result<Option<Self>> {
        let Some(rules) = rules(reach) else {
            return Ok(None);
        };
        let made = sys::landlock_rules(&rules.attributes)?;
        for (path, rights) in rules.beneath {
            // A sandbox without `/proc` has nothing to write there.
            let Ok(folder) = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            else {
                continue;
            };
            let folder = File::from(folder);
            sys::landlock_allow(made.as_fd(), rights, folder.as_fd())?;
        }
        Ok(Some(Self {
            rules: made,
            flags: rules.flags,
        }))
    }

    /// Puts the calling thread and all that it starts behind it, for good. One system call; needs `no_new_privs`.
    pub(crate) fn enter(&self) -> io::Result<()> {
        sys::landlock_enter(self.rules.as_raw_fd(), self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_for_what_it_knows() {
        assert_eq!(rules_of(0, Reach::Scratch), None);
        assert_eq!(rules_of(2, Reach::Scratch), None);
        let of = |version, reach| rules_of(version, reach).unwrap();
        let handled = |rules: &Rules| u64::from_ne_bytes(rules.attributes[..8].try_into().unwrap());
        let old = of(3, Reach::Everywhere);
        assert_eq!((old.attributes.len(), old.flags), (8, 0));
        assert_eq!(handled(&old), (1 << 15) - 1);
        let new = of(7, Reach::Everywhere);
        assert_eq!((new.attributes.len(), new.flags), (24, QUIET));
        assert_eq!(handled(&new), (1 << 16) - 1);
    }

    #[test]
    fn nobody_makes_devices_and_only_the_scratch_space_is_written_to() {
        for version in [3, 5, 7, 12] {
            for reach in [Reach::Scratch, Reach::Everywhere] {
                let rules = rules_of(version, reach).unwrap();
                let handled = u64::from_ne_bytes(rules.attributes[..8].try_into().unwrap());
                for (path, rights) in &rules.beneath {
                    assert_eq!(rights & DEVICES, 0, "{path}");
                    // The kernel refuses rules about rights that it was not told of.
                    assert_eq!(rights & !handled, 0, "{path}");
                }
            }
            let scratch = rules_of(version, Reach::Scratch).unwrap().beneath;
            assert_eq!(scratch[0].1 & WRITE, 0);
        }
    }
}
