//! How fast what is accepted begins, and how fast a queue is worked off, by a runner that does nothing.
//!
//! `dispatch [--calls N] [--drain N] [--fill N] [--folder PATH]`: so many calls one after the other on an idle queue, each
//! from its acceptance to its start; then so many that are queued before the dispatcher begins, of one function and of a
//! hundred; then so many of one function, with one of another's sent behind them, and what memory holds meanwhile.

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::queue::{Ended, Policy};
use tidegate_core::record::Cause;
use tidegate_core::{FunctionKey, InvocationId, Outcome};
use tidegate_queue::{
    Allowance, Attempt, Body, DispatchOptions, Dispatcher, Options, Payload, Queue, Ran, Runner,
    Submission, Target, Work,
};
use tokio::sync::mpsc;

const BODY: usize = 1024;

struct Nothing {
    begun: AtomicU64,
    starts: mpsc::UnboundedSender<(String, Instant)>,
}

#[async_trait]
impl Runner for Nothing {
    async fn run(&self, work: &Work, _: Attempt) -> Ran {
        let now = Instant::now();
        self.begun.fetch_add(1, Ordering::Relaxed);
        let name = work.submission.function.name.to_string();
        if name.starts_with("watched") {
            // Whoever watches may have seen enough.
            drop(self.starts.send((name, now)));
        }
        let ended = Ended {
            outcome: Outcome::Ok,
            status: Some(200),
            retry_after_ms: None,
        };
        Ran::ended(ended, None)
    }

    async fn deliver(&self, _: &Work, _: &str, _: Attempt) -> Ran {
        Ran::refused("nothing is delivered here")
    }

    fn lane(&self, _: &FunctionKey) -> Allowance {
        Allowance {
            concurrency: 64,
            rate: None,
        }
    }
}

fn main() {
    let (mut calls, mut drain, mut fill) = (3000, 50_000, 0);
    let mut folder = std::env::temp_dir();
    let mut words = std::env::args().skip(1);
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag.as_str() {
            "--calls" => calls = value.parse().expect("a number of calls"),
            "--drain" => drain = value.parse().expect("a number of items"),
            "--fill" => fill = value.parse().expect("a number of items"),
            "--folder" => folder = PathBuf::from(value),
            other => panic!("no flag {other}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        idle(&folder, calls).await;
        drained(&folder, drain, 1).await;
        drained(&folder, drain, 100).await;
        if fill > 0 {
            filled(&folder, fill).await;
        }
    });
}

/// One call after the other: from its acceptance's begin, and from its end, to its start.
async fn idle(folder: &Path, calls: usize) {
    let dir = tempfile::tempdir_in(folder).expect("a folder");
    let queue = open(dir.path()).await;
    let (runner, mut starts) = runner();
    let dispatcher = Dispatcher::start(queue.clone(), runner, DispatchOptions::default());
    let (mut whole, mut after) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let sent = Instant::now();
        let accept = queue.accept(submission("watched")).await;
        accept.expect("it is accepted");
        let accepted = Instant::now();
        let (_, began) = starts.recv().await.expect("it begins");
        whole.push(began.saturating_duration_since(sent));
        after.push(began.saturating_duration_since(accepted));
    }
    for (what, times) in [
        ("accept to start", &mut whole),
        ("202 to start", &mut after),
    ] {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!(
            "idle, {what}: p50 {:?}, p99 {:?}, of {calls}",
            at(0.5),
            at(0.99)
        );
    }
    dispatcher.drain(Duration::from_secs(10)).await;
}

async fn drained(folder: &Path, items: u64, functions: u64) {
    let dir = tempfile::tempdir_in(folder).expect("a folder");
    let queue = open(dir.path()).await;
    fill_with(&queue, items, functions).await;
    let (runner, _starts) = runner();
    let begun = Instant::now();
    let dispatcher = Dispatcher::start(queue.clone(), runner, DispatchOptions::default());
    while queue.stats().queued > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "drain of {items} of {functions} functions: {:.0}/s",
        items as f64 / seconds
    );
    dispatcher.drain(Duration::from_secs(10)).await;
}

async fn filled(folder: &Path, items: u64) {
    let dir = tempfile::tempdir_in(folder).expect("a folder");
    let queue = open(dir.path()).await;
    let empty = resident();
    fill_with(&queue, items, 1).await;
    let full = resident();
    let (runner, mut starts) = runner();
    let dispatcher = Dispatcher::start(
        queue.clone(),
        Arc::clone(&runner) as _,
        DispatchOptions::default(),
    );
    while runner.begun.load(Ordering::Relaxed) < 1000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let sent = Instant::now();
    let accept = queue.accept(submission("watched")).await;
    accept.expect("it is accepted");
    let (_, began) = starts.recv().await.expect("it begins");
    println!(
        "behind {} of another function: {:?} to start; memory {empty} MiB empty, {full} MiB with {items} queued, {} MiB while they are worked off",
        queue.stats().queued,
        began.saturating_duration_since(sent),
        resident(),
    );
    dispatcher.drain(Duration::from_secs(10)).await;
}

fn runner() -> (Arc<Nothing>, mpsc::UnboundedReceiver<(String, Instant)>) {
    let (starts, seen) = mpsc::unbounded_channel();
    let begun = AtomicU64::new(0);
    (Arc::new(Nothing { begun, starts }), seen)
}

async fn open(folder: &Path) -> Queue {
    let (store, _) = tidegate_store::open(folder).expect("a store");
    let opened = Queue::open(&folder.join("queue"), store.blobs(), Options::default()).await;
    opened.expect("a queue").0
}

async fn fill_with(queue: &Queue, items: u64, functions: u64) {
    let senders = (0..64).map(|sender| {
        let queue = queue.clone();
        tokio::spawn(async move {
            for n in (sender..items).step_by(64) {
                let name = format!("f{}", n % functions);
                queue
                    .accept(submission(&name))
                    .await
                    .expect("it is accepted");
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("it does not panic");
    }
}

/// What this process has in memory, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn submission(name: &str) -> Submission {
    Submission {
        id: InvocationId::from_u128(uuid::Uuid::now_v7().as_u128()),
        function: FunctionKey {
            namespace: "default".into(),
            group: "".into(),
            name: name.into(),
        },
        target: Target::Function,
        door: "native".to_owned(),
        request: Payload {
            method: "POST".to_owned(),
            path_and_query: "/".to_owned(),
            headers: vec![("content-type".to_owned(), b"text/plain".to_vec())],
            body: Body::Inline(Bytes::from(vec![b'x'; BODY])),
        },
        cause: Cause::default(),
        trace: None,
        depth: 0,
        due_ms: 0,
        policy: Policy::default(),
        order_key: None,
        idempotency: None,
        on_success: None,
        on_failure: None,
        callback: None,
        keep_result_ms: 0,
    }
}
