//! Images as functions: from archives, folders and registries, through both doors.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Image, Item, Registry, Server, Shared, copy_program, layer, until, write};

static SERVER: Shared = Shared::new();

/// Files and folders below a folder, but for the images' index.
fn held(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            } else {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found.sort();
    found
}

impl Server {
    /// Imports an image under a name.
    #[track_caller]
    fn import(&self, name: &str, image: &Image) {
        let file = self.file(
            &format!("images/{}.tar", name.replace(['/', ':'], "-")),
            image.archive(name),
        );
        self.cli(&["image", "import", &file, "--name", name]).ok();
    }

    fn image_of(&self, function: &str) -> Value {
        self.function(function)["status"]["image"].clone()
    }
}

#[test]
fn an_imported_image_is_a_function() {
    let mut server = Server::start();
    let image = Image::web("one");
    server.import("tides/web:1", &image);
    server
        .cli(&[
            "deploy",
            "--image",
            "tides/web:1",
            "web",
            "--env",
            "COLOUR=blue",
        ])
        .ok();
    assert_eq!(server.get("/fn/web/").ok().text(), "one");
    let env = server.get("/fn/web/cgi-bin/env").ok();
    for line in [
        "FROM_IMAGE=yes",
        "COLOUR=blue",
        "TIDEGATE_FUNCTION=web",
        "PORT=8080",
        "1000",
    ] {
        assert!(env.text().lines().any(|l| l == line), "{line}: {env}");
    }
    // Its root is read-only unless it is asked for.
    let tried = server.get("/fn/web/cgi-bin/try").ok();
    assert_eq!(tried.text(), "/root-file no\n/tmp/file yes\n");
    assert_eq!(server.image_of("web")["digest"], image.digest());
    let described = server.cli(&["describe", "web"]).ok();
    assert!(described.text().contains("tides/web:1"), "{described}");
    assert!(described.text().contains(&image.digest()), "{described}");
    let listed = server.cli(&["image", "list"]).ok();
    assert!(listed.text().contains("docker.io/tides/web:1"), "{listed}");

    // Another image of the same name is not what runs: neither for a change of scale nor after a restart.
    server.import("tides/web:1", &Image::web("two"));
    server.cli(&["scale", "web", "--min", "1"]).ok();
    assert_eq!(server.get("/fn/web/").ok().text(), "one");
    server.stop();
    server.restart();
    assert_eq!(server.get("/fn/web/").ok().text(), "one");
    server
        .cli(&["deploy", "--image", "tides/web:1", "web"])
        .ok();
    assert_eq!(server.get("/fn/web/").ok().text(), "two");

    // What revisions could be rolled back to is kept, and the rest goes.
    server.import("tides/other:1", &Image::web("three"));
    let pruned = server.cli(&["image", "prune", "--json"]).ok();
    assert_eq!(pruned.json()["images"], 1);
    server.cli(&["rollback", "web"]).ok();
    assert_eq!(server.get("/fn/web/").ok().text(), "one");
}

#[test]
fn the_document_stands_over_the_image() {
    let server = SERVER.get();
    server.import("tides/words:1", &Image::web("words"));
    server
        .cli(&[
            "deploy",
            "--image",
            "tides/words:1",
            "words",
            "--contract",
            "stdio",
            "--command",
            "/bin/sh",
            "--arg",
            "-c",
            "--arg",
            "/bin/busybox tr a-z A-Z; /bin/busybox pwd; /bin/busybox id -u",
            "--workdir",
            "/www",
            "--user",
            "7:8",
        ])
        .ok();
    let reply = server.post("/fn/words", "ebb ").ok();
    assert_eq!(reply.text(), "EBB /www\n7\n");
    // What is not given again stays; a port of one's own, and a root that can be written to.
    server.import("tides/port:1", &Image::web("port"));
    server
        .cli(&[
            "deploy",
            "--image",
            "tides/port:1",
            "port",
            "--port",
            "9000",
            "--writable-root",
            "--arg",
            "-p",
            "--arg",
            "9000",
            "--arg",
            "-h",
            "--arg",
            "/www",
            "--user",
            "root",
            "--ready-path",
            "/index.html",
        ])
        .ok();
    assert_eq!(server.get("/fn/port/").ok().text(), "port");
    let tried = server.get("/fn/port/cgi-bin/try").ok();
    assert_eq!(tried.text(), "/root-file yes\n/tmp/file yes\n");
    server
        .cli(&["deploy", "--image", "tides/port:1", "port", "--env", "A=b"])
        .ok()
        .says(&["port 9000", "user root", "root writable"]);
    assert_eq!(server.get("/fn/port/").ok().text(), "port");
    // Code in place of the image, under the same name.
    server.deploy("port", "#!/bin/sh\necho code\n", &[]);
    assert_eq!(server.post("/fn/port", "").ok().text(), "code\n");
}

