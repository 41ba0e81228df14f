//! Records become spans, by OpenTelemetry's conventions.
//!
//! A function is a service of its own, so that whoever looks at a trace sees which function called which. An invocation
//! is one span; where it waited for longer than a moment, or for a start, spans below it say for what.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use tidegate_core::record::{CauseKind, Record, TraceContext, Used};
use tidegate_core::trace::{Step, StepKind, span_of};
use tidegate_core::{FunctionKey, Outcome};

use crate::options::Attributes;
use crate::proto::{
    KeyValue, Link, Resource, ResourceSpans, Scope, ScopeSpans, Span, SpanKind, Status, Traces,
    Value,
};

/// A wait below this, in microseconds, has no span of its own: it is a warm call's way to its instance.
const MOMENT_US: u64 = 1000;

/// The code of [`Status`] for what went wrong. What went well has none: that is for people to say.
const ERROR: i32 = 2;

/// Spans by whose they are.
#[derive(Default)]
pub(crate) struct Batch {
    of: HashMap<Arc<FunctionKey>, Vec<Span>>,
    pub(crate) spans: usize,
}

// === impl Batch ===

impl Batch {
    pub(crate) fn record(&mut self, record: &Record, trace: &TraceContext) {
        let spans = of_record(record, trace);
        self.spans += spans.len();
        let known = self.of.entry(record.function.clone()).or_default();
        known.extend(spans);
    }

    pub(crate) fn step(&mut self, step: Step) {
        self.spans += 1;
        let function = Arc::new(step.function.clone());
        self.of.entry(function).or_default().push(of_step(step));
    }

    pub(crate) fn encode(self, attributes: &Attributes) -> Vec<u8> {
        let of = self.of.into_iter().map(|(function, spans)| ResourceSpans {
            resource: Some(service(&function, attributes)),
            scopes: vec![ScopeSpans {
                scope: Some(Scope::ours()),
                spans,
            }],
        });
        Traces { of: of.collect() }.encode_to_vec()
    }
}

/// A function as a service.
pub(crate) fn service(function: &FunctionKey, attributes: &Attributes) -> Resource {
    let mut resource = common(attributes);
    let ours = [
        KeyValue::text("service.name", &*function.name),
        KeyValue::text("service.namespace", &*function.namespace),
        KeyValue::text("faas.name", &*function.name),
    ];
    resource.attributes.extend(ours);
    if !function.group.is_empty() {
        let group = KeyValue::text("tidegate.group", &*function.group);
        resource.attributes.push(group);
    }
    resource
}

/// The server as a service.
pub(crate) fn server(name: &str, attributes: &Attributes) -> Resource {
    let mut resource = common(attributes);
    let ours = [
        KeyValue::text("service.name", name),
        KeyValue::text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    resource.attributes.extend(ours);
    resource
}

fn common(attributes: &Attributes) -> Resource {
    let attributes = attributes.0.iter();
    Resource {
        attributes: attributes
            .map(|(name, value)| KeyValue::text(name, value))
            .collect(),
    }
}

pub(crate) fn trace_id(trace: &TraceContext) -> Vec<u8> {
    trace.trace.to_be_bytes().to_vec()
}

pub(crate) fn span_id(span: u64) -> Vec<u8> {
    match span {
        // None, in the protocol's words.
        0 => Vec::new(),
        span => span.to_be_bytes().to_vec(),
    }
}

/// The invocation's own span first, then those below it.
fn of_record(record: &Record, trace: &TraceContext) -> Vec<Span> {
    let ready_us = record.received_us.saturating_add(record.times.queue_us);
    let ended_us = record.received_us.saturating_add(record.total_us());
    let mut whole = span(
        trace,
        trace.span,
        trace.parent,
        record.function.name.to_string(),
        (record.received_us, ended_us),
    );
    whole.kind = match record.cause.kind {
        CauseKind::Call | CauseKind::Function => SpanKind::Server,
        CauseKind::Queue | CauseKind::Schedule | CauseKind::Event | CauseKind::Destination => {
            SpanKind::Consumer
        }
    } as i32;
    whole.attributes = attributes(record);
    whole.status = status(record);
    // What is made later has, by its attempts, more ends than one: the place where it was accepted is linked as well.
    if let Some(parent) = record.cause.parent
        && whole.kind == SpanKind::Consumer as i32
        && span_of(parent) == trace.parent
    {
        whole.links.push(Link {
            trace_id: trace_id(trace),
            span_id: span_id(trace.parent),
        });
    }
    let mut spans = vec![whole];
    let cold = record.times.cold;
    if cold.is_none() && record.times.queue_us < MOMENT_US {
        return spans;
    }
    let mut below = |name: &str, from_us: u64, to_us: u64, parent: u64| {
        let id = below(trace.span, spans.len() as u64);
        spans.push(span(trace, id, parent, name.to_owned(), (from_us, to_us)));
        id
    };
    let cold_us = cold.map_or(0, |c| c.sandbox_us + c.runtime_us + c.load_us);
    // A start that was under way already began before the call came.
    let start_us = ready_us.saturating_sub(cold_us).max(record.received_us);
    if start_us > record.received_us {
        below("wait", record.received_us, start_us, trace.span);
    }
    if let Some(cold) = cold {
        let start = below("start", start_us, ready_us, trace.span);
        let mut to_us = ready_us;
        for (name, took_us) in [
            ("load code", cold.load_us),
            ("start runtime", cold.runtime_us),
            ("make sandbox", cold.sandbox_us),
        ] {
            let from_us = to_us.saturating_sub(took_us).max(start_us);
            if from_us < to_us {
                below(name, from_us, to_us, start);
            }
            to_us = from_us;
        }
    }
    if record.instance.is_some() {
        below("run", ready_us, ended_us, trace.span);
    }
    spans
}

fn of_step(step: Step) -> Span {
    let trace = &step.trace;
    let times = (step.began_us, step.ended_us.max(step.began_us));
    let (name, kind) = match &step.kind {
        StepKind::Accepted => (format!("queue {}", step.function.name), SpanKind::Producer),
        StepKind::Told { host, .. } => (format!("tell {host}"), SpanKind::Client),
    };
    let mut span = span(trace, trace.span, trace.parent, name, times);
    span.kind = kind as i32;
    let id = String::from_utf8_lossy(&step.id.hex()).into_owned();
    span.attributes = vec![KeyValue::text("faas.invocation_id", id)];
    if let StepKind::Told { host, attempt } = step.kind {
        let more = [
            KeyValue::text("server.address", host),
            KeyValue::text("http.request.method", "POST"),
            KeyValue::int("tidegate.attempt", attempt.into()),
        ];
        span.attributes.extend(more);
    }
    span.status = step.failure.map(|message| Status {
        message,
        code: ERROR,
    });
    span
}

fn span(trace: &TraceContext, id: u64, parent: u64, name: String, us: (u64, u64)) -> Span {
    Span {
        trace_id: trace_id(trace),
        span_id: span_id(id),
        parent_span_id: span_id(parent),
        name,
        kind: SpanKind::Internal as i32,
        start_ns: us.0.saturating_mul(1000),
        end_ns: us.1.saturating_mul(1000),
        attributes: Vec::new(),
        links: Vec::new(),
        status: None,
        flags: u32::from(trace.sampled),
    }
}

/// The id of the n-th span below another: as good as a random one, and the same whenever it is made.
fn below(span: u64, n: u64) -> u64 {
    let mut x = span.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).max(1)
}

