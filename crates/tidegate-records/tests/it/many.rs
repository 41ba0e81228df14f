//! A start does not read what is kept.

use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_core::{InvocationId, Outcome};
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

#[tokio::test]
async fn a_question_passes_over_what_cannot_have_the_answer_without_reading_it() {
    let dir = tempfile::tempdir().unwrap();
    let hello = function("default", "hello");
    let recorder = open(dir.path(), crate::small());
    let account = recorder.account(&hello);
    let mut last = record(&hello, Outcome::Ok);
    for hour in 0..12_u64 {
        for n in 0..400_u64 {
            // Each segment is of a time of its own.
            last.received_us = (1_000_000 + hour * 3600) * 1_000_000;
            let made_ms = u128::from(last.received_us / 1000);
            last.id = InvocationId::from_u128(made_ms << 80 | u128::from(n));
            account.ended(&last);
        }
        recorder.flush().await.unwrap();
    }
    recorder.close().await.unwrap();
    drop((recorder, account));
    let indexes = files(&dir.path().join("records"), ".index");
    assert!(indexes.len() > 8, "{indexes:?}");
    // Whoever reads more than the head of one of these makes it anew.
    let spoiled: Vec<_> = indexes[..8].iter().map(|path| spoil(path)).collect();
    let recorder = open(dir.path(), crate::small());
    assert_eq!(recorder.get(last.id).await.unwrap(), Some(last.clone()));
    let late = Query {
        since_us: Some(last.received_us),
        ..Query::default()
    };
    assert_eq!(crate::all(&recorder, late).await.len(), 400);
    let read: Vec<_> = indexes[..8]
        .iter()
        .map(|p| std::fs::read(p).unwrap())
        .collect();
    assert!(read == spoiled, "an index was read in vain");
    assert_eq!(crate::all(&recorder, Query::default()).await.len(), 4800);
    let read: Vec<_> = indexes[..8]
        .iter()
        .map(|p| std::fs::read(p).unwrap())
        .collect();
    assert!(
        read.iter()
            .zip(&spoiled)
            .all(|(read, spoiled)| read != spoiled)
    );
}

/// Flips a bit behind the head of an index; gives what it is now.
fn spoil(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[80] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    bytes
}