#[test]
fn a_path_that_is_not_answered_well_is_not_ready() {
    let server = SERVER.get();
    server.import("tides/unready:1", &Image::web("unready"));
    server
        .cli(&[
            "deploy",
            "--image",
            "tides/unready:1",
            "unready",
            "--ready-path",
            "/nowhere",
            "--timeout",
            "2s",
        ])
        .fails(&["did not become ready", "/nowhere", "404"]);
}

#[test]
fn a_label_says_how_an_image_is_called() {
    let server = SERVER.get();
    let image = Image::busybox().config(json!({
        "Entrypoint": ["/bin/busybox", "rev"],
        "Labels": { "dev.tidegate.contract": "stdio" },
    }));
    server.import("tides/rev:1", &image);
    server
        .cli(&["deploy", "--image", "tides/rev:1", "rev"])
        .ok();
    assert_eq!(server.post("/fn/rev", "tide\n").ok().text(), "edit\n");
}

#[test]
fn a_registrys_image_is_pulled_once_and_again_when_it_is_asked_for() {
    let server = SERVER.get();
    let registry = Registry::start();
    let name = registry.name("team/api:1");
    registry.push("team/api", "1", &Image::web("first"));
    server.cli(&["deploy", "--image", &name]).ok();
    assert_eq!(server.get("/fn/api/").ok().text(), "first");
    registry.push("team/api", "1", &Image::web("second"));
    server.cli(&["deploy", "--image", &name]).ok();
    assert_eq!(server.get("/fn/api/").ok().text(), "first");
    server
        .cli(&["deploy", "--image", &name, "--pull", "always"])
        .ok();
    assert_eq!(server.get("/fn/api/").ok().text(), "second");
    // By its digest, whatever the tag says now.
    let first = registry.name(&format!("team/api@{}", Image::web("first").digest()));
    server.cli(&["deploy", "--image", &first, "api"]).ok();
    assert_eq!(server.get("/fn/api/").ok().text(), "first");
    let pulled = server.cli(&["image", "pull", &name, "--json"]).ok();
    assert_eq!(pulled.json()["digest"], Image::web("second").digest());
}

#[test]
fn a_document_alone_has_its_image_pulled() {
    let server = SERVER.get();
    let registry = Registry::start();
    registry.push("team/alone", "1", &Image::web("alone"));
    let document = json!({ "spec": { "image": registry.name("team/alone:1") } });
    let put = server
        .control("PUT", "/namespaces/default/functions/alone?wait=60")
        .body(document.to_string())
        .send()
        .status(201);
    let put: Value = put.json();
    assert_eq!(put["status"]["phase"], "Ready", "{put}");
    assert_eq!(
        put["status"]["image"]["digest"],
        Image::web("alone").digest()
    );
    assert_eq!(server.get("/fn/alone/").ok().text(), "alone");
}

/// What sites show of an image is most often the digest of an index: of images for several processors.
#[test]
fn an_index_is_named_by_its_digest_and_asked_for_once() {
    let server = SERVER.get();
    let registry = Registry::start();
    let web = Image::web("indexed");
    registry.push("team/indexed", "1", &web);
    let index = registry.push_index("team/indexed", "list", &web);
    assert_ne!(index, web.digest());
    let name = registry.name(&format!("team/indexed@{index}"));
    let document = json!({ "spec": { "image": name } });
    let put = |target: &str| {
        let target = format!("/namespaces/default/functions/{target}?wait=60");
        let reply = server.control("PUT", &target);
        reply.body(document.to_string()).send().json()
    };
    let ready = |put: &Value| {
        assert_eq!(put["status"]["phase"], "Ready", "{put}");
        assert_eq!(put["status"]["image"]["digest"], web.digest());
    };
    ready(&put("indexed"));
    // From here on everything that is needed is here.
    drop(registry);
    ready(&put("indexed-again"));
    server.cli(&["deploy", "--image", &name, "indexed"]).ok();
    let scaled = server.change("indexed", |spec| spec["scale"] = json!({ "min": 1 }));
    ready(&scaled.json());
    assert_eq!(server.get("/fn/indexed/").ok().text(), "indexed");
    // Not even its name.
    server.cli(&["image", "remove", &name]).ok();
    let scaled = server.change("indexed", |spec| spec["scale"] = json!({ "min": 2 }));
    ready(&scaled.json());
}

