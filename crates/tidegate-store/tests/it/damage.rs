//! Bits flipped in rows, in the log, in the counter; commits cut off.

use std::fs;
use std::path::Path;

use serde_json::json;
use tidegate_store::{Error, Preconditions, Query, ResourceVersion, Store};

use crate::{key, open, thing};

/// Stores these things and closes the store.
async fn fill(path: &Path, names: &[&str]) {
    let store = open(path);
    for name in names {
        store
            .objects()
            .create(thing(name, json!({"marker": format!("marker-of-{name}")})))
            .await
            .unwrap();
    }
}

/// Flips one bit at `offset` into the only place where `needle` stands in the file.
fn flip(path: &Path, needle: &str, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    let mut places = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle.as_bytes());
    let at = places
        .next()
        .unwrap_or_else(|| panic!("{needle} is not in the file"))
        .0;
    assert!(
        places.next().is_none(),
        "{needle} is more than once in the file"
    );
    bytes[at + offset] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_flip_in_a_row_is_reported_and_the_rest_works() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["a", "b", "c"]).await;
    flip(&dir.path().join("objects.db"), "marker-of-b", 3);
    let (store, report) = tidegate_store::open(dir.path()).unwrap();
    assert!(!report.is_clean());
    assert_eq!((report.objects, report.damaged_count), (3, 1));
    assert_eq!(report.damaged[0].key, key("b"));
    let objects = store.objects();
    match objects.get(&key("b")).await {
        Err(Error::Damaged { key: named, .. }) => assert_eq!(named, key("b")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        objects.put(thing("b", json!(1))).await,
        Err(Error::Damaged { .. })
    ));
    assert!(matches!(
        objects.create(thing("b", json!(1))).await,
        Err(Error::Damaged { .. })
    ));
    assert!(matches!(
        objects.delete(&key("b"), Preconditions::default()).await,
        Err(Error::Damaged { .. })
    ));
    let page = objects
        .list(&Query::everything(), None, None)
        .await
        .unwrap();
    assert_eq!(page.damaged, [key("b")]);
    assert_eq!(page.items.len(), 2);
    objects
        .update(
            objects
                .get(&key("a"))
                .await
                .unwrap()
                .replace_spec(json!(2))
                .unwrap(),
        )
        .await
        .unwrap();

    assert!(matches!(
        objects.discard_damaged(&key("a")).await,
        Err(Error::Invalid { .. })
    ));
    objects.discard_damaged(&key("b")).await.unwrap();
    objects.create(thing("b", json!("new"))).await.unwrap();
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn flips_all_over_the_file_are_never_taken_for_data() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
    fill(
        dir.path(),
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let path = dir.path().join("objects.db");
    let whole = fs::read(&path).unwrap();
    let originals = {
        let store = open(dir.path());
        store
            .objects()
            .list(&Query::everything(), None, None)
            .await
            .unwrap()
            .items
    };
    let mut opened = 0;
    // Past the file's header, where page size and magic stand and nothing can be read after a flip.
    for at in (100..whole.len()).step_by(whole.len() / 150) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        for extra in ["objects.db-wal", "objects.db-shm"] {
            drop(fs::remove_file(dir.path().join(extra)));
        }
        let Ok((store, report)) = tidegate_store::open(dir.path()) else {
            continue;
        };
        opened += 1;
        for original in &originals {
            match store.objects().get(original.key()).await {
                Ok(object) => assert_eq!(object, *original, "byte {at}"),
                Err(_) => assert!(
                    !report.is_clean(),
                    "byte {at}: {} is lost in silence",
                    original.key()
                ),
            }
        }
    }
    assert!(opened > 50, "only {opened} opened");
}

#[tokio::test]
async fn a_damaged_counter_never_repeats_a_version() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["a", "b"]).await;
    let database = rusqlite::Connection::open(dir.path().join("objects.db")).unwrap();
    database
        .execute("UPDATE counters SET value = 1", [])
        .unwrap();
    drop(database);
    let (store, report) = tidegate_store::open(dir.path()).unwrap();
    assert!(
        report.structure[0].contains("counter of versions"),
        "{report:?}"
    );
    let next = store
        .objects()
        .create(thing("c", json!(1)))
        .await
        .unwrap()
        .resource_version();
    assert!(next > Some(ResourceVersion::new(1000)));
    drop(store);
    open(dir.path());
}

/// Copies the folder of a store that is still open: what a kill at this moment leaves.
fn killed(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["objects.db", "objects.db-wal", "objects.mark"] {
        fs::copy(from.join(name), to.path().join(name)).unwrap();
    }
    to
}

#[tokio::test]
async fn a_flip_in_the_log_is_reported_with_a_copy_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..10 {
        store
            .objects()
            .create(thing(&format!("n{n}"), json!({"marker": "x".repeat(3000)})))
            .await
            .unwrap();
    }
    let whole = killed(dir.path());
    assert_eq!(
        open(whole.path())
            .objects()
            .list(&Query::everything(), None, None)
            .await
            .unwrap()
            .items
            .len(),
        10
    );

    let damaged = killed(dir.path());
    let log = damaged.path().join("objects.db-wal");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let (store, report) = tidegate_store::open(damaged.path()).unwrap();
    let wal = report.wal.as_ref().unwrap();
    assert!(wal.commits > 0 && wal.first_bad_frame > 0);
    assert_eq!(fs::read(&wal.kept).unwrap(), bytes);
    let (noted, found) = report.missing.unwrap();
    assert_eq!(noted, ResourceVersion::new(10));
    assert!(found < noted);
    // What is left works, and no version is given out again.
    let left = store
        .objects()
        .list(&Query::everything(), None, None)
        .await
        .unwrap();
    assert_eq!(left.items.len() as u64, found.get());
    assert_eq!(left.resource_version, noted);
    store
        .objects()
        .watch(&Query::everything(), Some(left.resource_version))
        .unwrap();
    let next = store
        .objects()
        .create(thing("next", json!(1)))
        .await
        .unwrap();
    assert_eq!(next.resource_version(), Some(ResourceVersion::new(11)));
}

#[tokio::test]
async fn a_lost_last_commit_is_noticed_though_the_log_looks_torn() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for name in ["a", "b"] {
        store.objects().create(thing(name, json!(1))).await.unwrap();
    }
    let cut = killed(dir.path());
    let log = cut.path().join("objects.db-wal");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let (store, report) = tidegate_store::open(cut.path()).unwrap();
    assert_eq!(report.wal, None);
    assert_eq!(
        report.missing,
        Some((ResourceVersion::new(2), ResourceVersion::new(1)))
    );
    assert!(matches!(
        store.objects().get(&key("b")).await,
        Err(Error::NotFound { .. })
    ));
    drop(store);
    let gone = killed(dir.path());
    fs::remove_file(gone.path().join("objects.db-wal")).unwrap();
    let (_store, report): (Store, _) = tidegate_store::open(gone.path()).unwrap();
    assert_eq!(
        report.missing,
        Some((ResourceVersion::new(2), ResourceVersion::new(0)))
    );
}
