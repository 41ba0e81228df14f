//! What a call through the gateway is given and gives.

use serde_json::{Value, json};

use super::{CLASSIC, PYTHON, server};
use crate::harness::{Server, eventually, until};

const ECHO: &str = "def handle(event, context):
    return {'body': {k: v for k, v in event.headers.items()}, 'headers': {'X-Path': event.path}}
";

#[test]
fn headers_are_those_that_openfaas_adds() {
    let server = server();
    server.faas_up("call-headers", PYTHON, &[("handler.py", ECHO)], Value::Null);
    let reply = server
        .call("GET", "/function/call-headers.openfaas-fn/a//b%20c/?q=1")
        .send()
        .ok();
    assert_eq!(reply.header("x-path"), Some("/a//b c/"));
    let id = reply.header("x-call-id").expect("an id").to_owned();
    assert_eq!(id.len(), 36, "{id}");
    let started = reply.header("x-start-time").expect("a time").to_owned();
    assert!(
        started.len() == 19 && started.parse::<u64>().is_ok(),
        "{started}"
    );
    assert!(
        reply
            .header("x-served-by")
            .is_some_and(|by| by.starts_with("tidegate/"))
    );
    let duration: f64 = reply
        .header("x-duration-seconds")
        .expect("a duration")
        .parse()
        .unwrap();
    assert!(duration < 60.0);
    let seen = reply.json();
    let find = |name: &str| {
        seen.as_object()
            .into_iter()
            .flatten()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .and_then(|(_, v)| v.as_str().map(str::to_owned))
    };
    assert_eq!(find("x-call-id"), Some(id));
    assert_eq!(find("x-start-time"), Some(started));
    let from = find("x-forwarded-for").expect("where from");
    assert!(from.starts_with("127.0.0.1:"), "{from}");
    assert_eq!(find("x-forwarded-host"), Some(server.address.to_string()));

    let reply = server
        .call("GET", "/function/call-headers")
        .header("x-call-id", "mine")
        .header("x-forwarded-for", "10.1.1.1")
        .header("authorization", "Bearer theirs")
        .header("cookie", "a=b")
        .send()
        .ok();
    assert_eq!(reply.header("x-call-id"), Some("mine"));
    let seen = reply.json().to_string().to_lowercase();
    for told in ["10.1.1.1", "bearer theirs", "a=b"] {
        assert!(seen.contains(told), "{told}: {seen}");
    }
}

#[test]
fn what_cannot_be_called_says_so() {
    let server = server();
    server
        .get("/function/nobody")
        .status(404)
        .says(&["error finding function nobody.openfaas-fn"]);
    server.get("/function/.openfaas-fn").status(404);
    server
        .get("/function/nobody.elsewhere")
        .status(404)
        .says(&["nobody.elsewhere"]);
    server
        .call("POST", "/async-function/nobody")
        .body("")
        .send()
        .status(404)
        .says(&["error finding function nobody.openfaas-fn"]);
    server.get("/async-function/nobody").status(405);
    server.faas_up(
        "call-methods",
        CLASSIC,
        &[("handler.py", "def handle(req):\n    return req\n")],
        Value::Null,
    );
    for (method, status) in [
        ("GET", 200),
        ("POST", 200),
        ("PATCH", 200),
        ("DELETE", 200),
        ("OPTIONS", 405),
        ("PURGE", 405),
    ] {
        let reply = server.call(method, "/function/call-methods").send();
        assert_eq!(reply.status, status, "{method}: {reply}");
    }
    let internal = server.get("/function/call-methods/_/health");
    assert_eq!((internal.status, internal.text()), (200, "OK"));
}

#[test]
fn metrics_have_the_gateways_names() {
    let server = Server::options()
        .builder()
        .arg("--listen")
        .arg("openfaas-metrics=127.0.0.1:0")
        .arg("--json")
        .start();
    let side = server.openfaas_metrics();
    let page = || {
        crate::harness::Call::new(side, "GET", "/metrics")
            .send()
            .ok()
            .text()
            .to_owned()
    };
    server.faas_up("counted", CLASSIC, &[("handler.py", "import sys\ndef handle(req):\n    if req == 'fail':\n        sys.exit(3)\n    return req\n")], Value::Null);
    for body in ["a", "b", "fail"] {
        server.faas_invoke("counted", body);
    }
    let named = "function_name=\"counted.openfaas-fn\"";
    eventually("the calls are counted", || {
        let page = page();
        let has = |line: String| page.lines().any(|l| l == line);
        (has(format!(
            "gateway_function_invocation_total{{{named},code=\"200\"}} 2"
        )) && has(format!(
            "gateway_function_invocation_total{{{named},code=\"500\"}} 1"
        )) && has(format!("gateway_function_invocation_started{{{named}}} 3"))
            && has(format!(
                "gateway_functions_seconds_count{{{named},code=\"200\"}} 2"
            ))
            && has(format!("gateway_service_count{{{named}}} 1")))
        .then_some(())
    });
    let health = crate::harness::Call::new(side, "GET", "/healthz")
        .send()
        .ok();
    assert_eq!(health.text(), "OK");
    crate::harness::Call::new(side, "POST", "/metrics")
        .send()
        .status(405);
    crate::harness::Call::new(side, "GET", "/else")
        .send()
        .status(404);
    let listed = server.faas("GET", "/system/functions").send().ok().json();
    assert_eq!(listed[0]["invocationCount"], 3);
}

#[test]
fn a_call_wakes_what_was_scaled_to_zero() {
    let server = server();
    let name = "call-wakes";
    server.faas_up(
        name,
        PYTHON,
        &[(
            "handler.py",
            "def handle(event, context):\n    return 'awake'\n",
        )],
        Value::Null,
    );
    let route = format!("/system/scale-function/{name}");
    let scale = |replicas: u32| {
        let body = json!({"serviceName": name, "replicas": replicas});
        server.faas_json("POST", &route, &body).status(202);
    };
    let replicas = || {
        let told = server.faas_function(name);
        let number = |key: &str| told[key].as_u64().unwrap_or(0);
        (number("replicas"), number("availableReplicas"))
    };
    for _ in 0..2 {
        scale(0);
        until("nothing runs", || replicas() == (0, 0));
        assert_eq!(server.faas_invoke(name, "").ok().text(), "awake");
        until("one runs", || replicas() == (1, 1));
    }
    scale(3);
    until("three run", || replicas() == (3, 3));
    scale(1);
    until("one runs", || replicas().0 == 1);
}
