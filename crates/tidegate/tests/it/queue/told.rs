//! Who hears of an end: functions and addresses, and circles of them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::channel;

use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{
    ECHO, MOODY, SERVER, accepted, later, receive, receiver, result, rules, start, until_state,
};
use crate::harness::{Server, eventually};

/// Prints what it is told, and how.
const HEAR: &str = "
def handler(event):
    h = event.headers
    print(event.path, h.get('tidegate-attempt', '-'), h.get('tidegate-caller', '-'), event.body.decode())
    return 'heard'
";

/// What a function has printed, once it has printed something.
fn heard(server: &Server, function: &str) -> Vec<String> {
    let lines = server.lines(function, |lines| !lines.is_empty());
    let texts = lines.iter().filter_map(|line| line["text"].as_str());
    texts.map(str::to_owned).collect()
}

/// The newest dead letter of a function, once there is one.
fn dead_of(server: &Server, function: &str) -> Value {
    let route = format!("/dead-letters?function={function}");
    eventually(&format!("a dead letter of {function}"), || {
        let found = server.control("GET", &route).send().ok().json();
        found["items"].as_array()?.first().cloned()
    })
}

#[test]
fn destinations_are_told_of_good_ends_and_bad_ones() {
    let server = SERVER.get_or(start);
    let (address, told) = receiver();
    server.deploy("told-audit", HEAR, &[]);
    server.deploy("told-alarm", HEAR, &[]);
    server.deploy("told-moody", MOODY, &[]);
    let to = |to: &str| json!({ "retries": 0, "onSuccess": "told-audit", "onFailure": to });
    rules(&server, "told-moody", to("told-alarm.default"));
    let good = accepted(later(&server, "/fn/told-moody", "well").send());
    let bad = accepted(later(&server, "/fn/told-moody", "fail").send());
    for (function, id, done, outcome) in [
        ("told-audit", &good, true, "ok"),
        ("told-alarm", &bad, false, "function"),
    ] {
        let lines = heard(&server, function);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let told = lines[0].strip_prefix("/ 1 - ").expect(function);
        let told: Value = serde_json::from_str(told).expect("a document");
        assert_eq!(told["id"].as_str().expect("an id").replace('-', ""), **id);
        assert_eq!(
            (&told["done"], &told["outcome"]),
            (&json!(done), &json!(outcome))
        );
        assert_eq!(told["function"], "told-moody");
    }
    rules(
        &server,
        "told-moody",
        to(&format!("http://{address}/failed")),
    );
    let bad = accepted(later(&server, "/fn/told-moody", "fail").send());
    let got = receive(&told);
    assert_eq!(got.line, "POST /failed HTTP/1.1");
    let document: Value = serde_json::from_str(&got.body).expect("a document");
    assert_eq!(document["request"]["body"], "fail", "{document}");
    // The last outcome is kept with what was given up.
    let dead = until_state(&server, &bad, "dead");
    assert_eq!(dead["outcome"], "function");
    let letter = server
        .control("GET", &format!("/dead-letters/{bad}"))
        .send();
    assert_eq!(letter.ok().json()["outcome"], "function");
}

#[test]
fn a_callback_to_a_function_is_a_call_under_the_functions_own_rules() {
    let server = SERVER.get_or(start);
    server.deploy("told-open", ECHO, &[]);
    server.deploy("told-sink", HEAR, &[]);
    server.deploy("told-hook", MOODY, &[]);
    let quick = json!({ "retries": 1, "backoff": "10ms", "jitter": "none" });
    rules(&server, "told-hook", quick);
    // What code inside names, whichever door the call came through.
    let reply = later(&server, "/fn/told-open", "hello")
        .header(
            "x-callback-url",
            "http://gateway:8080/function/told-sink/a?b=c",
        )
        .send();
    accepted(reply);
    assert_eq!(heard(&server, "told-sink"), ["/a 1 - POST / hello"]);
    // Its answer is what a function gets that fails with it.
    server.deploy("told-fail", "def handler(event):\n    return 'fail'\n", &[]);
    let reply = server
        .call("POST", "/async-function/told-fail")
        .header(
            "x-callback-url",
            "http://gateway.openfaas:8080/async-function/told-hook",
        )
        .send();
    reply.status(202);
    let dead = dead_of(&server, "told-hook");
    assert_eq!(
        (&dead["tries"], &dead["reason"]),
        (&json!(2), &json!("failed")),
        "{dead}"
    );
}

#[test]
fn circles_of_destinations_are_cut() {
    let server = SERVER.get_or(start);
    let code = "def handler(event):\n    print('ran')\n";
    server.deploy("told-one", code, &[]);
    server.deploy("told-two", code, &[]);
    rules(&server, "told-two", json!({ "onSuccess": "told-one" }));
    rules(&server, "told-one", json!({ "onSuccess": "told-two" }));
    accepted(later(&server, "/fn/told-one", "go").send());
    // The first has none before it, the last thirty-two; the next would be told-two's seventeenth.
    let dead = dead_of(&server, "told-two");
    assert_eq!(dead["reason"], "refused", "{dead}");
    let why = dead["message"].as_str().expect("a reason");
    assert!(why.contains("taken for a circle"), "{why}");
    for (function, times) in [("told-one", 17), ("told-two", 16)] {
        let lines = server.lines(function, |lines| lines.len() >= times);
        assert_eq!(lines.len(), times, "{function}");
    }
}

