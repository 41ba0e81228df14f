//! A job's sandbox: the walls of an instance around a tool that is run once, with folders of the machine's in them.
//!
//! Nobody waits for one as for a call, so none is held ready, and the child that becomes its process 1 does everything
//! itself. Its root is a small file system of its own, since the folders lie wherever the machine has them: the base root's
//! entries are bound into it one by one, mount points are made beside them, and then it is read-only as well.
//!
//! What a job writes has to belong to the server afterwards, while the job runs as an id of its own. Where the file system
//! can, the folder is mounted with its ids mapped; elsewhere its files are given to the job first, and the server takes
//! them back. An ordinary user's sandboxes have his own id, and nothing has to be done.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind_recursive, move_mount, open_tree,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Signal;

use super::base::Base;
use super::enter::c_path;
use super::sandbox::{become_nobody, drop_rights, prepare, scratch};
use super::spawn::{Walls, find, spawn};
use super::watch::{Bounds, Found, Watch, Watched};
use super::{Init, Launcher, StepError, ids, step, tell};
use crate::cgroup::GroupLimits;
use crate::fence::{Fence, Reach};
use crate::protocol::{JobFolder, JobPayload, MAX_PAYLOAD, Order, Tell, Word};
use crate::report::{Report, State};
use crate::{sys, walk, wire};

/// The report's entry about the folders.
const REPORT: &str = "folders of jobs";

/// Bytes of a job's own root: folders and links.
const SIZE: &std::ffi::CStr = c"size=1m,nr_inodes=4096,mode=0755";

/// What a job's root has of its own instead of the base root's.
const OWN: &[&str] = &["proc", "sys", "tmp", "run", "var"];

/// The folder of the base root on which a job's own root is mounted: what an instance has there, a job has not.
const PLACE: &str = "function";

/// What else of the base root is an instance's only.
const INSTANCES: &[&str] = &["home", "layer", PLACE];

/// Connections that may wait to be taken at the door.
const WAITING: i32 = 128;

/// The one run of a job.
const RUN: u64 = 0;

/// Says how the folders that jobs write into come to be theirs. `id` is one that a job would have, where that is not the
/// server's own.
pub(super) fn note(state_dir: &Path, id: Option<u32>, report: &mut Report) {
    let Some(id) = id else {
        let detail = "jobs have the server's own id, and what they write is its own at once";
        return report.note(REPORT, State::Ok, detail);
    };
    let tried = ids::map_to(id).and_then(|ids| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = step("open", open_tree(CWD, state_dir, flags))?;
        step("map", sys::detached_mount_map(mount.as_fd(), ids.as_fd()))
    });
    match tried {
        Ok(()) => report.note(REPORT, State::Ok, "mounted with their ids mapped"),
        Err(StepError { errno, .. }) => report.note(
            REPORT,
            State::Degraded,
            format!(
                "every file is given to a job before it and taken back after it, which takes a while where there are \
                 many: the file system of {} maps no ids ({})",
                state_dir.display(),
                io::Error::from_raw_os_error(errno)
            ),
        ),
    }
}

/// What a job's process 1 is forked with.
struct Plan<'a> {
    network: OwnedFd,
    doors: &'a [OwnedFd],
    base: &'a Base,
    outer_id: u32,
    /// Whether that is another id than the server's.
    foreign: bool,
    watched: Watched,
}

impl Launcher {
    pub(super) fn job(
        &mut self,
        slot: u32,
        limits: GroupLimits,
        fds: &[OwnedFd],
    ) -> Result<(), StepError> {
        let began = Instant::now();
        let [payload, channel] = fds else {
            let wrong = io::Error::from_raw_os_error(libc::EINVAL);
            return step("descriptors", Err(wrong));
        };
        let network = step("network namespace", self.networks.make_closed())?;
        let mut group = step("control group", self.tree.group())?;
        let seat = self.seats.take();
        let made = step("limits", group.limit(limits))
            .and_then(|()| step("control group", group.doors()))
            .and_then(|doors| {
                let plan = Plan {
                    network,
                    doors: &doors,
                    base: &self.base,
                    outer_id: self.entered.sandbox_id(self.setup.uid_base, seat),
                    foreign: self.entered.foreign_id(self.setup.uid_base, seat).is_some(),
                    watched: self.watched,
                };
                fork(plan, payload, channel)
            });
        let (pid, pidfd) = match made {
            Ok(made) => made,
            Err(error) => {
                self.seats.give_back(seat);
                if !group.remove() {
                    self.stale.push(group);
                }
                return Err(error);
            }
        };
        let started = Tell::Started {
            slot,
            outlet: false,
            id: self.entered.foreign_id(self.setup.uid_base, seat),
            groups: group.dirs(),
            made_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        let slot = Some(slot);
        self.inits.insert(pid, Init { slot, group, seat });
        step("answer", tell(&self.socket, &started, &[pidfd.as_fd()]))
    }
}

fn fork(plan: Plan<'_>, payload: &OwnedFd, channel: &OwnedFd) -> Result<(i32, OwnedFd), StepError> {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match step("clone", sys::fork_into(flags))? {
        sys::Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
        sys::Fork::Child => {
            // A panic must not unwind into the launcher's loop, of which this is a copy.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                live(plan, payload, channel);
            }));
            sys::exit_now(101)
        }
    }
}

