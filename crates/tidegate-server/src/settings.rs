//! Settings: defaults, then a file, then the environment, then flags; every mistake reported at once, with where it
//! stands.
//!
//! One table names every setting. The file's keys, the environment's variables and the reference page all follow from it,
//! so that a setting cannot be known in one place and not in another.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_core::{parse_bytes, parse_cpu, parse_duration};
use tidegate_egress::{Policy as EgressPolicy, Target, Upstreams};
use tidegate_platform::{BUILD_LIMITS, ImageSettings, JobLimits};

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
    /// The Python interpreter, under `/usr`.
    pub python: Option<PathBuf>,
    /// What builds may use.
    pub build: BuildSettings,
    /// What images may be, and how registries are spoken to.
    pub images: ImageSettings,
    /// The Docker configuration with the server's own credentials for registries.
    pub docker_config: Option<PathBuf>,
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
    /// A flag.
    Flag(String),
}

/// Every mistake that was found.
#[derive(Debug, thiserror::Error)]
pub struct SettingsError {
    /// One line each.
    pub mistakes: Vec<String>,
}

/// A setting: its key in the file, its default as text, what it is for.
struct Setting {
    key: &'static str,
    default: &'static str,
    help: &'static str,
}

/// Every setting. A default that depends on the machine is empty here and explained.
const SETTINGS: &[Setting] = &[
    Setting {
        key: "data",
        default: "",
        help: "folder of everything that is kept; /var/lib/tidegate for root, else ~/.local/share/tidegate",
    },
    Setting {
        key: "listen",
        default: "127.0.0.1:8080",
        help: "address of the main listener; port 0 picks one",
    },
    Setting {
        key: "openfaas.metrics",
        default: "127.0.0.1:8082",
        help: "address of OpenFaaS's metrics, or 'off'; off with a warning where the default one is in use",
    },
    Setting {
        key: "tls.certificate",
        default: "",
        help: "certificate chain, PEM; turns TLS on together with tls.key",
    },
    Setting {
        key: "tls.key",
        default: "",
        help: "private key, PEM",
    },
    Setting {
        key: "auth",
        default: "key",
        help: "who may use the control routes: 'key', whoever sends the admin key; 'none', anyone",
    },
    Setting {
        key: "allow-unauthenticated-network",
        default: "false",
        help: "with auth = \"none\", listen beyond loopback all the same",
    },
    Setting {
        key: "hosts",
        default: "",
        help: "host names, beside loopback's, under which the control routes are served; separated by commas",
    },
    Setting {
        key: "threads",
        default: "",
        help: "serving threads; one a processor",
    },
    Setting {
        key: "max-connections",
        default: "16384",
        help: "connections at once; further ones wait to be accepted",
    },
    Setting {
        key: "header-timeout",
        default: "30s",
        help: "longest time for a request's head to arrive, and for a kept connection to stay idle",
    },
    Setting {
        key: "instances.max",
        default: "",
        help: "instances at once; one for each 32 MiB of the machine's memory",
    },
    Setting {
        key: "instances.ready-within",
        default: "30s",
        help: "longest time until a started instance can be called",
    },
    Setting {
        key: "calls.max-waiting",
        default: "1024",
        help: "calls that may wait for one function; beyond it 429",
    },
    Setting {
        key: "calls.max-wait",
        default: "30s",
        help: "longest wait for an instance; beyond it 429",
    },
    Setting {
        key: "revisions.keep",
        default: "10",
        help: "revisions that are kept of a function, beside those in use",
    },
    Setting {
        key: "grace",
        default: "30s",
        help: "how long calls in flight may take to finish when the server ends",
    },
    Setting {
        key: "isolation.minimum",
        default: "walls",
        help: "'limits' refuses to run where the kernel does not hold the limits of instances",
    },
    Setting {
        key: "runtimes.java",
        default: "",
        help: "the Java program, under /usr; /usr/bin/java where absent",
    },
    Setting {
        key: "runtimes.node",
        default: "",
        help: "the Node.js interpreter, under /usr; /usr/bin/node where absent",
    },
    Setting {
        key: "runtimes.php",
        default: "",
        help: "the PHP interpreter, under /usr; /usr/bin/php where absent",
    },
    Setting {
        key: "runtimes.python",
        default: "",
        help: "the Python interpreter, under /usr; /usr/bin/python3 where absent",
    },
    Setting {
        key: "build.timeout",
        default: "15m",
        help: "longest time of a build",
    },
    Setting {
        key: "build.memory",
        default: "2Gi",
        help: "memory of a build",
    },
    Setting {
        key: "build.cpu",
        default: "4",
        help: "cores of a build",
    },
    Setting {
        key: "build.disk",
        default: "8Gi",
        help: "bytes that a build may write, downloads that are kept for the next included",
    },
    Setting {
        key: "build.pids",
        default: "1024",
        help: "processes and threads of a build",
    },
    Setting {
        key: "build.concurrent",
        default: "2",
        help: "builds at the same time",
    },
    Setting {
        key: "build.network",
        default: "outbound",
        help: "'outbound', steps that fetch dependencies reach registries; 'none', they fail",
    },
    Setting {
        key: "build.allow",
        default: "",
        help: "hosts (name, address or network, :port where it matters) that builds reach although they are private; separated by commas",
    },
    Setting {
        key: "build.environment",
        default: PACKAGE_VARIABLES,
        help: "variables of the server's environment that builds see, where they are set; separated by commas",
    },
    Setting {
        key: "images.docker-config",
        default: "",
        help: "file with the server's own credentials for registries, as 'docker login' writes it; ~/.docker/config.json, or 'none'",
    },
    Setting {
        key: "images.max-size",
        default: "16Gi",
        help: "bytes of an image, unpacked",
    },
    Setting {
        key: "images.max-layers",
        default: "127",
        help: "layers of an image",
    },
    Setting {
        key: "images.max-files",
        default: "1000000",
        help: "files and folders of an image",
    },
    Setting {
        key: "images.connect-timeout",
        default: "10s",
        help: "longest time for a connection to a registry to be made",
    },
    Setting {
        key: "images.idle-timeout",
        default: "30s",
        help: "longest time that a registry may send nothing",
    },
    Setting {
        key: "images.insecure",
        default: "",
        help: "registries (host, or host:port), beside those of this machine, that are spoken to without TLS; separated by commas",
    },
    Setting {
        key: "runtimes.ruby",
        default: "",
        help: "the Ruby interpreter, under /usr; /usr/bin/ruby where absent",
    },
    Setting {
        key: "log.level",
        default: "info",
        help: "which log lines: error, warn, info, debug, trace, or a filter such as info,tidegate_engine=debug",
    },
    Setting {
        key: "log.format",
        default: "text",
        help: "'text' or 'json'",
    },
];

