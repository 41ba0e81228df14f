//! What is old or too much goes.

use std::time::Duration;

use tidegate_core::Outcome;
use tidegate_records::{Query, UsageQuery};

use crate::{all, files, function, ids, open, record, small};

#[tokio::test]
async fn the_oldest_go_when_there_is_too_much_and_a_follower_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small();
    options.records.keep_bytes = 100 * 1024;
    let recorder = open(dir.path(), options);
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    let mut follow = recorder.follow(&Query::default());
    let mut written = Vec::new();
    for _ in 0..40 {
        for _ in 0..200 {
            let record = record(&hello, Outcome::Ok);
            account.ended(&record);
            written.push(record.id);
        }
        recorder.flush().await.unwrap();
    }
    let found = ids(&all(&recorder, Query::default()).await);
    assert!(found.len() < written.len());
    let newest: Vec<_> = written.iter().rev().take(found.len()).copied().collect();
    assert_eq!(found, newest);
    let size = recorder.stats().bytes_on_disk;
    // The segment that is written, and those since the last two checkpoints, stay whatever their size.
    assert!(size < 250 * 1024, "{size}");
    assert_eq!(recorder.get(written[0]).await.unwrap(), None);
    let (mut missed, mut read) = (0, 0);
    while missed + read < written.len() as u64 {
        let followed = follow.next().await.unwrap().unwrap();
        missed += followed.missed;
        read += followed.records.len() as u64;
    }
    assert!(missed > 0 && read >= found.len() as u64, "{missed} {read}");
    assert_eq!(missed + read, written.len() as u64);
    // What they used is not forgotten.
    let usage = recorder.usage(UsageQuery::default()).await.unwrap();
    let counted: u64 = usage.iter().map(|row| row.totals.invocations()).sum();
    assert_eq!(counted, written.len() as u64);
}

#[tokio::test]
async fn the_old_go_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small();
    options.records.keep_for = Duration::ZERO;
    let recorder = open(dir.path(), options);
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    for _ in 0..20 {
        for _ in 0..300 {
            account.ended(&record(&hello, Outcome::Ok));
        }
        recorder.flush().await.unwrap();
    }
    recorder.flush().await.unwrap();
    let folder = dir.path().join("records");
    let segments = files(&folder, ".records").len();
    assert!((1..=4).contains(&segments), "{segments}");
    assert!(files(&folder, ".index").len() < segments + 1);
}
