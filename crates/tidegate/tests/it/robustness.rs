//! Load while everything changes, and the end of a server under load.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Connection, Reply, Server, code_of, processes_of, until};

/// Callers at once.
const CALLERS: usize = 8;

/// Tells when it answers before it is ready.
fn careful(version: u32) -> String {
    format!(
        "import time\nready = False\ntime.sleep(0.03)\nready = True\ndef handler(event):\n    return 'v{version}' if ready else 'half'\n"
    )
}

/// Calls on kept connections until told to stop; every answer goes to `judge`, every broken exchange to `lost`.
fn load(
    server: &Server,
    target: &str,
    done: &AtomicBool,
    judge: &(dyn Fn(Reply) + Sync),
    lost: &(dyn Fn(io::Error) + Sync),
) -> usize {
    let mut calls = 0;
    let mut kept: Option<Connection> = None;
    while !done.load(Ordering::Relaxed) {
        let connection = kept
            .take()
            .map_or_else(|| Connection::open(server.address), Ok);
        let exchange = connection.and_then(|c| c.exchange(&server.call("POST", target).body("in")));
        match exchange {
            Ok(exchange) => {
                let (reply, connection) = exchange.next();
                if reply.header("connection") != Some("close") && reply.whole {
                    kept = Some(connection);
                }
                judge(reply);
            }
            Err(error) => lost(error),
        }
        calls += 1;
    }
    calls
}

#[test]
fn deploys_and_scaling_under_load_lose_no_call_and_start_none_early() {
    let server = Server::start();
    server.deploy("python", &careful(0), &["--max", "6", "--idle", "50ms"]);
    server.deploy(
        "process",
        "#!/bin/sh\nexec cat\n",
        &["--max", "4", "--idle", "50ms"],
    );
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (server, done, calls) = (&server, &done, &calls);
            scope.spawn(move || {
                let python = caller % 4 != 0;
                let judge = |reply: Reply| {
                    let reply = reply.ok();
                    assert!(reply.whole, "{reply}");
                    let good = if python {
                        reply.text().starts_with('v')
                    } else {
                        reply.text() == "in"
                    };
                    assert!(good, "{reply}");
                };
                let target = if python { "/fn/python" } else { "/fn/process" };
                let made = load(server, target, done, &judge, &|error| {
                    panic!("a call was lost: {error}")
                });
                calls.fetch_add(made, Ordering::Relaxed);
            });
        }
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 1..=6 {
                server.deploy("python", &careful(n), &[]);
                server
                    .cli(&[
                        "scale",
                        "python",
                        "--min",
                        "0",
                        "--max",
                        &(n % 3 + 1).to_string(),
                    ])
                    .ok();
                server.deploy("process", &format!("#!/bin/sh\n# {n}\nexec cat\n"), &[]);
                server
                    .cli(&["scale", "process", "--max", &(n % 3 + 2).to_string()])
                    .ok();
            }
            until("some load was there", || {
                server.function("python")["status"]["invocations"]
                    .as_u64()
                    .expect("a number")
                    > 1000
            });
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = changed {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(calls.load(Ordering::Relaxed) > 1000);
}

#[test]
fn killed_instances_cost_their_own_calls_alone() {
    let server = Server::start();
    server.deploy("victim", &careful(0), &["--max", "6"]);
    server.deploy("bystander", "def handler(event):\n    return 'fine'\n", &[]);
    let (done, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut killed = 0;
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (server, done, failed) = (&server, &done, &failed);
            scope.spawn(move || {
                let judge = |reply: Reply| match (reply.status, reply.outcome()) {
                    (200, _) => assert!(
                        reply.whole && matches!(reply.text(), "v0" | "fine"),
                        "{reply}"
                    ),
                    (500, Some("function")) => {
                        assert_eq!(reply.json()["reason"], "function", "{reply}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => panic!("{reply}"),
                };
                let target = if caller == 0 {
                    "/fn/bystander"
                } else {
                    "/fn/victim"
                };
                load(server, target, done, &judge, &|error| {
                    panic!("a call was lost: {error}")
                });
            });
        }
        let deed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut killed = 0;
            for _ in 0..10 {
                // None is starting: who waits for a start that is killed fails with it.
                until("all instances are ready", || {
                    let ready = |name| server.count(name, "idle") + server.count(name, "busy");
                    ready("victim") == 6 && ready("bystander") == 1
                });
                let pid = code_of(server.pid()).pop().expect("an instance to kill");
                if kill_process(Pid::from_raw(pid).expect("not zero"), Signal::KILL).is_ok() {
                    killed += 1;
                }
                until("it is gone", || !code_of(server.pid()).contains(&pid));
            }
            killed
        }));
        done.store(true, Ordering::Relaxed);
        match deed {
            Ok(number) => killed = number,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let failed = failed.load(Ordering::Relaxed);
    assert!(
        failed <= killed,
        "{failed} calls failed for {killed} instances that were killed"
    );
    assert_eq!(server.post("/fn/victim", "in").ok().text(), "v0");
    until("no instance is counted that is not there", || {
        server.count("victim", "draining") == 0
    });
}

