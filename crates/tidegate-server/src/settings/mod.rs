//! Settings: defaults, then a file, then the environment, then flags; every mistake reported at once, with where it
//! stands.
//!
//! One table ([`table`]) names every setting. The file's keys, the environment's variables and the reference page all
//! follow from it, so that a setting cannot be known in one place and not in another. [`layers`] lays the sources over
//! one another, [`checked`] makes the settings of the result, and [`words`] reads single values.

mod checked;
#[cfg(feature = "otlp")]
mod export;
mod layers;
mod table;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_core::record::Level;
use tidegate_egress::Policy as EgressPolicy;
use tidegate_platform::{ImageSettings, JobLimits, KeepOptions, Prices};

#[cfg(feature = "otlp")]
pub use export::ExportSettings;
use layers::Layers;
pub use table::reference;

/// Everything a server can be told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of everything that is kept.
    pub data: PathBuf,
    /// Address of the main listener; port 0 picks one.
    pub listen: SocketAddr,
    /// Whether the address was asked for by name, so that a busy one is an error.
    pub listen_is_explicit: bool,
    /// Where OpenFaaS's metrics are, if anywhere.
    pub openfaas_metrics: Option<SideListener>,
    /// Certificate chain and private key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who may use the control routes.
    pub auth: Auth,
    /// Listen beyond loopback without authentication.
    pub allow_unauthenticated_network: bool,
    /// Host names, beside loopback's, under which the control routes are served.
    pub hosts: Vec<String>,
    /// Serving threads.
    pub threads: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Longest time for a request's head to arrive, and for a kept connection to stay idle.
    pub header_timeout: Duration,
    /// Instances at once.
    pub max_instances: usize,
    /// Calls that may wait for one function.
    pub max_waiting: usize,
    /// Longest wait for an instance.
    pub max_wait: Duration,
    /// Longest time until a started instance can be called.
    pub ready_within: Duration,
    /// Revisions that are kept of a function.
    pub revisions: usize,
    /// How long calls in flight may take to finish when the server ends.
    pub grace: Duration,
    /// Refuse to run where the kernel does not hold the limits of instances.
    pub minimum_limits: bool,
    /// Functions run in containers of gVisor's; builds are run as processes in any case.
    pub runsc: bool,
    /// The Python interpreter, under `/usr`.
    pub python: Option<PathBuf>,
    /// What builds may use.
    pub build: BuildSettings,
    /// What images may be, and how registries are spoken to.
    pub images: ImageSettings,
    /// Registries that images may come from; any where absent.
    pub registries: Option<Vec<String>>,
    /// The Docker configuration with the server's own credentials for registries.
    pub docker_config: Option<PathBuf>,
    /// How invocations are recorded and billed.
    pub records: RecordSettings,
    /// How calls are kept that are made later.
    pub queue: QueueSettings,
    /// What is exported, if anything.
    #[cfg(feature = "otlp")]
    pub otlp: Option<ExportSettings>,
    /// What functions reach that ask for a way out; `None` where none does.
    pub outbound: Option<EgressPolicy>,
    /// Interpreters of the other languages by name, under `/usr`, where they are not the usual ones.
    pub interpreters: BTreeMap<String, PathBuf>,
    /// Which log lines of the server's.
    pub log: String,
    /// How they are written.
    pub log_format: LogFormat,
}

/// A listener beside the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideListener {
    /// Its address; port 0 picks one.
    pub address: SocketAddr,
    /// Whether it was asked for by name, so that a busy one is an error.
    pub explicit: bool,
}

/// What builds may use.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// Walls of each step; `time` is that of the whole build.
    pub limits: JobLimits,
    /// Builds at the same time.
    pub at_once: usize,
    /// What steps that fetch reach; `None` where they reach nothing.
    pub egress: Option<EgressPolicy>,
    /// Environment of every step.
    pub env: Vec<(String, String)>,
}

/// How invocations are recorded and billed.
#[derive(Clone, Debug)]
pub struct RecordSettings {
    /// Which leave a record where their function does not say.
    pub level: Level,
    /// For how long, how much, and what is billed.
    pub keep: KeepOptions,
    /// What usage costs.
    pub prices: Prices,
    /// Whether answers say what they cost.
    pub bill: bool,
}

