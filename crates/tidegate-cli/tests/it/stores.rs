//! What others publish: functions and templates.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check};

fn functions() -> String {
    json!({
        "version": "0.2.0",
        "functions": [
            {
                "icon": "x",
                "author": "openfaas",
                "title": "Node Info",
                "name": "nodeinfo",
                "description": "What a machine is\nand more",
                "fprocess": "node main.js",
                "repo_url": "https://example.com/nodeinfo",
                "readOnlyRootFilesystem": true,
                "environment": { "write_debug": "true", "MODE": "a" },
                "labels": null,
                "images": {
                    "x86_64": "nodeinfo:latest", "arm64": "nodeinfo:latest", "armhf": "nodeinfo:latest",
                },
            },
            { "title": "Other", "name": "other", "images": { "riscv64": "x" } },
        ],
    })
    .to_string()
}

#[test]
fn functions_of_a_store() {
    let mut home = Home::new();
    let file = home.file("functions.json", &functions());
    let fake = Fake::new()
        .raw("GET /functions.json", 200, &[], &functions())
        .raw("PUT /system/functions", 404, &[], "")
        .raw("POST /system/functions", 202, &[], "")
        .raw(
            "GET /system/function/info",
            200,
            &[],
            "{\"replicas\":1,\"availableReplicas\":1}",
        );
    let url = format!("{}/functions.json", fake.url);
    let mut said = home.run(&fake, &["store", "list", "--store", &url]);
    said.push_str(&home.run(&fake, &["store", "inspect", "Node info", "--store", &file]));
    said.push_str(&home.run(&fake, &["store", "inspect", "nodeinof", "--store", &file]));
    said.push_str(&home.run(
        &fake,
        &[
            "store", "deploy", "nodeinfo", "--name", "info", "-e", "MODE=b", "--store", &file,
        ],
    ));
    home.env.insert("OPENFAAS_STORE".to_owned(), file.into());
    said.push_str(
        &home
            .run(&fake, &["store", "deploy", "other"])
            .replace("x86_64", "ARCH")
            .replace("arm64", "ARCH"),
    );
    check("store", &said);
    let sent: Value = serde_json::from_slice(&fake.the("POST /system/functions").body).unwrap();
    assert_eq!(
        sent,
        json!({
            "service": "info",
            "image": "nodeinfo:latest",
            "envProcess": "node main.js",
            "envVars": { "MODE": "b", "write_debug": "true" },
            "labels": {},
            "annotations": {},
            "readOnlyRootFilesystem": true,
        })
    );
}

#[test]
fn stores_that_cannot_be_read_are_told() {
    let home = Home::new();
    let list = home.file("list.json", "{\"functions\": 3}");
    let fake = Fake::new();
    let mut said = String::new();
    for store in [
        &list,
        "/nowhere/at/all.json",
        "http://127.0.0.1:1/x.json",
        &format!("{}/gone.json", fake.url),
        "ftp://host/x",
    ] {
        said.push_str(&home.run(&fake, &["store", "list", "--store", store]));
    }
    check("store-wrong", &said);
}

/// A folder with two templates, as repositories have them.
fn repository(home: &Home, name: &str) -> String {
    for template in ["mine", "other"] {
        home.file(
            &format!("{name}/template/{template}/template.yml"),
            &format!("language: {template}\nwelcome_message: |\n  Hello from {template}.\n"),
        );
        home.file(
            &format!("{name}/template/{template}/function/handler.sh"),
            "#!/bin/sh\n",
        );
    }
    home.path().join(name).display().to_string()
}

