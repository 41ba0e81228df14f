//! Network namespaces: what takes longest of a sandbox to make.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::outlet::Outlet;
use super::{StepError, step};
use crate::report::{OUTBOUND, Report, State};
use crate::{sys, wire};

/// The setting of a network namespace that says from which port on anybody may listen.
const LEAST_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// A namespace, and its way out where this machine's kernel lets one be made.
pub(super) struct Made {
    pub(super) network: OwnedFd,
    pub(super) outlet: Option<Outlet>,
}

pub(super) struct Networks {
    /// Where the launcher lives and comes back to.
    home: OwnedFd,
    may_return: bool,
    /// Whether namespaces of instances get a way out.
    outlets: bool,
}

impl Networks {
    /// Tries what namespaces can be given, and says so.
    pub(super) fn new(report: &mut Report) -> Result<Self, StepError> {
        let home = step("own network namespace", File::open("/proc/self/ns/net"))?;
        let may_return = sys::setns(home.as_fd(), libc::CLONE_NEWNET).is_ok();
        let mut networks = Self {
            home: home.into(),
            may_return,
            outlets: true,
        };
        match networks.make() {
            Ok(_) => report.note(
                OUTBOUND,
                State::Ok,
                "connections of functions are judged and made by the server; 'none' and 'host' work as well",
            ),
            Err(error) => {
                networks.outlets = false;
                report.note(
                    OUTBOUND,
                    State::Missing,
                    format!(
                        "the kernel does not hand connections over ({error}; it takes nf_tables with tproxy); \
                         functions with network \"outbound\" get \"none\", and 'host' works"
                    ),
                );
            }
        }
        Ok(networks)
    }

    /// A namespace with a loopback device that is up, and the door that an instance's connections come to.
    pub(super) fn make(&self) -> io::Result<Made> {
        self.make_with(self.outlets)
    }

    /// A namespace with a loopback device that is up.
    pub(super) fn make_closed(&self) -> io::Result<OwnedFd> {
        Ok(self.make_with(false)?.network)
    }

    fn make_with(&self, outlet: bool) -> io::Result<Made> {
        if !self.may_return {
            return network_of_a_child(outlet);
        }
        sys::unshare(libc::CLONE_NEWNET)?;
        let made = furnish(outlet);
        if sys::setns(self.home.as_fd(), libc::CLONE_NEWNET).is_err() {
            // Everything made from here on would be in the wrong network: end, and let the server say so.
            std::process::exit(1);
        }
        made
    }
}

/// The current namespace with what belongs into it.
fn furnish(outlet: bool) -> io::Result<Made> {
    sys::loopback_up()?;
    // Programs of images listen where they always have, at 80 for one, and no other would do for whoever calls them. Where
    // the machine keeps its settings from us they cannot.
    let _ = fs::write(LEAST_PORT, "0");
    Ok(Made {
        outlet: outlet.then(Outlet::make).transpose()?,
        network: File::open("/proc/self/ns/net")?.into(),
    })
}

/// As an ordinary user we may leave the machine's network but not come back, so a child makes the namespace and hands it
/// over.
fn network_of_a_child(outlet: bool) -> io::Result<Made> {
    let (ours, theirs) = wire::pair(rustix::net::SocketFlags::empty())?;
    match sys::fork_into(libc::CLONE_NEWNET)? {
        sys::Fork::Child => {
            let told = match furnish(outlet) {
                Ok(Made { network, outlet }) => {
                    let mut fds = vec![network.as_fd()];
                    if let Some(Outlet { door, names }) = &outlet {
                        fds.extend([door.as_fd(), names.as_fd()]);
                    }
                    wire::send(&theirs, &0_i32.to_ne_bytes(), &fds)
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    wire::send(&theirs, &errno.to_ne_bytes(), &[])
                }
            };
            sys::exit_now(i32::from(told.is_err()));
        }
        sys::Fork::Parent { pidfd, .. } => {
            drop(theirs);
            let mut errno = [0; 4];
            let received = wire::receive(&ours, &mut errno);
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            let mut fds = received?.1.into_iter();
            let network = fds.next().ok_or_else(|| {
                io::Error::from_raw_os_error(match i32::from_ne_bytes(errno) {
                    0 => libc::EPERM,
                    errno => errno,
                })
            })?;
            let outlet = fds.next().zip(fds.next());
            let outlet = outlet.map(|(door, names)| Outlet { door, names });
            Ok(Made { network, outlet })
        }
    }
}
