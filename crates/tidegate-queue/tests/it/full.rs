//! No room.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::stream;
use tidegate_core::Outcome;
use tidegate_core::queue::{Reason, Settled};
use tidegate_queue::{AcceptError, DeadFilter, Ending};

use crate::*;

#[tokio::test]
async fn a_full_file_refuses_what_is_new_settles_what_there_is_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_file_bytes = 2 * 1024 * 1024;
    let (queue, _) = open_with(dir.path(), options).await;
    let body = "x".repeat(100_000);
    let mut kept = 0;
    let refused = loop {
        match queue.accept(submission("f", &body)).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "the limit does not hold");
    };
    assert!(matches!(refused, AcceptError::Full { .. }), "{refused}");
    assert_eq!(queue.stats().queued, kept);
    // All that was accepted is there, and can be done although there is no room.
    let all = usize::try_from(kept).unwrap();
    for taken in take(&queue, "f", all).await {
        queue.load(&taken).await.unwrap();
        assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Done);
    }
    queue.tick().await.unwrap();
    queue.accept(submission("f", &body)).await.unwrap();
    drop(queue);
    assert_eq!(open(dir.path()).await.stats().queued, 1);
}

#[tokio::test]
async fn the_number_of_items_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_items = 3;
    let (queue, _) = open_with(dir.path(), options).await;
    for _ in 0..3 {
        queue.accept(submission("f", "x")).await.unwrap();
    }
    assert!(matches!(
        queue.accept(submission("f", "x")).await,
        Err(AcceptError::Full { .. })
    ));
    let taken = take_one(&queue, "f").await;
    settle(&queue, &taken, Outcome::Ok).await;
    queue.accept(submission("f", "x")).await.unwrap();
}

#[tokio::test]
async fn what_was_accepted_before_is_a_duplicate_where_there_is_no_room() {
    let named = || {
        let mut sent = submission("f", &"x".repeat(20_000));
        sent.idempotency = Some("mine".to_owned());
        sent
    };
    for (items, bytes) in [(3, 1 << 30), (1000, 512 * 1024)] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::default();
        (options.max_items, options.max_file_bytes) = (items, bytes);
        let (queue, _) = open_with(dir.path(), options).await;
        let first = queue.accept(named()).await.unwrap();
        fill(&queue, &"x".repeat(20_000)).await;
        let again = queue.accept(named()).await.unwrap();
        assert_eq!((again.id, again.duplicate), (first.id, true));
    }
}

/// Accepts until there is no room, and gives how many that were.
async fn fill(queue: &Queue, body: &str) -> usize {
    for kept in 0.. {
        match queue.accept(submission("f", body)).await {
            Ok(_) => {}
            Err(AcceptError::Full { .. }) => return kept,
            Err(other) => panic!("{other}"),
        }
    }
    0
}

async fn bury(queue: &Queue, taken: &Taken) {
    let settled = queue.settle(settlement(taken, Verdict::Refused)).await;
    assert_eq!(settled.unwrap(), Settled::Dead(Reason::Refused));
}

#[tokio::test]
async fn what_dies_in_a_full_file_finds_room_among_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_file_bytes = 512 * 1024;
    let (queue, _) = open_with(dir.path(), options).await;
    let kept = fill(&queue, &"x".repeat(2000)).await;
    assert!(kept > 50, "{kept}");
    assert!(queue.stats().full);
    for taken in take(&queue, "f", kept).await {
        bury(&queue, &taken).await;
    }
    assert_eq!(queue.stats().dead, kept as u64);
    drop(queue);
    let queue = open(dir.path()).await;
    assert_eq!(
        queue.redrive(DeadFilter::default(), 10_000).await.unwrap(),
        kept as u64
    );
    assert_eq!(queue.stats().queued, kept as u64);
}

#[tokio::test]
async fn an_answer_for_which_there_is_no_room_is_left_out_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_file_bytes = 512 * 1024;
    options.ends_bytes = 32 * 1024;
    let (queue, _) = open_with(dir.path(), options).await;
    let mut sent = submission("g", "");
    sent.keep_result_ms = 60_000;
    queue.accept(sent.clone()).await.unwrap();
    fill(&queue, &"x".repeat(2000)).await;
    let taken = take_one(&queue, "g").await;
    let mut settled = settlement(&taken, ended(Outcome::Ok));
    settled.answer.as_mut().unwrap().body = Bytes::from(vec![7; 200_000]);
    assert_eq!(queue.settle(settled).await.unwrap(), Settled::Done);
    let result = queue.result(sent.id).await.unwrap();
    assert!(matches!(result.ended, Ending::Done(_)));
    assert_eq!(result.answer, None);
    let message = result.message.unwrap();
    assert!(message.contains("no room"), "{message}");
}

