//! One sandbox: what happens between a clone and a process 1 that can do nothing but serve.
//!
//! In two halves. The first is the same for everyone and is done ahead of time: groups are joined, the network namespace
//! entered, `/proc` mounted, the root swapped; then the process waits, with the launcher's rights and nobody's code. The
//! second makes it somebody's: the bundle and the scratch space are mounted, a user namespace takes over in which the one
//! id is 1000, every right is dropped, and the filter comes last, since it would refuse most of what went before. The
//! first half takes a millisecond and now and then ten (joining a group of version 1 can wait for the kernel's own
//! housekeeping), which no call should wait for.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, open_tree, unmount,
};
use rustix::net::SocketFlags;
use rustix::process::{DumpableBehavior, Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use tidegate_core::Network;

use super::base::{Base, MACHINE_RESOLVER, mount_proc};
use super::watch::Watched;
use super::{StepError, early, init, layers, outlet, root, step};
use crate::protocol::{MAX_PAYLOAD, Payload, Rlimits, Word};
use crate::sys::{self, Fork, Resource};
use crate::{seccomp, wire};

/// The id of everything in a sandbox, seen from inside.
const INNER_ID: u32 = 1000;

/// Smallest `/tmp` in bytes: the kernel wants at least a page, and some runtimes fail in odd ways without any.
pub(super) const MIN_TMP: u64 = 64 * 1024;

/// Shared memory under `/dev/shm` in bytes at most; it counts as memory like all of it.
pub(super) const SHM: u64 = 64 * 1024 * 1024;

/// How many times as many descriptors as a program process 1 may have, which is how many may be under way between
/// processes: the kernel counts those by user, so that a program which sends all it may would leave process 1 none to send
/// a connection with.
const OWN_FILES: u64 = 2;

/// Files and folders in a scratch space: one for each so many bytes that it may hold, and some in any case. An empty one
/// takes a kilobyte of the kernel's memory.
const BYTES_A_FILE: u64 = 4096;
const LEAST_FILES: u64 = 1024;

/// Space for secrets in bytes.
const SECRETS_OPTIONS: &std::ffi::CStr = c"size=8m,nr_inodes=1024,mode=0755";

/// Tells a process 1 that it is somebody's. Every message that is none of these is a program that waits.
const SETTLE: &[u8] = b"settle";

/// Brings a process 1 layers of an image, the lowest first.
const LAYERS: &[u8] = b"layers";

/// What a process 1 is forked with.
pub(super) struct Plan<'a> {
    pub(super) network: Option<OwnedFd>,
    pub(super) doors: &'a [OwnedFd],
    pub(super) base: &'a Base,
    /// User and group id, as the launcher numbers them.
    pub(super) outer_id: u32,
    pub(super) watched: Watched,
}

/// A process 1 that has done what is the same for everyone, and waits to be told whose it is.
pub(super) struct Held {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Takes one message, with [`Held::settle`]'s descriptors.
    socket: OwnedFd,
}

impl Held {
    /// Gives it layers of the image that will be its root, the lowest first. Before it is somebody's.
    pub(super) fn layers(&self, layers: &[OwnedFd]) -> io::Result<()> {
        layers.chunks(wire::MAX_FDS).try_for_each(|some| {
            let fds: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            wire::send(&self.socket, LAYERS, &fds)
        })
    }

    /// Makes it somebody's: payload, the channel to the server, and as mounts that hang nowhere the code, in the order of
    /// [`Payload::code`].
    pub(super) fn settle(&self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        wire::send(&self.socket, SETTLE, fds)
    }

    /// Starts a program in it that waits until it is somebody's: an [`Early`](crate::protocol::Early) as JSON, with its
    /// descriptors.
    pub(super) fn early(&self, program: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        wire::send(&self.socket, program, fds)
    }
}

/// Folders of code as mounts, read-only, to be hung into a sandbox.
pub(super) fn code(folders: &[PathBuf]) -> Result<Vec<OwnedFd>, StepError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    folders
        .iter()
        .map(|folder| {
            let mount = step("open the code", open_tree(CWD, folder, flags))?;
            let set = sys::detached_mount_set(mount.as_fd(), attributes);
            step("code read-only", set)?;
            Ok(mount)
        })
        .collect()
}

/// Forks a process 1.
pub(super) fn hold(plan: &Plan<'_>) -> Result<Held, StepError> {
    let (socket, theirs) = step("socket pair", wire::pair(SocketFlags::empty()))?;
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match step("clone", sys::fork_into(flags))? {
        Fork::Parent { pid, pidfd } => Ok(Held { pid, pidfd, socket }),
        Fork::Child => {
            // A panic must not unwind into the launcher's loop, of which this is a copy.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(plan, &theirs)));
            sys::exit_now(101)
        }
    }
}

