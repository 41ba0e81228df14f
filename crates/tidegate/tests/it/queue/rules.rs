//! What holds for calls that are made later: the function's rules, the namespace's bounds, revisions, and what code is told.

use serde_json::{Value, json};

use super::{SERVER, SLOW, accepted, later, result, rules, start, state, until_state};
use crate::harness::{Reply, Server, until};

/// What a function has printed, once that is so many lines.
fn printed(server: &Server, function: &str, lines: usize) -> Vec<String> {
    let lines = server.lines(function, |all| all.len() >= lines);
    let texts = lines.iter().filter_map(|line| line["text"].as_str());
    texts.map(str::to_owned).collect()
}

#[test]
fn no_more_run_at_once_than_the_function_says() {
    let server = SERVER.get_or(start);
    let code = "
import time
def handler(event):
    print('begin')
    time.sleep(0.1)
    print('end')
";
    server.deploy("rule-one", code, &["--concurrency", "4", "--max", "4"]);
    rules(&server, "rule-one", json!({ "concurrency": 1 }));
    let ids: Vec<String> = (0..5)
        .map(|_| accepted(later(&server, "/fn/rule-one", "").send()))
        .collect();
    for id in &ids {
        until_state(&server, id, "done");
    }
    let lines = printed(&server, "rule-one", 10);
    assert_eq!(lines, ["begin", "end"].repeat(5));
}

#[test]
fn no_more_begin_in_a_second_than_the_function_says() {
    let server = SERVER.get_or(start);
    let code = "
import time
def handler(event):
    print('%.3f' % time.time())
    time.sleep(0.3)
";
    server.deploy("rule-rate", code, &["--concurrency", "8"]);
    rules(&server, "rule-rate", json!({ "rate": 2 }));
    let ids: Vec<String> = (0..6)
        .map(|_| accepted(later(&server, "/fn/rule-rate", "").send()))
        .collect();
    for id in &ids {
        until_state(&server, id, "done");
    }
    let lines = printed(&server, "rule-rate", 6);
    let mut times: Vec<f64> = lines.iter().map(|t| t.parse().expect("a time")).collect();
    times.sort_by(f64::total_cmp);
    // Two at once, then one every half second: two seconds, of which the clocks' and the machine's share is left out.
    assert!(times[5] - times[0] > 1.0, "{times:?}");
}

#[test]
fn a_namespace_has_as_many_queued_as_it_may_and_not_one_more() {
    let server = SERVER.get_or(start);
    let body = json!({ "spec": { "quotas": { "queued": 3 } } }).to_string();
    let put = server.control("PUT", "/namespaces/ruled").body(body).send();
    assert!(put.status < 300, "{}", put.text());
    server.deploy("rule-full", SLOW, &["--namespace", "ruled"]);
    let send = || {
        later(&server, "/fn/rule-full.ruled", "0")
            .header("x-tidegate-delay", "1h")
            .send()
    };
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(send)).collect();
        all.into_iter()
            .map(|one| one.join().expect("an answer"))
            .collect()
    });
    let (taken, refused): (Vec<Reply>, Vec<Reply>) =
        replies.into_iter().partition(|reply| reply.status == 202);
    assert_eq!(taken.len(), 3);
    for reply in refused {
        let reply = reply.status(429).says(&["quota queued", "3 invocations"]);
        assert!(reply.header("retry-after").is_some());
    }
    // A tick of a schedule counts, and is accepted all the same.
    let route = "/namespaces/ruled/triggers/tick";
    let spec =
        json!({ "function": "rule-full", "schedule": "@yearly", "request": { "body": "0" } });
    let trigger = json!({ "metadata": { "name": "tick" }, "spec": spec });
    server
        .control("PUT", route)
        .body(trigger.to_string())
        .send()
        .status(201);
    let fired = server
        .control("POST", &format!("{route}/fire"))
        .send()
        .status(202)
        .json();
    until_state(
        &server,
        fired["invocation"].as_str().expect("an id"),
        "done",
    );
    // One that ends makes room for one.
    let id = taken[0].header("x-request-id").expect("an id");
    server
        .control("DELETE", &format!("/queue/{id}"))
        .send()
        .status(204);
    send().status(202);
    send().status(429);
}

/// Has a call wait behind another, until that is cancelled.
struct Behind<'a> {
    server: &'a Server,
    first: String,
}

impl<'a> Behind<'a> {
    fn new(server: &'a Server, function: &str) -> Self {
        let first = later(server, &format!("/fn/{function}"), "")
            .header("x-tidegate-order-key", "k")
            .header("x-tidegate-delay", "1h");
        let first = accepted(first.send());
        Self { server, first }
    }

    fn call(&self, path: &str, revision: &str) -> Reply {
        let call = later(self.server, path, "").header("x-tidegate-order-key", "k");
        match revision {
            "" => call.send(),
            revision => call.header("x-tidegate-revision", revision).send(),
        }
    }

    fn go(self) {
        let route = format!("/queue/{}", self.first);
        self.server.control("DELETE", &route).send().status(204);
    }
}

