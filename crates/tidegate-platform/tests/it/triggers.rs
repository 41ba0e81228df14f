//! Triggers on a real store and a real queue, of which nothing is run so that it can be looked at.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::queue::Policy;
use tidegate_core::record::CauseKind;
use tidegate_platform::{
    Body, DispatchOptions, Error, Later, NotQueued, Object, ObjectKey, Parts, Put, QueueEntry,
    QueueFileOptions, QueueFilter, QueueOptions, Trigger, TriggerSpec,
};

use crate::fake::Fake;
use crate::world::World;

/// A function of which nothing is run that is queued.
pub(crate) async fn deploy_paused(world: &World) {
    let paused = serde_json::json!({ "paused": true });
    world.deploy_with("f", &world.spec("1"), &paused).await;
}

/// A world whose queue has room for so many.
async fn world_of(folder: &Path, items: u64) -> World {
    let mut file = QueueFileOptions::default();
    file.max_items = items;
    let queue = QueueOptions {
        folder: folder.join("queue"),
        file,
        dispatch: DispatchOptions::default(),
        max_body: 1024,
        keep_result: Duration::ZERO,
        callbacks: None,
        doors: Vec::new(),
    };
    let change = |parts: &mut Parts| parts.queue = Some(queue);
    World::made_of(folder, Arc::<Fake>::default(), change).await
}

pub(crate) async fn world(folder: &Path) -> World {
    world_of(folder, 1000).await
}

/// What is queued, in the order in which it was accepted.
async fn queued(world: &World) -> Vec<QueueEntry> {
    let page = world.platform.queued(QueueFilter::All, None, 1000).await;
    page.unwrap().items
}

/// Waits until so many are queued.
async fn until_queued(world: &World, count: usize) {
    for _ in 0..3_000 {
        if queued(world).await.len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came: {:?}", queued(world).await);
}

fn document(name: &str, spec: serde_json::Value) -> Object {
    let key = ObjectKey::new("tidegate.dev/v1", "Trigger", "default", name).unwrap();
    Object::with_spec(&key, spec).unwrap()
}

async fn put(world: &World, name: &str, spec: serde_json::Value) -> Result<Put, Error> {
    world
        .platform
        .put_trigger(document(name, spec), false)
        .await
}

async fn trigger(world: &World, name: &str) -> Trigger {
    world.platform.trigger("default", name).await.unwrap()
}

async fn names(world: &World) -> Vec<String> {
    let all = world.platform.triggers(Some("default")).await.unwrap();
    all.iter()
        .map(|t| t.object.key().name().to_owned())
        .collect()
}

#[tokio::test]
async fn a_tick_becomes_a_queued_call_once_and_its_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let w = world(folder.path()).await;
    deploy_paused(&w).await;
    let spec = serde_json::json!({
        "function": "f", "schedule": "@every 1s", "missed": "all",
        "request": { "method": "PUT", "path": "/a?b=c", "headers": { "X-Of": "trigger" }, "body": "[1]" },
        "async": { "retries": 7, "maxAge": "1h" },
    });
    put(&w, "t", spec).await.unwrap();
    until_queued(&w, 2).await;
    let first = queued(&w).await[0].id;
    let call = w.platform.queued_request(first).await.unwrap();
    assert_eq!(
        (&*call.function.namespace, &*call.function.name),
        ("default", "f")
    );
    assert_eq!(
        (&*call.request.method, &*call.request.path_and_query),
        ("PUT", "/a?b=c")
    );
    assert_eq!(call.request.body_bytes(), 3);
    // What the trigger says goes over what its function says; all else is as without.
    let policy = Policy {
        retries: 7,
        max_age_ms: 3_600_000,
        ..Policy::default()
    };
    assert_eq!(call.policy, policy);
    for (name, value) in [("x-of", "trigger"), ("content-type", "application/json")] {
        let sent = (name.to_owned(), value.as_bytes().to_vec());
        assert!(call.request.headers.contains(&sent), "{name}");
    }
    assert_eq!(
        (call.cause.kind, call.cause.name.as_deref()),
        (CauseKind::Schedule, Some("t"))
    );
    let uid = trigger(&w, "t").await.object.uid().to_owned();
    let key = call.idempotency.unwrap();
    assert!(
        key.starts_with(&format!("{uid}@20")) && key.ends_with('Z'),
        "{key}"
    );
    // A pause is an end, whatever was in flight.
    w.platform
        .pause_trigger("default", "t", true)
        .await
        .unwrap();
    until_state(&w, "t", |t| t.state.paused && t.state.fired >= 2).await;
    let paused = trigger(&w, "t").await;
    assert!(paused.upcoming(jiff::Timestamp::now(), 5).is_empty());
    let before = queued(&w).await.len();
    assert_eq!(paused.state.fired as usize, before);
    // By hand, all the same.
    let fired = w.platform.fire_trigger("default", "t").await.unwrap();
    assert_eq!(queued(&w).await.last().unwrap().id, fired.invocation);
    // What a crash before the cursor was written comes to.
    let last = paused.state.last_invocation.parse().unwrap();
    let word = w.platform.queued_request(last).await.unwrap().idempotency;
    assert!(word.is_some());
    let again = Later {
        method: "PUT".to_owned(),
        path_and_query: "/a?b=c".to_owned(),
        idempotency: word,
        ..Later::default()
    };
    let id = tidegate_platform::new_id();
    let again = w.platform.enqueue(id, &call.function, again, Body::empty());
    let again = again.await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.id, last);
    w.platform
        .pause_trigger("default", "t", false)
        .await
        .unwrap();
    until_queued(&w, before + 2).await;
    w.end().await;

    // Every tick once, over a restart.
    let w = world(folder.path()).await;
    let before = queued(&w).await.len();
    until_queued(&w, before + 2).await;
    w.platform
        .pause_trigger("default", "t", true)
        .await
        .unwrap();
    until_state(&w, "t", |t| t.state.paused).await;
    let fired = trigger(&w, "t").await.state.fired as usize;
    assert_eq!(queued(&w).await.len(), fired + 1);
    w.platform.delete_trigger("default", "t").await.unwrap();
    assert!(names(&w).await.is_empty());
    w.end().await;
}

