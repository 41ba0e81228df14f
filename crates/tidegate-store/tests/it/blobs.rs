//! Blobs: whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tidegate_store::{BlobError, Digest, PUT_PART_BYTES};

use crate::open;

fn chunks(chunks: &[&[u8]]) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::iter(
        chunks
            .iter()
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect::<Vec<_>>(),
    )
}

fn files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[tokio::test]
async fn stored_read_listed_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blobs = store.blobs();
    let large: Vec<u8> = (0..PUT_PART_BYTES * 2 + 7)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let digest = blobs
        .put_stream(
            None,
            chunks(&[&large[..100], &large[100..]]),
            large.len() as u64,
        )
        .await
        .unwrap();
    assert_eq!(digest, Digest::of(&large));
    let empty = blobs.put_bytes(Bytes::new()).await.unwrap();
    assert_eq!(
        blobs.get_bytes(&digest, large.len() as u64).await.unwrap(),
        large
    );
    assert_eq!(blobs.get_bytes(&empty, 0).await.unwrap(), Bytes::new());
    let (size, bytes) = blobs.get(&digest).await.unwrap();
    let read: Vec<Bytes> = bytes.try_collect().await.unwrap();
    assert_eq!((size, read.concat()), (large.len() as u64, large.clone()));
    assert!(matches!(
        blobs.get_bytes(&digest, 10).await,
        Err(BlobError::TooLarge { max: 10 })
    ));

    let mut listed: Vec<_> = blobs.list().try_collect().await.unwrap();
    listed.sort();
    let mut expected = [(digest, large.len() as u64), (empty, 0)];
    expected.sort();
    assert_eq!(listed, expected);
    assert!(blobs.exists(&digest).await.unwrap());
    assert!(blobs.delete(&digest).await.unwrap());
    assert!(!blobs.delete(&digest).await.unwrap());
    assert!(!blobs.exists(&digest).await.unwrap());
    assert!(matches!(
        blobs.get(&digest).await.map(drop),
        Err(BlobError::NotFound { .. })
    ));
}

#[tokio::test]
async fn nothing_remains_of_what_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blobs = store.blobs();
    let other = Digest::of(b"other");
    assert!(matches!(
        blobs.put_stream(Some(other), chunks(&[b"x"]), 9).await,
        Err(BlobError::Mismatch { .. })
    ));
    assert!(matches!(
        blobs
            .put_stream(None, chunks(&[b"12345", b"67890"]), 9)
            .await,
        Err(BlobError::TooLarge { max: 9 })
    ));
    let broken = chunks(&[b"x"]).chain(stream::iter([Err(io::Error::other("cut off"))]));
    match blobs.put_stream(None, broken, 9).await {
        Err(error @ BlobError::Source(_)) => assert!(error.to_string().ends_with("cut off")),
        other => panic!("{other:?}"),
    }
    // A caller that goes away in the middle.
    let endless = chunks(&[b"x"]).chain(stream::pending());
    let mut put = Box::pin(blobs.put_stream(None, endless, 9));
    assert!(futures_util::poll!(&mut put).is_pending());
    drop(put);
    // That one is removed in the background.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !files(&dir.path().join("blobs")).is_empty() {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            files(&dir.path().join("blobs"))
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(blobs.list().count().await, 0);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path())
        .blobs()
        .put_bytes(Bytes::from_static(b"kept"))
        .await
        .unwrap();
    fs::write(dir.path().join("blobs/unfinished/0#1"), "half").unwrap();
    let (store, report) = tidegate_store::open(dir.path()).unwrap();
    assert_eq!(report.unfinished_blobs, 1);
    assert!(files(&dir.path().join("blobs/unfinished")).is_empty());
    assert!(store.blobs().exists(&Digest::of(b"kept")).await.unwrap());
}

#[tokio::test]
async fn damage_is_noticed_and_healed_by_storing_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blobs = store.blobs();
    let digest = blobs
        .put_bytes(Bytes::from_static(b"some bytes"))
        .await
        .unwrap();
    let path = files(&dir.path().join("blobs/sha256")).pop().unwrap();
    for damaged in ["some bytez", "some", "some bytes and more"] {
        fs::write(&path, damaged).unwrap();
        match blobs.get_bytes(&digest, 100).await {
            Err(BlobError::Damaged {
                digest: named,
                found,
            }) => {
                assert_eq!((named, found), (digest, Digest::of(damaged.as_bytes())));
            }
            other => panic!("{other:?}"),
        }
        let last = blobs
            .get(&digest)
            .await
            .unwrap()
            .1
            .collect::<Vec<_>>()
            .await
            .pop();
        assert!(matches!(last, Some(Err(BlobError::Damaged { .. }))));
    }
    blobs
        .put_bytes(Bytes::from_static(b"some bytes"))
        .await
        .unwrap();
    assert_eq!(blobs.get_bytes(&digest, 100).await.unwrap(), "some bytes");
}
