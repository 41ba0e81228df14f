//! Namespaces.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn namespaces_are_made_described_changed_and_removed() {
    let mut world = World::new().await;
    let mark = json!({ "openfaas": "1" });
    world.say("GET", "/system/namespaces", ()).await;
    world.say("GET", "/system/namespace/openfaas-fn", ()).await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "dev", "annotations": mark, "labels": mark }),
        )
        .await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "dev", "labels": mark }),
        )
        .await;
    world
        .say(
            "POST",
            "/system/namespace/prod",
            json!({ "name": "prod", "labels": mark }),
        )
        .await;
    world.say("GET", "/system/namespaces", ()).await;
    world.say("GET", "/system/namespace/dev", ()).await;
    world
        .say(
            "PUT",
            "/system/namespace/dev",
            json!({ "name": "dev", "labels": { "openfaas": "1", "team": "a" } }),
        )
        .await;
    world.say("GET", "/system/namespace/dev", ()).await;
    world
        .say(
            "DELETE",
            "/system/namespace/dev",
            json!({ "name": "dev", "labels": mark }),
        )
        .await;
    world.say("GET", "/system/namespace/dev", ()).await;
    world.say("DELETE", "/system/namespace/prod", ()).await;
    world.say("GET", "/system/namespaces", ()).await;
    world.transcript("namespaces");
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let mut world = World::new().await;
    let mark = json!({ "openfaas": "1" });
    world
        .say("POST", "/system/namespace/", json!({ "name": "dev" }))
        .await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "dev", "labels": { "openfaas": "yes" } }),
        )
        .await;
    world
        .say("POST", "/system/namespace/", json!({ "labels": mark }))
        .await;
    world.say("POST", "/system/namespace/", "nonsense").await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "Not One", "labels": mark }),
        )
        .await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "kube-system", "labels": mark }),
        )
        .await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "openfaas-fn", "labels": mark }),
        )
        .await;
    world
        .say(
            "POST",
            "/system/namespace/dev",
            json!({ "name": "prod", "labels": mark }),
        )
        .await;
    world
        .say(
            "POST",
            "/system/namespace/",
            json!({ "name": "dev", "labels": { "openfaas": "1", "a b": "c" } }),
        )
        .await;
    world
        .say(
            "PUT",
            "/system/namespace/dev",
            json!({ "name": "dev", "labels": mark }),
        )
        .await;
    world
        .say("PUT", "/system/namespace/dev", json!({ "name": "dev" }))
        .await;
    world.say("GET", "/system/namespace/dev", ()).await;
    world
        .say(
            "DELETE",
            "/system/namespace/dev",
            json!({ "name": "dev", "labels": mark }),
        )
        .await;
    world
        .say(
            "DELETE",
            "/system/namespace/openfaas-fn",
            json!({ "name": "openfaas-fn" }),
        )
        .await;
    world.say("GET", "/system/namespaces", ()).await;
    world.transcript("namespaces-refused");
}

#[tokio::test]
async fn one_goes_with_all_that_is_in_it_unless_somebody_elses_is() {
    let mut world = World::new().await;
    let dev = json!({ "name": "dev", "labels": { "openfaas": "1" } });
    world.say("POST", "/system/namespace/", dev.clone()).await;
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
            "/system/functions",
            json!({ "service": "f", "image": "hello", "namespace": "dev", "secrets": ["s"] }),
        )
        .await;
    world.settled("dev", "f").await;
    world.deploy_native("dev", "theirs").await;
    world
        .say("DELETE", "/system/namespace/dev", dev.clone())
        .await;
    assert_eq!(world.describe("f.dev").await["name"], "f");
    let theirs = tidegate_platform::ObjectKey::new("tests/v1", "Plain", "dev", "theirs").unwrap();
    world
        .platform
        .delete(&theirs, Default::default())
        .await
        .unwrap();
    world
        .say("DELETE", "/system/namespace/dev", dev.clone())
        .await;
    // Nothing comes back with a namespace of the same name.
    world.say("POST", "/system/namespace/", dev).await;
    world
        .say("GET", "/system/functions?namespace=dev", ())
        .await;
    world.say("GET", "/system/secrets?namespace=dev", ()).await;
    world.transcript("namespaces-full");
}
