use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::reference;

/// Reads one text as if it stood in a file of this name, with these variables.
fn load(name: &str, text: &str, env: &[(&str, &str)]) -> Result<Loaded, Mistakes> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let lookup = |name: &str| env.get(name).map(OsString::from);
    let loader = Loader {
        env: &lookup,
        env_files: Vec::new(),
    };
    loader.load(&[Input::Text {
        name: name.to_owned(),
        text: text.to_owned(),
        folder: PathBuf::from("/no/such/shop"),
    }])
}

fn told(name: &str, text: &str) -> String {
    load(name, text, &[("SET", "1")]).unwrap_err().to_string()
}

const TOML: &str = r#"
project = "shop"
namespace = "team"

[defaults]
access = "private"
labels = { app = "shop" }
limits = { memory = "64Mi", timeout = "10s" }
env = { REGION = "${REGION:-eu}", LEVEL = "info" }

[functions.resize]
path = "./resize"
env = { LEVEL = "debug", PORT = 8080, COST = "5$$", FROM = "$HOST_NAME" }
secrets = ["db", { name = "api", env = "API_KEY" }]
limits.memory = "128Mi"
limits.cpu = 0.5
scale = { min = 1, max = "${MAX:-4}", concurrency = 10 }
triggers = [{ kind = "http" }]

[functions.mail]
code = { digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000", entry = "main.py" }
runtime = "python"
namespace = "other"
build = { command = "make", secrets = ["npmrc"] }
traffic = [{ latest = true, percent = 90 }, { revision = "1", percent = 10, tag = "old" }]
rollout = { over = "10m", maxErrorRate = "5%" }
async = { retries = 5, backoff = "10s", ordered = true, onFailure = "audit" }
"#;

#[test]
fn an_empty_list_of_what_is_reached_is_not_none() {
    let text = |egress: &str| format!("[functions.f]\nimage = \"alpine\"\nargs = []\n{egress}\n");
    let spec = |egress: &str| {
        let loaded = load("tidegate.toml", &text(egress), &[]).unwrap();
        Json::Object(loaded.functions[0].spec.clone())
    };
    assert_eq!(spec("egress = []"), json!({ "egress": [] }));
    assert_eq!(spec(""), json!({}));
}

#[test]
fn a_manifest_becomes_functions() {
    let loaded = load("tidegate.toml", TOML, &[("HOST_NAME", "h")]).unwrap();
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.projects.iter().collect::<Vec<_>>(), ["shop"]);
    let [resize, mail] = &loaded.functions[..] else {
        panic!("two functions");
    };
    assert_eq!(resize.name.as_str(), "resize");
    assert_eq!(resize.namespace.as_ref().unwrap().as_str(), "team");
    assert_eq!(resize.labels["app"], "shop");
    assert_eq!(resize.annotations[MANIFEST], "shop");
    assert_eq!(resize.origin.to_string(), "tidegate.toml:11");
    let Source::Path { path, .. } = &resize.source else {
        panic!("a path");
    };
    assert_eq!(path, Path::new("/no/such/shop/./resize"));
    assert_eq!(
        Json::Object(resize.spec.clone()),
        json!({
            "access": "private",
            "env": { "REGION": "eu", "LEVEL": "debug", "PORT": "8080", "COST": "5$", "FROM": "h" },
            "limits": { "memory": "128Mi", "timeout": "10s", "cpu": "0.5" },
            "scale": { "min": 1, "max": 4, "concurrency": 10 },
            "secrets": [{ "name": "db" }, { "name": "api", "env": "API_KEY" }],
        })
    );
    assert_eq!(mail.namespace.as_ref().unwrap().as_str(), "other");
    assert!(matches!(&mail.source, Source::Blob { entry, .. } if entry == "main.py"));
    assert_eq!(
        mail.spec["traffic"][1],
        json!({ "revision": "1", "percent": 10, "tag": "old" })
    );
    assert_eq!(
        mail.spec["async"],
        json!({ "retries": 5, "backoff": "10s", "ordered": true, "onFailure": "audit" })
    );
    assert_eq!(
        mail.spec["rollout"],
        json!({ "over": "10m", "maxErrorRate": 0.05 })
    );
    assert_eq!(
        mail.spec["build"],
        json!({ "command": "make", "secrets": [{ "name": "npmrc" }] })
    );
}