#[test]
fn the_status_says_that_an_image_is_pulled_and_a_newer_document_ends_it() {
    let server = SERVER.get();
    // Takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let name = format!("{}/team/slow:1", silent.local_addr().expect("an address"));
    let document = json!({ "spec": { "image": name } });
    let route = "/namespaces/default/functions/slow";
    server
        .control("PUT", route)
        .body(document.to_string())
        .send()
        .status(201);
    until("the status says what is waited for", || {
        server.function("slow")["status"]["message"] == format!("Pulling image {name}")
    });
    assert_eq!(server.function("slow")["status"]["phase"], "Pending");
    server.import("tides/fast:1", &Image::web("fast"));
    server
        .cli(&["deploy", "--image", "tides/fast:1", "slow"])
        .ok();
    assert_eq!(server.get("/fn/slow/").ok().text(), "fast");
}

#[test]
fn credentials_come_from_a_secret_or_the_servers_user() {
    let registry = Registry::with_login();
    registry.push("team/private", "1", &Image::web("private"));
    let name = registry.name("team/private:1");
    let server = SERVER.get();
    server
        .cli(&["deploy", "--image", &name])
        .fails(&["refuses access", "team/private"]);
    server
        .cli_with(
            &["secret", "set", "registry", "-"],
            registry.docker_config().as_bytes(),
        )
        .ok();
    server
        .cli(&["deploy", "--image", &name, "--pull-secret", "registry"])
        .ok();
    assert_eq!(server.get("/fn/private/").ok().text(), "private");
    // A document alone, which the platform pulls for.
    server.cli(&["image", "remove", &name]).ok();
    let document = json!({ "spec": { "image": name, "pullSecrets": ["registry"] } });
    let put = server
        .control("PUT", "/namespaces/default/functions/quiet?wait=60")
        .body(document.to_string())
        .send();
    let put: Value = put.status(201).json();
    assert_eq!(put["status"]["phase"], "Ready", "{put}");

    let own = tempfile::tempdir().expect("a folder");
    let config = write(
        own.path(),
        "config.json",
        registry.docker_config().as_bytes(),
    );
    let logged_in = Server::options()
        .set("images.docker-config", &config)
        .start();
    logged_in.cli(&["deploy", "--image", &name]).ok();
    assert_eq!(logged_in.get("/fn/private/").ok().text(), "private");
}

