//! A collector as far as the protocol goes: takes what is sent to it, answers as it is told to, and reads everything with
//! the protocol's own generated types.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// Longest wait for something that is to come.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a request is answered.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "each user of this has some of them")]
pub(crate) enum Answer {
    Ok,
    /// A status, and the seconds of a `Retry-After`.
    Status(u16, Option<u64>),
    /// Taken, but for so many.
    Partial(i64),
    /// Not at all; the connection stays open.
    Silence,
}

/// What has come.
#[derive(Default)]
pub(crate) struct Seen {
    /// Requests of any kind, with what they were not taken for.
    pub(crate) requests: usize,
    /// The head of the last one, in small letters.
    pub(crate) head: String,
    /// Connections.
    pub(crate) connections: usize,
    /// What was taken: the service it is of, and the span.
    pub(crate) spans: Vec<(String, Span)>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) logs: Vec<(String, LogRecord)>,
}

/// A collector.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    grew: Condvar,
    answers: Mutex<VecDeque<Answer>>,
}

impl Receiver {
    /// Answers with these, one after the other, and well from then on.
    pub(crate) fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers.iter().copied().collect()),
            ..Shared::default()
        });
        let for_thread = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = for_thread.clone();
                shared.seen().connections += 1;
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until what has come satisfies.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut found: impl FnMut(&Seen) -> Option<T>) -> T {
        let mut result = None;
        let seen = self.shared.seen();
        let (seen, _) = self
            .shared
            .grew
            .wait_timeout_while(seen, PATIENCE, |seen| {
                result = found(seen);
                result.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        result.unwrap_or_else(|| {
            let spans: Vec<_> = seen
                .spans
                .iter()
                .map(|(of, span)| (of, &span.name))
                .collect();
            let logs: Vec<_> = seen.logs.iter().map(|(of, log)| (of, text(log))).collect();
            let requests = seen.requests;
            panic!("{what}; of {requests} requests there are {spans:?}, {logs:?}")
        })
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                (reader.read_line(&mut head).ok()? > 0).then_some(())?;
            }
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1)?.lines().next()?;
            let mut body = vec![0; length.trim().parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            let answers = &mut self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = answers.pop_front().unwrap_or(Answer::Ok);
            self.take(head, &body, answer);
            let (status, more, body) = match answer {
                Answer::Silence => continue,
                Answer::Ok => (200, String::new(), Vec::new()),
                Answer::Partial(rejected) => {
                    let partial_success = Some(ExportTracePartialSuccess {
                        rejected_spans: rejected,
                        error_message: "too old".to_owned(),
                    });
                    let answer = ExportTraceServiceResponse { partial_success };
                    (200, String::new(), answer.encode_to_vec())
                }
                Answer::Status(status, after) => {
                    let after = after.map(|seconds| format!("retry-after: {seconds}\r\n"));
                    (status, after.unwrap_or_default(), refusal("because of it"))
                }
            };
            let head = format!(
                "HTTP/1.1 {status} Answer\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n{more}\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), &body].concat()).ok()?;
        }
    }

    fn take(&self, head: String, body: &[u8], answer: Answer) {
        let mut seen = self.seen();
        seen.requests += 1;
        if matches!(answer, Answer::Ok | Answer::Partial(_)) {
            if head.starts_with("post /v1/traces ") {
                let sent = ExportTraceServiceRequest::decode(body).expect("traces");
                for of in sent.resource_spans {
                    let service = service(&of.resource.expect("a resource").attributes);
                    let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                    seen.spans.extend(spans.map(|span| (service.clone(), span)));
                }
            } else if head.starts_with("post /v1/metrics ") {
                let sent = ExportMetricsServiceRequest::decode(body).expect("metrics");
                let scopes = sent
                    .resource_metrics
                    .into_iter()
                    .flat_map(|of| of.scope_metrics);
                seen.metrics.extend(scopes.flat_map(|scope| scope.metrics));
            } else if head.starts_with("post /v1/logs ") {
                let sent = ExportLogsServiceRequest::decode(body).expect("logs");
                for of in sent.resource_logs {
                    let service = service(&of.resource.expect("a resource").attributes);
                    let records = of
                        .scope_logs
                        .into_iter()
                        .flat_map(|scope| scope.log_records);
                    seen.logs
                        .extend(records.map(|record| (service.clone(), record)));
                }
            }
        }
        seen.head = head;
        drop(seen);
        self.grew.notify_all();
    }
}

/// A `google.rpc.Status` with nothing but its message, of less than 128 bytes.
fn refusal(message: &str) -> Vec<u8> {
    let length = u8::try_from(message.len()).expect("a short message");
    [&[0x12, length], message.as_bytes()].concat()
}

fn service(attributes: &[KeyValue]) -> String {
    let name = attribute(attributes, "service.name");
    name.expect("a service has a name")
}

/// An attribute, as text.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    shown(found.value.as_ref())
}

fn shown(value: Option<&AnyValue>) -> Option<String> {
    Some(match value?.value.as_ref()? {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        any_value::Value::BoolValue(is) => is.to_string(),
        other => format!("{other:?}"),
    })
}

/// What a line says.
pub(crate) fn text(record: &LogRecord) -> String {
    shown(record.body.as_ref()).unwrap_or_default()
}
