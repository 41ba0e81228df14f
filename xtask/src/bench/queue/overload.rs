//! Ten times as many calls as can be worked off, from three namespaces, one of them hungry.
//!
//! Six functions that sleep share a few places, so that what can be worked off does not depend on the machine. One of them
//! gets most of the calls. Its namespace may have so many queued and is refused with 429 beyond; the queue as a whole is
//! bounded as well, and then refuses everybody with 503. Who works off how much is told by the counters of `/metrics`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::super::figures::{Part, Promise, mib};
use super::super::{Bench, proc};
use crate::http::Connection;
use crate::report::render;
use crate::server::Server;
use crate::signals;

/// Places for calls that run.
const PLACES: u32 = 8;
/// How long a call takes, in milliseconds.
const SLEEP_MS: u32 = 20;
/// So many times what the places can work off is sent.
const TIMES: u32 = 10;
/// The most that may be queued in all, and of the hungry namespace.
const MOST: u32 = 8000;
const MOST_HUNGRY: u32 = 3000;
/// Namespaces, and functions in each.
const NAMESPACES: [&str; 3] = ["hungry", "second", "third"];
const FUNCTIONS: [&str; 2] = ["one", "two"];
/// Parts in a hundred of what is sent that go to the first function of the first namespace; the others share the rest.
const HUNGRY: u32 = 70;
/// Senders for the hungry one, and for each other.
const HUNGRY_SENDERS: u32 = 8;
/// Memory that may come with all of it, in MiB: requests that are read and written at once, and the caches of a file.
const MEMORY_MIB: f64 = 64.0;
/// How far a namespace's part of the work may be from a third, in parts in a hundred.
const UNFAIR: f64 = 10.0;

const FUNCTION: &str =
    "import time\n\ndef handler(event):\n    time.sleep(0.020)\n    return 'slept'\n";

/// What the senders were answered.
#[derive(Default)]
struct Answers {
    accepted: AtomicU64,
    /// 429 and 503 with `Retry-After`.
    over: AtomicU64,
    full: AtomicU64,
    stop: AtomicBool,
}

pub(super) fn measure(bench: &Bench) -> Result<Part> {
    let home = bench.folder("overload")?;
    let (places, most) = (
        format!("queue.concurrent={PLACES}"),
        format!("queue.max-calls={MOST}"),
    );
    let server = Server::start_with(&bench.tidegate, "127.0.0.1:0", &home, &[&places, &most])?;
    deploy(&server, &home)?;

    let before = proc::rss(server.pid())?;
    let counted = counts(&server)?;
    let answers = Arc::new(Answers::default());
    let sent = u64::from(TIMES * PLACES * 1000 / SLEEP_MS);
    let senders = senders(&server, sent, &answers);
    let (mut most_queued, mut most_memory) = (0, before);
    let began = Instant::now();
    while began.elapsed() < bench.plan.overload {
        if signals::interrupted() {
            bail!("interrupted");
        }
        most_memory = most_memory.max(proc::rss(server.pid())?);
        most_queued = most_queued.max(super::depth(&server)?);
        thread::sleep(super::LOOK);
    }
    let done = counts(&server)?;
    let took = began.elapsed().as_secs_f64();
    answers.stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().expect("a sender does not panic")?;
    }
    server.stop()?;

    let worked: Vec<f64> = done.iter().zip(&counted).map(|(a, b)| a - b).collect();
    let all: f64 = worked.iter().sum();
    let share = |part: &[f64]| part.iter().sum::<f64>() / all * 100.0;
    let shares: Vec<f64> = worked.chunks(FUNCTIONS.len()).map(share).collect();
    let unfair = shares
        .iter()
        .map(|share| (share - 100.0 / 3.0).abs())
        .fold(0.0, f64::max);

    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let (accepted, over, full) = (
        count(&answers.accepted),
        count(&answers.over),
        count(&answers.full),
    );
    #[allow(clippy::cast_precision_loss, reason = "a count of calls")]
    let a_second = |count: u64| format!("{:.0}", count as f64 / took);
    let mut rows = vec![
        ["ten times too much", ""].map(str::to_owned),
        ["sent a second".into(), a_second(accepted + over + full)],
        ["accepted a second".into(), a_second(accepted)],
        ["429 a second".into(), a_second(over)],
        ["503 a second".into(), a_second(full)],
        ["worked off a second".into(), format!("{:.0}", all / took)],
        ["most queued".into(), most_queued.to_string()],
        ["resident before, MiB".into(), format!("{:.1}", mib(before))],
        [
            "resident at most, MiB".into(),
            format!("{:.1}", mib(most_memory)),
        ],
    ];
    for (number, namespace) in NAMESPACES.iter().enumerate() {
        let first = number * FUNCTIONS.len();
        let own = &worked[first..first + FUNCTIONS.len()];
        rows.push([
            format!("part of {namespace}, and its functions', %"),
            format!(
                "{:.1} ({:.1}, {:.1})",
                shares[number],
                share(&own[..1]),
                share(&own[1..])
            ),
        ]);
    }
    Ok(Part {
        name: "overload",
        table: render(&rows),
        promises: vec![
            Promise::at_most(
                "memory that ten times too much adds",
                "MiB",
                MEMORY_MIB,
                mib(most_memory) - mib(before),
            ),
            Promise::at_most("a namespace's part, from its third", "%", UNFAIR, unfair),
        ],
        json: json!({
            "seconds": took,
            "accepted": accepted,
            "answered_429": over,
            "answered_503": full,
            "worked_off": all,
            "most_queued": most_queued,
            "resident_before_bytes": before,
            "resident_most_bytes": most_memory,
            "shares": shares,
        }),
    })
}

