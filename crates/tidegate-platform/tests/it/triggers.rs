//! Triggers on a real store, with a queue that remembers what it was given.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidegate_core::InvocationId;
use tidegate_core::queue::Policy;
use tidegate_core::record::CauseKind;
use tidegate_platform::{
    Body, DispatchOptions, Enqueue, Error, Later, NotQueued, Object, ObjectKey, Parts, Put,
    QueueFileOptions, QueueOptions, QueuedCall, Trigger, TriggerSpec,
};

use crate::fake::Fake;
use crate::world::{World, until};

/// Calls that were accepted, each key once.
#[derive(Default)]
struct Accepted {
    calls: Mutex<Vec<QueuedCall>>,
    keys: Mutex<HashMap<String, InvocationId>>,
    full: Mutex<bool>,
}

#[async_trait]
impl Enqueue for Accepted {
    async fn enqueue(&self, call: QueuedCall) -> Result<InvocationId, NotQueued> {
        if *self.full.lock() {
            return Err(NotQueued::Later {
                message: "the queue has no room".to_owned(),
                after: None,
            });
        }
        if let Some(key) = &call.idempotency {
            let mut keys = self.keys.lock();
            if let Some(before) = keys.get(key) {
                return Ok(*before);
            }
            keys.insert(key.clone(), call.id);
        }
        let id = call.id;
        self.calls.lock().push(call);
        Ok(id)
    }
}

impl Accepted {
    fn count(&self) -> usize {
        self.calls.lock().len()
    }
}

async fn world(folder: &Path, queue: &Arc<Accepted>) -> World {
    let acceptor = queue.clone();
    World::made_of(folder, Arc::<Fake>::default(), |parts| {
        parts.acceptor = Some(acceptor);
    })
    .await
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
async fn a_tick_becomes_a_queued_call_and_its_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Arc::<Accepted>::default();
    let w = world(folder.path(), &queue).await;
    w.deploy("f", &w.spec("1")).await;
    let spec = serde_json::json!({
        "function": "f", "schedule": "@every 1s", "missed": "all",
        "request": { "path": "/a?b=c", "headers": { "X-Of": "trigger" }, "body": "[1]" },
    });
    put(&w, "t", spec).await.unwrap();
    until("two ticks were acted on", || queue.count() >= 2).await;
    let call = queue.calls.lock()[0].clone();
    assert_eq!(
        (&*call.function.namespace, &*call.function.name),
        ("default", "f")
    );
    assert_eq!(
        (call.request.method(), call.request.path()),
        ("POST", "/a?b=c")
    );
    assert_eq!(call.request.all_headers().len(), 2);
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
    assert_eq!(paused.state.fired as usize, queue.count());
    // By hand, all the same.
    let fired = w.platform.fire_trigger("default", "t").await.unwrap();
    assert_eq!(queue.calls.lock().last().unwrap().id, fired.invocation);
    w.platform
        .pause_trigger("default", "t", false)
        .await
        .unwrap();
    let before = queue.count();
    until("it goes on", || queue.count() > before).await;
    w.end().await;

    // Every tick once, over a restart.
    let w = world(folder.path(), &queue).await;
    let before = queue.count();
    until("it goes on after a restart", || queue.count() > before + 1).await;
    assert_eq!(queue.count(), queue.keys.lock().len() + 1);
    w.platform.delete_trigger("default", "t").await.unwrap();
    assert!(names(&w).await.is_empty());
    w.end().await;
}

#[tokio::test]
async fn the_durable_queue_has_each_tick_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut dispatch = DispatchOptions::default();
    // So that what was accepted can be looked at.
    dispatch.attempts = 0;
    let queue = QueueOptions {
        folder: folder.path().join("queue"),
        file: QueueFileOptions::default(),
        dispatch,
        max_body: 1024,
        keep_result: Duration::ZERO,
        callbacks: None,
        doors: Vec::new(),
    };
    let change = |parts: &mut Parts| parts.queue = Some(queue);
    let w = World::made_of(folder.path(), Arc::<Fake>::default(), change).await;
    w.deploy("f", &w.spec("1")).await;
    let spec = serde_json::json!({
        "function": "f", "schedule": "@every 1s",
        "request": { "method": "PUT", "path": "/a?b=c", "headers": { "X-Of": "trigger" }, "body": "[1]" },
        "async": { "retries": 7, "maxAge": "1m" },
    });
    put(&w, "t", spec).await.unwrap();
    until_state(&w, "t", |t| t.state.fired >= 2).await;
    let fired = w.platform.fire_trigger("default", "t").await.unwrap();
    w.platform
        .pause_trigger("default", "t", true)
        .await
        .unwrap();
    until_state(&w, "t", |t| t.state.paused).await;
    let state = trigger(&w, "t").await.state;
    let (stats, _) = w.platform.queue_stats().unwrap();
    assert_eq!(stats.queued, state.fired + 1);
    let kept = w.platform.queued_request(fired.invocation).await.unwrap();
    assert_eq!(
        (&*kept.request.method, &*kept.request.path_and_query),
        ("PUT", "/a?b=c")
    );
    assert_eq!(kept.request.body_bytes(), 3);
    // What the trigger says goes over what its function says; all else is as without.
    let policy = Policy {
        retries: 7,
        max_age_ms: 60_000,
        ..Policy::default()
    };
    assert_eq!(kept.policy, policy);
    let sent = ("x-of".to_owned(), b"trigger".to_vec());
    assert!(kept.request.headers.contains(&sent));
    // What a crash before the cursor was written comes to.
    let last = state.last_invocation.parse().unwrap();
    let word = w.platform.queued_request(last).await.unwrap().idempotency;
    assert!(word.is_some());
    let again = Later {
        method: "PUT".to_owned(),
        path_and_query: "/a?b=c".to_owned(),
        idempotency: word,
        ..Later::default()
    };
    let (id, key) = (tidegate_platform::new_id(), kept.function);
    let again = w.platform.enqueue(id, &key, again, Body::empty()).await;
    let again = again.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.id, last);
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
    let queue = Arc::<Accepted>::default();
    let w = world(folder.path(), &queue).await;
    w.deploy("f", &w.spec("1")).await;
    *queue.full.lock() = true;
    let every = serde_json::json!({ "function": "f", "schedule": "@every 1s" });
    put(&w, "t", every).await.unwrap();
    until_state(&w, "t", |t| t.state.error == "the queue has no room").await;
    assert!(matches!(
        w.platform.fire_trigger("default", "t").await,
        Err(Error::NotQueued(NotQueued::Later { .. }))
    ));
    *queue.full.lock() = false;
    until_state(&w, "t", |t| t.state.error.is_empty() && t.state.fired > 0).await;
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
    let queue = Arc::<Accepted>::default();
    let w = world(folder.path(), &queue).await;
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
