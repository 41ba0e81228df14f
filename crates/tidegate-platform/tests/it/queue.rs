//! What is accepted to be run later, on a real queue; nothing of it is run so that it can be looked at.

use serde_json::json;
use tidegate_core::record::{Cause, CauseKind};
use tidegate_core::{FunctionKey, Name};
use tidegate_platform::{Body, Later, NotAccepted, Object, ObjectKey, new_id};

use crate::triggers::{deploy_paused, world};
use crate::world::World;

fn function() -> FunctionKey {
    let name = |text| Name::new(text).unwrap();
    FunctionKey::new(&name("default"), &name("f"))
}

fn later(kind: CauseKind) -> Later {
    Later {
        method: "POST".to_owned(),
        path_and_query: "/".to_owned(),
        cause: Cause {
            kind,
            ..Cause::default()
        },
        ..Later::default()
    }
}

/// Lets the default namespace have so many queued.
async fn limit(world: &World, queued: u64) {
    let key = ObjectKey::new("tidegate.dev/v1", "Namespace", "", "default").unwrap();
    let spec = json!({ "quotas": { "queued": queued } });
    let object = Object::with_spec(&key, spec).unwrap();
    world.platform.put(object).await.unwrap();
}

async fn is_full(world: &World) -> bool {
    let call = later(CauseKind::Call);
    let one = world
        .platform
        .enqueue(new_id(), &function(), call, Body::empty())
        .await;
    matches!(one, Err(NotAccepted::Quota(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_are_as_many_as_the_namespace_may_have() {
    const MOST: u64 = 5;
    let folder = tempfile::tempdir().unwrap();
    let before = world(folder.path()).await;
    deploy_paused(&before).await;
    limit(&before, MOST).await;
    before.end().await;
    // Quotas are read before anything else happens.
    let w = world(folder.path()).await;
    let all: Vec<_> = (0..64)
        .map(|_| {
            let platform = w.platform.clone();
            tokio::spawn(async move {
                let call = later(CauseKind::Call);
                let one = platform
                    .enqueue(new_id(), &function(), call, Body::empty())
                    .await;
                match one {
                    Ok(_) => 1,
                    Err(NotAccepted::Quota(_)) => 0,
                    Err(error) => panic!("{error}"),
                }
            })
        })
        .collect();
    let mut accepted = 0;
    for one in all {
        accepted += one.await.unwrap();
    }
    let (stats, _) = w.platform.queue_stats().unwrap();
    assert_eq!((accepted, stats.queued), (MOST, MOST));
    assert!(is_full(&w).await);
    // A tick counts, and is accepted.
    let tick = later(CauseKind::Schedule);
    let tick = w
        .platform
        .enqueue(new_id(), &function(), tick, Body::empty())
        .await;
    let tick = tick.unwrap();
    w.platform.cancel(tick.id).await.unwrap();
    assert!(is_full(&w).await);
    w.end().await;
}
