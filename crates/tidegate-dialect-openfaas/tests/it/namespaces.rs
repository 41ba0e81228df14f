//! Namespaces.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn namespaces_are_made_described_changed_and_removed() {
    let mut world = World::new().await;
    world
        .talk(
            r#"
            GET /system/namespaces
            GET /system/namespace/openfaas-fn
            POST /system/namespace/ {"annotations":{"openfaas":"1"},"labels":{"openfaas":"1"},"name":"dev"}
            POST /system/namespace/ {"labels":{"openfaas":"1"},"name":"dev"}
            POST /system/namespace/prod {"labels":{"openfaas":"1"},"name":"prod"}
            GET /system/namespaces
            GET /system/namespace/dev
            PUT /system/namespace/dev {"labels":{"openfaas":"1","team":"a"},"name":"dev"}
            GET /system/namespace/dev
            DELETE /system/namespace/dev {"labels":{"openfaas":"1"},"name":"dev"}
            GET /system/namespace/dev
            DELETE /system/namespace/prod
            GET /system/namespaces
            "#,
        )
        .await;
    world.transcript("namespaces");
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let mut world = World::new().await;
    world
        .talk(
            r#"
            POST /system/namespace/ {"name":"dev"}
            POST /system/namespace/ {"labels":{"openfaas":"yes"},"name":"dev"}
            POST /system/namespace/ {"labels":{"openfaas":"1"}}
            POST /system/namespace/ nonsense
            POST /system/namespace/ {"labels":{"openfaas":"1"},"name":"Not One"}
            POST /system/namespace/ {"labels":{"openfaas":"1"},"name":"kube-system"}
            POST /system/namespace/ {"labels":{"openfaas":"1"},"name":"openfaas-fn"}
            POST /system/namespace/dev {"labels":{"openfaas":"1"},"name":"prod"}
            POST /system/namespace/ {"labels":{"a b":"c","openfaas":"1"},"name":"dev"}
            PUT /system/namespace/dev {"labels":{"openfaas":"1"},"name":"dev"}
            PUT /system/namespace/dev {"name":"dev"}
            GET /system/namespace/dev
            DELETE /system/namespace/dev {"labels":{"openfaas":"1"},"name":"dev"}
            DELETE /system/namespace/openfaas-fn {"name":"openfaas-fn"}
            GET /system/namespaces
            "#,
        )
        .await;
    world.transcript("namespaces-refused");
}

#[tokio::test]
async fn one_goes_with_all_that_is_in_it_unless_somebody_elses_is() {
    let mut world = World::new().await;
    let dev = json!({ "name": "dev", "labels": { "openfaas": "1" } });
    world
        .talk(
            r#"
            POST /system/namespace/ {"labels":{"openfaas":"1"},"name":"dev"}
            POST /system/secrets {"name":"s","namespace":"dev","value":"x"}
            POST /system/functions {"image":"hello","namespace":"dev","secrets":["s"],"service":"f"}
            "#,
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
    world
        .talk(
            r#"
            POST /system/namespace/ {"labels":{"openfaas":"1"},"name":"dev"}
            GET /system/functions?namespace=dev
            GET /system/secrets?namespace=dev
            "#,
        )
        .await;
    world.transcript("namespaces-full");
}
