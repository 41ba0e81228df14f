//! A start does not read what is kept.

use std::time::{Duration, Instant};

use tidegate_core::Outcome;
use tidegate_records::{Options, Query};

use crate::{files, function, open, record};

#[tokio::test]
async fn a_start_with_many_records_reads_few_of_them() {
    const RECORDS: usize = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let options = || {
        let mut options = Options::default();
        options.records.segment_bytes = 256 * 1024;
        options
    };
    let recorder = open(dir.path(), options());
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    let sample = record(&hello, Outcome::Function);
    for n in 0..RECORDS {
        let mut record = sample.clone();
        record.id = crate::new_id();
        record.cause.name = Some(format!("trigger-{}", n / 1000).into());
        account.ended(&record);
        if n % 5000 == 4999 {
            // One write and more than a segment.
            recorder.flush().await.unwrap();
        }
    }
    recorder.close().await.unwrap();
    drop((recorder, account));
    let folder = dir.path().join("records");
    let segments = files(&folder, ".records");
    assert!(segments.len() > 6, "{segments:?}");
    // An old segment that cannot be read at all would be noticed by whoever reads it.
    let garbage = std::fs::metadata(&segments[0]).unwrap().len() as usize;
    std::fs::write(&segments[0], vec![0xa5; garbage]).unwrap();
    // Indexes are made when somebody asks.
    for index in files(&folder, ".index").iter().skip(5) {
        std::fs::remove_file(index).unwrap();
    }
    let begun = Instant::now();
    let recorder = open(dir.path(), options());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(files(&folder, ".index").len(), 5);

    let query = Query {
        trigger: Some(format!("trigger-{}", RECORDS / 1000 - 1).into()),
        ..Query::default()
    };
    assert_eq!(crate::all(&recorder, query).await.len(), 1000);
    let everything = crate::all(&recorder, Query::default()).await;
    assert!(everything.len() < RECORDS && everything.len() > RECORDS / 2);
    assert!(recorder.stats().damaged > 0);
    // The last one may still be written to.
    assert!(files(&folder, ".index").len() >= segments.len() - 1);
}
