//! From a native document to a canonical function.

use std::time::Duration;

use serde::Deserialize as _;
use tidegate_core::egress::Rule;
use tidegate_core::record::{Level, LevelError};
use tidegate_core::rollout::Plan;
use tidegate_core::traffic::{Share, Target, check};
use tidegate_core::{
    Access, Build, BuildSecret, BuildSecretPlace, Code, FunctionRef, FunctionSpec, Limits, Metric,
    Name, Network, Scale, SecretUse, parse_bytes, parse_cpu, parse_duration,
};
use tidegate_platform::{
    CONFIG_FILES, Contract, GradualRollout, Lower, LowerError, Lowered, Object, ObjectKey, Switch,
    key_of,
};

use crate::document;
use crate::image::image;

/// Native documents as functions.
pub struct Native;

/// What absent members mean.
pub mod defaults {
    use std::time::Duration;

    /// Enough for an interpreter with a few libraries; a runaway is stopped long before the machine feels it.
    pub const MEMORY: u64 = 256 << 20;
    /// Thousandths of a core: one call is one thread's work unless the function says otherwise.
    pub const CPU_MILLI: u32 = 1000;
    /// Processes and threads: room for a thread pool and a few children.
    pub const PIDS: u32 = 128;
    /// Bytes under `/tmp`, which are memory.
    pub const TMP: u64 = 64 << 20;
    /// A call that takes longer is stuck more often than slow.
    pub const TIMEOUT: Duration = Duration::from_secs(60);
    /// Silence of a body, either way.
    pub const STREAM_IDLE: Duration = Duration::from_secs(60);
    /// Request body in bytes.
    pub const BODY: u64 = 64 << 20;
    /// Instances of one function.
    pub const MAX: u32 = 20;
    /// A start costs milliseconds, so there is little to be had from waiting longer.
    pub const IDLE: Duration = Duration::from_secs(60);
    /// Percent of the concurrency of an HTTP server; beyond it latency grows before the limit is reached.
    pub const TARGET_HTTP: u32 = 70;
    /// Steps of a rollout: as fine as shares are.
    pub const ROLLOUT_STEPS: u32 = 100;
    /// Share of failed calls that takes a rollout back.
    pub const MAX_ERROR_RATE: f64 = 0.05;
    /// Calls before a rollout is judged: one failure among them is not yet too many.
    pub const MIN_REQUESTS: u64 = 20;
    /// Percent, where an instance's calls do not share it.
    pub const TARGET: u32 = 100;
}

/// Least memory that an instance can start in.
const MIN_MEMORY: u64 = 8 << 20;
/// Most instances of one function.
const MAX_INSTANCES: u32 = 1000;
/// Most environment variables, and the most bytes of them together: what the kernel gives a process leaves room beside.
const MAX_ENV: usize = 500;
const MAX_ENV_BYTES: usize = 96 * 1024;
/// Most secrets of one function.
const MAX_SECRETS: usize = 64;
/// Most entries of a list of what may be reached: each connection is compared with all of them.
const MAX_EGRESS: usize = 256;
/// Longest rollout.
const MAX_ROLLOUT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest call.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

impl Lower for Native {
    fn kind(&self) -> (&'static str, &'static str) {
        (document::API_VERSION, document::FUNCTION)
    }

    fn dialect(&self) -> &'static str {
        "native"
    }

    fn document(&self, key: FunctionRef<'_>) -> Option<ObjectKey> {
        let (api_version, kind) = self.kind();
        ObjectKey::new(api_version, kind, key.namespace, key.name)
            .ok()
            .filter(|_| key.group.is_empty())
    }

    fn lower(&self, object: &Object) -> Result<Lowered, LowerError> {
        let key = key_of(object, ["metadata.namespace", "metadata.name"])?;
        let spec = object
            .spec()
            .ok_or_else(|| LowerError::new("spec", "is missing"))?;
        let spec = document::FunctionSpec::deserialize(spec)
            .map_err(|e| LowerError::new("spec", e.to_string()))?;
        Ok(Lowered {
            build: build(spec.build.as_ref())?,
            image: image(&spec)?,
            spec: spec_of(&spec)?,
            switch: Switch::WhenReady,
            traffic: traffic(&spec.traffic)?,
            rollout: spec.rollout.as_ref().map(rollout).transpose()?,
            records: records(spec.records.as_deref())?,
            queue: crate::later::rules(&key, spec.later.as_ref())?,
            key,
            schedules: Vec::new(),
        })
    }
}

