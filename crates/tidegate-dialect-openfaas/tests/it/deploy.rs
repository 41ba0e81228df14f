//! Deploys and updates.

use serde_json::{Value, json};
use tidegate_platform::Phase;

use crate::world::{World, until};

#[allow(
    clippy::needless_pass_by_value,
    reason = "reads better where it is called"
)]
fn hello(more: Value) -> Value {
    let mut body = json!({ "service": "hello", "image": "hello:latest" });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_put_makes_nothing_and_a_post_replaces_nothing() {
    let mut world = World::new().await;
    // As clients do it: first as if it were there.
    let body = json!({
        "service": "hello", "image": "hello:latest", "envProcess": "python index.py",
        "labels": {}, "annotations": {},
    });
    world.say("PUT", "/system/functions", body.clone()).await;
    world.say("GET", "/system/functions", ()).await;
    world.say("POST", "/system/functions", body.clone()).await;
    world.say("POST", "/system/functions", body.clone()).await;
    world.settled("default", "hello").await;
    world.say("PUT", "/system/functions", body).await;
    world.transcript("deploy");
}

#[tokio::test]
async fn what_was_deployed_comes_back_as_it_was_sent() {
    let mut world = World::new().await;
    world
        .talk(r#"POST /system/secrets {"name":"s1","value":"x"}"#)
        .await;
    world.keep_image("me/hello:0.1").await;
    let body = json!({
        "service": "hello",
        "image": "docker.io/me/hello:0.1",
        "namespace": "openfaas-fn",
        "envProcess": "python index.py",
        "envVars": { "A": "b", "max_inflight": "8" },
        "constraints": ["node.platform.os == linux"],
        "secrets": ["s1"],
        "labels": { "team": "a", "com.openfaas.scale.min": "2" },
        "annotations": { "topic": "t", "prometheus.io.scrape": "true" },
        "limits": { "memory": "0.25Gi", "cpu": "0.50" },
        "requests": { "memory": "", "cpu": "10m" },
        "readOnlyRootFilesystem": true,
        "registryAuth": "dXNlcjpwYXNz",
        "unknown": { "kept": true },
    });
    world.say("POST", "/system/functions", body).await;
    world.settled("default", "hello").await;
    world
        .talk(
            "
            GET /system/function/hello
            GET /system/functions
            ",
        )
        .await;
    // A replaced one has nothing of the one before it.
    world
        .say("PUT", "/system/functions", hello(json!({})))
        .await;
    world.settled("default", "hello").await;
    world
        .say("GET", "/system/function/hello.openfaas-fn", ())
        .await;
    world.transcript("echo");
}

#[tokio::test]
async fn schedules_of_the_annotations_are_triggers_of_the_function() {
    let mut world = World::new().await;
    let cron = |schedule: &str| {
        let annotations = json!({ "topic": "cron-function", "schedule": schedule });
        hello(json!({ "annotations": annotations }))
    };
    let status = world
        .say("POST", "/system/functions", cron("@hourly; 0 25 * * *"))
        .await;
    assert_eq!(status, 400);
    world
        .say("POST", "/system/functions", cron("@hourly; */5 * * * *"))
        .await;
    world.settled("default", "hello").await;
    let triggers = async |world: &World| {
        let all = world.platform.triggers(Some("default")).await.unwrap();
        let texts = all.iter().map(|t| {
            let names: Vec<_> = t.spec.request.headers.keys().map(String::as_str).collect();
            let (name, spec) = (t.object.key().name(), &t.spec);
            format!(
                "{name} {} {} {}",
                spec.function,
                spec.schedule,
                names.join(",").to_lowercase()
            )
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(
        triggers(&world).await,
        [
            "hello-schedule-1 hello @hourly x-connector,x-topic",
            "hello-schedule-2 hello */5 * * * * x-connector,x-topic",
        ]
    );
    world
        .say("PUT", "/system/functions", hello(json!({})))
        .await;
    world.settled("default", "hello").await;
    assert!(triggers(&world).await.is_empty());
}

#[tokio::test]
async fn credentials_of_a_registry_are_not_kept() {
    let mut world = World::new().await;
    let body = hello(json!({ "registryAuth": "c2VjcmV0", "mine": 1 }));
    world.say("POST", "/system/functions", body).await;
    let stored = world.stored("hello").await;
    assert_eq!(stored["deployment"], hello(json!({ "mine": 1 })));
}

#[tokio::test]
async fn one_that_does_not_start_says_why_and_is_tried_again_when_it_is_sent_again() {
    let mut world = World::new().await;
    world
        .fake
        .fail_next("ModuleNotFoundError: no module named 'tides'");
    world
        .say("POST", "/system/functions", hello(json!({})))
        .await;
    assert_eq!(world.settled("default", "hello").await.phase, Phase::Failed);
    world.say("GET", "/system/function/hello", ()).await;
    world
        .say("PUT", "/system/functions", hello(json!({})))
        .await;
    until("it is ready", async || {
        world.describe("hello").await["availableReplicas"] == 1
    })
    .await;
    assert_eq!(world.settled("default", "hello").await.phase, Phase::Ready);
    world.say("GET", "/system/function/hello", ()).await;
    world.transcript("failed");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_would_do() {
    let mut world = World::new().await;
    let nothing = format!("sha256:{}", "0".repeat(64));
    world.keep_image_of("gone:latest", &nothing).await;
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"service":1}"#,
        r#"{"service":"a","labels":{"a":1}}"#,
    ] {
        world.say("POST", "/system/functions", body).await;
    }
    for body in [
        json!({ "image": "hello:latest" }),
        json!({ "service": "hello" }),
        json!({ "service": "Hello_World", "image": "hello:latest" }),
        json!({ "service": "a.b", "image": "hello:latest" }),
        json!({ "service": "-a", "image": "hello:latest" }),
        json!({ "service": "a".repeat(64), "image": "hello:latest" }),
        json!({ "service": "hello", "image": "functions/alpine:latest" }),
        json!({ "service": "hello", "image": "gone:latest" }),
        hello(json!({ "namespace": "nowhere" })),
        hello(json!({ "namespace": "No Where" })),
        hello(json!({ "secrets": ["absent"] })),
        hello(json!({ "secrets": ["../etc"] })),
        hello(json!({ "envVars": { "1A": "x" } })),
        hello(json!({ "envVars": { "A": "x\u{0}y" } })),
        hello(json!({ "envProcess": " cat" })),
        hello(json!({ "envVars": { "mode": "sideways" } })),
        hello(json!({ "envVars": { "upstream_url": "http://elsewhere.example:80" } })),
        hello(json!({ "envVars": { "jwt_auth": "true" } })),
        hello(json!({ "limits": { "memory": "lots" } })),
        hello(json!({ "limits": { "memory": "1Mi" } })),
        hello(json!({ "limits": { "cpu": "0" } })),
        hello(json!({ "limits": { "nvidia.com/gpu": "1" } })),
        hello(json!({ "annotations": { "com.openfaas.ready.http.path": "ready" } })),
        hello(json!({ "labels": { "com.openfaas.scale.min": "0" } })),
        hello(json!({ "labels": { "com.openfaas.scale.max": "many" } })),
        hello(json!({ "labels": { "com.openfaas.scale.factor": "101" } })),
    ] {
        let status = world.say("POST", "/system/functions", body).await;
        assert_eq!(status, 400);
    }
    world.say("GET", "/system/functions", ()).await;
    world.transcript("deploy-refused");
}

#[tokio::test]
async fn an_update_that_cannot_be_leaves_what_there_is() {
    let mut world = World::new().await;
    let body = hello(json!({ "envVars": { "A": "b" } }));
    world.say("POST", "/system/functions", body).await;
    for body in [
        json!({ "service": "hello" }),
        json!({ "service": "hello", "image": "gone:latest" }),
        hello(json!({ "secrets": ["absent"] })),
        hello(json!({ "limits": { "memory": "lots" } })),
    ] {
        assert_eq!(world.say("PUT", "/system/functions", body).await, 400);
    }
    assert_eq!(
        world.describe("hello").await["envVars"],
        json!({ "A": "b" })
    );
    world.transcript("update-refused");
}

#[tokio::test]
async fn a_body_is_bounded() {
    let mut world = World::new().await;
    let large = hello(json!({ "envVars": { "A": "x".repeat(600 * 1024) } })).to_string();
    let response = world.send("POST", "/system/functions", large.into()).await;
    assert_eq!(response.status(), 413);
    // Small enough to be read, too large to be kept.
    let large = hello(json!({ "mine": "x".repeat(300 * 1024) })).to_string();
    let response = world.send("POST", "/system/functions", large.into()).await;
    assert_eq!(response.status(), 413);
    world.say("GET", "/system/functions", ()).await;
    world.transcript("deploy-large");
}

#[tokio::test]
async fn functions_of_a_namespace_are_its_own() {
    let mut world = World::new().await;
    let dev = json!({ "name": "dev", "labels": { "openfaas": "1" } });
    world.say("POST", "/system/namespace/", dev).await;
    world
        .say(
            "POST",
            "/system/functions",
            hello(json!({ "namespace": "dev" })),
        )
        .await;
    world
        .say("POST", "/system/functions?namespace=dev", hello(json!({})))
        .await;
    world
        .say(
            "POST",
            "/system/functions?namespace=dev",
            hello(json!({ "service": "second" })),
        )
        .await;
    world
        .say("PUT", "/system/functions", hello(json!({})))
        .await;
    world.settled("dev", "hello").await;
    world.settled("dev", "second").await;
    world
        .talk(
            "
            GET /system/functions?namespace=dev
            GET /system/functions
            GET /system/functions?namespace=nowhere
            ",
        )
        .await;
    world.transcript("deploy-namespace");
}
