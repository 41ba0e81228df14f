//! Dead letters: listed, sent again, thrown away.

use tidegate_core::Outcome;
use tidegate_core::queue::{Reason, Settled, Verdict};
use tidegate_queue::{DeadFilter, Error, Filter, Shown};

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
    let body =
        futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"spooled"))]);
    let spooled = queue.spool(body, 1 << 20).await.unwrap();
    let mut sent = submission("a", "");
    sent.request.body = Body::Spooled(spooled);
    queue.accept(sent).await.unwrap();
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