/// How calls are kept that are made later.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Calls that may be queued.
    pub max_items: u64,
    /// The size that the queue's file and the bodies beside it may reach, in bytes.
    pub max_bytes: u64,
    /// Largest body of a request, in bytes.
    pub max_body: u64,
    /// Calls that are made at once.
    pub at_once: u32,
    /// How long results can be asked for, where a function does not say.
    pub keep_results: Duration,
    /// Bytes of all results.
    pub results_bytes: u64,
    /// How long dead letters are kept.
    pub keep_dead: Duration,
    /// Bytes of all dead letters.
    pub dead_bytes: u64,
    /// How long idempotency keys are remembered.
    pub remember: Duration,
    /// What may be told of an end by address; nothing where absent.
    pub callbacks: Option<EgressPolicy>,
}

/// Who may use the control routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Whoever sends the admin key.
    Key,
    /// Anyone who reaches the listener.
    None,
}

/// How the server's log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The default.
    Default,
    /// A key of the file.
    File(PathBuf),
    /// A variable.
    Environment(String),
    /// A flag of its own, or `--set`.
    Flag(String),
}

/// Settings that are flags of their own; the others are given with `--set`.
const FLAGS: [&str; 2] = ["data", "listen"];

/// Every mistake that was found.
#[derive(Debug, thiserror::Error)]
pub struct SettingsError {
    /// One line each.
    pub mistakes: Vec<String>,
}

// === impl Settings ===

impl Settings {
    /// Layers the sources. `flags` are pairs of a key and its value; `environment` is asked by variable.
    ///
    /// # Errors
    /// Every mistake of every source.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<OsString>,
        flags: &[(String, String)],
    ) -> Result<Self, SettingsError> {
        let mut layers = Layers::default();
        if let Some(path) = file {
            layers.file(path);
        }
        layers.environment(&environment);
        for (key, value) in flags {
            layers.set(key, value.clone(), Source::Flag(key.clone()));
        }
        layers.finish(&environment)
    }
}

// === impl Source, SettingsError ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "settings file {}", path.display()),
            Self::Environment(name) => write!(f, "variable {name}"),
            Self::Flag(name) if FLAGS.contains(&name.as_str()) => write!(f, "flag --{name}"),
            Self::Flag(name) => write!(f, "--set {name}"),
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistakes.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_platform::BUILD_LIMITS;

    use super::*;

    fn none(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn defaults_are_all_valid() {
        let settings = Settings::load(None, none, &[]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.build.limits, BUILD_LIMITS);
        assert!(!settings.listen_is_explicit);
        assert!(settings.tls.is_none() && settings.auth == Auth::Key);
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        std::fs::write(
            &file,
            "listen = \"127.0.0.1:1\"\ngrace = \"1s\"\n[calls]\nmax-wait = \"5s\"\n",
        )
        .unwrap();
        let env = |name: &str| {
            (name == "TIDEGATE_LISTEN")
                .then(|| "127.0.0.1:2".into())
                .or_else(|| (name == "TIDEGATE_GRACE").then(|| "2s".into()))
        };
        let flags = [("listen".to_owned(), "127.0.0.1:3".to_owned())];
        let settings = Settings::load(Some(&file), env, &flags).unwrap();
        assert_eq!(settings.listen.port(), 3);
        assert_eq!(settings.grace, Duration::from_secs(2));
        assert_eq!(settings.max_wait, Duration::from_secs(5));
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        std::fs::write(
            &file,
            "lisen = \"x\"\nthreads = 0\n[calls]\nwait = 3\n[tls]\nkey = \"k\"\n",
        )
        .unwrap();
        let env = |name: &str| (name == "TIDEGATE_AUTH").then(|| "maybe".into());
        let flags = [
            ("listen".to_owned(), "8080".to_owned()),
            ("images.registries".to_owned(), "any,example.org".to_owned()),
        ];
        let mistakes = Settings::load(Some(&file), env, &flags)
            .unwrap_err()
            .mistakes;
        for part in [
            "\"lisen\"",
            "\"calls.wait\"",
            "threads is \"0\"",
            "TIDEGATE_AUTH",
            "flag --listen",
            "--set images.registries: images.registries is \"any,example.org\": \"any\" stands alone",
            "tls.certificate",
        ] {
            assert!(
                mistakes.iter().any(|m| m.contains(part)),
                "{part} in {mistakes:#?}"
            );
        }
        assert_eq!(mistakes.len(), 7, "{mistakes:#?}");
    }
}
