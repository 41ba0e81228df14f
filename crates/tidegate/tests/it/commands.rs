//! Every command: what it prints where, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Ran, Server, Shared, eventually, program, until};

static SERVER: Shared = Shared::new();

const HELLO: &str =
    "def handler(event):\n    print('called')\n    return event.body or b'nothing'\n";

/// What a command prints that is told nothing about a server.
fn alone(server: &Server, words: &[&str]) -> Ran {
    let mut command = server.command(words);
    command.env_remove("TIDEGATE_URL");
    Ran::of(command, b"")
}

#[test]
fn deploy_prints_the_url_alone_and_the_document_as_json() {
    let server = SERVER.get();
    let ran = server.deploy("printed", HELLO, &["--quiet"]);
    assert_eq!(ran.text(), format!("{}/fn/printed\n", server.url));
    assert_eq!(ran.stderr, "");
    let ran = server.deploy(
        "printed",
        HELLO,
        &["--json", "--label", "app=x", "--idle", "90s"],
    );
    let document = ran.json();
    assert_eq!(document["metadata"]["name"], "printed");
    assert_eq!(document["metadata"]["labels"], json!({ "app": "x" }));
    assert_eq!(document["spec"]["scale"]["idle"], "90s");
    assert_eq!(document["status"]["phase"], "Ready");
}

#[test]
fn deploy_refuses_what_cannot_be_deployed() {
    let server = SERVER.get();
    let text = server.file("what.txt", "hello\n");
    let script = server.file("bare.sh", "echo hello\n");
    let code = server.file("fine.py", HELLO);
    for (words, parts) in [
        (
            &["deploy", "/nowhere/at/all.py"][..],
            &["/nowhere/at/all.py"][..],
        ),
        (&["deploy", &text], &["cannot tell what", "supported are"]),
        (&["deploy", &script], &["'#!' line"]),
        (&["deploy", &code, "--name", "No_Good"], &["No_Good", "a-z"]),
        (&["deploy", &code, "--memory", "lots"], &["lots", "256Mi"]),
        (&["deploy", &code, "--env", "NOVALUE"], &["NOVALUE"]),
        (&["deploy", &code, "--min", "5", "--max", "2"], &["5", "2"]),
        (&["deploy"], &["<PATH>"]),
        (&["deploi"], &["deploy"]),
    ] {
        let ran = server.cli(words).code(2).says(parts);
        assert_eq!(ran.text(), "");
    }
    server.cli(&["list", "--json"]).ok();
    let names: Vec<Value> = server
        .cli(&["list", "--json"])
        .ok()
        .json()
        .as_array()
        .expect("a list")
        .clone();
    assert!(
        !names.iter().any(|f| f["metadata"]["name"] == "fine"),
        "nothing was deployed"
    );
}

#[test]
fn invoke_takes_data_from_words_files_and_standard_input() {
    let server = SERVER.get();
    server.deploy("taker", HELLO, &[]);
    assert_eq!(
        server.cli(&["invoke", "taker", "-d", "words"]).ok().stdout,
        b"words"
    );
    let file = server.file("data.bin", [0, 255, 10]);
    assert_eq!(
        server
            .cli(&["invoke", "taker", "-d", &format!("@{file}")])
            .ok()
            .stdout,
        [0, 255, 10]
    );
    let large = vec![b'z'; 3 << 20];
    assert!(
        server
            .cli_with(&["invoke", "taker", "-d", "-"], &large)
            .ok()
            .stdout
            == large
    );
    assert_eq!(server.cli(&["invoke", "taker"]).ok().stdout, b"nothing");
    server
        .cli(&["invoke", "taker", "-d", "@/nowhere"])
        .code(2)
        .says(&["/nowhere"]);
}

#[test]
fn invoke_sends_method_headers_and_path_and_shows_the_head_on_request() {
    let server = SERVER.get();
    server.deploy(
        "shown",
        "def handler(event):\n    return f\"{event.method} {event.raw_path}?{event.query_string} {event.headers['x-a']}\", 202, {'x-b': '2'}\n",
        &[],
    );
    let ran = server
        .cli(&[
            "invoke", "shown", "-X", "PATCH", "-H", "X-A: 1", "--path", "/p/q?r=s", "-i",
        ])
        .ok();
    assert_eq!(ran.text(), "PATCH /p/q?r=s 1");
    ran.says(&["202", "x-b: 2", "x-request-id: "]);
}

#[test]
fn invoke_fails_with_the_function_and_says_how_to_see_more() {
    let server = SERVER.get();
    server.deploy(
        "failing",
        "def handler(event):\n    return 'teapot', 418\n",
        &[],
    );
    let ran = server
        .cli(&["invoke", "failing"])
        .code(1)
        .says(&["418", "logs failing --request"]);
    assert_eq!(ran.text(), "teapot");
    server
        .cli(&["invoke", "nowhere"])
        .code(1)
        .says(&["nowhere"]);
    server.deploy(
        "napping",
        "import time\ndef handler(event):\n    time.sleep(600)\n",
        &[],
    );
    server
        .cli(&["invoke", "napping", "--timeout", "200ms"])
        .code(1)
        .says(&["napping did not answer within 200ms"]);
    until("the call is cancelled with the command", || {
        server.count("napping", "busy") == 0
    });
}

