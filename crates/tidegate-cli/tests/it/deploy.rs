use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error, function};

const HANDLER: &str = "def handler(event, context):\n    return 'hi'\n";
const WHERE: &str = "/namespaces/default/functions";

/// The digest that the handler has, as the file `name`.
fn digest(home: &Home, name: &str) -> String {
    let path = home.path().join(name);
    tidegate_build::pack(&path, &tidegate_build::PackOptions::default())
        .unwrap()
        .digest
}

fn wait(name: &str, generation: u64) -> String {
    format!("GET {WHERE}/{name}?waitGeneration={generation}&wait=20")
}

/// A server where the function is not there yet, and becomes what is given.
fn fresh(home: &Home, file: &str, name: &str, outcome: &Value) -> Fake {
    Fake::new()
        .on(
            &format!("PUT /blobs/{}", digest(home, file)),
            201,
            &json!({}),
        )
        .on(
            &format!("PUT {WHERE}/{name}"),
            201,
            &function(name, "Pending"),
        )
        .on(&wait(name, 2), 200, &function(name, "Pending"))
        .on(&wait(name, 2), 200, outcome)
}

#[test]
fn a_new_function_is_uploaded_written_and_awaited() {
    let home = Home::new();
    let path = home.file("Thumb_Nail.py", HANDLER);
    let fake = fresh(
        &home,
        "Thumb_Nail.py",
        "thumb-nail",
        &function("thumb-nail", "Ready"),
    );
    let said = home.run(
        &fake,
        &[
            "deploy", &path, "--memory", "128Mi", "--env", "A=1", "--secret", "db=DB", "--max",
            "4", "--label", "app=x",
        ],
    );
    check("deploy-new", &said);
    let lines: Vec<String> = fake.asked().into_iter().map(|a| a.line).collect();
    check("deploy-new-requests", &lines.join("\n"));
    let put = fake.the(&format!("PUT /tidegate/v1{WHERE}/thumb-nail"));
    let sent: Value = serde_json::from_slice(&put.body).unwrap();
    check(
        "deploy-new-document",
        &serde_json::to_string_pretty(&sent).unwrap(),
    );
    let blob = fake.the("PUT /tidegate/v1/blobs/");
    assert_eq!(blob.content_type.as_deref(), Some("application/gzip"));
    let uploaded = tidegate_build::digest(&blob.body[..]).unwrap();
    assert!(blob.line.ends_with(&uploaded));
}

#[test]
fn known_code_is_not_uploaded_and_earlier_settings_are_kept() {
    let home = Home::new();
    let path = home.file("thumbnail.py", HANDLER);
    let build = || {
        Fake::new()
            .on(
                &format!("HEAD /blobs/{}", digest(&home, "thumbnail.py")),
                200,
                &json!({}),
            )
            .on(
                &format!("GET {WHERE}/thumbnail"),
                200,
                &function("thumbnail", "Ready"),
            )
            .on(
                &format!("PUT {WHERE}/thumbnail"),
                200,
                &function("thumbnail", "Pending"),
            )
            .on(&wait("thumbnail", 2), 200, &function("thumbnail", "Ready"))
    };
    let sent = |fake: &Fake| -> Value {
        let put = fake.the(&format!("PUT /tidegate/v1{WHERE}/thumbnail"));
        serde_json::from_slice(&put.body).unwrap()
    };
    let fake = build();
    check(
        "deploy-again",
        &home.run(&fake, &["deploy", &path, "--max", "3", "-e", "SIZE=300"]),
    );
    let document = sent(&fake);
    assert_eq!(document["metadata"]["resourceVersion"], "41");
    assert_eq!(
        document["spec"]["env"],
        json!({ "SIZE": "300", "SECRET_SAUCE": "x" })
    );
    assert_eq!(
        document["spec"]["scale"],
        json!({ "max": 3, "idle": "60s" })
    );

    let fake = build();
    check(
        "deploy-reset",
        &home.run(&fake, &["deploy", &path, "--reset", "--json"]),
    );
    let document = sent(&fake);
    assert_eq!(document["spec"]["env"], Value::Null);
    assert_eq!(document["metadata"]["labels"], Value::Null);
}

