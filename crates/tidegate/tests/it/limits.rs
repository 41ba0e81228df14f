//! Limits of a call and of an instance, and how each shows.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Connection, Server, Shared, until};

static SERVER: Shared = Shared::new();

#[test]
fn a_call_that_takes_too_long_is_a_504_and_its_instance_is_free_again() {
    let server = SERVER.get();
    server.deploy(
        "late",
        "import time\ndef handler(event):\n    if event.path == '/quick':\n        return 'ok'\n    time.sleep(600)\n",
        &["--timeout", "400ms", "--max", "1"],
    );
    let began = Instant::now();
    let reply = server.get("/fn/late").status(504).says(&["400ms"]);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(reply.outcome(), Some("limit-timeout"));
    assert_eq!(server.get("/fn/late/quick").ok().text(), "ok");
    server.deploy(
        "late-process",
        "#!/bin/sh\nexec sleep 600\n",
        &["--timeout", "400ms"],
    );
    let reply = server.get("/fn/late-process").status(504);
    assert_eq!(reply.outcome(), Some("limit-timeout"));
    until("the process is ended", || {
        server.count("late-process", "busy") == 0
    });
}

#[test]
fn the_head_has_a_limit_of_its_own() {
    let server = SERVER.get();
    server.deploy(
        "head",
        "import time\ndef handler(event):\n    time.sleep(600)\n",
        &[],
    );
    server
        .change("head", |spec| {
            spec["limits"] = json!({ "firstByte": "300ms" });
        })
        .ok();
    let reply = server.get("/fn/head").status(504).says(&["300ms"]);
    assert_eq!(reply.outcome(), Some("limit-first-byte"));
}

#[test]
fn a_silent_answer_is_broken_off() {
    let server = SERVER.get();
    server.deploy(
        "silent",
        "import time\ndef handler(event):\n    def parts():\n        yield 'first'\n        time.sleep(600)\n    return parts()\n",
        &["--max", "1"],
    );
    server
        .change("silent", |spec| {
            spec["limits"] = json!({ "streamIdle": "300ms" });
        })
        .ok();
    let began = Instant::now();
    let reply = server.get("/fn/silent").ok();
    assert!(!reply.whole && reply.body == b"first", "{reply}");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    until("the instance is free", || {
        server.count("silent", "busy") == 0
    });
}

