//! What is kept ready: sandboxes that have done the first half, and the pieces of the next one.

use std::os::fd::OwnedFd;

use super::network::Made;
use super::outlet::Outlet;
use super::sandbox::Held;
use crate::cgroup::Group;

pub(super) struct Stock {
    target: usize,
    held: Vec<Ready>,
    network: Option<Made>,
    group: Option<Group>,
    /// Not filled until the first sandbox was asked for: a server with nothing deployed holds nothing ready.
    wanted: bool,
    /// After a failure the stock waits for the next request, which will say what is wrong.
    failed: bool,
}

/// A sandbox that waits, and the server's part of it.
pub(super) struct Ready {
    pub(super) held: Held,
    /// `cgroup.procs` of each of its groups.
    pub(super) doors: Vec<OwnedFd>,
    pub(super) outlet: Option<Outlet>,
}

/// What the stock lacks next.
pub(super) enum Wants {
    Nothing,
    Network,
    Group,
    /// A sandbox of these two.
    Held(Made, Group),
}

impl Stock {
    pub(super) fn new(target: usize) -> Self {
        Self {
            target,
            held: Vec::new(),
            network: None,
            group: None,
            wanted: false,
            failed: false,
        }
    }

    pub(super) fn wants_refill(&self) -> bool {
        self.wanted && !self.failed && self.held.len() < self.target
    }

    pub(super) fn wants(&mut self) -> Wants {
        if !self.wants_refill() {
            return Wants::Nothing;
        }
        match (self.network.take(), self.group.take()) {
            (Some(network), Some(group)) => Wants::Held(network, group),
            (None, group) => {
                self.group = group;
                Wants::Network
            }
            (network, None) => {
                self.network = network;
                Wants::Group
            }
        }
    }

    pub(super) fn put_network(&mut self, network: Made) {
        self.network = Some(network);
    }

    pub(super) fn put_group(&mut self, group: Group) {
        self.group = Some(group);
    }

    pub(super) fn put(&mut self, ready: Ready) {
        self.held.push(ready);
    }

    pub(super) fn failed(&mut self) {
        self.failed = true;
    }

    /// Somebody asked.
    pub(super) fn is_wanted(&mut self) {
        self.wanted = true;
        self.failed = false;
    }

    pub(super) fn take(&mut self) -> Option<Ready> {
        self.held.pop()
    }

    pub(super) fn take_network(&mut self) -> Option<Made> {
        self.network.take()
    }

    pub(super) fn take_group(&mut self) -> Option<Group> {
        self.group.take()
    }
}

/// Numbers for user ids: the lowest that is free, and taken again only when all its processes are gone.
#[derive(Default)]
pub(super) struct Seats {
    free: Vec<u32>,
    next: u32,
}

impl Seats {
    /// There are as many as the server allows sandboxes, and the stock.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, seat: u32) {
        self.free.push(seat);
    }
}
