//! Logs.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;

use crate::world::World;

async fn world() -> World {
    let world = World::new().await;
    world.deploy_native("default", "f").await;
    // The deploy itself may have had something to say.
    let lines: Vec<_> = (1..=4).map(|n| format!("line {n}")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    world.write("default", "f", 7, &lines[..2]);
    world.write("default", "f", 8, &lines[2..]);
    world
}

#[tokio::test]
async fn lines_come_as_messages() {
    let mut world = world().await;
    for query in [
        "name=f",
        "name=f.openfaas-fn&tail=-1&follow=false",
        "name=f&namespace=openfaas-fn&tail=1",
        "name=f&instance=i7&tail=1",
        "name=f&instance=nobody",
        "name=f&since=2999-01-01T00:00:00Z",
        "name=absent&name=f&tail=1&tail=2",
    ] {
        world.say("GET", &format!("/system/logs?{query}"), ()).await;
    }
    world.transcript("logs");
}

#[tokio::test]
async fn what_cannot_be_answered_says_so() {
    let mut world = world().await;
    for query in [
        "name=f&tail=x",
        "name=f&since=yesterday",
        "name=f&follow=maybe",
        "",
        "name=absent",
        "name=f&namespace=nowhere",
        "name=Not%20One",
    ] {
        world.say("GET", &format!("/system/logs?{query}"), ()).await;
    }
    world.transcript("logs-refused");
}

#[tokio::test]
async fn a_follower_gets_lines_as_they_come_until_the_function_is_gone() {
    let world = world().await;
    let response = world
        .send(
            "GET",
            "/system/logs?name=f&tail=1&follow=true",
            Body::empty(),
        )
        .await;
    let mut body = response.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await;
        let frame = frame.expect("a frame in time")?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().into()).unwrap())
    };
    assert!(next().await.unwrap().contains("line 4"));
    world.write("default", "f", 7, &["another"]);
    assert!(next().await.unwrap().contains("another"));
    let key = tidegate_platform::ObjectKey::new("tests/v1", "Plain", "default", "f").unwrap();
    world
        .platform
        .delete(&key, Default::default())
        .await
        .unwrap();
    assert_eq!(next().await, None);
}
