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
    assert_eq!(world.stored("hello").await["replicas"], 2);
    // The labels count again after an update. What is too many goes when it has been for a while.
    world.say("PUT", "/system/functions", deployed).await;
    assert_eq!(world.stored("hello").await.get("replicas"), None);
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

#[tokio::test]
async fn alerts_add_and_take_back() {
    let mut world = World::new().await;
    // A tenth of the maximum an alert, which is one.
    let deployed = json!({
        "service": "hello", "image": "hello:latest",
        "labels": { "com.openfaas.scale.max": "3" },
    });
    world.say("POST", "/system/functions", deployed).await;
    world.settled("default", "hello").await;
    let alert = |status: &str| {
        json!({
            "receiver": "scale-up", "status": status,
            "alerts": [{
                "status": status,
                "labels": { "alertname": "APIHighInvocationRate", "function_name": "hello.openfaas-fn" },
            }],
        })
    };
    for replicas in [2, 3, 3] {
        let said = world.say("POST", "/system/alert", alert("firing")).await;
        assert_eq!(said, 200);
        until("they are as many as the alert wants", async || {
            let status = world.describe("hello").await;
            status["replicas"] == replicas && status["availableReplicas"] == replicas
        })
        .await;
    }
    // The labels count again: what is too many goes when it has been for a while.
    for _ in 0..2 {
        let said = world.say("POST", "/system/alert", alert("resolved")).await;
        assert_eq!(said, 200);
        assert!(world.stored("hello").await["replicas"].is_null());
    }
    world.transcript("alert");
}

#[tokio::test]
async fn alerts_that_cannot_be_acted_upon_say_why() {
    let mut world = World::new().await;
    world.deploy_native("default", "theirs").await;
    let path = "/system/alert";
    world.say("POST", path, "nonsense").await;
    world.say("POST", path, ()).await;
    world.say("POST", path, json!({ "alerts": "none" })).await;
    world.say("POST", path, json!({ "alerts": [] })).await;
    let about =
        |name: &str, status: &str| json!({ "status": status, "labels": { "function_name": name } });
    let alerts = [
        about("absent.openfaas-fn", "firing"),
        about("theirs.openfaas-fn", "firing"),
        about("theirs", "burning"),
        json!({ "status": "firing" }),
    ];
    world.say("POST", path, json!({ "alerts": alerts })).await;
    world.transcript("alert-refused");
}
