//! Creating, changing, listing and deleting.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_store::{
    Deletion, Error, Event, Object, ObjectKey, Preconditions, Put, Query, ResourceVersion,
};

use crate::{key, open, thing, with_metadata};

#[tokio::test]
async fn a_document_comes_back_as_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sent = json!({
        "apiVersion": "tidegate.dev/v1", "kind": "Thing", "data": {"b": [3, 1, 2], "a": null}, "spec": null,
        "metadata": {"name": "a", "namespace": "default", "labels": null, "ours": {"x": [null, {}]}, "annotations": {"k": ""}},
    });
    let created = store
        .objects()
        .create(Object::new(sent.clone()).unwrap())
        .await
        .unwrap();
    drop(store);
    let stored = open(dir.path()).objects().get(&key("a")).await.unwrap();
    assert_eq!(stored, created);
    let mut expected = sent;
    for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
        expected["metadata"][field] = stored.metadata()[field].clone();
    }
    assert_eq!(stored.clone().into_value(), expected);
    assert_eq!(
        (stored.generation(), stored.resource_version()),
        (1, Some(ResourceVersion::new(1)))
    );
    assert_eq!(
        uuid::Uuid::parse_str(stored.uid())
            .unwrap()
            .get_version_num(),
        7
    );
    assert!(
        stored
            .creation_timestamp()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
}

#[tokio::test]
async fn versions_grow_by_one_a_commit_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects();
    let first = objects.create(thing("a", json!(1))).await.unwrap();
    let second = objects
        .update(first.clone().replace_spec(json!(2)).unwrap())
        .await
        .unwrap();
    assert_eq!(
        (second.generation(), second.resource_version()),
        (2, Some(ResourceVersion::new(2)))
    );
    // Nothing changes, nothing is committed.
    assert_eq!(objects.update(second.clone()).await.unwrap(), second);
    let status = objects
        .update_status(second.clone().replace_status(json!({"ready": 1})).unwrap())
        .await
        .unwrap();
    assert_eq!(
        (status.generation(), status.resource_version()),
        (2, Some(ResourceVersion::new(3)))
    );
    assert!(matches!(
        objects.create(thing("a", json!(1))).await,
        Err(Error::AlreadyExists { .. })
    ));
    assert!(matches!(
        objects.update(thing("b", json!(1))).await,
        Err(Error::NotFound { .. })
    ));
    objects
        .delete(&key("a"), Preconditions::default())
        .await
        .unwrap();
    drop(store);
    let again = open(dir.path())
        .objects()
        .create(thing("a", json!(1)))
        .await
        .unwrap();
    assert_eq!(again.resource_version(), Some(ResourceVersion::new(5)));
    assert_ne!(again.uid(), first.uid());
}

#[tokio::test]
async fn compare_and_swap_lets_one_of_many_win() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects();
    let seen = objects.create(thing("a", json!(0))).await.unwrap();
    let writes = (1..=20).map(|n| objects.update(seen.clone().replace_spec(json!(n)).unwrap()));
    let results = futures_util::future::join_all(writes).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(
        results
            .iter()
            .filter(|result| matches!(result, Err(Error::Conflict { .. })))
            .count(),
        19
    );
    let last = objects
        .update(seen.unconditional().replace_spec(json!("last")).unwrap())
        .await
        .unwrap();
    assert_eq!(last.spec(), Some(&json!("last")));
}

