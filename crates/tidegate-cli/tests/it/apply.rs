use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error, function, list};

const HANDLER: &str = "def handler(event, context):\n    return 'hi'\n";
const WHERE: &str = "/namespaces/default/functions";

const MANIFEST: &str = r#"
project = "shop"
[defaults]
labels = { app = "shop" }
[functions.new]
path = "new.py"
env = { REGION = "${REGION}", API_TOKEN = "hidden" }
limits.memory = "128Mi"
[functions.old]
path = "old.py"
env = { SIZE = "300", API_TOKEN = "hidden" }
[functions.same]
code = { digest = "DIGEST", entry = "handler.py" }
runtime = "python"
"#;

fn zeros() -> String {
    format!("sha256:{}", "0".repeat(64))
}

fn digest(home: &Home, name: &str) -> String {
    let path = home.path().join(name);
    tidegate_build::pack(&path, &tidegate_build::PackOptions::default())
        .unwrap()
        .digest
}

/// A home with the manifest and its code, and variables.
fn shop() -> (Home, String) {
    let mut home = Home::new();
    home.env.insert("REGION".to_owned(), "eu".into());
    home.file("new.py", HANDLER);
    home.file("old.py", HANDLER);
    let path = home.file("tidegate.toml", &MANIFEST.replace("DIGEST", &zeros()));
    (home, path)
}

/// A function with this specification, as the manifest's project has applied it.
fn applied(name: &str, spec: &Value, phase: &str) -> Value {
    let mut function = function(name, phase);
    function["metadata"]["labels"] = json!({ "app": "shop" });
    function["metadata"]["annotations"] = json!({ "tidegate.dev/manifest": "shop" });
    function["spec"] = spec.clone();
    function
}

fn same() -> Value {
    let spec = json!({ "runtime": "python", "code": { "digest": zeros(), "entry": "handler.py" } });
    applied("same", &spec, "Ready")
}

fn old() -> Value {
    let spec = json!({
        "runtime": "python",
        "contract": "host",
        "code": { "digest": "sha256:00", "entry": "old.py" },
        "env": { "SIZE": "200", "API_TOKEN": "before" },
    });
    applied("old", &spec, "Ready")
}

/// A server where one function is not there, one differs, one is as it should be, and one is left over.
fn server(home: &Home) -> Fake {
    let gone = applied(
        "gone",
        &json!({ "runtime": "python", "code": { "digest": "sha256:00", "entry": "gone.py" } }),
        "Ready",
    );
    let others = function("others", "Ready");
    Fake::new()
        .on(
            &format!("PUT /blobs/{}", digest(home, "new.py")),
            201,
            &json!({}),
        )
        .on(
            &format!("PUT /blobs/{}", digest(home, "old.py")),
            201,
            &json!({}),
        )
        .on(
            &format!("PUT {WHERE}/new"),
            201,
            &function("new", "Pending"),
        )
        .on(
            &format!("GET {WHERE}/new?waitGeneration=2&wait=20"),
            200,
            &function("new", "Ready"),
        )
        .on(&format!("GET {WHERE}/old"), 200, &old())
        .on(&format!("PUT {WHERE}/old"), 200, &old())
        .on(
            &format!("GET {WHERE}/old?waitGeneration=2&wait=20"),
            200,
            &old(),
        )
        .on(&format!("GET {WHERE}/same"), 200, &same())
        .on(
            &format!("GET {WHERE}?limit=500"),
            200,
            &list(&[gone, others, old(), same()]),
        )
        .on(
            &format!("GET {WHERE}?limit=500&labelSelector=tier%3Dtest"),
            200,
            &list(&[]),
        )
        .on(&format!("DELETE {WHERE}/gone"), 200, &json!({}))
}

