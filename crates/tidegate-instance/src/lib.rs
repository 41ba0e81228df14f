//! The seam between contracts and isolations.
//!
//! A *contract* knows how code is called; an *isolation* knows where code runs. Neither knows the other's members. What
//! they share is here: an [`InstanceSpec`] says what to start, an [`Isolation`] starts it, and an [`Instance`] is the
//! running copy, which can be connected to, asked to run a program, told of a cancelled call, and ended.
//!
//! An instance is connected to through a *source of descriptors* rather than an address: a language host gets one end of
//! a socket pair over its control channel, and a program that listens on a port is dialled by the sandbox's own init,
//! inside its network namespace, which hands the connected descriptor out. So there is no path to clean up, no port to
//! collide, and nothing on the outside that another process could connect to.

#![forbid(unsafe_code)]

mod exit;
mod job;
mod machine;
mod outbound;
pub mod output;
mod spec;
mod stream;

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_core::{InstanceId, InvocationId};

pub use exit::{Exit, Reason};
pub use job::{EGRESS_PORT, Egress, Folder, Job, JobEnd, JobLimits, JobOutput};
pub use machine::copy_readable;
pub use outbound::{INSTANCE, Outbound, Outlet, RESOLVER};
pub use spec::{InstanceSpec, LogSink, LogStream, Program, RootFs, SecretFile};
pub use stream::Stream;

/// Where code runs. One value a server, shared.
#[async_trait]
pub trait Isolation: Send + Sync {
    /// The word for it in configuration, labels and messages: `process`.
    fn name(&self) -> &'static str;

    /// The runtimes that this isolation can start on this machine, present or not.
    fn runtimes(&self) -> Vec<Runtime>;

    /// Gets ready to start instances of this runtime, off the path of a call: a language's zygote is warmed. Cheap when
    /// that has been done.
    async fn prepare(&self, runtime: &str) -> Result<(), StartError>;

    /// Starts an instance and waits until it can be called. Dropping the future ends what had been started.
    async fn start(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, StartError>;

    /// Runs a tool once in a sandbox of its own and waits for its end. Dropping the future ends the tool and all it
    /// started.
    async fn run(&self, job: Job) -> Result<JobEnd, StartError> {
        Err(StartError::Runtime(format!(
            "{} cannot be run: the isolation {:?} builds nothing",
            job.name,
            self.name()
        )))
    }

    /// Ends everything, waiting at most for what the kernel takes.
    async fn shutdown(&self);
}

/// A running copy. Dropping the last handle ends it.
#[async_trait]
pub trait Instance: Send + Sync {
    /// Which one.
    fn id(&self) -> InstanceId;

    /// A new connection to the code, registered with the caller's runtime. An error means that the instance is gone or
    /// does not listen; no byte has been sent.
    async fn connect(&self) -> std::io::Result<Stream>;

    /// Runs the instance's program once, for contracts that take a process a call.
    async fn exec(&self, exec: Exec) -> std::io::Result<Process>;

    /// Tells the code that a call was cancelled, and resolves to true when the code is done with it; false when it
    /// cannot be told. Bounded by the caller.
    async fn cancel(&self, invocation: InvocationId) -> bool;

    /// Tells the code to finish what it does and end. Resolves at once; [`Instance::exited`] tells when it has.
    fn drain(&self);

    /// Ends the instance and all its processes, now.
    fn kill(&self);

    /// Waits until the instance is gone, and says why.
    async fn exited(&self) -> Exit;

    /// Whether the instance is gone.
    fn is_gone(&self) -> bool;

    /// CPU and memory so far. `None` where nothing measures them.
    fn usage(&self) -> Option<Usage>;

    /// Processor time so far in microseconds, where the kernel counts it for the instance and tells in a microsecond or two,
    /// so that it can be asked at the end of a call. `None` where it does not, and once the instance is gone.
    fn cpu_us(&self) -> Option<u64> {
        None
    }

    /// Highest memory so far in bytes, told as quickly. `None` as above.
    fn memory_peak(&self) -> Option<u64> {
        None
    }

    /// The time the parts of the start took.
    fn start_times(&self) -> StartTimes;
}

/// One run of an instance's program.
#[derive(Debug, Default)]
pub struct Exec {
    /// Added to the instance's environment, in place of what has the same name there. No name may come twice.
    pub env: Vec<(String, String)>,
    /// Attributes what the process writes to its standard error.
    pub invocation: Option<InvocationId>,
    /// Standard error goes where standard output goes, rather than to the log.
    pub merged: bool,
}

/// A process of a contract that takes one a call. Dropping it kills the process and what it left running in the instance.
#[derive(Debug)]
pub struct Process {
    /// Standard input; dropping it is the end of input.
    pub stdin: tokio::net::unix::pipe::Sender,
    /// Standard output.
    pub stdout: tokio::net::unix::pipe::Receiver,
    /// How it ended; sent once the process and all it left behind are gone. Dropped without a value when the instance died.
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
    /// Kills the process when dropped.
    pub guard: KillOnDrop,
}

/// Calls its function when dropped.
pub struct KillOnDrop(pub Option<Box<dyn FnOnce() + Send + Sync>>);

/// A runtime that an isolation knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Name without version: `python`, `executable`.
    pub name: String,
    /// `3.11.2`, where it has one and is present.
    pub version: Option<String>,
    /// `Ok` with where it is, or how to get it, as one sentence.
    pub available: Result<String, String>,
}

/// What an instance has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in microseconds.
    pub cpu_us: u64,
    /// Memory now, in bytes.
    pub memory: u64,
    /// Highest memory so far, in bytes; equal to `memory` where the kernel does not keep it.
    pub memory_peak: u64,
}

/// The parts of a start, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartTimes {
    /// Namespaces, mounts, cgroup.
    pub sandbox_us: u64,
    /// Process or fork, until its first instruction of ours.
    pub runtime_us: u64,
    /// Loading the code, until it could be called.
    pub load_us: u64,
}

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The code could not be loaded or ended before it could be called. The caller's fault; the trace is in the log.
    #[error("{message}")]
    Code {
        /// One line for the caller.
        message: String,
    },
    /// The code was not ready in time.
    #[error("the function was not ready within {limit:?}; {hint}")]
    NotReady {
        /// The bound.
        limit: std::time::Duration,
        /// What would make it ready.
        hint: &'static str,
    },
    /// The runtime is unknown or missing on this machine.
    #[error("{0}")]
    Runtime(String),
    /// The machine refused a step.
    #[error("sandbox step {step:?} failed: {source}")]
    Sandbox {
        /// The step, `mount /tmp`.
        step: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The host has as many instances as it may, and none of them became free.
    #[error(
        "the server has no room for another instance beside the {max} it may have; raise 'instances.max' or scale others down"
    )]
    NoRoom {
        /// The bound.
        max: usize,
    },
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

// === impl KillOnDrop ===

impl KillOnDrop {
    /// Kills now.
    pub fn kill(&mut self) {
        if let Some(kill) = self.0.take() {
            kill();
        }
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Debug for KillOnDrop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KillOnDrop")
            .field(&self.0.is_some())
            .finish()
    }
}
