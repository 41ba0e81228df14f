//! What is kept of calls: records, usage, cost, and quotas that hold.

use std::io::BufRead as _;

use serde_json::{Value, json};

use crate::harness::{Reply, Server, Shared, eventually, until};

static SERVER: Shared = Shared::new();

/// Works for a while, prints, and answers; or fails, where the query says so.
const WORK: &str = r#"
import time
def handler(event):
    if 'fail' in event.query:
        raise ValueError('as it was told')
    print('working at', event.query.get('n', '-'))
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    return 'x' * 100
"#;

/// Calls another by its name, and says where it stands in the trace.
const CALL: &str = r#"
import urllib.request
def handler(event):
    for n in range(2):
        urllib.request.urlopen('http://called/?n=%d' % n, timeout=20).read()
    return event.headers.get('traceparent', '-')
"#;

const QUICK: &str = "def handler(event):\n    return 'quick'\n";

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn id(reply: &Reply) -> String {
    reply.header("x-request-id").expect("an id").to_owned()
}

#[track_caller]
fn told(server: &Server, route: &str) -> Value {
    server.control("GET", route).send().ok().json()
}

#[track_caller]
fn record(server: &Server, id: &str) -> Value {
    told(server, &format!("/records/{id}"))
}

/// The only row of the usage of a function, or nothing.
fn usage(server: &Server, function: &str) -> Value {
    told(server, &format!("/usage?function={function}"))["items"][0].clone()
}

fn calls(server: &Server, function: &str) -> u64 {
    usage(server, function)["invocations"]["total"]
        .as_u64()
        .unwrap_or(0)
}

/// Every record of a function, page by page.
fn records(server: &Server, filter: &str) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), String::new());
    loop {
        let page = told(server, &format!("/records?{filter}&limit=3{next}"));
        all.extend(page["items"].as_array().expect("a list").iter().cloned());
        match page["continue"].as_str() {
            Some(token) => next = format!("&continue={token}"),
            None => return all,
        }
    }
}

#[test]
fn a_call_has_its_record_the_moment_it_is_answered() {
    let server = SERVER.get();
    server.deploy("work", WORK, &["--memory", "64Mi"]);
    let reply = server.post("/fn/work?n=1", "hello").ok();
    let record = record(&server, &id(&reply));
    assert_eq!(record["function"], "work");
    assert_eq!(record["outcome"], "ok");
    assert_eq!(record["status"], 200);
    assert_eq!(record["cause"]["kind"], "call");
    assert_eq!(
        (&record["bytesIn"], &record["bytesOut"]),
        (&json!(5), &json!(100))
    );
    assert_eq!(record["memoryLimit"], 64 << 20);
    assert!(
        record["instance"].is_string() && record["revision"].is_string(),
        "{record}"
    );
    let us = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{record}"));
    let times = &record["times"];
    assert!(us(&times["runUs"]) >= 20_000, "{record}");
    assert_eq!(
        us(&times["totalUs"]),
        us(&times["queueUs"]) + us(&times["runUs"])
    );
    assert_eq!(us(&record["billedUs"]) % 1000, 0);
    if server.is_privileged() {
        let used = &record["used"];
        assert_eq!(used["how"], "alone", "{record}");
        assert!(us(&used["cpuUs"]) >= 15_000, "{record}");
        assert!(us(&used["memoryPeak"]) > 1 << 20, "{record}");
    }
    let lines = eventually("what it printed is kept", || {
        let route = format!("/records/{}/logs", id(&reply));
        let text = server.control("GET", &route).send().ok().text().to_owned();
        (!text.is_empty()).then_some(text)
    });
    let line: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["text"], "working at 1");
    assert_eq!(line["request"], id(&reply).as_str());
}

#[test]
fn a_cold_call_tells_the_parts_of_the_start() {
    let server = SERVER.get();
    server.deploy("cold", QUICK, &["--initial", "0"]);
    let (first, second) = (server.get("/fn/cold").ok(), server.get("/fn/cold").ok());
    let first = record(&server, &id(&first));
    let cold = &first["times"]["cold"];
    let parts =
        ["sandboxUs", "runtimeUs", "loadUs"].map(|part| cold[part].as_u64().expect("a time"));
    let queue = first["times"]["queueUs"].as_u64().expect("a time");
    assert!(parts.iter().sum::<u64>() > 0 && queue > 0, "{first}");
    assert!(record(&server, &id(&second))["times"].get("cold").is_none());
}