#[test]
fn templates_are_pulled() {
    let home = Home::new();
    let folder = repository(&home, "repo");
    let into = home.path().join("here/template").display().to_string();
    let fake = Fake::new();
    let pull = |args: &[&str]| {
        home.run(
            &fake,
            &[&["template", "pull", "--into", &into], args].concat(),
        )
    };
    let mut said = pull(&[&folder]);
    home.file("repo/template/mine/new.txt", "new\n");
    said.push_str(&pull(&[&folder]));
    assert!(!home.path().join("here/template/mine/new.txt").exists());
    said.push_str(&pull(&["--overwrite", &format!("{folder}/template/mine")]));
    assert!(home.path().join("here/template/mine/new.txt").exists());
    said.push_str(&pull(&[&home
        .path()
        .join("here")
        .join("template/mine/function")
        .display()
        .to_string()]));
    check("template-pull", &said);
    let left: Vec<_> = std::fs::read_dir(&into)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with('.'))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn templates_come_from_repositories_by_name_and_by_stack() {
    let mut home = Home::new();
    let folder = repository(&home, "repo");
    let git = |args: &[&str]| {
        let ran = std::process::Command::new("git")
            .args(["-c", "user.name=x", "-c", "user.email=x@example.com"])
            .args(args)
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "templates"]);
    git(&["branch", "old"]);
    let url = format!("file://{folder}");
    let list = json!([
        { "template": "mine", "platform": "x86_64", "language": "Mine", "source": "us", "description": "Ours", "repo": url,
          "official": "true", "recommended": false },
    ]);
    let store = home.file("templates.json", &list.to_string());
    home.env
        .insert("OPENFAAS_TEMPLATE_STORE_URL".to_owned(), store.into());
    let stack = home.file(
        "stack.yaml",
        &format!(
            "provider: {{name: openfaas}}\nfunctions:\n  a: {{image: a}}\nconfiguration:\n  templates:\n    - name: mine\n    - \
             name: other\n      source: {url}#old\n"
        ),
    );
    let fake = Fake::new();
    let into = |name: &str| home.path().join(name).display().to_string();
    let mut said = home.run(&fake, &["template", "list"]);
    said.push_str(&home.run(
        &fake,
        &["template", "pull", "mine", "--into", &into("by-name")],
    ));
    said.push_str(&home.run(
        &fake,
        &["template", "pull", "miin", "--into", &into("by-name")],
    ));
    said.push_str(&home.run(
        &fake,
        &[
            "template",
            "pull",
            "-f",
            &stack,
            "--into",
            &into("by-stack"),
        ],
    ));
    said.push_str(&home.run(
        &fake,
        &[
            "template",
            "pull",
            "-f",
            &stack,
            "--into",
            &into("by-stack"),
        ],
    ));
    check("template-store", &said);
    assert!(
        home.path()
            .join("by-stack/other/function/handler.sh")
            .is_file()
    );
    assert!(!home.path().join("by-name/other").exists());
}

#[test]
fn functions_are_exported_in_the_words_of_their_api() {
    let home = Home::new();
    let functions = json!([
        {
            "name": "hello",
            "image": "hello:latest",
            "namespace": "openfaas-fn",
            "envProcess": "python index.py",
            "envVars": { "A": "$b" },
            "secrets": ["s1"],
            "labels": { "faas_function": "hello", "app": "x" },
            "annotations": { "prometheus.io.scrape": "false", "tidegate.dev/message": "x", "topic": "t" },
            "limits": { "memory": "128Mi" },
            "replicas": 1,
        },
        {
            "name": "native",
            "image": "tidegate/python:1",
            "namespace": "openfaas-fn",
            "labels": { "faas_function": "native" },
            "annotations": { "tidegate.dev/dialect": "native" },
        },
    ]);
    let mut foreign = crate::harness::function("hello", "Ready");
    foreign["metadata"]["annotations"] = json!({ "tidegate.dev/dialect": "openfaas" });
    let fake = Fake::new()
        .raw("GET /system/functions", 200, &[], &functions.to_string())
        .on(
            "GET /namespaces/default/functions?limit=500",
            200,
            &crate::harness::list(&[foreign.clone()]),
        )
        .on("GET /namespaces/default/functions/hello", 200, &foreign);
    let mut said = home.run(&fake, &["export"]);
    said.push_str(&home.run(&fake, &["export", "-o", "openfaas"]));
    said.push_str(&home.run(&fake, &["export", "-o", "openfaas", "native"]));
    check("export-openfaas", &said);
}

#[test]
fn a_store_of_files_alone() {
    let home = Home::new();
    let folder = home.path().join("ours");
    home.file("ours/template/mine/template.yml", "language: python3\n");
    home.file("ours/template/mine/function/handler.py", "x = 1\n");
    let list =
        json!([{ "template": "mine", "source": "us", "repo": folder.display().to_string() }]);
    let store = format!("file://{}", home.file("templates.json", &list.to_string()));
    let fake = Fake::new();
    let into = home.path().join("pulled");
    for name in ["mine", "us/mine"] {
        let said = home.run(
            &fake,
            &[
                "template",
                "pull",
                name,
                "--store",
                &store,
                "--overwrite",
                "--into",
                &into.display().to_string(),
            ],
        );
        assert!(said.contains("pulled mine"), "{said}");
    }
    assert!(into.join("mine/function/handler.py").is_file());
    assert!(fake.asked().is_empty());
}