/// What package managers read of an environment to know where packages are: an operator who has set them for himself
/// means them for the builds too. None of them is meant for credentials; those are secrets that a function names.
const PACKAGE_VARIABLES: &str = "PIP_INDEX_URL,PIP_EXTRA_INDEX_URL,PIP_TRUSTED_HOST,UV_INDEX_URL,UV_DEFAULT_INDEX,\
NPM_CONFIG_REGISTRY,npm_config_registry,GOPROXY,GONOPROXY,GOPRIVATE,GOSUMDB,GONOSUMDB,GOTOOLCHAIN,\
CARGO_REGISTRIES_CRATES_IO_PROTOCOL,BUNDLE_MIRROR__ALL,COMPOSER_REPO_PACKAGIST";

/// Memory of the machine for each instance that it may have.
const MEMORY_PER_INSTANCE: u64 = 32 << 20;
/// Languages whose interpreter may be named, beside Python.
const INTERPRETERS: [(&str, &str); 4] = [
    ("java", "runtimes.java"),
    ("node", "runtimes.node"),
    ("php", "runtimes.php"),
    ("ruby", "runtimes.ruby"),
];

/// Bytes of a settings file that are read: it is a page of text.
const MAX_FILE: u64 = 1 << 20;

/// The reference of every setting: key, variable, default, what it is.
#[must_use]
pub fn reference() -> String {
    let mut page = String::new();
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        page.push_str(&format!(
            "  {}{default}\n      {}\n",
            setting.key, setting.help
        ));
    }
    page
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

#[derive(Default)]
struct Layers {
    values: BTreeMap<&'static str, (String, Source)>,
    mistakes: Vec<String>,
}

impl Layers {
    fn file(&mut self, path: &Path) {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => {
                return self
                    .mistakes
                    .push(format!("settings file {}: {error}", path.display()));
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.table("", table, path),
            Err(error) => {
                let text = error.to_string();
                self.mistakes.push(format!(
                    "settings file {}: {}",
                    path.display(),
                    text.trim_end()
                ));
            }
        }
    }

