//! What server, launcher and init say to one another: JSON, one message a datagram.

use std::path::PathBuf;

use tidegate_core::Network;

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
        /// Folders to be hung where [`Payload::code`] says.
        code: Vec<PathBuf>,
        /// Layers of the image that takes the place of the machine's own files, the lowest first.
        layers: Vec<PathBuf>,
        host_network: bool,
        limits: GroupLimits,
    },
    /// Make a sandbox for a tool that is run once. Descriptors: payload (a [`JobPayload`] in a memory file), the init's end
    /// of its channel.
    Job { slot: u32, limits: GroupLimits },
    /// Start a program in a sandbox behind all walls before it is anybody's, to become somebody's by `Settle`. Descriptors:
    /// its standard output and error, then those that it finds as 3 and 4.
    Early {
        slot: u32,
        host_network: bool,
        program: Early,
    },
    /// Make the sandbox of a program that waits somebody's. Descriptors as for `Sandbox`.
    Settle {
        /// Names the answer: the slot may be another's by the time it comes.
        n: u64,
        slot: u32,
        code: Vec<PathBuf>,
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
        /// Whether memory is watched rather than held.
        watched: bool,
    },
    /// It cannot go on, and why. The first message, and the last.
    Unable {
        step: String,
        errno: i32,
        report: Report,
    },
    /// A sandbox's init exists. Descriptors: its pidfd; the door of its connections and the socket of its name server,
    /// where it has an outlet; then one `cgroup.procs` a group.
    Started {
        slot: u32,
        /// The user id it runs as, where that is not the server's own.
        id: Option<u32>,
        groups: Vec<PathBuf>,
        outlet: bool,
        made_us: u64,
    },
    /// A sandbox could not be made.
    Failed { slot: u32, step: String, errno: i32 },
    /// A sandbox was made somebody's, or at which step not; it ends then.
    Settled {
        n: u64,
        failed: Option<(String, i32)>,
        made_us: u64,
    },
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

/// A program that waits, all of it the same for everyone.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Early {
    /// Program and arguments; the program is a path inside.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Until the function's own apply.
    pub(crate) rlimits: Rlimits,
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
    /// Program and arguments, for `exec`; the program is a path inside, or looked up in the environment's `PATH`. Empty
    /// where nothing is executed.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Where programs begin.
    pub(crate) workdir: String,
    /// Where the function's own code and its dependencies are hung: paths inside.
    pub(crate) code: Vec<String>,
    /// Absent where the machine's own files are what is seen.
    pub(crate) root: Option<Root>,
    /// Name and base64 of the value.
    pub(crate) secrets: Vec<(String, String)>,
    /// Bytes under `/tmp`.
    pub(crate) tmp: u64,
    /// Bytes of memory that the watchdog allows.
    pub(crate) memory: u64,
    /// Thousandths of a core that it allows; 0 is no limit.
    pub(crate) cpu_milli: u32,
    /// What of the network it sees; outbound only where the sandbox has an outlet.
    pub(crate) network: Network,
    pub(crate) rlimits: Rlimits,
}

/// How an image becomes the root.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Root {
    /// User and group inside.
    pub(crate) user: (u32, u32),
    /// Where the image's programs begin; made where it is missing.
    pub(crate) workdir: String,
    pub(crate) read_only: bool,
    /// Whether the language hosts are hung into it.
    pub(crate) hosts: bool,
}

/// All that the init of a job needs to know.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct JobPayload {
    pub(crate) hostname: String,
    /// Program and arguments; the program is looked up in the environment's `PATH` when it has no slash.
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: String,
    pub(crate) folders: Vec<JobFolder>,
    /// Port of the loopback device on which a listening socket is made and handed out with [`Word::Ready`].
    pub(crate) door: Option<u16>,
    /// Bytes under `/tmp`.
    pub(crate) tmp: u64,
    /// Bytes of memory that the watchdog allows.
    pub(crate) memory: u64,
    /// Thousandths of a core that it allows; 0 is no limit.
    pub(crate) cpu_milli: u32,
    pub(crate) rlimits: Rlimits,
}

/// A folder of the machine's in a job's sandbox.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct JobFolder {
    pub(crate) outside: PathBuf,
    /// Below the root, without a leading slash.
    pub(crate) inside: PathBuf,
    pub(crate) writable: bool,
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
    /// Run the program. Descriptors: standard input, output, error; then, where `env` says that there is one, a memory file
    /// with the environment of this run (JSON pairs); then what the program finds as 3 and so on.
    Exec {
        n: u64,
        #[serde(default)]
        env: bool,
    },
    /// Kill that run and what it left.
    Kill { n: u64 },
    /// Kill everything; the init stays.
    Sweep,
    /// Signal that run's process group, or its first process alone.
    Signal { n: u64, signal: i32, alone: bool },
    /// Connect to this port on the loopback device.
    Dial { n: u64, port: u16 },
}

/// What an init tells the server.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Word {
    /// The walls stand. Descriptor: of a job, its door, where it has one.
    Ready { setup_us: u64 },
    /// A step of the set-up failed; the init ends.
    Broken { step: String, errno: i32 },
    /// The run has begun, or why not; in words where only the init can see the file.
    Begun {
        n: u64,
        errno: Option<i32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
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
    /// There are as many processes as there may be, or were when one of them ended.
    Full,
}
