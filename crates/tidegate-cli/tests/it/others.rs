use serde_json::{Value, json};
use tidegate_cli::Diagnosis;

use crate::fake::Fake;
use crate::harness::{Home, check, error};

#[test]
fn secrets() {
    let home = Home::new();
    let file = home.file("value", "line one\nline two\n");
    let info = |size: u64| json!({ "name": "db", "namespace": "default", "size": size, "created": "2020-01-01T00:00:00Z" });
    let fake = Fake::new()
        .on("PUT /namespaces/default/secrets/db", 200, &info(3))
        .on(
            "GET /namespaces/default/secrets",
            200,
            &json!({ "items": [info(3)] }),
        )
        .on(
            "DELETE /namespaces/default/secrets/db",
            409,
            &error("secret db is used by thumbnail", "conflict"),
        )
        .on(
            "DELETE /namespaces/default/secrets/db?force=true",
            200,
            &json!({}),
        );
    let mut said = home.run(&fake, &["secret", "set", "db", "--value", "abc"]);
    said.push_str(&home.with_input(&fake, &["secret", "set", "db", "-"], "abc\n"));
    said.push_str(&home.run(&fake, &["secret", "set", "db", "--from-file", &file]));
    said.push_str(&home.run(&fake, &["secret", "set", "db"]));
    said.push_str(&home.run(&fake, &["secret", "list"]));
    said.push_str(&home.run(&fake, &["secret", "delete", "db"]));
    said.push_str(&home.run(&fake, &["secret", "delete", "db", "--force"]));
    said.push_str(&home.run(&fake, &["secret", "delete", "gone"]));
    check("secret", &said);
    let sent: Vec<Value> = fake
        .asked()
        .iter()
        .filter(|a| a.line.starts_with("PUT"))
        .map(|a| serde_json::from_slice::<Value>(&a.body).unwrap()["value"].clone())
        .collect();
    assert_eq!(sent, ["YWJj", "YWJjCg==", "bGluZSBvbmUKbGluZSB0d28K"]);
}

#[test]
fn a_namespace_has_a_list_of_what_is_reached() {
    let home = Home::new();
    let team = |annotations: serde_json::Value| json!({ "metadata": { "name": "team", "annotations": annotations } });
    let owned = json!({ "owner": "ann" });
    let listed = json!({ "owner": "ann", "tidegate.dev/egress": "a.example.org,10.0.0.0/8" });
    let fake = Fake::new()
        .on(
            "GET /namespaces",
            200,
            &json!({ "items": [team(owned.clone())] }),
        )
        .on(
            "GET /namespaces",
            200,
            &json!({ "items": [team(owned.clone())] }),
        )
        .on(
            "GET /namespaces",
            200,
            &json!({ "items": [team(listed.clone())] }),
        )
        .on("PUT /namespaces/team", 200, &team(listed.clone()));
    let mut said = String::new();
    for more in [
        &[][..],
        &["a.example.org", "10.0.0.0/8"],
        &[],
        &["--any"],
        &["--any", "a.example.org"],
    ] {
        said.push_str(&home.run(&fake, &[&["namespace", "egress", "team"], more].concat()));
    }
    said.push_str(&home.run(&fake, &["namespace", "egress", "gone"]));
    check("namespace-egress", &said);
    let sent: Vec<serde_json::Value> = fake
        .asked()
        .into_iter()
        .filter(|asked| asked.line.starts_with("PUT"))
        .map(|asked| serde_json::from_slice(&asked.body).unwrap())
        .collect();
    assert_eq!(sent, [team(listed), team(owned)]);
}

