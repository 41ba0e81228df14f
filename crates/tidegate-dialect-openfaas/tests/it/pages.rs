//! What is not about functions: information, the page for people, and what is not there.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn the_server_says_what_it_is() {
    let mut world = World::new().await;
    world.say("GET", "/system/info", ()).await;
    world.transcript("info");
}

#[tokio::test]
async fn what_is_not_there_has_no_page_and_a_wrong_method_no_body() {
    let mut world = World::new().await;
    for (method, path) in [
        ("GET", "/system"),
        ("GET", "/system/telemetry"),
        ("GET", "/system/functions/"),
        ("GET", "/nothing"),
        ("PATCH", "/system/functions"),
        ("DELETE", "/system/function/f"),
        ("GET", "/system/scale-function/f"),
        ("PATCH", "/system/secrets"),
        ("POST", "/system/namespaces"),
        ("PATCH", "/system/namespace/dev"),
        ("POST", "/system/logs"),
        ("POST", "/system/info"),
        ("GET", "/system/alert"),
        ("POST", "/ui/"),
    ] {
        world.say(method, path, ()).await;
    }
    world.transcript("no-page");
}

#[tokio::test]
async fn people_get_a_page() {
    let mut world = World::new().await;
    world.say("GET", "/", ()).await;
    world.say("GET", "/ui", ()).await;
    world.say("GET", "/ui/", ()).await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "dev", "labels": { "openfaas": "1" } }),
        )
        .await;
    world.say("POST", "/system/functions", json!({ "service": "hello", "image": "hello", "namespace": "dev", "labels": { "com.openfaas.scale.min": "2" } })).await;
    world.settled("dev", "hello").await;
    world.say("GET", "/ui/?namespace=dev", ()).await;
    world.say("GET", "/ui/?namespace=nowhere", ()).await;
    world.transcript("ui");
}
