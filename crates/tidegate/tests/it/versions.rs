//! Versions of a function: split, tagged, promoted, rolled back; and two deploys that meet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Server, Shared, until};

static SERVER: Shared = Shared::new();

fn version(n: u32) -> String {
    format!("def handler(event):\n    return 'v{n}'\n")
}

/// The revisions of a function, newest first.
fn revisions(server: &Server, name: &str) -> Vec<String> {
    let list = server.cli(&["revisions", name, "--json"]).ok().json();
    let list = list.as_array().expect("an array").iter();
    list.map(|r| r["metadata"]["name"].as_str().expect("a word").to_owned())
        .collect()
}

#[test]
fn a_split_is_seen_and_every_answer_says_who_gave_it() {
    let server = SERVER.get();
    server.deploy("split", &version(1), &[]);
    server
        .deploy("split", &version(2), &["--traffic", "10"])
        .says(&["10 % of the calls"]);
    let ids = revisions(&server, "split");
    let mut answers = BTreeMap::<(String, String), u32>::new();
    for _ in 0..200 {
        let reply = server.get("/fn/split").ok();
        let revision = reply.header("x-tidegate-revision").expect("a revision");
        *answers
            .entry((reply.text().to_owned(), revision.to_owned()))
            .or_default() += 1;
    }
    assert_eq!(answers.len(), 2, "{answers:?}");
    let new = answers[&("v2".to_owned(), ids[0].clone())];
    assert!((16..=24).contains(&new), "{answers:?}");
    // The other way round, and nothing is started for it.
    let before = server.function("split")["status"]["invocations"].clone();
    server
        .cli(&["traffic", "split", &format!("{}=10", ids[1]), "latest=90"])
        .ok()
        .says(&["90 %", "10 %"]);
    assert_eq!(server.function("split")["status"]["invocations"], before);
    let v2 = (0..100).filter(|_| server.get("/fn/split").ok().text() == "v2");
    assert!((85..=95).contains(&v2.count()));
    server
        .cli(&["traffic", "split", "latest=90"])
        .code(2)
        .says(&["sum to 90"]);
    server
        .cli(&["traffic", "split", "nobody=100"])
        .code(1)
        .says(&["nobody", &ids[0]]);
}

#[test]
fn a_revision_is_called_by_tag_header_query_and_command() {
    let server = SERVER.get();
    server.deploy("named", &version(1), &[]);
    server
        .deploy("named", &version(2), &["--no-traffic", "--tag", "beta"])
        .says(&["no calls but those that name it"]);
    let ids = revisions(&server, "named");
    assert_eq!(server.get("/fn/named").ok().text(), "v1");
    assert_eq!(server.get("/fn/beta---named").ok().text(), "v2");
    assert_eq!(server.get("/fn/beta---named/some/path").ok().text(), "v2");
    let by_host = |host: &str| server.call("GET", "/").header("host", host).send().ok();
    assert_eq!(by_host("beta---named.fn.localhost").text(), "v2");
    assert_eq!(by_host("beta---named.default.fn.localhost").text(), "v2");
    for (word, answer) in [
        ("beta", "v2"),
        ("latest", "v2"),
        (&*ids[0], "v2"),
        (&*ids[1], "v1"),
    ] {
        let header = server
            .call("GET", "/fn/named")
            .header("X-Tidegate-Revision", word);
        assert_eq!(header.send().ok().text(), answer, "{word}");
        let query = server.get(&format!("/fn/named?tidegate-revision={word}"));
        assert_eq!(query.ok().text(), answer, "{word}");
        let command = server.cli(&["invoke", "named", "--revision", word]).ok();
        assert_eq!(command.text(), answer, "{word}");
    }
    let unknown = server.get("/fn/gamma---named");
    assert_eq!(unknown.status, 404);
    for part in ["gamma", "beta", &ids[0], &ids[1]] {
        assert!(unknown.text().contains(part), "{}", unknown.text());
    }
    let shown = server
        .cli(&["describe", "named", "--revision", "beta"])
        .ok();
    assert!(shown.text().contains(&ids[0]), "{shown}");
    server.cli(&["traffic", "named", "--untag", "beta"]).ok();
    assert_eq!(server.get("/fn/beta---named").status, 404);
    // The next version takes all of it.
    server.deploy("named", &version(3), &[]);
    assert_eq!(server.get("/fn/named").ok().text(), "v3");
}

#[test]
fn a_kept_revision_that_is_private_needs_the_key_although_the_newest_does_not() {
    let server = SERVER.get();
    server.deploy("guarded", &version(1), &["--access", "private"]);
    server.deploy("guarded", &version(2), &["--access", "public"]);
    let old = revisions(&server, "guarded").remove(1);
    let target = format!("/fn/guarded?tidegate-revision={old}");
    assert_eq!(server.get("/fn/guarded").ok().text(), "v2");
    assert_eq!(server.get(&target).status, 401);
    let with_key = server.call("GET", &target).bearer(&server.key()).send();
    assert_eq!(with_key.ok().text(), "v1");
}