#[test]
fn an_answer_that_flows_for_too_long_is_broken_off_at_the_total_limit() {
    let server = SERVER.get();
    server.deploy(
        "drips",
        "import time\ndef handler(event):\n    def parts():\n        while True:\n            yield 'x'\n            time.sleep(0.02)\n    return parts()\n",
        &["--timeout", "600ms"],
    );
    let began = Instant::now();
    let reply = server.get("/fn/drips").ok();
    assert!(!reply.whole && reply.body.len() > 3, "{reply}");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_slow_request_body_is_cut() {
    let server = SERVER.get();
    server.deploy(
        "slow-body",
        "def handler(event):\n    return event.body\n",
        &["--max", "1"],
    );
    server
        .change("slow-body", |spec| {
            spec["limits"] = json!({ "streamIdle": "300ms" });
        })
        .ok();
    let mut connection = Connection::open(server.address).expect("a connection");
    connection
        .raw(b"POST /fn/slow-body HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc")
        .expect("sent");
    let reply = connection
        .answer(false)
        .expect("an answer")
        .finish()
        .status(408);
    assert_eq!(reply.outcome(), Some("limit-idle"));
    assert_eq!(server.post("/fn/slow-body", "fine").ok().text(), "fine");
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let server = SERVER.get();
    server.deploy(
        "small",
        "def handler(event):\n    return str(len(event.body))\n",
        &[],
    );
    server
        .change("small", |spec| spec["limits"] = json!({ "body": "1Ki" }))
        .ok();
    assert_eq!(server.post("/fn/small", vec![0; 1024]).ok().text(), "1024");
    // Declared: refused on the head alone.
    let mut connection = Connection::open(server.address).expect("a connection");
    connection
        .raw(b"POST /fn/small HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n")
        .expect("sent");
    let reply = connection
        .answer(false)
        .expect("an answer")
        .finish()
        .status(413)
        .says(&["1024 bytes"]);
    assert_eq!(reply.outcome(), Some("limit-body"));
    // Undeclared: refused once it has passed the limit, while the rest never comes.
    let mut connection = Connection::open(server.address).expect("a connection");
    let chunk = format!("800\r\n{}\r\n", "x".repeat(0x800));
    connection
        .raw(format!("POST /fn/small HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunk}").as_bytes())
        .expect("sent");
    connection
        .answer(false)
        .expect("an answer")
        .finish()
        .status(413);
    assert_eq!(server.post("/fn/small", "ok").ok().text(), "2");
    // The same before a process, whose input must not look whole.
    server.deploy("small-process", "#!/bin/sh\nwc -c\n", &[]);
    server
        .change("small-process", |spec| {
            spec["limits"] = json!({ "body": "1Ki" });
        })
        .ok();
    let mut connection = Connection::open(server.address).expect("a connection");
    connection
        .raw(format!("POST /fn/small-process HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunk}").as_bytes())
        .expect("sent");
    connection
        .answer(false)
        .expect("an answer")
        .finish()
        .status(413);
}

#[test]
fn expect_100_continue_is_answered() {
    let server = SERVER.get();
    server.deploy(
        "expects",
        "def handler(event):\n    return event.body\n",
        &[],
    );
    let mut connection = Connection::open(server.address).expect("a connection");
    connection
        .raw(b"POST /fn/expects HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .expect("sent");
    let (go_on, mut connection) = connection.answer(true).expect("a head").next();
    assert_eq!(go_on.status, 100);
    connection.raw(b"abc").expect("sent");
    assert_eq!(
        connection
            .answer(false)
            .expect("an answer")
            .finish()
            .ok()
            .text(),
        "abc"
    );
}

#[test]
fn slow_heads_and_idle_connections_are_cut() {
    use std::io::Read as _;
    let server = Server::options().set("header-timeout", "300ms").start();
    let mut slow = Connection::open(server.address).expect("a connection");
    slow.raw(b"GET /healthz HTTP/1.1\r\nhost: loc")
        .expect("sent");
    let mut silent = Connection::open(server.address).expect("a connection");
    let began = Instant::now();
    let mut rest = Vec::new();
    let _ = slow.stream().read_to_end(&mut rest);
    let _ = silent.stream().read_to_end(&mut rest);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    server.get("/healthz").ok();
}

#[test]
fn memory_is_limited_and_the_reason_is_told() {
    let server = SERVER.get();
    server.deploy(
        "hog",
        "def handler(event):\n    if event.path == '/fine':\n        return 'fine'\n    kept = []\n    while True:\n        kept.append(b'x' * (1 << 20))\n",
        &["--memory", "64Mi", "--max", "1"],
    );
    let reply = server.get("/fn/hog");
    assert!(reply.status == 500, "{reply}");
    if server.is_privileged() {
        // Python may see its own end coming as an exception only where memory is limited by address space, which it is not.
        assert_eq!(reply.outcome(), Some("limit-memory"), "{reply}");
        server.lines("hog", |lines| {
            lines
                .iter()
                .any(|line| line["text"].as_str().is_some_and(|t| t.contains("memory")))
        });
    }
    assert_eq!(server.get("/fn/hog/fine").ok().text(), "fine");
    server.deploy(
        "hog-process",
        "#!/bin/sh\nexec tail /dev/zero\n",
        &["--memory", "32Mi"],
    );
    let reply = server.get("/fn/hog-process").status(500);
    assert_eq!(reply.outcome(), Some("limit-memory"), "{reply}");
}

#[test]
fn the_limit_that_ended_a_call_is_told_by_its_name() {
    every_limit_is_told(&SERVER.get());
}

/// For each limit and each way of being called: what the caller is told, and what the log has.
pub(crate) fn every_limit_is_told(server: &Server) {
    const FORKS: &str = "import os, time
def forks():
    try:
        while True:
            if os.fork() == 0:
                time.sleep(600)
    except OSError:
        os._exit(9)
";
    const FILLS: &str = "import os, signal
def fills():
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.ftruncate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1 << 40)
";
    const HOGS: &str = "import time
def hogs():
    kept = []
    while True:
        kept.append(b'x' * (1 << 20))
        time.sleep(0.001)
";
    const LOOPS: &str = "def loops():
    while True: pass
";
    let cases = [
        (
            "forks",
            FORKS,
            "30s",
            500,
            "limit-processes",
            "process limit",
        ),
        ("fills", FILLS, "30s", 500, "limit-disk", "disk limit"),
        ("hogs", HOGS, "30s", 500, "limit-memory", "memory"),
        ("loops", LOOPS, "1s", 504, "limit-timeout", ""),
    ];
    let mut wrong = Vec::new();
    for (name, code, timeout, status, outcome, logged) in cases {
        let handler = format!("{code}\ndef handler(event):\n    {name}()\n");
        let program = format!("#!/usr/bin/python3\n{code}\n{name}()\n");
        let web = format!(
            "#!/usr/bin/python3\nimport http.server\n{code}\nclass H(http.server.BaseHTTPRequestHandler):\n    \
             def do_GET(self): {name}()\nimport os\nhttp.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()\n"
        );
        for (kind, source, more) in [
            ("host", handler, &[][..]),
            ("process", program, &[]),
            ("http", web, &["--contract", "http"]),
        ] {
            let function = format!("{name}-{kind}");
            let mut options = vec!["--memory", "128Mi", "--timeout", timeout];
            options.extend(more);
            server.deploy(&function, &source, &options);
            let reply = server.get(&format!("/fn/{function}"));
            if (reply.status, reply.outcome()) != (status, Some(outcome)) {
                wrong.push(format!("{function}: {reply}"));
                continue;
            }
            server.lines(&function, |lines| {
                let said = |line: &serde_json::Value| {
                    line["text"].as_str().is_some_and(|t| t.contains(logged))
                };
                logged.is_empty() || lines.iter().any(said)
            });
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn temporary_files_are_limited() {
    let server = SERVER.get();
    server.deploy("filler", "def handler(event):\n    with open('/tmp/big', 'wb') as f:\n        for _ in range(200):\n            f.write(b'x' * (1 << 20))\n    return 'written'\n", &["--memory", "256Mi"]);
    server.get("/fn/filler").status(500);
    server.lines("filler", |lines| {
        lines.iter().any(|line| {
            line["text"]
                .as_str()
                .is_some_and(|t| t.contains("No space left"))
        })
    });
    server.deploy(
        "writer",
        "def handler(event):\n    open('/function/x', 'w')\n",
        &[],
    );
    server.get("/fn/writer").status(500);
    server.lines("writer", |lines| {
        lines.iter().any(|line| {
            line["text"]
                .as_str()
                .is_some_and(|t| t.contains("Read-only"))
        })
    });
}
