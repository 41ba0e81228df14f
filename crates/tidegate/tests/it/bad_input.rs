//! Requests and documents that are wrong.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::harness::{Connection, Reply, Shared};

static SERVER: Shared = Shared::new();

/// Puts a document of a function whose code is there, with something wrong.
fn put(route: &str, change: impl FnOnce(&mut Value)) -> Reply {
    let server = SERVER.get();
    // One at a time, since they share the file.
    static DEPLOYING: Mutex<()> = Mutex::new(());
    let deploying = DEPLOYING.lock().unwrap_or_else(PoisonError::into_inner);
    server.deploy("model", "def handler(event):\n    return 'model'\n", &[]);
    drop(deploying);
    let mut document = server.function("model");
    document["metadata"] = json!({});
    document
        .as_object_mut()
        .expect("an object")
        .remove("status");
    change(&mut document);
    server
        .control("PUT", route)
        .body(document.to_string())
        .send()
}

/// An error as every control route writes it.
#[track_caller]
fn refused(reply: Reply, status: u16, reason: &str, parts: &[&str]) {
    let reply = reply.status(status).says(parts);
    assert_eq!(
        reply.header("content-type"),
        Some("application/json"),
        "{reply}"
    );
    assert_eq!(reply.json()["reason"], reason, "{reply}");
}

#[test]
fn an_unknown_function_is_a_404_that_names_it() {
    let server = SERVER.get();
    for target in [
        "/fn/nope",
        "/fn/nope.team/x",
        "/fn/",
        "/fn/.",
        "/fn/a%20b",
        "/fn/UPPER",
    ] {
        let reply = server.get(target).status(404);
        assert_eq!(reply.json()["reason"], "not-found", "{target}");
        assert!(reply.header("x-request-id").is_some());
    }
    server
        .get("/fn/nope")
        .status(404)
        .says(&["nope", "default", "tidegate list"]);
}