/// Whatever is wrong with an image is said at the deploy, the revision that serves goes on, and nothing stays on the disk.
#[test]
fn what_cannot_be_run_is_said_and_leaves_what_runs() {
    let server = Server::start();
    server.import("tides/good:1", &Image::web("good"));
    server.cli(&["deploy", "--image", "tides/good:1", "f"]).ok();
    let folder = server.data().join("images");
    let before = held(&folder);
    let registry = Registry::start();
    registry.push("bad/other", "1", &Image::web("x").architecture("s390x"));
    let through = layer(&[
        ("evil", Item::Link("/tmp")),
        ("evil/file", Item::File(0o644, b"out")),
    ]);
    registry.push("bad/link", "1", &Image::web("x").add(through));
    let out = layer(&[("../../file", Item::File(0o644, b"out"))]);
    registry.push("bad/out", "1", &Image::web("x").add(out));
    for (image, says) in [
        ("bad/other:1", vec!["s390x"]),
        ("bad/link:1", vec!["unsafe", "evil"]),
        ("bad/out:1", vec!["unsafe", "file"]),
        ("bad/none:1", vec!["bad/none"]),
    ] {
        let name = registry.name(image);
        server.cli(&["deploy", "--image", &name, "f"]).fails(&says);
        // The same of a document alone.
        let changed = server.change("f", |spec| {
            spec["image"] = name.clone().into();
        });
        let status = changed.json()["status"].clone();
        assert_eq!(status["phase"], "Failed", "{image}: {status}");
        for part in says {
            let message = status["message"].as_str().expect("a message");
            assert!(message.contains(part), "{image}: {message}");
        }
        assert_eq!(server.get("/fn/f/").ok().text(), "good");
    }
    let nobody = "127.0.0.1:1/bad/down:1";
    server
        .cli(&["deploy", "--image", nobody, "f"])
        .fails(&["127.0.0.1:1", "cannot be reached"]);
    let mute = Image::busybox();
    server.import("tides/mute:1", &mute);
    server
        .cli(&["deploy", "--image", "tides/mute:1", "f"])
        .fails(&["has no command", "command"]);
    let good = ["deploy", "--image", "tides/good:1", "f"];
    server
        .cli(&[&good[..], &["--user", "captain"]].concat())
        .fails(&["captain", "/etc/passwd"]);
    server
        .cli(&[&good[..], &["--command", "/bin/absent"]].concat())
        .fails(&["/bin/absent"]);
    server
        .cli(&[&good[..], &["--command", "/bin/sh -c true"]].concat())
        .fails(&["\"/bin/sh -c true\"", "that is one word"]);
    for (image, says) in [("A B", "image name"), ("x@sha256:12", "digest")] {
        server
            .cli(&["deploy", "--image", image, "f"])
            .fails(&[says]);
    }
    assert_eq!(server.get("/fn/f/").ok().text(), "good");
    server.cli(&["image", "remove", "tides/mute:1"]).ok();
    server.cli(&["image", "prune"]).ok();
    assert_eq!(held(&folder), before);
}

#[test]
fn a_folder_is_an_image_and_a_runtime_may_be_one() {
    let server = SERVER.get();
    let root = tempfile::tempdir().expect("a folder");
    copy_program("/usr/bin/python3", root.path());
    let version = std::process::Command::new("/usr/bin/python3")
        .args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        .output()
        .expect("python");
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    // The standard library, without what nobody imports here.
    let library = format!("usr/lib/python{version}");
    std::fs::create_dir_all(root.path().join("usr/lib")).expect("a folder");
    let copied = std::process::Command::new("cp")
        .args(["-a", &format!("/{library}")])
        .arg(root.path().join("usr/lib"))
        .status();
    assert!(copied.expect("cp").success());
    for extra in ["dist-packages", "test", "idlelib", "lib2to3", "ensurepip"] {
        let _ = std::fs::remove_dir_all(root.path().join(&library).join(extra));
    }
    // What its compiled modules need.
    let modules = std::fs::read_dir(format!("/{library}/lib-dynload"));
    for module in modules.expect("modules").flatten() {
        copy_program(&module.path().display().to_string(), root.path());
    }
    std::fs::write(root.path().join("marker"), "of the image").expect("a file");
    for (link, to) in [
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("bin", "usr/bin"),
    ] {
        let link = root.path().join(link);
        if !link.exists() {
            std::os::unix::fs::symlink(to, link).expect("a link");
        }
    }
    let folder = root.path().display().to_string();
    server
        .cli(&["image", "import", &folder, "--name", "tides/python:1"])
        .ok();
    server
        .cli(&["runtime", "add", "python:9.9", "--image", "tides/python:1"])
        .ok()
        .says(&["runtime python:9.9 is image tides/python:1"]);
    let listed = server.cli(&["runtime", "list"]).ok();
    assert!(listed.text().contains("python:9.9"), "{listed}");
    let source = "def handler(event, context):\n    return open('/marker').read()\n";
    server.deploy("by-image", source, &["--runtime", "python:9.9"]);
    assert_eq!(
        server.post("/fn/by-image", "{}").ok().text(),
        "of the image"
    );
    server
        .cli(&["runtime", "remove", "python:9.9"])
        .fails(&["by-image", "--force"]);
    server
        .cli(&["runtime", "add", "cobol:60", "--image", "tides/python:1"])
        .fails(&["cobol", "python"]);
    let again = server.deploy("by-image", source, &[]);
    again.says(&["runtime python:9.9"]);
    server.cli(&["delete", "by-image"]).ok();
    server.cli(&["runtime", "remove", "python:9.9"]).ok();
}

