//! Settings out of what the sources say.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_core::record::{Level, LevelError};
use tidegate_core::{parse_cpu, parse_duration};
use tidegate_egress::{Policy as EgressPolicy, Target, Upstreams};
use tidegate_platform::{
    BUILD_LIMITS, ImageSettings, JobLimits, KeepOptions, Price, PriceError, Prices,
    QueueFileOptions, Retention,
};

use super::layers::Layers;
use super::words::{
    address, allowed, duration, hosts, list, logging_filter, one_of, registries, size, whole,
};
use super::{
    Auth, BuildSettings, LogFormat, QueueSettings, RecordSettings, Settings, SettingsError,
    SideListener,
};

/// Memory of the machine for each instance that it may have.
const MEMORY_PER_INSTANCE: u64 = 32 << 20;
/// Languages whose interpreter may be named, beside Python.
const INTERPRETERS: [(&str, &str); 4] = [
    ("java", "runtimes.java"),
    ("node", "runtimes.node"),
    ("php", "runtimes.php"),
    ("ruby", "runtimes.ruby"),
];

/// Words of what is either so or not.
pub(super) const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

impl Layers {
    pub(super) fn finish(
        mut self,
        environment: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<Settings, SettingsError> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
        let listen_is_explicit = self.values.contains_key("listen");
        let path = |text: &str| Ok::<_, String>(Some(PathBuf::from(text)));
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
            threads: self.get("threads", whole, || cores),
            max_connections: self.get("max-connections", whole, || 1),
            header_timeout: self.get("header-timeout", duration, || Duration::from_secs(30)),
            max_instances: self.get("instances.max", whole, default_instances),
            ready_within: self.get("instances.ready-within", duration, || {
                Duration::from_secs(30)
            }),
            max_waiting: self.get("calls.max-waiting", whole, || 1),
            max_wait: self.get("calls.max-wait", duration, || Duration::from_secs(30)),
            revisions: self.get("revisions.keep", whole, || 1),
            grace: self.get("grace", parse_duration, || Duration::from_secs(30)),
            runsc: self.get(
                "isolation.kind",
                one_of(&[("process", false), ("runsc", true)]),
                || false,
            ),
            minimum_limits: self.get(
                "isolation.minimum",
                one_of(&[("walls", false), ("limits", true)]),
                || false,
            ),
            python: self.get("runtimes.python", path, || None),
            build: self.build(environment),
            images: self.images(),
            registries: self.get(
                "images.registries",
                |text| match text {
                    "any" => Ok(None),
                    "none" => Ok(Some(Vec::new())),
                    hosts => registries(hosts).map(Some),
                },
                || None,
            ),
            docker_config: self.get(
                "images.docker-config",
                |text| Ok::<_, String>(Some(PathBuf::from(text)).filter(|_| text != "none")),
                || docker_config(environment),
            ),
            records: self.records(),
            queue: self.queue(),
            #[cfg(feature = "otlp")]
            otlp: self.export(environment),
            outbound: self.outbound(),
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
        #[cfg(not(feature = "otlp"))]
        if let Some((_, source)) = self.values.get("otlp.endpoint") {
            self.mistakes.push(format!(
                "{source}: this build of tidegate exports nothing: leave otlp.endpoint out, or build it with the feature \"otlp\""
            ));
        }
        if self.mistakes.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsError {
                mistakes: self.mistakes,
            })
        }
    }

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
        let network = self.get(
            "build.network",
            one_of(&[("outbound", true), ("none", false)]),
            || true,
        );
        let names = self.get(
            "build.environment",
            |text| Ok::<_, String>(list(text).collect()),
            Vec::new,
        );
        let value = |name: String| {
            let value = environment(&name)?.into_string().ok()?;
            Some((name, value))
        };
        let env: Vec<_> = names.into_iter().filter_map(value).collect();
        let egress = self.egress(&env, environment);
        BuildSettings {
            limits: JobLimits {
                memory: self.get("build.memory", size, || BUILD_LIMITS.memory),
                cpu_milli: self.get("build.cpu", parse_cpu, || BUILD_LIMITS.cpu_milli),
                pids: self.get("build.pids", whole, || BUILD_LIMITS.pids),
                disk: self.get("build.disk", size, || BUILD_LIMITS.disk),
                time: self.get("build.timeout", duration, || BUILD_LIMITS.time),
                ..BUILD_LIMITS
            },
            at_once: self.get("build.concurrent", whole::<u32>, || 1) as usize,
            egress: network.then_some(egress),
            env,
        }
    }

    fn images(&mut self) -> ImageSettings {
        let usual = ImageSettings::default();
        // The usual is as many as a sandbox mounts.
        let most = usual.max_layers;
        let layers = |text: &str| match text.parse::<usize>() {
            Ok(n) if (1..=most).contains(&n) => Ok(n),
            _ => Err(format!("write a whole number from 1 to {most}")),
        };
        let file = |text: &str| match std::fs::metadata(text) {
            Ok(found) if found.is_file() => Ok(Some(PathBuf::from(text))),
            Ok(_) => Err("it is no file".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        ImageSettings {
            max_image_bytes: self.get("images.max-size", size, || usual.max_image_bytes),
            max_layers: self.get("images.max-layers", layers, || usual.max_layers),
            max_entries: self.get("images.max-files", whole, || usual.max_entries),
            connect: self.get("images.connect-timeout", duration, || usual.connect),
            idle: self.get("images.idle-timeout", duration, || usual.idle),
            insecure: self.get("images.insecure", registries, Vec::new),
            ca_file: self.get("images.ca-file", file, || None),
            ..usual
        }
    }

    fn records(&mut self) -> RecordSettings {
        let level = |text: &str| text.parse().map_err(|e: LevelError| e.to_string());
        let price = |text: &str| text.parse().map_err(|e: PriceError| e.to_string());
        let usual = KeepOptions::default();
        let (records, lines) = (usual.records, usual.lines);
        RecordSettings {
            level: self.get("records.level", level, Level::default),
            keep: KeepOptions {
                records: Retention {
                    keep_for: self.get("records.keep", duration, || records.keep_for),
                    keep_bytes: self.get("records.max-size", size, || records.keep_bytes),
                    ..records
                },
                lines: Retention {
                    keep_for: self.get("records.logs-keep", duration, || lines.keep_for),
                    keep_bytes: self.get("records.logs-max-size", size, || lines.keep_bytes),
                    ..lines
                },
                keep_usage_for: self.get("records.usage-keep", duration, || usual.keep_usage_for),
                granularity: self.get("billing.granularity", duration, || usual.granularity),
                ..usual
            },
            prices: Prices {
                currency: self.get(
                    "prices.currency",
                    |text| Ok::<_, String>(text.to_owned()),
                    String::new,
                ),
                invocation: self.get("prices.invocation", price, Price::default),
                gb_second: self.get("prices.gb-second", price, Price::default),
                cpu_second: self.get("prices.cpu-second", price, Price::default),
                gb_out: self.get("prices.gb-out", price, Price::default),
                cold_start: self.get("prices.cold-start", price, Price::default),
                idle_gb_second: self.get("prices.idle-gb-second", price, Price::default),
            },
            bill: self.get("billing.header", one_of(&SWITCH), || false),
        }
    }

    fn queue(&mut self) -> QueueSettings {
        let usual = QueueFileOptions::default();
        let is_on = self.get("queue.callbacks", one_of(&SWITCH), || true);
        let callbacks = self.get("queue.callbacks-allow", allowed, EgressPolicy::default);
        QueueSettings {
            max_items: self.get("queue.max-calls", whole::<u64>, || usual.max_items),
            max_bytes: self.get("queue.max-size", size, || usual.max_file_bytes),
            max_body: self.get("queue.max-body", size, || 64 << 20),
            at_once: self.get("queue.concurrent", whole::<u32>, || 256),
            keep_results: self.get("queue.results-keep", duration, || {
                Duration::from_secs(24 * 3600)
            }),
            results_bytes: self.get("queue.results-max-size", size, || usual.max_result_bytes),
            keep_dead: self.get("queue.dead-keep", duration, || {
                Duration::from_millis(usual.dead_keep_ms)
            }),
            dead_bytes: self.get("queue.dead-max-size", size, || usual.max_dead_bytes),
            remember: self.get("queue.keys-keep", duration, || {
                Duration::from_millis(usual.remember_ms)
            }),
            callbacks: is_on.then_some(callbacks),
        }
    }

    /// What functions reach: the open network, and what the operator names.
    fn outbound(&mut self) -> Option<EgressPolicy> {
        let is_on = self.get("network.outbound", one_of(&SWITCH), || true);
        let mut policy = self.get("network.allow", allowed, EgressPolicy::default);
        policy.private = self.get("network.private", one_of(&SWITCH), || false);
        is_on.then_some(policy)
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
