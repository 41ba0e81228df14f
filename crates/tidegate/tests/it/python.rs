//! Every shape that a Python function may have.

use serde_json::json;

use crate::harness::{Server, Shared, until};

static SERVER: Shared = Shared::new();

#[test]
fn a_handler_may_return_any_of_the_documented_values() {
    let server = SERVER.get();
    server.deploy(
        "shapes",
        r#"
from tidegate import Response

class Custom:
    def __iter__(self):
        return iter([b"it", b"er"])

def handler(event, context):
    return {
        "/none": lambda: None,
        "/str": lambda: "h\u00e9",
        "/bytes": lambda: b"\x00\xff",
        "/dict": lambda: {"a": [1, 2.5, None, True]},
        "/list": lambda: [1, 2],
        "/number": lambda: 42,
        "/tuple2": lambda: ("made", 201),
        "/tuple3": lambda: ({"a": 1}, 202, {"X-One": "1", "X-Many": ["a", "b"]}),
        "/lambda": lambda: {"statusCode": 203, "headers": {"x-l": "yes"}, "body": "aGk=", "isBase64Encoded": True},
        "/response": lambda: Response("body", 418, {"content-type": "text/x-tea"}),
        "/generator": lambda: (part for part in ["a", b"b", "c"]),
        "/iterator": lambda: iter([b"x", b"y"]),
    }[event.path]()
"#,
        &[],
    );
    let get = |path: &str| server.get(&format!("/fn/shapes{path}"));
    let kind = |path: &str, wanted: &str| {
        let reply = get(path).ok();
        assert_eq!(reply.header("content-type"), Some(wanted), "{path}");
        reply.body
    };
    assert_eq!(get("/none").ok().body, b"");
    assert_eq!(kind("/str", "text/plain; charset=utf-8"), "hé".as_bytes());
    assert_eq!(kind("/bytes", "application/octet-stream"), b"\x00\xff");
    let dict = get("/dict").ok();
    assert_eq!(dict.header("content-type"), Some("application/json"));
    assert_eq!(dict.json(), json!({ "a": [1, 2.5, null, true] }));
    assert_eq!(get("/list").ok().json(), json!([1, 2]));
    assert_eq!(get("/number").ok().json(), json!(42));
    assert_eq!(get("/tuple2").status(201).text(), "made");
    let tuple = get("/tuple3").status(202);
    assert_eq!(tuple.header("x-one"), Some("1"));
    let many: Vec<_> = tuple
        .headers
        .iter()
        .filter(|(n, _)| n == "x-many")
        .collect();
    assert_eq!(many.len(), 2);
    let lambda = get("/lambda").status(203);
    assert_eq!((lambda.header("x-l"), lambda.text()), (Some("yes"), "hi"));
    let response = get("/response").status(418);
    assert_eq!(
        (response.header("content-type"), response.text()),
        (Some("text/x-tea"), "body")
    );
    assert_eq!(get("/generator").ok().text(), "abc");
    assert_eq!(get("/iterator").ok().text(), "xy");
}

#[test]
fn a_handler_sees_the_whole_request() {
    let server = SERVER.get();
    server.deploy(
        "request",
        r#"
def handler(event, context):
    return {
        "method": event.method, "path": event.path, "raw": event.raw_path, "query": dict(event.query),
        "many": event.query_list("a"), "string": event.query_string, "type": event.content_type,
        "header": event.headers.get("X-Word"), "body": event.text,
        "name": context.function_name, "namespace": context.namespace, "id": context.request_id,
        "left": context.remaining_ms() > 50_000, "memory": context.memory_limit_bytes,
    }
"#,
        &["--memory", "64Mi"],
    );
    let reply = server
        .call("PUT", "/fn/request/a%20b/%C3%A9?a=1&a=2&b=%26")
        .header("content-type", "text/plain; charset=utf-8")
        .header("X-WORD", "v")
        .body("h\u{e9}")
        .send()
        .ok();
    let id = reply.header("x-request-id").expect("an id").to_owned();
    assert_eq!(
        reply.json(),
        json!({
            "method": "PUT", "path": "/a b/é", "raw": "/a%20b/%C3%A9", "query": { "a": "2", "b": "&" },
            "many": ["1", "2"], "string": "a=1&a=2&b=%26", "type": "text/plain", "header": "v", "body": "hé",
            "name": "request", "namespace": "default", "id": id, "left": true, "memory": 64 << 20,
        })
    );
}

