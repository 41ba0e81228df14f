//! How many instances, where a rate or the processor says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_core::{Limit, Metric, Outcome};
use tidegate_engine::Function;
use tokio::time::{Instant, sleep};

use crate::world::{World, failure, key, revision, until};

const SECOND: Duration = Duration::from_secs(1);

/// A function of many calls at once, with one instance at least and this metric.
fn by(metric: Metric, max: u32) -> impl FnOnce(&mut tidegate_core::FunctionSpec) {
    move |spec| {
        spec.scale.min = 1;
        spec.scale.max = max;
        spec.scale.concurrency = 100;
        spec.scale.idle = Duration::from_secs(30);
        spec.scale.metric = metric;
    }
}

fn per_second(target: u64) -> Metric {
    Metric::Rate {
        target_milli: target * 1000,
    }
}

/// Calls at a steady rate.
async fn call(world: &World, f: &std::sync::Arc<Function>, per_second: u32, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        world.get(f, "/who").await.unwrap();
        sleep(SECOND / per_second).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_grows_to_the_number_that_it_wants_and_shrinks_to_the_minimum_within_a_minute() {
    let (world, f) = World::of(by(per_second(5), 20));
    until("the minimum is there", || world.counts(&f).idle == 1).await;
    call(&world, &f, 10, 30 * SECOND).await;
    assert_eq!(world.fake.living().len(), 2, "ten a second for five each");
    call(&world, &f, 32, 30 * SECOND).await;
    assert_eq!(world.fake.living().len(), 7);
    assert_eq!(world.counts(&f).wanted, 7);
    let gone = Instant::now();
    sleep(29 * SECOND).await;
    assert_eq!(world.fake.living().len(), 7, "a lull costs nothing");
    until("the minimum is left", || world.fake.living().len() == 1).await;
    assert!(gone.elapsed() < 60 * SECOND, "{:?}", gone.elapsed());
    assert_eq!(world.counts(&f).wanted, 1);
    assert_eq!(world.fake.begun(), 7, "none was started in vain");
    world.settled(&f).await;
}

#[tokio::test(start_paused = true)]
async fn a_lower_rate_ends_some_of_those_that_it_is_spread_over() {
    let (world, f) = World::of(by(per_second(5), 20));
    call(&world, &f, 30, 20 * SECOND).await;
    let at_most = world.fake.living().len();
    assert_eq!(at_most, 6);
    call(&world, &f, 10, 60 * SECOND).await;
    assert_eq!(world.fake.living().len(), 2, "each had calls all the time");
}

#[tokio::test(start_paused = true)]
async fn a_surplus_with_calls_ends_after_them_and_gets_no_more() {
    let (world, f) = World::of(|spec| {
        by(per_second(5), 20)(spec);
        spec.limits.timeout = 600 * SECOND;
        spec.limits.first_byte = 600 * SECOND;
    });
    call(&world, &f, 30, 20 * SECOND).await;
    assert_eq!(world.fake.living().len(), 6);
    // Calls on all of them, for as long as it takes.
    let mut held = world.hold(&f, 60).await;
    assert!(world.fake.living().iter().all(|i| i.running() > 0));
    sleep(60 * SECOND).await;
    assert_eq!(world.fake.living().len(), 6, "none is cut short");
    assert_eq!(world.counts(&f).wanted, 1);
    let before: Vec<_> = world.fake.living().iter().map(|i| i.requests()).collect();
    held.extend(world.hold(&f, 10).await);
    let now = world.fake.living();
    let asked = now.iter().zip(&before).filter(|(i, n)| i.requests() > **n);
    assert_eq!(asked.count(), 1, "one takes calls");
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    until("one is left", || world.fake.living().len() == 1).await;
    world.settled(&f).await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_spread_over_all_that_are_ready() {
    let (world, f) = World::of(|spec| {
        by(per_second(1000), 4)(spec);
        spec.scale.min = 4;
    });
    until("four are ready", || world.counts(&f).idle == 4).await;
    // One after the other: each finds all of them idle.
    for _ in 0..400 {
        world.get(&f, "/who").await.unwrap();
    }
    for instance in world.fake.living() {
        let requests = instance.requests();
        assert!((50..150).contains(&requests), "{requests} of 400");
    }
    // At once: the less loaded of two keeps them level, and none is above what it may have.
    let held = world.hold(&f, 200).await;
    for instance in world.fake.living() {
        let running = instance.running();
        assert!((40..60).contains(&running), "{running} of 200");
    }
    let rest = world.hold(&f, 200).await;
    assert!(world.fake.living().iter().all(|i| i.running() == 100));
    world.release();
    for call in held.into_iter().chain(rest) {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_minimum_that_is_the_maximum_does_not_change() {
    let (world, f) = World::of(|spec| {
        by(per_second(1), 2)(spec);
        spec.scale.min = 2;
    });
    until("two are ready", || world.counts(&f).idle == 2).await;
    for _ in 0..2 {
        call(&world, &f, 50, 10 * SECOND).await;
        assert_eq!(world.fake.living().len(), 2);
    }
    sleep(120 * SECOND).await;
    assert_eq!(world.fake.living().len(), 2);
    assert_eq!(world.fake.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_place_starts_an_instance_whatever_the_rate_is() {
    let (world, f) = World::of(|spec| {
        by(per_second(1000), 3)(spec);
        spec.scale.concurrency = 1;
    });
    let held = world.hold(&f, 3).await;
    assert_eq!(world.fake.living().len(), 3);
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    until("one is left", || world.fake.living().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_processor_says_how_many() {
    let (world, f) = World::of(by(Metric::Cpu { target_milli: 450 }, 20));
    until("the minimum is there", || world.counts(&f).idle == 1).await;
    let first = world.fake.only();
    // It cost two seconds to start, which is no load.
    first.cpu_us.store(2_000_000, Ordering::SeqCst);
    sleep(15 * SECOND).await;
    assert_eq!(world.fake.begun(), 1);
    // A core of it.
    for _ in 0..200 {
        sleep(SECOND / 10).await;
        first.cpu_us.fetch_add(100_000, Ordering::SeqCst);
    }
    until("three share a core", || world.fake.living().len() == 3).await;
    let idle = Instant::now();
    sleep(29 * SECOND).await;
    assert_eq!(world.fake.living().len(), 3);
    until("the minimum is left", || world.fake.living().len() == 1).await;
    assert!(idle.elapsed() < 60 * SECOND);
    assert_eq!(world.fake.begun(), 3);
}

#[tokio::test(start_paused = true)]
async fn none_waits_where_none_may_but_for_one_that_starts() {
    let (world, f) = World::of(|spec| {
        by(per_second(1000), 2)(spec);
        spec.scale.concurrency = 2;
        spec.scale.waiting = Some(0);
        spec.scale.min = 0;
    });
    world.fake.shut();
    // Two instances may be started, for two calls each.
    let waiting: Vec<_> = (0..4).map(|_| world.begin(&f, "/hold")).collect();
    until("four wait", || world.counts(&f).queued == 4).await;
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Concurrency));
    world.fake.open();
    until("all are worked at", || world.running() == 4).await;
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Concurrency));
    assert_eq!(world.counts(&f).queued, 0);
    world.release();
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    world.get(&f, "/who").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_call_for_long_none_is_kept_and_the_next_call_is_held_not_failed() {
    let (world, f) = World::of(|spec| {
        by(per_second(5), 20)(spec);
        spec.scale.min = 2;
        spec.scale.zero = Some(Duration::from_secs(300));
    });
    until("the minimum is there", || world.counts(&f).idle == 2).await;
    sleep(200 * SECOND).await;
    world.get(&f, "/who").await.unwrap();
    let last = Instant::now();
    sleep(299 * SECOND).await;
    assert_eq!(world.fake.living().len(), 2, "the call began it anew");
    until("none is left", || world.fake.living().is_empty()).await;
    assert!((300..302).contains(&last.elapsed().as_secs()));
    assert_eq!(world.counts(&f).wanted, 0);
    until("nothing is looked at", || world.engine.active().is_empty()).await;
    world.fake.shut();
    let call = world.begin(&f, "/who");
    until("it is held", || world.counts(&f).queued == 1).await;
    assert_eq!(world.counts(&f).wanted, 2, "the minimum is back");
    world.fake.open();
    call.await.unwrap().unwrap();
    until("the minimum is there", || world.fake.living().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn another_metric_takes_over_at_once() {
    let (world, f) = World::of(by(per_second(1000), 20));
    call(&world, &f, 10, 20 * SECOND).await;
    assert_eq!(world.fake.living().len(), 1);
    world
        .engine
        .install(&key("f"), revision("r1", by(per_second(5), 20)));
    call(&world, &f, 10, 20 * SECOND).await;
    assert_eq!(world.fake.living().len(), 2);
    world.engine.install(
        &key("f"),
        revision("r1", by(Metric::Cpu { target_milli: 1 }, 20)),
    );
    world.engine.install(
        &key("f"),
        revision("r1", |spec| {
            by(Metric::Concurrency, 20)(spec);
            spec.scale.min = 0;
        }),
    );
    sleep(29 * SECOND).await;
    until("none is left", || world.fake.living().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_begins_with_the_load_that_it_takes_over() {
    let (world, f) = World::of(by(per_second(5), 20));
    call(&world, &f, 30, 20 * SECOND).await;
    assert_eq!(world.fake.living().len(), 6);
    let next = revision("r2", |spec| {
        by(per_second(5), 20)(spec);
        spec.scale.initial = 1;
    });
    world.engine.deploy(&key("f"), next).await.unwrap();
    until("the new ones take over", || {
        let living = world.fake.living();
        living.len() == 6 && living.iter().all(|i| i.revision == "r2")
    })
    .await;
    assert_eq!(world.counts(&f).wanted, 6);
    assert_eq!(world.fake.begun(), 12);
}
