use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error, function};

const WHERE: &str = "/namespaces/default/functions";
const NEW: &str = "3f2a1b4c5d6e";
const OLD: &str = "0a1b2c3d4e5f";

fn part(revision: &str, percent: u8, tags: &[&str]) -> Value {
    json!({
        "revision": revision, "percent": percent, "tags": tags,
        "instances": { "starting": 0, "idle": 1, "busy": 1, "draining": 0, "queued": 0 },
        "invocations": 100, "errors": 2,
    })
}

/// A function with this traffic asked for, and as it is.
fn with(spec: &Value, status: &[Value]) -> Value {
    let mut document = function("wc", "Ready");
    document["spec"]["traffic"] = spec.clone();
    document["status"]["revision"] = json!(NEW);
    document["status"]["traffic"] = json!(status);
    document
}

fn revision(id: &str, number: u64, phase: &str, percent: u8, tags: &[&str]) -> Value {
    json!({
        "apiVersion": "tidegate.dev/v1",
        "kind": "Revision",
        "metadata": { "name": id, "namespace": "default", "creationTimestamp": "2020-01-01T00:00:00Z" },
        "spec": {
            "number": number, "generation": number, "cause": "deploy",
            "function": {
                "runtime": "python", "contract": "host",
                "code": { "digest": "sha256:11c2d3e4f5a6", "entry": "handler.py" },
                "limits": { "memory": "256Mi" }, "scale": { "concurrency": 1 },
                "network": "none", "access": "public",
            },
        },
        "status": {
            "phase": phase, "latest": id == NEW, "percent": percent, "tags": tags,
            "instances": { "starting": 0, "idle": 1, "busy": 0, "draining": 0, "queued": 0 },
            "invocations": 7, "errors": 1,
            "message": if phase == "Failed" { "NameError: name 'x' is not defined" } else { "" },
            "log": if phase == "Failed" { json!(["Traceback (most recent call last):", "NameError"]) } else { json!([]) },
        },
    })
}

#[test]
fn revisions_are_listed_and_described() {
    let home = Home::new();
    let bad = revision("ffffffffffff", 3, "Failed", 0, &[]);
    let fake = Fake::new()
        .on(
            &format!("GET {WHERE}/wc/revisions"),
            200,
            &json!({ "items": [bad, revision(NEW, 2, "Ready", 90, &[]), revision(OLD, 1, "RolledBack", 10, &["old"])] }),
        )
        .on(&format!("GET {WHERE}/wc"), 200, &function("wc", "Ready"))
        .on(&format!("GET {WHERE}/wc/revisions/ffffffffffff"), 200, &bad)
        .on(
            &format!("GET {WHERE}/wc/revisions/gamma"),
            404,
            &error("function \"wc\" has no revision or tag \"gamma\"; there are old", "not-found"),
        );
    let mut said = home.run(&fake, &["revisions", "wc"]);
    said.push_str(&home.run(&fake, &["describe", "wc", "--revision", "ffffffffffff"]));
    said.push_str(&home.run(&fake, &["describe", "wc", "--revision", "gamma"]));
    said.push_str(&home.run(&fake, &["revisions", "gone"]));
    check("revisions", &said);
}

#[test]
fn traffic_is_shown_and_changed() {
    let home = Home::new();
    let tagged = json!([{ "revision": OLD, "percent": 0, "tag": "old" }, { "latest": true, "percent": 100 }]);
    let before = with(&tagged, &[part(NEW, 100, &[]), part(OLD, 0, &["old"])]);
    let after = with(
        &json!([{ "revision": NEW, "percent": 90 }, { "revision": OLD, "percent": 10, "tag": "old" }]),
        &[part(NEW, 90, &[]), part(OLD, 10, &["old"])],
    );
    let fake = Fake::new()
        .on(&format!("GET {WHERE}/wc"), 200, &before)
        .on(
            &format!("GET {WHERE}/wc?waitGeneration=2&wait=20"),
            200,
            &after,
        )
        .on(&format!("PUT {WHERE}/wc/traffic?wait=20"), 200, &after);
    let mut said = String::new();
    for args in [
        &["traffic", "wc"][..],
        &["traffic", "wc", "latest=90", "0a1b2c3d4e5f=10"],
        &["traffic", "wc", "--tag", "beta=latest", "--untag", "old"],
        &["traffic", "wc", "latest=90"],
        &["traffic", "wc", "latest"],
        &["traffic", "wc", "--tag", "latest=abc"],
        &["traffic", "wc", "--untag", "nobody"],
    ] {
        said.push_str(&home.run(&fake, args));
    }
    check("traffic", &said);
    let sent: Vec<Value> = fake
        .asked()
        .iter()
        .filter(|a| a.line.starts_with("PUT"))
        .map(|a| serde_json::from_slice(&a.body).unwrap())
        .collect();
    assert_eq!(
        sent,
        [
            json!({ "traffic": [
                { "latest": true, "percent": 90 }, { "revision": OLD, "percent": 10 },
                { "revision": OLD, "percent": 0, "tag": "old" },
            ] }),
            json!({ "traffic": [
                { "latest": true, "percent": 100 }, { "revision": NEW, "percent": 0, "tag": "beta" },
            ] }),
        ]
    );
}