#[test]
fn a_revision_is_pinned_and_a_tag_is_looked_up_when_the_call_is_made() {
    let server = SERVER.get_or(start);
    let version = |n: u32| format!("def handler(event):\n    return 'v{n}'\n");
    let newest = || {
        let list = server
            .cli(&["revisions", "rule-named", "--json"])
            .ok()
            .json();
        list[0]["metadata"]["name"]
            .as_str()
            .expect("a word")
            .to_owned()
    };
    server.deploy("rule-named", &version(1), &[]);
    let first = newest();
    server.deploy(
        "rule-named",
        &version(2),
        &["--no-traffic", "--tag", "beta"],
    );
    let behind = Behind::new(&server, "rule-named");
    let path = "/fn/rule-named";
    let pinned = accepted(behind.call(path, &newest()));
    let plain = accepted(behind.call(path, ""));
    let old = accepted(behind.call(path, &first));
    let by_header = accepted(behind.call(path, "beta"));
    let by_path = accepted(behind.call("/fn/beta---rule-named", ""));
    behind
        .call(path, "gamma")
        .status(404)
        .says(&["gamma", "beta"]);
    server.deploy(
        "rule-named",
        &version(3),
        &["--no-traffic", "--tag", "beta"],
    );
    behind.go();
    for (id, wanted) in [
        (&pinned, "v2"),
        (&plain, "v1"),
        (&old, "v1"),
        (&by_header, "v3"),
        (&by_path, "v3"),
    ] {
        assert_eq!(result(&server, id).text(), wanted);
    }
    // One that nobody goes by any more.
    let behind = Behind::new(&server, "rule-named");
    let gone = accepted(behind.call(path, "beta"));
    server
        .cli(&["traffic", "rule-named", "--untag", "beta"])
        .ok();
    behind.go();
    let dead = until_state(&server, &gone, "dead");
    assert_eq!(dead["reason"], "refused");
    let why = dead["message"].as_str().expect("a reason");
    assert!(why.contains("no revision or tag \"beta\""), "{why}");
}

#[test]
fn code_is_told_which_attempt_it_is_and_nobody_else_can_say_so() {
    let server = SERVER.get_or(start);
    let code = "
def handler(event):
    attempt = event.headers.get('tidegate-attempt', '-')
    if attempt in ('1', '2'):
        raise ValueError('not yet')
    return attempt
";
    server.deploy("rule-attempt", code, &[]);
    let quick = json!({ "retries": 3, "backoff": "10ms", "jitter": "none" });
    rules(&server, "rule-attempt", quick);
    let forged = |path: &str| later(&server, path, "").header("tidegate-attempt", "9");
    let id = accepted(forged("/fn/rule-attempt").send());
    assert_eq!(result(&server, &id).text(), "3");
    assert_eq!(state(&server, &id)["tries"], 3);
    let direct = server
        .call("GET", "/fn/rule-attempt")
        .header("tidegate-attempt", "1");
    assert_eq!(direct.send().ok().text(), "-");
}

#[test]
fn code_sees_the_same_caller_as_in_a_direct_call() {
    let server = SERVER.get_or(start);
    let code = "
def handler(event):
    names = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host']
    return ' '.join(event.headers.get(name, '-') for name in names)
";
    server.deploy("rule-from", code, &[]);
    let told = |chain: Option<&str>, is_later: bool| {
        let mut call = server.call("POST", "/fn/rule-from");
        if let Some(chain) = chain {
            call = call.header("x-forwarded-for", chain);
        }
        if is_later {
            let id = accepted(call.header("prefer", "respond-async").send());
            result(&server, &id).text().to_owned()
        } else {
            call.send().ok().text().to_owned()
        }
    };
    for chain in [None, Some("192.0.2.7")] {
        assert_eq!(told(chain, true), told(chain, false));
    }
    let from = format!("192.0.2.7, 127.0.0.1 http {}", server.address);
    assert_eq!(told(Some("192.0.2.7"), true), from);
}

#[test]
fn the_queue_can_be_watched() {
    let server = Server::start();
    server.deploy("watched", SLOW, &[]);
    rules(&server, "watched", json!({ "retries": 0 }));
    let waiting = later(&server, "/fn/watched", "0").header("x-tidegate-delay", "1h");
    accepted(waiting.send());
    let done = accepted(later(&server, "/fn/watched", "0").send());
    let dead = accepted(later(&server, "/fn/watched", "no number").send());
    until_state(&server, &done, "done");
    until_state(&server, &dead, "dead");
    for (name, wanted) in [
        ("tidegate_queue_depth ", "1"),
        ("tidegate_queue_running ", "0"),
        ("tidegate_queue_full ", "0"),
        ("tidegate_queue_attempts_total ", "2"),
        ("tidegate_queue_done_total ", "1"),
        ("tidegate_queue_dead_total ", "1"),
        ("tidegate_queue_retried_total ", "0"),
    ] {
        // What is counted follows what is committed.
        until(&format!("{name}{wanted}"), || {
            let page = server.get("/metrics").ok();
            let found = page.text().lines().find_map(|line| line.strip_prefix(name));
            found.and_then(|found| found.trim().parse::<f64>().ok()) == wanted.parse().ok()
        });
    }
    let records = server.control("GET", "/records?function=watched").send();
    let kinds: Vec<Value> = records.ok().json()["items"]
        .as_array()
        .map(|items| {
            items
                .iter()
                .map(|item| item["cause"]["kind"].clone())
                .collect()
        })
        .unwrap_or_default();
    assert_eq!(kinds, ["queue", "queue"]);
}
