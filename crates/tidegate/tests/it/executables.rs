//! Executables: a process a call, and servers on `$PORT`.

use serde_json::json;

use crate::harness::{Shared, until};

static SERVER: Shared = Shared::new();

/// A small HTTP server in Python's standard library, as a program that listens on `$PORT`.
const HTTP_SERVER: &str = r#"#!/usr/bin/python3
import hashlib, base64, http.server, json, os, socketserver, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        print("served", self.path, flush=True)

    def answer(self, body, kind="application/json", status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for n in range(3):
                data = f"data: {n}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
                if n < 2:
                    # The next event waits until the client has told that it saw this one.
                    while not os.path.exists(f"/tmp/seen-{n}"):
                        time.sleep(0.005)
            self.wfile.write(b"0\r\n\r\n")
        elif self.path.startswith("/seen/"):
            open("/tmp/seen-" + self.path[6:], "w").close()
            self.answer(b"{}")
        elif self.headers.get("Upgrade") == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", accept)
            self.end_headers()
            while True:
                byte = self.rfile.read(1)
                if not byte or byte == b"q":
                    break
                self.wfile.write(byte.upper())
                self.wfile.flush()
            self.close_connection = True
        else:
            self.answer(json.dumps({"path": self.path, "headers": dict(self.headers.items()), "pid": os.getpid()}).encode())

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(hashlib.sha256(body).hexdigest().encode(), "text/plain")

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[test]
fn standard_input_becomes_standard_output_with_the_request_in_the_environment() {
    let server = SERVER.get();
    server.deploy(
        "env",
        "#!/bin/sh\necho \"$REQUEST_METHOD $SCRIPT_NAME $PATH_INFO $QUERY_STRING $CONTENT_TYPE $CONTENT_LENGTH $HTTP_X_WORD\"\necho \"$REQUEST_ID $TIDEGATE_FUNCTION $COLOUR\"\ncat\n",
        &["--env", "COLOUR=blue"],
    );
    let reply = server
        .call("POST", "/fn/env/a/b?x=1")
        .header("content-type", "text/x")
        .header("x-word", "w")
        .body("the body")
        .send()
        .ok();
    let id = reply.header("x-request-id").expect("an id").to_owned();
    let plain: String = reply.text().replace('-', "");
    assert_eq!(
        plain,
        format!("POST /fn/env /a/b x=1 text/x 8 w\n{id} env blue\nthe body")
    );
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
}

#[test]
fn ten_mebibytes_go_through_and_back() {
    let server = SERVER.get();
    server.deploy("echo", "#!/bin/sh\nexec cat\n", &[]);
    let body: Vec<u8> = (0..10_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let reply = server.post("/fn/echo", body.clone()).ok();
    assert!(
        reply.whole && reply.body == body,
        "{} bytes came back",
        reply.body.len()
    );
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
}

#[test]
fn json_on_standard_output_is_told_as_such() {
    let server = SERVER.get();
    server.deploy("json", "#!/bin/sh\necho '{\"a\": 1}'\n", &[]);
    let reply = server.get("/fn/json").ok();
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json(), json!({ "a": 1 }));
}

#[test]
fn an_exit_code_is_a_500_and_what_it_wrote_is_in_the_log() {
    let server = SERVER.get();
    server.deploy(
        "exits",
        "#!/bin/sh\necho partial\necho 'what went wrong' >&2\nexit 3\n",
        &[],
    );
    let reply = server
        .get("/fn/exits")
        .status(500)
        .says(&["exited with code 3"]);
    assert_eq!(reply.outcome(), Some("function"));
    let id = reply.json()["requestId"]
        .as_str()
        .expect("an id")
        .replace('-', "");
    let lines = server.lines("exits", |lines| {
        lines.iter().any(|line| line["text"] == "what went wrong")
    });
    let line = lines
        .iter()
        .find(|line| line["text"] == "what went wrong")
        .expect("found");
    assert_eq!(
        line["request"].as_str().expect("an id").replace('-', ""),
        id
    );
    assert!(server.get("/fn/exits").status(500).says(&["code 3"]).whole);
}

#[test]
fn a_signal_is_named() {
    let server = SERVER.get();
    server.deploy("dies", "#!/bin/sh\nkill -SEGV $$\n", &[]);
    server.get("/fn/dies").status(500).says(&["signal 11"]);
}

#[test]
fn a_missing_interpreter_is_named_by_deploy_or_call() {
    let server = SERVER.get();
    let ran = server.try_deploy("no-interpreter", "#!/opt/nothing/here\n", &[]);
    if ran.code == Some(0) {
        server
            .get("/fn/no-interpreter")
            .status(500)
            .says(&["/opt/nothing/here", "is not there inside"]);
    } else {
        ran.code(1).says(&["/opt/nothing/here"]);
    }
}

#[test]
fn calls_of_a_process_function_do_not_wait_for_each_other() {
    let server = SERVER.get();
    server.deploy("pair", "#!/bin/sh\nexec sleep 0.05\n", &["--max", "4"]);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.get("/fn/pair").ok()))
            .collect();
        for call in calls {
            call.join().expect("an answer");
        }
    });
    until("all are idle again", || server.count("pair", "busy") == 0);
}

