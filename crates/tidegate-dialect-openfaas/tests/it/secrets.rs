//! Secrets: the statuses that clients go by, and values that come through byte by byte.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn secrets_are_made_changed_listed_and_removed() {
    let mut world = World::new().await;
    world
        .talk(
            r#"
            GET /system/secrets
            PUT /system/secrets {"name":"s1","value":"x"}
            POST /system/secrets {"name":"s1","namespace":"openfaas-fn","value":"x"}
            POST /system/secrets {"name":"s1","value":"y"}
            PUT /system/secrets {"name":"s1","value":"z"}
            POST /system/secrets {"name":"tls.crt","rawValue":"AP8K","value":"ignored"}
            GET /system/secrets
            DELETE /system/secrets {"name":"s1","namespace":"openfaas-fn"}
            DELETE /system/secrets {"name":"s1"}
            GET /system/secrets?namespace=openfaas-fn
            "#,
        )
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
    world
        .talk(
            "
            POST /system/secrets nonsense
            GET /system/secrets?namespace=nowhere
            ",
        )
        .await;
    let large = json!({ "name": "a", "value": "x".repeat(70_000) }).to_string();
    assert_eq!(world.send("POST", path, large.into()).await.status(), 400);
    world.say("GET", path, ()).await;
    world.transcript("secrets-refused");
}

#[tokio::test]
async fn a_namespace_has_secrets_of_its_own() {
    let mut world = World::new().await;
    world
        .talk(
            r#"
            POST /system/namespace/ {"labels":{"openfaas":"1"},"name":"dev"}
            POST /system/secrets {"name":"s","namespace":"dev","value":"x"}
            POST /system/secrets?namespace=dev {"name":"t","value":"x"}
            "#,
        )
        .await;
    // The body wins.
    world
        .talk(
            r#"
            POST /system/secrets?namespace=nowhere {"name":"u","namespace":"dev","value":"x"}
            GET /system/secrets?namespace=dev
            GET /system/secrets
            DELETE /system/secrets?namespace=dev {"name":"s"}
            DELETE /system/secrets {"name":"t"}
            "#,
        )
        .await;
    world.transcript("secrets-namespace");
}

#[tokio::test]
async fn one_that_is_used_is_removed_all_the_same() {
    let mut world = World::new().await;
    world
        .talk(r#"POST /system/secrets {"name":"s","value":"x"}"#)
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
        .talk(
            r#"
            POST /system/secrets {"name":"text","value":" b\n"}
            POST /system/secrets {"name":"empty","value":""}
            "#,
        )
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