#[test]
fn triggers() {
    let home = Home::new();
    let file = home.file("body.json", "{\"kind\": \"nightly\"}");
    let made = json!({
        "apiVersion": "tidegate.dev/v1",
        "kind": "Trigger",
        "metadata": { "name": "nightly", "namespace": "default", "creationTimestamp": "2020-01-01T00:00:00Z" },
        "spec": {
            "function": "thumb", "schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "missed": "all", "jitter": "30s",
            "request": { "headers": { "x-of": "cron" }, "body": "{}" },
            "async": { "retries": 5, "retryOn": "all", "maxAge": "1h" },
        },
        "status": {
            "fired": 2, "lastTick": "2026-11-22T01:30:00Z", "lastFired": "2026-11-22T01:30:12.5Z",
            "lastInvocation": "0190-id", "nextTick": "2026-11-23T01:30:00Z",
            "upcoming": ["2026-11-23T02:30:00+01:00", "2026-11-24T02:30:00+01:00"],
        },
    });
    let mut paused = made.clone();
    paused["spec"]["paused"] = true.into();
    paused["status"] = json!({ "fired": 2 });
    let mut failing = made.clone();
    failing["status"]["error"] = "the queue has no room".into();
    let path = "/namespaces/default/triggers/nightly";
    let fake = Fake::new()
        .on(&format!("PUT {path}"), 201, &made)
        .on(
            &format!("PUT {path}"),
            409,
            &error("trigger nightly is there", "conflict"),
        )
        .on(
            "GET /namespaces/default/triggers",
            200,
            &json!({ "items": [made, paused, failing] }),
        )
        .on("GET /triggers", 200, &json!({ "items": [made] }))
        .on(&format!("GET {path}"), 200, &made)
        .on(&format!("POST {path}/pause"), 200, &paused)
        .on(&format!("POST {path}/resume"), 200, &made)
        .on(
            &format!("POST {path}/fire"),
            202,
            &json!({ "invocation": "0191-id" }),
        )
        .on(&format!("DELETE {path}"), 200, &json!({}));
    let data = format!("@{file}");
    let create = [
        "trigger",
        "create",
        "nightly",
        "--function",
        "thumb",
        "--schedule",
        "30 2 * * *",
    ];
    let more = [
        "--time-zone",
        "Europe/Berlin",
        "--missed",
        "all",
        "--jitter",
        "30s",
        "-H",
        "X-Of: cron",
        "--retries",
        "5",
        "--retry-on",
        "all",
        "--max-age",
        "1h",
        "--data",
        &data,
    ];
    let mut said = home.run(&fake, &[&create[..], &more].concat());
    said.push_str(&home.run(&fake, &create));
    said.push_str(&home.run(&fake, &["trigger", "list"]));
    said.push_str(&home.run(&fake, &["trigger", "list", "-A"]));
    said.push_str(&home.run(&fake, &["trigger", "show", "nightly"]));
    said.push_str(&home.run(&fake, &["trigger", "pause", "nightly"]));
    said.push_str(&home.run(&fake, &["trigger", "resume", "nightly"]));
    said.push_str(&home.run(&fake, &["trigger", "fire", "nightly"]));
    said.push_str(&home.run(&fake, &["trigger", "delete", "nightly"]));
    said.push_str(&home.run(&fake, &["trigger", "show", "gone"]));
    let wrong = ["trigger", "create", "a", "--function", "f", "--schedule"];
    for schedule in ["0 25 * * *", "*/5 * * * * *", "TZ=Mars @daily"] {
        said.push_str(&home.run(&fake, &[&wrong[..], &[schedule]].concat()));
    }
    check("trigger", &said);
    let asked = fake.asked();
    let put = asked.iter().find(|a| a.line.starts_with("PUT")).unwrap();
    let sent: Value = serde_json::from_slice(&put.body).unwrap();
    assert_eq!(
        sent["spec"],
        json!({
            "function": "thumb", "schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "missed": "all", "jitter": "30s",
            "request": { "headers": { "x-of": "cron" }, "body": "{\"kind\": \"nightly\"}" },
            "async": { "retries": 5, "retryOn": "all", "maxAge": "1h" },
        })
    );
}

#[test]
fn namespaces() {
    let home = Home::new();
    let team = json!({
        "apiVersion": "tidegate.dev/v1",
        "kind": "Namespace",
        "metadata": { "name": "team", "creationTimestamp": "2020-01-01T00:00:00Z" },
    });
    let fake = Fake::new()
        .on("PUT /namespaces/team", 201, &team)
        .on("GET /namespaces", 200, &json!({ "items": [team] }))
        .on(
            "DELETE /namespaces/team",
            409,
            &error("namespace team holds 2 functions", "conflict"),
        );
    let mut said = home.run(&fake, &["namespace", "create", "team"]);
    said.push_str(&home.run(&fake, &["namespace", "list"]));
    said.push_str(&home.run(&fake, &["namespace", "delete", "team"]));
    said.push_str(&home.run(&fake, &["namespace", "delete", "gone"]));
    said.push_str(&home.run(&fake, &["namespace", "delete", "gone", "--ignore-missing"]));
    check("namespace", &said);
}