    fn table(&mut self, prefix: &str, table: toml::Table, path: &Path) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            let source = Source::File(path.to_owned());
            match value {
                toml::Value::Table(inner) if !known(&key) => self.table(&key, inner, path),
                toml::Value::String(text) => self.set(&key, text, source),
                toml::Value::Array(items) => {
                    let items: Vec<_> = items
                        .into_iter()
                        .map(|item| {
                            item.as_str()
                                .map_or_else(|| item.to_string(), str::to_owned)
                        })
                        .collect();
                    self.set(&key, items.join(","), source);
                }
                other => self.set(&key, other.to_string(), source),
            }
        }
    }

    fn environment(&mut self, environment: &impl Fn(&str) -> Option<OsString>) {
        for setting in SETTINGS {
            let name = variable(setting.key);
            match environment(&name).map(OsString::into_string) {
                Some(Ok(value)) => self.set(setting.key, value, Source::Environment(name)),
                Some(Err(_)) => self.mistakes.push(format!("variable {name} is not text")),
                None => {}
            }
        }
    }

    fn set(&mut self, key: &str, value: String, source: Source) {
        match SETTINGS.iter().find(|s| s.key == key) {
            Some(setting) => drop(self.values.insert(setting.key, (value, source))),
            None => {
                let near: Vec<_> = SETTINGS
                    .iter()
                    .map(|s| s.key)
                    .filter(|k| {
                        k.split('.').next_back() == key.split('.').next_back() || k.starts_with(key)
                    })
                    .collect();
                let hint = if near.is_empty() {
                    "'tidegate up --help' lists the settings".to_owned()
                } else {
                    format!("did you mean {}?", near.join(" or "))
                };
                self.mistakes
                    .push(format!("{source}: unknown setting {key:?}; {hint}"));
            }
        }
    }

    /// The value of a setting, parsed; the default's type where it is wrong, with the mistake noted.
    fn get<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
        fallback: impl FnOnce() -> T,
    ) -> T {
        let default = SETTINGS
            .iter()
            .find(|s| s.key == key)
            .map_or("", |s| s.default);
        let (text, source) = match self.values.get(key) {
            Some((text, source)) => (text.as_str(), source.clone()),
            None if default.is_empty() => return fallback(),
            None => (default, Source::Default),
        };
        match parse(text) {
            Ok(value) => value,
            Err(error) => {
                self.mistakes
                    .push(format!("{source}: {key} is {text:?}: {error}"));
                fallback()
            }
        }
    }

    fn finish(
        mut self,
        environment: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<Settings, SettingsError> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
        let listen_is_explicit = self.values.contains_key("listen");
        let path = |text: &str| Ok::<_, String>(Some(PathBuf::from(text)));
        let positive = |text: &str| match text.parse::<usize>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err("write a whole number above zero"),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let certificate = self.get("tls.certificate", path, || None);
        let key = self.get("tls.key", path, || None);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (given, _) => {
                let (given, missing) = if given.is_some() {
                    ("tls.certificate", "tls.key")
                } else {
                    ("tls.key", "tls.certificate")
                };
                self.mistakes.push(format!(
                    "{given} is set but {missing} is not: TLS needs both"
                ));
                None
            }
        };
        let settings = Settings {
            data: self.get(
                "data",
                |t| Ok::<_, String>(PathBuf::from(t)),
                || default_data(environment),
            ),
            listen: self.get("listen", address, || loopback),
            listen_is_explicit,
            openfaas_metrics: self
                .side("openfaas.metrics", SocketAddr::from(([127, 0, 0, 1], 8082))),
            tls,
            auth: self.get(
                "auth",
                one_of(&[("key", Auth::Key), ("none", Auth::None)]),
                || Auth::Key,
            ),
            allow_unauthenticated_network: self.get(
                "allow-unauthenticated-network",
                one_of(&[("true", true), ("false", false)]),
                || false,
            ),
            hosts: self.get("hosts", hosts, Vec::new),
            threads: self.get("threads", positive, || cores),
            max_connections: self.get("max-connections", positive, || 1),
            header_timeout: self.get("header-timeout", duration, || Duration::from_secs(30)),
            max_instances: self.get("instances.max", positive, default_instances),
            ready_within: self.get("instances.ready-within", duration, || {
                Duration::from_secs(30)
            }),
            max_waiting: self.get("calls.max-waiting", positive, || 1),
            max_wait: self.get("calls.max-wait", duration, || Duration::from_secs(30)),
            revisions: self.get("revisions.keep", positive, || 1),
            grace: self.get("grace", parse_duration, || Duration::from_secs(30)),
            minimum_limits: self.get(
                "isolation.minimum",
                one_of(&[("walls", false), ("limits", true)]),
                || false,
            ),
            python: self.get("runtimes.python", path, || None),
            build: self.build(environment),
            images: self.images(),
            docker_config: self.get(
                "images.docker-config",
                |text| Ok::<_, String>(Some(PathBuf::from(text)).filter(|_| text != "none")),
                || docker_config(environment),
            ),
            interpreters: INTERPRETERS
                .iter()
                .filter_map(|&(name, key)| {
                    let program = self.get(key, path, || None)?;
                    Some((name.to_owned(), program))
                })
                .collect(),
            log: self.get("log.level", logging_filter, || "info".to_owned()),
            log_format: self.get(
                "log.format",
                one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
                || LogFormat::Text,
            ),
        };
        if self.mistakes.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsError {
                mistakes: self.mistakes,
            })
        }
    }
}

