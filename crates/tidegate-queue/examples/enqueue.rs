//! How fast the queue accepts, beside a bare file that is appended to and synced in groups, in the same run.
//!
//! `enqueue [--seconds N] [--folder PATH] [--drain N] [--fill N]`: rounds of 1, 16 and 64 senders of 1 KiB, each for the
//! queue and for the file; then a drain of so many items; then so many items are queued, and the queue is opened again.

#![allow(clippy::print_stdout)]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_core::queue::{Ended, Policy, Settled, Verdict};
use tidegate_core::record::Cause;
use tidegate_core::{FunctionKey, InvocationId, Outcome};
use tidegate_queue::{Body, Options, Payload, Queue, Settlement, Submission, Target};
use tokio::sync::{mpsc, oneshot};

const BODY: usize = 1024;

fn main() {
    let mut seconds = 3;
    let (mut drain, mut fill) = (50_000, 0);
    let mut folder = std::env::temp_dir();
    let mut words = std::env::args().skip(1);
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag.as_str() {
            "--seconds" => seconds = value.parse().expect("a number of seconds"),
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
    let length = Duration::from_secs(seconds);
    for senders in [1, 16, 64] {
        let dir = tempfile::tempdir_in(&folder).expect("a folder");
        let floor = runtime.block_on(file(&dir.path().join("file"), senders, length));
        let queue = runtime.block_on(async {
            let queue = open(dir.path()).await;
            let took = accept_for(&queue, senders, length).await;
            let stats = queue.stats();
            assert_eq!(stats.queued, took.len() as u64);
            took
        });
        report("file", senders, floor, length);
        report("queue", senders, queue, length);
    }
    runtime.block_on(async {
        let dir = tempfile::tempdir_in(&folder).expect("a folder");
        let queue = open(dir.path()).await;
        accept(&queue, 64, drain).await;
        drained(&queue, drain).await;
        idle(&queue).await;
        if fill > 0 {
            let before = resident();
            accept(&queue, 256, fill).await;
            let after = resident();
            println!("{fill} queued: resident {before} KiB before, {after} KiB after");
            drop(queue);
            let started = Instant::now();
            let queue = open(dir.path()).await;
            println!(
                "opened with {} queued in {:.3} s",
                queue.stats().queued,
                started.elapsed().as_secs_f64()
            );
            drained(&queue, drain).await;
        }
    });
}

async fn open(folder: &Path) -> Queue {
    let folder = folder.to_owned();
    let at = folder.clone();
    let opened = tokio::task::spawn_blocking(move || tidegate_store::open(&at));
    let (store, _) = opened.await.expect("no panic").expect("a store");
    let queue = Queue::open(&folder.join("queue"), store.blobs(), Options::default()).await;
    let (queue, report) = queue.expect("a queue");
    assert!(report.is_clean(), "{report:?}");
    queue
}

fn submission(body: &Bytes) -> Submission {
    Submission {
        id: InvocationId::from_u128(uuid::Uuid::now_v7().as_u128()),
        function: FunctionKey {
            namespace: "default".into(),
            group: "".into(),
            name: "hello".into(),
        },
        target: Target::Function,
        door: "native".to_owned(),
        request: Payload {
            method: "POST".to_owned(),
            path_and_query: "/".to_owned(),
            headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
            body: Body::Inline(body.clone()),
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

async fn accept_for(queue: &Queue, senders: usize, length: Duration) -> Vec<Duration> {
    let end = Instant::now() + length;
    let body = Bytes::from(vec![b'x'; BODY]);
    let tasks: Vec<_> = (0..senders)
        .map(|_| {
            let (queue, body) = (queue.clone(), body.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < end {
                    let started = Instant::now();
                    queue.accept(submission(&body)).await.expect("accepted");
                    took.push(started.elapsed());
                }
                took
            })
        })
        .collect();
    gather(tasks).await
}

async fn accept(queue: &Queue, senders: usize, count: usize) {
    let body = Bytes::from(vec![b'x'; BODY]);
    let tasks: Vec<_> = (0..senders)
        .map(|sender| {
            let (queue, body) = (queue.clone(), body.clone());
            let share = count / senders + usize::from(sender < count % senders);
            tokio::spawn(async move {
                for _ in 0..share {
                    queue.accept(submission(&body)).await.expect("accepted");
                }
                Vec::new()
            })
        })
        .collect();
    gather(tasks).await;
}

/// Takes, loads and settles so many, sixteen at a time.
async fn drained(queue: &Queue, count: usize) {
    const WORKERS: usize = 16;
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel(1024);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (queue, receiver) = (queue.clone(), Arc::clone(&receiver));
            tokio::spawn(async move {
                loop {
                    let taken: tidegate_queue::Taken = match receiver.lock().await.recv().await {
                        Some(taken) => taken,
                        None => return,
                    };
                    queue.load(&taken).await.expect("loaded");
                    let settled = queue.settle(Settlement {
                        lease: taken.lease,
                        verdict: Verdict::Ended(Ended {
                            outcome: Outcome::Ok,
                            status: Some(200),
                            retry_after_ms: None,
                        }),
                        message: None,
                        answer: None,
                        on_done: Vec::new(),
                        on_dead: Vec::new(),
                    });
                    assert_eq!(settled.await.expect("settled"), Settled::Done);
                }
            })
        })
        .collect();
    let function = queue.lanes(None, 1)[0].function.clone();
    let mut left = count;
    while left > 0 {
        let most = left.min(256);
        let taken = queue.take(&function, most, Duration::from_secs(60)).await;
        for one in taken.expect("taken") {
            left -= 1;
            sender.send(one).await.expect("workers");
        }
    }
    drop(sender);
    for worker in workers {
        worker.await.expect("no panic");
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("drained {count}: {rate:.0}/s");
}

/// From submission to work that could begin, when nothing else goes on.
async fn idle(queue: &Queue) {
    let body = Bytes::from(vec![b'x'; BODY]);
    let mut took = Vec::new();
    for _ in 0..500 {
        let mut changes = queue.changes();
        changes.mark_unchanged();
        let started = Instant::now();
        let sent = submission(&body);
        let (function, sender) = (sent.function.clone(), queue.clone());
        let accepted = tokio::spawn(async move { sender.accept(sent).await });
        changes.changed().await.expect("open");
        let taken = queue.take(&function, 1, Duration::from_secs(60)).await;
        let taken = taken.expect("taken").pop().expect("one");
        queue.load(&taken).await.expect("loaded");
        took.push(started.elapsed());
        accepted.await.expect("no panic").expect("accepted");
        queue.cancel(taken.id).await.expect("cancelled");
    }
    report("submission to start", 1, took, Duration::from_secs(1));
}

/// The floor: what waits is appended in one write, synced, and answered.
async fn file(path: &Path, senders: usize, length: Duration) -> Vec<Duration> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .expect("a file");
    let (sender, mut receiver) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>(4096);
    let writer = std::thread::spawn(move || {
        let (mut bytes, mut replies) = (Vec::new(), Vec::new());
        while let Some((body, reply)) = receiver.blocking_recv() {
            bytes.extend_from_slice(&body);
            replies.push(reply);
            while let Ok((body, reply)) = receiver.try_recv() {
                bytes.extend_from_slice(&body);
                replies.push(reply);
            }
            file.write_all(&bytes).expect("written");
            file.sync_data().expect("synced");
            bytes.clear();
            for reply in replies.drain(..) {
                reply.send(()).expect("waiting");
            }
        }
    });
    let end = Instant::now() + length;
    let body = Bytes::from(vec![b'x'; BODY]);
    let tasks: Vec<_> = (0..senders)
        .map(|_| {
            let (sender, body) = (sender.clone(), body.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < end {
                    let started = Instant::now();
                    let (reply, done) = oneshot::channel();
                    sender.send((body.clone(), reply)).await.expect("a writer");
                    done.await.expect("an answer");
                    took.push(started.elapsed());
                }
                took
            })
        })
        .collect();
    drop(sender);
    let took = gather(tasks).await;
    writer.join().expect("no panic");
    took
}

async fn gather(tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>) -> Vec<Duration> {
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("no panic"));
    }
    all
}

fn report(what: &str, senders: usize, mut took: Vec<Duration>, length: Duration) {
    took.sort_unstable();
    let at = |part: f64| {
        let place = (took.len() as f64 * part) as usize;
        took[place.min(took.len() - 1)].as_secs_f64() * 1e3
    };
    println!(
        "{what}, {senders} senders: {:.0}/s, p50 {:.3} ms, p99 {:.3} ms, max {:.1} ms",
        took.len() as f64 / length.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words.and_then(|word| word.parse().ok()).unwrap_or(0)
}