fn live(plan: &Plan<'_>, socket: &OwnedFd) {
    let held = (|| {
        // Cleared when ids change, and set again after that.
        step(
            "death signal",
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)),
        )?;
        for door in plan.doors {
            step("join control group", rustix::io::write(door, b"0"))?;
        }
        if let Some(network) = &plan.network {
            step(
                "enter network namespace",
                sys::setns(network.as_fd(), libc::CLONE_NEWNET),
            )?;
        }
        Ok(())
    })();
    // What else is open belongs to the launcher; a socket of another held one among it would keep that one waiting.
    let (Ok(()), Ok(())) = (
        sys::dup_onto(socket.as_fd(), 3),
        sys::close_range(4, i32::MAX),
    ) else {
        return;
    };
    // SAFETY: it was put there just now, and what owned the old numbers is never used again: this function ends in an exit.
    let socket = unsafe { sys::adopt(3) };
    let held = held.and_then(|()| prepare(plan.base, plan.watched));

    let mut buffer = vec![0; wire::MAX_MESSAGE];
    let mut early = None;
    let mut layers = Vec::new();
    let fds = loop {
        let Ok((len, fds)) = wire::receive(&socket, &mut buffer) else {
            return;
        };
        match (&buffer[..len], &held) {
            // Nothing is received when the launcher is gone.
            ([], _) => return,
            (SETTLE, _) => break fds,
            (LAYERS, _) => layers.extend(fds),
            // One that does not start is missed at its channel, which nobody holds then.
            (program, Ok(proc)) => early = early::start(plan, proc, program, fds).ok(),
            (_, Err(_)) => {}
        }
    };
    let mut fds = fds.into_iter();
    let (Some(file), Some(channel)) = (fds.next(), fds.next()) else {
        return;
    };
    let code: Vec<_> = fds.collect();
    let began = Instant::now();
    let settled = held.and_then(|proc| {
        let brought = Brought {
            payload: &file,
            code: &code,
            layers: &layers,
        };
        settle(plan, &proc, &brought, early)
    });
    drop((buffer, file, code, layers));
    match settled {
        Ok(payload) => {
            let setup_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            init::run(channel, payload, early, plan.watched, setup_us);
        }
        Err(StepError { step, errno }) => {
            let word = Word::Broken { step, errno };
            let _ = wire::send(
                &channel,
                &serde_json::to_vec(&word).unwrap_or_default(),
                &[],
            );
        }
    }
}

/// The part that is the same for everyone. Gives back the machine's `/proc`, which is needed once more.
pub(super) fn prepare(base: &Base, watched: Watched) -> Result<OwnedFd, StepError> {
    let proc = step(
        "open /proc",
        rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
    )?;
    step("enter the base root", rustix::process::chdir(&base.root))?;
    if base.has_proc {
        step("mount /proc", mount_proc(Path::new("proc"), !watched.any()))?;
    }
    swap_root()?;
    step("no new privileges", rustix::thread::set_no_new_privs(true))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let null = step(
        "open /dev/null",
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()),
    )?;
    for fd in 0..3 {
        step("standard streams", sys::dup_onto(null.as_fd(), fd))?;
    }
    // Touched here, so that the page is ours before it is wanted in a hurry.
    let _ = seccomp::program(watched.memory).len();
    Ok(proc)
}

/// What makes a process 1 somebody's.
struct Brought<'a> {
    payload: &'a OwnedFd,
    code: &'a [OwnedFd],
    layers: &'a [OwnedFd],
}

