//! Full disks, wrong folders, newer data, large documents.

use std::fs;

use serde_json::json;
use tidegate_store::{
    Error, MAX_DOCUMENT_BYTES, OpenError, Options, Preconditions, Query, open_with,
};

use crate::{key, open, thing};

#[tokio::test]
async fn documents_over_the_limit_are_refused_with_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let fits = thing("a", json!("x".repeat(MAX_DOCUMENT_BYTES - 200)));
    let large = thing("a", json!("x".repeat(MAX_DOCUMENT_BYTES)));
    assert!(matches!(
        store.objects().create(large.clone()).await,
        Err(Error::TooLarge {
            max: MAX_DOCUMENT_BYTES,
            ..
        })
    ));
    let stored = store.objects().create(fits).await.unwrap();
    assert!(matches!(
        store.objects().update(large).await,
        Err(Error::TooLarge { .. })
    ));
    let status = stored
        .clone()
        .replace_status(json!("y".repeat(300)))
        .unwrap();
    assert!(matches!(
        store.objects().update_status(status).await,
        Err(Error::TooLarge { .. })
    ));
    assert_eq!(store.objects().get(&key("a")).await.unwrap(), stored);
}

#[tokio::test]
async fn a_full_database_says_so_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_database_bytes = 1024 * 1024;
    let (store, _) = open_with(dir.path(), &options).unwrap();
    let objects = store.objects();
    let large = |n: usize| thing(&format!("n{n}"), json!("x".repeat(200_000)));
    let results = futures_util::future::join_all((0..20).map(|n| objects.create(large(n)))).await;
    let kept = results.iter().filter(|result| result.is_ok()).count();
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(
            matches!(error, Error::Full { path } if path.ends_with("objects.db")),
            "{error}"
        );
    }
    // Whatever was answered with success is there, and nothing else.
    let page = objects
        .list(&Query::everything(), None, None)
        .await
        .unwrap();
    assert_eq!(page.items.len(), kept);
    assert!(kept < 20);
    // Small ones still fit, and room that was freed is used again.
    for object in page.items {
        objects
            .delete(object.key(), Preconditions::default())
            .await
            .unwrap();
    }
    objects.create(large(100)).await.unwrap();
    drop(store);
    open(dir.path()).objects().get(&key("n100")).await.unwrap();
}

#[tokio::test]
async fn a_locked_folder_names_the_process_and_frees_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let objects = store.objects().clone();
    drop(store);
    let error = tidegate_store::open(dir.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("in use by process {}", std::process::id())),
        "{error}"
    );
    drop(objects);
    open(dir.path());
}

#[tokio::test]
async fn newer_data_and_foreign_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path())
        .objects()
        .create(thing("a", json!(1)))
        .await
        .unwrap();
    let path = dir.path().join("objects.db");
    let log = dir.path().join("objects.db-wal");
    // A newer server was killed: its version is still in the log.
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer
        .set_db_config(
            rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
            true,
        )
        .unwrap();
    newer.pragma_update(None, "user_version", 999).unwrap();
    drop(newer);
    let before = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    assert!(!before.1.is_empty());
    match tidegate_store::open(dir.path()) {
        Err(OpenError::NewerData {
            found: 999, known, ..
        }) => assert!(known < 999),
        other => panic!("{other:?}"),
    }
    assert_eq!((fs::read(&path).unwrap(), fs::read(&log).unwrap()), before);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(
        tidegate_store::open(dir.path()),
        Err(OpenError::NotOurs { found: 0, .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, "not a database at all, but long enough to have a header of a hundred bytes, or so it would seem to be").unwrap();
    assert!(matches!(
        tidegate_store::open(dir.path()),
        Err(OpenError::Store(Error::Corrupt { .. }))
    ));
}