#[tokio::test]
async fn put_creates_or_updates() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects();
    let Put::Created(first) = objects.put(thing("a", json!(1))).await.unwrap() else {
        panic!("was there")
    };
    let Put::Updated(second) = objects.put(thing("a", json!(2))).await.unwrap() else {
        panic!("was not there")
    };
    assert_eq!((first.uid(), second.generation()), (second.uid(), 2));
    assert!(matches!(
        objects.put(first.replace_spec(json!(3)).unwrap()).await,
        Err(Error::Conflict { .. })
    ));
    objects
        .delete(&key("a"), Preconditions::default())
        .await
        .unwrap();
    assert!(matches!(
        objects.put(second).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn generated_names_differ_and_keep_the_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let document = json!({
        "apiVersion": "tidegate.dev/v1", "kind": "Thing", "metadata": {"generateName": "job-", "namespace": "default"},
    });
    let mut names = std::collections::HashSet::new();
    for _ in 0..50 {
        let object = store
            .objects()
            .create(Object::new(document.clone()).unwrap())
            .await
            .unwrap();
        let name = object.key().name().to_owned();
        assert!(name.starts_with("job-") && name.len() == 9, "{name}");
        assert_eq!(
            store.objects().get(object.key()).await.unwrap().metadata()["name"],
            json!(name)
        );
        names.insert(name);
    }
    assert_eq!(names.len(), 50);
}

#[tokio::test]
async fn deletion_asks_preconditions_and_waits_for_finalizers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects();
    let held = objects
        .create(with_metadata(
            "a",
            json!({"finalizers": ["x.dev/one", "x.dev/two"]}),
        ))
        .await
        .unwrap();
    for wrong in [
        Preconditions {
            uid: Some("other".to_owned()),
            resource_version: None,
        },
        Preconditions {
            uid: None,
            resource_version: Some(ResourceVersion::new(99)),
        },
    ] {
        assert!(matches!(
            objects.delete(&key("a"), wrong).await,
            Err(Error::Conflict { .. })
        ));
    }
    let right = Preconditions {
        uid: Some(held.uid().to_owned()),
        resource_version: held.resource_version(),
    };
    let Deletion::Waiting(marked) = objects.delete(&key("a"), right).await.unwrap() else {
        panic!("removed")
    };
    assert!(marked.deletion_timestamp().is_some());
    assert_eq!(
        objects
            .delete(&key("a"), Preconditions::default())
            .await
            .unwrap(),
        Deletion::Waiting(marked.clone())
    );
    let keep = |object: Object, list: Value| {
        object
            .edit_metadata(|m| drop(m.insert("finalizers".into(), list)))
            .unwrap()
    };
    let one = objects
        .update(keep(marked, json!(["x.dev/two"])))
        .await
        .unwrap();
    assert_eq!(objects.get(&key("a")).await.unwrap(), one);
    objects.update(keep(one, json!([]))).await.unwrap();
    assert!(matches!(
        objects.get(&key("a")).await,
        Err(Error::NotFound { .. })
    ));
}

/// Waits until the watch has told of the deletion of all these names.
async fn deleted(watch: &mut tidegate_store::Watch, names: &[&str]) {
    let mut left: Vec<&str> = names.to_vec();
    while !left.is_empty() {
        if let Event::Deleted(object) = watch.next().await.unwrap().unwrap() {
            left.retain(|name| *name != object.key().name());
        }
    }
}