/// Which invocations leave a record, where it is said.
pub(crate) fn records(text: Option<&str>) -> Result<Option<Level>, LowerError> {
    let level = text.map(str::parse).transpose();
    level.map_err(|e: LevelError| LowerError::new("spec.records", e.to_string()))
}

/// The scale until it is known how the function is called, which says what is usual.
const UNSCALED: Scale = Scale {
    min: 0,
    max: 1,
    initial: 0,
    concurrency: 1,
    target_milli: 1000,
    idle: defaults::IDLE,
    metric: Metric::Concurrency,
    waiting: None,
    zero: None,
    by_hand: None,
};

/// The canonical form of a specification.
pub(crate) fn spec_of(spec: &document::FunctionSpec) -> Result<FunctionSpec, LowerError> {
    if spec.image.is_none() {
        crate::image::none(spec)?;
    }
    // What the kernel runs has no language host.
    let compiled = matches!(&*spec.runtime, "executable" | "go" | "rust");
    let word = spec.contract.as_deref().unwrap_or(match &*spec.runtime {
        // Or whatever its label says, when it is known.
        _ if spec.image.is_some() => "http",
        "go" => "http",
        _ if compiled => "stdio",
        _ => "host",
    });
    if compiled && word == "host" {
        return Err(LowerError::new(
            "spec.contract",
            format!(
                "runtime {:?} has no language host: choose 'stdio' (a process a call) or 'http' (a server on $PORT)",
                spec.runtime
            ),
        ));
    }
    let network = match spec.network.as_deref() {
        None | Some("outbound") => Network::Outbound,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => {
            return Err(LowerError::new(
                "spec.network",
                format!("unknown network {other:?}: choose 'outbound', 'none' or 'host'"),
            ));
        }
    };
    let mut lowered = FunctionSpec {
        runtime: match spec.image {
            Some(_) => crate::image::RUNTIME.to_owned(),
            None => spec.runtime.clone(),
        },
        contract: word.to_owned(),
        code: match spec.image {
            Some(_) => Code {
                digest: String::new(),
                entry: String::new(),
                layer: None,
            },
            None => code(&spec.code)?,
        },
        command: Vec::new(),
        handler: handler(spec.handler.as_deref())?,
        env: env("spec.env", &spec.env)?,
        secrets: secrets(&spec.secrets)?,
        limits: limits(&spec.limits)?,
        scale: UNSCALED,
        network,
        egress: egress(network, spec.egress.as_deref())?,
        access: match spec.access.as_deref() {
            None | Some("public") => Access::Public,
            Some("private") => Access::Private,
            Some(other) => {
                return Err(LowerError::new(
                    "spec.access",
                    format!("unknown access {other:?}: choose 'public' or 'private'"),
                ));
            }
        },
        root: None,
        secrets_generation: 0,
    };
    let contract = Contract::of(&lowered)
        .map_err(|error| LowerError::new(error.field(), error.to_string()))?;
    lowered.scale = scale(&spec.scale, &contract)?;
    Ok(lowered)
}

