//! Where code runs: sandboxed processes on this machine.
//!
//! Four kinds of process take part. The **server** never forks. The **launcher** is the same program executed again with
//! one thread; it makes a sandbox on request: control groups and a network namespace from a stock, then a clone into new
//! mount, pid, ipc and uts namespaces. The clone's child is the sandbox's **init**: it mounts the machine's `/usr` and the
//! bundle read-only, swaps roots, enters a user namespace with one id, drops every right, installs the filter, and from
//! then on starts programs, reaps, and dials for the server, with which it shares a channel of its own. A language's
//! **zygote** has its interpreter loaded and forks children into sandboxes that are held ready for them.
//!
//! Two decisions carry the rest. *Descriptors, not addresses*: everything between these processes is a socket pair or a
//! pidfd, so there is no path to guess, no number that can come to mean another process, and the end of one is noticed by
//! the others at once. *Who dies takes its own with it*: an init that loses the server's channel ends, and the kernel ends
//! its pid namespace; a launcher that loses the server ends the inits; an init that loses the launcher is killed. So
//! nothing is left however the server went.
//!
//! An *image* takes the place of the machine's files where a function has one: its layers, which all that run it share, are
//! mounted over one another with a scratch space on top, and every path in it is resolved as if it were the root already,
//! since nobody vouches for its links.
//!
//! A *job* is a tool that is run once behind the same walls, to build something: it may write into folders that it is
//! given, and reach the network through a door that the server watches.
//!
//! An ordinary user gets the same sandboxes through a user namespace that the launcher enters first. What the machine does
//! not permit is said in the [`Report`] and made up for by weaker means, never passed over.
//!
//! These walls are for your own code and your teams': the kernel is shared.

// The launcher and the init make system calls that no safe wrapper has; they are gathered in `sys` and the launcher.
#![allow(unsafe_code)]

mod cgroup;
mod channel;
mod disk;
mod error;
mod explain;
mod fence;
mod instance;
mod isolation;
mod job;
mod language;
mod launcher;
mod node;
mod options;
mod outlet;
mod protocol;
mod python;
mod report;
mod seccomp;
mod start;
mod supervisor;
mod sys;
mod usage;
mod walk;
mod wire;
mod zygote;

use tidegate_instance::output;

pub use error::Error;
pub use isolation::{ProcessIsolation, languages, probe};
pub use launcher::{is_launcher, launcher_main};
pub use options::{Cgroups, Minimum, Options};
pub use report::{Capability, Report, State};