#[test]
fn triggers_stand_beside_functions() {
    let text = r#"
project = "shop"
namespace = "team"
[functions.report]
path = "./report"
namespace = "office"
[triggers.nightly]
function = "report"
schedule = "30 2 * * *"
timeZone = "Europe/Berlin"
jitter = "30s"
body = '{"day":"$DAY"}'
headers = { X-From = "nightly" }
async = { retries = 5, maxAge = "1h" }
[triggers.elsewhere]
name = "often"
function = "mail"
schedule = "@every 90s"
paused = true
labels = { app = "shop" }
"#;
    let loaded = load("tidegate.toml", text, &[("DAY", "monday")]).unwrap();
    let [nightly, often] = &loaded.triggers[..] else {
        panic!("two triggers");
    };
    assert_eq!(
        (nightly.name.as_str(), nightly.function()),
        ("nightly", "report")
    );
    // That of the function that it calls.
    assert_eq!(nightly.namespace.as_ref().unwrap().as_str(), "office");
    assert_eq!(nightly.annotations[MANIFEST], "shop");
    assert_eq!(nightly.origin.to_string(), "tidegate.toml:7");
    assert_eq!(
        Json::Object(nightly.spec.clone()),
        json!({
            "function": "report", "schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "jitter": "30s",
            "request": { "body": "{\"day\":\"monday\"}", "headers": { "X-From": "nightly" } },
            "async": { "retries": 5, "maxAge": "1h" },
        })
    );
    assert_eq!(often.name.as_str(), "often");
    assert_eq!(often.namespace.as_ref().unwrap().as_str(), "team");
    assert_eq!(often.spec["paused"], true);
    assert_eq!(often.labels["app"], "shop");
    let document = "kind: Trigger\nmetadata: {name: nightly, namespace: office}\nspec: {function: report, \
                    schedule: '@daily', request: {method: PUT}}\nstatus: {fired: 3}\n";
    let loaded = load("x.yaml", document, &[]).unwrap();
    assert!(loaded.functions.is_empty());
    assert_eq!(
        Json::Object(loaded.triggers[0].spec.clone()),
        json!({ "function": "report", "schedule": "@daily", "request": { "method": "PUT" } })
    );
}

#[test]
fn mistakes_of_triggers_have_their_place() {
    let toml = r#"
[functions.f]
triggers = [{ kind = "schedule", cron = "* * * * *" }]
[triggers.a]
function = "f"
schedule = "0 25 * * *"
jitter = "2h"
missed = "some"
[triggers.b]
shedule = "@daily"
timeZone = "Mars"
[triggers.c]
function = "f"
schedule = "@daily"
timeZone = "Mars/Base"
async = { concurrency = 1, retries = 2000 }
headers = "none"
"#;
    insta::assert_snapshot!("mistakes-triggers", told("tidegate.toml", toml));
    let twice = "triggers: {a: {function: f, schedule: '@daily'}}\n---\nkind: Trigger\nmetadata: {name: a}\n\
                 spec: {function: f}\n";
    let said = told("x.yaml", twice);
    assert!(said.contains("spec has no schedule"), "{said}");
    assert!(
        said.contains("trigger a stands already at x.yaml:1"),
        "{said}"
    );
}

#[test]
fn yaml_says_the_same_in_any_number_of_documents() {
    let yaml = r"
namespace: team
functions:
  a: {path: ./a, env: {MODE: 0640, VERSION: 1.10, ON: yes, HERE: }}
---
apiVersion: tidegate.dev/v1
kind: Function
metadata: {name: b, labels: {x: y}, annotations: {tidegate.dev/manifest: theirs}, uid: u, generation: 3}
spec:
  runtime: python
  code: {path: ./b, entry: main.py}
  env: {COST: 5$$}
status: {phase: Ready}
---
# nothing
---
kind: FunctionList
items:
- metadata: {name: c}
  spec: {code: ./c}
";
    let loaded = load("x.yaml", yaml, &[("HERE", "there")]).unwrap();
    let [a, b, c] = &loaded.functions[..] else {
        panic!("three functions");
    };
    assert_eq!(
        a.spec["env"],
        json!({ "MODE": "0640", "VERSION": "1.10", "ON": "yes", "HERE": "there" })
    );
    assert_eq!(a.namespace.as_ref().unwrap().as_str(), "team");
    assert_eq!(b.annotations[MANIFEST], "theirs");
    assert_eq!(b.spec["env"], json!({ "COST": "5$" }));
    assert_eq!(b.namespace, None);
    assert!(matches!(&b.source, Source::Path { entry: Some(e), .. } if e == "main.py"));
    assert_eq!(c.annotations[MANIFEST], "manifest");
}

