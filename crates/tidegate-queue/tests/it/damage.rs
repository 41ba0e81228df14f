//! Bits flipped in rows and in the log, commits cut off.

use std::fs;
use std::path::Path;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_core::queue::Reason;
use tidegate_queue::{DeadFilter, Error, TimeSource};

use crate::dispatch::Hands;
use crate::*;

async fn fill(path: &Path, count: usize) -> Vec<Submission> {
    let queue = open(path).await;
    let mut all = Vec::new();
    for n in 0..count {
        let sent = submission("f", &format!("marker-{n:03}-{}", "x".repeat(1400)));
        queue.accept(sent.clone()).await.unwrap();
        all.push(sent);
    }
    all
}

pub(crate) fn place(bytes: &[u8], needle: &str) -> usize {
    let mut windows = bytes.windows(needle.len());
    windows
        .position(|window| window == needle.as_bytes())
        .unwrap()
}

#[tokio::test]
async fn a_flip_in_a_body_costs_that_item_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 5).await;
    let path = dir.path().join("queue/queue.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = place(&bytes, "marker-002");
    bytes[at + 20] ^= 4;
    fs::write(&path, bytes).unwrap();

    let queue = open(dir.path()).await;
    let taken = take(&queue, "f", 5).await;
    for (one, sent) in taken.iter().zip(&all) {
        let loaded = queue.load(one).await;
        if sent.id == all[2].id {
            assert!(matches!(loaded, Err(Error::Damaged { id, .. }) if id == sent.id));
        } else {
            assert_eq!(loaded.unwrap().submission, *sent);
        }
    }
    let dead = queue.dead(DeadFilter::default(), None, 10).await.unwrap();
    assert_eq!(dead.items.len(), 1);
    assert_eq!(dead.items[0].reason, Reason::Damaged);
    assert_eq!(dead.items[0].finished.id, all[2].id);
    assert_eq!((queue.stats().queued, queue.stats().lost), (4, 1));
    assert_eq!(queue.redrive(DeadFilter::default(), 100).await.unwrap(), 0);
}

#[tokio::test]
async fn an_examination_finds_what_nobody_has_read_yet() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 5).await;
    let path = dir.path().join("queue/queue.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = place(&bytes, "marker-003");
    bytes[at] ^= 4;
    fs::write(&path, bytes).unwrap();
    let queue = open(dir.path()).await;
    let examined = queue.examine().await.unwrap();
    assert_eq!((examined.items, examined.damaged), (5, 1));
    assert_eq!(examined.structure, Vec::<String>::new());
    assert_eq!(queue.stats().queued, 4);
    assert_eq!(queue.examine().await.unwrap().damaged, 0);
}

#[tokio::test]
async fn flips_all_over_the_file_are_never_taken_for_data_nor_pass_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 120).await;
    let path = dir.path().join("queue/queue.db");
    let whole = fs::read(&path).unwrap();
    let (mut opened, mut reported) = (0, 0);
    // Past the file's header, where page size and magic stand.
    for at in (100..whole.len()).step_by(whole.len() / 60) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("queue")).unwrap();
        let path = dir.path().join("queue/queue.db");
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        let (store, _) = tidegate_store::open(dir.path()).unwrap();
        let folder = dir.path().join("queue");
        let found = Queue::open(&folder, store.blobs(), Options::default()).await;
        let Ok((queue, report)) = found else {
            continue;
        };
        opened += 1;
        let examined = queue.examine().await.unwrap();
        let told = !report.is_clean() || examined.damaged > 0 || !examined.structure.is_empty();
        reported += usize::from(told);
        let mut there = 0;
        for sent in &all {
            match queue.submission(sent.id).await {
                Ok(found) => {
                    assert_eq!(found, *sent, "byte {at}");
                    there += 1;
                }
                Err(_) => assert!(told, "byte {at}: {} is lost in silence", sent.id),
            }
        }
        // One page holds a few; what is elsewhere is untouched.
        assert!(there >= 90, "byte {at}: {there} left, {report:?}");
        // And it goes on working.
        let taken = queue.take(&function("f"), 200, HOLD).await.unwrap();
        assert!(taken.len() <= all.len());
        queue.accept(submission("f", "new")).await.unwrap();
    }
    assert!(opened > 50, "only {opened} opened");
    assert!(reported > 10, "only {reported} reported");
}

/// Copies the folder of a queue that is still open: what a kill at this moment leaves.
fn killed(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("queue")).unwrap();
    for name in ["queue.db", "queue.db-wal", "queue.mark"] {
        let name = Path::new("queue").join(name);
        fs::copy(from.join(&name), to.path().join(&name)).unwrap();
    }
    to
}

