//! Calls that are made later: accepted, run, tried again, given up, told of, and never lost.

mod rules;
mod told;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Call, Reply, Server, Shared, eventually, is_root, until};

static SERVER: Shared = Shared::new();

/// Callbacks go to this machine in tests.
fn start() -> Server {
    Server::options()
        .set("queue.callbacks-allow", "127.0.0.1")
        .start()
}

/// Answers with what it was sent, and how.
const ECHO: &str = "
def handler(event):
    text = '%s %s %s' % (event.method, event.path, event.body.decode())
    return text, 201, {'x-mine': event.headers.get('x-tag', '-')}
";

/// Fails while a file that everybody can see says so.
const MOODY: &str = "
import urllib.request
def handler(event):
    if event.body == b'fail':
        raise ValueError('as it was told')
    return 'fine'
";

const SLOW: &str = "
import time
def handler(event):
    time.sleep(float(event.body or b'0'))
    print('ran', event.query.get('n', '-'))
    return 'slept'
";

fn later(server: &Server, path: &str, body: &str) -> Call {
    server
        .call("POST", path)
        .header("prefer", "respond-async")
        .body(body)
}

#[track_caller]
fn accepted(reply: Reply) -> String {
    let reply = reply.status(202);
    assert_eq!(reply.header("preference-applied"), Some("respond-async"));
    let id = reply.header("x-request-id").expect("an id").to_owned();
    assert_eq!(
        reply.header("location"),
        Some(format!("/tidegate/v1/queue/{id}").as_str())
    );
    id
}

fn state(server: &Server, id: &str) -> Value {
    let reply = server.control("GET", &format!("/queue/{id}")).send();
    reply.ok().json()
}

/// Waits until it is so.
#[track_caller]
fn until_state(server: &Server, id: &str, wanted: &str) -> Value {
    eventually(&format!("{id} is {wanted}"), || {
        let found = state(server, id);
        (found["state"] == wanted).then_some(found)
    })
}

fn result(server: &Server, id: &str) -> Reply {
    until_state(server, id, "done");
    server
        .control("GET", &format!("/queue/{id}/result"))
        .send()
        .ok()
}

/// Sets what the document says of later calls.
fn rules(server: &Server, function: &str, rules: Value) {
    server.change(function, |spec| spec["async"] = rules).ok();
}

/// A request as a receiver of callbacks got it.
struct Received {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Takes requests and answers each with 200.
fn receiver() -> (SocketAddr, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut head = reader.by_ref().lines().map_while(Result::ok);
            let Some(line) = head.next() else { continue };
            let headers: BTreeMap<String, String> = head
                .take_while(|line| !line.is_empty())
                .filter_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
                })
                .collect();
            let length = headers.get("content-length").and_then(|l| l.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = (&stream).write_all(answer);
            let body = String::from_utf8_lossy(&body).into_owned();
            if tell
                .send(Received {
                    line,
                    headers,
                    body,
                })
                .is_err()
            {
                return;
            }
        }
    });
    (address, told)
}

#[track_caller]
fn receive(told: &Receiver<Received>) -> Received {
    told.recv_timeout(Duration::from_secs(20))
        .expect("somebody is told")
}

#[test]
fn what_is_accepted_runs_and_its_answer_can_be_fetched() {
    let server = SERVER.get_or(start);
    server.deploy("later-echo", ECHO, &[]);
    let reply = later(&server, "/fn/later-echo/a/b?c=d", "hello")
        .header("x-tag", "mine")
        .send();
    let id = accepted(reply);
    let answer = result(&server, &id);
    assert_eq!(answer.text(), "POST /a/b hello");
    assert_eq!(answer.header("x-tidegate-status"), Some("201"));
    let found = state(&server, &id);
    assert_eq!(found["function"], "later-echo");
    assert_eq!(
        (&found["tries"], &found["outcome"]),
        (&json!(1), &json!("ok"))
    );
    // Each try has a record of its own.
    let route = format!("/records?parent={id}");
    let records = server.control("GET", &route).send().ok().json();
    let record = &records["items"][0];
    assert_eq!(record["cause"]["kind"], "queue", "{records}");
    assert_eq!(record["cause"]["attempt"], 1);
}

