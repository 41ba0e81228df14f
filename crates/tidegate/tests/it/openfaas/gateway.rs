//! The gateway's routes on the real server: credentials, life of a function, secrets, namespaces, logs, builds.

use serde_json::{Value, json};

use super::{CLASSIC, PYTHON, server};
use crate::harness::{Server, context, eventually, signature, template, until};

fn saying(word: &str) -> String {
    format!("def handle(event, context):\n    return '{word}'\n")
}

#[test]
fn credentials_are_asked_for() {
    let server = server();
    for route in ["/system/functions", "/system/info", "/ui/"] {
        let refused = server.get(route).status(401);
        assert_eq!(refused.text(), "invalid credentials");
        assert_eq!(
            refused.header("www-authenticate"),
            Some("Basic realm=\"Restricted\"")
        );
    }
    let wrong = server
        .call("GET", "/system/functions")
        .header("authorization", "Basic YWRtaW46d3Jvbmc=")
        .send();
    wrong.status(401);
    let empty = server
        .call("GET", "/system/functions")
        .header("authorization", "Bearer")
        .send();
    empty.status(401);
    server.faas("GET", "/system/functions").send().ok();
    server.get("/healthz").ok();
    assert_eq!(server.get("/").status(307).header("location"), Some("/ui/"));
    // A page of somebody else's cannot use a browser's credentials.
    let foreign = server
        .faas("GET", "/system/functions")
        .header("origin", "https://elsewhere.example")
        .send();
    foreign.status(403);

    let open = Server::options().set("auth", "none").start();
    for header in ["Bearer ", "Bearer", "Basic x"] {
        open.call("GET", "/system/functions")
            .header("authorization", header)
            .send()
            .ok();
    }
}

#[test]
fn the_life_of_a_function() {
    let server = server();
    let deployment = json!({"service": "life", "image": "life:latest", "labels": {"a": "b"}, "annotations": {"topic": "tides"}, "limits": {"memory": "128Mi"}});
    server
        .faas_json("PUT", "/system/functions", &deployment)
        .status(404);
    let refused = server
        .faas_json("POST", "/system/functions", &deployment)
        .status(400);
    assert!(refused.text().contains("life:latest"), "{refused}");

    let source = saying("one");
    let parts = [
        ("template.yml", template(PYTHON.0, PYTHON.1)),
        ("function/handler.py", source),
    ];
    let files: Vec<(&str, &str)> = parts.iter().map(|(n, c)| (*n, c.as_str())).collect();
    server.faas_build("life:latest", &files).ok();
    server
        .faas_json("PUT", "/system/functions", &deployment)
        .status(404);
    server.faas_deploy(&deployment).status(202);
    server
        .faas_json("POST", "/system/functions", &deployment)
        .status(409);
    server.faas_ready("life");
    assert_eq!(server.faas_invoke("life", "").ok().text(), "one");

    let told = server.faas_function("life");
    assert_eq!(told["name"], "life");
    assert_eq!(told["image"], "life:latest");
    assert_eq!(told["namespace"], "openfaas-fn");
    assert_eq!(told["labels"]["a"], "b");
    assert_eq!(told["labels"]["faas_function"], "life");
    assert_eq!(told["annotations"]["topic"], "tides");
    assert_eq!(told["limits"], json!({"memory": "128Mi"}));
    assert_eq!(told.get("requests"), None);
    assert_eq!(told.get("envVars"), None);

    // The same name, other code: a deploy of the very same document runs it.
    let source = saying("two");
    let parts = [
        ("template.yml", template(PYTHON.0, PYTHON.1)),
        ("function/handler.py", source),
    ];
    let files: Vec<(&str, &str)> = parts.iter().map(|(n, c)| (*n, c.as_str())).collect();
    server.faas_build("life", &files).ok();
    server.faas_deploy(&deployment).status(202);
    until("the new code answers", || {
        server.faas_invoke("life", "").ok().text() == "two"
    });

    let gone = json!({"functionName": "life"});
    server
        .faas_json("DELETE", "/system/functions", &gone)
        .status(202);
    until("it is gone", || {
        server.faas_invoke("life", "").status == 404
    });
    server
        .faas_json("DELETE", "/system/functions", &gone)
        .status(404);
    server
        .faas("GET", "/system/function/life")
        .send()
        .status(404);
}

#[test]
fn code_and_functions_survive_a_crash() {
    let mut server = Server::options().builder().start();
    server.faas_up(
        "kept",
        CLASSIC,
        &[("handler.py", "def handle(req):\n    return 'kept ' + req\n")],
        Value::Null,
    );
    server.crash();
    server.restart();
    assert_eq!(
        server.faas_invoke("kept", "well").ok().text(),
        "kept well\n"
    );
    assert_eq!(server.faas_function("kept")["image"], "kept:latest");
    // The image is there for another function too.
    server
        .faas_deploy(&json!({"service": "again", "image": "kept"}))
        .status(202);
    server.faas_ready("again");
    assert_eq!(server.faas_invoke("again", "so").ok().text(), "kept so\n");
}

