//! What takes longest to make and is the same for everyone: network namespaces and control groups, kept ready.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{StepError, step};
use crate::cgroup::{Group, Tree};
use crate::sys;

pub(super) struct Stock {
    /// How many of each.
    target: usize,
    /// Where the launcher lives and comes back to.
    home: OwnedFd,
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
        Ok(Self {
            target,
            home: home.into(),
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
        sys::unshare(libc::CLONE_NEWNET)?;
        let made = sys::loopback_up().and_then(|()| File::open("/proc/self/ns/net"));
        if sys::setns(self.home.as_fd(), libc::CLONE_NEWNET).is_err() {
            // Everything made from here on would be in the wrong network: end, and let the server say so.
            std::process::exit(1);
        }
        Ok(made?.into())
    }
}