#[test]
fn lists_as_tables_and_as_json() {
    let server = SERVER.get();
    server.cli(&["namespace", "create", "listed"]).ok();
    let empty = server.cli(&["list", "-n", "listed", "--json"]).ok();
    assert_eq!(empty.json(), json!([]));
    server.deploy("b", HELLO, &["-n", "listed"]);
    server.deploy("a", HELLO, &["-n", "listed"]);
    let table = server.cli(&["list", "-n", "listed"]).ok();
    let names: Vec<_> = table
        .text()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["NAME", "a", "b"]);
    let all = server.cli(&["list", "-A", "--json"]).ok().json();
    let listed: Vec<_> = all
        .as_array()
        .expect("a list")
        .iter()
        .filter(|f| f["metadata"]["namespace"] == "listed")
        .collect();
    assert_eq!(listed.len(), 2);
    server
        .cli(&["list", "-n", "not-there"])
        .code(1)
        .says(&["not-there"]);
    let described = server
        .cli(&["describe", "a", "-n", "listed", "--json"])
        .ok()
        .json();
    assert_eq!(described["status"]["url"], "/fn/a.listed");
    server.cli(&["describe", "zzz"]).code(1).says(&["zzz"]);
}

#[test]
fn logs_follow_as_lines_come() {
    let server = SERVER.get();
    server.deploy(
        "followed",
        "def handler(event):\n    print('line', event.path)\n",
        &[],
    );
    server.get("/fn/followed/before").ok();
    let mut command = server.command(&["logs", "followed", "-f", "--tail", "1"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("not the end").expect("text");
    assert_eq!(next(), "line /before");
    for n in 0..3 {
        server.get(&format!("/fn/followed/{n}")).ok();
        assert_eq!(next(), format!("line /{n}"));
    }
    child.kill().expect("it runs");
    child.wait().expect("a child of ours");
    // Lines of one request only, by the id that its answer had.
    let reply = server.get("/fn/followed/mine").ok();
    let id = reply.header("x-request-id").expect("an id");
    assert_eq!(
        server
            .cli(&["logs", "followed", "--request", id])
            .ok()
            .text(),
        "line /mine\n"
    );
    let tail = server
        .cli(&["logs", "followed", "--tail", "2", "--json"])
        .ok();
    assert_eq!(tail.text().lines().count(), 2);
    let stamped = server
        .cli(&["logs", "followed", "--tail", "1", "--timestamps"])
        .ok();
    assert!(
        stamped.text().starts_with("20") && stamped.text().ends_with(" line /mine\n"),
        "{stamped}"
    );
    server.cli(&["logs", "nowhere"]).code(1).says(&["nowhere"]);
    server
        .cli(&["logs", "followed", "--request", "nonsense"])
        .code(2)
        .says(&["nonsense"]);
}

#[test]
fn a_follower_is_told_that_its_function_was_deleted() {
    let server = SERVER.get();
    let code = "def handler(event):\n    print('still here')\n";
    server.deploy("leaving", code, &[]);
    server.get("/fn/leaving").ok();
    let mut child = server
        .command(&["logs", "leaving", "-f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(
        lines.next().expect("not the end").expect("text"),
        "still here"
    );
    server.cli(&["delete", "leaving"]).ok();
    lines.for_each(drop);
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(
        ran.stderr.contains("function leaving is no longer there"),
        "{ran}"
    );
}

#[test]
fn a_follower_of_a_function_that_has_yet_to_be_called_waits() {
    let server = SERVER.get();
    server.deploy(
        "silent",
        "def handler(event):\n    print('at last')\n",
        &["--initial", "0"],
    );
    let mut command = server.command(&["logs", "silent", "-f"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    server.get("/fn/silent").ok();
    assert_eq!(lines.next().expect("not the end").expect("text"), "at last");
    child.kill().expect("it runs");
    child.wait().expect("a child of ours");
}

#[test]
fn delete_takes_several_and_says_what_was_not_there() {
    let server = SERVER.get();
    server.deploy("gone-a", HELLO, &[]);
    server.deploy("gone-b", HELLO, &[]);
    server
        .cli(&["delete", "gone-a", "never-there"])
        .code(1)
        .says(&["deleted gone-a", "never-there"]);
    server.get("/fn/gone-a").status(404);
    server
        .cli(&["delete", "gone-b", "never-there", "--ignore-missing"])
        .ok();
    server.get("/fn/gone-b").status(404);
    // And back under the same name.
    server.deploy("gone-a", HELLO, &[]);
    server.get("/fn/gone-a").ok();
}

#[test]
fn namespaces_are_made_listed_and_removed_when_empty() {
    let server = SERVER.get();
    server.cli(&["namespace", "create", "shop"]).ok();
    server.cli(&["namespace", "create", "shop"]).ok();
    server.deploy("in-shop", HELLO, &["-n", "shop"]);
    let list = server.cli(&["namespace", "list", "--json"]).ok().json();
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|n| n["metadata"]["name"].as_str())
        .collect();
    assert!(
        names.contains(&Some("shop")) && names.contains(&Some("default")),
        "{names:?}"
    );
    server
        .cli(&["namespace", "delete", "shop"])
        .code(1)
        .says(&["in-shop"]);
    server.cli(&["delete", "in-shop", "-n", "shop"]).ok();
    server.cli(&["namespace", "delete", "shop"]).ok();
    server.cli(&["namespace", "delete", "shop"]).code(1);
    server
        .cli(&["namespace", "delete", "default"])
        .code(1)
        .says(&["always there"]);
    server
        .cli(&["namespace", "create", "Not_Good"])
        .code(2)
        .says(&["Not_Good"]);
}

#[test]
fn doctor_finds_the_server_and_says_when_there_is_none() {
    let server = SERVER.get();
    let ran = server.cli(&["doctor"]).ok();
    for part in [
        "ok    server: version ",
        "ok    key: ",
        "runtime python",
        "runtime executable",
    ] {
        assert!(ran.text().contains(part), "{part:?} is not in {ran}");
    }
    let json = server.cli(&["doctor", "--json"]).ok().json();
    assert!(
        json.as_array()
            .expect("a list")
            .iter()
            .any(|d| d["name"] == "server" && d["state"] == "ok")
    );
    // Where no server runs the machine itself is looked at, and nothing has failed.
    let ran = server.cli(&["doctor", "--url", "http://127.0.0.1:1"]).ok();
    assert!(ran.text().contains("memory limit: "), "{ran}");
    assert!(
        ran.text()
            .contains("no Tidegate server at http://127.0.0.1:1"),
        "{ran}"
    );
}

#[test]
fn login_keeps_a_key_that_works() {
    let server = SERVER.get();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let run = |words: &[&str], stdin: &str| {
        let mut command = server.command(words);
        command.env("HOME", elsewhere.path());
        Ran::of(command, stdin.as_bytes())
    };
    run(&["list"], "").code(1).says(&["key", "tidegate login"]);
    run(&["login", "--token-stdin"], "tg_wrong")
        .code(1)
        .says(&["does not accept"]);
    run(&["login", "--token-stdin"], &server.key())
        .ok()
        .says(&["logged in"]);
    run(&["list"], "").ok();
    run(&["logout"], "").ok();
    run(&["list"], "").code(1);
    let mut by_variable = server.command(&["list"]);
    by_variable
        .env("HOME", elsewhere.path())
        .env("TIDEGATE_TOKEN", server.key());
    Ran::of(by_variable, b"").ok();
    run(&["list", "--token", &server.key()], "").ok();
}

#[test]
fn completions_version_and_help_need_no_server() {
    let server = SERVER.get();
    for shell in ["bash", "zsh", "fish"] {
        let ran = alone(&server, &["completions", shell]).ok();
        assert!(
            ran.text().contains("tidegate") && ran.text().contains("deploy"),
            "{shell}"
        );
    }
    alone(&server, &["completions", "tcsh-of-old"]).code(2);
    let version = alone(&server, &["--version"]).ok();
    assert!(version.text().starts_with("tidegate 0."), "{version}");
    for command in [
        "up",
        "deploy",
        "invoke",
        "list",
        "describe",
        "logs",
        "delete",
        "scale",
        "secret",
        "namespace",
        "doctor",
        "login",
        "logout",
        "completions",
    ] {
        let help = alone(&server, &[command, "--help"]).ok();
        assert!(help.text().contains("Usage: tidegate"), "{help}");
    }
    alone(&server, &["list", "--url", "http://127.0.0.1:1"])
        .code(3)
        .says(&["no Tidegate server", "tidegate up"]);
}

#[test]
fn a_closed_pipe_is_a_normal_end() {
    let server = SERVER.get();
    server.deploy("piped", HELLO, &[]);
    let script = format!(
        "'{}' list | true; echo ${{PIPESTATUS[0]}}",
        program().display()
    );
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", &script])
        .env("TIDEGATE_URL", &server.url)
        .env("HOME", server.home());
    assert_eq!(Ran::of(command, b"").ok().text(), "0\n");
}

#[test]
fn up_says_that_it_is_ready_as_json() {
    let server = Server::options().arg("--json").start();
    assert!(server.url.starts_with("http://127.0.0.1:"));
    server.get("/healthz").ok();
}

#[test]
fn list_can_watch() {
    let server = SERVER.get();
    server.cli(&["namespace", "create", "watched"]).ok();
    let help = server.cli(&["list", "--help"]).ok();
    assert!(help.text().contains("--watch"), "{help}");
    let mut command = server.command(&["list", "-n", "watched", "--watch"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    server.deploy("seen", HELLO, &["-n", "watched"]);
    eventually("the function is shown", || {
        let line = lines.next().expect("not the end").expect("text");
        line.contains("seen").then_some(())
    });
    child.kill().expect("it runs");
    child.wait().expect("a child of ours");
}
