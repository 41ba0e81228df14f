//! What is accepted to be run later, on a real queue; nothing of it is run so that it can be looked at.

use std::future::{Future as _, poll_fn};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidegate_core::queue::Retrying;
use tidegate_core::record::{Cause, CauseKind};
use tidegate_core::{FunctionKey, Name};
use tidegate_platform::{
    Body, DispatchOptions, Later, NotAccepted, Object, ObjectKey, Parts, QueueFileOptions,
    QueueOptions, new_id,
};

use crate::fake::Fake;
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

/// Bodies that are kept beside a queue's file.
fn bodies(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let counts = entries.map(|entry| {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            return bodies(&path);
        }
        let is_digest = name.len() == 64 && path.components().any(|c| c.as_os_str() == "queue");
        usize::from(is_digest)
    });
    counts.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_body_of_a_call_that_is_not_accepted_goes_though_its_client_hangs_up() {
    const LARGE: usize = 2 << 20;
    let folder = tempfile::tempdir().unwrap();
    let mut file = QueueFileOptions::default();
    file.max_file_bytes = LARGE as u64;
    let queue = QueueOptions {
        folder: folder.path().join("queue"),
        file,
        dispatch: DispatchOptions::default(),
        max_body: 2 * LARGE as u64,
        keep_result: Duration::ZERO,
        callbacks: None,
        doors: Vec::new(),
    };
    let change = |parts: &mut Parts| parts.queue = Some(queue);
    let w = World::made_of(folder.path(), Arc::<Fake>::default(), change).await;
    let mut spec = w.spec("1");
    spec.limits.body = 2 * LARGE as u64;
    let paused = serde_json::json!({ "paused": true });
    w.deploy_with("f", &spec, &paused).await;
    let (platform, key) = (&w.platform, function());
    let enqueue = |later, bytes| {
        let body = Body::full(Bytes::from(vec![7; bytes]));
        Box::pin(platform.enqueue(new_id(), &key, later, body))
    };
    // One that waits keeps its body.
    let small = enqueue(later(CauseKind::Call), LARGE * 3 / 4).await;
    small.unwrap();
    assert_eq!(bodies(folder.path()), 1);
    let mut wrong = later(CauseKind::Call);
    wrong.retrying = Retrying {
        max_age: Some("0s".to_owned()),
        ..Retrying::default()
    };
    let wrong = enqueue(wrong, LARGE).await;
    assert!(matches!(wrong, Err(NotAccepted::Invalid(_))));
    assert_eq!(bodies(folder.path()), 1);
    // There is no room for those that follow. A refusal may be there before its client can hang up: then another tries.
    let mut hung_up = 0;
    for _ in 0..200 {
        if hung_up == 8 {
            break;
        }
        let mut refused = enqueue(later(CauseKind::Call), LARGE);
        let was_first = poll_fn(|cx| {
            // Woken when its body is there, it goes on to have the call accepted.
            let is_there = bodies(folder.path()) > 1;
            match refused.as_mut().poll(cx) {
                Poll::Ready(Err(NotAccepted::Later { .. })) => Poll::Ready(false),
                Poll::Ready(accepted) => panic!("there is no room for it: {accepted:?}"),
                Poll::Pending if is_there => Poll::Ready(true),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        hung_up += usize::from(was_first);
        drop(refused);
        for _ in 0..6_000 {
            if bodies(folder.path()) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(bodies(folder.path()), 1);
    }
    assert_eq!(hung_up, 8, "of 200 clients so many were first to end");
    w.end().await;
}