#[test]
fn a_key_is_tried_kept_sent_and_forgotten() {
    let home = Home::new();
    let none = json!({ "items": [] });
    let fake = Fake::new()
        .on(
            "GET /namespaces",
            401,
            &error("the key is not known", "unauthorized"),
        )
        .on("GET /namespaces", 200, &none);
    let mut said = home.run(&fake, &["login", "--token", "wrong"]);
    said.push_str(&home.with_input(&fake, &["login", "--token-stdin"], "right\n"));
    said.push_str(&home.run(&fake, &["namespace", "list"]));
    said.push_str(&home.run(&fake, &["logout"]));
    said.push_str(&home.run(&fake, &["logout"]));
    said.push_str(&home.run(&fake, &["namespace", "list"]));
    check("login", &said);
    let sent: Vec<_> = fake.asked().into_iter().map(|a| a.authorization).collect();
    let expected = [
        Some("Bearer wrong"),
        Some("Bearer right"),
        Some("Bearer right"),
        None,
    ];
    assert_eq!(sent, expected.map(|a| a.map(str::to_owned)));
}

#[test]
fn the_environment_stands_in_for_flags() {
    let mut home = Home::new();
    let fake = Fake::new().on(
        "GET /namespaces/team/functions?limit=500",
        200,
        &json!({ "items": [], "resourceVersion": "1" }),
    );
    for (name, value) in [
        ("TIDEGATE_URL", fake.url.as_str()),
        ("TIDEGATE_TOKEN", "from-env"),
        ("TIDEGATE_NAMESPACE", "team"),
    ] {
        home.env.insert(name.to_owned(), value.into());
    }
    let said = home.plain(&["list", "--json"], "", Vec::new());
    assert_eq!(said, "exit 0\n--- stdout\n[]\n--- stderr\n");
    let asked = fake.the("GET");
    assert_eq!(asked.authorization.as_deref(), Some("Bearer from-env"));
    home.env
        .insert("TIDEGATE_NAMESPACE".to_owned(), "Not A Name".into());
    let said = home.plain(&["list"], "", Vec::new());
    assert!(said.starts_with("exit 2\n"), "{said}");
}

#[test]
fn doctor_looks_here_there_and_at_the_machine() {
    let home = Home::new();
    let info = |version: &str| {
        json!({
            "version": version,
            "runtimes": [
                { "name": "executable", "available": true, "detail": "sandboxed" },
                { "name": "python", "version": "3.11.2", "available": false, "detail": "apt install python3" },
            ],
            "capabilities": [{ "name": "cgroup memory", "state": "degraded", "detail": "a watchdog stands in" }],
        })
    };
    let fake = Fake::new()
        .on("GET /", 200, &info(env!("CARGO_PKG_VERSION")))
        .on("GET /", 200, &info("0.0.1"))
        .on("GET /namespaces", 200, &json!({ "items": [] }))
        .on("GET /namespaces", 401, &error("no key", "unauthorized"));
    let url = ["--url", &fake.url];
    let machine = || -> tidegate_cli::Checks {
        vec![Box::new(|| {
            vec![Diagnosis::warn("kernel", "older than 5.10").fix("a newer one")]
        })]
    };
    let mut said = home.plain(
        &[&url[..], &["doctor", "--token", "k"]].concat(),
        "",
        machine(),
    );
    said.push_str(&home.plain(&[&url[..], &["doctor"]].concat(), "", machine()));
    said.push_str(&home.plain(
        &["--url", "http://127.0.0.1:1", "doctor", "--json"],
        "",
        Vec::new(),
    ));
    let said = said
        .replace(&fake.url, "URL")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    check("doctor", &said);
}