#[test]
fn a_call_that_failed_says_why() {
    let server = SERVER.get();
    server.deploy("fails", WORK, &["--timeout", "2s"]);
    let reply = server.get("/fn/fails?fail=1").status(500);
    let failed = record(&server, &id(&reply));
    assert_eq!(failed["outcome"], "function");
    assert_eq!(failed["status"], 500);
    let found = records(&server, "function=fails&outcome=failed");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(records(&server, "function=fails&outcome=ok").len(), 0);

    server.deploy(
        "late",
        "import time\ndef handler(event):\n    time.sleep(30)\n",
        &["--timeout", "1s"],
    );
    let reply = server.get("/fn/late").status(504);
    let late = record(&server, &id(&reply));
    assert_eq!(late["outcome"], "limit-timeout");
    let message = late["message"].as_str().expect("a message");
    assert!(message.contains("within 1s"), "{late}");
    assert!(late.get("status").is_none(), "{late}");
}

#[test]
fn functions_that_call_functions_make_a_tree_and_a_trace() {
    let server = SERVER.get();
    server.deploy("caller", CALL, &[]);
    server.deploy("called", QUICK, &[]);
    let traced = server
        .call("GET", "/fn/caller")
        .header("traceparent", TRACEPARENT)
        .header("tracestate", "a=b");
    let reply = traced.send().ok();
    let top = record(&server, &id(&reply));
    assert_eq!(top["trace"]["id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(top["trace"]["parent"], "b7ad6b7169203331");
    // The code was told its own span.
    let span = top["trace"]["span"].as_str().expect("a span");
    assert!(reply.text().contains(span), "{}", reply.text());
    // What it called, though it passed nothing on itself.
    let children = top["children"].as_array().expect("children").clone();
    assert_eq!(children.len(), 2, "{top}");
    for child in children {
        let child = record(&server, child.as_str().expect("an id"));
        assert_eq!(child["function"], "called");
        assert_eq!(child["cause"]["kind"], "function");
        assert_eq!(child["cause"]["parent"], top["id"]);
        assert_eq!(child["trace"]["id"], top["trace"]["id"]);
        assert_eq!(child["trace"]["parent"], top["trace"]["span"]);
    }
    let parent = format!("parent={}", id(&reply));
    assert_eq!(records(&server, &parent).len(), 2);

    // What is no trace context is as if it were not there.
    let reply = server
        .call("GET", "/fn/caller")
        .header("traceparent", "00-zz");
    let reply = reply.send().ok();
    assert_eq!(reply.text(), "-");
    assert!(record(&server, &id(&reply)).get("trace").is_none());
}

#[test]
fn a_follower_reads_records_as_calls_end() {
    let server = SERVER.get();
    server.deploy("followed", QUICK, &[]);
    let before = id(&server.get("/fn/followed").ok());
    let follow = server.control("GET", "/records?function=followed&follow=true&limit=5");
    let mut exchange = follow.open().expect("an answer");
    assert_eq!(exchange.status, 200);
    let mut read = Vec::new();
    let mut next = || loop {
        let line = (&read[..]).lines().next().transpose().expect("text");
        if let Some(line) = line.filter(|line| line.len() < read.len()) {
            read.drain(..=line.len());
            return serde_json::from_str::<Value>(&line).expect("JSON");
        }
        let piece = exchange.piece().expect("more to come");
        read.extend(piece.expect("it goes on"));
    };
    assert_eq!(next()["id"], before.as_str());
    for _ in 0..3 {
        let reply = server.get("/fn/followed").ok();
        assert_eq!(next()["id"], id(&reply).as_str());
    }
}

#[test]
fn a_function_that_wants_no_records_is_counted_all_the_same() {
    let server = SERVER.get();
    server.deploy("unseen", WORK, &[]);
    let revision = server.function("unseen")["status"]["revision"].clone();
    server
        .change("unseen", |spec| spec["records"] = json!("none"))
        .ok();
    assert_eq!(server.function("unseen")["status"]["revision"], revision);
    let replies: Vec<_> = (0..3).map(|_| server.get("/fn/unseen").ok()).collect();
    let route = format!("/records/{}", id(&replies[0]));
    server
        .control("GET", &route)
        .send()
        .status(404)
        .says(&["no record"]);
    assert_eq!(records(&server, "function=unseen").len(), 0);
    let used = usage(&server, "unseen");
    assert_eq!(used["invocations"]["byOutcome"]["ok"], 3);
    assert_eq!(used["unrecorded"], 3);

    // Only what goes wrong.
    server
        .change("unseen", |spec| spec["records"] = json!("errors"))
        .ok();
    server.get("/fn/unseen").ok();
    server.get("/fn/unseen?fail=1").status(500);
    let found = records(&server, "function=unseen");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["outcome"], "function");
    let refused = server.change("unseen", |spec| spec["records"] = json!("some"));
    refused.status(400).says(&["spec.records", "sampled:100"]);
}

#[test]
fn a_quota_refuses_with_its_name_and_lets_in_again() {
    let server = SERVER.get();
    let put = |spec: Value| {
        let body = json!({ "spec": spec }).to_string();
        server
            .control("PUT", "/namespaces/metered")
            .body(body)
            .send()
    };
    put(json!({ "quotas": { "requestsPerSecond": 2, "burst": 2 } })).ok();
    server.deploy("quick", QUICK, &["--namespace", "metered"]);
    server.deploy("other", QUICK, &[]);
    let call = || server.get("/fn/quick.metered");
    let refused = eventually("the rate is used up", || {
        let reply = call();
        (reply.status != 200).then_some(reply)
    });
    let refused =
        refused
            .status(429)
            .says(&["metered", "requestsPerSecond", "2 invocations a second"]);
    assert_eq!(refused.outcome(), Some("limit-quota"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    server.get("/fn/other").ok();
    // It has its record, and counts among the refused.
    let kept = record(&server, &id(&refused));
    assert_eq!(kept["outcome"], "limit-quota");
    assert!(kept.get("instance").is_none());
    let page = server.get("/metrics").ok();
    assert!(
        page.text().lines().any(|line| {
            line.starts_with("tidegate_quota_refusals_total")
                && line.contains("metered")
                && line.contains("requestsPerSecond")
        }),
        "{}",
        page.text()
    );
    until("the rate lets one in again", || call().status == 200);

    // A change counts without a restart; the default is no limit.
    put(json!({})).ok();
    until("nothing is limited", || {
        (0..10).all(|_| call().status == 200)
    });
    put(json!({ "quotas": { "gbSecondsPerDay": 1, "concurrent": 1 } })).ok();
    put(json!({ "quotas": { "requests": 1 } }))
        .status(400)
        .says(&["requests"]);

    // What may be stored.
    put(json!({ "quotas": { "functions": 1 } })).ok();
    let refused = server.try_deploy("second", QUICK, &["--namespace", "metered"]);
    assert!(refused.stderr.contains("quota functions"), "{refused}");
    server.deploy(
        "quick",
        &format!("{QUICK}# changed\n"),
        &["--namespace", "metered"],
    );
    put(json!({ "quotas": { "storage": "1Ki" } })).ok();
    let bytes: String = (0..2000_u32)
        .map(|n| format!("# {:x}\n", n.wrapping_mul(2_654_435_761)))
        .collect();
    let large = server.try_deploy(
        "quick",
        &format!("{QUICK}{bytes}"),
        &["--namespace", "metered"],
    );
    assert!(large.stderr.contains("quota storage"), "{large}");
}

#[test]
fn only_so_many_calls_at_once() {
    let server = SERVER.get();
    let body = json!({ "spec": { "quotas": { "concurrent": 1 } } }).to_string();
    server
        .control("PUT", "/namespaces/narrow")
        .body(body)
        .send()
        .ok();
    let slow = "import time\ndef handler(event):\n    time.sleep(float(event.query.get('s', '0')))\n    return 'ok'\n";
    server.deploy("slow", slow, &["--namespace", "narrow"]);
    until("the quota is in force", || {
        std::thread::scope(|scope| {
            let held = scope.spawn(|| server.get("/fn/slow.narrow?s=0.5").status);
            let beside: Vec<u16> = std::iter::from_fn(|| {
                (!held.is_finished()).then(|| server.get("/fn/slow.narrow").status)
            })
            .collect();
            held.join().expect("answered");
            beside.contains(&429)
        })
    });
    server.get("/fn/slow.narrow").ok();
}

#[test]
fn usage_survives_restarts_and_kills_and_counts_nothing_twice() {
    let mut server = Server::options()
        .set("prices.currency", "EUR")
        .set("prices.invocation", "0.5")
        .set("prices.gb-second", "0.0000166667")
        .set("billing.granularity", "100ms")
        .start();
    server.deploy("counted", QUICK, &["--memory", "128Mi"]);
    for _ in 0..7 {
        server.get("/fn/counted").ok();
    }
    let used = usage(&server, "counted");
    assert_eq!(used["invocations"]["total"], 7);
    // Each is billed a tenth of a second of an eighth of a GB.
    let gb_seconds = used["gbSeconds"].as_f64().expect("a number");
    assert!((gb_seconds - 7.0 * 0.1 / 8.0).abs() < 1e-6, "{used}");
    let cost = told(&server, "/cost?function=counted");
    assert_eq!(cost["currency"], "EUR");
    assert_eq!(cost["items"][0]["cost"]["invocations"], "3.500000000");
    let total = cost["total"].as_str().expect("an amount");
    assert!(total.starts_with("3.50000"), "{cost}");
    let one = records(&server, "function=counted");
    assert!(
        one[0]["cost"]
            .as_str()
            .expect("a cost")
            .starts_with("0.50000"),
        "{one:?}"
    );

    server.stop();
    server.restart();
    assert_eq!(calls(&server, "counted"), 7);
    assert_eq!(records(&server, "function=counted").len(), 7);

    // A kill may lose the last of them, from the records and from the sums alike.
    for round in 0..3 {
        for _ in 0..5 {
            server.get("/fn/counted").ok();
        }
        let before = calls(&server, "counted");
        server.crash();
        server.restart();
        let after = calls(&server, "counted");
        assert!(
            (7..=before).contains(&after),
            "round {round}: {after} of {before}"
        );
        assert_eq!(records(&server, "function=counted").len() as u64, after);
    }
    // And with nothing new, neither a kill nor a restart changes anything.
    let before = calls(&server, "counted");
    server.crash();
    server.restart();
    assert_eq!(calls(&server, "counted"), before);
    server.stop();
    server.restart();
    assert_eq!(calls(&server, "counted"), before);
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let server = SERVER.get();
    for (route, part) in [
        ("/records?since=long", "since"),
        ("/records?outcome=fine", "outcome"),
        ("/records?limit=0", "limit"),
        ("/records?continue=x", "continue"),
        ("/records/zz", "id"),
        ("/usage?by=year", "by"),
    ] {
        server
            .control("GET", route)
            .send()
            .status(400)
            .says(&[part]);
    }
    server
        .call("GET", "/tidegate/v1/records")
        .send()
        .status(401);
}

#[test]
fn answers_say_what_they_cost_where_the_operator_wants_it() {
    let server = Server::options()
        .set("billing.header", "on")
        .set("prices.currency", "EUR")
        .set("prices.invocation", "0.25")
        .start();
    let code = "
def handler(event):
    if event.path == '/long':
        return 'x' * 100000
    return 'short'
";
    server.deploy("billed", code, &[]);
    let short = server.get("/fn/billed").ok();
    assert_eq!(short.text(), "short");
    let billed = short.header("tidegate-billed-ms").expect("a time");
    assert!(billed.parse::<f64>().expect("a number") >= 1.0, "{billed}");
    assert!(short.header("tidegate-gb-seconds").is_some());
    let cost = short.header("tidegate-cost").expect("a cost");
    assert!(cost.starts_with("0.25") && cost.ends_with(" EUR"), "{cost}");
    // It is what the record says.
    let kept = record(&server, &id(&short));
    assert_eq!(
        cost,
        format!("{} EUR", kept["cost"].as_str().expect("a sum"))
    );
    // Longer ones do not wait for their end.
    let long = server.get("/fn/billed/long").ok();
    assert_eq!(long.text().len(), 100_000);
    assert_eq!(long.header("tidegate-cost"), None);
    // Nobody else is told.
    let other = SERVER.get();
    other.deploy("unbilled", code, &[]);
    let short = other.get("/fn/unbilled").ok();
    assert_eq!(short.header("tidegate-billed-ms"), None);
}
