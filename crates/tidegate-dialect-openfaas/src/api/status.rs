//! What is told of a function.
//!
//! Clients compare what they deployed with what they read, deeply: a member that was not deployed is absent rather than
//! empty, labels and annotations are objects always, and quantities come back as they were written. So those members are
//! taken out of the deployment as it was sent, not out of what it was understood as.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tidegate_core::{FunctionKey, FunctionRef, InstanceId, format_bytes};
use tidegate_platform::{
    Lower as _, LowerError, Object, Phase, Platform, PoolCounts, Status, Usage as Used, View,
};

use super::answer::{Answer, Refusal};
use crate::lower::{Stored, words};
use crate::{Deployments, OpenFaas, scaling, shown_namespace};

/// The label by which clients find a function's name.
const NAME_LABEL: &str = "faas_function";
/// Whether instances are to be scraped for metrics of their own.
const SCRAPE: &str = "prometheus.io.scrape";
/// Why a function does not serve as it was deployed. This API has no other place for it.
const TROUBLE: &str = "tidegate.dev/message";

/// Between two looks at how much processor time instances have had: long enough for a clock that counts in milliseconds,
/// short enough to wait for.
const USAGE_WINDOW: Duration = Duration::from_millis(100);

/// A function as clients read it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionStatus {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env_process: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env_vars: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) constraints: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secrets: Option<Value>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) read_only_root_filesystem: bool,
    pub(super) invocation_count: u64,
    /// As many as are wanted.
    pub(super) replicas: u32,
    /// As many as take calls.
    pub(super) available_replicas: u32,
    pub(super) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Usage>,
}

/// What a function's instances use together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Usage {
    /// Thousandths of a core.
    cpu: f64,
    /// Bytes.
    total_memory_bytes: f64,
}

impl FunctionStatus {
    /// Why it does not serve as it was deployed.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.annotations.get(TROUBLE).map(String::as_str)
    }
}

/// Where the newest generation of a function stands.
pub(super) fn phase(object: &Object) -> &'static str {
    let status = Status::of(object);
    match status.phase {
        _ if status.observed_generation != object.generation() => "pending",
        Phase::Pending => "pending",
        Phase::Ready => "ready",
        Phase::Failed => "failed",
    }
}

