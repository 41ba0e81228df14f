//! The canonical function: what every dialect's document is lowered to, and all the engine understands.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::egress::Rule;

/// One revision's code and configuration. Immutable: a change makes another.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FunctionSpec {
    /// Runtime by name, `python` or `executable`; resolved by the isolation that runs it.
    pub runtime: String,
    /// How the code is called, `host`, `http` or `stdio`; resolved by the contract crate.
    pub contract: String,
    /// The bundle.
    pub code: Code,
    /// Program and arguments that run in place of the code's entry, found by `PATH` or relative to the bundle's root; for
    /// contracts that run a program. The entry runs where this is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Which attribute of a module is the handler; the language host's default where absent.
    pub handler: Option<String>,
    /// Environment of the function, and nothing of the server's.
    pub env: BTreeMap<String, String>,
    /// Secrets the function may see.
    pub secrets: Vec<SecretUse>,
    /// Walls.
    pub limits: Limits,
    /// How many instances, when.
    pub scale: Scale,
    /// What of the network an instance sees.
    pub network: Network,
    /// All that an instance reaches where that is [`Network::Outbound`], beside the functions of its namespace; whatever
    /// the operator lets it where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<Rule>>,
    /// Who may call it.
    pub access: Access,
    /// The file system that the code finds, where it is an image's and not the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Changes when a secret it uses changes, so that instances are replaced; not set by clients.
    #[serde(default)]
    pub secrets_generation: u64,
}

/// The code of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Code {
    /// Digest of the bundle, `sha256:<64 hex>`; empty where all of the code is in the image of [`FunctionSpec::root`].
    pub digest: String,
    /// Path of the file to start or load, relative to the bundle's root.
    pub entry: String,
    /// Digest of the installed dependencies, where they are kept apart from the code so that a change of the one does not
    /// touch the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
}

/// An image as the file system of a function, with what its configuration says and the function's own wishes over it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Root {
    /// Digest of the image's manifest, `sha256:<64 hex>`: never a name, which may come to mean another image.
    pub image: String,
    /// User inside, as a number.
    pub user: u32,
    /// Group inside, as a number.
    pub group: u32,
    /// Where programs begin, an absolute path inside.
    pub workdir: String,
    /// Whether only `/tmp` can be written to. What is written elsewhere is gone with the instance, and bounded by the
    /// same limit.
    pub read_only: bool,
    /// Number of the signal that asks the program to end.
    pub stop_signal: i32,
    /// Where it listens, if it serves HTTP: images have ports of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What is asked until it answers well, before the first call; where absent, an instance is ready once it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Probe>,
}

/// A path by which a server says whether it is ready, with a status from 200 to 399.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// The path.
    pub path: String,
    /// A server that does not know the path (404) is ready, too: nobody has said that it has one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_missing: bool,
}

/// How the code is made ready to run, where its content does not say it all.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Build {
    /// The code runs as it was sent.
    pub skip: bool,
    /// Run by a shell in place of what the content asks for.
    pub command: Option<String>,
    /// Environment of every step.
    pub env: BTreeMap<String, String>,
    /// Secrets that the steps may see.
    pub secrets: Vec<BuildSecret>,
}

/// A secret that a build may see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BuildSecret {
    /// The secret's name: in the function's namespace, or among those that came with the source.
    pub name: String,
    /// Where it is.
    pub place: BuildSecretPlace,
}

/// Where a build finds a secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildSecretPlace {
    /// In a file, relative to the home folder: `.npmrc`.
    File(String),
    /// In an environment variable.
    Env(String),
    /// In a file of its own name in `/run/secrets`, which can only be read.
    Mount,
}

/// A secret that the function names.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecretUse {
    /// The secret's name in the function's namespace.
    pub name: String,
    /// Set in this environment variable; a file `/run/secrets/NAME` where absent.
    pub env: Option<String>,
}

