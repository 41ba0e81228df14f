//! The gateway's metrics, under the names and labels that dashboards and autoscalers made for OpenFaaS ask for.
//!
//! Only calls through this dialect count, by the status that the caller got; who left before there was one is a 499. A call adds to counters of its own function;
//! finding them takes a shared lock of one of many shards, never one that all calls share.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::RwLock;
use tidegate_core::FunctionKey;
use tidegate_platform::{DEFAULT_NAMESPACE, Platform};

/// Media type of the page: Prometheus' text format, since the names below have no `_total` that OpenMetrics would demand.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the default namespace is called here.
pub(crate) const NAMESPACE: &str = "openfaas-fn";

/// Upper bounds in seconds: the defaults of Prometheus' clients.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const SHARDS: usize = 64;

type Shard = RwLock<hashbrown::HashMap<FunctionKey, Arc<FunctionCounters>>>;

/// Counters of every function that was called.
pub(crate) struct Metrics {
    shards: Box<[Shard]>,
    hasher: std::hash::RandomState,
}

/// Counters of one function.
#[derive(Default)]
pub(crate) struct FunctionCounters {
    started: AtomicU64,
    /// By status, in the order they were first seen: a function answers with a handful.
    codes: RwLock<Vec<Arc<CodeCounters>>>,
}

struct CodeCounters {
    code: StatusCode,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: std::hash::RandomState::new(),
        }
    }
}

impl Metrics {
    /// The counters of a function.
    pub(crate) fn of(&self, key: &FunctionKey) -> Arc<FunctionCounters> {
        let shard = self.shard(key);
        if let Some(found) = shard.read().get(key) {
            return found.clone();
        }
        shard.write().entry(key.clone()).or_default().clone()
    }

    /// Calls that ended, of all statuses.
    pub(crate) fn invocations(&self, key: &FunctionKey) -> u64 {
        let found = self.shard(key).read().get(key).cloned();
        found.map_or(0, |counters| {
            counters.codes.read().iter().map(|code| code.count()).sum()
        })
    }

