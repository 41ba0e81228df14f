//! One sandbox: what happens between a clone and a process 1 that can do nothing but serve.
//!
//! The order is that of what each step still needs. Groups are joined and mounts made with the launcher's rights; then
//! the tree is swapped, then a user namespace takes over in which the one id is 1000, then every right is dropped, and
//! the filter comes last, since it would refuse most of what went before.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;

use base64::Engine;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::{DumpableBehavior, Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::base::{Base, mount_proc};
use super::{StepError, init, step};
use crate::protocol::{MAX_PAYLOAD, Payload, Word};
use crate::sys::{self, Fork, Resource};
use crate::{seccomp, wire};

/// The id of everything in a sandbox, seen from inside.
const INNER_ID: u32 = 1000;

/// Smallest `/tmp` in bytes: the kernel wants at least a page, and some runtimes fail in odd ways without any.
const MIN_TMP: u64 = 64 * 1024;

/// Shared memory under `/dev/shm` in bytes at most; it counts as memory like all of it.
const SHM: u64 = 64 * 1024 * 1024;

/// Space for secrets in bytes.
const SECRETS_OPTIONS: &std::ffi::CStr = c"size=8m,nr_inodes=1024,mode=0755";

pub(super) struct Plan<'a> {
    pub(super) payload: OwnedFd,
    pub(super) channel: OwnedFd,
    pub(super) network: Option<OwnedFd>,
    pub(super) doors: Vec<OwnedFd>,
    pub(super) base: &'a Base,
    /// User and group id, as the launcher numbers them.
    pub(super) outer_id: u32,
    pub(super) watchdog: bool,
    pub(super) nproc: Option<u64>,
}

/// Forks the init. Gives back its number, its pidfd, and the doors of its groups.
pub(super) fn fork(plan: Plan<'_>) -> Result<(i32, OwnedFd, Vec<OwnedFd>), StepError> {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match step("clone", sys::fork_into(flags))? {
        Fork::Parent { pid, pidfd } => Ok((pid, pidfd, plan.doors)),
        Fork::Child => {
            // A panic must not unwind into the launcher's loop, of which this is a copy.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(plan)));
            sys::exit_now(101)
        }
    }
}

fn live(plan: Plan<'_>) {
    let began = Instant::now();
    let (base, watchdog, outer_id, nproc) = (plan.base, plan.watchdog, plan.outer_id, plan.nproc);
    let made = (|| {
        for door in &plan.doors {
            step("join control group", rustix::io::write(door, b"0"))?;
        }
        if let Some(network) = &plan.network {
            step(
                "enter network namespace",
                sys::setns(network.as_fd(), libc::CLONE_NEWNET),
            )?;
        }
        let bytes = step(
            "read payload",
            wire::read_memory_file(&plan.payload, MAX_PAYLOAD),
        )?;
        let payload: Payload = step("read payload", serde_json::from_slice(&bytes))?;
        step(
            "host name",
            rustix::system::sethostname(payload.hostname.as_bytes()),
        )?;
        let proc = step(
            "open /proc",
            rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
        )?;
        mounts(base, &payload, outer_id, watchdog)?;
        swap_root(&base.root)?;
        become_nobody(&proc, outer_id)?;
        drop_rights(&payload, nproc)?;
        Ok(payload)
    })();
    let Plan { channel, .. } = plan;
    let payload = match made {
        Ok(payload) => payload,
        Err(StepError { step, errno }) => {
            let word = Word::Broken { step, errno };
            let _ = wire::send(
                &channel,
                &serde_json::to_vec(&word).unwrap_or_default(),
                &[],
            );
            return;
        }
    };
    let setup_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    init::run(channel, payload, watchdog, setup_us);
}

/// Mounts, with paths relative to the base root.
fn mounts(base: &Base, payload: &Payload, outer_id: u32, watchdog: bool) -> Result<(), StepError> {
    step("enter the base root", rustix::process::chdir(&base.root))?;
    step("bind the bundle", mount_bind(&payload.bundle, "function"))?;
    step(
        "bundle read-only",
        sys::mount_set(
            c"function",
            false,
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        ),
    )?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    let scratch = |size: u64| {
        std::ffi::CString::new(format!("size={size},mode=1777")).expect("digits hold no zero byte")
    };
    step(
        "mount /tmp",
        mount(
            c"tmp",
            c"tmp",
            c"tmpfs",
            quiet,
            &*scratch(payload.tmp.max(MIN_TMP)),
        ),
    )?;
    step(
        "mount /dev/shm",
        mount(
            c"shm",
            c"dev/shm",
            c"tmpfs",
            quiet,
            &*scratch(SHM.min(payload.tmp.max(MIN_TMP))),
        ),
    )?;
    if !payload.secrets.is_empty() {
        secrets(payload, outer_id)?;
    }
    if base.has_proc {
        step("mount /proc", mount_proc(Path::new("proc"), !watchdog))?;
    }
    Ok(())
}