/// Limits of an instance and of a call. Always on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Memory of an instance in bytes, page cache of its own included.
    pub memory: u64,
    /// Processor time in thousandths of a core.
    pub cpu_milli: u32,
    /// Processes and threads of an instance.
    pub pids: u32,
    /// Writable space in bytes under `/tmp`, counted against `memory` too since it is memory.
    pub tmp: u64,
    /// Longest time of a call, waiting and starting included, until its last byte.
    pub timeout: Duration,
    /// Longest time until the head of the response, waiting and starting included; never above `timeout`.
    pub first_byte: Duration,
    /// Longest time that a body, either way, may go without a byte.
    pub stream_idle: Duration,
    /// Largest request body in bytes.
    pub body: u64,
}

/// How many instances a function has, and when: one model that every dialect's labels map onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Scale {
    /// Never fewer than this many.
    pub min: u32,
    /// Never more than this many.
    pub max: u32,
    /// How many to start before a new revision takes traffic.
    pub initial: u32,
    /// Calls an instance takes at once; a hard limit.
    pub concurrency: u32,
    /// Calls an instance should have at once on average, in thousandths of `concurrency`; above it another is started.
    pub target_milli: u32,
    /// How long fewer have to do before one is stopped: with [`Metric::Concurrency`] an instance without a call, with the
    /// others a load that so many could have taken.
    pub idle: Duration,
    /// Without a call for this long none is kept, whatever `min` says; the next call starts that many again. Where absent,
    /// `min` are kept for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero: Option<Duration>,
    /// What somebody asked for by hand, in place of `min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
    /// What is observed to say how many instances there should be, beside the calls at hand.
    #[serde(default)]
    pub metric: Metric,
    /// Calls that may wait for an instance when there are as many as may be; the server's own bound where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
}

/// A number of instances that somebody asked for. A pool that is told a new one goes there at once, as far as its calls
/// allow, and from there on scales as ever, with this as its minimum. None means none until the next call, which is held
/// while an instance starts; from then on the minimum is that of the scale, and at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ByHand {
    /// So many.
    pub instances: u32,
    /// Tells a request from an earlier one for as many: larger with each.
    pub turn: u64,
}

/// What says how many instances a function should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The calls at hand; see [`Scale::target_milli`].
    #[default]
    Concurrency,
    /// Calls a second, in thousandths an instance.
    Rate {
        /// Thousandths of a call a second that one instance should have.
        target_milli: u64,
    },
    /// Processor time, in thousandths of a core an instance.
    Cpu {
        /// Thousandths of a core that one instance should use.
        target_milli: u64,
    },
}

/// What of the network an instance sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network namespace of its own with a loopback device and nothing else.
    None,
    /// The same, with a way out: the server makes the connections of the code in its place, after it has judged them, and
    /// answers its questions for names. TCP alone.
    Outbound,
    /// The machine's own network. Chosen by name, since it takes a wall down.
    Host,
}

/// Who may call a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Anyone who reaches the listener.
    Public,
    /// Callers with a key for the namespace.
    Private,
}

// === impl FunctionSpec ===

impl FunctionSpec {
    /// A function of which nothing is said but what it runs and how it is called: small, alone, up to four times. What a
    /// tool or a test begins with; a dialect says all of it.
    #[must_use]
    pub fn plain(runtime: &str, contract: &str, code: Code) -> Self {
        const A_MINUTE: Duration = Duration::from_secs(60);
        Self {
            runtime: runtime.to_owned(),
            contract: contract.to_owned(),
            code,
            command: Vec::new(),
            handler: None,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            limits: Limits {
                memory: 64 << 20,
                cpu_milli: 1000,
                pids: 64,
                tmp: 1 << 20,
                timeout: A_MINUTE,
                first_byte: A_MINUTE,
                stream_idle: A_MINUTE,
                body: 1 << 20,
            },
            scale: Scale {
                min: 0,
                max: 4,
                initial: 0,
                concurrency: 1,
                target_milli: 1000,
                idle: A_MINUTE,
                zero: None,
                by_hand: None,
                metric: Metric::default(),
                waiting: None,
            },
            network: Network::None,
            egress: None,
            access: Access::Public,
            root: None,
            secrets_generation: 0,
        }
    }
}