#[test]
fn json_is_yaml_and_standard_input_is_either() {
    let json = r#"{"functions": {"a": {"path": "x", "limits": {"memory": "1Gi"}}}}"#;
    for name in ["x.json", "standard input"] {
        let loaded = load(name, json, &[]).unwrap();
        assert_eq!(loaded.functions[0].spec["limits"]["memory"], "1Gi");
    }
    for text in [
        "functions:\n  a: {}\n",
        "[functions.a]\n",
        "# c\nproject = 'p'\n[functions]\na.path = 'x'\n",
    ] {
        assert_eq!(
            load("standard input", text, &[]).unwrap().functions.len(),
            1,
            "{text}"
        );
    }
}

#[test]
fn what_is_not_set_is_warned_of_once() {
    let loaded = load(
        "x.yaml",
        "functions: {a: {path: $X, env: {A: $X, B: }}}",
        &[],
    )
    .unwrap();
    assert_eq!(
        loaded.warnings,
        [
            "variable B is not set; an empty text stands for it",
            "variable X is not set; an empty text stands for it"
        ]
    );
}

#[test]
fn all_mistakes_are_told_at_once_with_their_place() {
    let toml = r#"
nmespace = "team"
[defaults.limits]
memry = "64Mi"
[functions.resize]
runtime = "pyton"
time_out = "1s"
limits = { memory = "lots", firstbyte = "1s" }
scale = { min = 5, max = 0 }
env = { "A-B" = "1", C = "${D:?name a host}", E = ["x"] }
secrets = [{ nam = "db" }, "Not A Name", 7.5, { name = "x", env = "1" }]
triggers = [{ kind = "schedule", cron = "* * * * *" }, {}]
[functions."No Name"]
path = "x"
code = "y"
[functions.list]
secrets = "db"
traffic = [{ percent = 60 }, { percent = 60 }]
"#;
    insta::assert_snapshot!("mistakes-toml", told("tidegate.toml", toml));
    let yaml = "functions:\n  a:\n    limits: [1]\n    accss: public\n  b: 7\n---\nkind: Functon\nmetadata: {}\n---\n\
                kind: Secret\n---\nnothing: 1\n---\nkind: Function\nmetadata: {name: x}\nspec: {code: {digest: abc}}\n";
    insta::assert_snapshot!("mistakes-yaml", told("x.yaml", yaml));
    insta::assert_snapshot!("mistakes-broken", {
        let mut all = told("x.toml", "[functions.a]\npath = \"x\npath = 'y'\n");
        all.push_str("\n\n");
        all.push_str(&told("x.yaml", "functions:\n  a: {path: x\n  b: 1\n"));
        all.push_str("\n\n");
        all.push_str(&told("x.yaml", "functions:\n  a: {}\n  a: {}\n"));
        all
    });
}

#[test]
fn a_function_stands_once() {
    let said = told(
        "x.yaml",
        "functions: {a: {path: x}}\n---\nfunctions: {b: {path: y, name: a}}\n",
    );
    assert!(
        said.starts_with("function a stands already at x.yaml:1\n"),
        "{said}"
    );
}

#[test]
fn a_project_has_its_folders_name() {
    let nothing = |_: &str| None;
    let loader = Loader {
        env: &nothing,
        env_files: Vec::new(),
    };
    // As a file is named that one stands beside, and as its folder is.
    for folder in ["", "."] {
        let input = Input::Text {
            name: "tidegate.toml".to_owned(),
            text: "[functions.f]".to_owned(),
            folder: PathBuf::from(folder),
        };
        let loaded = loader.load(&[input]).unwrap();
        let projects: Vec<&str> = loaded.projects.iter().map(String::as_str).collect();
        assert_eq!(projects, ["tidegate-manifest"], "{folder:?}");
    }
}