fn secrets(payload: &Payload, outer_id: u32) -> Result<(), StepError> {
    let at = Path::new("run/secrets");
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    step(
        "mount /run/secrets",
        mount(c"secrets", at, c"tmpfs", quiet, SECRETS_OPTIONS),
    )?;
    for (name, value) in &payload.secrets {
        let write = || {
            if name.is_empty() || name.contains('/') || name == "." || name == ".." {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let value = base64::engine::general_purpose::STANDARD
                .decode(value)
                .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
            let path = at.join(name);
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o400)
                .open(&path)?;
            file.write_all(&value)?;
            file.set_permissions(fs::Permissions::from_mode(0o400))?;
            rustix::fs::fchown(
                &file,
                Some(Uid::from_raw(outer_id)),
                Some(Gid::from_raw(outer_id_group(outer_id))),
            )?;
            Ok(())
        };
        step(format!("write secret {name}"), write())?;
    }
    step(
        "secrets read-only",
        sys::mount_set(c"run/secrets", false, libc::MOUNT_ATTR_RDONLY),
    )
}

/// As an ordinary user both ids are the one that exists; as root both have the sandbox's number.
const fn outer_id_group(outer_id: u32) -> u32 {
    outer_id
}

fn swap_root(root: &Path) -> Result<(), StepError> {
    // The old root ends up on top of the new one and is taken off: no folder is needed for it.
    step("enter the new root", rustix::process::chdir(root))?;
    step("swap roots", rustix::process::pivot_root(".", "."))?;
    step("let the old root go", unmount(".", UnmountFlags::DETACH))?;
    step("enter /", rustix::process::chdir("/"))
}

/// A user namespace with one id. The outer id is taken first, since an id may always map itself.
fn become_nobody(proc: &OwnedFd, outer_id: u32) -> Result<(), StepError> {
    let uid = Uid::from_raw(outer_id);
    let gid = Gid::from_raw(outer_id_group(outer_id));
    if rustix::process::geteuid() != uid {
        step("leave all groups", rustix::thread::set_thread_groups(&[]))?;
        step(
            "take group id",
            rustix::thread::set_thread_res_gid(gid, gid, gid),
        )?;
        step(
            "take user id",
            rustix::thread::set_thread_res_uid(uid, uid, uid),
        )?;
    }
    // Else the map's files would belong to root.
    step(
        "dumpable",
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable),
    )?;
    step("user namespace", sys::unshare(libc::CLONE_NEWUSER))?;
    step(
        "dumpable",
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable),
    )?;
    let put = |file: &str, text: &str| -> io::Result<()> {
        let fd = rustix::fs::openat(proc, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&fd, text.as_bytes())?;
        Ok(())
    };
    step("setgroups", put("self/setgroups", "deny"))?;
    step(
        "uid map",
        put("self/uid_map", &format!("{INNER_ID} {outer_id} 1")),
    )?;
    step(
        "gid map",
        put(
            "self/gid_map",
            &format!("{INNER_ID} {} 1", outer_id_group(outer_id)),
        ),
    )
}

fn drop_rights(payload: &Payload, nproc: Option<u64>) -> Result<(), StepError> {
    for (resource, value) in [
        (Resource::Files, Some(payload.rlimits.nofile)),
        (Resource::Core, Some(payload.rlimits.core)),
        (Resource::FileSize, Some(payload.rlimits.fsize)),
        (Resource::Processes, nproc),
    ] {
        if let Some(value) = value {
            step("resource limit", sys::limit(resource, value))?;
        }
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let null = step(
        "open /dev/null",
        rustix::fs::openat(
            CWD,
            "/dev/null",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        ),
    )?;
    for fd in 0..3 {
        step("standard streams", sys::dup_onto(null.as_fd(), fd))?;
    }
    sys::drop_bounding_set();
    let _ = rustix::thread::clear_ambient_capability_set();
    step(
        "drop capabilities",
        rustix::thread::set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            },
        ),
    )?;
    step("no new privileges", rustix::thread::set_no_new_privs(true))?;
    // Changing ids and rights clears this, so it comes after them: should the launcher die, so do we.
    step(
        "death signal",
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)),
    )?;
    step(
        "not dumpable",
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )?;
    step("seccomp", sys::seccomp(&seccomp::PROGRAM))
}