impl Layers {
    fn side(&mut self, key: &'static str, default: SocketAddr) -> Option<SideListener> {
        let explicit = self.values.contains_key(key);
        let parse = |text: &str| match text {
            "off" => Ok(None),
            text => address(text).map(Some),
        };
        let address = self.get(key, parse, || Some(default))?;
        Some(SideListener { address, explicit })
    }

    fn build(&mut self, environment: &impl Fn(&str) -> Option<OsString>) -> BuildSettings {
        let bytes = |text: &str| match parse_bytes(text) {
            Ok(0) => Err("write a size above zero, such as 2Gi".to_owned()),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        };
        let words = |text: &str| {
            let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
            Ok::<_, String>(words.map(str::to_owned).collect::<Vec<_>>())
        };
        let count = |text: &str| match text.parse::<u32>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err("write a whole number above zero"),
        };
        let network = self.get(
            "build.network",
            one_of(&[("outbound", true), ("none", false)]),
            || true,
        );
        let names = self.get("build.environment", words, Vec::new);
        let value = |name: String| {
            let value = environment(&name)?.into_string().ok()?;
            Some((name, value))
        };
        let env: Vec<_> = names.into_iter().filter_map(value).collect();
        let egress = self.egress(&env, environment);
        BuildSettings {
            limits: JobLimits {
                memory: self.get("build.memory", bytes, || BUILD_LIMITS.memory),
                cpu_milli: self.get("build.cpu", parse_cpu, || BUILD_LIMITS.cpu_milli),
                pids: self.get("build.pids", count, || BUILD_LIMITS.pids),
                disk: self.get("build.disk", bytes, || BUILD_LIMITS.disk),
                time: self.get("build.timeout", duration, || BUILD_LIMITS.time),
                ..BUILD_LIMITS
            },
            at_once: self.get("build.concurrent", count, || 1) as usize,
            egress: network.then_some(egress),
            env,
        }
    }

    fn images(&mut self) -> ImageSettings {
        let size = |text: &str| match parse_bytes(text) {
            Ok(0) => Err("write a size above zero, such as 2Gi".to_owned()),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        };
        let layers = |text: &str| match text.parse::<usize>() {
            // As many as fit into one mount.
            Ok(n) if (1..=500).contains(&n) => Ok(n),
            _ => Err("write a whole number from 1 to 500"),
        };
        let count = |text: &str| match text.parse::<u64>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err("write a whole number above zero"),
        };
        let registries = |text: &str| {
            let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
            let words: Vec<String> = words.map(str::to_owned).collect();
            match words.iter().find(|word| word.contains('/')) {
                Some(bad) => Err(format!(
                    "{bad:?} is no registry; write registry.example.org or registry.example.org:5000"
                )),
                None => Ok(words),
            }
        };
        let usual = ImageSettings::default();
        ImageSettings {
            max_image_bytes: self.get("images.max-size", size, || usual.max_image_bytes),
            max_layers: self.get("images.max-layers", layers, || usual.max_layers),
            max_entries: self.get("images.max-files", count, || usual.max_entries),
            connect: self.get("images.connect-timeout", duration, || usual.connect),
            idle: self.get("images.idle-timeout", duration, || usual.idle),
            insecure: self.get("images.insecure", registries, Vec::new),
            ..usual
        }
    }

    /// What builds reach: the open network, what the operator names, and the registries that the operator's own
    /// environment names, be they private or not.
    fn egress(
        &mut self,
        env: &[(String, String)],
        environment: &impl Fn(&str) -> Option<OsString>,
    ) -> EgressPolicy {
        let mut policy = self.get("build.allow", allowed, EgressPolicy::default);
        let words = env
            .iter()
            .flat_map(|(_, value)| value.split([',', '|', ' ']));
        policy
            .named
            .extend(words.filter_map(|word| Target::of_url(word).ok()));
        match Upstreams::from_env(|name| environment(name)?.into_string().ok()) {
            Ok(upstreams) => policy.upstreams = upstreams,
            Err(error) => self
                .mistakes
                .push(format!("a proxy of the environment: {error}")),
        }
        policy
    }
}

