//! Network namespaces: what takes longest of a sandbox to make.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{StepError, step};
use crate::{sys, wire};

pub(super) struct Networks {
    /// Where the launcher lives and comes back to.
    home: OwnedFd,
    may_return: bool,
}

impl Networks {
    pub(super) fn new() -> Result<Self, StepError> {
        let home = step("own network namespace", File::open("/proc/self/ns/net"))?;
        let may_return = sys::setns(home.as_fd(), libc::CLONE_NEWNET).is_ok();
        Ok(Self {
            home: home.into(),
            may_return,
        })
    }

    /// A namespace with a loopback device that is up.
    pub(super) fn make(&self) -> io::Result<OwnedFd> {
        if !self.may_return {
            return network_of_a_child();
        }
        sys::unshare(libc::CLONE_NEWNET)?;
        let made = sys::loopback_up().and_then(|()| File::open("/proc/self/ns/net"));
        if sys::setns(self.home.as_fd(), libc::CLONE_NEWNET).is_err() {
            // Everything made from here on would be in the wrong network: end, and let the server say so.
            std::process::exit(1);
        }
        Ok(made?.into())
    }
}

/// As an ordinary user we may leave the machine's network but not come back, so a child makes the namespace and hands it
/// over.
fn network_of_a_child() -> io::Result<OwnedFd> {
    let (ours, theirs) = wire::pair(rustix::net::SocketFlags::empty())?;
    match sys::fork_into(libc::CLONE_NEWNET)? {
        sys::Fork::Child => {
            let made = sys::loopback_up()
                .and_then(|()| File::open("/proc/self/ns/net"))
                .and_then(|network| wire::send(&theirs, b"n", &[network.as_fd()]));
            sys::exit_now(i32::from(made.is_err()));
        }
        sys::Fork::Parent { pidfd, .. } => {
            drop(theirs);
            let mut buffer = [0; 1];
            let received = wire::receive(&ours, &mut buffer);
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
