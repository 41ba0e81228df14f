//! Revisions taking over from one another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_core::{Limit, Outcome};
use tidegate_engine::LogQuery;

use crate::world::{World, failure, key, revision, until};

#[tokio::test(start_paused = true)]
async fn a_revision_that_does_not_start_leaves_the_old_one_serving() {
    let world = World::new();
    let key = key("f");
    world
        .engine
        .deploy(&key, revision("r1", |s| s.scale.initial = 1))
        .await
        .unwrap();
    let f = world.engine.function(key.borrowed()).unwrap();
    world.fake.break_revision("r2");
    let error = world
        .engine
        .deploy(&key, revision("r2", |s| s.scale.initial = 2))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "broken");
    assert_eq!(world.get(&f, "/revision").await.unwrap(), "r1");
    assert_eq!(&*world.engine.current(&f).unwrap().id, "r1");
}

#[tokio::test(start_paused = true)]
async fn instances_of_a_revision_that_failed_in_part_end() {
    let world = World::new();
    world.fake.shut();
    world.fake.fail_next("flaky");
    let (engine, revision) = (
        world.engine.clone(),
        revision("r1", |s| s.scale.initial = 3),
    );
    let deploy = tokio::spawn(async move { engine.deploy(&key("f"), revision).await });
    until("three start", || world.fake.begun() == 3).await;
    world.fake.open();
    deploy.await.unwrap().unwrap_err();
    until("the others have ended", || world.fake.living().is_empty()).await;
    let f = world.engine.function(key("f").borrowed()).unwrap();
    let refused = failure(world.get(&f, "/who").await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Capacity));
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_takes_no_call_before_it_is_ready() {
    let world = World::new();
    let key = key("f");
    let initial = |s: &mut tidegate_core::FunctionSpec| s.scale.initial = 1;
    world
        .engine
        .deploy(&key, revision("r1", initial))
        .await
        .unwrap();
    let f = world.engine.function(key.borrowed()).unwrap();
    world.fake.shut();
    let engine = world.engine.clone();
    let (next, of) = (revision("r2", initial), key.clone());
    let deploy = tokio::spawn(async move { engine.deploy(&of, next).await });
    until("the new one is starting", || world.fake.begun() == 2).await;
    assert_eq!(world.get(&f, "/revision").await.unwrap(), "r1");
    world.fake.open();
    deploy.await.unwrap().unwrap();
    assert_eq!(world.get(&f, "/revision").await.unwrap(), "r2");
    until("the old one has ended", || world.fake.living().len() == 1).await;
    assert!(world.fake.instances()[0].drained.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_switch_loses_no_waiting_call_and_lets_calls_in_flight_finish() {
    let world = World::new();
    let f = world.install("f", revision("r1", |s| s.scale.max = 1));
    let held = world.hold(&f, 1).await;
    let waiting: Vec<_> = (0..10).map(|_| world.begin(&f, "/revision")).collect();
    until("ten wait", || world.counts(&f).queued == 10).await;
    world
        .engine
        .deploy(
            &key("f"),
            revision("r2", |s| {
                s.scale.max = 2;
                s.scale.initial = 1;
            }),
        )
        .await
        .unwrap();
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), "r2");
    }
    let old = &world.fake.instances()[0];
    assert!(!old.is_gone() && !old.drained.load(Ordering::SeqCst));
    old.release();
    assert_eq!(
        held.into_iter().next().unwrap().await.unwrap().unwrap(),
        "1"
    );
    until("the old one has ended", || old.is_gone()).await;
    assert!(old.drained.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn the_same_revision_again_restarts_nothing() {
    let world = World::new();
    let with_max = |max| revision("r1", move |s| s.scale.max = max);
    let f = world.install("f", with_max(1));
    world.get(&f, "/who").await.unwrap();
    world.engine.deploy(&key("f"), with_max(3)).await.unwrap();
    let _held = world.hold(&f, 3).await;
    assert_eq!(world.fake.begun(), 3);
    assert_eq!(world.fake.living().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_is_given_up_leaves_nothing_running() {
    let world = World::new();
    world.fake.shut();
    let key = key("f");
    let deploy = world
        .engine
        .deploy(&key, revision("r1", |s| s.scale.initial = 2));
    let gave_up = tokio::time::timeout(Duration::from_millis(1), deploy).await;
    assert!(gave_up.is_err());
    world.fake.open();
    until("what had been started has ended", || {
        world.fake.instances().len() == 2 && world.fake.living().is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_function_finishes_its_calls_and_takes_no_more() {
    let (world, f) = World::of(|_| {});
    let held = world.hold(&f, 1).await;
    let mut tail = f.log().tail(LogQuery::default(), Some(0));
    let follower = tokio::spawn(async move { tail.follow().await });
    world.engine.remove(key("f").borrowed());
    assert!(world.engine.function(key("f").borrowed()).is_none());
    assert!(follower.await.unwrap().is_empty());
    assert_eq!(
        failure(world.get(&f, "/who").await).outcome,
        Outcome::Limit(Limit::Capacity)
    );
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    until("its instance has ended", || world.fake.living().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn the_code_is_told_who_it_is() {
    let (world, f) = World::of(|spec| {
        spec.env.insert("COLOUR".to_owned(), "red".to_owned());
    });
    world.get(&f, "/who").await.unwrap();
    let env = &world.fake.only().env;
    for (name, value) in [
        ("COLOUR", "red"),
        ("TIDEGATE_FUNCTION", "f"),
        ("TIDEGATE_NAMESPACE", "default"),
        ("TIDEGATE_REVISION", "r1"),
    ] {
        assert!(
            env.contains(&(name.to_owned(), value.to_owned())),
            "{name} in {env:?}"
        );
    }
}