/// A deployment with its status of this moment.
pub(super) fn of(openfaas: &OpenFaas, object: &Object) -> Answer<FunctionStatus> {
    // A document of ours that does not read as one is damage or of a newer version, not the caller's fault.
    let unreadable = |error: LowerError| {
        tracing::error!(object = %object.key(), %error, "a stored function cannot be read");
        Refusal::new(
            http::StatusCode::INTERNAL_SERVER_ERROR,
            format!("function {} cannot be read: {error}", object.key().name()),
        )
    };
    let stored = Stored::of(object).map_err(unreadable)?;
    let key = key_of(object);
    let text = |member: &str| {
        stored
            .sent(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let filled = |member: &str| {
        stored
            .sent(member)
            .filter(|value| !is_empty(value))
            .cloned()
    };
    let mut labels = stored.labels();
    labels.insert(NAME_LABEL.to_owned(), key.name.to_owned());
    let mut annotations = words(stored.sent("annotations"));
    annotations
        .entry(SCRAPE.to_owned())
        .or_insert_with(|| "false".to_owned());
    let status = Status::of(object);
    if status.phase == Phase::Failed && status.observed_generation == object.generation() {
        annotations.insert(TROUBLE.to_owned(), status.message);
    }
    let counts = counts(openfaas.platform(), key);
    Ok(FunctionStatus {
        name: key.name.to_owned(),
        image: text("image"),
        namespace: shown_namespace(key.namespace).to_owned(),
        env_process: filled("envProcess"),
        env_vars: filled("envVars"),
        constraints: filled("constraints"),
        secrets: filled("secrets"),
        labels,
        annotations,
        limits: stored.sent("limits").cloned(),
        requests: stored.sent("requests").cloned(),
        read_only_root_filesystem: stored.sent("readOnlyRootFilesystem")
            == Some(&Value::Bool(true)),
        invocation_count: invocations(openfaas, key),
        // One that does not lower any more, after an update of the server, has none.
        replicas: replicas(openfaas, object).unwrap_or(0),
        available_replicas: counts.idle + counts.busy,
        created_at: object.creation_timestamp().to_owned(),
        usage: None,
    })
}

/// Another dialect's function as if it were ours.
pub(super) fn view(openfaas: &OpenFaas, view: &View) -> FunctionStatus {
    let (spec, key) = (&view.spec, view.key.borrowed());
    let status = Status::of(&view.object);
    let revision = match &*status.revision {
        "" => "latest",
        revision => revision,
    };
    let counts = counts(openfaas.platform(), key);
    let mut labels: BTreeMap<_, _> = view
        .object
        .labels()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    labels.insert(NAME_LABEL.to_owned(), key.name.to_owned());
    let mut annotations: BTreeMap<_, _> = [
        (SCRAPE.to_owned(), "false".to_owned()),
        ("tidegate.dev/dialect".to_owned(), view.dialect.to_owned()),
    ]
    .into();
    if status.phase == Phase::Failed {
        annotations.insert(TROUBLE.to_owned(), status.message.clone());
    }
    let secrets: Vec<_> = spec.secrets.iter().map(|used| &used.name).collect();
    FunctionStatus {
        name: key.name.to_owned(),
        image: format!("tidegate/{}:{revision}", spec.runtime.replace(':', "-")),
        namespace: shown_namespace(key.namespace).to_owned(),
        env_vars: (!spec.env.is_empty()).then(|| json!(spec.env)),
        secrets: (!secrets.is_empty()).then(|| json!(secrets)),
        labels,
        annotations,
        limits: Some(json!({
            "memory": format_bytes(spec.limits.memory),
            "cpu": format!("{}m", spec.limits.cpu_milli),
        })),
        invocation_count: invocations(openfaas, key),
        replicas: scaling::desired(openfaas.platform(), key, &spec.scale),
        available_replicas: counts.idle + counts.busy,
        created_at: view.object.creation_timestamp().to_owned(),
        ..FunctionStatus::default()
    }
}

/// What a function's instances use now, where that is measured: the processor time that they had in a short while.
pub(super) async fn usage(platform: &Platform, key: FunctionRef<'_>) -> Option<Usage> {
    let function = platform.function(key)?;
    let before = platform.usage(&function);
    if before.is_empty() {
        return None;
    }
    let began = tokio::time::Instant::now();
    tokio::time::sleep(USAGE_WINDOW).await;
    Some(used(&before, &platform.usage(&function), began.elapsed()))
}

fn used(before: &[(InstanceId, Used)], now: &[(InstanceId, Used)], took: Duration) -> Usage {
    let before: HashMap<InstanceId, u64> = before.iter().map(|(id, u)| (*id, u.cpu_us)).collect();
    // One that was not there before has no past to compare with; the next look has it.
    let had = now
        .iter()
        .filter_map(|(id, used)| Some(used.cpu_us.saturating_sub(*before.get(id)?)));
    let took = took.as_micros().max(1) as f64;
    Usage {
        cpu: (had.sum::<u64>() as f64 * 1000.0 / took * 100.0).round() / 100.0,
        total_memory_bytes: now.iter().map(|(_, used)| used.memory).sum::<u64>() as f64,
    }
}

/// As many as are wanted.
pub(super) fn replicas(openfaas: &OpenFaas, object: &Object) -> Result<u32, LowerError> {
    let scale = Deployments.lower(object)?.spec.scale;
    Ok(scaling::desired(
        openfaas.platform(),
        key_of(object),
        &scale,
    ))
}

fn counts(platform: &Platform, key: FunctionRef<'_>) -> PoolCounts {
    platform
        .function(key)
        .map(|function| platform.counts(&function))
        .unwrap_or_default()
}

fn invocations(openfaas: &OpenFaas, key: FunctionRef<'_>) -> u64 {
    openfaas.invocations(&FunctionKey {
        namespace: key.namespace.into(),
        group: key.group.into(),
        name: key.name.into(),
    })
}

fn key_of(object: &Object) -> FunctionRef<'_> {
    FunctionRef {
        namespace: object.key().namespace(),
        group: "",
        name: object.key().name(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_what_instances_had_in_between() {
        let at = |id, cpu_us, memory| {
            let used = Used {
                cpu_us,
                memory,
                ..Used::default()
            };
            (InstanceId(id), used)
        };
        let before = [at(1, 5_000, 100), at(2, 1_000, 100)];
        let now = [at(1, 30_000, 150), at(3, 9_000, 50)];
        let usage = used(&before, &now, Duration::from_millis(100));
        let wanted = Usage {
            cpu: 250.0,
            total_memory_bytes: 200.0,
        };
        assert_eq!(usage, wanted);
    }
}
