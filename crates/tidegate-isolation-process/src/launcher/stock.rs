//! What takes longest to make and is the same for everyone: network namespaces and control groups, kept ready.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{StepError, step};
use crate::cgroup::{Group, Tree};
use crate::{sys, wire};

pub(super) struct Stock {
    /// How many of each.
    target: usize,
    /// Where the launcher lives and comes back to.
    home: OwnedFd,
    may_return: bool,
    networks: Vec<OwnedFd>,
    groups: Vec<Group>,
    /// Not filled until the first sandbox was asked for: a server with nothing deployed holds nothing ready.
    wanted: bool,
    /// After a failure the stock waits for the next request, which will say what is wrong.
    failed: bool,
}

impl Stock {
    pub(super) fn new(target: usize) -> Result<Self, StepError> {
        let home = step("own network namespace", File::open("/proc/self/ns/net"))?;
        let may_return = sys::setns(home.as_fd(), libc::CLONE_NEWNET).is_ok();
        Ok(Self {
            target,
            home: home.into(),
            may_return,
            networks: Vec::new(),
            groups: Vec::new(),
            wanted: false,
            failed: false,
        })
    }

    pub(super) fn wants_refill(&self) -> bool {
        self.wanted
            && !self.failed
            && (self.networks.len() < self.target || self.groups.len() < self.target)
    }

    /// Makes one thing.
    pub(super) fn refill(&mut self, tree: &mut Tree) {
        if !self.wants_refill() {
            return;
        }
        if self.networks.len() <= self.groups.len() && self.networks.len() < self.target {
            match self.make_network() {
                Ok(network) => self.networks.push(network),
                Err(_) => self.failed = true,
            }
        } else {
            match tree.group() {
                Ok(group) => self.groups.push(group),
                Err(_) => self.failed = true,
            }
        }
    }

    /// A namespace with a loopback device that is up.
    pub(super) fn network(&mut self) -> io::Result<OwnedFd> {
        self.wanted = true;
        self.failed = false;
        match self.networks.pop() {
            Some(network) => Ok(network),
            None => self.make_network(),
        }
    }

    pub(super) fn group(&mut self, tree: &mut Tree) -> io::Result<Group> {
        self.wanted = true;
        self.failed = false;
        match self.groups.pop() {
            Some(group) => Ok(group),
            None => tree.group(),
        }
    }

    pub(super) fn take_groups(&mut self) -> Vec<Group> {
        std::mem::take(&mut self.groups)
    }

    fn make_network(&self) -> io::Result<OwnedFd> {
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
