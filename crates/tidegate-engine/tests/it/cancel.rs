//! Callers that hang up.

use http_body_util::BodyExt as _;
use tidegate_core::{Limit, Outcome};

use crate::fake::OnCancel;
use crate::world::{World, ended, failure, get, until};

/// A world whose only call was dropped before its head.
async fn dropped(
    on_cancel: OnCancel,
    concurrency: u32,
) -> (World, std::sync::Arc<tidegate_engine::Function>) {
    let (world, f) = World::of(|spec| spec.scale.concurrency = concurrency);
    *world.fake.on_cancel.lock() = on_cancel;
    for call in world.hold(&f, 1).await {
        call.abort();
        let _ = call.await;
    }
    until("the code was told", || {
        world.fake.instances()[0].cancelled.lock().len() == 1
    })
    .await;
    assert_eq!(ended(&f, Outcome::Cancelled), 1);
    assert_eq!(f.metrics().in_flight(), 0);
    (world, f)
}

#[tokio::test(start_paused = true)]
async fn code_that_acknowledges_is_used_again() {
    let (world, f) = dropped(OnCancel::Acknowledge, 1).await;
    assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
    assert_eq!(world.fake.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn code_that_does_not_acknowledge_is_replaced() {
    for on_cancel in [OnCancel::Refuse, OnCancel::Ignore] {
        let (world, f) = dropped(on_cancel, 1).await;
        assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
        until("the first was killed", || {
            world.fake.instances()[0].is_killed()
        })
        .await;
        until("the books are right", || world.counts(&f).draining == 0).await;
        assert_eq!(world.counts(&f).idle, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_slot_is_not_given_away_before_the_code_is_done() {
    let (world, f) = World::of(|spec| spec.scale.max = 1);
    *world.fake.on_cancel.lock() = OnCancel::Ignore;
    let held = world.hold(&f, 1).await;
    let waiting = world.begin(&f, "/who");
    until("one waits", || world.counts(&f).queued == 1).await;
    held[0].abort();
    // The first instance is killed after the grace period, and only then is there another.
    assert_eq!(waiting.await.unwrap().unwrap(), "2");
    assert_eq!(world.fake.instances()[0].requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_none_may_wait_one_does_for_a_call_that_was_cut_off() {
    let (world, f) = World::of(|spec| {
        spec.scale.max = 1;
        spec.scale.waiting = Some(0);
    });
    *world.fake.on_cancel.lock() = OnCancel::Ignore;
    let held = world.hold(&f, 1).await;
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Concurrency));
    held[0].abort();
    until("it is over for its caller", || {
        ended(&f, Outcome::Cancelled) == 1
    })
    .await;
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
    let held = world.hold(&f, 1).await;
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Concurrency));
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_instance_outlives_a_call_that_is_not_acknowledged() {
    let (world, f) = dropped(OnCancel::Ignore, 10).await;
    assert_eq!(world.counts(&f).busy, 1, "the slot is held");
    assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
    world.settled(&f).await;
    assert!(!world.fake.only().is_killed());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_answer_half_way_cancels_too() {
    for (path, concurrency) in [("/stream", 1), ("/stream", 10), ("/big/100000", 10)] {
        for (on_cancel, next) in [
            (OnCancel::Acknowledge, "1"),
            (OnCancel::Refuse, if concurrency == 1 { "2" } else { "1" }),
        ] {
            let (world, f) = World::of(|spec| spec.scale.concurrency = concurrency);
            *world.fake.on_cancel.lock() = on_cancel;
            let mut response = world.head(&f, get(path)).await.unwrap();
            if path == "/stream" {
                world.fake.only().send("half");
            }
            assert!(response.body_mut().frame().await.unwrap().is_ok());
            drop(response);
            until("the code was told", || {
                world.fake.instances()[0].cancelled.lock().len() == 1
            })
            .await;
            assert_eq!(
                world.get(&f, "/who").await.unwrap(),
                next,
                "{path} {concurrency} {on_cancel:?}"
            );
            world.settled(&f).await;
            assert_eq!(ended(&f, Outcome::Cancelled), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_read_to_its_end_is_not_cancelled() {
    for path in ["/who", "/big/100000", "/big/400000", "/long/100000"] {
        let (world, f) = World::of(|_| {});
        world.get(&f, path).await.unwrap();
        world.settled(&f).await;
        assert!(world.fake.only().cancelled.lock().is_empty(), "{path}");
        assert_eq!(ended(&f, Outcome::Ok), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_touches_no_instance() {
    let (world, f) = World::of(|_| {});
    world.fake.shut();
    let call = world.begin(&f, "/who");
    until("one starts", || world.fake.begun() == 1).await;
    call.abort();
    assert!(call.await.is_err());
    world.fake.open();
    until("it is idle", || world.counts(&f).idle == 1).await;
    assert_eq!(world.fake.only().requests(), 0);
    assert_eq!(f.metrics().in_flight(), 0);
    assert_eq!(ended(&f, Outcome::Cancelled), 1);
}