#[test]
fn promotion_and_rollback_under_load_lose_nothing() {
    let server = SERVER.get();
    server.deploy("moving", &version(1), &["--max", "4"]);
    let one = revisions(&server, "moving").remove(0);
    server.deploy("moving", &version(2), &["--no-traffic"]);
    let two = revisions(&server, "moving").remove(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let answer = server.get("/fn/moving").ok().text().to_owned();
                        if seen.last() != Some(&answer) {
                            seen.push(answer);
                        }
                    }
                    seen
                })
            })
            .collect();
        server
            .cli(&["promote", "moving"])
            .ok()
            .says(&[&two, "100 %"]);
        server
            .cli(&["rollback", "moving"])
            .ok()
            .says(&[&two, &one, "the next deploy"]);
        assert_eq!(server.get("/fn/moving").ok().text(), "v1");
        server.cli(&["promote", "moving", &two]).ok();
        server.cli(&["rollback", "moving", "--to", &one]).ok();
        server
            .deploy("moving", &version(3), &[])
            .says(&["no longer pinned", &one]);
        done.store(true, Ordering::Relaxed);
        for caller in callers {
            let seen = caller.join().expect("no lost call");
            assert!(seen.contains(&"v1".to_owned()), "{seen:?}");
        }
    });
    assert_eq!(server.get("/fn/moving").ok().text(), "v3");
    until("the old instances are gone", || {
        server.count("moving", "draining") == 0
    });
}

#[test]
fn a_rollout_is_taken_back_when_the_new_version_fails() {
    let server = SERVER.get();
    server.deploy("careful", &version(1), &[]);
    let broken = "def handler(event):\n    raise ValueError('not this one')\n";
    server
        .deploy("careful", broken, &["--over", "10m", "--max-errors", "10%"])
        .says(&["1 % of the calls now", "10m"]);
    // One call of a hundred meets it; naming it finds it out sooner.
    let bad = revisions(&server, "careful").remove(0);
    for _ in 0..25 {
        let reply = server
            .call("GET", "/fn/careful")
            .header("x-tidegate-revision", &bad);
        assert_eq!(reply.send().status, 500);
    }
    until("it is taken back", || {
        server.function("careful")["status"]["phase"] == "Failed"
    });
    let status = server.function("careful")["status"].clone();
    let message = status["message"].as_str().expect("a message");
    for part in ["rolled back", "100.0 %", "10.0 %", &*bad] {
        assert!(message.contains(part), "{message}");
    }
    for _ in 0..100 {
        assert_eq!(server.get("/fn/careful").ok().text(), "v1");
    }
    let listed = server.cli(&["revisions", "careful"]).ok();
    assert!(listed.text().contains("Rolled back"), "{listed}");
}

#[test]
fn traffic_and_kept_revisions_survive_a_kill() {
    let mut server = Server::start();
    server.deploy("kept", &version(1), &[]);
    server.deploy("kept", &version(2), &[]);
    server.cli(&["rollback", "kept"]).ok();
    assert_eq!(server.get("/fn/kept").ok().text(), "v1");
    server.crash();
    server.restart();
    assert_eq!(server.get("/fn/kept").ok().text(), "v1");
    assert_eq!(
        server.get("/fn/kept?tidegate-revision=latest").ok().text(),
        "v2"
    );
    assert_eq!(revisions(&server, "kept").len(), 2);
}

#[test]
fn of_two_deploys_that_meet_one_is_told() {
    let server = SERVER.get();
    server.deploy("met", &version(1), &[]);
    // Both have read the same document.
    let read = server.function("met");
    let write = |document: &Value| {
        server
            .control("PUT", "/namespaces/default/functions/met?wait=30")
            .body(document.to_string())
            .send()
    };
    let with = |value: &str| {
        let mut document = read.clone();
        document["spec"]["env"] = json!({ "WHO": value });
        document
    };
    write(&with("one")).ok();
    let lost = write(&with("two"));
    assert_eq!(lost.status, 409, "{}", lost.text());
    assert_eq!(server.function("met")["spec"]["env"]["WHO"], "one");
    // And one that believes that there is none yet.
    let new = server
        .control("PUT", "/namespaces/default/functions/met")
        .header("if-none-match", "*")
        .body(with("three").to_string())
        .send();
    assert_eq!(new.status, 409, "{}", new.text());
    // As commands: every one of them ends well or is told, and the newest of the good ones serves.
    let paths: Vec<String> = (10..14)
        .map(|n| server.file(&format!("meeting/{n}/handler.py"), version(n)))
        .collect();
    let ran: Vec<_> = std::thread::scope(|scope| {
        let server = &server;
        let deploys: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(move || server.cli(&["deploy", path, "--name", "met"])))
            .collect();
        deploys
            .into_iter()
            .map(|d| d.join().expect("it ended"))
            .collect()
    });
    assert!(ran.iter().any(|r| r.code == Some(0)));
    for ran in ran.iter().filter(|r| r.code != Some(0)) {
        assert_eq!(ran.code, Some(1), "{ran}");
        let told = ran
            .stderr
            .contains("another deploy of met was made meanwhile (generation")
            || ran
                .stderr
                .contains("was replaced by a newer deploy (generation");
        assert!(told, "{ran}");
    }
}
