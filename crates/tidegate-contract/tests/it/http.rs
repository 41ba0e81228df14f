//! Mode `http`, and what a watchdog answers for itself.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tidegate_contract::{Body, CallError};
use tidegate_instance::{Instance as _, LogStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, call, post, until};

const ENV: [(&str, &str); 3] = [
    ("mode", "http"),
    ("fprocess", "./handler"),
    ("upstream_url", "http://127.0.0.1:5000"),
];

fn world(more: &[(&str, &str)]) -> World {
    let mut env = ENV.to_vec();
    env.extend(more);
    World::new("of-watchdog", &env)
}

/// The function.
pub(crate) async fn serve(
    request: Request<Incoming>,
) -> io::Result<Response<UnsyncBoxBody<Bytes, io::Error>>> {
    let full = |text: String| {
        Full::new(Bytes::from(text))
            .map_err(|never| match never {})
            .boxed_unsync()
    };
    let mut response = Response::new(full(String::new()));
    let plain = HeaderValue::from_static("text/plain");
    match request.uri().path() {
        "/close" => return Err(io::Error::other("the function wants no more")),
        "/hang" => std::future::pending().await,
        "/page" => *response.body_mut() = full("<!doctype html><p>hi".to_owned()),
        "/zipped" => {
            *response.body_mut() = full("no text at all".to_owned());
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert("content-encoding", gzip);
        }
        "/away" => {
            *response.status_mut() = StatusCode::FOUND;
            let place = HeaderValue::from_static("http://elsewhere/");
            response.headers_mut().insert("location", place);
        }
        "/drips" => {
            // A piece, and then none for as long as anybody waits.
            let (send, receive) = tokio::sync::mpsc::channel(1);
            let _ = send.send(Bytes::from_static(b"drip")).await;
            std::mem::forget(send);
            let pieces = futures_stream(receive);
            *response.body_mut() = StreamBody::new(pieces).boxed_unsync();
            response.headers_mut().insert("content-type", plain);
        }
        "/_ready" => *response.status_mut() = StatusCode::IM_A_TEAPOT,
        "/socket" => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert("upgrade", HeaderValue::from_static("websocket"));
            headers.insert("connection", HeaderValue::from_static("upgrade"));
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.expect("an upgrade");
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
        _ => {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let mut lines = vec![format!("{} {}", parts.method, parts.uri)];
            for (name, value) in &parts.headers {
                lines.push(format!("{name}: {}", value.to_str().unwrap_or("?")));
            }
            lines.push(String::from_utf8_lossy(&body).into_owned());
            *response.body_mut() = full(lines.join("\n"));
            response.headers_mut().insert("content-type", plain);
        }
    }
    Ok(response)
}

fn futures_stream(
    mut receive: tokio::sync::mpsc::Receiver<Bytes>,
) -> impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> {
    futures_util::stream::poll_fn(move |cx| {
        receive
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    })
}

#[tokio::test]
async fn a_call_is_passed_on_as_it_came() {
    let world = world(&[]);
    let request = call(
        "POST",
        "//a%20b/c?q=1&r",
        &[
            ("host", "gateway:8080"),
            ("content-length", "3"),
            ("content-type", "text/x-tide"),
            ("authorization", "Bearer theirs"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("x-request-id", "theirs"),
        ],
        "ebb",
    );
    let answer = world.send(request).await;
    let mut lines: Vec<_> = answer.text().lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "POST //a%20b/c?q=1&r",
            "authorization: Bearer theirs",
            "content-length: 3",
            "content-type: text/x-tide",
            "ebb",
            "host: gateway:8080",
            // Nothing of ours in it, and what was the caller's own kept.
            "x-request-id: theirs",
        ]
    );
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert!(answer.duration().expect("measured") < 10.0);
    assert_eq!(
        world.logs.wait_for("POST").await,
        "POST //a%20b/c?q=1&r - 200 OK - ContentLength: 167B (T4s)"
            .replace("167", &answer.body.len().to_string())
    );
    assert_eq!(world.get("").await.text().lines().next(), Some("GET /"));
}

#[tokio::test]
async fn what_precedes_every_path_is_put_before_it() {
    let world = world(&[("upstream_url", "http://127.0.0.1:5000/base/")]);
    let answer = world.get("/a?b").await;
    assert_eq!(answer.text().lines().next(), Some("GET /base/a?b"));
}

