//! Accepting, leasing, settling, and what is kept of it over a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tidegate_core::Outcome;
use tidegate_core::queue::{Reason, Renewed, Settled, Verdict};
use tidegate_core::record::{Cause, CauseKind, TraceContext};
use tidegate_queue::{
    AcceptError, Body, Callback, Cancelled, Destination, Ending, Error, Filter, MAX_INLINE_BYTES,
    Options, Shown, Target, TimeSource,
};

use crate::dispatch::Hands;
use crate::*;

#[tokio::test]
async fn what_was_accepted_comes_back_whole_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut sent = submission("hello", "the body");
    sent.target = Target::Url("https://example.org/in".to_owned());
    sent.cause = Cause {
        kind: CauseKind::Schedule,
        parent: Some(new_id()),
        name: Some("nightly".into()),
        attempt: 3,
    };
    sent.trace = Some(TraceContext {
        trace: 1,
        parent: 2,
        span: 3,
        sampled: true,
    });
    sent.depth = 3;
    sent.order_key = Some("customer 7".to_owned());
    sent.idempotency = Some("once".to_owned());
    sent.on_success = Some(Destination::Function(function("next")));
    sent.on_failure = Some(Destination::Url("https://example.org/bad".to_owned()));
    sent.callback = Some(Callback {
        url: "https://example.org/back".to_owned(),
    });
    sent.keep_result_ms = 60_000;
    {
        let queue = open(dir.path()).await;
        let accepted = queue.accept(sent.clone()).await.unwrap();
        assert_eq!((accepted.id, accepted.duplicate), (sent.id, false));
    }
    let queue = open(dir.path()).await;
    assert_eq!(queue.stats().queued, 1);
    // What goes to an address is in a lane beside the function's own.
    let lane = queue.lanes(None, 1).remove(0);
    assert_eq!(lane.of(), (function("hello"), true));
    let taken = queue.take(&lane.function, 1, HOLD).await.unwrap().remove(0);
    assert_eq!((taken.id, taken.attempt), (sent.id, 1));
    let work = queue.load(&taken).await.unwrap();
    assert_eq!(work.submission, sent);
    assert!(matches!(
        queue.show(sent.id).await.unwrap(),
        Shown::Queued { leased: true, .. }
    ));
    assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Done);
    assert_eq!(queue.stats().queued, 0);
    let result = queue.result(sent.id).await.unwrap();
    assert_eq!(result.answer.unwrap().body, "the answer");
    assert!(matches!(result.ended, Ending::Done(_)));
}

#[tokio::test]
async fn one_word_is_one_submission() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let worded = |name| {
        let mut sent = submission(name, "x");
        sent.idempotency = Some("order 1".to_owned());
        sent
    };
    let first = worded("a");
    queue.accept(first.clone()).await.unwrap();
    let again = queue.accept(worded("a")).await.unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    // Another function's word is another word.
    assert!(!queue.accept(worded("b")).await.unwrap().duplicate);
    // Also when it is done, and after a restart.
    let taken = take_one(&queue, "a").await;
    settle(&queue, &taken, Outcome::Ok).await;
    drop(queue);
    let queue = open(dir.path()).await;
    assert!(queue.accept(worded("a")).await.unwrap().duplicate);
    // The id is a name of its own.
    let mut same = submission("a", "x");
    queue.accept(same.clone()).await.unwrap();
    same.function = function("b");
    assert!(matches!(
        queue.accept(same).await,
        Err(AcceptError::IdTaken { .. })
    ));
}

#[tokio::test]
async fn what_is_cancelled_may_be_sent_again_under_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let worded = || {
        let mut sent = submission("f", "x");
        sent.idempotency = Some("order 1".to_owned());
        sent
    };
    let first = worded();
    queue.accept(first.clone()).await.unwrap();
    queue.cancel(first.id).await.unwrap();
    let second = worded();
    let accepted = queue.accept(second.clone()).await.unwrap();
    assert_eq!((accepted.id, accepted.duplicate), (second.id, false));
    assert!(queue.accept(worded()).await.unwrap().duplicate);
}

