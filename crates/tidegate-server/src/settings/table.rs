//! Every setting: its key, its default, what it is for.

/// A setting: its key in the file, its default as text, what it is for.
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) default: &'static str,
    help: &'static str,
}

/// Every setting. A default that depends on the machine is empty here and explained.
pub(super) const SETTINGS: &[Setting] = &[
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
        key: "isolation.kind",
        default: "process",
        help: "where functions run: 'process', or 'runsc' for a kernel of their own where gVisor is installed",
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
        key: "network.outbound",
        default: "on",
        help: "'on', functions reach the open network unless they say otherwise; 'off', none does",
    },
    Setting {
        key: "network.allow",
        default: "",
        help: "hosts (name, address or network, :port where it matters) that functions reach although they are private or this machine's; separated by commas",
    },
    Setting {
        key: "network.private",
        default: "off",
        help: "'on', functions reach all private networks; link-local addresses and this machine's own never",
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
        key: "images.registries",
        default: "any",
        help: "registries (docker.io, host, or host:port) that images may come from, separated by commas; 'any', or 'none'",
    },
    Setting {
        key: "images.insecure",
        default: "",
        help: "registries (host, or host:port), beside those of this machine, that are spoken to without TLS; separated by commas",
    },
    Setting {
        key: "images.ca-file",
        default: "",
        help: "file of certificates (PEM), of registries or their authorities, that are trusted beside the system's",
    },
    Setting {
        key: "records.level",
        default: "all",
        help: "which invocations leave a record where their function does not say: 'all', 'errors', 'sampled:100', or 'none'",
    },
    Setting {
        key: "records.keep",
        default: "30d",
        help: "how long records are kept",
    },
    Setting {
        key: "records.max-size",
        default: "4Gi",
        help: "bytes of all records; beyond it the oldest go",
    },
    Setting {
        key: "records.logs-keep",
        default: "7d",
        help: "how long what invocations print is kept",
    },
    Setting {
        key: "records.logs-max-size",
        default: "2Gi",
        help: "bytes of all that invocations print; beyond it the oldest goes",
    },
    Setting {
        key: "records.usage-keep",
        default: "400d",
        help: "how long sums of usage are kept",
    },
    Setting {
        key: "queue.max-calls",
        default: "10000000",
        help: "calls to be made later that may be queued; beyond it 503",
    },
    Setting {
        key: "queue.max-size",
        default: "64Gi",
        help: "bytes of the queue's file and of the bodies beside it; beyond it 503",
    },
    Setting {
        key: "queue.max-body",
        default: "64Mi",
        help: "largest body of a call to be made later, where its function takes as much; beyond it 413",
    },
    Setting {
        key: "queue.concurrent",
        default: "256",
        help: "queued calls that are made at once",
    },
    Setting {
        key: "queue.results-keep",
        default: "24h",
        help: "how long results of queued calls can be asked for, where their function does not say",
    },
    Setting {
        key: "queue.results-max-size",
        default: "256Mi",
        help: "bytes of all results, and at most a quarter of queue.max-size; beyond it the oldest go",
    },
    Setting {
        key: "queue.dead-keep",
        default: "14d",
        help: "how long dead letters are kept",
    },
    Setting {
        key: "queue.dead-max-size",
        default: "1Gi",
        help: "bytes of all dead letters, with their bodies, and at most half of queue.max-size; beyond it the oldest go",
    },
    Setting {
        key: "queue.keys-keep",
        default: "24h",
        help: "how long idempotency keys are remembered",
    },
    Setting {
        key: "queue.callbacks",
        default: "on",
        help: "'on', ends of queued calls are told to addresses that clients name; 'off', such calls are refused",
    },
    Setting {
        key: "queue.callbacks-allow",
        default: "",
        help: "hosts (name, address or network, :port where it matters) that may be told although they are private or this machine's; separated by commas",
    },
    Setting {
        key: "otlp.endpoint",
        default: "",
        help: "URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318, to which traces, metrics and logs are exported; $OTEL_EXPORTER_OTLP_ENDPOINT where absent, 'off' for none",
    },
    Setting {
        key: "otlp.headers",
        default: "",
        help: "header fields of every request to it, name=value,name=value, values percent-encoded where they have to be; $OTEL_EXPORTER_OTLP_HEADERS where absent",
    },
    Setting {
        key: "otlp.traces",
        default: "on",
        help: "'off' exports no traces, and begins none",
    },
    Setting {
        key: "otlp.sample",
        default: "1",
        help: "of the calls that come without a trace, one in so many is exported; of others those whose trace says so",
    },
    Setting {
        key: "otlp.metrics",
        default: "on",
        help: "'off' exports no metrics",
    },
    Setting {
        key: "otlp.interval",
        default: "60s",
        help: "how often metrics are exported",
    },
    Setting {
        key: "otlp.logs",
        default: "on",
        help: "'off' exports neither what functions print nor the server's log",
    },
    Setting {
        key: "otlp.log-level",
        default: "info",
        help: "which lines of the server's log are exported, written as log.level is",
    },
    Setting {
        key: "otlp.service",
        default: "",
        help: "what the server calls itself to the collector; $OTEL_SERVICE_NAME, or else tidegate, where absent",
    },
    Setting {
        key: "otlp.attributes",
        default: "",
        help: "attributes of all that is exported, name=value,name=value; $OTEL_RESOURCE_ATTRIBUTES where absent",
    },
    Setting {
        key: "billing.granularity",
        default: "1ms",
        help: "what the billed time of an invocation is rounded up to",
    },
    Setting {
        key: "billing.header",
        default: "off",
        help: "'on', short answers of functions say what they cost in headers, and are sent when they are whole",
    },
    Setting {
        key: "prices.currency",
        default: "",
        help: "the currency of the prices, as it is shown",
    },
    Setting {
        key: "prices.invocation",
        default: "0",
        help: "price of an invocation",
    },
    Setting {
        key: "prices.gb-second",
        default: "0",
        help: "price of a GB-second: memory limit times billed time, a GB being 2^30 bytes",
    },
    Setting {
        key: "prices.cpu-second",
        default: "0",
        help: "price of a second of processor time, as far as it is measured",
    },
    Setting {
        key: "prices.gb-out",
        default: "0",
        help: "price of a GB of answers",
    },
    Setting {
        key: "prices.cold-start",
        default: "0",
        help: "price of an invocation that waited for a start",
    },
    Setting {
        key: "prices.idle-gb-second",
        default: "0",
        help: "price of a GB-second of instances that are there without a call",
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

/// Settings that OpenTelemetry has variables for, which count where nothing else is said.
#[cfg(feature = "otlp")]
pub(super) const OPENTELEMETRY: [(&str, &str); 4] = [
    ("otlp.endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ("otlp.headers", "OTEL_EXPORTER_OTLP_HEADERS"),
    ("otlp.service", "OTEL_SERVICE_NAME"),
    ("otlp.attributes", "OTEL_RESOURCE_ATTRIBUTES"),
];

/// Settings whose values are secrets, or may have one in them by mistake, and are not repeated in messages.
pub(super) const SECRET: [&str; 2] = ["otlp.endpoint", "otlp.headers"];

/// What package managers read of an environment to know where packages are: an operator who has set them for himself
/// means them for the builds too. None of them is meant for credentials; those are secrets that a function names.
const PACKAGE_VARIABLES: &str = "PIP_INDEX_URL,PIP_EXTRA_INDEX_URL,PIP_TRUSTED_HOST,UV_INDEX_URL,UV_DEFAULT_INDEX,\
NPM_CONFIG_REGISTRY,npm_config_registry,GOPROXY,GONOPROXY,GOPRIVATE,GOSUMDB,GONOSUMDB,GOTOOLCHAIN,\
CARGO_REGISTRIES_CRATES_IO_PROTOCOL,BUNDLE_MIRROR__ALL,COMPOSER_REPO_PACKAGIST";

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

pub(super) fn known(key: &str) -> bool {
    SETTINGS.iter().any(|s| s.key == key)
}

/// `TIDEGATE_LISTEN`, `TIDEGATE_CALLS_MAX_WAIT`.
pub(super) fn variable(key: &str) -> String {
    format!(
        "TIDEGATE_{}",
        key.to_ascii_uppercase().replace(['.', '-'], "_")
    )
}
