use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error, function};

const PULL: &str = "POST /images/-/pull";
const IMPORT: &str = "PUT /images/-/import";
const FUNCTION: &str = "/namespaces/default/functions/api";

fn digest(of: char) -> String {
    format!("sha256:{}", of.to_string().repeat(64))
}

/// An image as the server tells it.
fn image(names: &[&str]) -> Value {
    json!({
        "digest": digest('a'),
        "names": names,
        "size": 5_242_880,
        "created": "2020-01-01T00:00:00Z",
        "platform": "linux/amd64",
        "layers": [{ "digest": digest('b'), "size": 5_000_000 }, { "digest": digest('c'), "size": 242_880 }],
        "entrypoint": ["/bin/serve"],
        "cmd": ["--greeting", "it's me"],
        "env": { "PATH": "/bin", "MODE": "production" },
        "workdir": "/app",
        "user": "app",
        "ports": [8080, 9090],
        "stopSignal": "SIGQUIT",
        "labels": { "dev.tidegate.contract": "http" },
    })
}

fn done(names: &[&str]) -> Value {
    json!({ "event": "done", "images": [image(names)] })
}

/// What is told of a pull before it is over.
fn begun() -> Vec<Value> {
    vec![
        json!({ "event": "resolved", "layers": 2, "size": 3000 }),
        json!({ "event": "layer", "layer": 0, "layers": 2, "size": 2000 }),
        json!({ "event": "bytes", "layer": 0, "done": 1000 }),
        json!({ "event": "retry", "layer": 0, "error": "503 Service Unavailable" }),
        json!({ "event": "unpacked", "layer": 0, "size": 5_000_000 }),
        json!({ "event": "exists", "layer": 1 }),
    ]
}

#[test]
fn a_pull_tells_how_it_came_out() {
    let home = Home::new();
    let pull = ["image", "pull", "example.com/team/api:1"];
    let whole = || Fake::new().lines(PULL, &[begun(), vec![done(&[pull[2]])]].concat());
    let fake = whole();
    let mut said = home.run(
        &fake,
        &[&pull[..], &["--pull-secret", "registry", "-n", "team"]].concat(),
    );
    let asked: Value = serde_json::from_slice(&fake.the("POST").body).unwrap();
    assert_eq!(
        asked,
        json!({ "image": pull[2], "namespace": "team", "pullSecrets": ["registry"] })
    );
    said.push_str(&home.run(&whole(), &[&pull[..], &["--json"]].concat()));
    let refused =
        "registry example.com refuses access to example.com/team/api: no credentials were given";
    let untrusted = "registry example.com is not trusted: nobody whom this machine trusts has signed its certificate";
    let lost = "image example.com/team/api is not there: the registry has no manifest 1";
    for (status, text, reason) in [
        (404, lost, "not-found"),
        (403, refused, "registry-unauthorized"),
        (502, untrusted, "registry-untrusted"),
    ] {
        let fake = Fake::new().on(PULL, status, &error(text, reason));
        said.push_str(&home.run(&fake, &pull));
    }
    // After it has begun.
    let failed = json!({ "event": "failed", "error": "no room left in /data/images; free some space and try again", "reason": "disk-full" });
    let fake = Fake::new().lines(PULL, &[begun(), vec![failed]].concat());
    said.push_str(&home.run(&fake, &pull));
    said.push_str(&home.run(&Fake::new().lines(PULL, &begun()), &pull));
    check("image-pull", &said);
}

#[test]
fn what_is_imported_is_sent_and_named() {
    let home = Home::new();
    let archive = home.file("api.tar", "an archive");
    let fake = Fake::new()
        .lines(IMPORT, &[done(&["example.com/a:1", "example.com/a:2"])])
        .lines(IMPORT, &[done(&[])])
        .lines(&format!("{IMPORT}?name=base%3A1"), &[done(&["base:1"])])
        .on(
            &format!("{IMPORT}?name=A"),
            400,
            &error("name: image name \"A\" is none", "invalid"),
        )
        .on(
            &format!("{IMPORT}?name=large"),
            507,
            &error(
                "no room left on the server's disk for the archive; free some space and try again",
                "disk-full",
            ),
        );
    let mut said = home.run(&fake, &["image", "import", &archive]);
    assert_eq!(fake.the("PUT").body, "an archive");
    said.push_str(&home.run(&fake, &["image", "import", &archive]));
    home.file("root/bin/serve", "#!/bin/sh\n");
    let root = home.path().join("root").to_str().unwrap().to_owned();
    said.push_str(&home.run(&fake, &["image", "import", &root, "--name", "base:1"]));
    said.push_str(&home.run(&fake, &["image", "import", &archive, "--name", "A"]));
    said.push_str(&home.run(&fake, &["image", "import", &archive, "--name", "large"]));
    said.push_str(&home.run(&fake, &["image", "import", "HOME/none.tar"]));
    check("image-import", &said);
}

