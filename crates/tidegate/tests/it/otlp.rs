//! Traces, metrics and logs as a collector gets them.

use std::net::TcpListener;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::harness::{Server, until};
use receiver::{Answer, Receiver, Seen, attribute, text};

#[path = "../../../tidegate-otlp/tests/it/receiver.rs"]
mod receiver;

const FRONT: &str = "
import urllib.request
def handler(event):
    return urllib.request.urlopen('http://back/', timeout=20).read()
";

const BACK: &str = "
def handler(event):
    print('working')
    return event.headers.get('traceparent', '-')
";

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn start(endpoint: &str) -> Server {
    Server::options()
        .set("otlp.endpoint", endpoint)
        .set("otlp.interval", "1s")
        .set("otlp.headers", "api-key=s3cret")
        .set("queue.callbacks-allow", "127.0.0.1")
        .start()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The span of this name and service in the trace.
fn find(seen: &Seen, service: &str, name: &str) -> Option<Span> {
    let mut spans = seen.spans.iter();
    let found =
        spans.find(|(of, span)| of == service && span.name == name && hex(&span.trace_id) == TRACE);
    found.map(|(_, span)| span.clone())
}

/// A counter of what is exported.
fn count(server: &Server, name: &str, signal: &str) -> u64 {
    let reply = server.get("/metrics").ok();
    let wanted = format!("tidegate_{name}_total{{signal=\"{signal}\"}} ");
    let mut lines = reply.text().lines();
    let found = lines.find_map(|line| line.strip_prefix(&wanted));
    found.map_or(0, |number| number.parse().expect("a number"))
}

#[test]
fn calls_are_spans_with_their_lines_and_are_counted() {
    let collector = Receiver::start(&[]);
    let server = start(&collector.url());
    server.deploy("back", BACK, &[]);
    server.deploy("front", FRONT, &["--initial", "0"]);
    let reply = server
        .call("GET", "/fn/front")
        .header("traceparent", TRACEPARENT);
    let told = reply.send().ok().text().to_owned();
    let (front, back) = collector.until("both calls are spans", |seen| {
        Some((find(seen, "front", "front")?, find(seen, "back", "back")?))
    });
    assert_eq!(hex(&front.parent_span_id), PARENT);
    assert_eq!(hex(&back.parent_span_id), hex(&front.span_id));
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&back.span_id)));
    assert_eq!(front.kind, SpanKind::Server as i32);
    assert_eq!(
        attribute(&front.attributes, "faas.coldstart").unwrap(),
        "true"
    );
    let start = collector.until("the start is a span", |seen| find(seen, "front", "start"));
    assert_eq!(start.parent_span_id, front.span_id);
    assert!(start.start_time_unix_nano >= front.start_time_unix_nano);
    assert!(start.end_time_unix_nano <= front.end_time_unix_nano);

    let line = collector.until("the line comes", |seen| {
        let mut lines = seen.logs.iter();
        let found = lines.find(|(service, line)| service == "back" && text(line) == "working");
        found.map(|(_, line)| line.clone())
    });
    assert_eq!(
        (hex(&line.trace_id), &line.span_id),
        (TRACE.to_owned(), &back.span_id)
    );
    collector.until("the server's own log comes", |seen| {
        let mut lines = seen.logs.iter();
        lines
            .find(|(service, line)| service == "tidegate" && text(line) == "exporting")
            .map(drop)
    });
    collector.until("the calls are counted", |seen| {
        seen.metrics.iter().find_map(|metric| {
            let Some(Data::Sum(sum)) = &metric.data else {
                return None;
            };
            let is_front = |point: &&opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
                attribute(&point.attributes, "function").as_deref() == Some("front")
            };
            let is_it = metric.name == "tidegate_invocations" && sum.is_monotonic;
            sum.data_points
                .iter()
                .find(is_front)
                .filter(|_| is_it)
                .map(drop)
        })
    });

    // A call that comes without a trace begins one.
    server.get("/fn/back").ok();
    collector.until("a trace begins", |seen| {
        let mut spans = seen.spans.iter();
        spans
            .find(|(of, span)| of == "back" && span.parent_span_id.is_empty())
            .map(drop)
    });
    assert!(!server.log().contains("s3cret"), "{}", server.log());
    until("what was taken is counted", || {
        count(&server, "exported", "traces") >= 3 && count(&server, "exported", "logs") >= 1
    });
}

#[test]
fn a_call_for_later_and_its_callback_are_in_the_trace_that_asked_for_them() {
    let (collector, told) = (Receiver::start(&[]), Receiver::start(&[]));
    let server = start(&collector.url());
    server.deploy("later", BACK, &[]);
    let call = server.call("POST", "/fn/later").body("x");
    let accepted = call
        .header("prefer", "respond-async")
        .header("traceparent", TRACEPARENT)
        .header("x-callback-url", &told.url())
        .send()
        .status(202);
    let id = accepted.header("x-request-id").expect("an id").to_owned();
    let head = told.until("somebody is told", |seen| {
        (seen.requests == 1).then(|| seen.head.clone())
    });
    let (queued, made, tell) = collector.until("three spans come", |seen| {
        Some((
            find(seen, "later", "queue later")?,
            find(seen, "later", "later")?,
            find(seen, "later", "tell 127.0.0.1")?,
        ))
    });
    assert_eq!(hex(&queued.parent_span_id), PARENT);
    assert_eq!(
        attribute(&queued.attributes, "faas.invocation_id"),
        Some(id)
    );
    assert_eq!(queued.kind, SpanKind::Producer as i32);
    assert_eq!(made.parent_span_id, queued.span_id);
    assert_eq!(made.kind, SpanKind::Consumer as i32);
    assert_eq!(made.links[0].span_id, queued.span_id);
    assert_eq!(tell.parent_span_id, queued.span_id);
    assert_eq!(tell.kind, SpanKind::Client as i32);
    let sent = format!("traceparent: 00-{TRACE}-{}-01\r\n", hex(&tell.span_id));
    assert!(head.contains(&sent), "{sent} in {head}");
}

#[test]
fn a_collector_that_is_gone_or_slow_or_refuses_holds_up_nobody() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    let silent = Receiver::start(&[Answer::Silence; 100]);
    let refusing = Receiver::start(&[Answer::Status(400, None); 1000]);
    for (endpoint, counter, said) in [
        (gone, "export_failures", "cannot be exported now"),
        (silent.url(), "", ""),
        (refusing.url(), "export_refused", "because of it"),
    ] {
        let server = start(&endpoint);
        server.deploy("back", BACK, &[]);
        let began = std::time::Instant::now();
        for _ in 0..20 {
            server.get("/fn/back").ok();
        }
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
        if counter.is_empty() {
            continue;
        }
        until("it is counted and said", || {
            count(&server, counter, "traces") > 0 && server.log().contains(said)
        });
    }
}

#[test]
fn an_endpoint_that_is_none_is_a_mistake_that_is_said() {
    let refused = Server::options()
        .set("otlp.endpoint", "127.0.0.1:4317")
        .set("otlp.headers", "s3cret")
        .refused();
    let said = refused.all();
    assert!(said.contains("http://127.0.0.1:4318"), "{said}");
    assert!(
        said.contains("otlp.headers") && !said.contains("s3cret"),
        "{said}"
    );
}
