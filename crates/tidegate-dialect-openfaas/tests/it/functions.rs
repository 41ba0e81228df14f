//! Reading and removing functions, whichever dialect's they are.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::world::{World, until};

#[tokio::test]
async fn a_function_is_removed_by_any_of_its_names() {
    let mut world = World::new().await;
    let dev = json!({ "name": "dev", "labels": { "openfaas": "1" } });
    world.say("POST", "/system/namespace/", dev).await;
    for (path, body) in [
        (
            "/system/functions",
            json!({ "functionName": "f", "namespace": "dev" }),
        ),
        (
            "/system/functions?namespace=dev",
            json!({ "functionName": "f" }),
        ),
        ("/system/functions", json!({ "functionName": "f.dev" })),
        // The body wins.
        (
            "/system/functions?namespace=openfaas-fn",
            json!({ "functionName": "f", "namespace": "dev" }),
        ),
    ] {
        let deployed = json!({ "service": "f", "image": "hello", "namespace": "dev" });
        world.say("POST", "/system/functions", deployed).await;
        assert_eq!(world.say("DELETE", path, body).await, 202);
    }
    assert!(world.function("dev", "f").is_none());
    world.transcript("remove");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let mut world = World::new().await;
    world.say("GET", "/system/function/absent", ()).await;
    world
        .say("GET", "/system/function/absent?namespace=nowhere", ())
        .await;
    world
        .say("GET", "/system/function/not%20a%20name", ())
        .await;
    world
        .say(
            "DELETE",
            "/system/functions",
            json!({ "functionName": "absent" }),
        )
        .await;
    world
        .say("DELETE", "/system/functions", json!({ "functionName": "" }))
        .await;
    world.say("DELETE", "/system/functions", json!({})).await;
    world.say("DELETE", "/system/functions", "nonsense").await;
    world.say("DELETE", "/system/functions", ()).await;
    world.transcript("not-found");
}

#[tokio::test]
async fn a_function_of_another_dialect_is_seen_and_left_alone() {
    let mut world = World::new().await;
    world.deploy_native("default", "theirs").await;
    until("it has an instance", async || {
        world.describe("theirs").await["availableReplicas"] == 1
    })
    .await;
    world.say("GET", "/system/function/theirs", ()).await;
    world.say("GET", "/system/functions", ()).await;
    let deployment = json!({ "service": "theirs", "image": "hello:latest" });
    world
        .say("PUT", "/system/functions", deployment.clone())
        .await;
    world.say("POST", "/system/functions", deployment).await;
    world
        .say(
            "POST",
            "/system/scale-function/theirs",
            json!({ "serviceName": "theirs", "replicas": 2 }),
        )
        .await;
    world
        .say(
            "DELETE",
            "/system/functions",
            json!({ "functionName": "theirs" }),
        )
        .await;
    assert!(world.function("default", "theirs").is_some());
    world.transcript("foreign");
}

#[tokio::test]
async fn use_is_told_where_it_is_asked_for_and_measured() {
    let world = World::new().await;
    world.deploy_native("default", "theirs").await;
    let asked = async |query: &str| {
        let path = format!("theirs?{query}");
        world.describe(&path).await.get("usage").cloned()
    };
    assert_eq!(asked("usage=1").await, None);
    world.fake.only().cpu_us.store(5000, Ordering::SeqCst);
    let used = json!({ "cpu": 0.0, "totalMemoryBytes": 0.0 });
    for (query, told) in [
        ("usage=1", Some(&used)),
        ("usage=true", Some(&used)),
        ("usage=0", None),
        ("", None),
    ] {
        assert_eq!(asked(query).await.as_ref(), told, "{query}");
    }
}