#[test]
fn a_server_that_is_told_to_end_finishes_what_it_has() {
    let mut server = Server::start();
    server.deploy(
        "slow",
        "import time\ndef handler(event):\n    time.sleep(0.6)\n    return 'done'\n",
        &["--max", "4"],
    );
    server.deploy("process", "#!/bin/sh\nsleep 0.6\ncat\n", &["--max", "4"]);
    server.deploy("stream", "import time\ndef handler(event):\n    def parts():\n        for n in range(6):\n            yield f'{n}'\n            time.sleep(0.1)\n    return parts()\n", &[]);
    let pid = server.pid();
    std::thread::scope(|scope| {
        // Four run and four wait, of the first.
        let slow: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.get("/fn/slow")))
            .collect();
        let process: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| server.post("/fn/process", "in")))
            .collect();
        let stream = scope.spawn(|| server.get("/fn/stream"));
        until("all of them are under way", || {
            server.count("slow", "busy") == 4
                && server.count("slow", "queued") == 4
                && server.count("process", "busy") == 4
                && server.count("stream", "busy") == 1
        });
        server.signal(Signal::TERM);
        for call in slow {
            let reply = call.join().expect("an answer").ok();
            assert!(reply.whole && reply.text() == "done", "{reply}");
        }
        for call in process {
            let reply = call.join().expect("an answer").ok();
            assert!(reply.whole && reply.text() == "in", "{reply}");
        }
        let reply = stream.join().expect("an answer").ok();
        assert!(reply.whole && reply.text() == "012345", "{reply}");
    });
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(Connection::open(server.address).is_err());
    assert_eq!(processes_of(pid).len(), 1, "processes are left");
    assert!(
        crate::harness::groups_of(pid).is_empty(),
        "control groups are left"
    );
}

#[test]
fn the_end_under_a_stream_of_calls_breaks_no_answer() {
    let mut server = Server::start();
    server.deploy(
        "quick",
        "import time\ndef handler(event):\n    time.sleep(0.01)\n    return 'x' * 10000\n",
        &["--max", "4"],
    );
    let done = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            let (server, done, answered) = (&server, &done, &answered);
            scope.spawn(move || {
                let judge = |reply: Reply| {
                    match (reply.status, reply.outcome()) {
                        (200, _) => assert!(reply.whole && reply.body.len() == 10_000, "{reply}"),
                        (503, Some("limit-capacity")) => {}
                        _ => panic!("{reply}"),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                };
                // A connection that the server closes between two calls, or no longer takes, has no call in flight.
                load(server, "/fn/quick", done, &judge, &|_| {
                    done.store(true, Ordering::Relaxed);
                });
            });
        }
        until("the load is there", || {
            answered.load(Ordering::Relaxed) > 100
        });
        server.signal(Signal::TERM);
        until("every caller has noticed", || done.load(Ordering::Relaxed));
    });
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn who_follows_a_log_does_not_hold_the_end_up() {
    let mut server = Server::start();
    server.deploy("followed", "def handler(event):\n    print('line')\n", &[]);
    server.get("/fn/followed").ok();
    let mut follower = server
        .control(
            "GET",
            "/namespaces/default/functions/followed/logs?follow=true",
        )
        .open()
        .expect("a head");
    follower.piece().expect("whole").expect("a line");
    let watcher = server
        .control("GET", "/functions?watch=true")
        .open()
        .expect("a head");
    assert_eq!(watcher.status, 200);
    let idle = Connection::open(server.address).expect("a connection");
    let began = Instant::now();
    server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(follower.piece().expect("a clean end"), None);
    drop((watcher, idle));
}

#[test]
fn the_grace_period_is_kept_and_a_second_signal_ends_at_once() {
    let sleeper = "import time\ndef handler(event):\n    time.sleep(600)\n";
    let mut server = Server::options().set("grace", "300ms").start();
    server.deploy("sleeper", sleeper, &[]);
    let connection = server.call("GET", "/fn/sleeper").begin().expect("sent");
    server.until_busy("sleeper", 1);
    let began = Instant::now();
    server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    drop(connection);

    let mut server = Server::start();
    let pid = server.pid();
    server.deploy("sleeper", sleeper, &[]);
    let connection = server.call("GET", "/fn/sleeper").begin().expect("sent");
    server.until_busy("sleeper", 1);
    let below = processes_of(pid);
    server.signal(Signal::TERM);
    until("it is ending", || {
        server.log().contains("a second signal ends at once")
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(130), "{}", server.log());
    drop(connection);
    until("nothing of it is left", || {
        !below.iter().any(|&pid| crate::harness::is_alive(pid))
    });
}

#[test]
fn a_thousand_idle_connections_hurt_nobody() {
    let server = Server::start();
    server.deploy("there", "def handler(event):\n    return 'there'\n", &[]);
    let idle: Vec<_> = (0..1000)
        .map(|_| Connection::open(server.address).expect("a connection"))
        .collect();
    for _ in 0..50 {
        assert_eq!(server.get("/fn/there").ok().text(), "there");
    }
    drop(idle);
    let full = Server::options().set("max-connections", "2").start();
    let first = Connection::open(full.address).expect("a connection");
    let second = Connection::open(full.address).expect("a connection");
    std::thread::scope(|scope| {
        // It waits to be accepted, and is answered once there is room.
        let third = scope.spawn(|| full.get("/healthz").ok());
        drop(first);
        drop(second);
        third.join().expect("an answer");
    });
}
