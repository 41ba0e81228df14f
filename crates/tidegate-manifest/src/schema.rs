//! Every key of a manifest: one table, from which reading, hints and the reference page follow.

/// A key, what its value is, and what it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    /// A DNS label.
    Name,
    /// `256Mi`.
    Size,
    /// `0.5`, `500m`.
    Cores,
    /// `60s`.
    Time,
    /// A whole number between two.
    Count(u32, u32),
    /// A share of one, `0.05` or `5%`.
    Share,
    Flag,
    /// One of [`RUNTIMES`], perhaps with a version.
    Runtime,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Names of environment variables and their values; without a value, that of the environment here.
    Variables,
    /// Names and texts.
    Notes,
    /// Secrets, as names or as `{ name, env }`.
    Secrets,
    /// Secrets of a build, as names or as `{ name, file }` or `{ name, env }`.
    BuildSecrets,
    /// A folder or file, or `{ digest, entry }`.
    Code,
    Triggers,
    List(&'static Kind),
    Map(&'static [Key]),
    /// Functions by name.
    Functions,
    /// Triggers by name.
    TriggersByName,
    /// Written by the server: accepted and left out.
    Ignored,
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

/// Who may run code.
pub(crate) const RUNTIMES: &[&str] = &[
    "python",
    "node",
    "go",
    "rust",
    "java",
    "ruby",
    "php",
    "executable",
];

/// Kinds of triggers that there are: functions are called by HTTP at their address without being told to.
pub(crate) const TRIGGERS: &[&str] = &["http"];

/// The file as a whole.
pub(crate) const FILE: &[Key] = &[
    key(
        "project",
        Kind::Text,
        "whose functions these are, for --prune; the folder's name where absent",
    ),
    key(
        "namespace",
        Kind::Name,
        "the namespace of functions that name none",
    ),
    key(
        "defaults",
        Kind::Map(DEFAULTS),
        "settings of every function that does not say otherwise",
    ),
    key("functions", Kind::Functions, "the functions by name"),
    key(
        "triggers",
        Kind::TriggersByName,
        "what calls functions by a schedule, by name",
    ),
];

macro_rules! common {
    ($($more:expr),* $(,)?) => {
        &[
            $($more,)*
            key("runtime", Kind::Runtime, "who runs the code, with a version where an image is that runtime; told from the code where absent"),
            key("contract", Kind::Word(&["host", "http", "stdio"]),
                "how it is called: host (a handler or app), http (a server on $PORT), stdio (a process a call)"),
            key("handler", Kind::Text, "the handler, where it is not 'handler' or 'app'"),
            key("env", Kind::Variables, "environment variables; one without a value takes that of the environment here"),
            key("secrets", Kind::Secrets, "secrets by name, each a name or { name, env }"),
            key("limits", Kind::Map(LIMITS), "limits of an instance and of a call"),
            key("scale", Kind::Map(SCALE), "how many instances, when"),
            key("network", Kind::Word(&["none", "outbound", "host"]), "what an instance sees of the network; outbound where absent"),
            key("egress", Kind::List(&Kind::Text), "all that is reached with network outbound, beside other functions: hosts, *.hosts, networks, each with :port where only one is meant; an empty list for nothing"),
            key("access", Kind::Word(&["public", "private"]), "who may call it: anyone, or holders of a key"),
            key("records", Kind::Text, "which invocations leave a record: all, errors, sampled:100 for one in a hundred, none"),
            key("build", Kind::Map(BUILD), "how the code is built, where it is not told from the code"),
            key("traffic", Kind::List(&Kind::Map(TRAFFIC)), "how calls are split over revisions"),
            key("rollout", Kind::Map(ROLLOUT), "how a new revision takes over"),
            key("async", Kind::Map(LATER), "what becomes of calls that are to be made later"),
            key("workdir", Kind::Text, "the folder that an image's program begins in"),
            key("user", Kind::Text, "whom an image's program is run as inside: a name or number, with ':' and a group if need be"),
            key("readOnlyRoot", Kind::Flag, "whether an image's program writes to /tmp only, which is so where absent"),
            key("port", Kind::Count(1, 65_535), "where an image's program listens; the port that it exposes, or 8080"),
            key("readyPath", Kind::Text, "a path that an image's program answers well once it is ready"),
            key("pullSecrets", Kind::List(&Kind::Name), "secrets with credentials for an image's registry"),
            key("command", Kind::List(&Kind::Text), "the program to run in place of the image's"),
            key("args", Kind::List(&Kind::Text), "arguments in place of the image's"),
        ]
    };
}

macro_rules! noted {
    ($($more:expr),* $(,)?) => {
        common![
            $($more,)*
            key("namespace", Kind::Name, "the namespace"),
            key("labels", Kind::Notes, "labels, for selecting"),
            key("annotations", Kind::Notes, "notes"),
            key("entry", Kind::Text, "the file to load or run, relative to the folder"),
            key("triggers", Kind::Triggers, "what calls it; http is always there"),
        ]
    };
}

/// What stands under `defaults`.
pub(crate) const DEFAULTS: &[Key] = noted![];

/// One function under `functions`.
pub(crate) const FUNCTION: &[Key] = noted![
    key(
        "path",
        Kind::Text,
        "the folder, file, archive or git URL of the code, relative to the manifest; the function's name where absent"
    ),
    key(
        "code",
        Kind::Code,
        "the same as path, or { digest, entry } of code that the server has"
    ),
    key(
        "image",
        Kind::Text,
        "the container image to run in place of code: alpine:3, or registry.example.org/team/name:tag"
    ),
    key(
        "name",
        Kind::Name,
        "the function's name, where it is not the key"
    ),
];

/// A document of the API.
pub(crate) const DOCUMENT: &[Key] = &[
    key("apiVersion", Kind::Word(&["tidegate.dev/v1"]), "the API"),
    key("kind", Kind::Word(&["Function", "Trigger"]), "what it is"),
    key("metadata", Kind::Map(METADATA), "name and notes"),
    key("spec", Kind::Map(SPEC), "what is wanted"),
    key("status", Kind::Ignored, "left out"),
];

/// A list of documents of the API.
pub(crate) const LIST: &[Key] = &[
    key("apiVersion", Kind::Word(&["tidegate.dev/v1"]), "the API"),
    key(
        "kind",
        Kind::Word(&["FunctionList", "TriggerList", "List"]),
        "what it is",
    ),
    key("items", Kind::Ignored, "the documents"),
    key("resourceVersion", Kind::Ignored, "left out"),
];

const METADATA: &[Key] = &[
    key("name", Kind::Name, "the function's name"),
    key("namespace", Kind::Name, "the namespace"),
    key("labels", Kind::Notes, "labels, for selecting"),
    key("annotations", Kind::Notes, "notes"),
    key("uid", Kind::Ignored, "left out"),
    key("resourceVersion", Kind::Ignored, "left out"),
    key("generation", Kind::Ignored, "left out"),
    key("creationTimestamp", Kind::Ignored, "left out"),
];

const SPEC: &[Key] = common![
    key(
        "code",
        Kind::Code,
        "a path, or { digest, entry } of code that the server has"
    ),
    key(
        "image",
        Kind::Text,
        "the container image to run in place of code"
    ),
    key("imageDigest", Kind::Ignored, "left out"),
];

pub(crate) const CODE: &[Key] = &[
    key(
        "digest",
        Kind::Text,
        "digest of an archive that the server has: sha256: and 64 hexadecimal digits",
    ),
    key(
        "path",
        Kind::Text,
        "the folder or file, relative to the manifest",
    ),
    key("entry", Kind::Text, "the file to load or run"),
];

const LIMITS: &[Key] = &[
    key("memory", Kind::Size, "memory of an instance"),
    key("cpu", Kind::Cores, "cores of an instance"),
    key(
        "pids",
        Kind::Count(1, 32_768),
        "processes and threads of an instance",
    ),
    key("tmp", Kind::Size, "writable space under /tmp"),
    key("timeout", Kind::Time, "longest time of a call"),
    key(
        "firstByte",
        Kind::Time,
        "longest time until the head of the response",
    ),
    key(
        "streamIdle",
        Kind::Time,
        "longest time that a body may go without a byte",
    ),
    key("body", Kind::Size, "largest request body"),
];

const SCALE: &[Key] = &[
    key(
        "min",
        Kind::Count(0, 1000),
        "never fewer instances; 0 lets it go to zero",
    ),
    key("max", Kind::Count(1, 1000), "never more instances"),
    key(
        "initial",
        Kind::Count(0, 1000),
        "instances that must be ready before new code is called",
    ),
    key(
        "concurrency",
        Kind::Count(1, u32::MAX),
        "calls that an instance takes at once",
    ),
    key(
        "target",
        Kind::Count(1, 100),
        "percent of the concurrency above which another is started",
    ),
    key(
        "idle",
        Kind::Time,
        "how long an instance stays without a call",
    ),
];

const BUILD: &[Key] = &[
    key(
        "command",
        Kind::Text,
        "a command that builds the code, instead of the one told from it",
    ),
    key("env", Kind::Variables, "variables of the build alone"),
    key(
        "secrets",
        Kind::BuildSecrets,
        "secrets with package configuration, such as npmrc or pip-conf",
    ),
    key("skip", Kind::Flag, "run the code as it is"),
];

const TRAFFIC: &[Key] = &[
    key(
        "revision",
        Kind::Text,
        "a revision, as 'tidegate revisions' shows it",
    ),
    key("latest", Kind::Flag, "the newest revision that is ready"),
    key(
        "percent",
        Kind::Count(0, 100),
        "its share of the calls; all shares are 100 together",
    ),
    key("tag", Kind::Name, "a name of its own to call it by"),
];

const RETRIES: Key = key(
    "retries",
    Kind::Count(0, 1000),
    "how often a call is made again after a failure of the function; 2 where absent",
);
const RETRY_ON: Key = key(
    "retryOn",
    Kind::Word(&["never", "unavailable", "server", "all"]),
    "which answers are failures: unavailable is 429 and 502 to 504, server is 429 and all from 500, all is from 400",
);
const BACKOFF: Key = key(
    "backoff",
    Kind::Time,
    "the pause after the first failure, which doubles",
);
const MAX_BACKOFF: Key = key("maxBackoff", Kind::Time, "the longest pause");
const JITTER: Key = key(
    "jitter",
    Kind::Word(&["full", "equal", "none"]),
    "how much chance is in pauses",
);
const MAX_AGE: Key = key("maxAge", Kind::Time, "when a call is given up");

/// What a trigger says in place of its function.
const RETRYING: &[Key] = &[
    Key {
        about: "how often a call is made again after a failure; as the function says where absent, like all of these",
        ..RETRIES
    },
    RETRY_ON,
    BACKOFF,
    MAX_BACKOFF,
    JITTER,
    MAX_AGE,
];

const LATER: &[Key] = &[
    RETRIES,
    RETRY_ON,
    BACKOFF,
    MAX_BACKOFF,
    JITTER,
    MAX_AGE,
    key("concurrency", Kind::Count(1, u32::MAX), "calls at once"),
    key(
        "rate",
        Kind::Count(1, u32::MAX),
        "calls that begin in a second",
    ),
    key(
        "ordered",
        Kind::Flag,
        "one at a time, in the order in which they were accepted",
    ),
    key(
        "onSuccess",
        Kind::Text,
        "who hears of those that succeeded: a function, NAME.NAMESPACE, or a URL",
    ),
    key(
        "onFailure",
        Kind::Text,
        "who hears of those that were given up",
    ),
    key(
        "keepResult",
        Kind::Time,
        "how long results can be asked for",
    ),
];

macro_rules! ticking {
    ($($more:expr),* $(,)?) => {
        &[
            key("function", Kind::Name, "the function that is called, by its name"),
            key("schedule", Kind::Text, "when: minute, hour, day of the month, month and day of the week, or @hourly, @daily, @every 90s, @at a moment"),
            key("timeZone", Kind::Text, "whose time of day the schedule speaks of, such as Europe/Berlin; UTC where absent"),
            key("missed", Kind::Word(&["skip", "once", "all"]), "which ticks are made up for that were missed: none, the last one, which is so where absent, or all"),
            key("jitter", Kind::Time, "by how much each tick is late at most, at most 1h"),
            key("paused", Kind::Flag, "whether nothing happens for now; as it was set by hand where absent"),
            $($more,)*
            key("async", Kind::Map(RETRYING), "what becomes of its calls that do not succeed, in place of what the function says"),
        ]
    };
}

const METHOD: Key = key(
    "method",
    Kind::Text,
    "how the function is called; POST where absent",
);
const PATH: Key = key("path", Kind::Text, "the path and query; / where absent");
const HEADERS: Key = key("headers", Kind::Notes, "headers of the call");
const CONTENT_TYPE: Key = key(
    "contentType",
    Kind::Text,
    "what the body is; application/json where it is JSON, else plain text",
);
const BODY: Key = key(
    "body",
    Kind::Text,
    "the body of the call, at most 128 KiB; none where absent",
);

/// One trigger under `triggers`.
pub(crate) const TRIGGER: &[Key] = ticking![
    METHOD,
    PATH,
    HEADERS,
    CONTENT_TYPE,
    BODY,
    key(
        "name",
        Kind::Name,
        "the trigger's name, where it is not the key"
    ),
    key(
        "namespace",
        Kind::Name,
        "the namespace; that of its function where absent"
    ),
    key("labels", Kind::Notes, "labels, for selecting"),
    key("annotations", Kind::Notes, "notes"),
];

/// A trigger's document of the API.
pub(crate) const TRIGGER_DOCUMENT: &[Key] = &[
    key("apiVersion", Kind::Word(&["tidegate.dev/v1"]), "the API"),
    key("kind", Kind::Word(&["Trigger"]), "what it is"),
    key("metadata", Kind::Map(METADATA), "name and notes"),
    key("spec", Kind::Map(TRIGGER_SPEC), "what is wanted"),
    key("status", Kind::Ignored, "left out"),
];

const TRIGGER_SPEC: &[Key] = ticking![key(
    "request",
    Kind::Map(&[METHOD, PATH, HEADERS, CONTENT_TYPE, BODY]),
    "what the function is called with"
)];

const ROLLOUT: &[Key] = &[
    key("over", Kind::Time, "how long taking over lasts"),
    key("steps", Kind::Count(1, 100), "in how many steps"),
    key(
        "maxErrorRate",
        Kind::Share,
        "share of failed calls above which it is rolled back",
    ),
    key(
        "minRequests",
        Kind::Count(1, u32::MAX),
        "calls that are needed to judge",
    ),
    key(
        "revision",
        Kind::Text,
        "only to this revision; to every new one where absent",
    ),
];

pub(crate) const SECRET: &[Key] = &[
    key("name", Kind::Name, "the secret"),
    key(
        "env",
        Kind::Text,
        "the variable to set; /run/secrets/NAME where absent",
    ),
];

pub(crate) const BUILD_SECRET: &[Key] = &[
    key("name", Kind::Name, "the secret"),
    key(
        "file",
        Kind::Text,
        "the file of the build's home folder to put it in; that of its tool where absent",
    ),
    key("env", Kind::Text, "the variable to set"),
];

/// One line of the reference page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `functions.NAME.limits.memory`.
    pub key: String,
    /// What its value is.
    pub takes: String,
    /// What it is for.
    pub about: &'static str,
}

/// Every key of `tidegate.toml`, in order.
#[must_use]
pub fn reference() -> Vec<Reference> {
    let mut lines = Vec::new();
    describe("", FILE, &mut lines);
    describe("functions.NAME.", FUNCTION, &mut lines);
    describe("triggers.NAME.", TRIGGER, &mut lines);
    lines
}

fn describe(prefix: &str, keys: &'static [Key], lines: &mut Vec<Reference>) {
    for key in keys {
        lines.push(Reference {
            key: format!("{prefix}{}", key.name),
            takes: key.kind.takes(),
            about: key.about,
        });
        match key.kind {
            // They are those of a function again.
            Kind::Map(_) if key.name == "defaults" => {}
            Kind::Map(inner) => describe(&format!("{prefix}{}.", key.name), inner, lines),
            Kind::List(Kind::Map(inner)) => {
                describe(&format!("{prefix}{}[].", key.name), inner, lines);
            }
            _ => {}
        }
    }
}

impl Kind {
    /// What would be accepted, in a sentence.
    pub(crate) fn takes(&self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Name => "a name of a-z, 0-9 and '-'".to_owned(),
            Self::Size => "a size such as 256Mi".to_owned(),
            Self::Cores => "cores such as 0.5 or 500m".to_owned(),
            Self::Time => "a time such as 60s".to_owned(),
            Self::Count(least, u32::MAX) => format!("a whole number from {least}"),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Share => "a share such as 0.05 or 5%".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Runtime => format!("{}, or such with a version", RUNTIMES.join(", ")),
            Self::Word(words) => words.join(", "),
            Self::Variables | Self::Notes => "a map of names and texts".to_owned(),
            Self::Secrets => "a list of names or of { name, env }".to_owned(),
            Self::BuildSecrets => {
                "a list of names or of { name, file } or { name, env }".to_owned()
            }
            Self::Code => "a path, or { digest, entry }".to_owned(),
            Self::Triggers => "a list of { kind }".to_owned(),
            Self::List(Self::Name) => "a list of names".to_owned(),
            Self::List(Self::Text) => "a list of texts".to_owned(),
            Self::List(_) => "a list of maps".to_owned(),
            Self::Map(_) => "a map".to_owned(),
            Self::Functions => "a map of functions by name".to_owned(),
            Self::TriggersByName => "a map of triggers by name".to_owned(),
            Self::Ignored => "anything".to_owned(),
        }
    }
}
