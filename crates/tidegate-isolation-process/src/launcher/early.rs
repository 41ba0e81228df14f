//! Programs that wait behind all walls before they are anybody's.
//!
//! An interpreter that takes 50 ms to start is started ahead of time, in a sandbox that is held ready: its process 1 has
//! the launcher's rights still, and forks a child that gives them all up before it executes. When the sandbox becomes
//! somebody's, process 1 hangs the code, the secrets and the scratch space into the mount namespace that both are in, and
//! only then gives up its own rights. The program has seen nothing of anybody's until then, and is told whose it is over a
//! descriptor of its own.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::sandbox::{Plan, become_nobody, code, drop_rights};
use super::stock::Ready;
use super::{Launcher, StepError, step, tell};
use crate::cgroup::GroupLimits;
use crate::fence::{Fence, Reach};
use crate::protocol::{Early, Rlimits, Tell};
use crate::sys::{self, Resource};

/// Standard output and error, and two more.
const DESCRIPTORS: usize = 4;

/// Where descriptors are put out of the way of the numbers that the program finds them under.
const ASIDE: i32 = 32;

impl Launcher {
    /// Has a program started in a sandbox from the stock.
    pub(super) fn early(
        &mut self,
        slot: u32,
        host_network: bool,
        program: &Early,
        fds: &[OwnedFd],
    ) -> Result<(), StepError> {
        let began = Instant::now();
        let message = step("describe the program", serde_json::to_vec(program))?;
        let Ready {
            held,
            doors,
            outlet,
        } = self.take(host_network)?;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let Some(init) = self.inits.get_mut(&held.pid) else {
            return step("hold", Err(io::Error::from_raw_os_error(libc::ESRCH)));
        };
        if let Err(error) = held.early(&message, &fds) {
            sys::kill(held.pid, libc::SIGKILL);
            return step("start early", Err(error));
        }
        init.slot = Some(slot);
        let started = Tell::Started {
            slot,
            id: self.entered.foreign_id(self.setup.uid_base, init.seat),
            groups: init.group.dirs(),
            outlet: outlet.is_some(),
            made_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        drop(doors);
        let mut out = vec![held.pidfd.as_fd()];
        out.extend(
            outlet
                .iter()
                .flat_map(|o| [o.door.as_fd(), o.names.as_fd()]),
        );
        let told = tell(&self.socket, &started, &out);
        self.early.insert(slot, held);
        step("answer", told)
    }

    /// Makes the sandbox of a program that waits somebody's.
    pub(super) fn settle(
        &mut self,
        n: u64,
        slot: u32,
        folders: &[PathBuf],
        limits: GroupLimits,
        fds: &[OwnedFd],
    ) -> io::Result<()> {
        let began = Instant::now();
        let held = self.early.remove(&slot);
        let settled = (|| {
            let gone = || io::Error::from_raw_os_error(libc::ESRCH);
            let held = step("find the program", held.as_ref().ok_or_else(gone))?;
            let init = self.inits.get(&held.pid).ok_or_else(gone);
            let [payload, channel] = fds else {
                let wrong = io::Error::from_raw_os_error(libc::EINVAL);
                return step("descriptors", Err(wrong));
            };
            let code = code(folders)?;
            step(
                "limits",
                step("find the program", init)?.group.limit(limits),
            )?;
            let mut fds = vec![payload.as_fd(), channel.as_fd()];
            fds.extend(code.iter().map(AsFd::as_fd));
            step("settle", held.settle(&fds))
        })();
        let failed = settled.err().map(|StepError { step, errno }| {
            if let Some(held) = &held {
                sys::kill(held.pid, libc::SIGKILL);
            }
            (step, errno)
        });
        let made_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tell(&self.socket, &Tell::Settled { n, failed, made_us }, &[])
    }
}

/// Starts a program from a process 1 that has its rights still. Gives back its number.
pub(super) fn start(
    plan: &Plan<'_>,
    proc: &OwnedFd,
    program: &[u8],
    fds: Vec<OwnedFd>,
) -> io::Result<i32> {
    let program: Early = serde_json::from_slice(program)?;
    let (executed, executes) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match sys::fork_into(0)? {
        sys::Fork::Parent { pid, .. } => {
            drop(executes);
            // Closed by the execution, or by the end of a child that failed: until then it has rights that have to be
            // gone before anything of anybody's is there.
            while matches!(
                rustix::io::read(&executed, &mut [0; 1]),
                Err(rustix::io::Errno::INTR)
            ) {}
            Ok(pid)
        }
        sys::Fork::Child => {
            // A panic must not unwind into the process 1 that this is a copy of.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                become_program(plan, proc, &program, fds, executes)
            }));
            sys::exit_now(127)
        }
    }
}

fn become_program(
    plan: &Plan<'_>,
    proc: &OwnedFd,
    program: &Early,
    fds: Vec<OwnedFd>,
    executes: OwnedFd,
) -> Result<(), StepError> {
    become_nobody(proc, plan.outer_id)?;
    drop_rights(&program.rlimits, plan.watched.memory)?;
    let files = sys::limit(Resource::Files, program.rlimits.nofile);
    step("resource limit", files)?;
    // What it will write to is not mounted yet.
    if let Some(fence) = step("landlock", Fence::new(Reach::Everywhere))? {
        step("landlock", fence.enter())?;
    }
    step("session", rustix::process::setsid())?;
    if fds.len() != DESCRIPTORS {
        let wrong = io::Error::from_raw_os_error(libc::EINVAL);
        return step("descriptors", Err(wrong));
    }
    let mut aside = Vec::with_capacity(DESCRIPTORS);
    for fd in &fds {
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, ASIDE);
        aside.push(step("descriptors", fd)?);
    }
    // Kept open until the execution.
    let _executes = step(
        "descriptors",
        rustix::io::fcntl_dupfd_cloexec(&executes, ASIDE),
    )?;
    std::mem::forget(executes);
    // What they were received as may be one of the numbers that are given now, and must not be closed afterwards.
    fds.into_iter().for_each(std::mem::forget);
    for (target, fd) in (1..).zip(&aside) {
        step("descriptors", sys::dup_onto(fd.as_fd(), target))?;
    }
    let all: HashMap<_, _> = (program.env.iter())
        .map(|(name, value)| (OsStr::new(name), OsStr::new(value)))
        .collect();
    let (Some(path), arguments) = (program.argv.first(), program.argv.get(1..)) else {
        let wrong = io::Error::from_raw_os_error(libc::EINVAL);
        return step("program", Err(wrong));
    };
    let mut command = Command::new(path);
    command
        .args(arguments.unwrap_or_default())
        .env_clear()
        .envs(all);
    // What else is open belongs to process 1, and all of it is closed on execution but these.
    step("descriptors", sys::close_range(5, ASIDE - 1))?;
    sys::reset_signals();
    step("execute", Err(command.exec()))
}

/// Puts the function's own limits on a program that waited, where they are its own.
pub(super) fn limit(pid: i32, limits: &Rlimits) -> Result<(), StepError> {
    for (resource, value) in [
        (Resource::FileSize, Some(limits.fsize)),
        (Resource::Processes, limits.nproc),
    ] {
        if let Some(value) = value {
            step("resource limit", sys::limit_of(pid, resource, value))?;
        }
    }
    Ok(())
}
