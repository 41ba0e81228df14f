//! How many instances there are, and when.

use std::time::{Duration, Instant};

use crate::harness::{Server, Shared, until};

static SERVER: Shared = Shared::new();

/// Waits until as many calls as its query says are there at once; `/tmp` is of the instance, so it counts itself.
const SLEEP: &str = "import time\ndef handler(event):\n    time.sleep(float(event.query.get('s', '0')))\n    return 'ok'\n";

#[test]
fn to_zero_when_idle_and_back_with_the_next_call() {
    let server = SERVER.get();
    server.deploy("zero", SLEEP, &["--idle", "300ms"]);
    server.get("/fn/zero").ok();
    until("no instance is left", || {
        server.count("zero", "idle") == 0 && server.count("zero", "draining") == 0
    });
    let reply = server.get("/fn/zero").ok();
    assert!(
        reply
            .header("server-timing")
            .is_some_and(|t| t.contains("cold")),
        "{reply}"
    );
    assert_eq!(server.function("zero")["status"]["phase"], "Ready");
}

#[test]
fn a_minimum_stays_and_a_maximum_holds() {
    let server = SERVER.get();
    server.deploy(
        "bounds",
        SLEEP,
        &["--min", "2", "--max", "3", "--idle", "100ms"],
    );
    until("two wait for calls", || server.count("bounds", "idle") == 2);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| server.get("/fn/bounds?s=0.5").ok()))
            .collect();
        until("three are busy, three wait", || {
            let (busy, queued) = (
                server.count("bounds", "busy"),
                server.count("bounds", "queued"),
            );
            assert!(busy <= 3, "{busy} instances");
            busy == 3 && queued == 3
        });
        for call in calls {
            call.join().expect("an answer");
        }
    });
    until("back to two", || server.count("bounds", "idle") == 2);
}

#[test]
fn scale_changes_the_number_without_a_restart() {
    let server = SERVER.get();
    server.deploy("sized", "import os\ncalls = 0\ndef handler(event):\n    global calls\n    calls += 1\n    return str(calls)\n", &["--idle", "200ms"]);
    assert_eq!(server.get("/fn/sized").ok().text(), "1");
    server.cli(&["scale", "sized", "3"]).ok();
    until("there are three", || server.count("sized", "idle") == 3);
    server
        .cli(&["scale", "sized", "--min", "1", "--max", "1"])
        .ok();
    until("there is one", || server.count("sized", "idle") == 1);
    let revision = server.function("sized")["status"]["revision"].clone();
    server.cli(&["scale", "sized", "0"]).ok();
    until("there is none", || server.count("sized", "idle") == 0);
    assert_eq!(server.get("/fn/sized").ok().text(), "1", "a fresh instance");
    assert_eq!(server.function("sized")["status"]["revision"], revision);
}

#[test]
fn many_first_calls_share_few_starts() {
    let server = SERVER.get();
    server.deploy(
        "burst",
        "def handler(event):\n    return 'ok'\n",
        &["--initial", "0", "--concurrency", "50", "--max", "2"],
    );
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| server.get("/fn/burst").ok()))
            .collect();
        for call in calls {
            call.join().expect("an answer");
        }
    });
    assert!(server.count("burst", "idle") <= 2);
}

#[test]
fn beyond_the_waiting_room_429_at_once_with_a_time_to_come_back() {
    let server = Server::options().set("calls.max-waiting", "2").start();
    server.deploy("full", SLEEP, &["--max", "1"]);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.get("/fn/full?s=1").ok());
        server.until_busy("full", 1);
        let waiting: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| server.get("/fn/full").ok()))
            .collect();
        until("two wait", || server.count("full", "queued") == 2);
        let began = Instant::now();
        let refused = server.get("/fn/full").status(429);
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(refused.outcome(), Some("limit-concurrency"));
        assert_eq!(refused.header("retry-after"), Some("1"));
        // Another function is none the worse for it.
        server.get("/healthz").ok();
        first.join().expect("an answer");
        for call in waiting {
            call.join().expect("an answer");
        }
    });
    server.get("/fn/full").ok();
}

#[test]
fn a_wait_for_an_instance_is_bounded() {
    let server = Server::options().set("calls.max-wait", "200ms").start();
    server.deploy("waits", SLEEP, &["--max", "1"]);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.get("/fn/waits?s=1.5").ok());
        server.until_busy("waits", 1);
        let refused = server.get("/fn/waits").status(429).says(&["200ms"]);
        assert_eq!(refused.header("retry-after"), Some("1"));
        first.join().expect("an answer");
    });
}

#[test]
fn one_function_makes_room_for_another_when_the_host_is_full() {
    let server = Server::options().set("instances.max", "2").start();
    for name in ["one", "two", "three", "four"] {
        server.deploy(name, SLEEP, &[]);
        server.get(&format!("/fn/{name}")).ok();
    }
    for name in ["one", "two", "three", "four"] {
        server.get(&format!("/fn/{name}")).ok();
    }
}
