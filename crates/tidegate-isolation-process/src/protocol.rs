//! What server, launcher and init say to one another: JSON, one message a datagram.

use std::path::PathBuf;

use crate::cgroup::GroupLimits;
use crate::options::Cgroups;
use crate::report::Report;

/// Longest payload of a sandbox (environment and secrets) in bytes: what fits in no datagram goes in a memory file.
pub(crate) const MAX_PAYLOAD: usize = 8 * 1024 * 1024;

/// First message of the server's to the launcher.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Setup {
    pub(crate) state_dir: PathBuf,
    pub(crate) stock: usize,
    pub(crate) uid_base: u32,
    pub(crate) cgroups: Cgroups,
    pub(crate) server_pid: u32,
}

/// What the server asks of the launcher.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Ask {
    /// Make a sandbox. Descriptors: payload (a [`Payload`] in a memory file), the init's end of its channel.
    Sandbox {
        slot: u32,
        bundle: PathBuf,
        /// Dependencies beside the bundle.
        layer: Option<PathBuf>,
        host_network: bool,
        limits: GroupLimits,
    },
    /// Start a zygote that lives as long as the launcher. Descriptors: its socket (3), its standard error.
    Zygote { number: u64, argv: Vec<String> },
}

/// What the launcher tells the server.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Tell {
    /// It is ready; what the machine permits. The first message.
    Hello {
        report: Report,
        /// Whether the process limit has to be a resource limit.
        nproc: bool,
    },
    /// It cannot go on, and why. The first message, and the last.
    Unable {
        step: String,
        errno: i32,
        report: Report,
    },
    /// A sandbox's init exists. Descriptors: its pidfd, then one `cgroup.procs` a group.
    Started {
        slot: u32,
        /// The user id it runs as, where that is not the server's own.
        id: Option<u32>,
        groups: Vec<PathBuf>,
        made_us: u64,
    },
    /// A sandbox could not be made.
    Failed { slot: u32, step: String, errno: i32 },
    /// A sandbox is gone with all its processes, its groups are removed.
    Gone { slot: u32, last: LastWords },
    /// A zygote was started. Descriptor: its pidfd.
    ZygoteStarted { number: u64 },
    /// A zygote could not be started, or ended.
    ZygoteEnded { number: u64, error: String },
    /// A process ended whose parent had died before, so that nobody else can tell.
    Orphan {
        pid: i32,
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// What the kernel's accounts said when a sandbox ended.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct LastWords {
    /// Processes killed since memory ran out.
    pub(crate) oom_kills: u64,
    /// Forks refused by the process limit.
    pub(crate) fork_refusals: u64,
    pub(crate) cpu_us: u64,
    pub(crate) memory_peak: u64,
}

/// All an init needs to know of its sandbox.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Payload {
    pub(crate) hostname: String,
    /// Program and arguments, for `exec`; the program is a path inside. Empty where nothing is executed.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Name and base64 of the value.
    pub(crate) secrets: Vec<(String, String)>,
    /// Bytes under `/tmp`.
    pub(crate) tmp: u64,
    /// Bytes of memory that the watchdog allows.
    pub(crate) memory: u64,
    pub(crate) rlimits: Rlimits,
}

/// Resource limits, as the zygote takes them too.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Rlimits {
    pub(crate) nofile: u64,
    pub(crate) fsize: u64,
    pub(crate) core: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nproc: Option<u64>,
}

/// What the server asks of an init.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Order {
    /// Run the program. Descriptors: standard input, output, error; then a memory file with the environment of this run
    /// (JSON pairs) if there is one.
    Exec { n: u64 },
    /// Kill that run and what it left.
    Kill { n: u64 },
    /// Kill everything; the init stays.
    Sweep,
    /// Signal that run's process group.
    Signal { n: u64, signal: i32 },
    /// Connect to this port on the loopback device.
    Dial { n: u64, port: u16 },
}

/// What an init tells the server.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Word {
    /// The walls stand.
    Ready { setup_us: u64 },
    /// A step of the set-up failed; the init ends.
    Broken { step: String, errno: i32 },
    /// The run has begun, or why not.
    Begun { n: u64, errno: Option<i32> },
    /// The run has ended, and all it left is gone.
    Ended {
        n: u64,
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// Descriptor: the connection, when there is no error.
    Dialled { n: u64, errno: Option<i32> },
    /// The watchdog killed everything: so many bytes were in use.
    Memory { used: u64 },
    /// The watchdog cannot tell: all processes together are over the limit if they share no page. The server can look
    /// closer. So many bytes are in files.
    Crowded { files: u64 },
}