#[test]
fn namespaces_are_named_in_three_ways() {
    let server = server();
    let made =
        json!({"name": "team", "labels": {"openfaas": "1"}, "annotations": {"openfaas": "1"}});
    server
        .faas_json("POST", "/system/namespace/", &made)
        .status(201);
    server
        .faas_json("POST", "/system/namespace/", &made)
        .status(409)
        .says(&["namespace team already exists"]);
    let names = server.faas("GET", "/system/namespaces").send().ok().json();
    for name in ["openfaas-fn", "team"] {
        assert!(
            names
                .as_array()
                .is_some_and(|all| all.iter().any(|n| n == name)),
            "{names}"
        );
    }
    server.faas_up(
        "spaced",
        CLASSIC,
        &[(
            "handler.py",
            "import os\ndef handle(req):\n    return os.environ['OPENFAAS_NAMESPACE']\n",
        )],
        Value::Null,
    );
    let there = json!({"service": "spaced", "image": "spaced:latest", "namespace": "team"});
    server.faas_deploy(&there).status(202);
    until("it is ready", || {
        let told = server
            .faas("GET", "/system/function/spaced?namespace=team")
            .send()
            .ok()
            .json();
        told["availableReplicas"].as_u64().unwrap_or(0) > 0
    });
    assert_eq!(
        server.post("/function/spaced.team", "").ok().text(),
        "team\n"
    );
    assert_eq!(
        server.post("/function/spaced", "").ok().text(),
        "openfaas-fn\n"
    );
    let listed = server
        .faas("GET", "/system/functions?namespace=team")
        .send()
        .ok()
        .json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let gone = json!({"functionName": "spaced", "namespace": "team"});
    server
        .faas_json("DELETE", "/system/functions", &gone)
        .status(202);
    server.faas_invoke("spaced", "").ok();
    let gone = json!({"name": "team", "labels": {"openfaas": "1"}});
    server
        .faas_json("DELETE", "/system/namespace/team", &gone)
        .status(202);
    let names = server.faas("GET", "/system/namespaces").send().ok().json();
    assert!(!names.to_string().contains("team"), "{names}");
}

#[test]
fn a_changed_secret_is_seen() {
    let server = server();
    let secret =
        |value: &str| json!({"name": "changing", "namespace": "openfaas-fn", "value": value});
    server
        .faas_json("POST", "/system/secrets", &secret("old"))
        .status(202);
    server
        .faas_json("POST", "/system/secrets", &secret("old"))
        .status(409);
    let source =
        "def handle(event, context):\n    return open('/var/openfaas/secrets/changing').read()\n";
    server.faas_up(
        "secretive",
        PYTHON,
        &[("handler.py", source)],
        json!({"secrets": ["changing"]}),
    );
    assert_eq!(server.faas_invoke("secretive", "").ok().text(), "old");
    server
        .faas_json("PUT", "/system/secrets", &secret("new"))
        .status(202);
    until("the new value is seen", || {
        server.faas_invoke("secretive", "").ok().text() == "new"
    });
    let absent = server.faas_deploy(
        &json!({"service": "secretless", "image": "secretive", "secrets": ["nowhere"]}),
    );
    absent
        .status(400)
        .says(&["unable to fetch secrets", "nowhere"]);
    let listed = server.faas("GET", "/system/secrets").send().ok().json();
    assert!(listed.to_string().contains("changing"), "{listed}");
    assert!(!listed.to_string().contains("new\""), "{listed}");
}

#[test]
fn logs_are_lines_of_json() {
    let server = server();
    let source = "import sys\ndef handle(event, context):\n    print('said', event.body.decode(), file=sys.stderr, flush=True)\n    return 'ok'\n";
    server.faas_up("logged", PYTHON, &[("handler.py", source)], Value::Null);
    server.faas_invoke("logged", "one").ok();
    let lines = eventually("the line is there", || {
        let reply = server
            .faas("GET", "/system/logs?name=logged&follow=false&tail=-1")
            .send()
            .ok();
        assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
        let lines: Vec<Value> = reply
            .text()
            .lines()
            .map(|l| serde_json::from_str(l).expect("JSON"))
            .collect();
        lines
            .iter()
            .any(|l| l["text"].as_str().is_some_and(|t| t.contains("said one")))
            .then_some(lines)
    });
    let line = &lines[0];
    assert_eq!(line["name"], "logged");
    assert_eq!(line["namespace"], "openfaas-fn");
    assert!(line["instance"].as_str().is_some_and(|i| !i.is_empty()));
    assert!(line["timestamp"].as_str().is_some_and(|t| t.contains('T')));

    let mut followed = server
        .faas("GET", "/system/logs?name=logged&follow=true&tail=1")
        .open()
        .expect("a stream");
    server.faas_invoke("logged", "two").ok();
    let mut seen = String::new();
    while !seen.contains("said two") {
        let piece = followed.piece().expect("a piece").expect("more");
        seen.push_str(&String::from_utf8_lossy(&piece));
    }
    server
        .faas("GET", "/system/logs?name=logged&since=yesterday")
        .send()
        .status(422)
        .says(&["could not parse the log request"]);
}

