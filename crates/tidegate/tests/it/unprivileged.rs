//! The core of it all as an ordinary user, who may make no control groups and owns nothing of the machine.

use crate::harness::{Server, UNPRIVILEGED, is_root, processes_of, until};

/// A server of an ordinary user; none where the tests run as one, since then all the others are this test.
fn server() -> Option<Server> {
    is_root().then(|| Server::options().uid(UNPRIVILEGED).start())
}

#[test]
fn an_ordinary_user_has_every_shape_of_function() {
    let Some(server) = server() else { return };
    server.deploy("python", "import os\ndef handler(event):\n    print('logged')\n    return {'body': event.text, 'uid': os.getuid()}\n", &[]);
    let seen = server.post("/fn/python", "in").ok().json();
    assert_eq!(seen["body"], "in");
    server.lines("python", |lines| {
        lines
            .iter()
            .any(|line| line["text"] == "logged" && line["request"].is_string())
    });
    server.deploy("app", "async def app(scope, receive, send):\n    assert scope['type'] == 'http'\n    await send({'type': 'http.response.start', 'status': 201, 'headers': []})\n    await send({'type': 'http.response.body', 'body': b'asgi'})\n", &[]);
    assert_eq!(server.get("/fn/app").status(201).text(), "asgi");
    server.deploy("echo", "#!/bin/sh\nexec cat\n", &[]);
    let body = vec![b'y'; 3 << 20];
    assert!(server.post("/fn/echo", body.clone()).ok().body == body);
    server.deploy(
        "web",
        "#!/usr/bin/python3\nimport http.server, os\nclass H(http.server.BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200)\n        self.send_header('content-length', '3')\n        self.end_headers()\n        self.wfile.write(b'web')\nhttp.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()\n",
        &["--contract", "http"],
    );
    assert_eq!(server.get("/fn/web").ok().text(), "web");
    server.cli(&["secret", "set", "db", "--value", "hush"]).ok();
    server.deploy("secret", "import os\ndef handler(event):\n    return open('/run/secrets/db').read() + os.environ['DB']\n", &["--secret", "db", "--secret", "db=DB"]);
    assert_eq!(server.get("/fn/secret").ok().text(), "hushhush");
}

#[test]
fn what_the_machine_does_not_permit_is_said() {
    let Some(server) = server() else { return };
    let ran = server.cli(&["doctor"]).ok();
    for part in ["memory limit", "seccomp", "namespaces"] {
        assert!(ran.text().contains(part), "{part:?} is not in {ran}");
    }
    let log = server.log();
    assert!(
        log.contains("memory limit"),
        "what is weaker is said at the start: {log}"
    );
    drop(server);
    let refused = Server::options()
        .uid(UNPRIVILEGED)
        .set("isolation.minimum", "limits")
        .refused();
    refused.code(1).says(&["limit"]);
}

#[test]
fn misbehaving_functions_of_an_ordinary_user_hurt_nobody() {
    let Some(server) = server() else { return };
    server.deploy("neighbour", "def handler(event):\n    return 'here'\n", &[]);
    server.deploy("late", "import time\ndef handler(event):\n    if event.path == '/quick':\n        return 'ok'\n    time.sleep(600)\n", &["--timeout", "400ms", "--max", "1"]);
    server.get("/fn/late").status(504);
    assert_eq!(server.get("/fn/late/quick").ok().text(), "ok");
    server.deploy("crashes", "import os\ndef handler(event):\n    if event.path == '/exit':\n        os._exit(7)\n    return 'alive'\n", &["--max", "1"]);
    server.get("/fn/crashes/exit").status(500);
    assert_eq!(server.get("/fn/crashes").ok().text(), "alive");
    server.deploy("hog", "def handler(event):\n    kept = []\n    while True:\n        kept.append(b'x' * (1 << 20))\n", &["--memory", "64Mi"]);
    let reply = server.get("/fn/hog").status(500);
    assert_eq!(reply.outcome(), Some("limit-memory"), "{reply}");
    crate::limits::every_limit_is_told(&server);
    server.deploy(
        "bomb",
        "#!/bin/bash\nf() { f | f & }\nf\nsleep 600\n",
        &["--timeout", "2s"],
    );
    let reply = server.get("/fn/bomb");
    assert!(matches!(reply.status, 500 | 504), "{reply}");
    assert_eq!(server.get("/fn/neighbour").ok().text(), "here");
    server.deploy(
        "chatty",
        "def handler(event):\n    while True:\n        print('x' * 1000)\n",
        &["--timeout", "1s"],
    );
    server.get("/fn/chatty").status(504);
    assert_eq!(server.get("/fn/neighbour").ok().text(), "here");
}

#[test]
fn a_crash_and_a_clean_end_leave_nothing_of_an_ordinary_user() {
    let Some(mut server) = server() else { return };
    server.deploy(
        "kept",
        "def handler(event):\n    return 'kept'\n",
        &["--idle", "200ms"],
    );
    server.deploy("process", "#!/bin/sh\nexec sleep 600\n", &[]);
    let open = server.call("GET", "/fn/process").begin().expect("sent");
    server.until_busy("process", 1);
    let below = processes_of(server.pid());
    server.crash();
    until("every process has ended with it", || {
        !below.iter().any(|&pid| crate::harness::is_alive(pid))
    });
    drop(open);
    server.restart();
    assert_eq!(server.get("/fn/kept").ok().text(), "kept");
    until("to zero", || server.count("kept", "idle") == 0);
    assert_eq!(server.get("/fn/kept").ok().text(), "kept");
    let below = processes_of(server.pid());
    server.stop();
    until("nothing is left", || {
        !below.iter().any(|&pid| crate::harness::is_alive(pid))
    });
}