async fn until_state(world: &World, name: &str, is_so: impl Fn(&Trigger) -> bool) {
    for _ in 0..3_000 {
        if is_so(&trigger(world, name).await) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("never came: {:?}", trigger(world, name).await.state);
}

#[tokio::test]
async fn what_is_not_accepted_waits_and_what_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let w = world_of(folder.path(), 1).await;
    deploy_paused(&w).await;
    let every = serde_json::json!({ "function": "f", "schedule": "@every 1s" });
    put(&w, "t", every).await.unwrap();
    // The first one fills the queue.
    until_state(&w, "t", |t| t.state.error.contains("number of items")).await;
    assert!(matches!(
        w.platform.fire_trigger("default", "t").await,
        Err(Error::NotQueued(NotQueued::Later { .. }))
    ));
    let fired = trigger(&w, "t").await.state.fired;
    let first = queued(&w).await[0].id;
    w.platform.cancel(first).await.unwrap();
    until_state(&w, "t", |t| t.state.fired > fired).await;
    w.delete("f").await;
    until_state(&w, "t", |t| {
        t.state.error.contains("function \"f\" does not exist")
    })
    .await;
    for (spec, expected) in [
        (
            serde_json::json!({ "function": "f" }),
            "spec: missing field `schedule`",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "* * * * *", "shedule": 1 }),
            "spec: unknown field `shedule`",
        ),
        (
            serde_json::json!({ "function": "F!", "schedule": "* * * * *" }),
            "spec.function: ",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "99 * * * *" }),
            "spec.schedule: minute \"99\": 99 is out of range",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "@daily", "timeZone": "Mars" }),
            "spec.timeZone: time zone \"Mars\"",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "TZ=Mars @daily" }),
            "spec.schedule: time zone \"Mars\"",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "@daily", "missed": "some" }),
            "spec.missed: missed \"some\"",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "@daily", "jitter": "2h" }),
            "spec.jitter: jitter \"2h\"",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "@daily", "async": { "maxAge": "90d" } }),
            "spec.async.maxAge: \"90d\" is longer than 30d",
        ),
        (
            serde_json::json!({ "function": "f", "schedule": "@daily", "async": { "rate": 5 } }),
            "spec: unknown field `rate`",
        ),
        (
            serde_json::json!({ "function": "nobody", "schedule": "@daily" }),
            "spec.function: function \"nobody\" does not exist",
        ),
    ] {
        let error = put(&w, "bad", spec).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    w.end().await;
    let w = World::on(folder.path()).await;
    let refused = put(
        &w,
        "t",
        serde_json::json!({ "function": "f", "schedule": "@daily" }),
    )
    .await;
    assert!(refused.unwrap_err().to_string().contains("has no queue"));
    w.end().await;
}

#[tokio::test]
async fn a_functions_own_triggers_are_kept_in_line_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let w = world(folder.path()).await;
    let schedules = |all: &[&str]| serde_json::json!({ "schedules": all });
    let deploy = async |all: &[&str]| w.deploy_with("f", &w.spec("1"), &schedules(all)).await;
    deploy(&["@hourly", "*/5 * * * *"]).await;
    assert_eq!(names(&w).await, ["f-schedule-1", "f-schedule-2"]);
    let first = trigger(&w, "f-schedule-1").await;
    assert_eq!(first.owner().unwrap().name, "f");
    // Somebody else's function of a name that begins so has its own.
    w.deploy_with("f-schedule", &w.spec("1"), &schedules(&["@daily"]))
        .await;
    w.platform
        .pause_trigger("default", "f-schedule-1", true)
        .await
        .unwrap();
    deploy(&["@daily"]).await;
    assert_eq!(names(&w).await, ["f-schedule-1", "f-schedule-schedule-1"]);
    let changed = trigger(&w, "f-schedule-1").await;
    assert_eq!(changed.object.uid(), first.object.uid());
    assert_eq!(
        changed.spec,
        TriggerSpec {
            function: "f".to_owned(),
            schedule: "@daily".to_owned(),
            paused: true,
            ..TriggerSpec::default()
        }
    );
    for refused in [
        w.platform
            .delete_trigger("default", "f-schedule-1")
            .await
            .unwrap_err(),
        put(
            &w,
            "f-schedule-1",
            serde_json::json!({ "function": "f", "schedule": "@hourly" }),
        )
        .await
        .unwrap_err(),
    ] {
        assert!(
            refused.to_string().contains("belongs to function \"f\""),
            "{refused}"
        );
    }
    // A name that somebody has taken is not taken from him.
    put(
        &w,
        "f-schedule-2",
        serde_json::json!({ "function": "f", "schedule": "@hourly" }),
    )
    .await
    .unwrap();
    let status = deploy(&["@daily", "@hourly"]).await;
    assert!(
        status
            .message
            .contains("\"f-schedule-2\" is somebody's own"),
        "{}",
        status.message
    );
    w.delete("f").await;
    for _ in 0..3_000 {
        if names(&w).await.len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(names(&w).await, ["f-schedule-2", "f-schedule-schedule-1"]);
    w.end().await;
}