#[test]
fn a_body_that_is_too_large_for_memory_is_kept_on_disk_and_one_that_is_too_large_is_refused() {
    let server = SERVER.get_or(start);
    server.deploy(
        "later-size",
        "def handler(event):\n    return str(len(event.body))\n",
        &[],
    );
    server
        .change("later-size", |spec| {
            spec["limits"] = json!({ "body": "4Mi" });
        })
        .ok();
    let id = accepted(later(&server, "/fn/later-size", &"x".repeat(3 << 20)).send());
    assert_eq!(result(&server, &id).text(), (3 << 20).to_string());
    let refused = later(&server, "/fn/later-size", &"x".repeat(5 << 20)).send();
    assert!(refused.status(413).text().contains("4194304 bytes"));
}

#[test]
fn the_same_key_is_the_same_call() {
    let server = SERVER.get_or(start);
    server.deploy("later-once", SLOW, &[]);
    let send = |body: &str| {
        later(&server, "/fn/later-once?n=once", body)
            .header("idempotency-key", "order-1")
            .send()
            .status(202)
    };
    let (first, second) = (send("0"), send("0"));
    assert_eq!(first.header("x-request-id"), second.header("x-request-id"));
    assert_eq!(first.header("x-tidegate-duplicate"), None);
    assert_eq!(second.header("x-tidegate-duplicate"), Some("true"));
}

#[test]
fn one_that_waits_is_cancelled_and_one_that_runs_is_stopped() {
    let server = SERVER.get_or(start);
    server.deploy("later-cancel", SLOW, &[]);
    let waiting = later(&server, "/fn/later-cancel", "0")
        .header("x-tidegate-delay", "1h")
        .send();
    let waiting = accepted(waiting);
    assert_eq!(state(&server, &waiting)["state"], "waiting");
    let running = accepted(later(&server, "/fn/later-cancel", "60").send());
    server.until_busy("later-cancel", 1);
    for id in [&waiting, &running] {
        server
            .control("DELETE", &format!("/queue/{id}"))
            .send()
            .status(204);
        assert_eq!(until_state(&server, id, "cancelled")["state"], "cancelled");
        server
            .control("GET", &format!("/queue/{id}/result"))
            .send()
            .status(410);
    }
    until("it is stopped", || {
        server.count("later-cancel", "busy") == 0
    });
}

#[test]
fn what_fails_is_tried_again_given_up_and_sent_again() {
    let server = SERVER.get_or(start);
    server.deploy("later-moody", MOODY, &[]);
    let quick = json!({ "retries": 2, "backoff": "10ms", "jitter": "none" });
    rules(&server, "later-moody", quick);
    let id = accepted(later(&server, "/fn/later-moody", "fail").send());
    let dead = until_state(&server, &id, "dead");
    assert_eq!((&dead["tries"], &dead["failures"]), (&json!(3), &json!(3)));
    assert_eq!(dead["reason"], "failed");
    let letter = server.control("GET", &format!("/dead-letters/{id}")).send();
    let letter = letter.ok().json();
    assert_eq!(letter["request"]["body"], "fail", "{letter}");
    let of = "/dead-letters?function=later-moody";
    let listed = server.control("GET", of).send().ok().json();
    assert_eq!(listed["items"][0]["id"], id.as_str());
    // The function is mended, and what was given up is sent again.
    server.deploy(
        "later-moody",
        "def handler(event):\n    return 'fine'\n",
        &[],
    );
    let sent = server
        .control("POST", "/dead-letters/redrive")
        .body(json!({ "function": "later-moody" }).to_string())
        .send()
        .ok();
    assert_eq!(sent.json(), json!({ "count": 1 }));
    assert_eq!(result(&server, &id).text(), "fine");
    let purged = server.control("DELETE", of).send().ok().json();
    assert_eq!(purged, json!({ "count": 0 }));
}

#[test]
fn calls_of_one_key_are_made_one_after_another() {
    let server = SERVER.get_or(start);
    server.deploy("later-order", SLOW, &["--concurrency", "4"]);
    let ids: Vec<String> = (0..6)
        .map(|n| {
            // Each is shorter than the one before.
            let body = format!("{:.2}", 0.3 - 0.05 * f64::from(n));
            let reply = later(&server, &format!("/fn/later-order?n={n}"), &body)
                .header("x-tidegate-order-key", "k")
                .send();
            accepted(reply)
        })
        .collect();
    for id in &ids {
        until_state(&server, id, "done");
    }
    let lines = server.lines("later-order", |lines| lines.len() >= 6);
    let order: Vec<&str> = lines.iter().filter_map(|l| l["text"].as_str()).collect();
    assert_eq!(
        order,
        ["ran 0", "ran 1", "ran 2", "ran 3", "ran 4", "ran 5"]
    );
}