#[tokio::test]
async fn a_flip_in_the_log_and_a_tail_that_is_cut_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    for n in 0..10 {
        queue.accept(submission("f", &n.to_string())).await.unwrap();
    }
    let whole = killed(dir.path());
    assert_eq!(open(whole.path()).await.stats().queued, 10);

    let flipped = killed(dir.path());
    let log = flipped.path().join("queue/queue.db-wal");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let (queue_after, report) = open_with(flipped.path(), Options::default()).await;
    assert!(report.wal.is_some() && report.missing.is_some());
    let left = queue_after.stats().queued;
    assert!(left < 10);
    assert_eq!(
        take(&queue_after, "f", usize::try_from(left).unwrap())
            .await
            .len() as u64,
        left
    );

    let cut = killed(dir.path());
    let log = cut.path().join("queue/queue.db-wal");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let (queue_after, report) = open_with(cut.path(), Options::default()).await;
    assert_eq!(report.wal, None);
    assert!(report.missing.is_some());
    assert_eq!(queue_after.stats().queued, 9);
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_file_is_moved_to_a_new_one_and_the_rest_reported() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 120).await;
    let queue = open(dir.path()).await;
    let chunk = Ok::<_, std::io::Error>(Bytes::from_static(b"beside the file"));
    let spooled = queue
        .spool(futures_util::stream::iter([chunk]), 1 << 20)
        .await;
    let mut large = submission("f", "");
    large.request.body = Body::Spooled(spooled.unwrap());
    queue.accept(large.clone()).await.unwrap();
    let dead = take_one(&queue, "f").await;
    let settled = settlement(&dead, Verdict::Refused);
    queue.settle(settled).await.unwrap();
    drop(queue);
    // A leaf of the items and the table of bodies become noise.
    let path = dir.path().join("queue/queue.db");
    let mut bytes = fs::read(&path).unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'blobs'";
    let root: u32 = file.query_row(root, [], |row| row.get(0)).unwrap();
    drop(file);
    for page in [place(&bytes, "marker-060") / 4096, root as usize - 1] {
        bytes[page * 4096..][..4096].fill(0xa5);
    }
    fs::write(&path, bytes).unwrap();

    let (queue, report) = open_with(dir.path(), Options::default()).await;
    assert!(!report.is_clean() && !report.reindexed, "{report:?}");
    let aside = report.moved_aside.unwrap();
    assert!(aside.exists() && aside != path);
    let mut lost = 0;
    for sent in &all[1..] {
        match queue.submission(sent.id).await {
            Ok(found) => assert_eq!(found, *sent),
            Err(_) => lost += 1,
        }
    }
    assert!((1..=4).contains(&lost), "{lost}");
    assert_eq!(report.queued, all.len() as u64 - lost);
    // Its body was not taken for one of nobody's.
    let Body::Spooled(spooled) = &large.request.body else {
        unreachable!("it was spooled");
    };
    assert!(queue.spooled(spooled).await.is_ok());
    assert_eq!((queue.stats().dead, queue.stats().lost), (1, 0));
    // And all is sound from now on.
    assert_eq!(
        queue.examine().await.unwrap().structure,
        Vec::<String>::new()
    );
    let left = usize::try_from(report.queued).unwrap();
    assert_eq!(take(&queue, "f", left).await.len(), left);
    drop(queue);
    assert!(open_with(dir.path(), Options::default()).await.1.is_clean());
}

#[tokio::test]
async fn leases_end_though_what_is_kept_cannot_be_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands(AtomicU64::new(0)));
    let mut options = Options::default();
    options.time = Arc::clone(&clock) as Arc<dyn TimeSource>;
    options.remember_ms = 1000;
    let (queue, _) = open_with(dir.path(), options).await;
    let mut sent = submission("f", "x");
    sent.idempotency = Some("mine".to_owned());
    queue.accept(sent).await.unwrap();
    let hold = Duration::from_secs(1);
    let function = function("f");
    assert_eq!(queue.take(&function, 1, hold).await.unwrap().len(), 1);
    // What a page does that cannot be read.
    let file = rusqlite::Connection::open(dir.path().join("queue/queue.db")).unwrap();
    file.execute_batch(
        "CREATE TRIGGER broken BEFORE DELETE ON words BEGIN SELECT RAISE(ABORT, 'broken'); END;",
    )
    .unwrap();
    clock.0.store(10_000, Ordering::SeqCst);
    assert!(queue.tick().await.is_err());
    assert_eq!(queue.take(&function, 1, hold).await.unwrap().len(), 1);
}
