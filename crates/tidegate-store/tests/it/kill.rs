//! Acknowledged writes survive `kill -9`.
//!
//! The test runs itself again as a child that writes as fast as it can from several tasks and prints each
//! acknowledgement; the parent kills it after a random number of them, opens what is left and compares. Rounds go on in
//! the same folder, so each also starts from what a kill left behind.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tidegate_store::{Digest, Query};

use crate::{key, thing};

const ROUNDS: u32 = 30;
const WRITERS: usize = 8;
/// Acknowledgements awaited before a kill, at most.
const MOST_ACKS: usize = 300;
const CHILD: &str = "TIDEGATE_STORE_KILL_TEST_FOLDER";

#[test]
fn acknowledged_writes_survive_kill() {
    if let Some(folder) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&folder));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    let mut total = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "kill::acknowledged_writes_survive_kill",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = 1 + usize::from(uuid::Uuid::now_v7().as_bytes()[15]) * MOST_ACKS / 256;
        let (mut acks, mut killed) = (0, false);
        for line in BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
        {
            let Some(("ack", rest)) = line.split_once(' ') else {
                continue;
            };
            // A line that was cut off by the kill is no acknowledgement.
            let Some((name, count)) = rest
                .strip_suffix(" .")
                .and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            let last = acknowledged.entry(name.to_owned()).or_default();
            *last = (*last).max(count.parse().unwrap());
            acks += 1;
            if acks >= wanted && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        assert!(
            killed,
            "the child ended by itself after {acks} acknowledgements"
        );
        child.wait().unwrap();
        total += acks;
        check(dir.path(), &acknowledged, round);
    }
    assert!(total >= ROUNDS as usize);
}

/// Each object that was acknowledged is there, at least as new as acknowledged, and whole.
fn check(folder: &Path, acknowledged: &HashMap<String, u64>, round: u32) {
    let (store, report) = tidegate_store::open(folder).unwrap();
    assert!(report.is_clean(), "round {round}: {report:?}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for (name, count) in acknowledged {
            let object = store.objects().get(&key(name)).await.unwrap();
            let found = object.spec().unwrap()["count"].as_u64().unwrap();
            assert!(
                found >= *count,
                "round {round}: {name} has {found}, {count} was acknowledged"
            );
        }
        let mut from = None;
        loop {
            let page = store
                .objects()
                .list(&Query::everything(), None, from.as_deref())
                .await
                .unwrap();
            for object in &page.items {
                let spec = object.spec().unwrap();
                let payload = spec["payload"].as_str().unwrap();
                assert_eq!(
                    spec["digest"],
                    json!(Digest::of(payload.as_bytes())),
                    "round {round}"
                );
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    });
}

fn write_until_killed(folder: &Path) -> ! {
    let (store, report) = tidegate_store::open(folder).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| runtime.spawn(write(store.objects().clone(), writer)))
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    panic!("the writers do not end");
}

/// Creates objects and changes a few of them again and again.
async fn write(objects: tidegate_store::Objects, writer: usize) {
    for count in 0u64.. {
        let name = if count % 3 == 0 {
            format!("w{writer}")
        } else {
            format!("w{writer}-{}", count % 50)
        };
        let newest = match objects.get(&key(&name)).await {
            Ok(object) => object.spec().unwrap()["count"].as_u64().unwrap() + 1,
            Err(_) => 0,
        };
        let payload = format!("{name} {newest} ").repeat(1 + usize::try_from(count % 400).unwrap());
        let digest = Digest::of(payload.as_bytes());
        let object = thing(
            &name,
            json!({"count": newest, "payload": payload, "digest": digest}),
        );
        objects.put(object).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {name} {newest} .").unwrap();
        out.flush().unwrap();
    }
}
