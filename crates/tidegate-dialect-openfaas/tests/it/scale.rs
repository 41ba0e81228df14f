//! Replicas by hand.

use serde_json::json;

use crate::world::{World, until};

#[tokio::test]
async fn replicas_are_set_by_hand_zero_included() {
    let mut world = World::new().await;
    let deployed = json!({ "service": "hello", "image": "hello:latest" });
    world
        .say("POST", "/system/functions", deployed.clone())
        .await;
    let status = world.settled("default", "hello").await;
    assert_eq!(status.message, "");
    for replicas in [3, 0, 1] {
        let body = json!({ "serviceName": "hello", "replicas": replicas });
        world
            .say("POST", "/system/scale-function/hello", body)
            .await;
        until("they are as many as were asked for", async || {
            let status = world.describe("hello").await;
            status["replicas"] == replicas && status["availableReplicas"] == replicas
        })
        .await;
    }
    // What the path says counts, and the namespace in whichever way.
    let body = json!({ "serviceName": "other", "replicas": 2, "namespace": "openfaas-fn" });
    world
        .say("POST", "/system/scale-function/hello", body)
        .await;
    let body = json!({ "serviceName": "hello", "replicas": 2 });
    world
        .say("POST", "/system/scale-function/hello.openfaas-fn", body)
        .await;
    // The labels count again after an update.
    world.say("PUT", "/system/functions", deployed).await;
    until("it has what its labels say", async || {
        world.describe("hello").await["replicas"] == 1
    })
    .await;
    world.transcript("scale");
}

#[tokio::test]
async fn replicas_that_cannot_be_are_refused() {
    let mut world = World::new().await;
    let deployed = json!({ "service": "hello", "image": "hello:latest" });
    world.say("POST", "/system/functions", deployed).await;
    let path = "/system/scale-function/hello";
    for body in [
        "",
        "nonsense",
        "{}",
        r#"{"replicas":-1}"#,
        r#"{"replicas":"2"}"#,
        r#"{"replicas":1.5}"#,
    ] {
        assert_eq!(world.say("POST", path, body).await, 400);
    }
    world
        .say("POST", path, json!({ "replicas": 100_000 }))
        .await;
    world
        .say(
            "POST",
            "/system/scale-function/absent",
            json!({ "replicas": 1 }),
        )
        .await;
    world
        .say(
            "POST",
            path,
            json!({ "replicas": 1, "namespace": "nowhere" }),
        )
        .await;
    world.transcript("scale-refused");
}
