//! More calls for later than can ever be made: what is queued stays bounded, clients are told when to come again, and who
//! is hungry takes nothing from the others.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::harness::{Call, Connection, Server, until};

/// Calls that are made at once, of 20 ms each.
const PLACES: &str = "4";
/// Calls that may be queued in all, and of the hungry namespace.
const MOST: u64 = 200;
const MOST_HUNGRY: u64 = 60;
const NAMESPACES: [&str; 3] = ["hungry", "second", "third"];
const FUNCTIONS: [&str; 2] = ["one", "two"];
/// Who is sent to by each of those that send at once: its namespace and its function.
const SENDERS: [(usize, usize); 10] = [
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
    (2, 0),
    (2, 1),
];
/// Calls that were made when it is judged: enough that a part of a third is told from one of a sixth.
const ENOUGH: u64 = 200;
/// What a server may take for it in KiB: the caches of its files, and what is read and written at once.
const MEMORY_KIB: u64 = 128 * 1024;

const SLEEPER: &str =
    "import time\n\ndef handler(event):\n    time.sleep(0.020)\n    return 'slept'\n";

#[derive(Default)]
struct Answers {
    accepted: AtomicU64,
    over: AtomicU64,
    full: AtomicU64,
    stop: AtomicBool,
}

#[test]
fn ten_times_too_much_is_bounded_and_shared_alike() {
    let server = Server::options()
        .set("queue.concurrent", PLACES)
        .set("queue.max-calls", &MOST.to_string())
        .start();
    for namespace in NAMESPACES {
        let hungry = namespace == NAMESPACES[0];
        let quotas = if hungry {
            json!({ "queued": MOST_HUNGRY })
        } else {
            json!({})
        };
        server
            .control("PUT", &format!("/namespaces/{namespace}"))
            .body(json!({ "spec": { "quotas": quotas } }).to_string())
            .send()
            .ok();
        for function in FUNCTIONS {
            let flags = ["--namespace", namespace, "--concurrency", "1", "--max", "4"];
            server.deploy(function, SLEEPER, &flags);
        }
    }
    let before = resident(&server);
    let answers = Answers::default();
    let (mut most, mut shares) = (0, Vec::new());
    thread::scope(|scope| {
        let (server, answers) = (&server, &answers);
        for (namespace, function) in SENDERS {
            let path = format!("/fn/{}.{}", FUNCTIONS[function], NAMESPACES[namespace]);
            scope.spawn(move || send(server, &path, answers));
        }
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("enough was made, and everything was full", || {
                most = most.max(metric(server, "tidegate_queue_depth", ""));
                shares = NAMESPACES
                    .map(|namespace| {
                        FUNCTIONS.map(|function| {
                            let label = format!(
                                "namespace=\"{namespace}\",function=\"{function}\",outcome=\"ok\""
                            );
                            metric(server, "tidegate_invocations_total", &label)
                        })
                    })
                    .to_vec();
                let seen = |count: &AtomicU64| count.load(Ordering::Relaxed) > 0;
                shares.iter().flatten().sum::<u64>() >= ENOUGH
                    && seen(&answers.over)
                    && seen(&answers.full)
            });
        }));
        answers.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = judged {
            std::panic::resume_unwind(panic);
        }
    });
    let after = resident(&server);
    // Whoever is let in at the same moment was counted by none of the others.
    assert!(most <= MOST + SENDERS.len() as u64, "{most} were queued");
    assert!(
        after < before + MEMORY_KIB,
        "{before} KiB became {after} KiB"
    );
    let all: u64 = shares.iter().flatten().sum();
    for (namespace, functions) in NAMESPACES.iter().zip(&shares) {
        let part = functions.iter().sum::<u64>() * 100 / all;
        assert!(
            (20..=47).contains(&part),
            "{namespace} had {part} of 100: {shares:?}"
        );
        assert!(
            functions.iter().all(|made| made * 100 / all >= 5),
            "a function of {namespace} was passed over: {shares:?}"
        );
    }
}

/// Sends one call after another, whatever is answered.
fn send(server: &Server, path: &str, answers: &Answers) {
    let mut connection = Connection::open(server.address).expect("a connection");
    while !answers.stop.load(Ordering::Relaxed) {
        let call = Call::new(server.address, "POST", path)
            .header("prefer", "respond-async")
            .body([b'x'; 1024]);
        let (reply, next) = connection.exchange(&call).expect("an answer").next();
        // A request that was refused before its body was read may be the last of its connection.
        connection = if reply.status == 202 {
            next
        } else {
            Connection::open(server.address).expect("a connection")
        };
        let counted = match reply.status {
            202 => &answers.accepted,
            429 => &answers.over,
            503 => &answers.full,
            _ => panic!("{path}: {reply}"),
        };
        counted.fetch_add(1, Ordering::Relaxed);
        assert!(
            reply.status == 202 || reply.header("retry-after").is_some(),
            "{path}: {reply}"
        );
    }
}

/// The sum of the lines of a metric that have `label` in them.
fn metric(server: &Server, name: &str, label: &str) -> u64 {
    let page = server.get("/metrics").ok();
    let values = page.text().lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' ']) && rest.contains(label))
            .then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok())?
    });
    values.sum::<f64>() as u64
}

/// Resident memory of the server in KiB.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
    size.and_then(|size| size.parse().ok()).expect("a size")
}