#[test]
fn a_callback_gets_the_answer() {
    let server = SERVER.get_or(start);
    server.deploy("later-told", ECHO, &[]);
    let (address, told) = receiver();
    let reply = later(&server, "/fn/later-told", "hello")
        .header("x-callback-url", &format!("http://{address}/done?x=1"))
        .send();
    let id = accepted(reply);
    let got = receive(&told);
    assert_eq!(got.line, "POST /done?x=1 HTTP/1.1");
    assert_eq!(got.body, "POST / hello");
    assert_eq!(got.headers["tidegate-invocation"].replace('-', ""), id);
    assert_eq!(got.headers["tidegate-status"], "201");
    assert!(got.headers["x-tidegate-signature"].starts_with("sha256="));
    // What is between us and our doors is nobody else's.
    let ours = |name: &&String| name.starts_with("x-tidegate-door");
    assert_eq!(got.headers.keys().find(ours), None);
    // Addresses of this machine are refused unless the operator lets them be told, and at once.
    let refused = later(&server, "/fn/later-told", "hello")
        .header("x-callback-url", "http://169.254.169.254/")
        .send();
    refused.status(400);
}

#[test]
fn openfaas_clients_get_theirs() {
    let server = SERVER.get_or(start);
    server.deploy("later-faas", ECHO, &[]);
    let (address, told) = receiver();
    let reply = server
        .call("POST", "/async-function/later-faas.openfaas-fn/sub?q=1")
        .header("x-callback-url", &format!("http://{address}/hook"))
        .header("x-tag", "kept")
        .header("user-agent", "curl")
        .body("hi")
        .send()
        .status(202);
    assert_eq!(reply.text(), "");
    let id = reply.header("x-call-id").expect("an id").to_owned();
    assert!(reply.header("x-start-time").is_some() && reply.header("x-served-by").is_some());
    let got = receive(&told);
    assert_eq!(got.line, "POST /hook HTTP/1.1");
    assert_eq!(got.body, "POST /sub hi");
    assert_eq!(got.headers["x-call-id"], id);
    assert_eq!(got.headers["x-function-status"], "201");
    assert_eq!(got.headers["x-function-name"], "later-faas.openfaas-fn");
    assert_eq!(got.headers["x-mine"], "kept");
    assert!(got.headers["x-duration-seconds"].parse::<f64>().is_ok());
    // One that waits can be cancelled by its call id; a second time there is none.
    server.post("/async-function/nobody", "").status(404);
    server.get("/async-function/later-faas").status(405);
    let bad = server
        .call("POST", "/async-function/later-faas")
        .header("x-callback-url", "not a url")
        .send();
    bad.status(400);
    server
        .call("DELETE", &format!("/async-function/{id}"))
        .send()
        .status(404);
}

#[test]
fn what_is_private_is_neither_called_nor_cancelled_by_strangers() {
    let server = SERVER.get_or(start);
    server.deploy("later-open", ECHO, &[]);
    server.deploy("later-closed", ECHO, &[]);
    let close = |spec: &mut Value| spec["access"] = json!("private");
    server.change("later-closed", close).ok();
    // The answer of a function that everybody may call would be a request to one that only some may.
    for gateway in ["gateway:8080", "gateway.openfaas.svc.cluster.local:8080"] {
        let reply = later(&server, "/fn/later-open", "as I like")
            .header(
                "x-callback-url",
                &format!("http://{gateway}/function/later-closed/any"),
            )
            .send();
        let reply = reply.status(400);
        let text = reply.text();
        assert!(text.contains("later-closed is private"), "{text}");
    }
    // Nor is it called where it was made private after the call was accepted.
    server.deploy("later-closing", ECHO, &[]);
    let reply = later(&server, "/fn/later-open", "as I like")
        .header("x-tidegate-delay", "2s")
        .header(
            "x-callback-url",
            "http://gateway:8080/function/later-closing",
        )
        .send();
    accepted(reply);
    server.change("later-closing", close).ok();
    let dead = "/dead-letters?function=later-open&reason=refused";
    eventually("the callback is given up", || {
        let found = server.control("GET", dead).send().ok().json();
        let found = found["items"].as_array().cloned().unwrap_or_default();
        found.first().map(|letter| {
            let why = letter["message"].as_str().unwrap_or_default().to_owned();
            assert!(why.contains("later-closing is private"), "{letter}");
        })
    });
    // What came through another door is not the gateway's to cancel, though an idempotency key may tell its id.
    let waiting = later(&server, "/fn/later-open", "mine")
        .header("x-tidegate-delay", "1h")
        .send();
    let id = accepted(waiting);
    let cancel = |id: &str| server.call("DELETE", &format!("/async-function/{id}"));
    cancel(&id).send().status(404);
    assert_eq!(state(&server, &id)["state"], "waiting");
    server.control("DELETE", &format!("/queue/{id}")).send();
    // A call that would never be made is not accepted.
    let never = later(&server, "/fn/later-open", "").header("x-tidegate-max-age", "0s");
    never.send().status(400);
}