#[test]
fn promotion_and_rollback_say_what_came_of_them() {
    let home = Home::new();
    let pinned = json!([{ "revision": OLD, "percent": 100 }]);
    let back = with(&pinned, &[part(OLD, 100, &[])]);
    let all = with(&json!([]), &[part(NEW, 100, &[])]);
    let mut rolling = all.clone();
    rolling["status"]["rollout"] =
        json!({ "revision": NEW, "from": OLD, "percent": 1, "phase": "Running" });
    let mut stuck = with(&pinned, &[part(NEW, 100, &[])]);
    stuck["status"]["phase"] = json!("Failed");
    stuck["status"]["message"] = json!("no module named numpy");
    let settled = format!("GET {WHERE}/wc?waitGeneration=2&wait=20");
    let fake = Fake::new()
        .on(&format!("GET {WHERE}/wc"), 200, &all)
        .on(&settled, 200, &back)
        .on(&settled, 200, &all)
        .on(&settled, 200, &rolling)
        .on(&settled, 200, &stuck)
        .on(&format!("POST {WHERE}/wc/rollback?wait=20"), 200, &back)
        .on(&format!("POST {WHERE}/wc/promote?wait=20"), 200, &all);
    let mut said = String::new();
    for args in [
        &["rollback", "wc"][..],
        &["promote", "wc"],
        &[
            "promote",
            "wc",
            NEW,
            "--over",
            "10m",
            "--max-errors",
            "2.5%",
        ],
        &["rollback", "wc", "--to", OLD],
        &["promote", "wc", "--max-errors", "2%"],
        &["promote", "wc", "--over", "10m", "--max-errors", "many"],
    ] {
        said.push_str(&home.run(&fake, args));
    }
    check("promote-rollback", &said);
    let sent: Vec<Value> = fake
        .asked()
        .iter()
        .filter(|a| a.line.starts_with("POST"))
        .map(|a| serde_json::from_slice(&a.body).unwrap())
        .collect();
    assert_eq!(
        sent,
        [
            json!({}),
            json!({ "revision": "latest" }),
            json!({ "revision": NEW, "rollout": { "over": "10m", "maxErrorRate": 0.025 } }),
            json!({ "to": OLD }),
        ]
    );
}

#[test]
fn a_deploy_that_meets_another_is_told_and_so_is_one_that_was_overtaken() {
    let home = Home::new();
    let path = home.file("wc.py", "def handler(event, context):\n    return 'hi'\n");
    let digest = tidegate_build::pack(
        std::path::Path::new(&path),
        &tidegate_build::PackOptions::default(),
    )
    .unwrap()
    .digest;
    let mut other = function("wc", "Ready");
    other["metadata"]["generation"] = json!(3);
    other["spec"]["code"]["digest"] = json!("sha256:another");
    let fake = || Fake::new().on(&format!("HEAD /blobs/{digest}"), 200, &json!({}));
    let met = fake()
        .on(&format!("GET {WHERE}/wc"), 200, &function("wc", "Ready"))
        .on(&format!("GET {WHERE}/wc"), 200, &other)
        .on(
            &format!("PUT {WHERE}/wc"),
            409,
            &error("changed meanwhile", "conflict"),
        );
    let mut said = home.run(&met, &["deploy", &path]);
    let overtaken = fake()
        .on(&format!("GET {WHERE}/wc"), 200, &function("wc", "Ready"))
        .on(&format!("PUT {WHERE}/wc"), 200, &function("wc", "Pending"))
        .on(&format!("GET {WHERE}/wc?waitGeneration=2&wait=20"), 200, &{
            let mut pending = other.clone();
            pending["status"]["phase"] = json!("Pending");
            pending["status"]["observedGeneration"] = json!(1);
            pending
        });
    said.push_str(&home.run(&overtaken, &["deploy", &path]));
    let alone = fake();
    said.push_str(&home.run(&alone, &["deploy", &path, "--traffic", "10"]));
    check("deploy-met", &said);
}
