//! Instances that end, and instances that cannot be reached.

use std::sync::atomic::Ordering;

use tidegate_contract::BodyFault;
use tidegate_core::{Limit, Outcome};
use tidegate_instance::Reason;

use crate::world::{World, arriving, ended, failure, get, post, read, until};
use tokio::io::AsyncWriteExt as _;

#[tokio::test(start_paused = true)]
async fn death_before_the_head_is_the_functions_failure() {
    let (world, f) = World::of(|_| {});
    let held = world.hold(&f, 1).await;
    world.fake.only().crash();
    let failure = failure(held.into_iter().next().unwrap().await.unwrap());
    assert_eq!(failure.outcome, Outcome::Function);
    assert!(failure.message.contains("exited with code 3"), "{failure}");
    world.settled(&f).await;
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
    let log = f.log().tail(Default::default(), None).read();
    assert!(log.iter().any(|l| l.text.contains("exited with code 3")));
}

#[tokio::test(start_paused = true)]
async fn death_at_a_limit_names_it_to_the_caller_and_in_the_log() {
    for (reason, limit, text) in [
        (Reason::Memory, Limit::Memory, "over its memory limit"),
        (Reason::Processes, Limit::Processes, "at its process limit"),
        (Reason::Disk, Limit::Disk, "over its disk limit"),
    ] {
        let (world, f) = World::of(|_| {});
        let held = world.hold(&f, 1).await;
        world.fake.only().exhaust(reason);
        let failure = failure(held.into_iter().next().unwrap().await.unwrap());
        assert_eq!(failure.outcome, Outcome::Limit(limit));
        assert_eq!(ended(&f, Outcome::Limit(limit)), 1);
        world.settled(&f).await;
        let log = f.log().tail(Default::default(), None).read();
        assert!(log.iter().any(|l| l.text.contains(text)), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn death_after_the_head_breaks_the_body_off() {
    for concurrency in [1, 10] {
        let (world, f) = World::of(|spec| spec.scale.concurrency = concurrency);
        let response = world.head(&f, get("/stream")).await.unwrap();
        let instance = world.fake.only();
        instance.send("half of ");
        let reading = tokio::spawn(read(response));
        instance.crash();
        assert_eq!(reading.await.unwrap(), Err(BodyFault::InstanceGone));
        assert_eq!(ended(&f, Outcome::Function), 1);
        world.settled(&f).await;
        assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
        // The books stay right after an instance that was given up has ended.
        until("it is gone", || world.counts(&f).draining == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_hangs_up_and_lives_on_is_not_used_again() {
    let (world, f) = World::of(|_| {});
    let failure = failure(world.get(&f, "/hangup").await);
    assert_eq!(failure.outcome, Outcome::Function);
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
    until("the books are right", || world.counts(&f).draining == 0).await;
    assert!(world.fake.instances()[0].is_killed());
}

#[tokio::test(start_paused = true)]
async fn one_call_that_is_hung_up_on_does_not_end_those_beside_it() {
    let (world, f) = World::of(|spec| spec.scale.concurrency = 10);
    let held = world.hold(&f, 3).await;
    failure(world.get(&f, "/hangup").await);
    assert!(!world.fake.only().is_gone());
    world.release();
    for call in held {
        assert_eq!(call.await.unwrap().unwrap(), "1");
    }
    world.settled(&f).await;
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_instance_costs_no_call() {
    let (world, f) = World::of(|_| {});
    for body in ["", "hello"] {
        world.get(&f, "/who").await.unwrap();
        let before = world.fake.only();
        before.unreachable.store(true, Ordering::SeqCst);
        // The connection that is kept is lost too.
        before.exit_connections().await;
        let answered = world.send(&f, post("/echo", body)).await.unwrap();
        assert_eq!(answered, body);
        assert_ne!(world.fake.only().number(), before.number());
    }
    world.settled(&f).await;
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_instance_costs_no_body_that_is_still_arriving() {
    let (world, f) = World::of(|_| {});
    world.get(&f, "/who").await.unwrap();
    let before = world.fake.only();
    before.unreachable.store(true, Ordering::SeqCst);
    before.exit_connections().await;
    let (request, mut caller) =
        arriving("POST /echo HTTP/1.1\r\nhost: f\r\ncontent-length: 10\r\n\r\nhello").await;
    let (answered, ()) = tokio::join!(world.send(&f, request), async {
        until("another has it", || world.running() == 1).await;
        caller.write_all(b"world").await.unwrap();
    });
    assert_eq!(answered.unwrap(), "helloworld");
}

#[tokio::test(start_paused = true)]
async fn what_is_retried_is_told_of_once() {
    let (world, f) = World::of(|_| {});
    world.get(&f, "/who").await.unwrap();
    let before = world.fake.only();
    before.unreachable.store(true, Ordering::SeqCst);
    before.exit_connections().await;
    let mut request = get("/header/x-forwarded-for");
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
    let mut context = crate::world::context();
    context.caller = Some(tidegate_contract::Caller {
        address: "10.0.0.2".parse().unwrap(),
        peer: "10.0.0.2:4567".parse().unwrap(),
        scheme: "http",
    });
    let response = world.engine.call(&f, request, context).await.unwrap();
    assert_eq!(read(response).await.unwrap(), "10.0.0.1, 10.0.0.2");
}

#[tokio::test(start_paused = true)]
async fn a_function_none_of_whose_instances_can_be_reached_is_tried_twice_only() {
    let (world, f) = World::of(|spec| spec.scale.min = 3);
    until("three live", || world.counts(&f).idle == 3).await;
    for instance in world.fake.living() {
        instance.unreachable.store(true, Ordering::SeqCst);
    }
    let failure = failure(world.get(&f, "/who").await);
    assert_eq!(failure.outcome, Outcome::Function);
    let killed = world.fake.instances();
    assert_eq!(killed.iter().filter(|i| i.is_killed()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_takes_no_new_connections_finishes_the_calls_it_has() {
    let (world, f) = World::of(|spec| spec.scale.concurrency = 10);
    let held = world.hold(&f, 3).await;
    let first = world.fake.only();
    first.unreachable.store(true, Ordering::SeqCst);
    assert_eq!(world.get(&f, "/who").await.unwrap(), "2");
    assert!(!first.is_gone());
    first.release();
    for call in held {
        assert_eq!(call.await.unwrap().unwrap(), "1");
    }
    until("it has ended", || first.is_gone()).await;
    world.settled(&f).await;
    assert_eq!(world.counts(&f).idle, 1);
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_was_closed_costs_nothing() {
    let (world, f) = World::of(|_| {});
    for _ in 0..5 {
        assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
        world.fake.only().exit_connections().await;
    }
}