#[test]
fn what_is_wanted_is_made() {
    let (home, path) = shop();
    let fake = server(&home);
    check(
        "apply",
        &home.run(&fake, &["apply", "-f", &path, "--prune"]),
    );
    let put = fake.the(&format!("PUT /tidegate/v1{WHERE}/new"));
    let sent: Value = serde_json::from_slice(&put.body).unwrap();
    check(
        "apply-document",
        &serde_json::to_string_pretty(&sent).unwrap(),
    );
    let put = fake.the(&format!("PUT /tidegate/v1{WHERE}/old"));
    let sent: Value = serde_json::from_slice(&put.body).unwrap();
    assert_eq!(sent["metadata"]["resourceVersion"], "41");
    assert_eq!(
        sent["spec"]["env"],
        json!({ "SIZE": "300", "API_TOKEN": "hidden" })
    );
    let wrote = |line: &str| fake.asked().iter().any(|a| a.line.starts_with(line));
    assert!(!wrote(&format!("PUT /tidegate/v1{WHERE}/same")));
    assert!(!wrote(&format!("DELETE /tidegate/v1{WHERE}/others")));
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let (home, path) = shop();
    let fake = server(&home);
    let args = ["apply", "-f", &path, "--prune", "--dry-run"];
    let said = home.run(&fake, &args);
    assert!(
        !said.contains("hidden") && !said.contains("before"),
        "{said}"
    );
    check("apply-dry-run", &said);
    check(
        "apply-dry-run-json",
        &home.run(&fake, &[&args[..], &["--json", "-l", "tier=test"]].concat()),
    );
    assert!(fake.asked().iter().all(|a| a.line.starts_with("GET")));
}

#[test]
fn what_fails_does_not_keep_the_others() {
    let (home, path) = shop();
    home.file("new.py", "");
    let mut failed = old();
    failed["status"]["phase"] = json!("Failed");
    failed["status"]["message"] = json!("NameError: x");
    let fake = Fake::new()
        .on(
            &format!("PUT /blobs/{}", digest(&home, "old.py")),
            201,
            &json!({}),
        )
        .on(&format!("GET {WHERE}/old"), 200, &old())
        .on(&format!("PUT {WHERE}/old"), 200, &old())
        .on(
            &format!("GET {WHERE}/old?waitGeneration=2&wait=20"),
            200,
            &failed,
        )
        .on(&format!("GET {WHERE}/same"), 200, &same())
        .on(
            &format!("PUT {WHERE}/new"),
            409,
            &error("changed meanwhile", "conflict"),
        )
        .on(
            &format!("PUT /blobs/{}", digest(&home, "new.py")),
            201,
            &json!({}),
        );
    check(
        "apply-failed",
        &home.run(&fake, &["apply", "-f", &path, "--prune", "-q"]),
    );
}

#[test]
fn mistakes_are_all_told_before_anything_is_sent() {
    let home = Home::new();
    let fake = Fake::new();
    let manifest = home.file(
        "wrong.yaml",
        "functions:\n  a: {path: nowhere, limts: {}}\n  b: {timeout: 1s, env: {X: '${Y:?say}'}}\n",
    );
    let mut said = home.run(&fake, &["apply", "-f", &manifest]);
    let missing = home.file(
        "missing.toml",
        "[functions.a]\npath = './nowhere'\n[functions.b]",
    );
    for args in [
        &["apply", "-f", &missing][..],
        &["apply", "-f", "/no/such/file"],
        &["apply", "-f", "-", "-l", "app=x"],
        &["apply"],
    ] {
        said.push('\n');
        said.push_str(&home.with_input(&fake, args, "functions: ["));
    }
    said.push('\n');
    said.push_str(&home.with_input(&fake, &["apply", "-f", "-"], "functions: ["));
    check("apply-wrong", &said);
    assert!(fake.asked().is_empty());
}

#[test]
fn namespaces_are_made_if_wanted() {
    let home = Home::new();
    let manifest = format!(
        "functions:\n  same: {{code: {{digest: {:?}, entry: a}}, runtime: python, namespace: team}}\n",
        zeros()
    );
    let team = "/namespaces/team/functions/same";
    let missing = error("namespace \"team\" does not exist", "not-found");
    let fake = Fake::new()
        .on("GET /namespaces", 200, &json!({ "items": [] }))
        .on(
            "PUT /namespaces/team",
            201,
            &json!({ "metadata": { "name": "team" } }),
        )
        .on(&format!("PUT {team}"), 404, &missing)
        .on(&format!("PUT {team}"), 201, &same());
    let without = home.with_input(&fake, &["apply", "-f", "-", "--no-wait"], &manifest);
    let with = home.with_input(
        &fake,
        &["apply", "-f", "-", "--no-wait", "--create-namespaces"],
        &manifest,
    );
    check("apply-namespaces", &format!("{without}\n{with}"));
}

