//! A server that is killed in the middle of its work.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{Server, groups_of, is_alive, processes_of, until};

/// Kills in a row.
const ROUNDS: usize = 10;

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let mut server = Server::start();
    server.deploy(
        "model",
        "import os\ndef handler(event):\n    return os.environ['MARK']\n",
        &["--env", "MARK=model"],
    );
    let spec = server.function("model")["spec"].clone();
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for round in 0..ROUNDS {
        let (pid, below) = (server.pid(), processes_of(server.pid()));
        let count = AtomicUsize::new(0);
        let ours: Vec<(String, String)> = std::thread::scope(|scope| {
            let deployers: Vec<_> = (0..2)
                .map(|deployer| {
                    let (server, spec, count) = (&server, &spec, &count);
                    scope.spawn(move || deploy_until_it_ends(server, spec, round, deployer, count))
                })
                .collect();
            // Somewhere in the middle of what it does, at another point each time.
            until("some are acknowledged", || {
                count.load(Ordering::Relaxed) > round
            });
            server.signal(rustix::process::Signal::KILL);
            deployers
                .into_iter()
                .flat_map(|d| d.join().expect("no wrong answer"))
                .collect()
        });
        server.wait();
        acknowledged.extend(ours);
        server.restart();
        for (name, mark) in &acknowledged {
            let function = server.function(name);
            assert_eq!(
                function["spec"]["env"]["MARK"],
                mark.as_str(),
                "{name} after round {round}"
            );
        }
        // The newest and the oldest answer, with what was last acknowledged of them.
        for (name, mark) in acknowledged
            .iter()
            .rev()
            .take(2)
            .chain(acknowledged.iter().take(1))
        {
            until(&format!("{name} is put to work"), || {
                let phase = &server.function(name)["status"]["phase"];
                assert_ne!(phase, "Failed", "{name}");
                phase == "Ready"
            });
            assert_eq!(
                server.get(&format!("/fn/{name}")).ok().text(),
                mark,
                "{name} after round {round}"
            );
        }
        let log = server.log();
        assert!(!log.contains("damaged"), "{log}");
        until("no process of the killed server is left", || {
            !below.iter().any(|&p| p != pid && is_alive(p))
        });
        until("no control group of the killed server is left", || {
            groups_of(pid).is_empty()
        });
    }
    assert_eq!(server.get("/fn/model").ok().text(), "model");
    assert!(
        acknowledged.len() >= ROUNDS * 2,
        "{} deploys",
        acknowledged.len()
    );
}

/// Creates functions one after the other, until the server does not answer; gives those that it acknowledged.
fn deploy_until_it_ends(
    server: &Server,
    spec: &Value,
    round: usize,
    deployer: usize,
    count: &AtomicUsize,
) -> Vec<(String, String)> {
    let mut acknowledged = Vec::new();
    let key = server.key();
    for n in 0.. {
        let (name, mark) = (
            format!("r{round}-{deployer}-{n}"),
            format!("{round}.{deployer}.{n}"),
        );
        let mut spec = spec.clone();
        spec["env"] = json!({ "MARK": mark });
        spec["scale"] = json!({ "initial": n % 2, "idle": "1s" });
        let document = json!({ "spec": spec });
        let route = format!("/tidegate/v1/namespaces/default/functions/{name}");
        match server
            .call("PUT", &route)
            .bearer(&key)
            .body(document.to_string())
            .try_send()
        {
            Ok(reply) if reply.whole => {
                assert_eq!(reply.status, 201, "{reply}");
                acknowledged.push((name, mark));
                count.fetch_add(1, Ordering::Relaxed);
            }
            _ => break,
        }
    }
    acknowledged
}

#[test]
fn a_kill_in_the_middle_of_calls_leaves_nothing_behind() {
    let mut server = Server::start();
    server.deploy("sleeper", "import time\ndef handler(event):\n    if event.path == '/quick':\n        return 'ok'\n    time.sleep(600)\n", &["--max", "3"]);
    server.deploy("process", "#!/bin/sh\nexec sleep 600\n", &["--max", "3"]);
    let open: Vec<_> = ["sleeper", "sleeper", "process"]
        .iter()
        .map(|name| {
            server
                .call("GET", &format!("/fn/{name}"))
                .begin()
                .expect("sent")
        })
        .collect();
    server.until_busy("sleeper", 2);
    server.until_busy("process", 1);
    let (pid, below) = (server.pid(), processes_of(server.pid()));
    assert!(below.len() > 4, "{below:?}");
    server.crash();
    until("every process has ended with it", || {
        !below.iter().any(|&pid| is_alive(pid))
    });
    until("every control group is gone", || groups_of(pid).is_empty());
    server.restart();
    assert_eq!(server.get("/fn/sleeper/quick").ok().text(), "ok");
    drop(open);
}