#[test]
fn async_handlers_share_an_instance() {
    let server = SERVER.get();
    server.deploy(
        "meeting",
        r#"
import asyncio
here = 0
all_here = asyncio.Event()

async def handler(event):
    global here
    here += 1
    if here == 4:
        all_here.set()
    await all_here.wait()
    return {"here": here}
"#,
        &["--concurrency", "4", "--max", "1"],
    );
    // Each waits for all four: they only come back if one instance had all of them at once.
    let replies: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| server.get("/fn/meeting").ok().json()))
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("an answer"))
            .collect()
    });
    assert_eq!(replies, vec![json!({ "here": 4 }); 4]);
}

#[test]
fn an_async_generator_streams() {
    let server = SERVER.get();
    server.deploy(
        "agen",
        "import asyncio\nasync def parts():\n    for n in range(3):\n        await asyncio.sleep(0)\n        yield f'{n};'\nasync def handler(event):\n    return parts()\n",
        &[],
    );
    assert_eq!(server.get("/fn/agen").ok().text(), "0;1;2;");
}

#[test]
fn an_asgi_app_has_its_lifespan_and_its_paths() {
    let server = SERVER.get();
    server.deploy(
        "asgi",
        r#"
import json
state = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            state.append(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    seen = {"path": scope["path"], "root": scope["root_path"], "query": scope["query_string"].decode(),
            "method": scope["method"], "body": body.decode(), "state": state}
    await send({"type": "http.response.start", "status": 207, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
"#,
        &[],
    );
    let reply = server.post("/fn/asgi/a/b?x=y", "hello").status(207);
    assert_eq!(
        reply.json(),
        json!({
            "path": "/fn/asgi/a/b", "root": "/fn/asgi", "query": "x=y", "method": "POST", "body": "hello",
            "state": ["lifespan.startup"],
        })
    );
}

#[test]
fn a_wsgi_app_has_its_environment() {
    let server = SERVER.get();
    server.deploy(
        "wsgi",
        r#"
import json

def app(environ, start_response):
    seen = {name: environ[name] for name in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_METHOD", "HTTP_X_WORD")}
    seen["body"] = environ["wsgi.input"].read().decode()
    start_response("202 Accepted", [("Content-Type", "application/json"), ("X-Wsgi", "1")])
    return [json.dumps(seen).encode()]
"#,
        &[],
    );
    let reply = server
        .call("POST", "/fn/wsgi/a%20b?q")
        .header("x-word", "w")
        .body("in")
        .send()
        .status(202);
    assert_eq!(reply.header("x-wsgi"), Some("1"));
    assert_eq!(
        reply.json(),
        json!({
            "SCRIPT_NAME": "/fn/wsgi", "PATH_INFO": "/a b", "QUERY_STRING": "q", "REQUEST_METHOD": "POST",
            "HTTP_X_WORD": "w", "body": "in",
        })
    );
}

#[test]
fn a_folder_with_modules_and_a_named_handler() {
    let server = SERVER.get();
    server.file("code/folder/jobs/__init__.py", "");
    server.file(
        "code/folder/jobs/work.py",
        "def run(event):\n    import helper\n    return helper.WORD\n",
    );
    server.file(
        "code/folder/helper.py",
        "WORD = open('data/word.txt').read()\n",
    );
    server.file("code/folder/data/word.txt", "from a file");
    let main = server.file(
        "code/folder/main.py",
        "def other(event):\n    return 'no'\n",
    );
    let folder = main.trim_end_matches("/main.py");
    server
        .cli(&[
            "deploy",
            folder,
            "--name",
            "folder",
            "--handler",
            "jobs.work:run",
        ])
        .ok();
    assert_eq!(server.get("/fn/folder").ok().text(), "from a file");
}

#[test]
fn what_user_code_raises_is_a_500_with_the_trace_in_the_log_only() {
    let server = SERVER.get();
    server.deploy(
        "raises",
        "def handler(event, context):\n    print('before')\n    secret_value = event.query['missing']\n",
        &[],
    );
    let reply = server.get("/fn/raises").status(500);
    let id = reply.header("x-request-id").expect("an id").to_owned();
    assert_eq!(
        reply.json(),
        json!({ "error": "function failed", "requestId": id })
    );
    assert_eq!(reply.outcome(), Some("function"));
    let lines = server.lines("raises", |lines| {
        lines.iter().any(|line| {
            line["text"]
                .as_str()
                .is_some_and(|t| t.contains("KeyError"))
        })
    });
    assert!(
        lines.iter().all(|line| line["request"] == id.as_str()),
        "{lines:?}"
    );
    // The instance lives on.
    let again = server.get("/fn/raises").status(500);
    assert_ne!(again.header("x-request-id"), Some(&*id));
    assert_eq!(server.count("raises", "idle"), 1);
}

#[test]
fn a_body_that_is_not_the_json_it_should_be_is_a_400_that_says_where() {
    let server = SERVER.get();
    server.deploy(
        "wants-json",
        "def handler(event):\n    return event.json()['n']\n",
        &[],
    );
    assert_eq!(
        server.post("/fn/wants-json", r#"{"n": 3}"#).ok().json(),
        json!(3)
    );
    server
        .post("/fn/wants-json", "{\n \"n\": }")
        .status(400)
        .says(&["line 2"]);
}

#[test]
fn logs_belong_to_the_requests_that_wrote_them() {
    let server = SERVER.get();
    server.deploy(
        "writers",
        r#"
import asyncio, logging, sys

async def handler(event):
    word = event.query["w"]
    for n in range(5):
        print(word, n)
        await asyncio.sleep(0)
    print(word, "err", file=sys.stderr)
    logging.getLogger("any").warning("%s warned", word)
    return word
"#,
        &["--concurrency", "8"],
    );
    let ids: Vec<(String, String)> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let server = &server;
                scope.spawn(move || {
                    let reply = server.get(&format!("/fn/writers?w=w{n}")).ok();
                    (
                        format!("w{n}"),
                        reply.header("x-request-id").expect("an id").to_owned(),
                    )
                })
            })
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("an answer"))
            .collect()
    });
    for (word, id) in ids {
        let ran = server.cli(&["logs", "writers", "--request", &id]).ok();
        let lines: Vec<_> = ran.text().lines().collect();
        assert_eq!(lines.len(), 7, "{ran}");
        assert!(lines.iter().all(|line| line.contains(&word)), "{ran}");
    }
}

