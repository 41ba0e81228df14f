use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error, function, list};

const WHERE: &str = "/namespaces/default/functions";

#[test]
fn lists() {
    let home = Home::new();
    let mut failed = function("broken", "Failed");
    failed["status"]["message"] = json!("NameError: ".to_owned() + &"x".repeat(100));
    failed["spec"]["scale"] = json!({});
    let page = |items: &[Value], next: Option<&str>| json!({ "items": items, "resourceVersion": "41", "continue": next });
    let fake = Fake::new()
        .on(
            &format!("GET {WHERE}?limit=500"),
            200,
            &page(&[failed.clone()], Some("more")),
        )
        .on(
            &format!("GET {WHERE}?limit=500&continue=more"),
            200,
            &page(&[function("thumbnail", "Ready")], None),
        )
        .on(
            &format!("GET {WHERE}?limit=500&labelSelector=app%3Ddemo"),
            200,
            &list(&[]),
        )
        .on("GET /functions?limit=500", 200, &list(&[failed]));
    let mut said = home.run(&fake, &["list"]);
    said.push_str(&home.run(&fake, &["list", "-A"]));
    said.push_str(&home.run(&fake, &["list", "-l", "app=demo"]));
    check("list", &said);
    let json = home.run(&fake, &["list", "--json"]);
    let data = json.strip_prefix("exit 0\n--- stdout\n").unwrap();
    let items: Value = serde_json::from_str(data.strip_suffix("--- stderr\n").unwrap()).unwrap();
    assert_eq!(items.as_array().unwrap().len(), 2);
}

#[test]
fn a_watch_goes_on_and_lists_anew_where_it_must() {
    let home = Home::new();
    let event = |kind: &str, version: &str| {
        let mut object = function("thumbnail", "Ready");
        object["metadata"]["resourceVersion"] = json!(version);
        json!({ "type": kind, "object": object })
    };
    let mut now = list(&[function("thumbnail", "Ready")]);
    now["resourceVersion"] = json!("50");
    let fake = Fake::new()
        .on(&format!("GET {WHERE}?limit=500"), 200, &list(&[]))
        .on(&format!("GET {WHERE}?limit=500"), 200, &now)
        .lines(
            &format!("GET {WHERE}?watch=true&resourceVersion=41"),
            &[event("ADDED", "42"), event("BOOKMARK", "43")],
        )
        .on(
            &format!("GET {WHERE}?watch=true&resourceVersion=43"),
            410,
            &error("too old", "expired"),
        )
        .on(
            &format!("GET {WHERE}?watch=true&resourceVersion=50"),
            401,
            &error("no more", "unauthorized"),
        );
    check("list-watch", &home.run(&fake, &["list", "-w"]));
}

#[test]
fn describes() {
    let home = Home::new();
    let fake = Fake::new().on(
        &format!("GET {WHERE}/thumbnail"),
        200,
        &function("thumbnail", "Ready"),
    );
    check("describe", &home.run(&fake, &["describe", "thumbnail"]));
    check(
        "describe-json",
        &home.run(&fake, &["describe", "thumbnail", "--json"]),
    );
}

#[test]
fn logs() {
    let home = Home::new();
    let line = |stream: &str, text: &str| json!({ "time": "2026-01-01T00:00:00.000001Z", "instance": "i7", "stream": stream, "text": text });
    let lines = [
        line("stdout", "hello"),
        line("system", "instance ended: out of memory"),
    ];
    let id = "0192f0c12b3d7a4e8f50112233445566";
    let fake = Fake::new()
        .lines(&format!("GET {WHERE}/wc/logs"), &lines)
        .lines(
            &format!("GET {WHERE}/wc/logs?tail=2&since=5m&request={id}&follow=true"),
            &lines,
        )
        .on("GET /", 200, &json!({}))
        .on(&format!("GET {WHERE}/wc"), 200, &function("wc", "Ready"));
    let mut said = home.run(&fake, &["logs", "wc"]);
    said.push_str(&home.run(
        &fake,
        &[
            "logs",
            "wc",
            "-f",
            "--tail",
            "2",
            "--since",
            "300s",
            "--request",
            id,
            "--timestamps",
        ],
    ));
    said.push_str(&home.run(&fake, &["logs", "wc", "--json"]));
    said.push_str(&home.run(&fake, &["logs", "wc", "--since", "yesterday"]));
    check("logs", &said);
}

#[test]
fn a_follower_is_told_why_there_is_nothing_to_follow() {
    let home = Home::new();
    let mut building = function("wc", "Pending");
    building["status"]["revision"] = json!("");
    let fake = Fake::new()
        .lines(&format!("GET {WHERE}/wc/logs?follow=true"), &[])
        .on(&format!("GET {WHERE}/wc"), 200, &building);
    let said = home.run(&fake, &["logs", "wc", "-f"]);
    assert!(said.starts_with("exit 1"), "{said}");
    assert!(said.contains("function wc was not started yet"), "{said}");
    assert!(
        said.contains("'tidegate describe wc' tells how far it is"),
        "{said}"
    );
    // One that was deleted meanwhile.
    let fake = Fake::new().lines(&format!("GET {WHERE}/wc/logs?follow=true"), &[]);
    let said = home.run(&fake, &["logs", "wc", "-f"]);
    assert!(said.starts_with("exit 0"), "{said}");
    assert!(said.contains("function wc is no longer there"), "{said}");
}

