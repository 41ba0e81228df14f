use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tempfile::TempDir;
use tidegate_core::record::{Cause, CauseKind, ColdStart, Record, Times, TraceContext, Used};
use tidegate_core::trace::{Step, StepKind};
use tidegate_core::{Backoff, FunctionKey, InstanceId, InvocationId, Outcome};
use tidegate_otlp::{Exporter, Options, Outlet, Signal, Stats};
use tidegate_records::{Line, Query, Recorder, Stream};

use crate::receiver::{Answer, Receiver, attribute, text};

const PAGE: &str = "# HELP tidegate_functions Functions\n# TYPE tidegate_functions gauge\ntidegate_functions 3\n# EOF\n";

struct World {
    recorder: Recorder,
    outlet: Outlet,
    exporter: Exporter,
    function: Arc<FunctionKey>,
    _folder: TempDir,
}

fn options(url: &str) -> Options {
    let mut options = Options {
        endpoint: url.parse().expect("an endpoint"),
        headers: "api-key=s3cret".parse().expect("headers"),
        service: "gate".to_owned(),
        attributes: "deployment.environment.name=test"
            .parse()
            .expect("attributes"),
        traces: true,
        metrics: false,
        logs: true,
        interval: Duration::from_secs(60),
        upstreams: Default::default(),
        bounds: Default::default(),
    };
    options.bounds.gather = Duration::from_millis(20);
    options.bounds.backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(20));
    options
}

fn start(options: Options) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let (recorder, _) = Recorder::open(folder.path(), Default::default()).expect("a recorder");
    let outlet = Outlet::new(options.bounds.queue_bytes, options.traces, options.logs);
    let follow = recorder.follow(&Query::default());
    let page = Box::new(|| Some(PAGE.to_owned()));
    let exporter = Exporter::start(options, &outlet, follow, page).expect("an exporter");
    let function = Arc::new(FunctionKey {
        namespace: "team".into(),
        group: "".into(),
        name: "work".into(),
    });
    World {
        recorder,
        outlet,
        exporter,
        function,
        _folder: folder,
    }
}

impl World {
    fn record(&self, n: u128, change: impl FnOnce(&mut Record)) {
        let id = InvocationId::from_u128(n);
        let mut record = Record {
            id,
            cause: Cause::default(),
            trace: Some(TraceContext {
                trace: 0xabc,
                parent: 0,
                span: n as u64,
                sampled: true,
            }),
            function: self.function.clone(),
            revision: "r1".into(),
            received_us: 1_000_000,
            times: Times {
                queue_us: 40,
                cold: None,
                run_us: 5000,
            },
            outcome: Outcome::Ok,
            message: None,
            status: Some(200),
            bytes_in: 1,
            bytes_out: 2,
            used: Used::Unmeasured,
            memory_limit: 1 << 20,
            instance: Some(InstanceId(4)),
        };
        change(&mut record);
        self.recorder.account(&self.function).ended(&record);
    }

    fn line(&self, invocation: Option<u128>, text: &str) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.outlet.line(&Line {
            function: self.function.clone(),
            invocation: invocation.map(InvocationId::from_u128),
            instance: InstanceId(4),
            stream: Stream::Stdout,
            time_us: now.expect("a time").as_micros() as u64,
            text: text.into(),
        });
    }

    /// Waits until the counters are so.
    async fn until(&self, signal: Signal, is: impl Fn(&Stats) -> bool) -> Stats {
        let waited = tokio::time::timeout(Duration::from_secs(40), async {
            loop {
                let stats = self.outlet.stats(signal);
                if is(&stats) {
                    return stats;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let last = || self.outlet.stats(signal);
        waited.await.unwrap_or_else(|_| panic!("{:?}", last()))
    }
}

/// The receiver's waits block, and must not hold up the exporter.
async fn until<T: Send + 'static>(
    receiver: &Arc<Receiver>,
    what: &'static str,
    found: impl FnMut(&crate::receiver::Seen) -> Option<T> + Send + 'static,
) -> T {
    let receiver = receiver.clone();
    let waited = tokio::task::spawn_blocking(move || receiver.until(what, found));
    waited.await.expect("it came")
}

fn named<'a>(spans: &'a [(String, Span)], name: &str) -> Option<&'a Span> {
    spans
        .iter()
        .map(|(_, span)| span)
        .find(|span| span.name == name)
}

