//! From a deployment to a canonical function.
//!
//! A function's environment is made of layers, the later over the earlier: what its image says, the deployment's own, the
//! deployment's process as `fprocess`, and the function's name and namespace. The watchdog reads its configuration from
//! the result, as the real one does, so there is one place where a setting can come from.
//!
//! Where a build of ours made the image, the watchdog is Tidegate's; any other image brings its own, and is an HTTP server on
//! port 8080 to the platform.
//!
//! What has no effect on one machine is kept and echoed and nothing else: `constraints` choose among nodes of which there
//! is one, `requests` reserve a share of a node, and a root file system that can be written to below `/tmp` only is what
//! every instance of a build has, `readOnlyRootFilesystem` or not.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;
use tidegate_core::{
    Access, FunctionKey, FunctionRef, FunctionSpec, Limits, Network, SecretUse, parse_bytes,
    parse_cpu, parse_go_duration,
};
use tidegate_openfaas::{FunctionDeployment, Image, Prepared, Resources, WatchdogKind};
use tidegate_platform::{Contract, Lower, LowerError, Lowered, Object, ObjectKey, Switch, key_of};

use crate::{annotations, registry};

/// `apiVersion` and `kind` of a stored deployment.
pub(crate) const API_VERSION: &str = "openfaas.com/v1";
pub(crate) const KIND: &str = "Function";

/// Functions written for OpenFaaS have no limit unless they ask for one, so a small default would end functions that run
/// elsewhere; this is room for an interpreter with large libraries, and still little enough that a runaway is stopped long
/// before the machine feels it.
const MEMORY: u64 = 512 << 20;
/// Least memory that an instance can start in.
const MIN_MEMORY: u64 = 8 << 20;
/// Thousandths of a core: one call is one thread's work unless the function says otherwise.
const CPU_MILLI: u32 = 1000;
/// Processes and threads of an instance that is a server: an interpreter with a thread a call and some children.
const PIDS: u32 = 512;
/// Processes and threads a call, where each call is a process of its own: an interpreter's threads and a child or two.
const PIDS_PER_CALL: u32 = 24;
/// What a gateway waits for a function, by default.
const CALL: Duration = Duration::from_secs(60);
/// Added to the watchdog's own limits, so that it speaks first and says which it was.
const MARGIN: Duration = Duration::from_secs(5);
/// Longest call.
const MAX_CALL: Duration = Duration::from_secs(24 * 3600);
/// Request body in bytes.
const BODY: u64 = 64 << 20;
/// Most calls that an instance takes at once, whatever `max_inflight` says: beyond it, another instance helps more.
const MAX_CONCURRENCY: u32 = 1000;
/// Most environment variables, and the most bytes of them together: what the kernel gives a process leaves room beside.
const MAX_ENV: usize = 500;
const MAX_ENV_BYTES: usize = 96 * 1024;
/// Most secrets of one function.
const MAX_SECRETS: usize = 64;

/// Deployments as functions.
pub struct Deployments;

/// What is stored of a deployment.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stored {
    /// As the client sent it.
    pub(crate) deployment: Value,
    /// What its image was when it was deployed, where a build made it: a name may come to mean another, and a restart must
    /// not change what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Image>,
    /// The same of any other image, as its digest; absent where it was not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// Replicas that a client asked for since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replicas: Option<u32>,
    /// How often replicas were asked for.
    #[serde(default)]
    pub(crate) turn: u64,
}

/// A deployment's environment, and what of it decides how it is run.
struct Environment {
    all: BTreeMap<String, String>,
    /// None where it is inside the image, if anywhere.
    watchdog: Option<WatchdogKind>,
}

impl Lower for Deployments {
    fn kind(&self) -> (&'static str, &'static str) {
        (API_VERSION, KIND)
    }

    fn dialect(&self) -> &'static str {
        "openfaas"
    }

    fn document(&self, key: FunctionRef<'_>) -> Option<ObjectKey> {
        ObjectKey::new(API_VERSION, KIND, key.namespace, key.name)
            .ok()
            .filter(|_| key.group.is_empty())
    }

    fn lower(&self, object: &Object) -> Result<Lowered, LowerError> {
        let key = key_of(object, ["namespace", "service"])?;
        let stored = Stored::of(object)?;
        let deployment = FunctionDeployment::deserialize(&stored.deployment)
            .map_err(|e| LowerError::new("spec.deployment", e.to_string()))?;
        let none = BTreeMap::new();
        let notes = deployment.annotations.as_ref().unwrap_or(&none);
        let schedules = annotations::schedules(notes)?;
        Ok(Lowered {
            spec: spec_of(&key, &stored, &deployment)?,
            key,
            image: match stored.image {
                Some(_) => None,
                None => Some(registry::image(&stored, &deployment)?),
            },
            build: stored
                .image
                .map(|image| image.prepared.build)
                .unwrap_or_default(),
            switch: Switch::WhenReady,
            traffic: Vec::new(),
            rollout: None,
            records: annotations::records(
                deployment.annotations.as_ref().unwrap_or(&BTreeMap::new()),
            )?,
            queue: annotations::queue(notes)?,
            schedules,
        })
    }
}