#[test]
fn what_is_exported_is_accepted_again() {
    let home = Home::new();
    let mut odd = function("odd", "Ready");
    odd["spec"]["code"]["digest"] = json!(zeros());
    odd["spec"]["env"] = json!({ "COST": "5$ ${X}", "NO": "no", "LINES": "a\nb: c\n", "NUMBER": "010", "EMPTY": "" });
    odd["metadata"]["annotations"] =
        json!({ "tidegate.dev/manifest": "theirs", "note": "it's \"so\"" });
    let mut team = odd.clone();
    team["metadata"]["namespace"] = json!("team");
    let tick = |namespace: &str| {
        let spec = json!({
            "function": "odd", "schedule": "TZ=UTC */5 * * * *", "missed": "once", "async": { "retries": 1 },
            "request": { "body": "5$ ${X}\n", "headers": { "X-Of": "tick" } },
        });
        let mut tick = trigger("tick", &spec);
        tick["metadata"]["namespace"] = json!(namespace);
        tick
    };
    let mut of_its_function = tick("default");
    of_its_function["metadata"]["name"] = json!("odd-schedule-1");
    of_its_function["status"]["owner"] = json!("odd");
    let triggers = json!({ "items": [tick("default"), of_its_function, tick("team")] });
    let here = "GET /namespaces/default/functions/odd";
    let there = "GET /namespaces/team/functions/odd";
    let server = || {
        Fake::new()
            .on(
                "GET /functions?limit=500",
                200,
                &list(&[odd.clone(), team.clone()]),
            )
            .on(here, 200, &odd)
            .on(there, 200, &team)
            .on("GET /triggers", 200, &triggers)
            .on(
                "GET /namespaces/default/triggers/tick",
                200,
                &tick("default"),
            )
            .on("GET /namespaces/team/triggers/tick", 200, &tick("team"))
    };
    for format in ["yaml", "toml", "json"] {
        let said = home.run(&server(), &["export", "--all", "-o", format]);
        let manifest = said
            .split_once("--- stdout\n")
            .and_then(|(_, rest)| rest.split_once("--- stderr\n"))
            .unwrap()
            .0;
        let fake = server();
        let again = home.with_input(&fake, &["apply", "-f", "-"], manifest);
        assert!(
            again.contains("4 unchanged in"),
            "{format}:\n{manifest}\n{again}"
        );
        assert!(fake.asked().iter().all(|a| a.line.starts_with("GET")));
        check(&format!("export-{format}"), &said);
    }
    let fake = server().on(
        "GET /namespaces/default/functions?limit=500",
        200,
        &list(&[]),
    );
    let mut said = home.run(&fake, &["export"]);
    said.push_str(&home.run(&fake, &["export", "od"]));
    check("export-none", &said);
}

#[test]
fn a_manifest_can_be_deployed() {
    let (home, path) = shop();
    let fake = server(&home);
    let said = home.run(&fake, &["deploy", &path]);
    assert!(
        said.starts_with("exit 0\n--- stdout\ncreated new  URL/fn/new\n"),
        "{said}"
    );
    let folder = home.path().to_str().unwrap().to_owned();
    let fake = server(&home);
    assert!(
        home.run(&fake, &["deploy", &folder])
            .contains("1 created, 1 updated, 1 unchanged")
    );
    let said = home.run(&fake, &["deploy", &folder, "--memory", "1Gi"]);
    assert!(
        said.contains(
            "the settings of functions stand in HOME/tidegate.toml, and cannot be given beside it"
        ),
        "{said}"
    );
}

#[test]
fn a_split_made_by_hand_outlives_an_apply_that_changes_nothing_else() {
    let home = Home::new();
    let manifest = |entry: &str| {
        format!(
            "project = 'shop'\n[functions.same]\ncode = {{ digest = '{}', entry = '{entry}' }}\nruntime = 'python'\n\
             labels = {{ app = 'shop' }}",
            zeros()
        )
    };
    let mut split = same();
    split["spec"]["traffic"] = json!([{ "revision": "1", "percent": 100 }]);
    let fake = Fake::new()
        .on(&format!("GET {WHERE}/same"), 200, &split)
        .on(&format!("PUT {WHERE}/same"), 200, &split);
    let said = home.with_input(&fake, &["apply", "-f", "-"], &manifest("handler.py"));
    assert!(said.contains("unchanged same"), "{said}");
    let said = home.with_input(
        &fake,
        &["apply", "-f", "-", "--no-wait"],
        &manifest("other.py"),
    );
    assert!(said.contains("updated same"), "{said}");
    assert!(said.contains("its traffic was set by hand"), "{said}");
    let put = fake.the("PUT");
    let sent: Value = serde_json::from_slice(&put.body).unwrap();
    assert_eq!(sent["spec"]["traffic"], Value::Null);
}

