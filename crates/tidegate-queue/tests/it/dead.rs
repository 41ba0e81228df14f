//! Dead letters: listed, sent again, thrown away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use tidegate_core::Outcome;
use tidegate_core::queue::{Reason, Settled, Verdict};
use tidegate_queue::{DeadFilter, Error, Filter, Shown, Spooled, TimeSource};

use crate::dispatch::Hands;
use crate::*;

async fn bury(queue: &Queue, name: &str, count: usize) {
    for n in 0..count {
        queue
            .accept(submission(name, &format!("{name} {n}")))
            .await
            .unwrap();
    }
    for taken in take(queue, name, count).await {
        queue
            .settle(settlement(&taken, Verdict::Refused))
            .await
            .unwrap();
    }
}

/// Accepts one whose body is beside the file.
async fn spool(queue: &Queue, name: &str) -> (InvocationId, Spooled) {
    let body =
        futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"spooled"))]);
    let spooled = queue.spool(body, 1 << 20).await.unwrap();
    let mut sent = submission(name, "");
    sent.request.body = Body::Spooled(spooled);
    (queue.accept(sent).await.unwrap().id, spooled)
}

#[tokio::test]
async fn the_oldest_go_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_dead_bytes = 100_000;
    let (queue, _) = open_with(dir.path(), options.clone()).await;
    let body = "x".repeat(1000);
    for _ in 0..300 {
        queue.accept(submission("f", &body)).await.unwrap();
    }
    for taken in take(&queue, "f", 300).await {
        let settled = settlement(&taken, Verdict::Refused);
        queue.settle(settled).await.unwrap();
    }
    let all = queue.stats();
    let newest = queue.dead(DeadFilter::default(), None, 1).await.unwrap();
    queue.tick().await.unwrap();
    let stats = queue.stats();
    assert!(stats.dead_bytes <= 100_000 && stats.dead > 50, "{stats:?}");
    assert_eq!(stats.dead + stats.dead_dropped, 300);
    assert!(all.dead_bytes >= 300_000 || all.dead_dropped > 0, "{all:?}");
    let left = queue.dead(DeadFilter::default(), None, 1000).await.unwrap();
    assert_eq!(left.items.len() as u64, stats.dead);
    assert_eq!(left.items[0], newest.items[0]);
    // What they take is known again after a restart.
    drop(queue);
    let (queue, _) = open_with(dir.path(), options).await;
    let again = queue.stats();
    assert_eq!(
        (again.dead, again.dead_bytes),
        (stats.dead, stats.dead_bytes)
    );
}

#[tokio::test]
async fn results_of_what_is_sent_again_and_again_do_not_crowd_out_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_result_bytes = 100_000;
    let (queue, _) = open_with(dir.path(), options).await;
    let mut sent = submission("f", "");
    sent.keep_result_ms = 60_000;
    queue.accept(sent.clone()).await.unwrap();
    for _ in 0..3 {
        let taken = take_one(&queue, "f").await;
        let mut settled = settlement(&taken, Verdict::Refused);
        settled.answer.as_mut().unwrap().body = Bytes::from(vec![7; 60_000]);
        queue.settle(settled).await.unwrap();
        queue.tick().await.unwrap();
        assert!(queue.result(sent.id).await.is_ok());
        queue.redrive_one(sent.id).await.unwrap();
    }
    let taken = take_one(&queue, "f").await;
    assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Done);
    queue.tick().await.unwrap();
    let result = queue.result(sent.id).await.unwrap();
    assert_eq!(result.answer.unwrap().body, "the answer");
}

#[tokio::test]
async fn they_go_when_they_are_too_old_with_their_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands(AtomicU64::new(0)));
    let mut options = Options::default();
    options.time = Arc::clone(&clock) as Arc<dyn TimeSource>;
    options.dead_keep_ms = 10_000;
    let (queue, _) = open_with(dir.path(), options).await;
    let (_, spooled) = spool(&queue, "a").await;
    let taken = take_one(&queue, "a").await;
    let settled = settlement(&taken, Verdict::Refused);
    queue.settle(settled).await.unwrap();
    clock.0.store(5000, Ordering::SeqCst);
    bury(&queue, "b", 1).await;
    queue.tick().await.unwrap();
    assert_eq!(queue.stats().dead, 2);
    clock.0.store(10_000, Ordering::SeqCst);
    queue.tick().await.unwrap();
    let left = queue.dead(DeadFilter::default(), None, 10).await.unwrap();
    assert_eq!(&*left.items[0].finished.function.name, "b");
    assert_eq!(left.items.len(), 1);
    assert_eq!(queue.stats().dead_dropped, 1);
    while queue.spooled(&spooled).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_number_is_given_once() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let newest = async |queue: &Queue| {
        let page = queue.dead(DeadFilter::default(), None, 1).await.unwrap();
        page.items[0].number
    };
    bury(&queue, "a", 3).await;
    let before = newest(&queue).await;
    assert_eq!(queue.purge(DeadFilter::default()).await.unwrap(), 3);
    assert_eq!((queue.stats().dead, queue.stats().dead_bytes), (0, 0));
    bury(&queue, "a", 1).await;
    assert!(newest(&queue).await > before);
    let before = newest(&queue).await;
    queue.purge(DeadFilter::default()).await.unwrap();
    drop(queue);
    let queue = open(dir.path()).await;
    bury(&queue, "a", 1).await;
    assert!(newest(&queue).await > before);
}

