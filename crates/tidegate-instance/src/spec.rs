//! What to start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{FunctionKey, InstanceId, InvocationId, Limits, Network};

use crate::Outbound;

/// Everything an isolation needs to start one instance.
#[derive(Clone)]
pub struct InstanceSpec {
    /// Number of the instance.
    pub id: InstanceId,
    /// Whose code it is.
    pub function: FunctionKey,
    /// Which revision, for the code to see and for messages.
    pub revision: Arc<str>,
    /// The unpacked bundle on this machine; read-only inside, at `/function`. Where there is a root, a folder with nothing in
    /// it means that all code is the image's, and is not shown.
    pub bundle: PathBuf,
    /// The unpacked dependencies on this machine, where they are apart; read-only inside, at `/layer`.
    pub layer: Option<PathBuf>,
    /// The file system that takes the place of the machine's own; bundle and layer are hung into it.
    pub root: Option<RootFs>,
    /// What to run.
    pub program: Program,
    /// The whole environment of the code: nothing of the server's is added but `PATH`, `HOME`, `TMPDIR` and `LANG` where
    /// absent; to that of an image's programs only `PATH`, and the `HOME` that the image's list of users has.
    pub env: Vec<(String, String)>,
    /// Files under `/run/secrets`.
    pub secrets: Vec<SecretFile>,
    /// Walls.
    pub limits: Limits,
    /// What of the network it sees.
    pub network: Network,
    /// What it reaches where that is [`Network::Outbound`]; nothing where absent.
    pub outbound: Option<Arc<dyn Outbound>>,
    /// Calls it takes at once.
    pub concurrency: u32,
    /// How long it may take until it can be called.
    pub ready_within: Duration,
    /// Where its output goes.
    pub logs: Arc<dyn LogSink>,
}

/// An image's file system on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFs {
    /// Its unpacked layers, the lowest first. All in them belongs to the server's user, whatever the image says, and what
    /// a layer takes away is marked as overlayfs marks it. Shared by all that run the image: never written to.
    pub layers: Vec<PathBuf>,
    /// User and group inside.
    pub user: (u32, u32),
    /// Where programs begin, an absolute path inside; made where it is missing. Where there is a bundle they begin there.
    pub workdir: String,
    /// Whether nothing but `/tmp` and `/dev/shm` can be written to. Otherwise what is written is gone with the instance, and bounded by
    /// [`Limits::tmp`].
    pub read_only: bool,
    /// Number of the signal that asks the program to end.
    pub stop_signal: i32,
}

/// What an instance runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A language host of ours, which loads the code and takes connections as descriptors.
    Host {
        /// The runtime: `python`.
        runtime: String,
        /// File to load, relative to the bundle.
        entry: String,
        /// Which attribute of it; the host's default where absent.
        handler: Option<String>,
    },
    /// A program that listens for HTTP on the port given in `$PORT`.
    Server {
        /// The runtime whose interpreter runs the file, or that of a file which the kernel runs.
        runtime: String,
        /// File to run, relative to the bundle.
        entry: String,
        /// Program and arguments to run in place of the entry, with the runtime's environment; empty where there is none.
        command: Vec<String>,
        /// The port, for programs that have one of their own.
        port: Option<u16>,
    },
    /// A program that is run once a call.
    PerCall {
        /// The runtime whose interpreter runs the file, or that of a file which the kernel runs.
        runtime: String,
        /// File to run, relative to the bundle.
        entry: String,
        /// Program and arguments to run in place of the entry, with the runtime's environment; empty where there is none.
        command: Vec<String>,
    },
}

/// A secret's value as the code reads it. `Debug` shows the name only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// File name under `/run/secrets`.
    pub name: String,
    /// Content.
    pub value: Arc<[u8]>,
}

/// Where an instance's output goes. Called from the isolation's tasks: must not block.
pub trait LogSink: Send + Sync {
    /// One line without its newline, at most 16 KiB. `invocation` is the call that wrote it where that is known exactly,
    /// and `None` where the line can only be attributed to the instance; it is never guessed.
    fn line(
        &self,
        instance: InstanceId,
        stream: LogStream,
        invocation: Option<InvocationId>,
        text: &[u8],
    );
}

/// Which stream a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A message of the platform's about the instance.
    System,
}

impl LogStream {
    /// The stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFile")
            .field("name", &self.name)
            .field("value", &"[redacted]")
            .finish()
    }
}

impl std::fmt::Debug for InstanceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceSpec")
            .field("id", &self.id)
            .field("function", &self.function)
            .field("revision", &self.revision)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}