fn deploy(server: &Server, home: &Path) -> Result<()> {
    let file = home.join("sleeper.py");
    std::fs::write(&file, FUNCTION).with_context(|| format!("cannot write {}", file.display()))?;
    for namespace in NAMESPACES {
        let most = if namespace == NAMESPACES[0] {
            json!({"queued": MOST_HUNGRY})
        } else {
            json!({})
        };
        let path = format!("/namespaces/{namespace}");
        server.put(&path, &json!({"spec": {"quotas": most}}))?;
        for function in FUNCTIONS {
            let most = PLACES.to_string();
            let flags = ["--concurrency", "1", "--max", &most];
            server.deploy(&file, function, &[&flags[..], &["-n", namespace]].concat())?;
            // What was never called has no counter.
            server.run(&["invoke", function, "-n", namespace])?;
        }
    }
    Ok(())
}

/// Calls that ended, of each function in its order.
fn counts(server: &Server) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        for function in FUNCTIONS {
            let label = format!("namespace=\"{namespace}\",function=\"{function}\",outcome=\"ok\"");
            all.push(server.metric("tidegate_invocations_total", &label)?);
        }
    }
    Ok(all)
}

/// Starts all senders, so many calls a second together.
fn senders(
    server: &Server,
    a_second: u64,
    answers: &Arc<Answers>,
) -> Vec<thread::JoinHandle<Result<()>>> {
    let others = (NAMESPACES.len() * FUNCTIONS.len() - 1) as u64;
    let mut all = Vec::new();
    for (number, namespace) in NAMESPACES.iter().enumerate() {
        for (place, function) in FUNCTIONS.iter().enumerate() {
            let (senders, rate) = if (number, place) == (0, 0) {
                (HUNGRY_SENDERS, a_second * u64::from(HUNGRY) / 100)
            } else {
                (1, a_second * u64::from(100 - HUNGRY) / 100 / others)
            };
            for _ in 0..senders {
                let url = server.url().to_owned();
                let path = format!("/fn/{function}.{namespace}");
                let every =
                    Duration::from_secs(u64::from(senders)) / u32::try_from(rate).unwrap_or(1);
                let answers = Arc::clone(answers);
                all.push(thread::spawn(move || send(&url, &path, every, &answers)));
            }
        }
    }
    all
}

/// Sends one call after another, at their times, whatever is answered. A request that was refused before its body was
/// read may be the last of its connection.
fn send(url: &str, path: &str, every: Duration, answers: &Answers) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let headers = [("prefer", "respond-async"), ("content-type", "text/plain")];
    let body = [b'x'; 1024];
    let mut due = Instant::now();
    while !answers.stop.load(Ordering::Relaxed) {
        let answer = connection.call("POST", path, &headers, &body)?;
        let counted = match (answer.status, answer.header("retry-after")) {
            (202, _) => &answers.accepted,
            (429, Some(_)) => &answers.over,
            (503, Some(_)) => &answers.full,
            (status, _) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                bail!("{path} was answered {status} without Retry-After: {text}");
            }
        };
        counted.fetch_add(1, Ordering::Relaxed);
        if answer.status != 202 {
            connection = Connection::open(url)?;
        }
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
