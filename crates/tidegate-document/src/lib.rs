//! The native documents, as clients write and read them.
//!
//! Unlike the documents of other systems these are ours to be strict about: a member we do not know is refused by name,
//! because a typing mistake that is silently kept is the worst of the answers. Absent members take the defaults that
//! the dialect names.
//!
//! They are a crate of their own so that the command line, which also runs where the server does not, needs no more of
//! the dialect than these.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

mod images;
mod later;
mod namespaces;
pub mod queue;
mod records;
mod triggers;
mod versions;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use images::{
    AliasRequest, Image, ImageList, ImageStatus, Layer, Pruned, PullEvent, PullRequest, Runtime,
    RuntimeList, RuntimeRequest,
};
pub use later::Later;
pub use namespaces::{NamespaceSpec, Quotas};
pub use records::{
    Cause, ColdStart, Cost, CostPage, CostRow, Counts, Missed, Record, RecordList, Times, Trace,
    Usage, UsageList, Used,
};
pub use triggers::{
    TRIGGER, Trigger, TriggerFired, TriggerLater, TriggerList, TriggerRequest, TriggerSpec,
    TriggerStatus,
};
pub use versions::{
    Promotion, Rate, Revision, RevisionList, RevisionPhase, RevisionSpec, RevisionStatus, Rollback,
    Rollout, RolloutPhase, RolloutStatus, Traffic, TrafficChange, TrafficStatus,
};

/// `apiVersion` of every native document.
pub const API_VERSION: &str = "tidegate.dev/v1";
/// `kind` of a function.
pub const FUNCTION: &str = "Function";
/// `kind` of a revision.
pub const REVISION: &str = "Revision";
/// `kind` of a namespace.
pub const NAMESPACE: &str = "Namespace";
/// `kind` of a secret.
pub const SECRET: &str = "Secret";

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Function {
    /// `tidegate.dev/v1`.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// `Function`.
    #[serde(default = "function_kind")]
    pub kind: String,
    /// Name, labels and what the store keeps.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: FunctionSpec,
    /// What is. Ignored in what clients send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<FunctionStatus>,
}

/// Kubernetes-shaped metadata. Only name, namespace, labels and annotations are the client's; the rest is kept by the
/// store and, in what clients send, is a precondition (`resourceVersion`, `uid`) or ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// 1 to 63 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// The namespace; `default` where absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Unique for ever.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Changes with every write; sent back, it makes a write conditional.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Counts changes of the specification.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub creation_timestamp: String,
    /// For selecting.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is wanted of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionSpec {
    /// Who runs the code: `python`, `node`, `go`, `rust`, `java`, `ruby`, `php` or `executable`; for an image `image`, or
    /// nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// How the code is called: `host` (a handler or app that a language host loads), `stdio` (a process a call) or `http`
    /// (a server on `$PORT`). By default `host` for languages, `stdio` for executables, and what its label says for images,
    /// else `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// The code. Either this or `image` is given.
    #[serde(default, skip_serializing_if = "Code::is_absent")]
    pub code: Code,
    /// The image that is run in place of code: `registry/repository:tag`, or with `@sha256:…`. What a tag means is looked up
    /// when the function is deployed, and not again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Digest of what `image` meant when it was deployed, where that was known then. Written by the server, and ignored in
    /// what clients send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// Program to run in place of the image's entry point and arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Where the program begins, in place of what the image says; an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whom the program is run as inside, in place of what the image says: a name or a number, with `:` and a group if need
    /// be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether only `/tmp` can be written to, which is the default. Otherwise what an instance writes is gone with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root: Option<bool>,
    /// Where the image's program listens; by default what its label `dev.tidegate.port` says, else its only exposed port,
    /// else 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What an instance of an image is asked until it answers with a status from 200 to 399, before the first call. Where
    /// absent, one is ready once it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_path: Option<String>,
    /// Secrets of the same namespace with credentials of registries, each what `docker login` writes into `config.json`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
    /// How the code is made ready to run; told from its content where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// `handler`, `app` or `module:attribute`, for language hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets of the same namespace that the function may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// How many instances, when.
    #[serde(default, skip_serializing_if = "Scale::is_default")]
    pub scale: Scale,
    /// `outbound` (default): connections to the outside, as far as the operator and `egress` let them; `none`; or `host`,
    /// the machine's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// All that is reached with network `outbound`: `api.example.org`, `*.example.org:443`, `10.0.0.0/8`. Whatever the
    /// operator lets functions reach where absent; functions alone where empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
    /// `public` (default) or `private`: calls then need a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// Who takes the calls; all go to the newest revision that is ready where absent. A change of it makes no revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// How traffic comes to a new revision; all at once where absent. A change of it makes no revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Which invocations leave a record, and keep what they print: `all`, `errors`, `sampled:100` for one in a hundred and
    /// those that fail, or `none`; what the server's settings say where absent. All count towards usage. A change of it
    /// makes no revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// What becomes of calls that were accepted to be made later. A change of it makes no revision, and counts for calls
    /// that are accepted from then on.
    #[serde(default, rename = "async", skip_serializing_if = "Option::is_none")]
    pub later: Option<Later>,
}

/// Where the code is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Code {
    /// Digest of an uploaded archive (`.tar.gz`): `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The file to load or run, relative to the archive's root.
    pub entry: String,
}

/// How the code is made ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Build {
    /// Run the code as it was sent: nothing is installed, nothing compiled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
    /// Run by a shell, in the folder of the code, in place of what the content asks for. What it leaves in `/out` is the
    /// bundle, or, where it leaves nothing there, the folder itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Environment of the build.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets of the same namespace that the build may see: a registry's credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<BuildSecret>,
}

