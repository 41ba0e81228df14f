use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, function};

const HANDLER: &str = "def handler(event, context):\n    return 'hi'\n";

/// Runs git in a folder, with a name of its own and no settings of this machine's.
fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A server that takes any archive of the code in `like` for the function of this name.
fn server(like: &Path, name: &str) -> Fake {
    let digest = tidegate_build::pack(like, &tidegate_build::PackOptions::default())
        .unwrap()
        .digest;
    let at = format!("/namespaces/default/functions/{name}");
    Fake::new()
        .on(&format!("PUT /blobs/{digest}"), 201, &json!({}))
        .on(&format!("PUT {at}"), 201, &function(name, "Pending"))
}

fn sent(fake: &Fake) -> Value {
    let put = fake.the("PUT /tidegate/v1/namespaces");
    serde_json::from_slice(&put.body).unwrap()
}

#[test]
fn code_is_fetched_from_a_repository() {
    let home = Home::new();
    home.file("work/main.py", HANDLER);
    home.file(
        "work/inner/part.py",
        "def handler(event, context):\n    return 2\n",
    );
    let work = home.path().join("work");
    git(&work, &["init", "-q"]);
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "one"]);
    let first = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["tag", "v1"]);
    let bare = home.path().join("shop.git");
    git(home.path(), &["clone", "-q", "--bare", "work", "shop.git"]);
    let url = format!("file://{}", bare.display());

    let inner = work.join("inner");
    let expected = home.path().join("expected");
    std::fs::create_dir(&expected).unwrap();
    std::fs::create_dir(expected.join("inner")).unwrap();
    std::fs::copy(work.join("main.py"), expected.join("main.py")).unwrap();
    std::fs::copy(inner.join("part.py"), expected.join("inner/part.py")).unwrap();
    for (address, like, name, source) in [
        (url.clone(), &expected, "shop", format!("{url}#{first}")),
        (
            format!("{url}#v1"),
            &expected,
            "shop",
            format!("{url}#{first}"),
        ),
        (
            format!("{url}#main:inner"),
            &inner,
            "inner",
            format!("{url}#{first}:inner"),
        ),
        (
            bare.display().to_string(),
            &expected,
            "shop",
            format!("{}#{first}", bare.display()),
        ),
    ] {
        let fake = server(like, name);
        let said = home.run(&fake, &["deploy", &address, "--no-wait", "-q"]);
        assert_eq!(
            said,
            format!("exit 0\n--- stdout\nURL/fn/{name}\n--- stderr\n")
        );
        let document = sent(&fake);
        assert_eq!(
            document["metadata"]["annotations"]["tidegate.dev/source"],
            source.as_str()
        );
    }

    // Code that is here is no longer that of a commit.
    let at = "/namespaces/default/functions/shop";
    let mut earlier = function("shop", "Ready");
    earlier["metadata"]["annotations"] = json!({ "tidegate.dev/source": "x", "mine": "y" });
    let fake = server(&expected, "shop").on(&format!("GET {at}"), 200, &earlier);
    let path = expected.to_str().unwrap();
    home.run(&fake, &["deploy", path, "--name", "shop", "--no-wait"]);
    assert_eq!(
        sent(&fake)["metadata"]["annotations"],
        json!({ "mine": "y" })
    );

    let fake = Fake::new();
    for (address, expected) in [
        (
            format!("{url}#nothing"),
            "cannot fetch file://HOME/shop.git at nothing",
        ),
        (format!("{url}#main:nowhere"), "has no folder \"nowhere\""),
        (
            format!("{url}#main:../.."),
            "names no folder of the repository",
        ),
        (
            "file:///no/such.git".to_owned(),
            "cannot fetch file:///no/such.git at HEAD",
        ),
    ] {
        let said = home.run(&fake, &["deploy", &address]);
        assert!(said.contains(expected), "{address}: {said}");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_manifest_can_name_a_repository() {
    let home = Home::new();
    home.file("work/main.py", HANDLER);
    let work = home.path().join("work");
    git(&work, &["init", "-q"]);
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "one"]);
    let commit = git(&work, &["rev-parse", "HEAD"]);
    let url = format!("file://{}", work.display());
    let expected = home.path().join("expected");
    std::fs::create_dir(&expected).unwrap();
    std::fs::copy(work.join("main.py"), expected.join("main.py")).unwrap();
    let fake = server(&expected, "shop");
    let manifest = home.file(
        "m.toml",
        &format!("[functions.shop]\npath = '{url}#main'\n"),
    );
    let said = home.run(&fake, &["apply", "-f", &manifest, "--no-wait"]);
    assert!(
        said.starts_with("exit 0\n--- stdout\ncreated shop  URL/fn/shop\n"),
        "{said}"
    );
    let noted = &sent(&fake)["metadata"]["annotations"]["tidegate.dev/source"];
    assert_eq!(*noted, format!("{url}#{commit}").as_str());
}