// === impl Stored ===

impl Stored {
    /// What is stored in a document of this kind.
    pub(crate) fn of(object: &Object) -> Result<Self, LowerError> {
        let spec = object
            .spec()
            .ok_or_else(|| LowerError::new("spec", "is missing"))?;
        Self::deserialize(spec).map_err(|e| LowerError::new("spec", e.to_string()))
    }

    /// A member of the deployment as it was sent; none where it is absent or `null`.
    pub(crate) fn sent(&self, member: &str) -> Option<&Value> {
        self.deployment.get(member).filter(|value| !value.is_null())
    }

    /// The deployment's labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        words(self.sent("labels"))
    }
}

/// The members of an object that are text.
pub(crate) fn words(value: Option<&Value>) -> BTreeMap<String, String> {
    let members = value.and_then(Value::as_object).into_iter().flatten();
    members
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The canonical form of a deployment.
fn spec_of(
    key: &FunctionKey,
    stored: &Stored,
    deployment: &FunctionDeployment,
) -> Result<FunctionSpec, LowerError> {
    let built = stored.image.as_ref();
    let none = BTreeMap::new();
    let labels = deployment.labels.as_ref().unwrap_or(&none);
    let notes = deployment.annotations.as_ref().unwrap_or(&none);
    annotations::check(notes)?;
    let environment = Environment::of(key, stored, deployment)?;
    let max_inflight = environment.max_inflight();
    let concurrency = max_inflight
        .unwrap_or(built.map_or(registry::CONCURRENCY, |image| image.prepared.concurrency))
        .clamp(1, MAX_CONCURRENCY);
    let mut scale = crate::scaling::of(labels, concurrency, stored.replicas, stored.turn)?;
    if max_inflight.is_some() {
        // Calls above it are refused, not queued.
        scale.waiting = Some(0);
    }
    let command = match built {
        Some(image) => environment.command(&image.prepared)?,
        // The image's own: a watchdog, which reads `fprocess` itself.
        None => Vec::new(),
    };
    let network = annotations::network(notes)?;
    if network == Network::Host && environment.is_http() && !command.is_empty() {
        return Err(LowerError::new(
            format!("annotations.{}", annotations::NETWORK),
            "\"host\" is not for a process that listens on a port of its own: instances would collide there",
        ));
    }
    let spec = FunctionSpec {
        runtime: built.map_or_else(
            || registry::RUNTIME.to_owned(),
            |image| image.prepared.runtime.clone(),
        ),
        contract: built
            .map_or("http", |image| image.prepared.watchdog.as_str())
            .to_owned(),
        code: built.map_or_else(registry::no_code, Image::code),
        command,
        handler: built.and_then(|image| image.prepared.handler.clone()),
        secrets: secrets(deployment.secrets.as_deref().unwrap_or_default())?,
        limits: limits(
            deployment.limits.as_ref(),
            environment.call_limit(),
            environment.pids(concurrency),
        )?,
        scale,
        network,
        egress: annotations::egress(notes)?,
        access: Access::Public,
        root: None,
        secrets_generation: 0,
        env: environment.all,
    };
    // What the watchdog could not start with is said now, where there is somebody to tell.
    Contract::of(&spec).map_err(|e| LowerError::new("envVars", e.to_string()))?;
    Ok(spec)
}

// === impl Environment ===

impl Environment {
    fn of(
        key: &FunctionKey,
        stored: &Stored,
        deployment: &FunctionDeployment,
    ) -> Result<Self, LowerError> {
        let prepared = stored.image.as_ref().map(|image| &image.prepared);
        let mut all = BTreeMap::new();
        if let Some(prepared) = prepared {
            all.clone_from(&prepared.env);
            if !prepared.process.is_empty() {
                all.insert("fprocess".to_owned(), prepared.process.clone());
            }
        }
        all.extend(deployment.env_vars.clone().unwrap_or_default());
        if let Some(process) = deployment.env_process.as_ref().filter(|p| !p.is_empty()) {
            all.insert("fprocess".to_owned(), process.clone());
        }
        all.insert("OPENFAAS_NAME".to_owned(), key.name.to_string());
        all.insert(
            "OPENFAAS_NAMESPACE".to_owned(),
            crate::shown_namespace(&key.namespace).to_owned(),
        );
        check_env(&all)?;
        Ok(Self {
            all,
            watchdog: prepared.map(|prepared| prepared.watchdog),
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn mode(&self) -> &str {
        match self.watchdog {
            Some(WatchdogKind::OfWatchdog) => self.get("mode").unwrap_or("streaming"),
            Some(WatchdogKind::ClassicWatchdog) | None => "",
        }
    }

    /// Whether there is one process that serves, rather than one a call.
    fn is_http(&self) -> bool {
        self.mode() == "http"
    }

    /// What the watchdog runs.
    fn process(&self) -> Option<&str> {
        let own = match self.watchdog {
            Some(WatchdogKind::OfWatchdog) => self.get("function_process"),
            Some(WatchdogKind::ClassicWatchdog) | None => None,
        };
        own.or_else(|| self.get("fprocess"))
    }

    /// Program and arguments; empty where a language host of ours stands for the process, and where there is none.
    fn command(&self, prepared: &Prepared) -> Result<Vec<String>, LowerError> {
        let Some(process) = self.process() else {
            if self.mode() == "static" {
                return Ok(Vec::new());
            }
            return Err(LowerError::new(
                "envProcess",
                "is empty, and the image has no process of its own: name the program to run",
            ));
        };
        if self.mode() == "static"
            || prepared.hosted && self.is_http() && process == prepared.process
        {
            return Ok(Vec::new());
        }
        if process.starts_with(' ') {
            return Err(LowerError::new(
                "envProcess",
                format!(
                    "{process:?} begins with a space: the text before the first space is the program"
                ),
            ));
        }
        // Literally, two spaces having an empty argument between them: there is no shell and no quoting.
        Ok(process.split(' ').map(str::to_owned).collect())
    }

    fn max_inflight(&self) -> Option<u32> {
        self.get("max_inflight")?.parse().ok().filter(|&n| n > 0)
    }

    /// Longest time of a call: what the gateway gives it, or more where the watchdog's own settings do.
    fn call_limit(&self) -> Duration {
        let set = ["exec_timeout", "write_timeout"].map(|name| {
            let text = self.get(name)?;
            parse_go_duration(text).ok()
        });
        let longest = set.into_iter().flatten().fold(CALL, Duration::max);
        (longest + MARGIN).min(MAX_CALL)
    }

    fn pids(&self, concurrency: u32) -> u32 {
        if self.is_http() {
            PIDS
        } else {
            PIDS.max(concurrency * PIDS_PER_CALL)
        }
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), LowerError> {
    let bytes: usize = env.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
    if env.len() > MAX_ENV || bytes > MAX_ENV_BYTES {
        return Err(LowerError::new(
            "envVars",
            format!(
                "has {} variables of {bytes} bytes together; at most {MAX_ENV} of {MAX_ENV_BYTES} bytes are passed",
                env.len()
            ),
        ));
    }
    for (name, value) in env {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(good) {
            return Err(LowerError::new(
                "envVars",
                format!(
                    "{name:?} is not the name of a variable: letters, digits, '_', '-' and '.', not beginning with a digit"
                ),
            ));
        }
        if value.contains('\0') {
            return Err(LowerError::new(
                "envVars",
                format!("variable {name:?} has a NUL character"),
            ));
        }
    }
    Ok(())
}

fn secrets(names: &[String]) -> Result<Vec<SecretUse>, LowerError> {
    if names.len() > MAX_SECRETS {
        return Err(LowerError::new(
            "secrets",
            format!(
                "names {} secrets; at most {MAX_SECRETS} are passed",
                names.len()
            ),
        ));
    }
    let mut used: Vec<SecretUse> = Vec::with_capacity(names.len());
    for name in names {
        // A file each, so one that is named twice is there once.
        if !used.iter().any(|one| one.name == *name) {
            used.push(SecretUse {
                name: name.clone(),
                env: None,
            });
        }
    }
    Ok(used)
}

fn limits(asked: Option<&Resources>, call: Duration, pids: u32) -> Result<Limits, LowerError> {
    let text = |member: fn(&Resources) -> Option<&String>| {
        asked.and_then(member).filter(|text| !text.is_empty())
    };
    let memory = match text(|r| r.memory.as_ref()) {
        None => MEMORY,
        Some(text) => {
            parse_bytes(text).map_err(|e| LowerError::new("limits.memory", e.to_string()))?
        }
    };
    if memory < MIN_MEMORY {
        return Err(LowerError::new(
            "limits.memory",
            format!("{memory} bytes are too few for an instance to start in; at least 8Mi are"),
        ));
    }
    let cpu_milli = match text(|r| r.cpu.as_ref()) {
        None => CPU_MILLI,
        Some(text) => parse_cpu(text).map_err(|e| LowerError::new("limits.cpu", e.to_string()))?,
    };
    let devices = asked.iter().flat_map(|r| &r.others);
    for (device, amount) in devices {
        let amount = amount.to_string();
        let amount = amount.trim_matches('"');
        if device.ends_with("/gpu") && !matches!(amount, "" | "0" | "null") {
            return Err(LowerError::new(
                format!("limits.{device}"),
                format!("{amount:?} cannot be given: functions get no devices here"),
            ));
        }
    }
    Ok(Limits {
        memory,
        cpu_milli,
        pids,
        // `/tmp` is memory and counts as such: half of it, so that a full one leaves the code its own.
        tmp: memory / 2,
        timeout: call,
        first_byte: call,
        // Nothing upstream ends a body for its silence alone.
        stream_idle: call,
        body: BODY,
    })
}

#[cfg(test)]
mod tests;
