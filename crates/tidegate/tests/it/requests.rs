//! What becomes of a request on its way: paths, names, headers.

use serde_json::Value;

use crate::harness::{Server, Shared};

static SERVER: Shared = Shared::new();

/// Answers with what it sees.
const MIRROR: &str = r#"
def handler(event, context):
    return {"method": event.method, "raw": event.raw_path, "query": event.query_string, "namespace": context.namespace,
            "headers": {name.lower(): value for name, value in event.headers.items()}, "body": event.text}
"#;

fn mirror(name: &str) -> std::sync::Arc<Server> {
    let server = SERVER.get();
    server.deploy(name, MIRROR, &[]);
    server
}

#[test]
fn paths_and_queries_arrive_as_they_were_sent() {
    let server = mirror("paths");
    for (sent, path, query) in [
        ("/fn/paths", "/", ""),
        ("/fn/paths/", "/", ""),
        ("/fn/paths?a=b", "/", "a=b"),
        ("/fn/paths/a//b/../c", "/a//b/../c", ""),
        ("/fn/paths/%2F%25?x=%26&y=+", "/%2F%25", "x=%26&y=+"),
        ("/fn/paths.default/x", "/x", ""),
        ("/fn/paths.guest/x", "/x", ""),
        ("/fn/paths.openfaas-fn", "/", ""),
        ("/fn/paths._/y", "/y", ""),
    ] {
        let seen = server.get(sent).ok().json();
        assert_eq!(
            (&seen["raw"], &seen["query"]),
            (&Value::from(path), &Value::from(query)),
            "{sent}"
        );
    }
    let long = format!("/fn/paths/{}", "x".repeat(16_000));
    assert_eq!(
        server.get(&long).ok().json()["raw"].as_str().map(str::len),
        Some(16_001)
    );
}

#[test]
fn a_host_name_names_a_function() {
    let server = mirror("hosted");
    server.cli(&["namespace", "create", "host-team"]).ok();
    server.deploy("hosted", MIRROR, &["-n", "host-team"]);
    let port = server.address.port();
    for (host, namespace) in [
        (format!("hosted.fn.localhost:{port}"), "default"),
        ("hosted.default.fn.localhost".to_owned(), "default"),
        (format!("hosted.host-team.fn.localhost:{port}"), "host-team"),
    ] {
        let seen = server
            .call("GET", "/a/b?c")
            .header("host", &host)
            .send()
            .ok()
            .json();
        assert_eq!(
            (&seen["raw"], &seen["namespace"]),
            (&Value::from("/a/b"), &Value::from(namespace)),
            "{host}"
        );
        assert_eq!(seen["headers"]["host"], host.as_str());
    }
    server
        .call("GET", "/")
        .header("host", "none.fn.localhost")
        .send()
        .status(404)
        .says(&["none"]);
}

#[test]
fn namespaces_keep_functions_apart() {
    let server = SERVER.get();
    server.cli(&["namespace", "create", "one"]).ok();
    server.cli(&["namespace", "create", "two"]).ok();
    server.deploy(
        "same",
        "def handler(e):\n    return 'one'\n",
        &["-n", "one"],
    );
    server.deploy(
        "same",
        "def handler(e):\n    return 'two'\n",
        &["-n", "two"],
    );
    assert_eq!(server.get("/fn/same.one").ok().text(), "one");
    assert_eq!(server.get("/fn/same.two").ok().text(), "two");
    server.get("/fn/same").status(404);
    assert_eq!(
        server.cli(&["invoke", "same", "-n", "two"]).ok().text(),
        "two"
    );
    server
        .try_deploy("same", "def handler(e):\n    pass\n", &["-n", "nowhere"])
        .code(1)
        .says(&["nowhere", "namespace create"]);
}

#[test]
fn methods_and_bodies_arrive() {
    let server = mirror("methods");
    for method in [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        let seen = server
            .call(method, "/fn/methods")
            .body("b")
            .send()
            .ok()
            .json();
        assert_eq!(
            (&seen["method"], &seen["body"]),
            (&Value::from(method), &Value::from("b"))
        );
    }
    let head = server.call("HEAD", "/fn/methods").send().ok();
    assert!(head.body.is_empty(), "{head}");
    assert!(
        head.header("content-length").is_some_and(|n| n != "0"),
        "{head}"
    );
}