#[tokio::test]
async fn a_missing_type_is_guessed() {
    let world = world(&[]);
    let page = world.get("/page").await;
    assert_eq!(page.said(), (200, "<!doctype html><p>hi"));
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let zipped = world.get("/zipped").await;
    assert_eq!(zipped.header("content-type"), None);
    let away = world.get("/away").await;
    assert_eq!(away.said(), (302, ""));
    assert_eq!(away.header("location"), Some("http://elsewhere/"));
    assert_eq!(away.header("content-type"), None);
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_answered_504() {
    let world = world(&[("exec_timeout", "50ms")]);
    let late = world.post("/hang", "x").await;
    assert_eq!(late.said(), (504, ""));
    assert_eq!(late.header("x-openfaas-internal"), Some("of-watchdog"));
    assert!(late.duration().expect("measured") >= 0.05);
    assert!(late.error.expect("told").contains("50ms"));
    // A body that does not end is cut, and never ends as if it were whole.
    let cut = world.get("/drips").await;
    assert_eq!(cut.said(), (200, "drip"));
    assert!(cut.fault.is_some());
}

#[tokio::test]
async fn a_caller_may_have_less_time() {
    let world = world(&[("exec_timeout", "1h")]);
    let request = call("GET", "/hang", &[("x-timeout", "20ms")], "");
    assert_eq!(world.send(request).await.status, 504);
}

#[tokio::test]
async fn a_dead_upstream_is_answered_500_and_a_dead_instance_is_not_asked() {
    let world = world(&[]);
    let closed = world.get("/close").await;
    assert_eq!(closed.said(), (500, ""));
    assert_eq!(closed.header("x-openfaas-internal"), Some("of-watchdog"));
    assert!(closed.duration().is_some());
    let streamed = call("GET", "/close", &[("accept", "text/event-stream")], "");
    let streamed = world.send(streamed).await;
    assert_eq!(streamed.said(), (500, ""));
    assert_eq!(streamed.duration(), None);
    // Nothing was sent, so the call may go to another instance.
    world.instance.as_ref().expect("one").kill();
    let error = world.head(post("/x", "body")).await.expect_err("gone");
    assert!(matches!(error, CallError::Unreached { .. }), "{error:?}");
}

#[tokio::test]
async fn who_reads_as_it_comes_has_all_the_time_there_is() {
    let world = world(&[("exec_timeout", "20ms")]);
    let accept = [("accept", "text/html, application/x-ndjson")];
    let mut drips = world
        .head(call("GET", "/drips", &accept, ""))
        .await
        .expect("a head");
    assert_eq!(drips.headers().get("x-duration-seconds"), None);
    let first = drips.body_mut().frame().await.expect("a piece");
    assert_eq!(first.expect("whole").into_data().expect("data"), "drip");
    // Three times what another call would have.
    let more = tokio::time::timeout(
        std::time::Duration::from_millis(60),
        drips.body_mut().frame(),
    );
    assert!(more.await.is_err());
    drop(drips);
    assert_eq!(
        world.logs.wait_for("GET").await,
        "GET /drips - 200 OK - Bytes: 4B (T4s)"
    );
}

#[tokio::test]
async fn a_web_socket_is_passed_through() {
    let world = Arc::new(world(&[("exec_timeout", "1h")]));
    let (mut caller, listener) = tokio::net::UnixStream::pair().expect("a pair");
    let gateway = world.clone();
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let world = gateway.clone();
            let request =
                request.map(|body| Body::incoming(body, u64::MAX, std::time::Duration::MAX));
            async move {
                let answered = world.head(request).await;
                answered.map_err(|error| io::Error::other(error.to_string()))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(listener), service)
            .with_upgrades();
        let _ = connection.await;
    });
    caller
        .write_all(b"GET /function/f/socket HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
        .await
        .expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(caller.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text");
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(!head.contains("x-duration-seconds"), "{head}");
    caller.write_all(b"ebb and flow").await.expect("sent");
    let mut back = [0; 12];
    caller.read_exact(&mut back).await.expect("an echo");
    assert_eq!(&back, b"ebb and flow");
    assert_eq!(
        world.logs.wait_for("GET").await,
        "GET /socket - 101 Switching Protocols - Bytes: 0B (T4s)"
    );
}

#[tokio::test]
async fn more_calls_than_it_takes_are_refused() {
    let world = world(&[("max_inflight", "1")]);
    let held = world
        .head(call(
            "GET",
            "/drips",
            &[("accept", "text/event-stream")],
            "",
        ))
        .await
        .expect("a head");
    let refused = world.get("/x").await;
    assert_eq!(
        refused.said(),
        (
            429,
            "Concurrent request limit exceeded. Max concurrent requests: 1\n"
        )
    );
    assert_eq!(refused.header("content-type"), Some("text/plain"));
    assert_eq!(
        refused.header("x-openfaas-internal"),
        Some("faas-middleware")
    );
    assert_eq!(world.get("/_/ready").await.said(), (429, ""));
    assert_eq!(world.get("/_/health").await.said(), (200, "OK"));
    drop(held);
    assert_eq!(world.get("/x").await.status, 200);
    assert_eq!(world.get("/_/ready").await.said(), (200, ""));
}

#[tokio::test]
async fn health_and_readiness_are_answered_by_the_watchdog() {
    let plain = world(&[]);
    let health = plain.get("/_/health").await;
    assert_eq!(health.said(), (200, "OK"));
    assert_eq!(plain.post("/_/health", "").await.said(), (405, ""));
    assert_eq!(plain.post("/_/ready", "").await.said(), (405, ""));
    assert_eq!(plain.get("/_/ready").await.said(), (200, ""));
    let silent = world(&[("suppress_lock", "true")]);
    assert_eq!(silent.get("/_/health").await.said(), (503, ""));
    let asks = world(&[("ready_path", "/_ready")]);
    assert_eq!(asks.get("/_/ready").await.said(), (418, ""));
    let dead = world(&[("ready_path", "/close")]);
    assert_eq!(dead.get("/_/ready").await.said(), (500, ""));
    // What is like them is the function's.
    let other = plain.get("/_/other").await;
    assert_eq!(other.text().lines().next(), Some("GET /_/other"));
}

#[tokio::test]
async fn lines_name_calls_and_leave_probes_out() {
    let world = world(&[("log_callid", "T")]);
    world.get("/a").await;
    world
        .send(call("GET", "/b", &[("x-call-id", "mine")], ""))
        .await;
    world
        .send(call("GET", "/c", &[("user-agent", "kube-probe/1.30")], ""))
        .await;
    world.get("/away").await;
    let first = world.logs.wait_for("GET /a -").await;
    assert!(first.ends_with("(T4s) [none]"), "{first}");
    let second = world.logs.wait_for("GET /b").await;
    assert!(second.ends_with("(T4s) [mine]"), "{second}");
    assert_eq!(
        world.logs.wait_for("GET /away").await,
        "GET /away - 302 Found - ContentLength: 0B (T4s) [none]"
    );
    assert!(!world.logs.lines().iter().any(|line| line.contains("/c")));
}

#[tokio::test]
async fn a_line_of_unknown_length_says_so() {
    let world = world(&[("exec_timeout", "50ms")]);
    world.get("/drips").await;
    assert_eq!(
        world.logs.wait_for("GET").await,
        "GET /drips - 200 OK - ContentLength: -1B (T4s)"
    );
}

#[tokio::test]
async fn a_body_is_read_whole_where_the_function_wants_it_so() {
    let world = world(&[("buffer_http", "1")]);
    let (mut parts, _) = post("/x", "").into_parts();
    parts.headers.remove("content-length");
    let body = Body::full(Bytes::from_static(b"all of it"));
    let answer = world.send(Request::from_parts(parts, body)).await;
    assert!(answer.text().ends_with("\nall of it"), "{answer:?}");
}

#[tokio::test]
async fn lines_of_the_function_are_prefixed_unless_it_says_no() {
    let plain = world(&[("prefix_logs", "f")]);
    plain.says(LogStream::Stdout, "hello");
    assert_eq!(plain.logs.lines(), ["hello"]);
    let prefixed = world(&[]);
    prefixed.says(LogStream::Stdout, "hello");
    prefixed.says(LogStream::Stderr, "trouble");
    for (line, end) in prefixed
        .logs
        .lines()
        .iter()
        .zip([" stdout: hello", " stderr: trouble"])
    {
        let time = line.strip_suffix(end).expect(line);
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000/00/00 00:00:00");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_counts_no_longer() {
    let world = world(&[("max_inflight", "1"), ("exec_timeout", "0")]);
    let target = world.target.clone();
    let hanging = tokio::spawn({
        let request = call("GET", "/hang", &[], "");
        let info = tidegate_contract::CallInfo {
            id: tidegate_core::InvocationId::from_u128(8),
            prefix: tidegate_contract::Prefix {
                len: "/function/f".len(),
            },
            remaining: std::time::Duration::from_secs(60),
            caller: None,
        };
        async move { target.call(request, &info).await.map(drop) }
    });
    while world.get("/_/ready").await.status != 429 {
        tokio::task::yield_now().await;
    }
    hanging.abort();
    until("the call is over", || hanging.is_finished()).await;
    assert_eq!(world.get("/x").await.status, 200);
}
