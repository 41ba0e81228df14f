//! Folders shown under other ids, so that what a job writes as an id of its own belongs to the server on the disk.
//!
//! The kernel takes the map from a user namespace, and a namespace needs a process to be made by: a short-lived child
//! takes the job's id, enters a namespace in which that id has the server's number, hands the namespace over and ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::sandbox::become_mapped;
use super::{StepError, step};
use crate::{sys, wire};

/// The namespace that maps our own ids to `outer`. Only where other ids than our own may be taken.
pub(super) fn map_to(outer: u32) -> Result<OwnedFd, StepError> {
    step("map of ids", by_a_child(outer))
}

fn by_a_child(outer: u32) -> io::Result<OwnedFd> {
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let (ours, theirs) = wire::pair(rustix::net::SocketFlags::empty())?;
    match sys::fork_into(0)? {
        sys::Fork::Child => {
            let made = become_mapped(&proc, own, outer)
                .map_err(|e| io::Error::from_raw_os_error(e.errno))
                .and_then(|()| File::open("/proc/self/ns/user"))
                .and_then(|map| wire::send(&theirs, b"m", &[map.as_fd()]));
            sys::exit_now(i32::from(made.is_err()));
        }
        sys::Fork::Parent { pidfd, .. } => {
            drop(theirs);
            let received = wire::receive(&ours, &mut [0; 1]);
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            received?
                .1
                .pop()
                .ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))
        }
    }
}