#[tokio::test]
async fn every_body_of_many_that_end_together_is_removed() {
    const MANY: usize = 1200;
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let all = join_all((0..MANY).map(|_| spool(&queue, "a"))).await;
    let cancelled = all.iter().map(|(id, _)| queue.cancel(*id));
    for cancelled in join_all(cancelled).await {
        cancelled.unwrap();
    }
    let (_, last) = all[MANY - 1];
    while queue.spooled(&last).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for (_, spooled) in all {
        assert!(queue.spooled(&spooled).await.is_err());
    }
}

#[tokio::test]
async fn they_are_listed_by_what_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    bury(&queue, "a", 3).await;
    bury(&queue, "b", 2).await;
    let count = async |filter: DeadFilter| queue.dead(filter, None, 100).await.unwrap().items.len();
    let of = |name| DeadFilter {
        of: Filter::Function(function(name)),
        ..DeadFilter::default()
    };
    assert_eq!(count(DeadFilter::default()).await, 5);
    assert_eq!(count(of("a")).await, 3);
    let reason = |reason| DeadFilter {
        reason: Some(reason),
        ..DeadFilter::default()
    };
    assert_eq!(count(reason(Reason::Refused)).await, 5);
    assert_eq!(count(reason(Reason::TooOld)).await, 0);
    let now = queue.now_ms();
    let until = DeadFilter {
        until_ms: Some(now - 3_600_000),
        ..DeadFilter::default()
    };
    assert_eq!(count(until).await, 0);
    let page = queue.dead(DeadFilter::default(), None, 2).await.unwrap();
    let rest = queue.dead(DeadFilter::default(), page.next, 100).await;
    assert_eq!(page.items.len() + rest.unwrap().items.len(), 5);
    // The latest is first.
    assert_eq!(&*page.items[0].finished.function.name, "b");
    assert_eq!(
        page.items[0].finished.message.as_deref(),
        Some("so it went")
    );
}

#[tokio::test]
async fn they_are_sent_again_as_if_new() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    bury(&queue, "a", 3).await;
    bury(&queue, "b", 1).await;
    let only_a = DeadFilter {
        of: Filter::Function(function("a")),
        ..DeadFilter::default()
    };
    assert_eq!(queue.redrive(only_a, 1000).await.unwrap(), 3);
    let taken = take(&queue, "a", 3).await;
    for one in &taken {
        assert_eq!(one.attempt, 1);
        let work = queue.load(one).await.unwrap();
        assert!(
            matches!(work.submission.request.body, Body::Inline(body) if body.starts_with(b"a "))
        );
        assert_eq!(settle(&queue, one, Outcome::Ok).await, Settled::Done);
    }
    let left = queue.dead(DeadFilter::default(), None, 10).await.unwrap();
    let id = left.items[0].finished.id;
    assert_eq!(left.items.len(), 1);
    queue.redrive_one(id).await.unwrap();
    assert!(matches!(
        queue.show(id).await.unwrap(),
        Shown::Queued { .. }
    ));
    assert!(matches!(
        queue.redrive_one(id).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn they_are_thrown_away_with_their_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let spooled = spool(&queue, "a").await.1;
    let taken = take_one(&queue, "a").await;
    queue
        .settle(settlement(&taken, Verdict::Refused))
        .await
        .unwrap();
    bury(&queue, "b", 4).await;
    // It stays with the dead letter, over a restart too.
    drop(queue);
    let queue = open(dir.path()).await;
    assert!(queue.spooled(&spooled).await.is_ok());
    assert_eq!(queue.purge(DeadFilter::default()).await.unwrap(), 5);
    assert_eq!(queue.purge(DeadFilter::default()).await.unwrap(), 0);
    while queue.spooled(&spooled).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