#[tokio::test]
async fn what_ended_together_is_forgotten_by_one_look() {
    const WORDS: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands(AtomicU64::new(0)));
    let mut options = Options::default();
    options.time = Arc::clone(&clock) as Arc<dyn TimeSource>;
    let (queue, _) = open_with(dir.path(), options).await;
    let sent = (0..WORDS).map(|n| {
        let mut sent = submission("f", "x");
        sent.idempotency = Some(n.to_string());
        queue.accept(sent)
    });
    for accepted in futures_util::future::join_all(sent).await {
        assert!(!accepted.unwrap().duplicate);
    }
    let file = rusqlite::Connection::open(dir.path().join("queue/queue.db")).unwrap();
    let words = || -> i64 {
        let count = "SELECT count(*) FROM words";
        file.query_row(count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(words(), i64::try_from(WORDS).unwrap());
    clock.0.store(25 * 3_600_000, Ordering::Relaxed);
    queue.tick().await.unwrap();
    assert_eq!(words(), 0);
}

#[tokio::test]
async fn failures_are_tried_again_and_then_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let sent = submission("f", "x");
    queue.accept(sent.clone()).await.unwrap();
    for attempt in 1..=3 {
        let taken = take_one(&queue, "f").await;
        assert_eq!(taken.attempt, attempt);
        let settled = settle(&queue, &taken, Outcome::Function).await;
        match attempt {
            3 => assert_eq!(settled, Settled::Dead(Reason::Failed)),
            _ => assert!(matches!(settled, Settled::Again(_))),
        }
        // The lease is over now.
        assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Stale);
    }
    assert_eq!(queue.stats().queued, 0);
    assert!(matches!(
        queue.show(sent.id).await.unwrap(),
        Shown::Dead(letter) if letter.reason == Reason::Failed && letter.finished.tries == 3
    ));
}

#[tokio::test]
async fn a_restart_ends_leases_and_keeps_what_failures_there_were() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    queue.accept(submission("f", "x")).await.unwrap();
    let first = take_one(&queue, "f").await;
    settle(&queue, &first, Outcome::Function).await;
    let second = take_one(&queue, "f").await;
    drop(queue);
    let queue = open(dir.path()).await;
    let third = take_one(&queue, "f").await;
    assert!(third.lease.epoch > second.lease.epoch);
    assert_eq!(third.attempt, 2);
    assert_eq!(settle(&queue, &second, Outcome::Ok).await, Settled::Stale);
    assert_eq!(
        queue
            .renew(&[second.lease, third.lease], HOLD)
            .await
            .unwrap(),
        [Renewed::Over, Renewed::Yes]
    );
    assert_eq!(settle(&queue, &third, Outcome::Ok).await, Settled::Done);
}

#[tokio::test]
async fn items_of_one_key_go_one_by_one_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let mut sent = submission("f", &n.to_string());
        sent.order_key = Some("k".to_owned());
        ids.push(sent.id);
        queue.accept(sent).await.unwrap();
    }
    let mut free = submission("f", "free");
    free.order_key = Some("other".to_owned());
    queue.accept(free.clone()).await.unwrap();
    let both = take(&queue, "f", 2).await;
    assert_eq!((both[0].id, both[1].id), (ids[0], free.id));
    let none = queue.take(&function("f"), 10, HOLD).await.unwrap();
    assert_eq!(none, []);
    settle(&queue, &both[1], Outcome::Ok).await;
    // A failure keeps the turn; a cancellation and an end give it on.
    settle(&queue, &both[0], Outcome::Function).await;
    let again = take_one(&queue, "f").await;
    assert_eq!((again.id, again.attempt), (ids[0], 2));
    assert_eq!(queue.cancel(ids[1]).await.unwrap(), Cancelled::Waiting);
    settle(&queue, &again, Outcome::Ok).await;
    for id in &ids[2..] {
        let next = take_one(&queue, "f").await;
        assert_eq!(next.id, *id);
        settle(&queue, &next, Outcome::Ok).await;
    }
}

#[tokio::test]
async fn what_is_cancelled_does_not_count_and_its_result_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let mut sent = submission("f", "x");
    sent.keep_result_ms = 60_000;
    queue.accept(sent.clone()).await.unwrap();
    let taken = take_one(&queue, "f").await;
    assert_eq!(queue.cancel(sent.id).await.unwrap(), Cancelled::Running);
    assert_eq!(
        queue.renew(&[taken.lease], HOLD).await.unwrap(),
        [Renewed::Over]
    );
    assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Stale);
    assert!(matches!(queue.load(&taken).await, Err(Error::LeaseOver)));
    assert!(matches!(
        queue.show(sent.id).await.unwrap(),
        Shown::Finished(finished) if finished.ended == Ending::Cancelled
    ));
    assert!(matches!(
        queue.cancel(sent.id).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn what_follows_from_an_end_comes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    queue.accept(submission("f", "1")).await.unwrap();
    queue.accept(submission("f", "2")).await.unwrap();
    let both = take(&queue, "f", 2).await;
    for (taken, verdict) in both.iter().zip([ended(Outcome::Ok), Verdict::Refused]) {
        let mut settlement = settlement(taken, verdict);
        settlement.on_done = vec![submission("done", "x")];
        settlement.on_dead = vec![submission("dead", "x")];
        queue.settle(settlement).await.unwrap();
    }
    drop(queue);
    let queue = open(dir.path()).await;
    let lanes = queue.lanes(None, 10);
    let names: Vec<_> = lanes
        .iter()
        .map(|lane| (&*lane.function.name, lane.queued))
        .collect();
    assert_eq!(names, [("dead", 1), ("done", 1)]);
}

#[tokio::test]
async fn a_lease_that_is_given_back_or_not_renewed_is_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    queue.accept(submission("f", "x")).await.unwrap();
    let taken = take_one(&queue, "f").await;
    queue
        .settle(settlement(&taken, Verdict::Release))
        .await
        .unwrap();
    let again = queue
        .take(&function("f"), 1, Duration::ZERO)
        .await
        .unwrap()
        .remove(0);
    assert_eq!((again.id, again.attempt), (taken.id, 1));
    queue.tick().await.unwrap();
    let third = take_one(&queue, "f").await;
    assert_eq!(third.id, taken.id);
    assert_eq!(settle(&queue, &again, Outcome::Ok).await, Settled::Stale);
    assert_eq!(settle(&queue, &third, Outcome::Ok).await, Settled::Done);
    assert_eq!(queue.stats().leased, 0);
}