const TRIGGERS: &str = r#"
project = "shop"
[triggers.new]
function = "report"
schedule = "@every 90s"
body = "{}"
async = { retries = 5 }
[triggers.old]
function = "report"
schedule = "@hourly"
[triggers.same]
function = "report"
schedule = "@daily"
"#;

const ITS_TRIGGERS: &str = "/namespaces/default/triggers";

/// A trigger as the manifest's project has applied it.
fn trigger(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "tidegate.dev/v1", "kind": "Trigger",
        "metadata": {
            "name": name, "namespace": "default", "resourceVersion": "41",
            "annotations": { "tidegate.dev/manifest": "shop" },
        },
        "spec": spec,
        "status": { "fired": 3, "nextTick": "2030-01-01T00:00:00Z", "upcoming": ["2030-01-01T00:00:00+00:00"] },
    })
}

fn with_triggers() -> Fake {
    let every = trigger(
        "new",
        &json!({ "function": "report", "schedule": "@every 90s" }),
    );
    let old = json!({ "function": "report", "schedule": "@daily", "paused": true });
    let same = json!({ "function": "report", "schedule": "@daily", "missed": "once", "request": { "method": "POST" } });
    let gone = trigger("gone", &same);
    let mut others = gone.clone();
    others["metadata"]["name"] = json!("others");
    others["metadata"]["annotations"] = json!({ "tidegate.dev/manifest": "theirs" });
    let all = json!({ "items": [gone, trigger("old", &old), others, trigger("same", &same)] });
    Fake::new()
        .on(&format!("PUT {ITS_TRIGGERS}/new"), 201, &every)
        .on(
            &format!("GET {ITS_TRIGGERS}/old"),
            200,
            &trigger("old", &old),
        )
        .on(
            &format!("PUT {ITS_TRIGGERS}/old"),
            200,
            &trigger("old", &old),
        )
        .on(
            &format!("GET {ITS_TRIGGERS}/same"),
            200,
            &trigger("same", &same),
        )
        .on(&format!("DELETE {ITS_TRIGGERS}/gone"), 204, &json!({}))
        .on(&format!("GET {ITS_TRIGGERS}"), 200, &all)
        .on(&format!("GET {WHERE}?limit=500"), 200, &list(&[]))
}

#[test]
fn triggers_are_made_changed_and_pruned_like_functions() {
    let home = Home::new();
    let path = home.file("tidegate.toml", TRIGGERS);
    let fake = with_triggers();
    let mut said = home.run(&fake, &["apply", "-f", &path, "--prune", "--dry-run"]);
    said.push_str(&home.run(&fake, &["apply", "-f", &path, "--prune"]));
    said.push_str(&home.run(&fake, &["apply", "-f", &path, "--json"]));
    check("apply-triggers", &said);
    let sent = |name: &str| -> Value {
        let line = format!("PUT /tidegate/v1{ITS_TRIGGERS}/{name}");
        let asked = fake.asked();
        let put = asked.iter().find(|a| a.line == line).unwrap();
        serde_json::from_slice(&put.body).unwrap()
    };
    assert_eq!(
        sent("new")["spec"],
        json!({
            "function": "report", "schedule": "@every 90s",
            "request": { "body": "{}" }, "async": { "retries": 5 },
        })
    );
    // Whoever paused it meant that.
    let old = sent("old");
    assert_eq!(old["spec"]["paused"], true);
    assert_eq!(old["metadata"]["resourceVersion"], "41");
}

/// A manifest of one trigger that differs from what is there.
const OLD: &str = "project = 'shop'\n[triggers.old]\nfunction = 'report'\nschedule = '@hourly'\n";

