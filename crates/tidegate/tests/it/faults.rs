//! Functions that misbehave, and neighbours that must not notice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Server, Shared, instance_pids, until};

static SERVER: Shared = Shared::new();

/// Calls a function until the deed is done, and fails if a call is not answered in a time that a person would accept.
fn neighbour_answers(server: &Arc<Server>, deed: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let deed = scope.spawn(deed);
        let mut calls = 0;
        while !deed.is_finished() || calls < 20 {
            let began = Instant::now();
            assert_eq!(server.get("/fn/neighbour").ok().text(), "here");
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{:?}",
                began.elapsed()
            );
            server.get("/healthz").ok();
            calls += 1;
        }
        deed.join().expect("the deed is done");
    });
}

fn with_neighbour() -> Arc<Server> {
    let server = SERVER.get();
    server.deploy("neighbour", "def handler(event):\n    return 'here'\n", &[]);
    server
}

#[test]
fn a_crash_is_a_500_and_the_next_call_gets_a_fresh_instance() {
    let server = with_neighbour();
    server.deploy(
        "crashes",
        "import os, signal\ncalls = 0\ndef handler(event):\n    global calls\n    calls += 1\n    if event.path == '/exit':\n        os._exit(7)\n    if event.path == '/segv':\n        os.kill(os.getpid(), signal.SIGSEGV)\n    return str(calls)\n",
        &["--max", "1"],
    );
    for path in ["/exit", "/segv"] {
        let reply = server.get(&format!("/fn/crashes{path}")).status(500);
        assert_eq!(reply.outcome(), Some("function"), "{reply}");
        assert_eq!(server.get("/fn/crashes").ok().text(), "1");
    }
    server.get("/fn/crashes/exit").status(500).says(&["7"]);
    until("no instance is counted twice", || {
        server.count("crashes", "draining") == 0
    });
    assert_eq!(server.get("/fn/neighbour").ok().text(), "here");
}

#[test]
fn a_fork_bomb_stays_in_its_sandbox() {
    let server = with_neighbour();
    server.deploy(
        "bomb",
        "#!/bin/bash\nf() { f | f & }\nf\nsleep 600\n",
        &["--timeout", "2s", "--env", "TEST_TAG=bomb"],
    );
    neighbour_answers(&server, || {
        let reply = server.get("/fn/bomb");
        assert!(matches!(reply.status, 500 | 504), "{reply}");
    });
    until("nothing of it is left running", || {
        instance_pids("bomb").is_empty() || server.count("bomb", "busy") == 0
    });
    server.cli(&["delete", "bomb"]).ok();
    if server.is_privileged() {
        until("nothing of it is left at all", || {
            instance_pids("bomb").is_empty()
        });
    }
}

#[test]
fn a_python_fork_bomb_stays_in_its_sandbox() {
    let server = with_neighbour();
    server.deploy(
        "py-bomb",
        "import os, time\ndef handler(event):\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            time.sleep(0.01)\n",
        &["--timeout", "2s", "--max", "1"],
    );
    neighbour_answers(&server, || {
        let reply = server.get("/fn/py-bomb");
        assert!(matches!(reply.status, 500 | 504), "{reply}");
    });
}

#[test]
fn a_memory_hog_hurts_nobody_else() {
    let server = with_neighbour();
    server.deploy("eats", "def handler(event):\n    kept = []\n    while True:\n        kept.append(b'x' * (1 << 20))\n", &["--memory", "128Mi"]);
    neighbour_answers(&server, || {
        for _ in 0..3 {
            server.get("/fn/eats").status(500);
        }
    });
}