fn live(plan: Plan<'_>, payload: &OwnedFd, channel: &OwnedFd) {
    let read = (|| {
        // Cleared when ids change, and set again after that.
        step(
            "death signal",
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)),
        )?;
        for door in plan.doors {
            step("join control group", rustix::io::write(door, b"0"))?;
        }
        step(
            "enter network namespace",
            sys::setns(plan.network.as_fd(), libc::CLONE_NEWNET),
        )?;
        let bytes = step("read payload", wire::read_memory_file(payload, MAX_PAYLOAD))?;
        let payload: JobPayload = step("read payload", serde_json::from_slice(&bytes))?;
        Ok(payload)
    })();
    // What else is open belongs to the launcher.
    let (Ok(()), Ok(())) = (
        sys::dup_onto(channel.as_fd(), 3),
        sys::close_range(4, i32::MAX),
    ) else {
        return;
    };
    let (base, outer_id) = (plan.base, plan.outer_id);
    let (foreign, watched) = (plan.foreign, plan.watched);
    // Its number was closed just now, and may come to mean something else.
    std::mem::forget(plan.network);
    // SAFETY: it was put there just now, and what owned the old numbers is never used again: this function ends in an exit.
    let channel = unsafe { sys::adopt(3) };
    if rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC).is_err() {
        return;
    }
    let began = Instant::now();
    let settled = read.and_then(|payload| {
        let door = settle(base, outer_id, foreign, watched, &payload)?;
        Ok((payload, door))
    });
    match settled {
        Ok((payload, door)) => {
            let setup_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let door = door.as_ref().map(AsFd::as_fd);
            say(&channel, &Word::Ready { setup_us }, door.as_slice());
            serve(&channel, &payload, watched);
        }
        Err(StepError { step, errno }) => say(&channel, &Word::Broken { step, errno }, &[]),
    }
}

fn say(channel: &OwnedFd, word: &Word, fds: &[std::os::fd::BorrowedFd<'_>]) {
    if let Ok(bytes) = serde_json::to_vec(word) {
        let _ = wire::send(channel, &bytes, fds);
    }
}

/// Puts the walls up. Gives back the door's listening socket.
fn settle(
    base: &Base,
    outer_id: u32,
    foreign: bool,
    watched: Watched,
    payload: &JobPayload,
) -> Result<Option<OwnedFd>, StepError> {
    let ids = if foreign && payload.folders.iter().any(|f| f.writable) {
        Some(ids::map_to(outer_id)?)
    } else {
        None
    };
    let root = base.root.join(PLACE);
    step(
        "mount the job's root",
        mount(
            c"tidegate-job",
            &root,
            c"tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            SIZE,
        ),
    )?;
    entries(&base.root, &root)?;
    for folder in &payload.folders {
        hang(folder, &root, ids.as_ref(), outer_id)?;
    }
    drop(ids);
    step(
        "job's root read-only",
        c_path(&root).and_then(|path| sys::mount_set(&path, false, libc::MOUNT_ATTR_RDONLY)),
    )?;
    let base = Base {
        root,
        has_proc: base.has_proc,
    };
    let proc = prepare(&base, watched)?;
    step(
        "host name",
        rustix::system::sethostname(payload.hostname.as_bytes()),
    )?;
    scratch(payload.tmp)?;
    let door = match payload.door {
        Some(port) => Some(step("listen at the door", listen(port))?),
        None => None,
    };
    become_nobody(&proc, outer_id)?;
    drop_rights(&payload.rlimits, watched.memory)?;
    Ok(door)
}

/// The base root's entries, each as a mount or a link of its own.
fn entries(base: &Path, root: &Path) -> Result<(), StepError> {
    for name in OWN {
        step(*name, fs::create_dir(root.join(name)))?;
    }
    for (at, to) in [("var/tmp", "/tmp"), ("var/run", "/run")] {
        step(at, symlink(to, root.join(at)))?;
    }
    for entry in step("read the base root", fs::read_dir(base))?.flatten() {
        let name = entry.file_name();
        let shown = name.to_string_lossy().into_owned();
        if INSTANCES.contains(&&*shown) || OWN.contains(&&*shown) {
            continue;
        }
        let (from, to) = (entry.path(), root.join(&name));
        let done = (|| {
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                return symlink(fs::read_link(&from)?, &to);
            }
            if kind.is_dir() {
                fs::create_dir(&to)?;
                mount_bind_recursive(&from, &to)?;
            }
            Ok(())
        })();
        step(format!("show /{shown}"), done)?;
    }
    Ok(())
}

