//! What was accepted survives `kill -9`.
//!
//! The test runs itself again as a child that accepts and settles as fast as it can and prints what was acknowledged, and
//! before it settles something, that it ran: what is written to a pipe outlives its writer. The parent kills it after a
//! random number of lines, and goes on in the same folder. In the end everything that was accepted must have run, or still
//! be there; and only what was begun and not told to be settled when its child was killed may be begun again, by another.
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
/// Lines awaited before a kill, at most: in the short form many kills for few lines, in the long form more lines, so that it
/// is not starts that it measures.
const MOST_LINES: usize = 600;
const MOST_LINES_LONG: usize = 8000;
const CHILD: &str = "TIDEGATE_QUEUE_KILL_TEST_FOLDER";
const SOAK: &str = "TIDEGATE_SOAK_ACCEPTED";

#[derive(Default)]
struct Told {
    accepted: HashSet<String>,
    /// By which children, in order.
    begun: HashMap<String, Vec<usize>>,
    ran: HashSet<String>,
    settled: HashSet<String>,
}

impl Told {
    /// What the child of this number said.
    fn hear(&mut self, child: usize, word: &str, id: &str) {
        let is_new = |set: &mut HashSet<String>| set.insert(id.to_owned());
        match word {
            "accepted" => assert!(is_new(&mut self.accepted), "{id} was accepted twice"),
            "begun" => {
                assert!(
                    !self.settled.contains(id),
                    "{id} was begun when it was done"
                );
                let before = self.begun.entry(id.to_owned()).or_default();
                assert_ne!(
                    before.last(),
                    Some(&child),
                    "{id} was begun twice without a kill"
                );
                before.push(child);
            }
            // Run twice, where it was not settled before the kill.
            "ran" => drop(is_new(&mut self.ran)),
            _ => assert!(is_new(&mut self.settled), "{id} was settled twice"),
        }
    }
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
        let most = (wanted / 10).clamp(MOST_LINES, MOST_LINES_LONG);
        run_and_kill(dir.path(), &mut told, kills, most);
        kills += 1;
    }
    let (lost, left, duplicates) = check(dir.path(), &told);
    println!(
        "{} accepted, {kills} kills, {} settled, {left} left, {duplicates} begun more than once, {lost} lost",
        told.accepted.len(),
        told.settled.len(),
    );
    assert_eq!(lost, 0);
    // No more than was being worked on at a kill.
    assert!(
        duplicates <= kills * WORKERS,
        "{duplicates} in {kills} kills"
    );
    assert!(!told.settled.is_empty());
}

fn run_and_kill(folder: &Path, told: &mut Told, number: usize, most: usize) {
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
    let wanted = 1 + usize::from(uuid::Uuid::now_v7().as_bytes()[15]) * most / 256;
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
        // The harness prints lines of its own.
        if !matches!(word, "accepted" | "begun" | "ran" | "settled") {
            continue;
        }
        told.hear(number, word, id);
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
    // One whose settlement was committed at the kill, but not told, ran and is gone. What was only begun has to be there.
    let lost = told.accepted.difference(&left);
    let lost = lost.filter(|id| !told.ran.contains(*id)).count();
    for id in told.begun.keys().filter(|id| !told.ran.contains(*id)) {
        assert!(left.contains(id), "{id} was begun and is gone");
    }
    let duplicates = told.begun.values().filter(|by| by.len() > 1).count();
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
        tell("ran", &taken.id.to_string());
        assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Done);
        tell("settled", &taken.id.to_string());
    }
}

fn tell(word: &str, id: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {id} .").unwrap();
    out.flush().unwrap();
}