#[tokio::test]
async fn what_belongs_only_to_the_deleted_goes_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects();
    let parent = objects.create(thing("parent", json!(1))).await.unwrap();
    let other = objects.create(thing("other", json!(1))).await.unwrap();
    let owned = |name, owner: &Object| {
        thing(name, json!(1))
            .owned_by(&owner.owner_reference())
            .unwrap()
    };
    let child = objects.create(owned("child", &parent)).await.unwrap();
    objects.create(owned("grandchild", &child)).await.unwrap();
    objects
        .create(
            owned("shared", &parent)
                .owned_by(&other.owner_reference())
                .unwrap(),
        )
        .await
        .unwrap();
    let mut watch = objects.watch(&Query::everything(), None).unwrap();
    objects
        .delete(&key("parent"), Preconditions::default())
        .await
        .unwrap();
    deleted(&mut watch, &["parent", "child", "grandchild"]).await;
    objects.get(&key("shared")).await.unwrap();
    objects
        .delete(&key("other"), Preconditions::default())
        .await
        .unwrap();
    deleted(&mut watch, &["other", "shared"]).await;
    // Who comes after the owner went does not stay.
    objects.create(owned("late", &parent)).await.unwrap();
    deleted(&mut watch, &["late"]).await;
    assert!(
        objects
            .list(&Query::everything(), None, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn orphans_left_by_a_crash_are_collected_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let parent = store
        .objects()
        .create(thing("parent", json!(1)))
        .await
        .unwrap();
    store
        .objects()
        .create(
            thing("child", json!(1))
                .owned_by(&parent.owner_reference())
                .unwrap(),
        )
        .await
        .unwrap();
    drop(store);
    // As if the process had died between the two commits.
    let database = rusqlite::Connection::open(dir.path().join("objects.db")).unwrap();
    database
        .execute("DELETE FROM objects WHERE name = 'parent'", [])
        .unwrap();
    drop(database);
    let store = open(dir.path());
    // The writer looks for orphans before it takes requests, so after an answer the child is gone or in this commit.
    store.objects().create(thing("a", json!(1))).await.unwrap();
    store.objects().create(thing("b", json!(1))).await.unwrap();
    assert!(matches!(
        store.objects().get(&key("child")).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn lists_choose_page_and_show_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects();
    for n in 0..25 {
        objects
            .create(with_metadata(
                &format!("n{n:02}"),
                json!({"labels": {"odd": (n % 2).to_string()}}),
            ))
            .await
            .unwrap();
    }
    for (kind, namespace) in [("Other", "default"), ("Thing", "elsewhere"), ("Thing", "")] {
        let key = ObjectKey::new("tidegate.dev/v1", kind, namespace, "x").unwrap();
        objects
            .create(Object::with_spec(&key, json!(1)).unwrap())
            .await
            .unwrap();
    }
    let things = Query::kind("tidegate.dev/v1", "Thing");
    let count = async |query: &Query| objects.list(query, None, None).await.unwrap().items.len();
    assert_eq!(count(&Query::everything()).await, 28);
    assert_eq!(count(&things).await, 27);
    assert_eq!(count(&things.clone().namespace("default")).await, 25);
    assert_eq!(count(&things.clone().namespace("")).await, 1);
    assert_eq!(
        count(&things.clone().labels("odd=1".parse().unwrap())).await,
        12
    );
    assert_eq!(count(&Query::kind("tidegate.dev/v2", "Thing")).await, 0);

    let mut names = Vec::new();
    let mut from = None;
    let odd = things.namespace("default").labels("odd=1".parse().unwrap());
    loop {
        let page = objects.list(&odd, Some(5), from.as_deref()).await.unwrap();
        assert_eq!(page.resource_version, ResourceVersion::new(28));
        names.extend(
            page.items
                .iter()
                .map(|object| object.key().name().to_owned()),
        );
        let Some(next) = page.next else { break };
        // What happens between pages moves neither the version nor the place.
        objects
            .put(thing("a-new-one", json!(names.len())))
            .await
            .unwrap();
        from = Some(next);
    }
    let expected: Vec<String> = (0..25)
        .filter(|n| n % 2 == 1)
        .map(|n| format!("n{n:02}"))
        .collect();
    assert_eq!(names, expected);
    assert!(matches!(
        objects.list(&odd, None, Some("nonsense")).await,
        Err(Error::Invalid { .. })
    ));
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(".{0,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn any_document_round_trips() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) }, |(spec in json_value(), status in json_value())| {
        runtime.block_on(async {
            let written = store.objects().put(thing("a", spec.clone())).await.unwrap().object();
            store.objects().update_status(written.replace_status(status.clone()).unwrap()).await.unwrap();
            let stored = store.objects().get(&key("a")).await.unwrap();
            prop_assert_eq!(stored.spec(), Some(&spec));
            prop_assert_eq!(stored.status(), Some(&status));
            Ok(())
        })?;
    });
}

#[tokio::test]
async fn objects_are_listed_by_the_beginning_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for name in ["f", "f-1", "f-2", "f-g-1", "f.1", "g-1", "e-1"] {
        let object = thing(name, json!(1));
        store.objects().create(object).await.unwrap();
    }
    let kind = key("f");
    let of = Query::kind(kind.api_version(), kind.kind());
    let names = async |query: &Query, limit| {
        let (mut names, mut from) = (Vec::new(), None::<String>);
        loop {
            let page = store
                .objects()
                .list(query, limit, from.as_deref())
                .await
                .unwrap();
            names.extend(page.items.iter().map(|o| o.key().name().to_owned()));
            from = page.next;
            if from.is_none() {
                return names;
            }
        }
    };
    let prefixed = of.clone().name_prefix("f-");
    for limit in [None, Some(1)] {
        assert_eq!(names(&prefixed, limit).await, ["f-1", "f-2", "f-g-1"]);
    }
    assert_eq!(names(&of.name_prefix("nobody"), None).await, [""; 0]);
}
