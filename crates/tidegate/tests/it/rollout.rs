//! New versions of a function: when they take over, and what becomes of the calls meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Shared, until};

static SERVER: Shared = Shared::new();

fn version(n: u32) -> String {
    format!("def handler(event):\n    return 'v{n}'\n")
}

#[test]
fn a_redeploy_takes_over_at_once_when_it_is_ready() {
    let server = SERVER.get();
    for n in 1..=4 {
        server.deploy("over", &version(n), &[]);
        assert_eq!(server.get("/fn/over").ok().text(), format!("v{n}"));
    }
}

#[test]
fn the_old_version_serves_while_and_after_the_new_one_fails() {
    let server = SERVER.get();
    server.deploy("keeps", &version(1), &[]);
    let failed = server
        .try_deploy("keeps", "import does_not_exist\n", &[])
        .code(1);
    failed.says(&["does_not_exist", "the earlier revision", "keeps serving"]);
    assert_eq!(server.get("/fn/keeps").ok().text(), "v1");
    let document = server.function("keeps");
    assert_eq!(document["status"]["phase"], "Failed");
    assert!(
        document["status"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("does_not_exist")),
        "{document}"
    );
    server.deploy("keeps", &version(2), &[]);
    assert_eq!(server.get("/fn/keeps").ok().text(), "v2");
    assert_eq!(server.function("keeps")["status"]["phase"], "Ready");
}

#[test]
fn the_old_version_serves_after_a_restart_too() {
    let mut server = crate::harness::Server::start();
    server.deploy("keeps", &version(1), &[]);
    server
        .try_deploy("keeps", "import does_not_exist\n", &[])
        .code(1);
    server.stop();
    server.restart();
    assert_eq!(server.get("/fn/keeps").ok().text(), "v1");
}

#[test]
fn a_call_under_way_finishes_on_the_version_it_began_on() {
    let server = SERVER.get();
    server.deploy(
        "under-way",
        "import os, time\ndef handler(event):\n    if event.path == '/release':\n        open('/tmp/go', 'w').close()\n        return 'released'\n    yield_until = time.time() + 30\n    while not os.path.exists('/tmp/go') and time.time() < yield_until:\n        time.sleep(0.005)\n    return 'v1'\n",
        &["--concurrency", "2", "--max", "1"],
    );
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| server.get("/fn/under-way/wait").ok());
        server.until_busy("under-way", 1);
        // Kept, so that this instance can still be told once the new version has taken over.
        let connection = crate::harness::Connection::open(server.address).expect("a connection");
        let release = server.call("GET", "/fn/under-way/release");
        connection
            .exchange(&release)
            .expect("an answer")
            .finish()
            .ok();
        server.deploy("under-way", &version(2), &[]);
        assert_eq!(slow.join().expect("an answer").text(), "v1");
        assert_eq!(server.get("/fn/under-way").ok().text(), "v2");
    });
}

#[test]
fn a_rollout_under_load_loses_nothing() {
    let server = SERVER.get();
    server.deploy("rolling", &version(0), &["--max", "4"]);
    let done = AtomicBool::new(false);
    let calls: Vec<usize> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut calls, mut last) = (0, 0_u32);
                    while !done.load(Ordering::Relaxed) {
                        let reply = server.get("/fn/rolling").ok();
                        let version = reply
                            .text()
                            .strip_prefix('v')
                            .expect("a version")
                            .parse()
                            .expect("a number");
                        assert!(version >= last, "v{version} answered after v{last}");
                        (calls, last) = (calls + 1, version);
                    }
                    calls
                })
            })
            .collect();
        for n in 1..=6 {
            server.deploy("rolling", &version(n), &[]);
        }
        done.store(true, Ordering::Relaxed);
        callers
            .into_iter()
            .map(|caller| caller.join().expect("no lost call"))
            .collect()
    });
    assert!(calls.iter().all(|&n| n > 5), "{calls:?}");
    until("the old instances are gone", || {
        server.count("rolling", "draining") == 0
    });
}

#[test]
fn settings_are_kept_or_reset() {
    let server = SERVER.get();
    let source = "import os\ndef handler(event):\n    return {k: v for k, v in os.environ.items() if k in ('A', 'B')}\n";
    server.deploy("kept-settings", source, &["-e", "A=1", "-e", "B=2"]);
    server
        .deploy("kept-settings", source, &["-e", "B=3"])
        .says(&["kept from the earlier deploy"]);
    assert_eq!(
        server.get("/fn/kept-settings").ok().json(),
        serde_json::json!({ "A": "1", "B": "3" })
    );
    server.deploy("kept-settings", source, &["--reset"]);
    assert_eq!(
        server.get("/fn/kept-settings").ok().json(),
        serde_json::json!({})
    );
}
