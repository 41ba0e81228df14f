//! Where code runs, behind a kernel of its own: gVisor's `runsc`.
//!
//! A process sandbox shares the machine's kernel with the code in it, and a hole in that kernel is a hole in the sandbox.
//! `runsc` puts another kernel between them: a program's system calls are answered by gVisor's, a process in user space with
//! few rights, so that what the machine's kernel sees of a function is what that process asks of it. The price is a start
//! of most of a second and slower system calls, so this is for the code of strangers and not the default.
//!
//! Each instance is a container of its own, described by an OCI bundle and started by `runsc run`. Its process 1 is a
//! **relay**: the server's own program, executed again inside. It and the server meet at one socket of the file system,
//! mounted into the container where only its root may go: process 1 is that, and everything it starts is user 1000 without
//! rights. Over the first connection come orders; every stream of a program, and every connection to its port, is another
//! connection that the relay makes. So there is no network between them, and the container needs none.
//!
//! *Who dies takes its own with it* holds here as well: a relay that loses the server ends, and the container with it; a
//! `runsc` that is killed takes its sandbox along.
//!
//! What this isolation does not do is refused in words: language hosts that take over an interpreter, builds, and images,
//! whose layers would have to be mounted on the machine.

#![forbid(unsafe_code)]

mod bundle;
mod group;
mod instance;
mod isolation;
mod options;
mod protocol;
mod relay;
mod watch;

pub use isolation::RunscIsolation;
pub use options::{Error, Options, find};
pub use relay::{is_relay, relay_main};
