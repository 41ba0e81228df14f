//! Watching through the whole store.

use serde_json::json;
use tidegate_store::{Error, Event, Preconditions, Query, ResourceVersion};

use crate::{key, open, thing, with_metadata};

#[tokio::test]
async fn list_then_watch_misses_nothing_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects();
    objects.create(thing("before", json!(1))).await.unwrap();
    let page = objects
        .list(&Query::everything(), None, None)
        .await
        .unwrap();
    let created = objects.create(thing("a", json!(1))).await.unwrap();
    let changed = objects
        .update(created.clone().replace_spec(json!(2)).unwrap())
        .await
        .unwrap();
    let gone = objects
        .delete(&key("a"), Preconditions::default())
        .await
        .unwrap()
        .object();
    let mut watch = objects
        .watch(&Query::everything(), Some(page.resource_version))
        .unwrap();
    for expected in [
        Event::Added(created),
        Event::Modified(changed.clone()),
        Event::Deleted(gone.clone()),
    ] {
        assert_eq!(watch.next().await.unwrap().unwrap(), expected);
    }
    // The last document is told, with the version of the removal.
    assert_eq!(gone.spec(), changed.spec());
    assert!(gone.resource_version() > changed.resource_version());
}

#[tokio::test]
async fn a_watch_wakes_for_what_matches() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects().clone();
    let mut watch = objects
        .watch(&Query::everything().labels("want".parse().unwrap()), None)
        .unwrap();
    let waiting = tokio::spawn(async move { watch.next().await.unwrap().unwrap() });
    objects.create(thing("unwanted", json!(1))).await.unwrap();
    let wanted = objects
        .create(with_metadata("wanted", json!({"labels": {"want": ""}})))
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap(), Event::Added(wanted));
}

#[tokio::test]
async fn after_a_restart_old_versions_are_expired() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for name in ["a", "b"] {
        store.objects().create(thing(name, json!(1))).await.unwrap();
    }
    let mut watch = store.objects().watch(&Query::everything(), None).unwrap();
    drop(store);
    assert!(watch.next().await.is_none());
    let store = open(dir.path());
    let watch = |version| {
        store
            .objects()
            .watch(&Query::everything(), Some(ResourceVersion::new(version)))
    };
    assert!(matches!(watch(1), Err(Error::Expired { .. })));
    assert!(matches!(watch(3), Err(Error::Expired { .. })));
    let page = store
        .objects()
        .list(&Query::everything(), None, None)
        .await
        .unwrap();
    assert_eq!(page.resource_version, ResourceVersion::new(2));
    assert!(watch(2).is_ok());
}