#[test]
fn a_hang_up_frees_the_instance() {
    let server = SERVER.get();
    for (name, code) in [
        ("sleeper", "    time.sleep(600)\n"),
        ("spinner", "    while True:\n        pass\n"),
    ] {
        server.deploy(
            name,
            &format!("import time\ndef handler(event):\n    if event.path == '/quick':\n        return 'ok'\n{code}"),
            &["--max", "1"],
        );
        let connection = server
            .call("GET", &format!("/fn/{name}"))
            .begin()
            .expect("sent");
        server.until_busy(name, 1);
        drop(connection);
        until("the instance is free", || server.count(name, "busy") == 0);
        assert_eq!(server.get(&format!("/fn/{name}/quick")).ok().text(), "ok");
    }
}

#[test]
fn module_code_runs_once_an_instance_and_state_is_its_own() {
    let server = SERVER.get();
    server.deploy(
        "counter",
        "import random\ncalls = 0\nseed = random.random()\ndef handler(event):\n    global calls\n    calls += 1\n    return {'calls': calls, 'seed': seed}\n",
        &["--max", "1"],
    );
    let first = server.get("/fn/counter").ok().json();
    let second = server.get("/fn/counter").ok().json();
    assert_eq!((&first["calls"], &second["calls"]), (&json!(1), &json!(2)));
    assert_eq!(first["seed"], second["seed"]);
}

#[test]
fn what_cannot_be_loaded_fails_the_deploy_with_its_reason() {
    let server: &Server = &SERVER.get();
    for (name, source, parts) in [
        ("bad-syntax", "def handler(:\n", &["SyntaxError"][..]),
        (
            "bad-import",
            "import nope_nope\ndef handler(e):\n    pass\n",
            &["nope_nope"],
        ),
        ("no-handler", "x = 1\n", &["handler"]),
        (
            "exits",
            "import sys\nsys.exit(3)\ndef handler(e):\n    pass\n",
            &["error:"],
        ),
    ] {
        server.try_deploy(name, source, &[]).code(1).says(parts);
        // It answers, and what it answers says why.
        let reply = server.get(&format!("/fn/{name}"));
        assert!(matches!(reply.status, 500 | 503), "{reply}");
    }
}