#[test]
fn images_are_listed_shown_named_and_removed() {
    let home = Home::new();
    let mut nameless = image(&[]);
    nameless["digest"] = digest('d').into();
    nameless["created"] = Value::Null;
    let named = image(&["example.com/api:1", "example.com/api:2"]);
    let fake = Fake::new()
        .on("GET /images", 200, &json!({ "items": [] }))
        .on("GET /images", 200, &json!({ "items": [named, nameless] }))
        .on("GET /images/example.com/api:1", 200, &named)
        .on("POST /images/-/alias", 200, &named)
        .on(
            "POST /images/-/alias",
            404,
            &error("image \"gone\" is not here", "not-found"),
        )
        .on("DELETE /images/example.com/api:1", 200, &json!({}))
        .on(
            "POST /images/-/prune",
            200,
            &json!({ "images": 2, "bytes": 3 << 20 }),
        )
        .on(
            "POST /images/-/prune?unnamed=true",
            200,
            &json!({ "images": 0, "bytes": 0 }),
        );
    let mut said = String::new();
    for line in [
        &["image", "list"][..],
        &["image", "list"],
        &["image", "inspect", "example.com/api:1"],
        &["image", "inspect", "example.com/api:1", "--json"],
        &["image", "inspect", "gone"],
        &[
            "image",
            "alias",
            "example.com/api:1",
            "functions/api:latest",
        ],
        &["image", "alias", "gone", "functions/api:latest"],
        &["image", "remove", "example.com/api:1"],
        &["image", "remove", "gone"],
        &["image", "remove", "gone", "--ignore-missing"],
        &["image", "prune"],
        &["image", "prune", "--unnamed"],
        &["image", "prune", "--json"],
    ] {
        said.push_str(&home.run(&fake, line));
    }
    check("image", &said);
}

#[test]
fn a_runtime_is_made_of_an_image() {
    let home = Home::new();
    let runtime =
        json!({ "name": "python:3.13", "image": "python:3.13-slim", "digest": digest('a') });
    let fake = Fake::new()
        .lines(PULL, &[done(&["python:3.13-slim"])])
        .on("GET /images/here:1", 200, &image(&["here:1"]))
        .on("PUT /runtimes/python:3.13", 200, &runtime)
        .on(
            "PUT /runtimes/go:1",
            400,
            &error(
                "runtime \"go\" is none that an image can be; choose one of node, python, with a version after a colon if need be",
                "invalid",
            ),
        )
        .on("GET /runtimes", 200, &json!({ "items": [] }))
        .on("GET /runtimes", 200, &json!({ "items": [runtime] }))
        .on(
            "DELETE /runtimes/python:3.13",
            409,
            &error("runtime \"python:3.13\" is used by api", "in-use"),
        )
        .on("DELETE /runtimes/python:3.13?force=true", 200, &json!({}));
    let add = [
        "runtime",
        "add",
        "python:3.13",
        "--image",
        "python:3.13-slim",
    ];
    let mut said = home.run(&fake, &add);
    assert_eq!(fake.the("POST").line, "POST /tidegate/v1/images/-/pull");
    for line in [
        &["runtime", "add", "go:1", "--image", "here:1"][..],
        &["runtime", "add", "python"],
        &["runtime", "list"],
        &["runtime", "list"],
        &["runtime", "remove", "python:3.13"],
        &["runtime", "remove", "python:3.13", "--force"],
        &["runtime", "remove", "gone"],
    ] {
        said.push_str(&home.run(&fake, line));
    }
    check("runtime", &said);
}

#[test]
fn an_image_is_deployed_in_place_of_code() {
    let home = Home::new();
    let name = "example.com/team/api:1";
    let deploy = ["deploy", "--image", name];
    let mut ready = function("api", "Ready");
    ready["spec"] = json!({ "image": name, "command": ["/bin/serve"], "port": 3000 });
    let fake = || {
        Fake::new()
            .lines(PULL, &[done(&[name])])
            .on(&format!("PUT {FUNCTION}"), 201, &ready)
            .on(
                &format!("GET {FUNCTION}?waitGeneration=2&wait=20"),
                200,
                &ready,
            )
    };
    let fresh = fake();
    let more = [
        "--command",
        "sh",
        "--command",
        "-c",
        "--arg",
        "a b",
        "--writable-root",
    ];
    let mut said = home.run(&fresh, &[&deploy[..], &more].concat());
    let lines: Vec<String> = fresh.asked().into_iter().map(|a| a.line).collect();
    check("deploy-image-requests", &lines.join("\n"));
    let put = fresh.the(&format!("PUT /tidegate/v1{FUNCTION}"));
    let sent: Value = serde_json::from_slice(&put.body).unwrap();
    assert_eq!(
        sent["spec"],
        json!({ "image": name, "command": ["sh", "-c"], "args": ["a b"], "readOnlyRoot": false })
    );
    // Once more, with what is there by then.
    let again = fake()
        .on(&format!("GET /images/{name}"), 200, &image(&[name]))
        .on(&format!("GET {FUNCTION}"), 200, &ready);
    said.push_str(&home.run(&again, &[&deploy[..], &["--user", "app"]].concat()));
    assert!(again.asked().iter().all(|a| !a.line.starts_with("POST")));
    let word = "\"sh -c x\" cannot be run: the image has no such file; that is one word, the program's name";
    let mut failed = ready.clone();
    failed["status"]["phase"] = "Failed".into();
    failed["status"]["message"] = word.into();
    let fails = Fake::new()
        .on(&format!("GET /images/{name}"), 200, &image(&[name]))
        .on(&format!("PUT {FUNCTION}"), 201, &failed)
        .on(
            &format!("GET {FUNCTION}?waitGeneration=2&wait=20"),
            200,
            &failed,
        );
    said.push_str(&home.run(&fails, &[&deploy[..], &["--command", "sh -c x"]].concat()));
    let down = error(
        "registry example.com cannot be reached: no connection: Connection refused (os error 111)",
        "registry-unreachable",
    );
    said.push_str(&home.run(&Fake::new().on(PULL, 502, &down), &deploy));
    for wrong in [
        &["deploy", "handler.py", "--command", "sh"][..],
        &["deploy", "--image", name, "--contract", "host"],
        &["deploy", "--image", name, "--runtime", "python"],
        &["deploy", "--image", name, "--port", "0"],
    ] {
        said.push_str(&home.run(&Fake::new(), wrong));
    }
    check("deploy-image", &said);
}