fn attributes(record: &Record) -> Vec<KeyValue> {
    let id = String::from_utf8_lossy(&record.id.hex()).into_owned();
    let cause = &record.cause;
    let mut all = vec![
        KeyValue::text("faas.invocation_id", id),
        KeyValue::text("faas.trigger", trigger(cause.kind)),
        KeyValue::of("faas.coldstart", Value::Bool(record.times.cold.is_some())),
        KeyValue::text("tidegate.cause", cause.kind.as_str()),
        KeyValue::text("tidegate.outcome", record.outcome.as_str()),
        KeyValue::int("http.request.body.size", record.bytes_in),
        KeyValue::int("http.response.body.size", record.bytes_out),
    ];
    let mut text = |key: &str, value: Option<String>| {
        all.extend(value.map(|value| KeyValue::text(key, value)));
    };
    text(
        "faas.version",
        Some(record.revision.to_string()).filter(|r| !r.is_empty()),
    );
    text("faas.instance", record.instance.map(|i| i.to_string()));
    text(
        "tidegate.parent",
        cause
            .parent
            .map(|p| String::from_utf8_lossy(&p.hex()).into_owned()),
    );
    text(
        "tidegate.trigger",
        cause.name.as_ref().map(|n| n.to_string()),
    );
    // By convention the kind of the error: a status where there is one, else a word.
    let error = (record.outcome != Outcome::Ok).then(|| match record.status {
        Some(status) if record.outcome == Outcome::Application => status.to_string(),
        _ => record.outcome.as_str().to_owned(),
    });
    text("error.type", error.filter(|_| is_error(record)));
    let mut int = |key: &str, value: Option<u64>| {
        all.extend(value.map(|value| KeyValue::int(key, value)));
    };
    int("http.response.status_code", record.status.map(u64::from));
    int(
        "tidegate.attempt",
        Some(u64::from(cause.attempt)).filter(|a| *a > 0),
    );
    int(
        "tidegate.memory.limit",
        Some(record.memory_limit).filter(|limit| *limit > 0),
    );
    if let Used::Alone {
        cpu_us,
        memory_peak,
    } = record.used
    {
        int("tidegate.memory.peak", Some(memory_peak));
        int("tidegate.cpu.us", Some(cpu_us));
    }
    all
}

/// By the convention for what runs functions.
const fn trigger(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::Call | CauseKind::Function => "http",
        CauseKind::Schedule => "timer",
        CauseKind::Queue | CauseKind::Event | CauseKind::Destination => "pubsub",
    }
}

/// By the convention for servers, an answer below 500 is the caller's affair.
fn is_error(record: &Record) -> bool {
    match record.outcome {
        Outcome::Ok => false,
        Outcome::Application => record.status.is_none_or(|status| status >= 500),
        _ => true,
    }
}

fn status(record: &Record) -> Option<Status> {
    is_error(record).then(|| Status {
        message: record.message.as_deref().unwrap_or_default().to_owned(),
        code: ERROR,
    })
}