#[test]
fn the_gateway_runs_images() {
    let server = SERVER.get();
    server.import("tides/gateway:1", &Image::web("through the gateway"));
    server
        .cli(&[
            "image",
            "alias",
            "tides/gateway:1",
            "functions/gateway:latest",
        ])
        .ok();
    server
        .faas_json(
            "POST",
            "/system/secrets",
            &json!({ "name": "harbour", "value": "deep" }),
        )
        .status(202);
    let deployment = json!({
        "service": "gateway", "image": "functions/gateway", "envProcess": "cat",
        "envVars": { "COLOUR": "green" }, "secrets": ["harbour"],
        "labels": {}, "annotations": {},
        "limits": { "memory": "64Mi" }, "readOnlyRootFilesystem": true,
    });
    server.faas_deploy(&deployment).status(202);
    server.faas_ready("gateway");
    let page = server.get("/function/gateway/").ok();
    assert_eq!(page.text(), "through the gateway");
    let env = server.get("/function/gateway/cgi-bin/env").ok();
    for line in [
        "fprocess=cat",
        "COLOUR=green",
        "OPENFAAS_NAME=gateway",
        "/var/openfaas/secrets/harbour=deep",
    ] {
        assert!(env.text().lines().any(|l| l == line), "{line}: {env}");
    }
    let tried = server.get("/function/gateway/cgi-bin/try").ok();
    assert_eq!(tried.text(), "/root-file no\n/tmp/file yes\n");

    // From a registry with credentials that come with the deploy, and its root writable.
    let registry = Registry::with_login();
    registry.push(
        "team/far",
        "1",
        &Image::web("from afar").config(json!({
            "Entrypoint": ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"],
        })),
    );
    let mut far = json!({ "service": "far", "image": registry.name("team/far:1") });
    let refused = server.faas_deploy(&far).status(400);
    assert!(refused.text().contains("refuses access"), "{refused}");
    let config: Value = serde_json::from_str(&registry.docker_config()).expect("JSON");
    far["registryAuth"] = config["auths"][registry.address.to_string()]["auth"].clone();
    server.faas_deploy(&far).status(202);
    server.faas_ready("far");
    assert_eq!(server.get("/function/far/").ok().text(), "from afar");
    let tried = server.get("/function/far/cgi-bin/try").ok();
    assert_eq!(tried.text(), "/root-file yes\n/tmp/file yes\n");

    // One that cannot be had is said to be, in a sentence, and what runs goes on.
    let mut gone = far.clone();
    gone["image"] = registry.name("team/gone:1").into();
    let refused = server.faas_deploy(&gone).status(400);
    for part in ["team/gone:1", "cannot be had", "tidegate image import"] {
        assert!(refused.text().contains(part), "{part}: {refused}");
    }
    assert_eq!(server.get("/function/far/").ok().text(), "from afar");
}

#[test]
fn an_ordinary_user_runs_images() {
    if !crate::harness::is_root() {
        return;
    }
    let server = Server::options().uid(crate::harness::UNPRIVILEGED).start();
    server.import("tides/plain:1", &Image::web("plain"));
    server
        .cli(&["deploy", "--image", "tides/plain:1", "plain"])
        .ok();
    assert_eq!(server.get("/fn/plain/").ok().text(), "plain");
}

#[test]
fn a_manifest_names_images() {
    let server = SERVER.get();
    server.import("tides/manifest:1", &Image::web("as the manifest says"));
    let manifest = server.file(
        "manifest/tidegate.toml",
        "[defaults]\nruntime = 'python'\n[functions.listed]\nimage = 'tides/manifest:1'\nport = 8080\nenv = { A = 'b' }\n",
    );
    server.cli(&["apply", "-f", &manifest]).ok();
    assert_eq!(
        server.get("/fn/listed/").ok().text(),
        "as the manifest says"
    );
    let again = server.cli(&["apply", "-f", &manifest]).ok();
    assert!(again.all().contains("unchanged"), "{again}");
    let exported = server.cli(&["export", "listed"]).ok();
    assert!(exported.text().contains("tides/manifest:1"), "{exported}");
    assert!(!exported.text().contains("imageDigest"), "{exported}");
}
