//! Callers that are slower than the code.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Version;
use http_body_util::BodyExt as _;
use tidegate_contract::BodyFault;
use tidegate_core::{Limit, Outcome};

use crate::world::{World, ended, get, read, until};

const KIB: usize = 1024;

#[tokio::test(start_paused = true)]
async fn a_slow_caller_does_not_keep_an_instance_that_has_said_all() {
    for path in ["/long/250000", "/long/1000"] {
        let (world, f) = World::of(|spec| spec.scale.max = 1);
        let response = world.head(&f, get(path)).await.unwrap();
        // Nothing of it is read, and the instance is free.
        assert_eq!(world.get(&f, "/who").await.unwrap(), "1", "{path}");
        let length: usize = path.rsplit('/').next().unwrap().parse().unwrap();
        assert_eq!(read(response).await.unwrap().len(), length);
        world.settled(&f).await;
        assert_eq!(ended(&f, Outcome::Ok), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn over_http2_a_small_answer_does_not_keep_the_instance_either() {
    let (world, f) = World::of(|spec| spec.scale.max = 1);
    let mut request = get("/big/100000");
    *request.version_mut() = Version::HTTP_2;
    let response = world.head(&f, request).await.unwrap();
    assert_eq!(world.get(&f, "/who").await.unwrap(), "1");
    assert_eq!(read(response).await.unwrap().len(), 100_000);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_ahead_of_a_caller_is_bounded() {
    for concurrency in [1, 10] {
        let (world, f) = World::of(|spec| {
            spec.scale.concurrency = concurrency;
            spec.limits.stream_idle = Duration::from_secs(20);
        });
        let length = 64 << 20;
        let response = world
            .head(&f, get(&format!("/big/{length}")))
            .await
            .unwrap();
        let instance = world.fake.only();
        let mut before = 0;
        // Until the instance gets rid of no more.
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let written = instance.written.load(Ordering::SeqCst);
            if written == before {
                break;
            }
            before = written;
        }
        assert!(
            before < 2048 * KIB,
            "{before} bytes left the code at concurrency {concurrency}"
        );
        assert_eq!(read(response).await.unwrap().len(), length);
        world.settled(&f).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_stops_reading_loses_the_answer_and_frees_the_slot() {
    for concurrency in [1, 10] {
        let (world, f) = World::of(|spec| {
            spec.scale.concurrency = concurrency;
            spec.limits.stream_idle = Duration::from_secs(2);
        });
        let mut response = world.head(&f, get("/big/8000000")).await.unwrap();
        assert!(response.body_mut().frame().await.unwrap().is_ok());
        let began = tokio::time::Instant::now();
        world.settled(&f).await;
        assert!((2..4).contains(&began.elapsed().as_secs()));
        assert_eq!(ended(&f, Outcome::Limit(Limit::Idle)), 1);
        let idle = BodyFault::Idle(Duration::from_secs(2));
        assert_eq!(read(response).await, Err(idle));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_reads_a_little_at_a_time_does_not_outlive_the_deadline() {
    for concurrency in [1, 10] {
        let (world, f) = World::of(|spec| {
            spec.scale.concurrency = concurrency;
            spec.limits.timeout = Duration::from_secs(5);
        });
        let mut response = world.head(&f, get("/big/64000000")).await.unwrap();
        let began = tokio::time::Instant::now();
        let fault = loop {
            match response.body_mut().frame().await.unwrap() {
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(fault) => break fault,
            }
            assert!(began.elapsed() < Duration::from_secs(100));
        };
        assert_eq!(fault, BodyFault::Deadline);
        world.settled(&f).await;
        assert_eq!(ended(&f, Outcome::Limit(Limit::Timeout)), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_come_as_they_are_sent() {
    for concurrency in [1, 10] {
        let (world, f) = World::of(|spec| spec.scale.concurrency = concurrency);
        let mut response = world.head(&f, get("/stream")).await.unwrap();
        let instance = world.fake.only();
        for text in ["one", "two", "three"] {
            instance.send(text);
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text);
        }
        instance.end_streams();
        assert!(response.body_mut().frame().await.is_none());
        until("the slot is free", || world.counts(&f).busy == 0).await;
    }
}