#[tokio::test]
async fn an_invocation_is_a_span_with_its_start_below() {
    let receiver = Arc::new(Receiver::start(&[]));
    let world = start(options(&receiver.url()));
    world.record(7, |record| {
        record.times = Times {
            queue_us: 20_000,
            cold: Some(ColdStart {
                sandbox_us: 4000,
                runtime_us: 5000,
                load_us: 6000,
            }),
            run_us: 3000,
        };
        record.outcome = Outcome::Function;
        record.message = Some("as it was told".into());
    });
    // Of no trace, and of one that is not kept.
    world.record(8, |record| record.trace = None);
    world.record(9, |record| {
        record.trace.as_mut().expect("a trace").sampled = false;
    });
    let spans = until(&receiver, "all spans come", |seen| {
        let named = named(&seen.spans, "run");
        named.map(|_| seen.spans.clone())
    })
    .await;
    assert_eq!(spans.len(), 7, "{spans:?}");
    let whole = named(&spans, "work").expect("the invocation");
    assert_eq!(whole.trace_id, 0xabc_u128.to_be_bytes());
    assert_eq!(whole.span_id, 7_u64.to_be_bytes());
    assert!(whole.parent_span_id.is_empty());
    assert_eq!(whole.kind, SpanKind::Server as i32);
    let (from, to) = (whole.start_time_unix_nano, whole.end_time_unix_nano);
    assert_eq!((from, to), (1_000_000_000, 1_023_000_000));
    let status = whole.status.as_ref().expect("a status");
    assert_eq!((status.code, &*status.message), (2, "as it was told"));
    for (key, value) in [
        ("faas.coldstart", "true"),
        ("faas.trigger", "http"),
        ("faas.version", "r1"),
        ("faas.invocation_id", "00000000000000000000000000000007"),
        ("http.response.status_code", "200"),
        ("tidegate.outcome", "function"),
        ("error.type", "function"),
    ] {
        let found = attribute(&whole.attributes, key);
        assert_eq!(found.as_deref(), Some(value), "{key}");
    }
    let start = named(&spans, "start").expect("a start");
    for (name, parent, from, to) in [
        ("wait", whole, 0, 5),
        ("start", whole, 5, 20),
        ("make sandbox", start, 5, 9),
        ("start runtime", start, 9, 14),
        ("load code", start, 14, 20),
        ("run", whole, 20, 23),
    ] {
        let span = named(&spans, name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(span.parent_span_id, parent.span_id, "{name}");
        let at = |ns| (ns - 1_000_000_000) / 1_000_000;
        let times = (at(span.start_time_unix_nano), at(span.end_time_unix_nano));
        assert_eq!(times, (from, to), "{name}");
    }
    until(&receiver, "the head", |seen| {
        let sent = ["api-key: s3cret", "content-type: application/x-protobuf"];
        sent.iter()
            .all(|field| seen.head.contains(field))
            .then_some(())
    })
    .await;
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_is_queued_is_accepted_made_and_told_in_one_trace() {
    let receiver = Arc::new(Receiver::start(&[]));
    let world = start(options(&receiver.url()));
    let id = InvocationId::from_u128(1 << 63 | 5);
    let trace = TraceContext {
        trace: 0xabc,
        parent: 3,
        span: 1 << 63 | 5,
        sampled: true,
    };
    let step = |kind, trace, failure: Option<&str>| Step {
        kind,
        id,
        function: FunctionKey::clone(&world.function),
        trace,
        began_us: 1000,
        ended_us: 2000,
        failure: failure.map(str::to_owned),
    };
    world.outlet.step(step(StepKind::Accepted, trace, None));
    world.record(1 << 63 | 6, |record| {
        record.cause = Cause {
            kind: CauseKind::Queue,
            parent: Some(id),
            name: None,
            attempt: 1,
        };
        record.trace = Some(trace.child(record.id));
    });
    let told = StepKind::Told {
        host: "example.org".to_owned(),
        attempt: 1,
    };
    let below = trace.child(InvocationId::from_u128(9));
    world
        .outlet
        .step(step(told, below, Some("it answered 500")));
    let spans = until(&receiver, "three spans", |seen| {
        (seen.spans.len() == 3).then(|| seen.spans.clone())
    })
    .await;
    let accepted = named(&spans, "queue work").expect("accepted");
    assert_eq!(accepted.kind, SpanKind::Producer as i32);
    assert_eq!(accepted.parent_span_id, 3_u64.to_be_bytes());
    let made = named(&spans, "work").expect("made");
    assert_eq!(made.kind, SpanKind::Consumer as i32);
    assert_eq!(made.parent_span_id, accepted.span_id);
    assert_eq!(made.links[0].span_id, accepted.span_id);
    let told = named(&spans, "tell example.org").expect("told");
    assert_eq!(told.kind, SpanKind::Client as i32);
    assert_eq!(told.parent_span_id, accepted.span_id);
    assert_eq!(told.status.as_ref().expect("a status").code, 2);
    assert!(spans.iter().all(|(service, _)| service == "work"));
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_flow_of_steps_keeps_no_record_waiting() {
    let receiver = Arc::new(Receiver::start(&[]));
    let world = start(options(&receiver.url()));
    let (outlet, function) = (world.outlet.clone(), world.function.clone());
    let flow = tokio::spawn(async move {
        for n in 1.. {
            outlet.step(Step {
                kind: StepKind::Accepted,
                id: InvocationId::from_u128(n),
                function: FunctionKey::clone(&function),
                trace: TraceContext {
                    trace: 5,
                    parent: 0,
                    span: n as u64,
                    sampled: true,
                },
                began_us: 1000,
                ended_us: 2000,
                failure: None,
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    until(&receiver, "a step", |seen| {
        named(&seen.spans, "queue work").map(drop)
    })
    .await;
    world.record(7, |_| {});
    until(&receiver, "the record", |seen| {
        named(&seen.spans, "work").map(drop)
    })
    .await;
    flow.abort();
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_line_says_of_which_trace_it_is_once_that_is_known() {
    let receiver = Arc::new(Receiver::start(&[]));
    let mut options = options(&receiver.url());
    options.bounds.patience = Duration::from_secs(3600);
    let world = start(options);
    world.line(Some(7), "during");
    world.line(None, "between");
    world.record(7, |_| {});
    let logs = until(&receiver, "two lines", |seen| {
        (seen.logs.len() == 2).then(|| seen.logs.clone())
    })
    .await;
    let of = |wanted: &str| {
        let found = logs.iter().find(|(_, line)| text(line) == wanted);
        found.expect("the line").clone()
    };
    let (service, during) = of("during");
    assert_eq!(&*service, "work");
    assert_eq!(during.trace_id, 0xabc_u128.to_be_bytes());
    assert_eq!(during.span_id, 7_u64.to_be_bytes());
    assert!(of("between").1.span_id.is_empty());
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_is_not_taken_now_is_tried_again_on_the_same_connection() {
    let busy = [Answer::Status(503, Some(1)), Answer::Status(429, None)];
    let receiver = Arc::new(Receiver::start(&busy));
    let world = start(options(&receiver.url()));
    let began = std::time::Instant::now();
    world.record(7, |_| {});
    let (requests, connections) = until(&receiver, "it is taken", |seen| {
        let is_there = named(&seen.spans, "work").is_some();
        is_there.then_some((seen.requests, seen.connections))
    })
    .await;
    assert_eq!((requests, connections), (3, 1));
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "Retry-After is waited for"
    );
    let stats = world.until(Signal::Traces, |stats| stats.sent == 1).await;
    assert_eq!((stats.failures, stats.dropped, stats.refused), (2, 0, 0));
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_is_refused_is_counted_and_the_next_is_sent() {
    let answers = [Answer::Status(400, None), Answer::Partial(1)];
    let receiver = Arc::new(Receiver::start(&answers));
    let world = start(options(&receiver.url()));
    world.record(7, |_| {});
    world
        .until(Signal::Traces, |stats| stats.refused == 1)
        .await;
    world.record(8, |_| {});
    world
        .until(Signal::Traces, |stats| stats.refused == 2)
        .await;
    world.record(9, |_| {});
    let stats = world.until(Signal::Traces, |stats| stats.sent == 1).await;
    assert_eq!((stats.refused, stats.dropped), (2, 0));
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_collector_that_says_nothing_costs_bounded_memory_and_lines_that_are_counted() {
    let receiver = Arc::new(Receiver::start(&[Answer::Silence; 1000]));
    let mut options = options(&receiver.url());
    options.bounds.timeout = Duration::from_millis(50);
    options.bounds.queue_bytes = 10_000;
    options.bounds.give_up = Duration::from_secs(2);
    let world = start(options);
    for _ in 0..1000 {
        world.line(None, &"x".repeat(100));
    }
    // Those that had no room, at once.
    assert!(world.outlet.stats(Signal::Logs).dropped >= 900);
    // And those that had, when they are too old.
    let stats = world
        .until(Signal::Logs, |stats| stats.dropped == 1000)
        .await;
    assert_eq!(stats.sent, 0);
    assert!(stats.failures >= 2, "{stats:?}");
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_waits_while_nobody_is_there_is_dropped_when_it_is_too_old() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    let mut options = options(&url);
    options.bounds.give_up = Duration::from_secs(1);
    let world = start(options);
    world.record(7, |_| {});
    let stats = world
        .until(Signal::Traces, |stats| stats.dropped == 1)
        .await;
    assert!(stats.failures >= 2, "{stats:?}");
    world.exporter.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn an_end_sends_what_is_there_and_the_metrics_as_they_are() {
    let receiver = Arc::new(Receiver::start(&[]));
    let mut options = options(&receiver.url());
    options.bounds.gather = Duration::from_secs(3600);
    options.metrics = true;
    let world = start(options);
    world.record(7, |_| {});
    world.line(None, "last words");
    world.recorder.close().await.expect("closed");
    world.exporter.stop(Duration::from_secs(20)).await;
    let names = until(&receiver, "all of it", |seen| {
        let is_all = seen.spans.len() == 1 && seen.logs.len() == 1 && !seen.metrics.is_empty();
        let names = seen.metrics.iter().map(|metric| metric.name.clone());
        is_all.then(|| names.collect::<Vec<_>>())
    })
    .await;
    assert_eq!(names, ["tidegate_functions"]);
}