#[tokio::test]
async fn a_large_body_is_a_blob_that_goes_with_its_item() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let large = Bytes::from(vec![7; MAX_INLINE_BYTES + 1]);
    let mut sent = submission("f", "");
    sent.request.body = Body::Inline(large.clone());
    match queue.accept(sent.clone()).await {
        Err(AcceptError::TooLarge { bytes, limit, .. }) => assert_eq!(bytes, limit + 1),
        other => panic!("{other:?}"),
    }
    let chunks = || stream::iter([Ok::<_, std::io::Error>(large.clone())]);
    assert!(queue.spool(chunks(), 1024).await.is_err());
    let spooled = queue.spool(chunks(), 1 << 30).await.unwrap();
    let orphan = queue.spool(chunks(), 1 << 30).await.unwrap();
    assert_ne!(spooled.digest, orphan.digest);
    sent.request.body = Body::Spooled(spooled);
    queue.accept(sent).await.unwrap();
    drop(queue);

    let (queue, report) = open_with(dir.path(), Options::default()).await;
    assert_eq!(report.orphans, 1);
    let taken = take_one(&queue, "f").await;
    let work = queue.load(&taken).await.unwrap();
    assert_eq!(work.submission.request.body_bytes(), large.len() as u64);
    let read = queue.spooled(&spooled).await.unwrap();
    let chunks: Vec<_> = read.map(|chunk| chunk.unwrap()).collect().await;
    assert_eq!(chunks.concat(), large);
    settle(&queue, &taken, Outcome::Ok).await;
    while queue.spooled(&spooled).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn time_makes_due_and_makes_too_old_and_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Arc::new(Hands(AtomicU64::new(0)));
    let mut options = Options::default();
    options.time = Arc::clone(&fake) as Arc<dyn TimeSource>;
    let (queue, _) = open_with(dir.path(), options).await;
    let mut later = submission("f", "later");
    later.due_ms = queue.now_ms() + 1000;
    later.keep_result_ms = 5000;
    later.idempotency = Some("w".to_owned());
    let mut old = submission("g", "old");
    old.policy.max_age_ms = 500;
    queue.accept(later.clone()).await.unwrap();
    queue.accept(old.clone()).await.unwrap();
    assert_eq!(queue.take(&function("f"), 1, HOLD).await.unwrap(), []);
    assert_eq!(queue.next_due_ms(), queue.now_ms());
    assert_eq!(queue.due(None, 10).len(), 1);

    fake.0.store(1000, Ordering::Relaxed);
    assert_eq!(queue.take(&function("g"), 1, HOLD).await.unwrap(), []);
    assert!(matches!(
        queue.show(old.id).await.unwrap(),
        Shown::Dead(letter) if letter.reason == Reason::TooOld
    ));
    let taken = take_one(&queue, "f").await;
    settle(&queue, &taken, Outcome::Ok).await;
    queue.result(later.id).await.unwrap();

    fake.0.store(25 * 3_600_000, Ordering::Relaxed);
    queue.tick().await.unwrap();
    assert!(queue.result(later.id).await.is_err());
    let again = submission("f", "again");
    let again = tidegate_queue::Submission {
        idempotency: Some("w".to_owned()),
        ..again
    };
    assert!(!queue.accept(again).await.unwrap().duplicate);
}

#[tokio::test]
async fn lists_are_in_order_and_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path()).await;
    let mut ids = Vec::new();
    for n in 0..25 {
        let sent = submission(if n % 2 == 0 { "even" } else { "odd" }, "x");
        ids.push(sent.id);
        queue.accept(sent).await.unwrap();
    }
    let (mut from, mut seen) = (None, Vec::new());
    loop {
        let page = queue.list(Filter::All, from, 10).await.unwrap();
        seen.extend(page.items.into_iter().map(|entry| entry.id));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let even = Filter::Function(function("even"));
    assert_eq!(queue.list(even, None, 100).await.unwrap().items.len(), 13);
    let other = Filter::Namespace("other".to_owned());
    assert_eq!(queue.list(other, None, 100).await.unwrap().items.len(), 0);
}
