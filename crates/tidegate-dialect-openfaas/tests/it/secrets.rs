//! Secrets: the statuses that clients go by, and values that come through byte by byte.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn secrets_are_made_changed_listed_and_removed() {
    let mut world = World::new().await;
    let path = "/system/secrets";
    world.say("GET", path, ()).await;
    world
        .say("PUT", path, json!({ "name": "s1", "value": "x" }))
        .await;
    world
        .say(
            "POST",
            path,
            json!({ "name": "s1", "namespace": "openfaas-fn", "value": "x" }),
        )
        .await;
    world
        .say("POST", path, json!({ "name": "s1", "value": "y" }))
        .await;
    world
        .say("PUT", path, json!({ "name": "s1", "value": "z" }))
        .await;
    world
        .say(
            "POST",
            path,
            json!({ "name": "tls.crt", "rawValue": "AP8K", "value": "ignored" }),
        )
        .await;
    world.say("GET", path, ()).await;
    world
        .say(
            "DELETE",
            path,
            json!({ "name": "s1", "namespace": "openfaas-fn" }),
        )
        .await;
    world.say("DELETE", path, json!({ "name": "s1" })).await;
    world
        .say("GET", "/system/secrets?namespace=openfaas-fn", ())
        .await;
    world.transcript("secrets");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let mut world = World::new().await;
    let path = "/system/secrets";
    for body in [
        json!({}),
        json!({ "name": "", "value": "x" }),
        json!({ "name": "Not_One", "value": "x" }),
        json!({ "name": "a", "rawValue": "not base64!" }),
        json!({ "name": "a", "value": 1 }),
        json!({ "name": "a", "namespace": "nowhere", "value": "x" }),
    ] {
        world.say("POST", path, body).await;
    }
    world.say("POST", path, "nonsense").await;
    world
        .say("GET", "/system/secrets?namespace=nowhere", ())
        .await;
    let large = json!({ "name": "a", "value": "x".repeat(70_000) }).to_string();
    assert_eq!(world.send("POST", path, large.into()).await.status(), 400);
    world.say("GET", path, ()).await;
    world.transcript("secrets-refused");
}

#[tokio::test]
async fn a_namespace_has_secrets_of_its_own() {
    let mut world = World::new().await;
    let dev = json!({ "name": "dev", "labels": { "openfaas": "1" } });
    world.say("POST", "/system/namespace/", dev).await;
    world
        .say(
            "POST",
            "/system/secrets",
            json!({ "name": "s", "namespace": "dev", "value": "x" }),
        )
        .await;
    world
        .say(
            "POST",
            "/system/secrets?namespace=dev",
            json!({ "name": "t", "value": "x" }),
        )
        .await;
    // The body wins.
    world
        .say(
            "POST",
            "/system/secrets?namespace=nowhere",
            json!({ "name": "u", "namespace": "dev", "value": "x" }),
        )
        .await;
    world.say("GET", "/system/secrets?namespace=dev", ()).await;
    world.say("GET", "/system/secrets", ()).await;
    world
        .say(
            "DELETE",
            "/system/secrets?namespace=dev",
            json!({ "name": "s" }),
        )
        .await;
    world
        .say("DELETE", "/system/secrets", json!({ "name": "t" }))
        .await;
    world.transcript("secrets-namespace");
}

#[tokio::test]
async fn one_that_is_used_is_removed_all_the_same() {
    let mut world = World::new().await;
    world
        .say(
            "POST",
            "/system/secrets",
            json!({ "name": "s", "value": "x" }),
        )
        .await;
    let deployed = json!({ "service": "hello", "image": "hello", "secrets": ["s", "s"] });
    world
        .say("POST", "/system/functions", deployed.clone())
        .await;
    world.settled("default", "hello").await;
    world
        .say("DELETE", "/system/secrets", json!({ "name": "s" }))
        .await;
    world.say("PUT", "/system/functions", deployed).await;
    world.transcript("secrets-used");
}

#[tokio::test]
async fn a_value_comes_through_byte_by_byte() {
    let mut world = World::new().await;
    let path = "/system/secrets";
    // As clients send a file: both, and the bytes win.
    let file = json!({ "name": "file", "value": "trimmed", "rawValue": "IGEKAA==" });
    world.say("POST", path, file).await;
    world
        .say("POST", path, json!({ "name": "text", "value": " b\n" }))
        .await;
    world
        .say("POST", path, json!({ "name": "empty", "value": "" }))
        .await;
    let sizes = world.platform.secrets("default").await.unwrap();
    let sizes: Vec<_> = sizes.iter().map(|s| (&*s.name, s.size)).collect();
    assert_eq!(sizes, [("empty", 0), ("file", 4), ("text", 3)]);
    world
        .deploy_native_with("default", "f", json!([{ "name": "text", "env": "TEXT" }]))
        .await;
    let env = world.fake.only().env.clone();
    assert!(env.contains(&("TEXT".to_owned(), " b\n".to_owned())));
}