#[test]
fn circles_of_those_who_hear_of_failures_are_cut() {
    let server = SERVER.get_or(start);
    let code = "def handler(event):\n    raise ValueError('always')\n";
    let pair = ["told-wail", "told-moan"];
    for function in pair {
        server.deploy(function, code, &[]);
    }
    for (function, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
        rules(
            &server,
            function,
            json!({ "retries": 0, "onFailure": other }),
        );
    }
    accepted(later(&server, "/fn/told-wail", "go").send());
    // Thirty-three fail, one after the other; the next is refused, of which nobody is told.
    for (function, letters, refused) in [(pair[0], 17, 0), (pair[1], 17, 1)] {
        let route = format!("/dead-letters?function={function}&limit=1000");
        let found = eventually(&format!("dead letters of {function}"), || {
            let found = server.control("GET", &route).send().ok().json();
            let queued = server
                .control("GET", &format!("/queue?function={function}"))
                .send();
            let rests = queued.ok().json()["items"].as_array()?.is_empty();
            let count = found["items"].as_array()?.len();
            (rests && count >= letters).then_some(found)
        });
        let items = found["items"].as_array().expect("a list");
        assert_eq!(items.len(), letters, "{function}");
        let of_refused = items.iter().filter(|item| item["reason"] == "refused");
        assert_eq!(of_refused.count(), refused, "{function}");
    }
}

#[test]
fn a_function_that_calls_itself_later_is_cut_and_told() {
    let server = SERVER.get_or(start);
    server.deploy(
        "told-self",
        "import urllib.request, urllib.error
def handler(event):
    r = urllib.request.Request('http://told-self/', b'', {'prefer': 'respond-async'})
    try:
        with urllib.request.urlopen(r, timeout=30) as a:
            print(a.status)
    except urllib.error.HTTPError as e:
        print(e.code, e.read().decode().strip())
",
        &["--concurrency", "1"],
    );
    accepted(later(&server, "/fn/told-self", "").send());
    let is_cut = |line: &Value| {
        line["text"]
            .as_str()
            .is_some_and(|text| text.starts_with("508"))
    };
    let lines = server.lines("told-self", |lines| lines.iter().any(is_cut));
    let text = |line: &Value| line["text"].as_str().unwrap_or_default().to_owned();
    let texts: Vec<String> = lines.iter().map(text).collect();
    assert_eq!(
        texts.iter().filter(|text| *text == "202").count(),
        32,
        "{texts:?}"
    );
    assert_eq!(texts.len(), 33);
    assert!(texts[32].contains("circle"), "{texts:?}");
}

#[test]
fn what_was_given_up_of_openfaas_is_sent_again_and_its_callback_with_it() {
    let server = SERVER.get_or(start);
    let (address, told) = receiver();
    server.deploy("told-faas", MOODY, &[]);
    rules(&server, "told-faas", json!({ "retries": 0 }));
    let call = |path: &str| {
        server
            .call("POST", "/async-function/told-faas")
            .header("x-callback-url", &format!("http://{address}{path}"))
            .header("x-call-id", "mine")
            .body("fail")
            .send()
            .status(202)
    };
    assert_eq!(call("/one").header("x-call-id"), Some("mine"));
    let first = receive(&told);
    assert_eq!(first.headers["x-call-id"], "mine");
    assert_eq!(first.headers["x-function-status"], "500");
    let dead = dead_of(&server, "told-faas");
    assert_eq!(dead["status"], 500, "{dead}");
    server.deploy("told-faas", "def handler(event):\n    return 'fine'\n", &[]);
    let redrive = json!({ "function": "told-faas" }).to_string();
    let sent = server
        .control("POST", "/dead-letters/redrive")
        .body(redrive)
        .send();
    assert_eq!(sent.ok().json(), json!({ "count": 1 }));
    let second = receive(&told);
    assert_eq!(second.line, "POST /one HTTP/1.1");
    assert_eq!(
        (&*second.body, &*second.headers["x-call-id"]),
        ("fine", "mine")
    );
    assert_eq!(second.headers["x-function-status"], "200");
    assert_eq!(
        result(&server, dead["id"].as_str().expect("an id")).text(),
        "fine"
    );
    // Thrown away, it is gone.
    server.deploy("told-faas", MOODY, &[]);
    call("/two");
    assert_eq!(receive(&told).headers["x-function-status"], "500");
    dead_of(&server, "told-faas");
    let of = "/dead-letters?function=told-faas";
    let purged = server.control("DELETE", of).send().ok().json();
    assert_eq!(purged, json!({ "count": 1 }));
    let left = server.control("GET", of).send().ok().json();
    assert_eq!(left["items"], json!([]));
}

#[test]
fn a_callback_by_https_is_sent_to_whom_the_machine_trusts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = crate::protocols::certificate(folder.path());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_no_client_auth()
    .with_single_cert(
        vec![rustls_pki_types::CertificateDer::from_pem_file(&certificate).expect("a certificate")],
        rustls_pki_types::PrivateKeyDer::from_pem_file(&key).expect("a key"),
    )
    .expect("a configuration");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = channel();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut reader = BufReader::new(rustls::StreamOwned::new(session, stream));
            let (mut line, mut length) = (String::new(), 0);
            // Whoever does not trust us hangs up.
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if length == 0 || reader.read_exact(&mut body).is_err() {
                continue;
            }
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            let _ = reader.get_mut().write_all(answer);
            if tell
                .send(String::from_utf8_lossy(&body).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    // The machine's roots of trust are this one alone, as an operator with a CA of his own would have it.
    let server = Server::options()
        .set("queue.callbacks-allow", "localhost,127.0.0.1")
        .env("SSL_CERT_FILE", certificate.to_str().expect("text"))
        .start();
    server.deploy("secret", ECHO, &[]);
    let reply = later(&server, "/fn/secret", "hello")
        .header("x-callback-url", &format!("https://localhost:{port}/"))
        .send();
    accepted(reply);
    let body = told.recv_timeout(std::time::Duration::from_secs(20));
    assert_eq!(body.expect("somebody is told"), "POST / hello");
}