/// What is reached, where not all that is.
fn egress(network: Network, entries: Option<&[String]>) -> Result<Option<Vec<Rule>>, LowerError> {
    let Some(entries) = entries else {
        return Ok(None);
    };
    if network != Network::Outbound {
        return Err(LowerError::new(
            "spec.egress",
            "is for network \"outbound\" alone: leave one of the two out",
        ));
    }
    if entries.len() > MAX_EGRESS {
        return Err(LowerError::new(
            "spec.egress",
            format!(
                "has {} entries: at most {MAX_EGRESS} are taken",
                entries.len()
            ),
        ));
    }
    let read = |(at, entry): (usize, &String)| {
        let rule = entry.parse::<Rule>();
        rule.map_err(|e| LowerError::new(format!("spec.egress[{at}]"), e.to_string()))
    };
    entries
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Who takes the calls.
pub(crate) fn traffic(parts: &[document::Traffic]) -> Result<Vec<Share>, LowerError> {
    let shares = parts
        .iter()
        .enumerate()
        .map(|(at, part)| {
            let to = match (&part.revision, part.latest) {
                (Some(revision), false) => Target::Revision(revision.clone()),
                (None, true) => Target::Latest,
                _ => {
                    return Err(LowerError::new(
                        format!("spec.traffic[{at}]"),
                        "names no revision, or more than one: give 'revision', or 'latest: true'",
                    ));
                }
            };
            Ok(Share {
                to,
                percent: part.percent,
                tag: part.tag.clone(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    check(&shares).map_err(|e| LowerError::new("spec.traffic", e.to_string()))?;
    Ok(shares)
}

/// How traffic comes to a new revision.
pub(crate) fn rollout(rollout: &document::Rollout) -> Result<GradualRollout, LowerError> {
    let wrong = |field: &str, why: String| LowerError::new(format!("spec.rollout.{field}"), why);
    let over = parse_duration(&rollout.over).map_err(|e| wrong("over", e.to_string()))?;
    if over.is_zero() || over > MAX_ROLLOUT {
        return Err(wrong(
            "over",
            format!("{:?} is not above zero and at most 30d", rollout.over),
        ));
    }
    let steps = rollout.steps.unwrap_or(defaults::ROLLOUT_STEPS);
    if !(1..=100).contains(&steps) {
        return Err(wrong("steps", format!("{steps} is not between 1 and 100")));
    }
    let rate = rollout
        .max_error_rate
        .map_or(defaults::MAX_ERROR_RATE, |r| r.0);
    if !(0.0..=1.0).contains(&rate) {
        return Err(wrong(
            "maxErrorRate",
            format!("{rate} is not between 0 and 1; 0.05 is 5 percent"),
        ));
    }
    let min_requests = rollout.min_requests.unwrap_or(defaults::MIN_REQUESTS);
    if min_requests == 0 {
        return Err(wrong("minRequests", "must be at least 1".to_owned()));
    }
    Ok(GradualRollout {
        plan: Plan {
            over,
            steps,
            max_errors_ppm: (rate * 1_000_000.0).round() as u32,
            min_requests,
        },
        only: rollout.revision.clone(),
    })
}

fn code(code: &document::Code) -> Result<Code, LowerError> {
    code.digest
        .parse::<tidegate_platform::Digest>()
        .map_err(|e| LowerError::new("spec.code.digest", e.to_string()))?;
    let entry = &code.entry;
    if !is_inside(entry) {
        return Err(LowerError::new(
            "spec.code.entry",
            format!("{entry:?} is not a path of a file inside the archive, such as handler.py"),
        ));
    }
    Ok(Code {
        digest: code.digest.clone(),
        entry: entry.clone(),
        layer: None,
    })
}

/// Whether a path stays in the folder that it is relative to.
fn is_inside(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

fn handler(handler: Option<&str>) -> Result<Option<String>, LowerError> {
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c == '.')
            && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    match handler {
        Some(text) if !text.split(':').all(is_name) || text.split(':').count() > 2 => {
            Err(LowerError::new(
                "spec.handler",
                format!(
                    "{text:?} is not the name of an attribute, or of a module and one: write 'handler' or 'module:handler'"
                ),
            ))
        }
        handler => Ok(handler.map(str::to_owned)),
    }
}

fn env(
    field: &str,
    env: &std::collections::BTreeMap<String, String>,
) -> Result<std::collections::BTreeMap<String, String>, LowerError> {
    let bytes: usize = env.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
    if env.len() > MAX_ENV || bytes > MAX_ENV_BYTES {
        return Err(LowerError::new(
            field,
            format!(
                "has {} variables of {bytes} bytes together; at most {MAX_ENV} of {MAX_ENV_BYTES} bytes are passed",
                env.len()
            ),
        ));
    }
    for (name, value) in env {
        check_variable(field, name)?;
        if value.contains('\0') {
            return Err(LowerError::new(
                field,
                format!("variable {name:?} has a NUL character"),
            ));
        }
    }
    Ok(env.clone())
}

fn check_variable(field: &str, name: &str) -> Result<(), LowerError> {
    let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit();
    if good {
        return Ok(());
    }
    Err(LowerError::new(
        field,
        format!(
            "{name:?} is not the name of a variable: letters, digits and '_', not beginning with a digit"
        ),
    ))
}

fn secrets(secrets: &[document::SecretUse]) -> Result<Vec<SecretUse>, LowerError> {
    if secrets.len() > MAX_SECRETS {
        return Err(LowerError::new(
            "spec.secrets",
            format!(
                "names {} secrets; at most {MAX_SECRETS} are passed",
                secrets.len()
            ),
        ));
    }
    secrets
        .iter()
        .enumerate()
        .map(|(at, used)| {
            let name = Name::new(&used.name)
                .map_err(|e| LowerError::new(format!("spec.secrets[{at}].name"), e.to_string()))?;
            if let Some(variable) = &used.env {
                check_variable(&format!("spec.secrets[{at}].env"), variable)?;
            }
            Ok(SecretUse {
                name: name.into(),
                env: used.env.clone(),
            })
        })
        .collect()
}

/// How the code is built.
pub(crate) fn build(build: Option<&document::Build>) -> Result<Build, LowerError> {
    let Some(build) = build else {
        return Ok(Build::default());
    };
    if build.skip && build.command.is_some() {
        return Err(LowerError::new(
            "spec.build",
            "'skip' runs the code as it was sent and 'command' builds it: leave one of them out",
        ));
    }
    if build.command.as_ref().is_some_and(|c| c.trim().is_empty()) {
        return Err(LowerError::new("spec.build.command", "is empty"));
    }
    for name in build.env.keys() {
        check_variable("spec.build.env", name)?;
    }
    let secrets = build.secrets.iter().enumerate();
    let secrets = secrets.map(|(at, secret)| {
        let field = format!("spec.build.secrets[{at}]");
        Ok(BuildSecret {
            name: Name::new(&secret.name)
                .map_err(|e| LowerError::new(format!("{field}.name"), e.to_string()))?
                .into(),
            place: place(&field, secret)?,
        })
    });
    Ok(Build {
        skip: build.skip,
        command: build.command.clone(),
        env: env("spec.build.env", &build.env)?,
        secrets: secrets.collect::<Result<_, _>>()?,
    })
}

fn place(field: &str, secret: &document::BuildSecret) -> Result<BuildSecretPlace, LowerError> {
    match (&secret.file, &secret.env) {
        (Some(_), Some(_)) => Err(LowerError::new(
            field,
            "has both 'file' and 'env': leave one of them out",
        )),
        (None, Some(variable)) => {
            check_variable(&format!("{field}.env"), variable)?;
            Ok(BuildSecretPlace::Env(variable.clone()))
        }
        (Some(file), None) if is_inside(file) => Ok(BuildSecretPlace::File(file.clone())),
        (Some(file), None) => Err(LowerError::new(
            format!("{field}.file"),
            format!("{file:?} is not a path inside the home folder, such as .netrc"),
        )),
        (None, None) => match CONFIG_FILES.iter().find(|(name, _)| *name == secret.name) {
            Some((_, file)) => Ok(BuildSecretPlace::File((*file).to_owned())),
            None => {
                let known: Vec<&str> = CONFIG_FILES.iter().map(|(name, _)| *name).collect();
                Err(LowerError::new(
                    field,
                    format!(
                        "{:?} is not the name of a package manager's file ({}): say with 'file' or 'env' where the build looks for it",
                        secret.name,
                        known.join(", ")
                    ),
                ))
            }
        },
    }
}

fn limits(limits: &document::Limits) -> Result<Limits, LowerError> {
    let bytes = |field: &str, text: &Option<String>, default: u64| match text {
        None => Ok(default),
        Some(text) => parse_bytes(text)
            .map_err(|e| LowerError::new(format!("spec.limits.{field}"), e.to_string())),
    };
    let time = |field: &str, text: &Option<String>, default: Duration| {
        let Some(text) = text else { return Ok(default) };
        let field = format!("spec.limits.{field}");
        match parse_duration(text) {
            Ok(time) if time.is_zero() || time > MAX_TIMEOUT => Err(LowerError::new(
                field,
                format!("{text:?} is not above zero and at most 24h"),
            )),
            Ok(time) => Ok(time),
            Err(e) => Err(LowerError::new(field, e.to_string())),
        }
    };
    let memory = bytes("memory", &limits.memory, defaults::MEMORY)?;
    if memory < MIN_MEMORY {
        return Err(LowerError::new(
            "spec.limits.memory",
            format!("{memory} bytes are too few for an instance to start in; at least 8Mi are"),
        ));
    }
    let timeout = time("timeout", &limits.timeout, defaults::TIMEOUT)?;
    let pids = limits.pids.unwrap_or(defaults::PIDS);
    if pids == 0 {
        return Err(LowerError::new("spec.limits.pids", "must be at least 1"));
    }
    Ok(Limits {
        memory,
        cpu_milli: match &limits.cpu {
            None => defaults::CPU_MILLI,
            Some(text) => {
                parse_cpu(text).map_err(|e| LowerError::new("spec.limits.cpu", e.to_string()))?
            }
        },
        pids,
        tmp: bytes("tmp", &limits.tmp, defaults::TMP)?.min(memory),
        timeout,
        first_byte: time("firstByte", &limits.first_byte, timeout)?,
        stream_idle: time("streamIdle", &limits.stream_idle, defaults::STREAM_IDLE)?,
        body: bytes("body", &limits.body, defaults::BODY)?,
    })
}

fn scale(scale: &document::Scale, contract: &Contract) -> Result<Scale, LowerError> {
    let max = scale
        .max
        .unwrap_or(defaults::MAX.max(scale.min.unwrap_or(0)));
    let min = scale.min.unwrap_or(0);
    let bounded = |field: &str, value: u32, least: u32, most: u32| {
        if (least..=most).contains(&value) {
            return Ok(value);
        }
        Err(LowerError::new(
            format!("spec.scale.{field}"),
            format!("{value} is not between {least} and {most}"),
        ))
    };
    let max = bounded("max", max, 1, MAX_INSTANCES)?;
    let concurrency = scale.concurrency.unwrap_or(contract.default_concurrency());
    if contract.max_concurrency() == 1 && concurrency != 1 {
        return Err(LowerError::new(
            "spec.scale.concurrency",
            format!("{concurrency} calls at once cannot share a process a call: leave it at 1"),
        ));
    }
    let target = scale
        .target
        .unwrap_or(match contract.default_concurrency() {
            1 => defaults::TARGET,
            _ => defaults::TARGET_HTTP,
        });
    Ok(Scale {
        min: bounded("min", min, 0, max)?,
        max,
        initial: bounded("initial", scale.initial.unwrap_or(min.max(1)), 0, max)?,
        concurrency: bounded("concurrency", concurrency, 1, contract.max_concurrency())?,
        target_milli: bounded("target", target, 1, 100)? * 10,
        idle: match &scale.idle {
            None => defaults::IDLE,
            Some(text) => parse_duration(text)
                .map_err(|e| LowerError::new("spec.scale.idle", e.to_string()))?,
        },
        zero: None,
        by_hand: None,
        metric: Metric::Concurrency,
        waiting: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(spec: &serde_json::Value) -> Result<FunctionSpec, String> {
        let mut whole = serde_json::json!({
            "runtime": "python",
            "code": { "digest": format!("sha256:{}", "0".repeat(64)), "entry": "handler.py" },
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let spec = document::FunctionSpec::deserialize(&whole).map_err(|e| e.to_string())?;
        spec_of(&spec).map_err(|e| e.to_string())
    }

    #[test]
    fn absent_members_take_the_defaults() {
        let spec = lowered(&serde_json::json!({})).unwrap();
        assert_eq!(spec.contract, "host");
        assert_eq!(spec.limits.memory, defaults::MEMORY);
        assert_eq!(spec.scale.concurrency, 1);
        assert_eq!(
            (spec.scale.min, spec.scale.max, spec.scale.initial),
            (0, defaults::MAX, 1)
        );
        let http =
            lowered(&serde_json::json!({ "runtime": "executable", "contract": "http" })).unwrap();
        assert_eq!(
            (http.scale.concurrency, http.scale.target_milli),
            (100, 700)
        );
        let go = lowered(&serde_json::json!({ "runtime": "go" })).unwrap();
        assert_eq!((&*go.contract, go.scale.concurrency), ("http", 100));
        let rust = lowered(&serde_json::json!({ "runtime": "rust" })).unwrap();
        assert_eq!(rust.contract, "stdio");
        let many = lowered(&serde_json::json!({ "scale": { "min": 30 } })).unwrap();
        assert_eq!((many.scale.max, many.scale.initial), (30, 30));
    }

    #[test]
    fn a_build_names_its_secrets_places() {
        let of = |secret: serde_json::Value| {
            let spec = serde_json::json!({ "secrets": [secret] });
            let spec = document::Build::deserialize(&spec).unwrap();
            build(Some(&spec)).map(|b| b.secrets[0].place.clone())
        };
        let file = |path: &str| Ok(BuildSecretPlace::File(path.to_owned()));
        assert_eq!(of(serde_json::json!({ "name": "npmrc" })), file(".npmrc"));
        assert_eq!(
            of(serde_json::json!({ "name": "pip-conf" })),
            file(".config/pip/pip.conf")
        );
        assert_eq!(
            of(serde_json::json!({ "name": "a", "file": ".netrc" })),
            file(".netrc")
        );
        assert_eq!(
            of(serde_json::json!({ "name": "a", "env": "TOKEN" })),
            Ok(BuildSecretPlace::Env("TOKEN".to_owned()))
        );
        for (secret, part) in [
            (serde_json::json!({ "name": "mine" }), "npmrc"),
            (serde_json::json!({ "name": "a", "file": "../x" }), "inside"),
            (
                serde_json::json!({ "name": "a", "file": "x", "env": "X" }),
                "both",
            ),
        ] {
            let error = of(secret).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn errors_name_the_field_the_value_and_what_would_do() {
        for (spec, parts) in [
            (
                serde_json::json!({ "contract": "grpc" }),
                ["spec.contract", "grpc", "stdio"],
            ),
            (
                serde_json::json!({ "runtime": "go", "contract": "host" }),
                ["spec.contract", "\"go\"", "http"],
            ),
            (
                serde_json::json!({ "runtime": "executable", "contract": "host" }),
                ["spec.contract", "executable", "http"],
            ),
            (
                serde_json::json!({ "limits": { "memory": "1Q" } }),
                ["spec.limits.memory", "1Q", "256Mi"],
            ),
            (
                serde_json::json!({ "limits": { "memory": "1Ki" } }),
                ["spec.limits.memory", "1024", "8Mi"],
            ),
            (
                serde_json::json!({ "limits": { "cpu": "0" } }),
                ["spec.limits.cpu", "0", "0.5"],
            ),
            (
                serde_json::json!({ "limits": { "timeout": "0s" } }),
                ["spec.limits.timeout", "0s", "24h"],
            ),
            (
                serde_json::json!({ "scale": { "min": 5, "max": 2 } }),
                ["spec.scale.min", "5", "2"],
            ),
            (
                serde_json::json!({ "scale": { "max": 0 } }),
                ["spec.scale.max", "0", "1000"],
            ),
            (
                serde_json::json!({ "scale": { "target": 101 } }),
                ["spec.scale.target", "101", "100"],
            ),
            (
                serde_json::json!({ "env": { "1A": "" } }),
                ["spec.env", "1A", "letters"],
            ),
            (
                serde_json::json!({ "secrets": [{ "name": "A_B" }] }),
                ["spec.secrets[0].name", "A_B", "a-z"],
            ),
            (
                serde_json::json!({ "code": { "digest": "md5:1", "entry": "a" } }),
                ["spec.code.digest", "md5:1", "sha256"],
            ),
            (
                serde_json::json!({ "code": { "digest": format!("sha256:{}", "0".repeat(64)), "entry": "../a" } }),
                ["spec.code.entry", "../a", "handler.py"],
            ),
            (
                serde_json::json!({ "network": "inbound" }),
                ["spec.network", "inbound", "outbound"],
            ),
            (
                serde_json::json!({ "egress": ["a.org", "https://b.org"] }),
                ["spec.egress[1]", "https://b.org", "*.example.org:443"],
            ),
            (
                serde_json::json!({ "network": "none", "egress": [] }),
                ["spec.egress", "outbound", "leave"],
            ),
            (
                serde_json::json!({ "handler": "a b" }),
                ["spec.handler", "a b", "module:handler"],
            ),
            (
                serde_json::json!({ "memory": "1Gi" }),
                ["unknown field", "memory", "limits"],
            ),
        ] {
            let error = lowered(&spec).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{spec}: {error:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn traffic_and_rollouts_are_checked() {
        let part = |json: serde_json::Value| {
            let parts: Vec<document::Traffic> = serde_json::from_value(json).unwrap();
            traffic(&parts).map(drop).map_err(|e| e.to_string())
        };
        for (parts, says) in [
            (
                serde_json::json!([{ "latest": true, "percent": 90 }]),
                "sum to 90",
            ),
            (
                serde_json::json!([{ "latest": true, "revision": "a", "percent": 100 }]),
                "spec.traffic[0]",
            ),
            (serde_json::json!([{ "percent": 100 }]), "latest: true"),
            (
                serde_json::json!([{ "latest": true, "percent": 100, "tag": "A" }]),
                "\"A\"",
            ),
        ] {
            let error = part(parts).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(part(serde_json::json!([])), Ok(()));
        let plan = |json: serde_json::Value| {
            let sent: document::Rollout = serde_json::from_value(json).unwrap();
            rollout(&sent).map(|r| r.plan).map_err(|e| e.to_string())
        };
        let defaults = plan(serde_json::json!({ "over": "10m" })).unwrap();
        assert_eq!(
            (
                defaults.steps,
                defaults.max_errors_ppm,
                defaults.min_requests
            ),
            (100, 50_000, 20)
        );
        for (sent, says) in [
            (serde_json::json!({ "over": "0s" }), "spec.rollout.over"),
            (serde_json::json!({ "over": "9999h" }), "30d"),
            (serde_json::json!({ "over": "1m", "steps": 0 }), "steps"),
            (
                serde_json::json!({ "over": "1m", "maxErrorRate": 5 }),
                "0.05",
            ),
            (
                serde_json::json!({ "over": "1m", "minRequests": 0 }),
                "minRequests",
            ),
        ] {
            let error = plan(sent).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
