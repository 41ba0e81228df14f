//! Bodies that flow while they are made.

use crate::harness::{Connection, Shared, eventually, until};

static SERVER: Shared = Shared::new();

/// Streams a part for each part of its input.
const ECHO: &str = r#"
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": message.get("more_body", False)})
        if not message.get("more_body"):
            return
"#;

#[test]
fn both_directions_flow_at_once() {
    let server = SERVER.get();
    server.deploy("both", ECHO, &["--concurrency", "10"]);
    let mut connection = Connection::open(server.address).expect("a connection");
    connection
        .raw(b"POST /fn/both HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .expect("sent");
    let mut exchange = connection.answer(false).expect("a head");
    assert_eq!(
        exchange.piece().expect("whole").as_deref(),
        Some(&b"ABC"[..])
    );
    for word in ["hello", "world"] {
        let chunk = format!("{:x}\r\n{word}\r\n", word.len());
        exchange.raw(chunk.as_bytes()).expect("sent");
        let piece = exchange.piece().expect("whole").expect("a piece");
        assert_eq!(String::from_utf8_lossy(&piece), word.to_uppercase());
    }
    exchange.raw(b"0\r\n\r\n").expect("sent");
    assert!(eventually("the end", || Some(
        exchange.piece().expect("a clean end").is_none()
    )));
    until("the slot is free", || server.count("both", "busy") == 0);
}

#[test]
fn a_generator_is_sent_as_it_yields() {
    let server = SERVER.get();
    server.deploy(
        "steps",
        "import os, time\ndef handler(event):\n    if event.path == '/go':\n        open('/tmp/go', 'w').close()\n        return 'gone'\n    def parts():\n        yield 'first'\n        while not os.path.exists('/tmp/go'):\n            time.sleep(0.005)\n        yield 'second'\n    return parts()\n",
        &["--concurrency", "2", "--max", "1"],
    );
    let mut exchange = server.call("GET", "/fn/steps").open().expect("a head");
    assert_eq!(
        exchange.piece().expect("whole").as_deref(),
        Some(&b"first"[..])
    );
    // It only goes on when told to, and it is told only now.
    server.get("/fn/steps/go").ok();
    assert_eq!(
        exchange.piece().expect("whole").as_deref(),
        Some(&b"second"[..])
    );
    assert_eq!(exchange.piece().expect("a clean end"), None);
}

#[test]
fn a_slow_caller_does_not_hold_an_instance_whose_answer_fits_the_spool() {
    let server = SERVER.get();
    server.deploy(
        "big",
        "def handler(event):\n    if event.path == '/big':\n        return (b'x' * 1024 for _ in range(200))\n    return 'quick'\n",
        &["--max", "1"],
    );
    let slow = server.call("GET", "/fn/big/big").open().expect("a head");
    until("the instance is free", || server.count("big", "busy") == 0);
    assert_eq!(server.get("/fn/big").ok().text(), "quick");
    let late = slow.finish();
    assert!(
        late.whole && late.body.len() == 200 * 1024,
        "{} bytes",
        late.body.len()
    );
}

#[test]
fn a_large_answer_waits_for_its_caller_in_bounded_memory() {
    let server = SERVER.get();
    server.deploy(
        "flood",
        "def handler(event):\n    return (b'x' * 65536 for _ in range(1024))\n",
        &["--max", "1"],
    );
    let mut exchange = server.call("GET", "/fn/flood").open().expect("a head");
    let mut bytes = 0;
    while let Some(piece) = exchange.piece().expect("whole") {
        assert!(piece.iter().all(|&b| b == b'x'));
        bytes += piece.len();
    }
    assert_eq!(bytes, 64 << 20);
}

#[test]
fn a_hang_up_in_the_middle_of_an_answer_cancels_the_call() {
    let server = SERVER.get();
    server.deploy(
        "endless",
        "def handler(event):\n    def parts():\n        try:\n            while True:\n                yield b'x' * 1024\n        finally:\n            print('cleaned up')\n    return parts()\n",
        &["--max", "1"],
    );
    // The code has a tenth of a second to clean up before its instance is killed, which is its due only where it gets
    // the processor: on a busy machine another call may have to show it.
    until("the code cleaned up after a cancel", || {
        let mut exchange = server.call("GET", "/fn/endless").open().expect("a head");
        exchange.piece().expect("whole").expect("a piece");
        server.until_busy("endless", 1);
        drop(exchange);
        until("the instance is free", || {
            server.count("endless", "busy") == 0
        });
        let log = server.cli(&["logs", "endless"]).ok();
        log.text().contains("cleaned up")
    });
}

#[test]
fn the_death_of_an_instance_after_the_head_breaks_the_answer_off() {
    let server = SERVER.get();
    server.deploy(
        "dies-late",
        "import os\ndef handler(event):\n    def parts():\n        yield b'x' * 100\n        os._exit(1)\n    return parts()\n",
        &[],
    );
    let reply = server.call("GET", "/fn/dies-late").send().ok();
    assert!(!reply.whole, "a false end: {reply}");
    server.deploy(
        "dies-late-process",
        "#!/bin/sh\nhead -c 200000 /dev/zero\nexit 1\n",
        &[],
    );
    let reply = server.get("/fn/dies-late-process").ok();
    assert!(
        !reply.whole && reply.body.len() >= 64 * 1024,
        "{} bytes",
        reply.body.len()
    );
}

#[test]
fn an_exception_in_the_middle_of_an_answer_breaks_it_off_and_the_instance_lives_on() {
    let server = SERVER.get();
    server.deploy(
        "raises-late",
        "def handler(event):\n    if event.path == '/fine':\n        return 'fine'\n    def parts():\n        yield 'x'\n        raise ValueError('late')\n    return parts()\n",
        &["--max", "1"],
    );
    assert!(!server.get("/fn/raises-late").ok().whole);
    assert_eq!(server.get("/fn/raises-late/fine").ok().text(), "fine");
    server.lines("raises-late", |lines| {
        lines
            .iter()
            .any(|line| line["text"].as_str().is_some_and(|t| t.contains("late")))
    });
}

#[test]
fn an_upload_streams_into_the_code() {
    let server = SERVER.get();
    server.deploy(
        "upload",
        "import hashlib\ndef handler(event):\n    digest, n = hashlib.sha256(), 0\n    while part := event.stream.read(65536):\n        digest.update(part)\n        n += len(part)\n    return {'n': n, 'd': digest.hexdigest()}\n",
        &["--memory", "64Mi"],
    );
    // Far above the memory that a copy of it would need twice.
    let reply = server.post("/fn/upload", vec![0_u8; 40 << 20]).ok();
    assert_eq!(reply.json()["n"], 40 << 20);
}
