//! What functions reach: the outside, as far as it is let in, and one another.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use serde_json::json;

use crate::harness::{Reply, Server, Shared};

static SERVER: Shared = Shared::new();

/// Fetches what the query asks for, and says what came of it.
const FETCH: &str = r#"
import socket
def handler(event):
    host, port = event.query['to'].rsplit(':', 1)
    try:
        s = socket.create_connection((host, int(port)), 10)
        s.sendall(b'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        return s.makefile('rb').read()
    except OSError as e:
        return type(e).__name__
"#;

/// Calls another by its name, and says what it said and how.
const CALL: &str = r#"
import json, urllib.request, urllib.error
def handler(event):
    r = urllib.request.Request(event.query['url'], headers={'tidegate-caller': 'forged/one', 'tidegate-cause': 'forged'})
    try:
        with urllib.request.urlopen(r, timeout=20) as a:
            return {'status': a.status, 'text': a.read().decode()}
    except urllib.error.HTTPError as e:
        return {'status': e.code, 'text': e.read().decode()}
    except OSError as e:
        return {'status': 0, 'text': str(e)}
"#;

/// Calls another from an address that it chose itself.
const CHOSEN: &str = r#"
import http.client
def handler(event):
    c = http.client.HTTPConnection('from', 80, timeout=20, source_address=('8.8.8.8', 0))
    c.request('GET', event.query['path'])
    return c.getresponse().read().decode()
"#;

/// Says where a call came from.
const FROM: &str = r#"
def handler(event):
    return event.headers.get('x-forwarded-for', '-')
"#;

/// Says who called.
const WHO: &str = r#"
def handler(event):
    h = event.headers
    return ' '.join([event.path, h.get('tidegate-caller', '-'), h.get('tidegate-cause', '-'), h.get('authorization', '-')])
"#;

/// An address of this machine's that is no loopback: what a default route leaves from. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.200:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Answers everyone who connects, for as long as the test runs.
fn far(address: &str) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let at = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else {
                return;
            };
            let mut head = [0; 1024];
            let _ = connection.read(&mut head);
            let _ = connection.write_all(b"from afar");
        }
    });
    at
}

fn fetch(server: &Server, name: &str, to: impl std::fmt::Display) -> String {
    let reply = server.get(&format!("/fn/{name}?to={to}")).ok();
    reply.text().to_owned()
}

fn call(server: &Server, name: &str, url: &str) -> (u64, String) {
    let reply: Reply = server.get(&format!("/fn/{name}?url={url}")).ok();
    let said = reply.json();
    let status = said["status"].as_u64().expect("a status");
    (status, said["text"].as_str().expect("a text").to_owned())
}

fn system_lines(server: &Server, name: &str, part: &str) {
    server.lines(name, |lines| {
        let told = |line: &serde_json::Value| {
            line["stream"] == "system" && line["text"].as_str().is_some_and(|t| t.contains(part))
        };
        lines.iter().any(told)
    });
}

#[test]
fn what_the_operator_allows_is_reached_and_this_machine_is_not() {
    let Some(own) = own_address() else {
        eprintln!("this machine has no address but loopback: nothing to reach");
        return;
    };
    let far = far(&own.to_string());
    let server = SERVER.get();
    server.deploy("fetch", FETCH, &[]);
    for (to, why) in [
        (far.to_string(), "this machine's own address"),
        ("169.254.169.254:80".to_owned(), "a link-local address"),
        ("10.255.255.1:80".to_owned(), "a private address"),
    ] {
        assert_eq!(fetch(&server, "fetch", &to), "ConnectionResetError", "{to}");
        system_lines(&server, "fetch", &format!("refused {to}: "));
        system_lines(&server, "fetch", why);
    }
    // The server itself listens on loopback, which is another one inside.
    let at = server.address;
    assert_eq!(fetch(&server, "fetch", at), "ConnectionRefusedError");

    let allowed = Server::options()
        .set("network.allow", &format!("{own}/32"))
        .start();
    allowed.deploy("fetch", FETCH, &[]);
    assert_eq!(fetch(&allowed, "fetch", far), "from afar");
    // The function's own list is one more to pass.
    let listed = |name: &str, entry: &str| {
        allowed.deploy(name, FETCH, &["--egress", entry]);
        fetch(&allowed, name, far)
    };
    assert_eq!(listed("by-network", &format!("{own}/24")), "from afar");
    assert_eq!(
        listed("by-port", &format!("{own}:1")),
        "ConnectionResetError"
    );
    assert_eq!(listed("by-name", "example.org"), "ConnectionResetError");
    system_lines(&allowed, "by-name", "no entry of the function's 'egress'");
    assert_eq!(fetch(&allowed, "by-name", "other.example:80"), "gaierror");
    system_lines(&allowed, "by-name", "refused the name other.example");
    // And so is the namespace's.
    let fence = |list: &str| {
        json!({
            "name": "fenced", "labels": { "openfaas": "1" },
            "annotations": { "openfaas": "1", "tidegate.dev/egress": list },
        })
    };
    let note = fence("10.9.9.9");
    allowed
        .faas_json("POST", "/system/namespace/fenced", &note)
        .status(201);
    allowed.deploy("fetch", FETCH, &["--namespace", "fenced"]);
    assert_eq!(fetch(&allowed, "fetch.fenced", far), "ConnectionResetError");
    // Another list counts for whatever starts once it is there.
    let network = format!("{own}/32");
    for (name, list, expected) in [
        ("wider", &*network, "from afar"),
        ("narrower", "10.9.9.9", "ConnectionResetError"),
    ] {
        allowed
            .faas_json("PUT", "/system/namespace/fenced", &fence(list))
            .status(202);
        allowed.deploy(name, FETCH, &["--namespace", "fenced"]);
        assert_eq!(fetch(&allowed, &format!("{name}.fenced"), far), expected);
    }
    let refused = allowed.faas_json("PUT", "/system/namespace/fenced", &fence("a b"));
    assert!(refused.status >= 400, "{}", refused.status);
    refused.says(&["\"a b\""]);
}

