//! From what is stored to what clients read.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::Value;
use tidegate_core::{FunctionRef, Scale, format_duration};
use tidegate_platform::{DEFAULT_NAMESPACE, Object, Phase, Platform, PoolCounts, Status, View};

use crate::api::records::timestamp;
use crate::api::versions;
use crate::document::{
    self, Cause, ColdStart, Function, FunctionSpec, FunctionStatus, Instances, Metadata, Namespace,
    NamespaceSpec, Record, SecretInfo, Times, Trace, Used,
};

/// Says in a view which dialect a function belongs to; native ones have none.
const DIALECT: &str = "tidegate.dev/dialect";

/// A stored function with its status of this moment.
pub(crate) fn function(platform: &Platform, object: Object) -> Result<Function, serde_json::Error> {
    let status = status(platform, &object);
    let mut value = object.into_value();
    if let Some(document) = value.as_object_mut() {
        document.remove("status");
    }
    let mut function: Function = serde_json::from_value(value)?;
    function.status = Some(status);
    Ok(function)
}

/// Another dialect's function as if it were ours.
pub(crate) fn view(platform: &Platform, view: &View) -> Function {
    let object = &view.object;
    Function {
        api_version: document::API_VERSION.to_owned(),
        kind: document::FUNCTION.to_owned(),
        metadata: Metadata {
            name: view.key.name.to_string(),
            namespace: view.key.namespace.to_string(),
            uid: object.uid().to_owned(),
            resource_version: object
                .resource_version()
                .map(|version| version.to_string())
                .unwrap_or_default(),
            generation: object.generation(),
            creation_timestamp: object.creation_timestamp().to_owned(),
            annotations: [(DIALECT.to_owned(), view.dialect.to_owned())].into(),
            ..Metadata::default()
        },
        spec: FunctionSpec {
            scale: scale(&view.spec.scale),
            ..versions::spec(&view.spec)
        },
        status: Some(status(platform, object)),
    }
}

/// How many instances another dialect's function has, as near as a document of ours can say it.
fn scale(scale: &Scale) -> document::Scale {
    document::Scale {
        // With a time after which none is kept, the minimum holds only until then.
        min: Some(if scale.zero.is_some() { 0 } else { scale.min }),
        max: Some(scale.max),
        concurrency: Some(scale.concurrency),
        idle: Some(format_duration(scale.zero.unwrap_or(scale.idle))),
        ..document::Scale::default()
    }
}

fn status(platform: &Platform, object: &Object) -> FunctionStatus {
    let status = Status::of(object);
    let (name, namespace) = (object.key().name(), object.key().namespace());
    let known = platform.function(FunctionRef {
        namespace,
        group: "",
        name,
    });
    let counts = known
        .as_ref()
        .map(|f| platform.counts(f))
        .unwrap_or_default();
    let members = known
        .as_ref()
        .map(|f| platform.members(f))
        .unwrap_or_default();
    let url = if namespace == DEFAULT_NAMESPACE {
        format!("/fn/{name}")
    } else {
        format!("/fn/{name}.{namespace}")
    };
    FunctionStatus {
        observed_generation: status.observed_generation,
        phase: match status.phase {
            Phase::Pending => document::Phase::Pending,
            Phase::Ready => document::Phase::Ready,
            Phase::Failed => document::Phase::Failed,
        },
        message: status.message,
        revision: status.revision,
        image: status.image.map(|image| document::ImageStatus {
            name: image.name,
            digest: image.digest,
        }),
        build: (status.build != tidegate_platform::BuildStatus::default()).then_some({
            document::BuildStatus {
                dependencies: status.build.dependencies,
                bundle: status.build.bundle,
                failed: status.build.failed,
                milliseconds: status.build.milliseconds,
                log: status.build.log,
            }
        }),
        traffic: status
            .traffic
            .into_iter()
            .map(|part| versions::part(part, &members))
            .collect(),
        rollout: status.rollout.map(versions::rollout),
        url,
        instances: instances(counts),
        invocations: known
            .and_then(|f| {
                f.metrics_if_called()
                    .map(tidegate_platform::FunctionMetrics::total)
            })
            .unwrap_or(0),
    }
}

pub(crate) const fn instances(counts: PoolCounts) -> Instances {
    Instances {
        starting: counts.starting,
        idle: counts.idle,
        busy: counts.busy,
        draining: counts.draining,
        queued: counts.queued,
    }
}