#[test]
fn a_tick_between_look_and_write_is_no_conflict() {
    let home = Home::new();
    let path = home.file("tidegate.toml", OLD);
    let spec = json!({ "function": "report", "schedule": "@daily" });
    let before = trigger("old", &spec);
    let mut ticked = before.clone();
    ticked["metadata"]["resourceVersion"] = json!("42");
    let (get, put) = (
        format!("GET {ITS_TRIGGERS}/old"),
        format!("PUT {ITS_TRIGGERS}/old"),
    );
    let conflict = error(
        "trigger old has changed: it is at 42, not at 41",
        "conflict",
    );
    let fake = Fake::new()
        .on(&get, 200, &before)
        .on(&get, 200, &ticked)
        .on(&put, 409, &conflict)
        .on(&put, 200, &ticked);
    let said = home.run(&fake, &["apply", "-f", &path]);
    assert!(said.contains("updated trigger old"), "{said}");
    let puts = |fake: &Fake| {
        let mut all = fake.asked();
        all.retain(|a| a.line.starts_with("PUT"));
        all
    };
    let sent: Value = serde_json::from_slice(&puts(&fake)[1].body).unwrap();
    assert_eq!(sent["metadata"]["resourceVersion"], "42");
    // One that goes on changing is somebody's.
    let fake = Fake::new().on(&get, 200, &before).on(&put, 409, &conflict);
    let said = home.run(&fake, &["apply", "-f", &path]);
    assert!(
        said.starts_with("exit 1") && said.contains("apply again"),
        "{said}"
    );
    assert_eq!(puts(&fake).len(), 5);
    // There is no such namespace.
    let said = home.run(&Fake::new(), &["apply", "-f", &path]);
    assert!(said.contains("--create-namespaces"), "{said}");
}

#[test]
fn a_selector_that_cannot_choose_among_triggers_is_told_before_anything_is_done() {
    let home = Home::new();
    let path = home.file("tidegate.toml", TRIGGERS);
    let args = ["apply", "-f", &path, "--prune", "-l", "app in (shop)"];
    let fake = with_triggers();
    let said = home.run(&fake, &args);
    assert!(
        said.starts_with("exit 2") && said.contains("app in (shop)"),
        "{said}"
    );
    assert!(fake.asked().iter().all(|a| a.line.starts_with("GET")));
    // Without a trigger to choose from it is for functions alone.
    let path = home.file("tidegate.toml", OLD);
    let spec = json!({ "function": "report", "schedule": "@hourly" });
    let old = trigger("old", &spec);
    let fake = Fake::new()
        .on(&format!("GET {ITS_TRIGGERS}/old"), 200, &old)
        .on(
            &format!("GET {ITS_TRIGGERS}"),
            200,
            &json!({ "items": [old] }),
        )
        .on(
            &format!("GET {WHERE}?limit=500&labelSelector=app+in+%28shop%29"),
            200,
            &list(&[]),
        );
    let said = home.run(
        &fake,
        &["apply", "-f", &path, "--prune", "-l", "app in (shop)"],
    );
    assert!(said.starts_with("exit 0"), "{said} {:?}", fake.asked());
}

#[test]
fn a_server_that_does_not_answer_is_not_asked_for_every_trigger() {
    let home = Home::new();
    let path = home.file("tidegate.toml", TRIGGERS);
    // Nobody listens at the port of a listener that is gone.
    let url = Fake::new().url.clone();
    let said = home.plain(&["--url", &url, "apply", "-f", &path], "", Vec::new());
    assert!(said.starts_with("exit 3"), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
}

#[test]
fn nothing_is_lost_of_an_export_whose_names_run_into_each_other() {
    let home = Home::new();
    let spec = json!({ "function": "odd", "schedule": "@daily" });
    let of = |namespace: &str, name: &str| {
        let mut one = trigger(name, &spec);
        one["metadata"]["namespace"] = json!(namespace);
        one
    };
    let all = [
        of("default", "team-tick"),
        of("default", "tick"),
        of("team", "tick"),
    ];
    let fake = Fake::new()
        .on("GET /functions?limit=500", 200, &list(&[]))
        .on("GET /triggers", 200, &json!({ "items": all }));
    let said = home.run(&fake, &["export", "--all", "-o", "toml"]);
    for key in ["team-tick", "tick", "team-team-tick"] {
        assert!(
            said.contains(&format!("[triggers.{key}]\n")),
            "{key}: {said}"
        );
    }
}

#[test]
fn a_trigger_that_is_refused_fails_the_apply() {
    let home = Home::new();
    let path = home.file(
        "tidegate.toml",
        TRIGGERS.split("[triggers.old]").next().unwrap(),
    );
    let refused = error(
        "spec.function: function \"report\" does not exist in namespace \"default\"; deploy it first",
        "invalid",
    );
    let fake = Fake::new().on(&format!("PUT {ITS_TRIGGERS}/new"), 400, &refused);
    check(
        "apply-triggers-refused",
        &home.run(&fake, &["apply", "-f", &path, "--prune"]),
    );
}