#[test]
fn folders_files_and_their_variables() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let nothing = |_: &str| None;
    let loader = |env_files| Loader {
        env: &nothing,
        env_files,
    };
    let load = |path: PathBuf, env_files| loader(env_files).load(&[Input::Path(path)]);

    let said = load(dir.path().to_owned(), vec![]).unwrap_err().to_string();
    assert!(said.contains("the folder has no manifest"), "{said}");
    std::fs::write(at("b.yaml"), "functions: {b: {env: {X: $X}}}").unwrap();
    std::fs::write(at("a.yml"), "functions: {a: {}}").unwrap();
    std::fs::write(at("other.json"), "not a manifest").unwrap();
    std::fs::write(at(".env"), "X=beside").unwrap();
    std::fs::write(at("named.env"), "X=named").unwrap();
    let loaded = load(dir.path().to_owned(), vec![]).unwrap();
    let names: Vec<&str> = loaded.functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(loaded.functions[1].spec["env"]["X"], "beside");
    let loaded = load(at("b.yaml"), vec![at("named.env")]).unwrap();
    assert_eq!(loaded.functions[0].spec["env"]["X"], "named");

    std::fs::write(at("tidegate.toml"), "[functions.c]").unwrap();
    let loaded = load(dir.path().to_owned(), vec![]).unwrap();
    assert_eq!(loaded.functions[0].name.as_str(), "c");
    std::fs::write(at("tidegate.yaml"), "").unwrap();
    let said = load(dir.path().to_owned(), vec![]).unwrap_err().to_string();
    assert!(
        said.contains("both tidegate.toml and tidegate.yaml"),
        "{said}"
    );

    std::fs::write(at("bad.env"), "nothing").unwrap();
    let said = load(at("b.yaml"), vec![at("bad.env")])
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("bad.env:1: \"nothing\" is not NAME=VALUE"),
        "{said}"
    );
    let said = load(at("b.yaml"), vec![at("none.env")])
        .unwrap_err()
        .to_string();
    assert!(said.contains("none.env: No such file"), "{said}");
    assert!(is_manifest(&at("b.yaml")) && !is_manifest(&at("named.env")));
}

#[test]
fn the_reference_page_has_every_key() {
    let page = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/manifest.md"
    ))
    .unwrap();
    for line in reference() {
        let row = format!("| `{}` | {} | {} |", line.key, line.takes, line.about);
        assert!(
            page.contains(&row),
            "docs/manifest.md lacks this row:\n{row}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the text is, it is read or refused with places that exist.
    #[test]
    fn no_text_is_too_much(
        text in "[a-c :{}\\[\\]\n\"'$&*|>#=.ü-]{0,60}",
        name in prop_oneof![Just("x.toml"), Just("x.yaml"), Just("x")],
    ) {
        if let Err(mistakes) = load(name, &text, &[]) {
            prop_assert!(!mistakes.is_empty());
            for mistake in &mistakes.0 {
                prop_assert!(mistake.line <= text.matches('\n').count() + 1);
                let _ = mistake.to_string();
            }
        }
    }

    /// A value survives being written, whichever format it is written in.
    #[test]
    fn values_survive(value in "[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}]{0,30}") {
        let escaped = crate::escape(&value);
        let quoted = serde_json::to_string(&escaped).unwrap();
        let yaml = format!("functions: {{a: {{env: {{X: {quoted}}}}}}}");
        let loaded = load("x.yaml", &yaml, &[]).unwrap();
        prop_assert_eq!(&loaded.functions[0].spec["env"]["X"], &json!(value));
        let table: toml::Table = [("X".to_owned(), toml::Value::String(escaped))].into_iter().collect();
        let toml = format!("[functions.a.env]\n{}", toml::to_string(&table).unwrap());
        let loaded = load("x.toml", &toml, &[]).unwrap();
        prop_assert_eq!(&loaded.functions[0].spec["env"]["X"], &json!(value));
    }

    /// Defaults reach where nothing is said, and nowhere else.
    #[test]
    fn defaults_are_below(a in proptest::option::of(1u32..9), b in proptest::option::of(1u32..9)) {
        let line = |n: Option<u32>| n.map_or(String::new(), |n| format!("scale.max = {n}\n"));
        let text = format!("[defaults]\n{}[functions.f]\n{}", line(a), line(b));
        let loaded = load("x.toml", &text, &[]).unwrap();
        let max = loaded.functions[0].spec.get("scale").map(|s| s["max"].clone());
        prop_assert_eq!(max, b.or(a).map(|n| json!(n)));
    }
}