#[test]
fn json_is_json_on_a_terminal_too() {
    let home = Home::new();
    let text = "a\u{9b}2J\u{7f}\u{202e}b";
    let line = json!({ "time": "2026-01-01T00:00:00Z", "instance": "i7", "stream": "stdout", "text": text });
    let fake = Fake::new().lines(&format!("GET {WHERE}/wc/logs"), &[line]);
    let said = home.on_terminal(&fake, &["logs", "wc", "--json"]);
    let shown = said.lines().nth(2).unwrap();
    assert!(shown.contains(r"a\u009b2J\u007f\u202eb"), "{shown}");
    let read: serde_json::Value = serde_json::from_str(shown).unwrap();
    assert_eq!(read["text"], text);
}

#[test]
fn what_a_function_wrote_does_nothing_to_a_terminal() {
    let home = Home::new();
    let text = "a\u{1b}]0;title\u{7} b\u{1b}[2J \u{1b}[31mred";
    let line = json!({ "time": "2026-01-01T00:00:00Z", "instance": "i7", "stream": "stdout", "text": text });
    let logs = format!("GET {WHERE}/wc/logs");
    let fake = Fake::new().lines(&logs, &[line]);
    let shown = home.on_terminal(&fake, &["logs", "wc", "--color", "always"]);
    let safe = "a\\u{1b}]0;title\\u{7} b\\u{1b}[2J ESC[31mredESC[0m\n";
    assert!(shown.contains(safe), "{shown:?}");
    let shown = home.on_terminal(&fake, &["logs", "wc", "--color", "never"]);
    assert!(shown.contains("\\u{1b}[2J red\n"), "{shown:?}");
    assert!(home.run(&fake, &["logs", "wc"]).contains(text));
}

#[test]
fn deletes_all_it_can() {
    let home = Home::new();
    let fake = Fake::new()
        .on(&format!("DELETE {WHERE}/a"), 200, &json!({}))
        .on("GET /functions?limit=500", 200, &list(&[]));
    let mut said = home.run(&fake, &["delete", "gone", "a"]);
    said.push_str(&home.run(&fake, &["delete", "gone", "a", "--ignore-missing"]));
    check("delete", &said);
}

#[test]
fn what_openfaas_keeps_is_changed_its_way() {
    let home = Home::new();
    let refused = || error("function dev/hello belongs to OpenFaaS", "in_use");
    let place = "/namespaces/dev/functions/hello";
    let mut view = function("hello", "Ready");
    view["metadata"]["namespace"] = json!("dev");
    view["metadata"]["annotations"] = json!({ "tidegate.dev/dialect": "openfaas" });
    let fake = Fake::new()
        .on(&format!("DELETE {place}"), 409, &refused())
        .on(&format!("PUT {place}/scale"), 409, &refused())
        .on(&format!("GET {place}"), 200, &view)
        .raw("DELETE /system/functions", 202, &[], "")
        .raw("POST /system/scale-function/hello", 202, &[], "");
    let mut said = home.run(&fake, &["-n", "dev", "scale", "hello", "3"]);
    said.push_str(&home.run(&fake, &["-n", "dev", "scale", "hello", "0"]));
    said.push_str(&home.run(&fake, &["-n", "dev", "scale", "hello", "--max", "3"]));
    said.push_str(&home.run(&fake, &["-n", "dev", "delete", "hello"]));
    check("openfaas-owns", &said);
    let deleted: Value =
        serde_json::from_slice(&fake.the("DELETE /system/functions").body).unwrap();
    assert_eq!(
        deleted,
        json!({ "functionName": "hello", "namespace": "dev" })
    );
    let scaled: Vec<Value> = fake
        .asked()
        .iter()
        .filter(|a| a.line.starts_with("POST /system/scale-function/"))
        .map(|a| serde_json::from_slice(&a.body).unwrap())
        .collect();
    assert_eq!(scaled[0]["replicas"], 3);
    assert_eq!(scaled[1]["replicas"], 0);
    assert_eq!(scaled.len(), 2);
}

#[test]
fn scales() {
    let home = Home::new();
    let fake = Fake::new().on(
        &format!("PUT {WHERE}/wc/scale"),
        200,
        &function("wc", "Ready"),
    );
    let mut said = String::new();
    for args in [
        &["scale", "wc", "3"][..],
        &["scale", "wc", "0"],
        &["scale", "wc", "--max", "5"],
        &["scale", "wc", "--min", "5", "--max", "2"],
        &["scale", "wc"],
    ] {
        said.push_str(&home.run(&fake, args));
    }
    check("scale", &said);
    let sent: Vec<Value> = fake
        .asked()
        .iter()
        .map(|a| serde_json::from_slice(&a.body).unwrap())
        .collect();
    assert_eq!(
        sent,
        [
            json!({ "min": 3, "max": 3 }),
            json!({ "min": 0 }),
            json!({ "max": 5 })
        ]
    );
}