#[test]
fn endless_output_is_bounded_and_hurts_nobody() {
    let server = with_neighbour();
    server.deploy(
        "chatty",
        "def handler(event):\n    while True:\n        print('x' * 1000)\n",
        &["--timeout", "2s", "--max", "1"],
    );
    server.deploy("yes", "#!/bin/sh\nyes >&2\n", &["--timeout", "2s"]);
    neighbour_answers(&server, || {
        server.get("/fn/chatty").status(504);
        server.get("/fn/yes").status(504);
    });
    for name in ["chatty", "yes"] {
        let ran = server.cli(&["logs", name]).ok();
        assert!(
            !ran.stdout.is_empty() && ran.stdout.len() < 2 << 20,
            "{} bytes of {name}",
            ran.stdout.len()
        );
    }
}

#[test]
fn a_busy_loop_leaves_processor_time_to_others() {
    let server = with_neighbour();
    server.deploy(
        "spins",
        "def handler(event):\n    while True:\n        pass\n",
        &["--timeout", "2s", "--max", "4"],
    );
    neighbour_answers(&server, || {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| server.get("/fn/spins").status(504));
            }
        });
    });
}

#[test]
fn what_a_function_leaves_running_is_ended() {
    let server = with_neighbour();
    server.deploy(
        "leaves",
        "#!/bin/sh\nsleep 600 &\necho left\n",
        &["--env", "TEST_TAG=leaves"],
    );
    assert_eq!(server.get("/fn/leaves").ok().text(), "left\n");
    until("nothing is left", || {
        instance_pids("leaves").iter().all(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .map_or(true, |line| !line.starts_with(b"sleep"))
        })
    });
}

#[test]
fn an_answer_that_is_no_http_is_the_functions_fault() {
    let server = with_neighbour();
    server.deploy(
        "garbage",
        "#!/usr/bin/python3\nimport os, socket\ns = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\nwhile True:\n    c, _ = s.accept()\n    c.recv(65536)\n    c.sendall(b'this is no HTTP\\r\\n\\r\\n')\n    c.close()\n",
        &["--contract", "http"],
    );
    let reply = server.get("/fn/garbage").status(500);
    assert_eq!(reply.outcome(), Some("function"), "{reply}");
}

#[test]
fn the_walls_hold() {
    let server = with_neighbour();
    server.deploy(
        "walls",
        r#"
import os, socket

def attempt(deed):
    try:
        deed()
        return "done"
    except BaseException as error:
        return type(error).__name__

def handler(event):
    host, port = event.query["at"].split(":")
    return {
        "server": attempt(lambda: socket.create_connection((host, int(port)), 2)),
        "key": attempt(lambda: open(event.query["key"]).read()),
        "shadow": attempt(lambda: open("/etc/shadow").read()),
        "usr": attempt(lambda: open("/usr/x", "w")),
        "signal": attempt(lambda: os.kill(int(event.query["pid"]), 0)),
        "mount": os.system("mount -t tmpfs none /tmp 2>/dev/null") != 0,
        "unshare": os.system("unshare -U true 2>/dev/null") != 0,
        "processes": len([p for p in os.listdir("/proc") if p.isdigit()]),
        "environment": sorted(k for k in os.environ if k.startswith("TIDEGATE")),
    }
"#,
        &[],
    );
    let key = server.data().join("admin.key");
    let target = format!(
        "/fn/walls?at={}&key={}&pid={}",
        server.address,
        key.display(),
        server.pid()
    );
    let seen = server.get(&target).ok().json();
    for (what, allowed) in [
        ("server", false),
        ("key", false),
        ("shadow", false),
        ("usr", false),
    ] {
        assert_eq!(seen[what] == "done", allowed, "{what} in {seen}");
    }
    assert_eq!(
        (&seen["mount"], &seen["unshare"]),
        (&true.into(), &true.into()),
        "{seen}"
    );
    assert!(seen["signal"] != "done" || server.pid() < 10, "{seen}");
    assert!(seen["processes"].as_u64().is_some_and(|n| n < 6), "{seen}");
    assert_eq!(
        seen["environment"],
        serde_json::json!([
            "TIDEGATE_FUNCTION",
            "TIDEGATE_NAMESPACE",
            "TIDEGATE_REVISION"
        ])
    );
}