#[test]
fn builds_are_signed_and_bounded() {
    let server = server();
    let described = template(PYTHON.0, PYTHON.1);
    let files = [
        ("template.yml", described.as_str()),
        (
            "function/handler.py",
            "def handle(event, context):\n    return 1\n",
        ),
    ];
    let body = context("signed:latest", &files);
    for signature in [
        None,
        Some("sha256=00".to_owned()),
        Some(signature("another key", &body)),
        Some(signature(&server.key(), b"another body")),
    ] {
        let mut call = server
            .call("POST", "/build")
            .header("accept", "application/x-ndjson");
        if let Some(signature) = &signature {
            call = call.header("x-build-signature", signature);
        }
        call.body(body.clone()).send().status(401);
    }
    let whole = server
        .call("POST", "/build")
        .header("x-build-signature", &signature(&server.key(), &body))
        .body(body)
        .send()
        .ok();
    assert_eq!(whole.json()["status"], "success", "{whole}");

    for (files, told) in [
        (vec![("template.yml", "language: cobol\n")], "cobol"),
        (vec![("function/handler.py", "x = 1\n")], "template.yml"),
        (
            vec![
                ("template.yml", described.as_str()),
                ("function/other.py", "x = 1\n"),
            ],
            "handler.py",
        ),
        (
            vec![
                ("template.yml", described.as_str()),
                (
                    "function/handler.py",
                    "def handle(event, context):\n    return 1\n",
                ),
                ("function/requirements.txt", "no-such-package-of-tides==9\n"),
            ],
            "no-such-package-of-tides",
        ),
    ] {
        let failed = server.faas_build("failing:latest", &files);
        assert_eq!(failed.status(), "failed", "{failed:#?}");
        let said = format!("{}\n{}", failed.error(), failed.log());
        assert!(said.contains(told), "{told}: {failed:#?}");
    }
    server
        .faas_deploy(&json!({"service": "failing", "image": "failing:latest"}))
        .status(400);
}

#[test]
fn a_function_belongs_to_one_dialect() {
    let server = server();
    server.faas_up(
        "theirs",
        CLASSIC,
        &[("handler.py", "def handle(req):\n    return 'theirs'\n")],
        Value::Null,
    );
    server.deploy("ours", "def handler(event):\n    return 'ours'\n", &[]);
    // Each is called through both doors, and listed by both.
    assert_eq!(server.get("/fn/theirs").ok().text(), "theirs\n");
    assert_eq!(server.get("/function/ours").ok().text(), "ours");
    let listed = server.cli(&["list"]).ok();
    assert!(listed.text().contains("theirs"), "{listed}");
    let listed = server.faas("GET", "/system/functions").send().ok().json();
    let names: Vec<&str> = listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|f| f["name"].as_str())
        .collect();
    assert!(
        names.contains(&"ours") && names.contains(&"theirs"),
        "{names:?}"
    );
    // And is changed by its own only.
    let route = "/namespaces/default/functions/theirs";
    let refused = server.control("DELETE", route).send().status(409);
    assert!(refused.text().contains("OpenFaaS"), "{refused}");
    server
        .try_deploy("theirs", "def handler(event):\n    return 'taken'\n", &[])
        .fails(&["OpenFaaS"]);
    for (method, body) in [
        ("DELETE", json!({"functionName": "ours"})),
        ("PUT", json!({"service": "ours", "image": "theirs:latest"})),
        ("POST", json!({"service": "ours", "image": "theirs:latest"})),
    ] {
        let refused = server
            .faas_json(method, "/system/functions", &body)
            .status(409);
        assert!(refused.text().contains("ours"), "{refused}");
    }
    assert_eq!(server.get("/fn/theirs").ok().text(), "theirs\n");
    assert_eq!(server.get("/fn/ours").ok().text(), "ours");
    server.cli(&["logs", "theirs"]).ok();
    // The command line knows whose it is and asks there.
    server.cli(&["delete", "theirs"]).ok();
    server.get("/function/theirs").status(404);
}
