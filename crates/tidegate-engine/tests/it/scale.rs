//! How many instances, when.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::world::{World, key, revision, until};

#[tokio::test(start_paused = true)]
async fn an_idle_function_goes_to_zero_and_comes_back() {
    let (world, f) = World::of(|spec| spec.scale.idle = Duration::from_secs(5));
    world.get(&f, "/who").await.unwrap();
    let began = tokio::time::Instant::now();
    until("none is left", || world.fake.living().is_empty()).await;
    assert!((5..6).contains(&began.elapsed().as_secs()));
    assert!(world.fake.instances()[0].drained.load(Ordering::SeqCst));
    until("nothing is counted", || {
        world.counts(&f) == Default::default()
    })
    .await;
    assert!(world.engine.active().is_empty());
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_no_idleness() {
    let (world, f) = World::of(|spec| spec.scale.idle = Duration::from_secs(1));
    let held = world.hold(&f, 1).await;
    tokio::time::advance(Duration::from_secs(20)).await;
    world.release();
    for call in held {
        assert_eq!(call.await.unwrap().unwrap(), "1");
    }
    assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn the_minimum_is_kept_and_restored() {
    let (world, f) = World::of(|spec| {
        spec.scale.min = 2;
        spec.scale.idle = Duration::from_secs(1);
    });
    until("two live", || world.counts(&f).idle == 2).await;
    let held = world.hold(&f, 4).await;
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    until("two are left", || world.fake.living().len() == 2).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(world.fake.living().len(), 2);
    world.fake.living()[0].crash();
    until("there are two again", || {
        world.fake.begun() == 5 && world.counts(&f).idle == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lower_maximum_is_reached_when_calls_end_even_under_load() {
    let (world, f) = World::of(|_| {});
    let _held = world.hold(&f, 4).await;
    let waiting: Vec<_> = (0..8).map(|_| world.begin(&f, "/who")).collect();
    until("eight wait", || world.counts(&f).queued == 8).await;
    world
        .engine
        .install(&key("f"), revision("r1", |s| s.scale.max = 1));
    assert_eq!(world.fake.living().len(), 4, "none is cut short");
    world.release();
    let mut answered = std::collections::HashSet::new();
    for call in waiting {
        answered.insert(call.await.unwrap().unwrap());
    }
    assert_eq!(answered.len(), 1, "one instance served all that waited");
    until("one is left", || world.fake.living().len() == 1).await;
    assert_eq!(world.fake.begun(), 4);
}

#[tokio::test(start_paused = true)]
async fn calls_are_packed_to_the_target_then_spread() {
    let (world, f) = World::of(|spec| {
        spec.scale.concurrency = 10;
        spec.scale.target_milli = 500;
        spec.scale.max = 2;
    });
    let spread = |expected: &[usize]| {
        let running: Vec<_> = world.fake.living().iter().map(|i| i.running()).collect();
        assert_eq!(running, expected);
    };
    let mut held = world.hold(&f, 5).await;
    spread(&[5]);
    assert_eq!(world.fake.begun(), 1, "at the target is not above it");
    // Above the target: another is started beside it, and the call does not wait for it.
    world.fake.shut();
    held.extend(world.hold(&f, 1).await);
    spread(&[6]);
    until("another starts", || world.fake.begun() == 2).await;
    world.fake.open();
    until("two live", || world.fake.living().len() == 2).await;
    held.extend(world.hold(&f, 5).await);
    spread(&[6, 5]);
    held.extend(world.hold(&f, 4).await);
    spread(&[8, 7]);
    held.extend(world.hold(&f, 5).await);
    spread(&[10, 10]);
    assert_eq!(world.fake.begun(), 2);
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    world.settled(&f).await;
}