#[test]
fn none_is_none_and_off_is_off() {
    let server = SERVER.get();
    server.deploy("closed", FETCH, &["--network", "none"]);
    assert_eq!(fetch(&server, "closed", "1.1.1.1:80"), "OSError");
    let off = Server::options().set("network.outbound", "off").start();
    off.deploy("fetch", FETCH, &[]);
    assert_eq!(fetch(&off, "fetch", "1.1.1.1:80"), "OSError");
    system_lines(&off, "fetch", "network.outbound is off");
}

#[test]
fn functions_call_one_another_by_name() {
    let server = SERVER.get();
    server.cli(&["namespace", "create", "team"]).ok();
    server.deploy("caller", CALL, &[]);
    server.deploy("who", WHO, &[]);
    server.deploy("secretive", WHO, &["--access", "private"]);
    server.deploy("who", WHO, &["--namespace", "team"]);
    server.deploy(
        "secretive",
        WHO,
        &["--namespace", "team", "--access", "private"],
    );
    let reply = server.get("/fn/caller?url=http://who/a/b").ok();
    // Of the very call that was at hand, whatever the code says itself.
    let id = reply.header("x-request-id").expect("an id").to_owned();
    let text = reply.json()["text"].as_str().expect("a text").to_owned();
    assert_eq!(text, format!("/a/b default/caller {id} -"));
    for url in [
        "http://who.default/x",
        "http://who.openfaas-fn.svc.cluster.local/x",
        "http://secretive/x",
        "http://gateway:8080/function/who/x",
        "http://gateway.openfaas:8080/function/secretive/x",
        "http://who.team/x",
    ] {
        let (status, text) = call(&server, "caller", url);
        assert_eq!(status, 200, "{url}: {text}");
        assert!(text.starts_with("/x default/caller "), "{url}: {text}");
    }
    for (url, expected) in [
        // Private to others.
        ("http://secretive.team/", 401),
        ("http://gateway:8080/function/secretive.team", 401),
        // Nothing that controls the server.
        ("http://gateway:8080/system/functions", 404),
        ("http://gateway:8080/tidegate/v1/functions", 404),
        ("http://gateway:8080/metrics", 404),
        // Names that are nobody's are the outside's.
        ("http://nobody/", 0),
        ("https://who/", 0),
    ] {
        let (status, text) = call(&server, "caller", url);
        assert_eq!(status, expected, "{url}: {text}");
    }
    // An address is what the code chose, and says nothing.
    server.deploy("from", FROM, &[]);
    server.deploy("chosen", CHOSEN, &[]);
    let from = server.get("/fn/chosen?path=/").ok();
    assert_eq!(from.text(), "192.0.0.2");
    // Nobody outside can say that he is inside.
    let forged = server
        .call("GET", "/fn/who")
        .header("tidegate-caller", "default/other");
    let forged = forged.header("tidegate-cause", "x").send().ok();
    assert_eq!(forged.text(), "/ - - -");
}

#[test]
fn functions_that_call_in_a_circle_come_to_an_end() {
    let server = SERVER.get();
    server.deploy(
        "circle",
        "import urllib.request, urllib.error
def handler(event):
    try:
        with urllib.request.urlopen('http://circle/', timeout=30) as a:
            return '+' + a.read().decode()
    except urllib.error.HTTPError as e:
        return f'{e.code} {e.read().decode()}'
",
        &["--max", "40", "--concurrency", "1"],
    );
    let reply = server.get("/fn/circle").ok().says(&["508", "circle"]);
    let depth = reply.text().chars().take_while(|c| *c == '+').count();
    assert_eq!(depth, 32, "{}", reply.text());
}
