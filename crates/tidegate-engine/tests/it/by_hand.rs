//! Numbers of instances that somebody asks for.

use std::time::Duration;

use tidegate_core::{ByHand, FunctionSpec, Metric};
use tokio::time::{Instant, sleep};

use crate::world::{World, key, revision, until};

/// One at least, ten at most, and what was asked for.
fn asked(instances: u32, turn: u64) -> impl FnOnce(&mut FunctionSpec) {
    move |spec| {
        spec.scale.min = 1;
        spec.scale.max = 10;
        spec.scale.idle = Duration::from_secs(30);
        spec.scale.by_hand = Some(ByHand { instances, turn });
    }
}

fn ask(world: &World, instances: u32, turn: u64) {
    world
        .engine
        .install(&key("f"), revision("r1", asked(instances, turn)));
}

#[tokio::test(start_paused = true)]
async fn as_many_as_are_asked_for_are_there_and_stay() {
    let (world, f) = World::of(asked(5, 1));
    until("five are there", || world.fake.living().len() == 5).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.fake.living().len(), 5);
    ask(&world, 2, 2);
    assert_eq!(world.counts(&f).wanted, 2);
    let began = Instant::now();
    until("two are left", || world.fake.living().len() == 2).await;
    assert!(began.elapsed() < Duration::from_secs(1), "at once");
    // A load takes what it needs, and gives it back.
    let held = world.hold(&f, 4).await;
    assert_eq!(world.fake.living().len(), 4);
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    until("two are left", || world.fake.living().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn none_is_there_after_they_were_asked_to_go_until_a_call() {
    let (world, f) = World::of(asked(3, 1));
    until("three are there", || world.fake.living().len() == 3).await;
    for turn in 2..5 {
        ask(&world, 0, turn);
        assert_eq!(world.counts(&f).wanted, 0);
        until("none is left", || world.fake.living().is_empty()).await;
        until("nothing is looked at", || world.engine.active().is_empty()).await;
        // Told the same once more, as after a change of something else.
        ask(&world, 0, turn);
        assert_eq!(world.counts(&f), Default::default());
        world.get(&f, "/who").await.unwrap();
        assert_eq!(world.counts(&f).wanted, 1, "its minimum again");
        ask(&world, 0, turn);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(world.fake.living().len(), 1, "one that was woken stays");
    }
}

#[tokio::test(start_paused = true)]
async fn one_asked_to_go_finishes_its_calls_and_the_next_call_finds_another() {
    let (world, f) = World::of(asked(1, 1));
    let held = world.hold(&f, 1).await;
    let first = world.fake.only();
    ask(&world, 0, 2);
    assert_eq!(world.counts(&f).wanted, 0);
    assert!(!first.is_gone(), "none is cut short");
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
    assert_eq!(world.counts(&f).wanted, 1);
    world.release();
    for call in held {
        assert_eq!(call.await.unwrap().unwrap(), "1");
    }
    until("the first is gone", || first.is_gone()).await;
    assert_eq!(world.fake.only().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_when_none_is_asked_for_are_served() {
    let (world, f) = World::of(|spec| {
        asked(1, 1)(spec);
        spec.scale.max = 1;
    });
    let held = world.hold(&f, 1).await;
    let waiting: Vec<_> = (0..3).map(|_| world.begin(&f, "/who")).collect();
    until("three wait", || world.counts(&f).queued == 3).await;
    world.engine.install(
        &key("f"),
        revision("r1", |spec| {
            asked(0, 2)(spec);
            spec.scale.max = 1;
        }),
    );
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), "2");
    }
    world.release();
    for call in held {
        assert_eq!(call.await.unwrap().unwrap(), "1");
    }
    until("one is left", || world.fake.living().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_was_asked_to_sleep_sleeps_when_the_server_comes_back() {
    let (world, f) = World::of(asked(0, 7));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.fake.begun(), 0);
    assert_eq!(world.counts(&f).wanted, 0);
    assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_and_is_taken_back_leaves_it_to_the_scale() {
    let (world, _f) = World::of(|spec| {
        asked(6, 1)(spec);
        spec.scale.metric = Metric::Rate { target_milli: 1000 };
    });
    until("six are there", || world.fake.living().len() == 6).await;
    world.engine.install(
        &key("f"),
        revision("r1", |spec| {
            asked(6, 1)(spec);
            spec.scale.by_hand = None;
            spec.scale.metric = Metric::Rate { target_milli: 1000 };
        }),
    );
    let began = Instant::now();
    until("the minimum is left", || world.fake.living().len() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}
