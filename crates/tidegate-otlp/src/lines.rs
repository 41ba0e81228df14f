//! Lines: what functions print, and the server's own log.

use std::collections::{HashMap, VecDeque};
use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;
use tidegate_core::record::TraceContext;
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_records::Line;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::options::Attributes;
use crate::outlet::Outlet;
use crate::proto::{
    AnyValue, KeyValue, LogRecord, Logs, Resource, ResourceLogs, Scope, ScopeLogs, Value,
};
use crate::spans::{service, span_id, trace_id};

/// Places of invocations that are remembered for lines that come late.
const REMEMBERED: usize = 16 * 1024;

/// A line of either kind.
pub(crate) enum Entry {
    Function(Line),
    Server(LogRecord),
}

/// Where invocations stand that ended lately.
#[derive(Default)]
pub(crate) struct Places {
    /// Nothing for one of no trace.
    of: HashMap<InvocationId, Option<TraceContext>>,
    order: VecDeque<InvocationId>,
}

/// What tracing says, as lines that are exported.
#[derive(Clone, Debug)]
pub struct ServerLog(Outlet);

// === impl Places ===

impl Places {
    pub(crate) fn remember(&mut self, id: InvocationId, trace: Option<TraceContext>) {
        if self.of.insert(id, trace).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, id: InvocationId) -> Option<TraceContext> {
        self.of.get(&id).copied().flatten()
    }

    /// Whether its place is known, or that it has none.
    fn is_known(&self, id: InvocationId) -> bool {
        self.of.contains_key(&id)
    }
}

// === impl Entry ===

impl Entry {
    /// Whether it need not wait any more: it is known of which trace it is, or it is of none, or it waited since before
    /// `since_us`, in microseconds since the Unix epoch.
    pub(crate) fn is_ready(&self, places: &Places, since_us: u64) -> bool {
        match self {
            Self::Function(line) => line
                .invocation
                .is_none_or(|id| line.time_us < since_us || places.is_known(id)),
            Self::Server(_) => true,
        }
    }
}

/// One request of lines.
pub(crate) fn encode(
    entries: Vec<Entry>,
    places: &Places,
    server: &Resource,
    attributes: &Attributes,
) -> Vec<u8> {
    let mut ours = Vec::new();
    let mut of: HashMap<Arc<FunctionKey>, Vec<LogRecord>> = HashMap::new();
    for entry in entries {
        match entry {
            Entry::Server(record) => ours.push(record),
            Entry::Function(line) => {
                let place = line.invocation.and_then(|id| places.get(id));
                let known = of.entry(line.function.clone()).or_default();
                known.push(of_line(&line, place));
            }
        }
    }
    let mut all = Vec::new();
    if !ours.is_empty() {
        all.push(resource(server.clone(), ours));
    }
    let functions = of.into_iter();
    all.extend(
        functions.map(|(function, records)| resource(service(&function, attributes), records)),
    );
    Logs { of: all }.encode_to_vec()
}

fn resource(resource: Resource, records: Vec<LogRecord>) -> ResourceLogs {
    ResourceLogs {
        resource: Some(resource),
        scopes: vec![ScopeLogs {
            scope: Some(Scope::ours()),
            records,
        }],
    }
}

/// What a function prints says nothing of how grave it is.
fn of_line(line: &Line, place: Option<TraceContext>) -> LogRecord {
    let mut attributes = vec![
        KeyValue::text("log.iostream", line.stream.as_str()),
        KeyValue::text("faas.instance", line.instance.to_string()),
    ];
    if let Some(id) = line.invocation {
        let id = String::from_utf8_lossy(&id.hex()).into_owned();
        attributes.push(KeyValue::text("faas.invocation_id", id));
    }
    LogRecord {
        time_ns: line.time_us.saturating_mul(1000),
        observed_ns: line.time_us.saturating_mul(1000),
        body: Some(AnyValue::text(&*line.text)),
        attributes,
        flags: place.map_or(0, |place| place.sampled.into()),
        trace_id: place.as_ref().map(trace_id).unwrap_or_default(),
        span_id: place.map(|place| span_id(place.span)).unwrap_or_default(),
        ..LogRecord::default()
    }
}

// === impl ServerLog ===

impl ServerLog {
    /// A layer of the server's log, to be filtered like any other.
    #[must_use]
    pub fn new(outlet: Outlet) -> Self {
        Self(outlet)
    }
}

impl<S: Subscriber> Layer<S> for ServerLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (severity, text) = match *event.metadata().level() {
            Level::ERROR => (17, "ERROR"),
            Level::WARN => (13, "WARN"),
            Level::INFO => (9, "INFO"),
            Level::DEBUG => (5, "DEBUG"),
            Level::TRACE => (1, "TRACE"),
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = KeyValue::text("tidegate.target", event.metadata().target());
        fields.attributes.push(target);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ns = now.unwrap_or_default().as_nanos() as u64;
        self.0.server_line(LogRecord {
            time_ns: now_ns,
            observed_ns: now_ns,
            severity,
            severity_text: text.to_owned(),
            body: Some(AnyValue::text(fields.message)),
            attributes: fields.attributes,
            ..LogRecord::default()
        });
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    attributes: Vec<KeyValue>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.attributes.push(KeyValue::of(field.name(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Into a string it cannot fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.add(field, Value::Text(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.add(field, Value::Text(value.to_owned()));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bool(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::Double(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_remembered_up_to_a_bound() {
        let mut places = Places::default();
        let trace = |n| TraceContext {
            trace: n,
            parent: 0,
            span: 1,
            sampled: true,
        };
        let count = REMEMBERED as u128 + 10;
        for n in 1..=count {
            let id = InvocationId::from_u128(n);
            places.remember(id, Some(trace(n)));
            places.remember(id, Some(trace(n)));
        }
        assert_eq!(places.of.len(), REMEMBERED);
        assert_eq!(places.get(InvocationId::from_u128(10)), None);
        let last = places.get(InvocationId::from_u128(count));
        assert_eq!(last, Some(trace(count)));
        let of_none = InvocationId::from_u128(count + 1);
        places.remember(of_none, None);
        assert!(places.is_known(of_none) && places.get(of_none).is_none());
    }
}