#[test]
fn malformed_json_is_a_400_that_says_where() {
    let server = SERVER.get();
    let route = "/namespaces/default/functions/x";
    let send = |body: &str| server.control("PUT", route).body(body).send();
    refused(
        send("{\n  \"spec\": }"),
        400,
        "invalid",
        &["line 2 column 11"],
    );
    refused(send(""), 400, "invalid", &["Function", "line 1"]);
    refused(send("[]"), 400, "invalid", &["line 1"]);
    refused(
        send("{\"spec\": {\"runtime\": 5}}"),
        400,
        "invalid",
        &["string", "line 1"],
    );
    refused(send("\u{0}\u{1}"), 400, "invalid", &["line 1"]);
    refused(
        server
            .control("PUT", "/namespaces/default/secrets/x")
            .body("{\"value\": \"%%\"}")
            .send(),
        400,
        "invalid",
        &["base64"],
    );
    refused(
        server
            .control("PUT", "/namespaces/default/functions/x/scale")
            .body("{\"min\": -1}")
            .send(),
        400,
        "invalid",
        &["-1"],
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    refused(send(&deep), 400, "invalid", &["line 1"]);
}

#[test]
fn names_outside_the_rules_are_a_400_with_the_rule() {
    let long = format!("/namespaces/default/functions/{}", "a".repeat(64));
    for route in [
        "/namespaces/default/functions/Upper",
        "/namespaces/default/functions/-a",
        "/namespaces/default/functions/a_b",
        &long,
        "/namespaces/No_Good/functions/a",
    ] {
        refused(put(route, |_| ()), 400, "invalid", &["a-z"]);
    }
    refused(
        put("/namespaces/nowhere/functions/a", |_| ()),
        404,
        "not-found",
        &["nowhere", "namespace create"],
    );
    refused(
        put("/namespaces/default/functions/a", |d| {
            d["metadata"]["name"] = "b".into();
        }),
        400,
        "invalid",
        &[r#"metadata.name is \"b\""#, r#"for \"a\""#],
    );
}

#[test]
fn specifications_that_cannot_be_are_a_400_with_the_field() {
    let route = "/namespaces/default/functions/wrong";
    type Change = fn(&mut Value);
    let cases: &[(Change, &[&str])] = &[
        (
            |d| d["spec"]["runtime"] = "cobol".into(),
            &["spec.runtime", "cobol", "python:3", "executable"],
        ),
        (
            |d| d["spec"]["runtime"] = "python:2.7".into(),
            &["spec.runtime", "python:2.7", "python:3"],
        ),
        (
            |d| d["spec"]["contract"] = "carrier-pigeon".into(),
            &["spec.contract", "carrier-pigeon"],
        ),
        (
            |d| d["spec"]["code"]["digest"] = format!("sha256:{}", "0".repeat(64)).into(),
            &["spec.code.digest", "was uploaded"],
        ),
        (|d| d["spec"]["code"]["digest"] = "md5:x".into(), &["md5:x"]),
        (
            |d| d["spec"]["code"]["entry"] = "../../etc/passwd".into(),
            &["spec.code.entry"],
        ),
        (
            |d| d["spec"]["secrets"] = json!([{ "name": "absent" }]),
            &["absent", "secret set"],
        ),
        (
            |d| d["spec"]["limits"] = json!({ "memory": "1 elephant" }),
            &["spec.limits.memory", "elephant"],
        ),
        (
            |d| d["spec"]["scale"] = json!({ "min": 9, "max": 2 }),
            &["spec.scale.min"],
        ),
        (
            |d| d["spec"]["env"] = json!({ "A=B": "x" }),
            &["spec.env", "A=B"],
        ),
        (|d| d["spec"]["tyop"] = 1.into(), &["tyop", "runtime"]),
        (
            |d| d["apiVersion"] = "other/v1".into(),
            &["apiVersion", "other/v1", "tidegate.dev/v1"],
        ),
    ];
    for (change, parts) in cases {
        refused(put(route, change), 400, "invalid", parts);
    }
    assert_eq!(
        SERVER.get().control("GET", route).send().status,
        404,
        "nothing was stored"
    );
}

#[test]
fn a_stale_version_is_a_conflict() {
    let server = SERVER.get();
    server.deploy("stale", "def handler(event):\n    return 1\n", &[]);
    let mut document = server.function("stale");
    server.cli(&["scale", "stale", "--max", "3"]).ok();
    document["spec"]["scale"] = json!({ "max": 4 });
    let reply = server
        .control("PUT", "/namespaces/default/functions/stale")
        .body(document.to_string())
        .send();
    refused(reply, 409, "conflict", &["resourceVersion"]);
}

#[test]
fn large_documents_and_foreign_bytes_are_refused() {
    let server = SERVER.get();
    let large = format!("{{\"spec\": \"{}\"}}", "x".repeat(600 * 1024));
    refused(
        server
            .control("PUT", "/namespaces/default/functions/large")
            .body(large)
            .send(),
        413,
        "too-large",
        &[],
    );
    let digest = format!("sha256:{}", "1".repeat(64));
    refused(
        server
            .control("PUT", &format!("/blobs/{digest}"))
            .body("other bytes")
            .send(),
        400,
        "invalid",
        &[],
    );
    refused(
        server.control("PUT", "/blobs/nonsense").body("x").send(),
        400,
        "invalid",
        &["nonsense"],
    );
    let mut connection = Connection::open(server.address).expect("a connection");
    let head = format!(
        "PUT /tidegate/v1/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 999999999999\r\n\r\n",
        server.key()
    );
    connection.raw(head.as_bytes()).expect("sent");
    refused(
        connection.answer(false).expect("an answer").finish(),
        413,
        "too-large",
        &[],
    );
}

#[test]
fn routes_methods_and_queries_that_are_not_there() {
    let server = SERVER.get();
    server.deploy("logged", "def handler(event):\n    return 1\n", &[]);
    let send = |method: &str, route: &str| server.control(method, route).send();
    refused(
        send("GET", "/nope"),
        404,
        "not-found",
        &["/tidegate/v1/nope", "openapi.json"],
    );
    refused(
        send("POST", "/functions"),
        405,
        "method-not-allowed",
        &["POST"],
    );
    refused(
        send("GET", "/functions?limit=many"),
        400,
        "invalid",
        &["limit"],
    );
    refused(
        send("GET", "/functions?labelSelector=%3D%3D"),
        400,
        "invalid",
        &["labelSelector"],
    );
    refused(
        send("GET", "/functions?continue=forged"),
        400,
        "invalid",
        &[],
    );
    refused(
        send("GET", "/functions?watch=true&resourceVersion=abc"),
        400,
        "invalid",
        &["abc"],
    );
    refused(
        send(
            "GET",
            "/namespaces/default/functions/logged/logs?since=whenever",
        ),
        400,
        "invalid",
        &["whenever", "5m"],
    );
    refused(
        send("GET", "/namespaces/default/functions/nope"),
        404,
        "not-found",
        &["nope"],
    );
    refused(
        send("DELETE", "/namespaces/default/functions/nope"),
        404,
        "not-found",
        &["nope"],
    );
    refused(
        send("GET", "/namespaces/default/functions/%FF"),
        400,
        "invalid",
        &[],
    );
    refused(server.get("/favicon.ico"), 404, "not-found", &[]);
}

#[test]
fn bytes_that_are_no_http_end_their_connection_alone() {
    use std::io::Read as _;
    let server = SERVER.get();
    for bytes in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /fn/x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcde",
        b"GET /fn/x HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
        b"POST /fn/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut connection = Connection::open(server.address).expect("a connection");
        connection.raw(bytes).expect("sent");
        let _ = connection
            .stream()
            .get_mut()
            .shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = connection.stream().read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let mut large = Connection::open(server.address).expect("a connection");
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    // The server may stop reading before all of it was written.
    let _ = large.raw(head.as_bytes());
    if let Ok(answer) = large.answer(false) {
        assert!(matches!(answer.status, 400 | 431), "{}", answer.status);
    }
    server.get("/healthz").ok();
}

/// Makes archives that nobody makes by accident; prints the digest of the one that was asked for.
const HOSTILE: &str = r#"
import hashlib, io, sys, tarfile
kind, path = sys.argv[1:]
with tarfile.open(path, "w:gz") as archive:
    def add(name, data=b"", **more):
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        for key, value in more.items():
            setattr(entry, key, value)
        archive.addfile(entry, io.BytesIO(data))
    add("handler.py", b"def handler(event):\n    return 1\n")
    if kind == "parent":
        add("../../escaped.py", b"x")
    elif kind == "absolute":
        add("/tmp/tidegate-escaped.py", b"x")
    elif kind == "link":
        add("out", type=tarfile.SYMTYPE, linkname="../../../../etc/passwd")
    elif kind == "device":
        add("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    elif kind == "many":
        for n in range(60_000):
            add(f"f{n}")
    elif kind == "bomb":
        # A gibibyte and a half of nothing.
        for n in range(24):
            add(f"zeros{n}", bytes(64 << 20))
print(hashlib.sha256(open(path, "rb").read()).hexdigest())
"#;

#[test]
fn hostile_archives_are_refused_and_nothing_is_stored() {
    let server = SERVER.get();
    for (kind, part) in [
        ("parent", "'..'"),
        ("absolute", "absolute"),
        ("link", "link"),
        ("device", "null"),
        ("many", "more than"),
        ("bomb", "more than"),
        ("none", ""),
    ] {
        let path = server.home().join(format!("{kind}.tar.gz"));
        let made = std::process::Command::new("/usr/bin/python3")
            .args(["-I", "-c", HOSTILE, kind])
            .arg(&path)
            .output()
            .expect("python runs");
        assert!(made.status.success(), "{made:?}");
        let digest = format!("sha256:{}", String::from_utf8_lossy(&made.stdout).trim());
        let bytes = std::fs::read(&path).expect("the archive");
        let sent = server
            .control("PUT", &format!("/blobs/{digest}"))
            .body(bytes)
            .send();
        assert!(sent.status < 300, "{kind}: {sent}");
        let document = json!({ "spec": {
            "runtime": "python",
            "code": { "digest": digest, "entry": "handler.py" },
        } });
        let route = format!("/namespaces/default/functions/hostile-{kind}");
        let reply = server
            .control("PUT", &route)
            .body(document.to_string())
            .send();
        if part.is_empty() {
            // The same without what is hostile.
            assert!(reply.status < 300, "{reply}");
            continue;
        }
        refused(reply, 400, "invalid", &[part]);
        server.control("GET", &route).send().status(404);
        // Neither the bundle nor a part of it.
        let bundle = server
            .data()
            .join("bundles")
            .join(&digest["sha256:".len()..]);
        assert!(!bundle.exists(), "{kind}: {}", bundle.display());
    }
    assert!(!server.data().join("escaped.py").exists());
    assert!(!std::path::Path::new("/tmp/tidegate-escaped.py").exists());
}