/// What the store and the client say of an object.
pub(crate) fn metadata(object: &Object) -> Metadata {
    let annotations = object.metadata().get("annotations");
    let annotations = annotations.and_then(|all| all.as_object());
    let notes = annotations.into_iter().flatten();
    let key = object.key();
    let version = object.resource_version();
    Metadata {
        name: key.name().to_owned(),
        namespace: key.namespace().to_owned(),
        uid: object.uid().to_owned(),
        resource_version: version.map(|v| v.to_string()).unwrap_or_default(),
        generation: object.generation(),
        creation_timestamp: object.creation_timestamp().to_owned(),
        labels: object
            .labels()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        annotations: notes
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
    }
}

/// A namespace.
pub(crate) fn namespace(object: &Object) -> Namespace {
    Namespace {
        api_version: document::API_VERSION.to_owned(),
        kind: document::NAMESPACE.to_owned(),
        metadata: Metadata {
            name: object.key().name().to_owned(),
            uid: object
                .metadata()
                .get("uid")
                .and_then(|u| u.as_str())
                .unwrap_or("")
                .to_owned(),
            creation_timestamp: object
                .metadata()
                .get("creationTimestamp")
                .and_then(|t| t.as_str())
                .unwrap_or("")
                .to_owned(),
            labels: words(object, "labels"),
            annotations: words(object, "annotations"),
            ..Metadata::default()
        },
        // What does not read as ours, which nobody could have stored, is not told.
        spec: object
            .spec()
            .and_then(|spec| NamespaceSpec::deserialize(spec).ok())
            .filter(|spec| !spec.is_empty()),
    }
}

/// What is kept of an invocation.
pub(crate) fn record(platform: &Platform, record: &tidegate_core::record::Record) -> Record {
    let (how, cpu_us, memory_peak) = match record.used {
        tidegate_core::record::Used::Unmeasured => ("unmeasured", None, None),
        tidegate_core::record::Used::Shared => ("shared", None, None),
        tidegate_core::record::Used::Alone {
            cpu_us,
            memory_peak,
        } => ("alone", Some(cpu_us), Some(memory_peak)),
    };
    Record {
        id: record.id.to_string(),
        namespace: record.function.namespace.to_string(),
        function: record.function.name.to_string(),
        revision: Some(record.revision.to_string()).filter(|revision| !revision.is_empty()),
        cause: Cause {
            kind: record.cause.kind.as_str().to_owned(),
            parent: record.cause.parent.map(|id| id.to_string()),
            name: record.cause.name.as_deref().map(str::to_owned),
            attempt: record.cause.attempt,
        },
        trace: record.trace.map(|trace| Trace {
            id: format!("{:032x}", trace.trace),
            span: format!("{:016x}", trace.span),
            parent: format!("{:016x}", trace.parent),
            sampled: trace.sampled,
        }),
        received: timestamp(record.received_us),
        times: Times {
            total_us: record.total_us(),
            queue_us: record.times.queue_us,
            cold: record.times.cold.map(|cold| ColdStart {
                sandbox_us: cold.sandbox_us,
                runtime_us: cold.runtime_us,
                load_us: cold.load_us,
            }),
            run_us: record.times.run_us,
        },
        outcome: record.outcome.as_str().to_owned(),
        message: record.message.as_deref().map(str::to_owned),
        status: record.status,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        used: Used {
            how: how.to_owned(),
            cpu_us,
            memory_peak,
        },
        memory_limit: record.memory_limit,
        billed_us: platform.billed_us(record),
        cost: platform
            .cost_of_record(record)
            .map(|cost| cost.total().to_string()),
        instance: record.instance.map(|id| id.to_string()),
        children: Vec::new(),
    }
}

/// The pairs of words in a field of an object's metadata.
fn words(object: &Object, field: &str) -> BTreeMap<String, String> {
    let pairs = object.metadata().get(field).and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    pairs.into_iter().flatten().filter_map(text).collect()
}

/// A secret without its value.
pub(crate) fn secret(info: tidegate_platform::SecretInfo) -> SecretInfo {
    SecretInfo {
        name: info.name,
        namespace: info.namespace,
        size: info.size,
        created: info.created,
    }
}