#[test]
fn a_write_that_meets_another_is_tried_again_with_what_is_there_then() {
    let home = Home::new();
    let path = home.file("thumbnail.py", HANDLER);
    let mut later = function("thumbnail", "Ready");
    later["metadata"]["resourceVersion"] = json!("42");
    let fake = Fake::new()
        .on(
            &format!("HEAD /blobs/{}", digest(&home, "thumbnail.py")),
            200,
            &json!({}),
        )
        .on(
            &format!("GET {WHERE}/thumbnail"),
            200,
            &function("thumbnail", "Ready"),
        )
        .on(&format!("GET {WHERE}/thumbnail"), 200, &later)
        .on(
            &format!("PUT {WHERE}/thumbnail"),
            409,
            &error("changed meanwhile", "conflict"),
        )
        .on(&format!("PUT {WHERE}/thumbnail"), 200, &later);
    let said = home.run(&fake, &["deploy", &path, "--no-wait", "-q"]);
    assert_eq!(said, "exit 0\n--- stdout\nURL/fn/thumbnail\n--- stderr\n");
    let puts = fake
        .asked()
        .into_iter()
        .filter(|a| a.line.starts_with("PUT"));
    let versions: Vec<Value> = puts
        .map(|a| {
            serde_json::from_slice::<Value>(&a.body).unwrap()["metadata"]["resourceVersion"].clone()
        })
        .collect();
    assert_eq!(versions, ["41", "42"]);
}

#[test]
fn a_failed_start_shows_why() {
    let home = Home::new();
    let path = home.file("broken.py", HANDLER);
    let mut failed = function("broken", "Failed");
    failed["status"]["message"] = json!("NameError: name 'x' is not defined");
    let revision = |generation: u32, log: &[&str]| {
        json!({
            "apiVersion": "tidegate.dev/v1", "kind": "Revision", "metadata": { "name": "a" },
            "spec": { "number": 1, "generation": generation, "cause": "deploy", "function": {} },
            "status": { "phase": "Failed", "log": log },
        })
    };
    let generation = failed["metadata"]["generation"].as_u64().unwrap();
    let now = revision(
        u32::try_from(generation).unwrap(),
        &[
            "Traceback (most recent call last):",
            "start failed: NameError: name 'x' is not defined",
        ],
    );
    // What failed before is not told again.
    let before = revision(1, &["SyntaxError"]);
    let fake = fresh(&home, "broken.py", "broken", &failed).on(
        &format!("GET {WHERE}/broken/revisions"),
        200,
        &json!({ "items": [now, before] }),
    );
    check("deploy-failed", &home.run(&fake, &["deploy", &path]));
}

#[test]
fn a_build_is_shown_and_its_failure_said_once() {
    let home = Home::new();
    let path = home.file("broken.py", HANDLER);
    let mut failed = function("broken", "Failed");
    failed["status"]["message"] = json!("build failed: npm ci exited with code 1: npm error 404");
    failed["status"]["build"] =
        json!({ "failed": true, "milliseconds": 2, "log": ["npm error 404"] });
    let line = |stream: &str, text: &str| json!({ "time": "2026-01-01T00:00:00.000000Z", "stream": stream, "text": text });
    let fake = fresh(&home, "broken.py", "broken", &failed).lines(
        &format!("GET {WHERE}/broken/build?generation=2"),
        &[
            line("note", "the build: cached"),
            line("step", "npm ci"),
            line("stderr", "npm error 404"),
        ],
    );
    check("deploy-build-failed", &home.run(&fake, &["deploy", &path]));
}

#[test]
fn what_is_wrong_is_said_before_anything_is_sent() {
    let home = Home::new();
    let kotlin = home.file("main.kt", "fun main() {}");
    let python = home.file("handler.py", HANDLER);
    let fake = Fake::new();
    let mut said = String::new();
    for args in [
        &["deploy", "/no/such/file"][..],
        &["deploy", &kotlin],
        &["deploy", "https://host/repository"],
        &["deploy", "https://host/x.git#--upload-pack=x"],
        &["deploy", "https://me:pass@host/x.git#a:../b"],
        &["deploy", &python, "--memory", "lots"],
        &["deploy", &python, "--env", "NOVALUE"],
        &["deploy", &python, "--name", "Not A Name"],
        &["deploy", &python, "--runtime", "cobol"],
        &["deploy", &python, "--target", "0"],
    ] {
        said.push_str(&home.run(&fake, args));
        said.push('\n');
    }
    check("deploy-wrong", &said);
    assert!(fake.asked().is_empty());
}

#[test]
fn what_stays_behind_is_warned_of() {
    let home = Home::new();
    home.file("app/main.py", HANDLER);
    home.file("app/.env", "KEY=1");
    home.file("app/requirements.txt", "pillow\n");
    let path = home.path().join("app");
    let fake = fresh(&home, "app", "app", &function("app", "Ready"));
    check(
        "deploy-warnings",
        &home.run(&fake, &["deploy", path.to_str().unwrap()]),
    );
}
