//! Limits of calls, and what an answer carries.

use std::time::Duration;

use tidegate_contract::BodyFault;
use tidegate_core::{Limit, Outcome};
use tokio::io::AsyncWriteExt as _;

use crate::world::{World, arriving, ended, failure, get, post, read, until};

#[tokio::test(start_paused = true)]
async fn an_answer_carries_the_request_id_and_the_times() {
    let (world, f) = World::of(|_| {});
    let context = crate::world::context();
    let id = context.id.to_string();
    let response = world.engine.call(&f, get("/who"), context).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], id);
    let timing = response.headers()["server-timing"].to_str().unwrap();
    assert!(timing.starts_with("queue;desc=cold;dur="), "{timing}");
    read(response).await.unwrap();
    let response = world.head(&f, get("/who")).await.unwrap();
    let timing = response.headers()["server-timing"].to_str().unwrap();
    assert!(timing.starts_with("queue;dur="), "{timing}");
    read(response).await.unwrap();
    world.settled(&f).await;
    assert_eq!(ended(&f, Outcome::Ok), 2);
    assert_eq!(f.metrics().total(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_declares_too_much_is_refused_before_any_of_it_is_read() {
    let (world, f) = World::of(|spec| spec.limits.body = 4);
    let refused = failure(world.send(&f, post("/echo", "hello")).await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Body));
    assert!(refused.message.contains("4 bytes"), "{refused}");
    assert_eq!(world.send(&f, post("/echo", "four")).await.unwrap(), "four");
    assert_eq!(world.fake.only().requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_grows_too_large_is_cut() {
    let (world, f) = World::of(|spec| spec.limits.body = 8);
    let (request, mut caller) = arriving(
        "POST /echo HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    )
    .await;
    caller.write_all(b"5\r\nworld\r\n0\r\n\r\n").await.unwrap();
    let refused = failure(world.send(&f, request).await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Body));
    world.settled(&f).await;
    assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_cut() {
    let (world, f) = World::of(|spec| spec.limits.stream_idle = Duration::from_secs(2));
    let began = tokio::time::Instant::now();
    let (request, _caller) =
        arriving("POST /echo HTTP/1.1\r\nhost: f\r\ncontent-length: 10\r\n\r\nhello").await;
    let refused = failure(world.send(&f, request).await);
    assert_eq!(refused.outcome, Outcome::Limit(Limit::Idle));
    assert_eq!(began.elapsed().as_secs(), 2);
    world.settled(&f).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_in_the_middle_of_its_body_is_no_failure_of_the_function() {
    let (world, f) = World::of(|_| {});
    let (request, caller) =
        arriving("POST /echo HTTP/1.1\r\nhost: f\r\ncontent-length: 10\r\n\r\nhello").await;
    let (answered, ()) = tokio::join!(world.send(&f, request), async {
        until("the code has it", || world.running() == 1).await;
        drop(caller);
    });
    assert_eq!(failure(answered).outcome, Outcome::Cancelled);
    world.settled(&f).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_in_time_is_cancelled() {
    for (first_byte, limit, seconds) in [(60, Limit::Timeout, 5), (3, Limit::FirstByte, 3)] {
        let (world, f) = World::of(|spec| {
            spec.limits.timeout = Duration::from_secs(5);
            spec.limits.first_byte = Duration::from_secs(first_byte);
        });
        let began = tokio::time::Instant::now();
        let cut = failure(world.get(&f, "/hold").await);
        assert_eq!(cut.outcome, Outcome::Limit(limit));
        assert_eq!(began.elapsed().as_secs(), seconds);
        world.settled(&f).await;
        assert_eq!(world.fake.only().cancelled.lock().len(), 1);
        assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_end_in_time_is_broken_off() {
    for concurrency in [1, 10] {
        let (world, f) = World::of(|spec| {
            spec.scale.concurrency = concurrency;
            spec.limits.timeout = Duration::from_secs(5);
        });
        let response = world.head(&f, get("/stream")).await.unwrap();
        world.fake.only().send("half");
        assert_eq!(read(response).await, Err(BodyFault::Deadline));
        assert_eq!(ended(&f, Outcome::Limit(Limit::Timeout)), 1);
        world.settled(&f).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_coming_is_broken_off() {
    for concurrency in [1, 10] {
        let (world, f) = World::of(|spec| {
            spec.scale.concurrency = concurrency;
            spec.limits.stream_idle = Duration::from_secs(2);
        });
        let response = world.head(&f, get("/stream")).await.unwrap();
        world.fake.only().send("half");
        let idle = BodyFault::Idle(Duration::from_secs(2));
        assert_eq!(read(response).await, Err(idle));
        assert_eq!(ended(&f, Outcome::Limit(Limit::Idle)), 1);
        world.settled(&f).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_does_not_keep_the_next_call_behind_a_slow_upload() {
    let (world, f) = World::of(|_| {});
    let (request, _caller) =
        arriving("POST /early HTTP/1.1\r\nhost: f\r\ncontent-length: 10\r\n\r\nhello").await;
    assert_eq!(world.send(&f, request).await.unwrap(), "early");
    let began = tokio::time::Instant::now();
    assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
    assert_eq!(began.elapsed(), Duration::ZERO);
}
