//! What all functions of a host share: room, and the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_core::{Limit, Outcome};
use tidegate_engine::Options;

use crate::world::{World, failure, key, options, revision, until};

fn small(max_instances: usize) -> World {
    World::with(Options {
        max_instances,
        ..options()
    })
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_instance_of_another_function_makes_room() {
    let world = small(2);
    let functions = ["a", "b", "c"].map(|name| world.install(name, revision("r1", |_| {})));
    for (f, number) in functions.iter().zip(["1", "2", "3"]) {
        assert_eq!(world.get(f, "/who").await.unwrap(), number);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let gone: Vec<_> = world.fake.instances().iter().map(|i| i.is_gone()).collect();
    assert_eq!(gone, [true, false, false]);
    assert!(world.fake.peak.load(Ordering::SeqCst) <= 2);
}

#[tokio::test(start_paused = true)]
async fn one_start_makes_room_for_one() {
    let world = small(4);
    world.fake.stubborn.store(true, Ordering::SeqCst);
    let idle = world.install("idle", revision("r1", |_| {}));
    for call in world.hold(&idle, 4).await {
        world.release();
        call.await.unwrap().unwrap();
    }
    world.settled(&idle).await;
    // What is to make room takes its time to end.
    let f = world.install("f", revision("r1", |_| {}));
    world.get(&f, "/who").await.unwrap();
    let drained = |i: &std::sync::Arc<crate::fake::FakeInstance>| i.drained.load(Ordering::SeqCst);
    assert_eq!(
        world.fake.instances().iter().filter(|i| drained(i)).count(),
        1
    );
    assert_eq!(world.counts(&idle).idle, 3);
}

#[tokio::test(start_paused = true)]
async fn a_minimum_is_not_evicted() {
    let world = small(1);
    let kept = world.install("kept", revision("r1", |s| s.scale.min = 1));
    until("it lives", || world.counts(&kept).idle == 1).await;
    let f = world.install("f", revision("r1", |_| {}));
    let refused = failure(world.get(&f, "/who").await);
    assert!(
        matches!(
            refused.outcome,
            Outcome::Limit(Limit::Capacity | Limit::Concurrency)
        ),
        "{refused:?}"
    );
    assert!(refused.retry_after.is_some());
    assert_eq!(world.get(&kept, "/who").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_finds_no_room_says_so() {
    let world = small(1);
    let kept = world.install("kept", revision("r1", |s| s.scale.min = 1));
    until("it lives", || world.counts(&kept).idle == 1).await;
    let key = key("f");
    let deploy = world
        .engine
        .deploy(&key, revision("r1", |s| s.scale.initial = 1));
    let error = tokio::time::timeout(Duration::from_secs(60), deploy)
        .await
        .expect("it ends by itself")
        .unwrap_err();
    assert!(error.to_string().contains("room"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn functions_with_instances_are_told_once_each() {
    let (world, f) = World::of(|_| {});
    let _held = world.hold(&f, 1).await;
    world
        .engine
        .deploy(&key("f"), revision("r2", |s| s.scale.initial = 1))
        .await
        .unwrap();
    let active = world.engine.active();
    assert_eq!(active.len(), 1, "{active:?}");
    assert_eq!((active[0].1.busy, active[0].1.idle), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_in_flight_and_takes_no_more() {
    let (world, f) = World::of(|spec| spec.scale.max = 1);
    let held = world.hold(&f, 1).await;
    // One that waits is in flight as well.
    let waiting = world.begin(&f, "/who");
    until("one waits", || world.counts(&f).queued == 1).await;
    let engine = world.engine.clone();
    let drain = tokio::spawn(async move { engine.drain(Duration::from_secs(30)).await });
    // The drain has begun.
    tokio::task::yield_now().await;
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Capacity));
    assert!(refused.retry_after.is_some());
    assert!(!drain.is_finished());
    world.release();
    for call in held.into_iter().chain([waiting]) {
        assert_eq!(call.await.unwrap().unwrap(), "1");
    }
    drain.await.unwrap();
    assert!(world.fake.living().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_grace_period() {
    let (world, f) = World::of(|_| {});
    let held = world.hold(&f, 2).await;
    let began = tokio::time::Instant::now();
    world.engine.drain(Duration::from_secs(3)).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    for call in held {
        assert_eq!(failure(call.await.unwrap()).outcome, Outcome::Function);
    }
    assert!(world.fake.living().is_empty());
}
