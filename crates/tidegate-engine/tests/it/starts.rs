//! Starts: shared, bounded, backed off from.

use std::time::Duration;

use tidegate_core::{Limit, Outcome};

use crate::world::{BUG, World, failure, key, options, revision, until};

#[tokio::test(start_paused = true)]
async fn many_first_calls_share_starts_and_never_exceed_the_maximum() {
    let (world, f) = World::of(|_| {});
    world.fake.shut();
    let calls: Vec<_> = (0..100).map(|_| world.begin(&f, "/who")).collect();
    until("all wait", || world.counts(&f).queued == 100).await;
    assert_eq!(world.fake.begun(), 4);
    world.fake.open();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    world.settled(&f).await;
    assert_eq!(world.fake.begun(), 4);
    assert!(world.fake.peak.load(std::sync::atomic::Ordering::SeqCst) <= 4);
    // The others took slots that came free.
    assert_eq!(f.metrics().cold_starts(), 4);
    assert_eq!(world.counts(&f).idle, 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_fails_the_calls_that_wait_then_backs_off_then_works_again() {
    let (world, f) = World::of(|spec| spec.scale.max = 1);
    world.fake.fail_next("no module named numpy");
    let calls: Vec<_> = (0..5).map(|_| world.begin(&f, "/who")).collect();
    for call in calls {
        let failure = failure(call.await.unwrap());
        assert_eq!(failure.outcome, Outcome::Function);
        assert!(
            failure.message.contains("no module named numpy"),
            "{failure}"
        );
    }
    assert_eq!(world.fake.begun(), 1);
    // At once again: refused with the same words, and nothing is started.
    let again = failure(world.get(&f, "/who").await);
    assert!(again.message.contains("no module named numpy"), "{again}");
    assert_eq!(world.fake.begun(), 1);
    tokio::time::advance(Duration::from_millis(250)).await;
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
    let log = f.log().tail(Default::default(), None).read();
    assert!(log.iter().any(|l| l.text.contains("no module named numpy")));
}

#[tokio::test(start_paused = true)]
async fn starts_that_fail_together_back_off_once() {
    let (world, f) = World::of(|_| {});
    world.fake.shut();
    for _ in 0..4 {
        world.fake.fail_next("the disk is full");
    }
    let calls: Vec<_> = (0..4).map(|_| world.begin(&f, "/who")).collect();
    until("four start", || world.fake.begun() == 4).await;
    world.fake.open();
    for call in calls {
        failure(call.await.unwrap());
    }
    tokio::time::advance(Duration::from_millis(250)).await;
    assert!(world.get(&f, "/who").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_back_off_further_and_a_success_forgets_them() {
    let (world, f) = World::of(|spec| {
        spec.scale.max = 1;
        spec.scale.idle = Duration::from_secs(1);
    });
    for (at, pause) in [200, 400, 800].into_iter().enumerate() {
        world.fake.fail_next("broken");
        failure(world.get(&f, "/who").await);
        assert_eq!(world.fake.begun(), at + 1);
        tokio::time::advance(Duration::from_millis(pause - 20)).await;
        failure(world.get(&f, "/who").await);
        assert_eq!(world.fake.begun(), at + 1, "before {pause} ms");
        tokio::time::advance(Duration::from_millis(30)).await;
    }
    world.get(&f, "/who").await.unwrap();
    until("it is idle for long enough", || {
        world.fake.living().is_empty()
    })
    .await;
    world.fake.fail_next("broken");
    failure(world.get(&f, "/who").await);
    tokio::time::advance(Duration::from_millis(250)).await;
    world.get(&f, "/who").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_does_not_fail_calls_that_something_else_can_take() {
    let (world, f) = World::of(|_| {});
    let held = world.hold(&f, 1).await;
    world.fake.fail_next("flaky");
    let waiting = world.begin(&f, "/who");
    until("the second start has failed", || {
        world.fake.begun() == 2 && world.counts(&f).starting == 0
    })
    .await;
    assert_eq!(world.counts(&f).queued, 1);
    world.release();
    assert_eq!(waiting.await.unwrap().unwrap(), "1");
    for call in held {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_takes_whichever_comes_first() {
    // A slot that is freed.
    let (world, f) = World::of(|_| {});
    let held = world.hold(&f, 1).await;
    world.fake.shut();
    let waiting = world.begin(&f, "/who");
    until("another is starting", || world.fake.begun() == 2).await;
    world.release();
    assert_eq!(waiting.await.unwrap().unwrap(), "1");
    assert_eq!(
        held.into_iter().next().unwrap().await.unwrap().unwrap(),
        "1"
    );
    assert_eq!(world.counts(&f).starting, 1);
    world.fake.open();

    // An instance that has started.
    let (world, f) = World::of(|_| {});
    let _held = world.hold(&f, 1).await;
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn the_waiting_room_is_bounded() {
    let world = World::with(tidegate_engine::Options {
        max_waiting: 3,
        ..options()
    });
    let f = world.install("f", revision("r1", |spec| spec.scale.max = 1));
    let _held = world.hold(&f, 1).await;
    let waiting: Vec<_> = (0..3).map(|_| world.begin(&f, "/who")).collect();
    until("three wait", || world.counts(&f).queued == 3).await;
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Concurrency));
    assert!(refused.retry_after.is_some());
    world.release();
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    world.settled(&f).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_time() {
    let (world, f) = World::of(|spec| spec.scale.max = 1);
    let _held = world.hold(&f, 1).await;
    let began = tokio::time::Instant::now();
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Concurrency));
    assert!(refused.retry_after.is_some());
    assert_eq!(began.elapsed().as_secs(), 10);
    until("nobody waits", || world.counts(&f).queued == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_gives_up_waiting_leaves_its_place_to_the_next() {
    let (world, f) = World::of(|spec| spec.scale.max = 1);
    let _held = world.hold(&f, 1).await;
    let first = world.begin(&f, "/who");
    until("one waits", || world.counts(&f).queued == 1).await;
    let second = world.begin(&f, "/who");
    until("two wait", || world.counts(&f).queued == 2).await;
    first.abort();
    let _ = first.await;
    world.release();
    second.await.unwrap().unwrap();
    world.settled(&f).await;
    assert_eq!(world.fake.only().requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_panics_is_one_that_failed() {
    let (world, f) = World::of(|spec| spec.code.entry = BUG.to_owned());
    assert_eq!(
        failure(world.get(&f, "/who").await).outcome,
        Outcome::Platform
    );
    assert_eq!(world.counts(&f).starting, 0);
    let key = key("g");
    let revision = revision("r1", |spec| {
        spec.code.entry = BUG.to_owned();
        spec.scale.initial = 1;
    });
    let deploy = world.engine.deploy(&key, revision);
    let ended = tokio::time::timeout(Duration::from_secs(60), deploy).await;
    assert!(ended.expect("it ends by itself").is_err());
}