#[test]
fn forwarding_headers_tell_of_the_caller_and_no_forgery_passes() {
    let server = mirror("headers");
    let reply = server
        .call("GET", "/fn/headers")
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-request-id", "mine")
        .header("x-tidegate-path-prefix", "/forged")
        .header("connection", "close, x-private")
        .header("x-private", "1")
        .header("cookie", "a=1")
        .send()
        .ok();
    let seen = reply.json();
    let header = |name: &str| seen["headers"][name].as_str().map(str::to_owned);
    let address = server.address.to_string();
    assert_eq!(
        header("x-forwarded-for").as_deref(),
        Some("192.0.2.1, 127.0.0.1")
    );
    assert_eq!(header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(header("x-forwarded-host"), Some(address));
    assert_eq!(header("x-private"), None);
    assert_eq!(header("cookie").as_deref(), Some("a=1"));
    assert_eq!(header("x-tidegate-path-prefix"), None);
    let id = reply.header("x-request-id").expect("an id");
    assert_eq!(header("x-request-id").as_deref(), Some(id));
    assert_eq!(id.len(), 32);
}

#[test]
fn every_answer_tells_its_times() {
    let server = SERVER.get();
    server.deploy(
        "timed",
        "def handler(e):\n    return 'x', 200, {'server-timing': 'own;dur=1'}\n",
        &["--initial", "0"],
    );
    let timing = |reply: &crate::harness::Reply| -> String {
        let all: Vec<_> = reply
            .headers
            .iter()
            .filter(|(n, _)| n == "server-timing")
            .map(|(_, v)| v.as_str())
            .collect();
        all.join(", ")
    };
    let cold = timing(&server.get("/fn/timed").ok());
    assert!(
        cold.contains("own;dur=1")
            && cold.contains("queue;desc=cold;dur=")
            && cold.contains("run;dur="),
        "{cold}"
    );
    let warm = timing(&server.get("/fn/timed").ok());
    assert!(
        warm.contains("queue;dur=") && !warm.contains("cold"),
        "{warm}"
    );
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let server = mirror("kept");
    let mut connection = crate::harness::Connection::open(server.address).expect("a connection");
    for n in 0..5 {
        let call = server.call("POST", &format!("/fn/kept/{n}")).body("x");
        let (reply, kept) = connection.exchange(&call).expect("an answer").next();
        assert_eq!(reply.ok().json()["raw"], format!("/{n}"));
        connection = kept;
    }
    // Two at once, one after the other in the same packet.
    connection
        .raw(b"GET /fn/kept/a HTTP/1.1\r\nhost: localhost\r\n\r\nGET /fn/kept/b HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .expect("sent");
    let (first, connection) = connection.answer(false).expect("an answer").next();
    let (second, _) = connection.answer(false).expect("an answer").next();
    assert_eq!(
        (first.json()["raw"].clone(), second.json()["raw"].clone()),
        ("/a".into(), "/b".into())
    );
}

#[test]
fn what_the_server_itself_answers() {
    let server = SERVER.get();
    assert_eq!(server.get("/healthz").ok().text(), "ok\n");
    server.deploy("measured", "def handler(e):\n    return 'x'\n", &[]);
    for _ in 0..3 {
        server.get("/fn/measured").ok();
    }
    let metrics = server.get("/metrics").ok();
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|kind| kind.contains("openmetrics") || kind.contains("text/plain")),
        "{metrics}"
    );
    let line = metrics.text().lines().find(|line| {
        line.contains("measured") && line.contains("outcome=\"ok\"") && !line.contains("bucket")
    });
    assert!(
        line.is_some_and(|line| line.ends_with(" 3")),
        "{line:?} in {}",
        metrics.text()
    );
    let openapi = server.get("/tidegate/v1/openapi.json").ok().json();
    assert!(
        openapi["paths"]["/tidegate/v1/namespaces/{namespace}/functions/{name}"]["put"].is_object()
    );
    let info = server.get("/tidegate/v1").ok().json();
    assert!(
        info["runtimes"].as_array().is_some_and(|all| all
            .iter()
            .any(|r| r["name"] == "python" && r["available"] == true)),
        "{info}"
    );
    server
        .get("/nowhere")
        .status(404)
        .says(&["/fn/NAME", "/tidegate/v1"]);
}