#[test]
fn a_hang_up_ends_the_process() {
    let server = SERVER.get();
    server.deploy(
        "long",
        "#!/bin/sh\nif [ \"$PATH_INFO\" = /quick ]; then echo ok; exit; fi\nexec sleep 600\n",
        &["--max", "1"],
    );
    let connection = server.call("GET", "/fn/long").begin().expect("sent");
    server.until_busy("long", 1);
    drop(connection);
    until("the place is free", || server.count("long", "busy") == 0);
    assert_eq!(server.get("/fn/long/quick").ok().text(), "ok\n");
}

#[test]
fn a_server_on_its_port_is_called_over_http() {
    let server = SERVER.get();
    server.deploy("web", HTTP_SERVER, &["--contract", "http", "--max", "1"]);
    let first = server.get("/fn/web/some/path?q=1").ok().json();
    assert_eq!(first["path"], "/some/path?q=1");
    assert_eq!(
        first["headers"]["X-Forwarded-For"]
            .as_str()
            .or(first["headers"]["x-forwarded-for"].as_str()),
        Some("127.0.0.1")
    );
    let second = server.get("/fn/web/").ok().json();
    assert_eq!(first["pid"], second["pid"], "one process serves them all");

    let body = vec![7_u8; 3 << 20];
    let digest = server.post("/fn/web/", body).ok();
    assert_eq!(
        digest.text(),
        "fadc8b76fb9e2447c118e8b612cb1280904241214f6b9b5b7010f445bcc3d10b"
    );

    let head = server.call("HEAD", "/fn/web/x").send().ok();
    assert!(
        head.body.is_empty() && head.header("content-length").is_some_and(|n| n != "0"),
        "{head}"
    );
    server.lines("web", |lines| {
        lines
            .iter()
            .any(|line| line["text"] == "served /some/path?q=1")
    });
}

#[test]
fn events_pass_as_they_are_sent() {
    let server = SERVER.get();
    server.deploy("events", HTTP_SERVER, &["--contract", "http", "--max", "1"]);
    let mut events = server
        .call("GET", "/fn/events/events")
        .open()
        .expect("a head");
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    for n in 0..3 {
        let event = events.piece().expect("no break").expect("an event");
        assert_eq!(String::from_utf8_lossy(&event), format!("data: {n}\n\n"));
        if n < 2 {
            server.get(&format!("/fn/events/seen/{n}")).ok();
        }
    }
    assert_eq!(events.piece().expect("a clean end"), None);
}

#[test]
fn a_websocket_is_passed_through_and_holds_its_slot() {
    use std::io::{Read as _, Write as _};
    let server = SERVER.get();
    server.deploy("socket", HTTP_SERVER, &["--contract", "http", "--max", "1"]);
    let open = server
        .call("GET", "/fn/socket/ws")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .open()
        .expect("a head");
    assert_eq!(open.status, 101);
    assert_eq!(
        open.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    let mut connection = open.into_connection();
    connection
        .stream()
        .get_mut()
        .write_all(b"abc")
        .expect("sent");
    let mut echoed = [0; 3];
    connection
        .stream()
        .read_exact(&mut echoed)
        .expect("an echo");
    assert_eq!(&echoed, b"ABC");
    assert_eq!(server.count("socket", "busy"), 1);
    connection.stream().get_mut().write_all(b"q").expect("sent");
    assert_eq!(connection.stream().read(&mut echoed).expect("the end"), 0);
    drop(connection);
    until("the slot is free", || server.count("socket", "busy") == 0);
}

#[test]
fn a_server_that_never_listens_fails_its_deploy() {
    let server = SERVER.get();
    let ran = server.try_deploy(
        "deaf",
        "#!/bin/sh\necho 'not listening' >&2\nexec sleep 600\n",
        &["--contract", "http", "--timeout", "1s"],
    );
    ran.code(1).says(&["not listening"]);
    let early = server.try_deploy(
        "early",
        "#!/bin/sh\necho 'giving up' >&2\nexit 9\n",
        &["--contract", "http"],
    );
    early.code(1).says(&["giving up", "9"]);
}
