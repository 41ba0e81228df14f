use std::sync::Arc;

use serde_json::json;

use super::*;

fn object(name: &str, labels: &Value) -> Object {
    Object::new(
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": name, "labels": labels}}),
    )
    .unwrap()
}

fn created(version: u64, name: &str) -> Change {
    Change {
        version,
        kind: ChangeKind::Created,
        object: object(name, &json!({})),
        bytes: 10,
    }
}

fn hub(version: u64, changes: Vec<Change>) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(version));
    hub.committing(changes.last().map_or(version, |change| change.version));
    hub.publish(changes);
    hub
}

fn name(event: &Event) -> String {
    match event {
        Event::Added(o) => format!("+{}", o.key().name()),
        Event::Modified(o) => format!("~{}", o.key().name()),
        Event::Deleted(o) => format!("-{}", o.key().name()),
        Event::Bookmark(version) => format!("@{version}"),
    }
}

async fn next(watch: &mut Watch) -> String {
    name(&watch.next().await.unwrap().unwrap())
}

#[tokio::test]
async fn starts_after_the_version_asked_for() {
    let hub = hub(5, vec![created(6, "a"), created(7, "b"), created(8, "c")]);
    let mut watch = hub
        .watch(Query::everything(), Some(ResourceVersion::new(6)))
        .unwrap();
    assert_eq!(next(&mut watch).await, "+b");
    assert_eq!(next(&mut watch).await, "+c");
    let mut fresh = hub.watch(Query::everything(), None).unwrap();
    hub.publish(vec![created(9, "d")]);
    assert_eq!(next(&mut fresh).await, "+d");
    assert_eq!(next(&mut watch).await, "+d");
    hub.close();
    assert!(watch.next().await.is_none());
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn versions_before_and_beyond_the_history_are_expired() {
    let hub = hub(5, vec![created(6, "a")]);
    for version in [0, 4, 7, 1000] {
        let result = hub.watch(Query::everything(), Some(ResourceVersion::new(version)));
        assert!(matches!(result, Err(Error::Expired { .. })), "{version}");
    }
    // A reader may see a commit a moment before watchers do.
    hub.committing(7);
    assert!(
        hub.watch(Query::everything(), Some(ResourceVersion::new(7)))
            .is_ok()
    );
}

#[tokio::test]
async fn labels_that_come_and_go_look_like_creation_and_removal() {
    let change = |version, before: Value, after: Value| Change {
        version,
        kind: ChangeKind::Changed {
            before: Some(before),
        },
        object: object("a", &after),
        bytes: 10,
    };
    let (on, off) = (json!({"on": "1"}), json!({}));
    let removed = Change {
        version: 5,
        kind: ChangeKind::Removed { before: None },
        object: object("b", &on),
        bytes: 1,
    };
    let lost = Change {
        version: 6,
        kind: ChangeKind::Discarded,
        object: object("c", &off),
        bytes: 1,
    };
    let hub = hub(
        0,
        vec![
            change(1, off.clone(), off.clone()),
            change(2, off.clone(), on.clone()),
            change(3, on.clone(), on.clone()),
            change(4, on, off),
            removed,
            lost,
        ],
    );
    let query = Query::kind("v1", "A").labels("on".parse().unwrap());
    let mut watch = hub.watch(query, Some(ResourceVersion::new(0))).unwrap();
    for expected in ["+a", "~a", "-a", "-c"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test]
async fn a_slow_watcher_is_cut_and_costs_nothing() {
    let hub = hub(0, vec![created(1, "a")]);
    let mut slow = hub
        .watch(Query::everything(), Some(ResourceVersion::new(0)))
        .unwrap();
    let mut quick = hub
        .watch(Query::everything(), Some(ResourceVersion::new(1)))
        .unwrap();
    for version in 2..=HISTORY_EVENTS as u64 + 1 {
        hub.publish(vec![created(version, "a")]);
    }
    assert!(matches!(
        slow.next().await,
        Some(Err(Error::Expired { .. }))
    ));
    assert!(slow.next().await.is_none());
    for _ in 0..HISTORY_EVENTS {
        assert_eq!(next(&mut quick).await, "+a");
    }
    assert_eq!(hub.history.lock().changes.len(), HISTORY_EVENTS);
}

#[test]
fn large_documents_shorten_the_history() {
    let hub = hub(0, Vec::new());
    for version in 1..=100 {
        hub.publish(vec![Change {
            bytes: HISTORY_BYTES / 10,
            ..created(version, "a")
        }]);
    }
    let history = hub.history.lock();
    assert_eq!((history.changes.len(), history.floor), (10, 90));
    assert!(history.bytes <= HISTORY_BYTES);
}

#[tokio::test]
async fn a_watch_that_nothing_concerns_gets_bookmarks() {
    let hub = hub(
        0,
        (1..=BOOKMARK_AFTER + 3)
            .map(|version| created(version, "a"))
            .collect(),
    );
    let mut watch = hub
        .watch(Query::kind("v1", "B"), Some(ResourceVersion::new(0)))
        .unwrap();
    assert_eq!(next(&mut watch).await, format!("@{BOOKMARK_AFTER}"));
}