    fn shard(&self, key: &FunctionKey) -> &Shard {
        use std::hash::BuildHasher as _;
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// The page. Functions that are gone leave it.
    pub(crate) fn render(&self, platform: &Platform) -> String {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.retain(|key, _| platform.function(key.borrowed()).is_some());
            all.extend(shard.iter().map(|(k, c)| (label(k), c.clone())));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let mut replicas = Vec::new();
        platform.for_each_function(|function| {
            let wanted = platform.counts(function).wanted;
            replicas.push((label(function.key()), wanted));
        });
        replicas.sort();
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = write_page(&mut page, &all, &replicas);
        page
    }
}

fn write_page(
    page: &mut String,
    all: &[(String, Arc<FunctionCounters>)],
    replicas: &[(String, u32)],
) -> fmt::Result {
    head(
        page,
        "gateway_functions_seconds",
        "histogram",
        "Function time taken",
    )?;
    for (function, counters) in all {
        for code in counters.sorted() {
            let labels = format!(
                "function_name=\"{function}\",code=\"{}\"",
                code.code.as_u16()
            );
            let mut sum = 0;
            let bounds = BUCKETS
                .iter()
                .map(f64::to_string)
                .chain(["+Inf".to_owned()]);
            for (bound, bucket) in bounds.zip(&code.buckets) {
                sum += bucket.load(Ordering::Relaxed);
                writeln!(
                    page,
                    "gateway_functions_seconds_bucket{{{labels},le=\"{bound}\"}} {sum}"
                )?;
            }
            let seconds = Duration::from_nanos(code.nanoseconds.load(Ordering::Relaxed));
            writeln!(
                page,
                "gateway_functions_seconds_sum{{{labels}}} {}\ngateway_functions_seconds_count{{{labels}}} {sum}",
                seconds.as_secs_f64()
            )?;
        }
    }
    head(
        page,
        "gateway_function_invocation_total",
        "counter",
        "Calls that ended, by status",
    )?;
    for (function, counters) in all {
        for code in counters.sorted() {
            writeln!(
                page,
                "gateway_function_invocation_total{{function_name=\"{function}\",code=\"{}\"}} {}",
                code.code.as_u16(),
                code.count()
            )?;
        }
    }
    head(
        page,
        "gateway_function_invocation_started",
        "counter",
        "Calls that began",
    )?;
    for (function, counters) in all {
        writeln!(
            page,
            "gateway_function_invocation_started{{function_name=\"{function}\"}} {}",
            counters.started.load(Ordering::Relaxed)
        )?;
    }
    head(
        page,
        "gateway_service_count",
        "gauge",
        "Replicas of a function",
    )?;
    for (function, count) in replicas {
        writeln!(
            page,
            "gateway_service_count{{function_name=\"{function}\"}} {count}"
        )?;
    }
    Ok(())
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// `name.namespace`; neither has a character that a label's value would have to escape.
fn label(key: &FunctionKey) -> String {
    let namespace = if *key.namespace == *DEFAULT_NAMESPACE {
        NAMESPACE
    } else {
        &key.namespace
    };
    format!("{}.{namespace}", key.name)
}

impl FunctionCounters {
    pub(crate) fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, code: StatusCode, took: Duration) {
        let counters = self.code(code);
        let seconds = took.as_secs_f64();
        let at = BUCKETS.iter().position(|le| seconds <= *le);
        counters.buckets[at.unwrap_or(BUCKETS.len())].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counters
            .nanoseconds
            .fetch_add(nanoseconds, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn ended_with(&self, code: StatusCode) -> u64 {
        self.code(code).count()
    }

    fn code(&self, code: StatusCode) -> Arc<CodeCounters> {
        let found = |codes: &[Arc<CodeCounters>]| codes.iter().find(|c| c.code == code).cloned();
        if let Some(counters) = found(&self.codes.read()) {
            return counters;
        }
        let mut codes = self.codes.write();
        found(&codes).unwrap_or_else(|| {
            let counters = Arc::new(CodeCounters {
                code,
                buckets: Default::default(),
                nanoseconds: AtomicU64::new(0),
            });
            codes.push(counters.clone());
            counters
        })
    }

    fn sorted(&self) -> Vec<Arc<CodeCounters>> {
        let mut codes = self.codes.read().clone();
        codes.sort_by_key(|code| code.code.as_u16());
        codes
    }
}

impl CodeCounters {
    fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::Name;

    use super::*;

    #[test]
    fn the_page_has_the_gateways_names_and_labels() {
        let metrics = Metrics::default();
        let name = |text| Name::new(text).unwrap();
        let key = FunctionKey::new(&name("default"), &name("hello"));
        let counters = metrics.of(&key);
        counters.started();
        counters.started();
        counters.ended(StatusCode::OK, Duration::from_millis(30));
        counters.ended(StatusCode::BAD_GATEWAY, Duration::from_secs(11));
        assert_eq!(metrics.invocations(&key), 2);
        let mut page = String::new();
        write_page(&mut page, &[(label(&key), counters)], &[(label(&key), 3)]).unwrap();
        let hello = "function_name=\"hello.openfaas-fn\"";
        for line in [
            "# TYPE gateway_functions_seconds histogram".to_owned(),
            format!("gateway_functions_seconds_bucket{{{hello},code=\"200\",le=\"0.025\"}} 0"),
            format!("gateway_functions_seconds_bucket{{{hello},code=\"200\",le=\"0.05\"}} 1"),
            format!("gateway_functions_seconds_bucket{{{hello},code=\"502\",le=\"10\"}} 0"),
            format!("gateway_functions_seconds_bucket{{{hello},code=\"502\",le=\"+Inf\"}} 1"),
            format!("gateway_functions_seconds_sum{{{hello},code=\"200\"}} 0.03"),
            format!("gateway_function_invocation_total{{{hello},code=\"502\"}} 1"),
            format!("gateway_function_invocation_started{{{hello}}} 2"),
            format!("gateway_service_count{{{hello}}} 3"),
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
    }
}