/// A secret that the build may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildSecret {
    /// The secret's name. `npmrc`, `pip-conf` and the names of other tools' files go where the tool looks for them.
    pub name: String,
    /// File to put it in, relative to the home folder of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Environment variable to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

/// A secret that the function may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretUse {
    /// The secret's name.
    pub name: String,
    /// Environment variable to set; a file `/run/secrets/NAME` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

/// Limits of an instance and of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Memory of an instance, `256Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Cores of an instance, `0.5` or `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Processes and threads of an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Writable space under `/tmp`, `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmp: Option<String>,
    /// Longest time of a call, waiting and starting included, `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Longest time until the head of the response, `30s`; `timeout` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<String>,
    /// Longest time that a body, either way, may go without a byte, `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<String>,
    /// Largest request body, `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// How many instances, when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scale {
    /// Never fewer; 0 lets it go to zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Never more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Instances that must be ready before a new revision takes traffic; 0 to start at the first call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<u32>,
    /// Calls that an instance takes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Share of `concurrency` above which another instance is started, in percent, 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// How long an instance stays without a call, `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

/// What is, of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: u64,
    /// Where the newest generation stands.
    #[serde(default)]
    pub phase: Phase,
    /// One line of why, where it is not ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The newest revision that is ready; the one before while or when the newest generation is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// What its image was when it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageStatus>,
    /// How the build of that generation went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildStatus>,
    /// Who takes the calls, the largest part first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficStatus>,
    /// The last gradual change of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Where it is called, as a path on the main listener. Filled in when read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Instances now. Filled in when read, never stored.
    #[serde(default)]
    pub instances: Instances,
    /// Invocations since the server started. Filled in when read, never stored.
    #[serde(default)]
    pub invocations: u64,
}

/// How a build went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildStatus {
    /// `installed`, `cached`, or empty where there was nothing to install.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dependencies: String,
    /// `built`, `cached`, or empty where there was nothing to compile.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bundle: String,
    /// Whether it failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// The tool's last lines, where it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// One line of a build; a build's log is newline-delimited JSON of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildLine {
    /// RFC 3339 with microseconds.
    pub time: String,
    /// `step` (one begins; its title), `note` (the platform's), `stdout` or `stderr` (the tool's).
    pub stream: String,
    /// The line.
    pub text: String,
}

/// Where a generation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Phase {
    /// Being made ready.
    #[default]
    Pending,
    /// Takes traffic.
    Ready,
    /// Could not be made ready; the revision before it, if any, keeps the traffic.
    Failed,
}

/// Instances by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Instances {
    /// Not yet ready.
    pub starting: u32,
    /// Ready, without a call.
    pub idle: u32,
    /// Ready, with at least one call.
    pub busy: u32,
    /// Ending.
    pub draining: u32,
    /// Calls that wait.
    pub queued: u32,
}

/// A list of functions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionList {
    /// The functions, by namespace and name.
    pub items: Vec<Function>,
    /// Where a watch can begin.
    pub resource_version: String,
    /// Give this as `continue` for the next page.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// `tidegate.dev/v1`.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// `Namespace`.
    #[serde(default = "namespace_kind")]
    pub kind: String,
    /// Name and labels.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<NamespaceSpec>,
}

/// A list of namespaces.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NamespaceList {
    /// By name.
    pub items: Vec<Namespace>,
}

/// A secret's value, as sent. Never answered.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretValue {
    /// The value, base64.
    pub value: String,
}

/// What is told of a secret: everything but the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Length of the value in bytes.
    pub size: u64,
    /// RFC 3339.
    pub created: String,
}

/// A list of secrets.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// By name.
    pub items: Vec<SecretInfo>,
}

/// A change of scale; absent members stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleChange {
    /// Never fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Never more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// One line of a log; logs are newline-delimited JSON of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// RFC 3339 with microseconds.
    pub time: String,
    /// Which running copy wrote it.
    pub instance: String,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    /// The invocation that wrote it, where that is known exactly; absent where only the instance is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The line.
    pub text: String,
}

/// Something that changed, in a watch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function as it is, or was last.
    pub object: serde_json::Value,
}

/// What the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Of the program.
    pub version: String,
    /// Runtimes and whether they can be used here.
    pub runtimes: Vec<RuntimeInfo>,
    /// Tools that builds may use.
    #[serde(default)]
    pub tools: Vec<RuntimeInfo>,
    /// What this machine permits, and what it does not.
    pub capabilities: Vec<CapabilityInfo>,
}

/// A runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeInfo {
    /// `python`.
    pub name: String,
    /// `3.11.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether functions can use it here.
    pub available: bool,
    /// Where it is, or how to get it.
    pub detail: String,
}

/// Something the machine may or may not permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapabilityInfo {
    /// `cgroup memory`.
    pub name: String,
    /// `ok`, `degraded` or `missing`.
    pub state: String,
    /// What follows from it.
    pub detail: String,
}

/// Every error of the native API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// One line: the thing, the value, what would be accepted.
    pub error: String,
    /// A word to act on: `not-found`, `invalid`, `conflict`, `unauthorized`, ….
    pub reason: String,
    /// The request, for finding it in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

// === impl Code, Limits, Scale ===

impl Code {
    /// Whether there is none.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

impl Limits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Scale {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn api_version() -> String {
    API_VERSION.to_owned()
}

fn function_kind() -> String {
    FUNCTION.to_owned()
}

fn namespace_kind() -> String {
    NAMESPACE.to_owned()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}