/// Mounts a folder of the machine's. Nothing that is mounted below it comes with it.
fn hang(
    folder: &JobFolder,
    root: &Path,
    ids: Option<&OwnedFd>,
    outer_id: u32,
) -> Result<(), StepError> {
    let name = |what: &str| format!("{what} {}", folder.outside.display());
    let at = root.join(&folder.inside);
    step(name("make the place of"), fs::create_dir_all(&at))?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if folder.writable {
        // A tool could have put a link where the server had its folder; the machine's own tools may lie behind links.
        flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    } else {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    let mount = step(name("open"), open_tree(CWD, &folder.outside, flags))?;
    step(
        name("set the mount of"),
        sys::detached_mount_set(mount.as_fd(), attributes),
    )?;
    if let Some(ids) = ids.filter(|_| folder.writable)
        && sys::detached_mount_map(mount.as_fd(), ids.as_fd()).is_err()
    {
        // This file system cannot.
        step(
            name("give away"),
            walk::give(&folder.outside, (outer_id, outer_id)),
        )?;
    }
    step(
        name("mount"),
        move_mount(
            &mount,
            "",
            CWD,
            &at,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        ),
    )
}

/// The door: a listening socket in the job's network namespace, whose connections the server takes.
fn listen(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    rustix::net::listen(&socket, WAITING)?;
    Ok(socket)
}

/// Runs the tool when told to, and ends with it: the kernel ends what it left.
fn serve(channel: &OwnedFd, payload: &JobPayload, watched: Watched) {
    let Ok(signals) = sys::signal_descriptor(&[libc::SIGCHLD]) else {
        return;
    };
    let mut tool = None;
    let mut buffer = vec![0; wire::MAX_MESSAGE];
    let bounds = Bounds {
        memory: payload.memory,
        cpu_milli: payload.cpu_milli,
        processes: payload.rlimits.nproc,
    };
    let mut watch = Watch::new(watched, bounds);
    loop {
        let (asked, signalled) = {
            let mut fds = [
                PollFd::new(channel, PollFlags::IN),
                PollFd::new(&signals, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, watch.patience().as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) => (!fds[0].revents().is_empty(), !fds[1].revents().is_empty()),
            }
        };
        if signalled {
            sys::drain_signals(&signals);
            while let sys::Reaped::Child { pid, code, signal } = sys::reap() {
                if tool == Some(pid) {
                    if code != Some(0) && watch.was_full() {
                        say(channel, &Word::Full, &[]);
                    }
                    let n = RUN;
                    say(channel, &Word::Ended { n, code, signal }, &[]);
                    return;
                }
            }
        }
        if asked {
            let (order, fds) = match wire::receive(channel, &mut buffer) {
                Ok((0, _)) | Err(_) => return,
                Ok((len, fds)) => (serde_json::from_slice(&buffer[..len]), fds),
            };
            // Once only, and nothing else is ever asked.
            let (Ok(Order::Exec { n, .. }), None) = (order, tool) else {
                return;
            };
            let errno = match exec(payload, &fds) {
                Ok(pid) => {
                    tool = Some(pid);
                    None
                }
                Err(error) => Some(error.raw_os_error().unwrap_or(libc::EINVAL)),
            };
            let why = None;
            say(channel, &Word::Begun { n, errno, why }, &[]);
        }
        for found in watch.look() {
            say(channel, &found.into(), &[]);
            if matches!(found, Found::Memory { .. }) {
                return;
            }
        }
    }
}

fn exec(payload: &JobPayload, fds: &[OwnedFd]) -> io::Result<i32> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let [stdin, stdout, stderr] = fds else {
        return Err(invalid());
    };
    let (program, arguments) = payload.command.split_first().ok_or_else(invalid)?;
    let c_string = |text: &str| CString::new(text).map_err(|_| invalid());
    if !super::is_dir(Path::new(&payload.workdir)) {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    let path = find(program, &payload.env)?;
    let path = c_path(&path)?;
    let arguments = arguments
        .iter()
        .map(|a| c_string(a))
        .collect::<io::Result<Vec<_>>>()?;
    let argv: Vec<_> = std::iter::once(&path)
        .chain(&arguments)
        .map(|a| a.as_c_str())
        .collect();
    let env = payload
        .env
        .iter()
        .map(|(name, value)| c_string(&format!("{name}={value}")))
        .collect::<io::Result<Vec<_>>>()?;
    spawn(
        &argv,
        &c_string(&payload.workdir)?,
        &env,
        &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        Walls {
            fence: Fence::new(Reach::Everywhere)?.as_ref(),
            files: payload.rlimits.nofile,
        },
    )
}