/// Where `docker login` keeps credentials.
fn docker_config(environment: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("DOCKER_CONFIG") {
        return Some(PathBuf::from(folder).join("config.json"));
    }
    Some(PathBuf::from(set("HOME")?).join(".docker/config.json"))
}

fn known(key: &str) -> bool {
    SETTINGS.iter().any(|s| s.key == key)
}

/// `TIDEGATE_LISTEN`, `TIDEGATE_CALLS_MAX_WAIT`.
fn variable(key: &str) -> String {
    format!(
        "TIDEGATE_{}",
        key.to_ascii_uppercase().replace(['.', '-'], "_")
    )
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!(
            "is larger than {MAX_FILE} bytes"
        )));
    }
    Ok(text)
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let text = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let text = if text.starts_with(':') {
        format!("127.0.0.1{text}")
    } else {
        text
    };
    text.parse()
        .map_err(|_| "write an address and a port such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:0")
}

fn hosts(text: &str) -> Result<Vec<String>, String> {
    let hosts: Vec<String> = text
        .split(',')
        .map(|h| h.trim().to_ascii_lowercase())
        .filter(|h| !h.is_empty())
        .collect();
    match hosts.iter().find(|h| h.contains(['/', ':', ' '])) {
        Some(bad) => Err(format!(
            "{bad:?} is not a host name; write it without scheme and port"
        )),
        None => Ok(hosts),
    }
}

fn allowed(text: &str) -> Result<EgressPolicy, String> {
    let mut policy = EgressPolicy::default();
    let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
    for word in words {
        if let Ok(network) = word.parse() {
            policy.networks.push(network);
            continue;
        }
        let (host, ports) = match word.rsplit_once(':').map(|(h, p)| (h, p.parse())) {
            Some((host, Ok(port))) => (host, vec![port]),
            _ => (word, vec![80, 443]),
        };
        for port in ports {
            let target = Target::new(host, port).ok_or_else(|| {
                format!("{word:?} is no host name, address or network; write registry.example.org, registry.example.org:4873 or 10.0.0.0/8")
            })?;
            policy.named.push(target);
        }
    }
    Ok(policy)
}

fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("write a duration above zero, such as 30s".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn logging_filter(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::filter::Targets>()
        .map(|_| text.to_owned())
        .map_err(|_| {
            "write error, warn, info, debug, trace, or a filter such as info,tidegate_engine=debug"
                .to_owned()
        })
}

fn one_of<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let words: Vec<_> = choices
                    .iter()
                    .map(|(word, _)| format!("{word:?}"))
                    .collect();
                format!("write {}", words.join(" or "))
            })
    }
}

fn default_data(environment: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/tidegate");
    }
    let absolute = |name: &str| {
        environment(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join("tidegate")
}

fn default_instances() -> usize {
    let memory = rustix::system::sysinfo().totalram;
    usize::try_from(memory / MEMORY_PER_INSTANCE)
        .unwrap_or(usize::MAX)
        .clamp(16, 4096)
}

// === impl Source, SettingsError ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "settings file {}", path.display()),
            Self::Environment(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
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
        let flags = [("listen".to_owned(), "8080".to_owned())];
        let mistakes = Settings::load(Some(&file), env, &flags)
            .unwrap_err()
            .mistakes;
        for part in [
            "\"lisen\"",
            "\"calls.wait\"",
            "threads is \"0\"",
            "TIDEGATE_AUTH",
            "flag --listen",
            "tls.certificate",
        ] {
            assert!(
                mistakes.iter().any(|m| m.contains(part)),
                "{part} in {mistakes:#?}"
            );
        }
        assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
    }
}