#[tokio::test]
async fn bodies_beside_the_file_count_until_they_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_file_bytes = 4 * 1024 * 1024;
    let (queue, _) = open_with(dir.path(), options.clone()).await;
    let spool = async |queue: &Queue| {
        let chunk = Ok::<_, std::io::Error>(Bytes::from(vec![1; 3 * 1024 * 1024]));
        let mut sent = submission("f", "");
        let spooled = queue.spool(stream::iter([chunk]), 1 << 30).await.unwrap();
        sent.request.body = Body::Spooled(spooled);
        queue.accept(sent).await
    };
    spool(&queue).await.unwrap();
    let refused = spool(&queue).await;
    assert!(matches!(refused, Err(AcceptError::Full { .. })));
    // It still counts as a dead letter, and after a restart, and as an item again.
    let taken = take_one(&queue, "f").await;
    bury(&queue, &taken).await;
    assert!(queue.stats().dead_bytes > 3 * 1024 * 1024);
    drop(queue);
    let (queue, _) = open_with(dir.path(), options).await;
    assert!(spool(&queue).await.is_err());
    assert_eq!(queue.redrive(DeadFilter::default(), 100).await.unwrap(), 1);
    assert_eq!(queue.stats().dead_bytes, 0);
    assert!(spool(&queue).await.is_err());
    let taken = take_one(&queue, "f").await;
    settle(&queue, &taken, Outcome::Ok).await;
    while queue.stats().bytes > 1024 * 1024 {
        tokio::task::yield_now().await;
    }
    spool(&queue).await.unwrap();
}

#[tokio::test]
async fn a_file_of_the_first_release_opens_and_its_sizes_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    for _ in 0..2 {
        let chunk = Ok::<_, std::io::Error>(Bytes::from(vec![1; 100_000]));
        let mut sent = submission("f", "");
        let spooled = queue.spool(stream::iter([chunk]), 1 << 30).await.unwrap();
        sent.request.body = Body::Spooled(spooled);
        queue.accept(sent).await.unwrap();
    }
    let taken = take_one(&queue, "f").await;
    bury(&queue, &taken).await;
    let before = queue.stats();
    drop(queue);
    let file = rusqlite::Connection::open(dir.path().join("queue/queue.db")).unwrap();
    file.execute_batch(
        "ALTER TABLE blobs DROP COLUMN bytes; DELETE FROM counters WHERE name LIKE 'dead-%';
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(file);
    let queue = open(dir.path()).await;
    let after = queue.stats();
    assert_eq!(
        (after.dead, after.dead_bytes),
        (before.dead, before.dead_bytes)
    );
    assert!(after.bytes >= 200_000, "{after:?}");
    assert_eq!(queue.redrive(DeadFilter::default(), 100).await.unwrap(), 1);
}

// === a disk ===

/// A small disk of its own, in a mount namespace that ends with the process.
const DISK: &str = "TIDEGATE_QUEUE_DISK_TEST_FOLDER";

#[test]
fn a_full_disk_refuses_what_is_new_settles_what_there_is_and_recovers() {
    on_a_small_disk(
        "full::a_full_disk_refuses_what_is_new_settles_what_there_is_and_recovers",
        async |folder| on_a_full_disk(&folder).await,
    );
}

/// The test of this name runs itself again, in a mount namespace of its own with a small file system.
fn on_a_small_disk(name: &str, test: impl AsyncFnOnce(PathBuf)) {
    if let Some(folder) = std::env::var_os(DISK) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(test(folder.into()));
    }
    let folder = tempfile::tempdir().unwrap();
    // A mount namespace for root, and one in a user namespace for others.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=64m tmpfs \"$0\"; exec \"$@\"")
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DISK, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Fills the disk until so many bytes are left.
fn ballast(path: &Path, left: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![0; 4096];
    let mut written = 0;
    while file.write_all(&block).is_ok() {
        written += block.len() as u64;
    }
    file.set_len(written - left).unwrap();
}

async fn on_a_full_disk(folder: &Path) {
    let queue = open(&folder.join("data")).await;
    for _ in 0..100 {
        queue
            .accept(submission("f", &"x".repeat(3000)))
            .await
            .unwrap();
    }
    let weight = folder.join("ballast");
    ballast(&weight, 0);
    // What is in the log already has room for some.
    let kept = 100 + fill(&queue, &"x".repeat(100_000)).await;
    for (n, taken) in take(&queue, "f", kept).await.iter().enumerate() {
        queue.load(taken).await.unwrap();
        if n % 2 == 0 {
            bury(&queue, taken).await;
        } else {
            assert_eq!(settle(&queue, taken, Outcome::Ok).await, Settled::Done);
        }
    }
    let dead = queue.stats().dead;
    assert_eq!((queue.stats().queued, dead), (0, kept.div_ceil(2) as u64));
    std::fs::remove_file(&weight).unwrap();
    queue.tick().await.unwrap();
    queue.accept(submission("f", "x")).await.unwrap();
    drop(queue);
    let queue = open(&folder.join("data")).await;
    assert_eq!((queue.stats().queued, queue.stats().dead), (1, dead));
}
