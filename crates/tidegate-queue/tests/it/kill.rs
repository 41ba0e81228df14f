//! What was accepted survives `kill -9`.
//!
//! The test runs itself again as a child that accepts and settles as fast as it can and prints what was acknowledged; the
//! parent kills it after a random number of lines, and goes on in the same folder. In the end everything that was accepted
//! must have been done, or still be there; done twice only what was being done at a kill.
//!
//! `TIDEGATE_SOAK_ACCEPTED` makes it go on until so many were accepted.

// The child tells its parent so, and the long form what it counted.
#![allow(clippy::print_stdout)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use tidegate_core::Outcome;
use tidegate_core::queue::Settled;
use tidegate_queue::Filter;

use crate::*;

/// Accepted in the short form: a few seconds.
const ACCEPTED: usize = 2000;
const SENDERS: usize = 8;
const WORKERS: usize = 4;
/// Lines awaited before a kill, at most.
const MOST_LINES: usize = 600;
const CHILD: &str = "TIDEGATE_QUEUE_KILL_TEST_FOLDER";
const SOAK: &str = "TIDEGATE_SOAK_ACCEPTED";

#[derive(Default)]
struct Told {
    accepted: HashSet<String>,
    begun: HashMap<String, u32>,
    settled: HashSet<String>,
}

#[test]
fn what_was_accepted_survives_kill() {
    if let Some(folder) = std::env::var_os(CHILD) {
        work_until_killed(Path::new(&folder));
    }
    let wanted = std::env::var(SOAK).map_or(ACCEPTED, |count| count.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let mut kills = 0;
    while told.accepted.len() < wanted {
        run_and_kill(dir.path(), &mut told);
        kills += 1;
    }
    let (lost, left, duplicates) = check(dir.path(), &told);
    println!(
        "{} accepted, {kills} kills, {} settled, {left} left, {duplicates} begun more than once, {lost} lost",
        told.accepted.len(),
        told.settled.len(),
    );
    assert_eq!(lost, 0);
    // What was being worked on at a kill, and nothing else, was begun again.
    assert!(
        duplicates <= kills * WORKERS,
        "{duplicates} in {kills} kills"
    );
    assert!(!told.settled.is_empty());
}

fn run_and_kill(folder: &Path, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "kill::what_was_accepted_survives_kill",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let wanted = 1 + usize::from(uuid::Uuid::now_v7().as_bytes()[15]) * MOST_LINES / 256;
    let (mut lines, mut killed) = (0, false);
    for line in BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
    {
        // A line that was cut off by the kill tells nothing.
        let Some((word, id)) = line
            .strip_suffix(" .")
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        match word {
            "accepted" => {
                told.accepted.insert(id.to_owned());
            }
            "begun" => *told.begun.entry(id.to_owned()).or_default() += 1,
            "settled" => assert!(told.settled.insert(id.to_owned()), "{id} was settled twice"),
            _ => continue,
        }
        lines += 1;
        if lines >= wanted && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(killed, "the child ended by itself after {lines} lines");
    child.wait().unwrap();
}

/// How many are lost, are left in the queue, and were begun more than once.
fn check(folder: &Path, told: &Told) -> (usize, usize, usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let left: HashSet<String> = runtime.block_on(async {
        let queue = open(folder).await;
        let (mut left, mut from) = (HashSet::new(), None);
        loop {
            let page = queue.list(Filter::All, from, 1000).await.unwrap();
            left.extend(page.items.iter().map(|entry| entry.id.to_string()));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(queue.examine().await.unwrap().damaged, 0);
        left
    });
    for id in &told.settled {
        assert!(!left.contains(id), "{id} was settled and is there");
    }
    // One whose settlement was committed at the kill, but not told, was begun and is gone.
    let gone = |id: &&String| !told.settled.contains(*id) && !left.contains(*id);
    let lost = told.accepted.iter().filter(gone);
    let lost = lost.filter(|id| !told.begun.contains_key(*id)).count();
    let duplicates = told.begun.values().filter(|times| **times > 1).count();
    (lost, left.len(), duplicates)
}

fn work_until_killed(folder: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let queue = open(folder).await;
        let mut tasks: Vec<_> = (0..SENDERS)
            .map(|_| tokio::spawn(send(queue.clone())))
            .collect();
        tasks.extend((0..WORKERS).map(|_| tokio::spawn(work(queue.clone()))));
        for task in tasks {
            task.await.unwrap();
        }
    });
    panic!("the tasks do not end");
}

async fn send(queue: Queue) {
    loop {
        let sent = submission("f", "some body");
        let id = sent.id;
        queue.accept(sent).await.unwrap();
        tell("accepted", &id.to_string());
    }
}

async fn work(queue: Queue) {
    loop {
        let taken = take_one(&queue, "f").await;
        tell("begun", &taken.id.to_string());
        queue.load(&taken).await.unwrap();
        assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Done);
        tell("settled", &taken.id.to_string());
    }
}

fn tell(word: &str, id: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {id} .").unwrap();
    out.flush().unwrap();
}