/// The part that makes it somebody's, after which it has no rights.
fn settle(
    plan: &Plan<'_>,
    proc: &OwnedFd,
    brought: &Brought<'_>,
    early: Option<i32>,
) -> Result<Payload, StepError> {
    let outer_id = plan.outer_id;
    let own_network = plan.network.is_some();
    let bytes = step(
        "read payload",
        wire::read_memory_file(brought.payload, MAX_PAYLOAD),
    )?;
    let mut payload: Payload = step("read payload", serde_json::from_slice(&bytes))?;
    step(
        "host name",
        rustix::system::sethostname(payload.hostname.as_bytes()),
    )?;
    match payload.network {
        Network::None => {}
        // In the machine's own namespace, the route would cut the machine off.
        Network::Outbound if !own_network => {
            let wrong = io::Error::from_raw_os_error(libc::EINVAL);
            return step("open the network", Err(wrong));
        }
        Network::Outbound => step("open the network", outlet::open())?,
        Network::Host => {
            let asked = format!("/etc/{MACHINE_RESOLVER}");
            step("name servers", mount_bind(asked, "/etc/resolv.conf"))?;
        }
    }
    if brought.code.len() != payload.code.len() {
        let wrong = io::Error::from_raw_os_error(libc::EINVAL);
        return step("mounts of the code", Err(wrong));
    }
    if !payload.secrets.is_empty() {
        secrets(&payload, outer_id)?;
    }
    match &payload.root {
        Some(image) => root::enter(image, &payload, brought.layers, brought.code, outer_id)?,
        None => {
            for (mount, place) in brought.code.iter().zip(&payload.code) {
                step(format!("mount {place}"), layers::hang(mount, place))?;
            }
            scratch(payload.tmp)?;
        }
    }
    let inner = payload
        .root
        .as_ref()
        .map_or((INNER_ID, INNER_ID), |r| r.user);
    become_mapped(proc, inner, outer_id)?;
    // As the same user as the program, which needs no right to lower its limits.
    if let Some(pid) = early {
        early::limit(pid, &payload.rlimits)?;
    }
    drop_rights(&payload.rlimits, plan.watched.memory)?;
    if payload.root.is_some() && !payload.env.iter().any(|(name, _)| name == "HOME") {
        payload.env.push(("HOME".to_owned(), root::home(inner.0)));
    }
    Ok(payload)
}

/// Space to write into that is gone with the sandbox.
pub(super) fn scratch(tmp: u64) -> Result<(), StepError> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    let sized = |size: u64| {
        let files = LEAST_FILES + size / BYTES_A_FILE;
        CString::new(format!("size={size},nr_inodes={files},mode=1777"))
            .expect("digits hold no zero byte")
    };
    let tmp = tmp.max(MIN_TMP);
    step(
        "mount /tmp",
        mount(c"tmp", c"/tmp", c"tmpfs", quiet, &*sized(tmp)),
    )?;
    step(
        "mount /dev/shm",
        mount(c"shm", c"/dev/shm", c"tmpfs", quiet, &*sized(SHM.min(tmp))),
    )
}

fn secrets(payload: &Payload, outer_id: u32) -> Result<(), StepError> {
    let at = Path::new("/run/secrets");
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
        sys::mount_set(c"/run/secrets", false, libc::MOUNT_ATTR_RDONLY),
    )
}

/// As an ordinary user both ids are the one that exists; as root both have the sandbox's number.
const fn outer_id_group(outer_id: u32) -> u32 {
    outer_id
}

/// Makes the working directory the root. The old root ends up on top of the new one and is taken off: no folder is needed
/// for it.
pub(super) fn swap_root() -> Result<(), StepError> {
    step("swap roots", rustix::process::pivot_root(".", "."))?;
    step("let the old root go", unmount(".", UnmountFlags::DETACH))?;
    step("enter /", rustix::process::chdir("/"))
}

/// A user namespace with one id.
pub(super) fn become_nobody(proc: &OwnedFd, outer_id: u32) -> Result<(), StepError> {
    become_mapped(proc, (INNER_ID, INNER_ID), outer_id)
}

/// A user namespace in which the outer id is this user and this group. The outer id is taken first, since an id may always
/// map itself.
pub(super) fn become_mapped(
    proc: &OwnedFd,
    inner: (u32, u32),
    outer_id: u32,
) -> Result<(), StepError> {
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
        put("self/uid_map", &format!("{} {outer_id} 1", inner.0)),
    )?;
    step(
        "gid map",
        put(
            "self/gid_map",
            &format!("{} {} 1", inner.1, outer_id_group(outer_id)),
        ),
    )
}

/// `watchdog`: memory is watched rather than held, so what a watchdog cannot see is refused.
pub(super) fn drop_rights(rlimits: &Rlimits, watchdog: bool) -> Result<(), StepError> {
    for (resource, value) in [
        (
            Resource::Files,
            Some(rlimits.nofile.saturating_mul(OWN_FILES)),
        ),
        (Resource::Core, Some(rlimits.core)),
        (Resource::FileSize, Some(rlimits.fsize)),
        (Resource::Processes, rlimits.nproc),
    ] {
        if let Some(value) = value {
            step("resource limit", sys::limit(resource, value))?;
        }
    }
    // The user namespace came with full sets of its own.
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
    // Changing ids and rights clears this, so it comes after them: should the launcher die, so do we.
    step(
        "death signal",
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)),
    )?;
    step(
        "not dumpable",
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )?;
    step("seccomp", sys::seccomp(seccomp::program(watchdog)))
}
