//! Jobs: a tool run once behind the walls, to make something out of something.
//!
//! A step of a build is a job. It differs from an instance in that it is not called, may write into folders of the
//! machine's that it is given, and may reach the network through a door that its owner watches. That door is a listening
//! socket inside the sandbox's own network namespace, whose connections are accepted outside: there is no route, no
//! address translation and no name resolution inside, and what is let through is decided a connection at a time, the same
//! for root and an ordinary user.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Exit, LogStream, Usage};

/// A tool to run once.
#[derive(Clone)]
pub struct Job {
    /// What it is, in messages and as the sandbox's host name: `build-thumbnail`.
    pub name: String,
    /// Program and arguments. The program is an absolute path inside, or is looked up in `PATH`.
    pub command: Vec<String>,
    /// The whole environment; nothing of the server's is added but `PATH`, `HOME`, `TMPDIR` and `LANG` where absent, and
    /// the proxy variables where there is a door.
    pub env: Vec<(String, String)>,
    /// Where the tool begins, as a path inside.
    pub workdir: String,
    /// Folders of the machine's that it sees, beside `/usr` and what every sandbox has.
    pub folders: Vec<Folder>,
    /// Walls.
    pub limits: JobLimits,
    /// Takes the connections that are made inside to the proxy. Without one there is no network but loopback.
    pub egress: Option<Arc<dyn Egress>>,
    /// Where its output goes.
    pub output: Arc<dyn JobOutput>,
}

/// A folder of the machine's inside a job's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// On the machine. Where it is writable, all in it must belong to the server, and no file in it may have a second name
    /// elsewhere; where it is not, what everyone may read of it is read.
    pub outside: PathBuf,
    /// Absolute, and not of what every sandbox has: `/source`.
    pub inside: String,
    /// What is written belongs to the server's user when the job has ended, without set-user-id bits, and with every folder
    /// open to its owner.
    pub writable: bool,
}

/// Limits of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// Memory in bytes, what lies under `/tmp` included.
    pub memory: u64,
    /// Processor time in thousandths of a core.
    pub cpu_milli: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes under `/tmp`.
    pub tmp: u64,
    /// Bytes that the writable folders together may grow to, what is in them at first included.
    pub disk: u64,
    /// From the start to the end.
    pub time: Duration,
}

/// The port of a job's loopback device at which its HTTP proxy is found. The same for all, since each is alone in its
/// network namespace: tools that do not read the proxy variables can be told it ahead.
pub const EGRESS_PORT: u16 = 3128;

/// The outer side of a job's door to the network.
pub trait Egress: Send + Sync {
    /// Takes a connection that a process inside made to its HTTP proxy. Called on the isolation's control runtime: must
    /// not block, and spawns what serves the connection.
    fn accept(&self, connection: tokio::net::TcpStream);
}

/// Where a job's output goes. Called from the isolation's tasks: must not block.
pub trait JobOutput: Send + Sync {
    /// One line without its newline, at most 16 KiB.
    fn line(&self, stream: LogStream, text: &[u8]);
}

/// How a job ended.
#[derive(Clone, Copy, Debug)]
pub struct JobEnd {
    /// How its first process ended, or why it was ended.
    pub exit: Exit,
    /// What it used, where that is measured.
    pub usage: Option<Usage>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment may hold a registry's credentials.
        f.debug_struct("Job")
            .field("name", &self.name)
            .field("command", &self.command)
            .field("folders", &self.folders)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