#[test]
fn what_was_accepted_runs_after_a_kill() {
    let mut server = Server::start();
    server.deploy("survivor", SLOW, &[]);
    let first = accepted(later(&server, "/fn/survivor?n=1", "0.5").send());
    let ids: Vec<String> = (0..20)
        .map(|_| accepted(later(&server, "/fn/survivor", "0").send()))
        .collect();
    server.crash();
    server.restart();
    for id in ids.iter().chain([&first]) {
        assert_eq!(result(&server, id).text(), "slept");
    }
}

#[test]
fn triggers_fire() {
    let server = SERVER.get_or(start);
    server.deploy("later-tick", SLOW, &[]);
    let route = "/namespaces/default/triggers/later-tick";
    let trigger = json!({ "metadata": { "name": "later-tick" },
        "spec": { "function": "later-tick", "schedule": "@every 1s", "request": { "path": "/?n=tick", "body": "0" } } });
    server
        .control("PUT", route)
        .body(trigger.to_string())
        .send()
        .status(201);
    let lines = server.lines("later-tick", |lines| lines.len() >= 2);
    assert!(
        lines.iter().all(|line| line["text"] == "ran tick"),
        "{lines:?}"
    );
    let records = server
        .control("GET", "/records?function=later-tick")
        .send()
        .ok()
        .json();
    let cause = &records["items"][0]["cause"];
    assert_eq!(cause["kind"], "schedule", "{records}");
    assert_eq!(cause["name"], "later-tick");
    server.control("DELETE", route).send();
}

#[test]
fn a_function_that_is_gone_leaves_a_dead_letter() {
    let server = SERVER.get_or(start);
    server.deploy("later-gone", SLOW, &[]);
    let reply = later(&server, "/fn/later-gone", "0")
        .header("x-tidegate-delay", "1s")
        .send();
    let id = accepted(reply);
    server.cli(&["delete", "later-gone"]).ok();
    let dead = until_state(&server, &id, "dead");
    assert_eq!(dead["reason"], "refused");
    let message = dead["message"].as_str().unwrap_or_default();
    assert!(message.contains("does not exist"), "{dead}");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    let server = Server::options().data(&disk.0.path().join("data")).start();
    server.deploy("full", SLOW, &[]);
    let ballast = disk.0.path().join("ballast");
    disk.fill(&ballast);
    let body = "0".to_owned() + &" ".repeat(512 * 1024);
    let refused = eventually("nothing more is accepted", || {
        let reply = later(&server, "/fn/full", &body)
            .header("x-tidegate-delay", "1h")
            .send();
        (reply.status != 202).then_some(reply)
    });
    let refused = refused.status(503);
    assert!(refused.header("retry-after").is_some());
    std::fs::remove_file(&ballast).expect("the ballast goes");
    let id = eventually("it takes calls again", || {
        let reply = later(&server, "/fn/full", "0").send();
        (reply.status == 202).then(|| accepted(reply))
    });
    assert_eq!(result(&server, &id).text(), "slept");
}

/// A small disk.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.expect("mount runs").success());
        Self(folder)
    }

    /// Takes what is left of it.
    fn fill(&self, ballast: &std::path::Path) {
        let mut file = std::fs::File::create(ballast).expect("a file");
        let block = vec![0; 64 * 1024];
        while file.write_all(&block).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}
