//! Damage costs what is damaged, and is told.

use std::fs;
use std::path::Path;

use tidegate_core::{InvocationId, Outcome};
use tidegate_records::{Options, Period, Query, Recorder, UsageQuery};

use crate::{all, files, function, ids, open, record, small};

/// Writes so many batches of ten records each and closes.
async fn write(folder: &Path, options: Options, batches: usize) -> Vec<Vec<InvocationId>> {
    let recorder = open(folder, options);
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    let mut written = Vec::new();
    for _ in 0..batches {
        let records: Vec<_> = (0..10).map(|_| record(&hello, Outcome::Ok)).collect();
        for record in &records {
            account.ended(record);
        }
        recorder.flush().await.unwrap();
        written.push(ids(&records));
    }
    recorder.close().await.unwrap();
    written
}

async fn counted(recorder: &Recorder) -> u64 {
    let query = UsageQuery {
        by: Period::All,
        ..UsageQuery::default()
    };
    let rows = recorder.usage(query).await.unwrap();
    rows.iter().map(|row| row.totals.invocations()).sum()
}

async fn found(recorder: &Recorder) -> Vec<InvocationId> {
    let mut found = ids(&all(recorder, Query::default()).await);
    found.reverse();
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_batch_is_lost_alone_and_reported_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), Options::default(), 5).await;
    let segment = files(&dir.path().join("records"), ".records")
        .pop()
        .unwrap();
    let length = fs::metadata(&segment).unwrap().len() as usize;
    flip(&segment, length / 2);
    let (recorder, report) = Recorder::open(dir.path(), Options::default()).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(report.damage[0].path, segment);
    let left = [&written[..2], &written[3..]].concat().concat();
    assert_eq!(found(&recorder).await, left);
    // The checkpoint had counted it.
    assert_eq!(counted(&recorder).await, 50);
}

#[tokio::test]
async fn a_torn_end_is_unfinished_and_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), Options::default(), 3).await;
    // As if nothing had been counted yet.
    fs::remove_dir_all(dir.path().join("usage")).unwrap();
    let segment = files(&dir.path().join("records"), ".records")
        .pop()
        .unwrap();
    let length = fs::metadata(&segment).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.set_len(length - 5).unwrap();
    let (recorder, report) = Recorder::open(dir.path(), Options::default()).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    assert!(report.unfinished_bytes > 100, "{report:?}");
    assert_eq!((report.replayed, report.usage_rebuilt), (2, true));
    assert_eq!(found(&recorder).await, written[..2].concat());
    assert_eq!(counted(&recorder).await, 20);
    recorder.close().await.unwrap();
    drop(recorder);
    let more = write(dir.path(), Options::default(), 2).await;
    let recorder = open(dir.path(), Options::default());
    assert_eq!(
        found(&recorder).await,
        [written[..2].concat(), more.concat()].concat()
    );
    assert_eq!(counted(&recorder).await, 40);
    assert_eq!(files(&dir.path().join("records"), ".records").len(), 1);
}

#[tokio::test]
async fn a_damaged_end_that_was_counted_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    // The end counts everything in a checkpoint.
    let written = write(dir.path(), Options::default(), 3).await;
    let folder = dir.path().join("records");
    let segment = files(&folder, ".records").pop().unwrap();
    let length = fs::metadata(&segment).unwrap().len();
    flip(&segment, length as usize - 20);
    let (recorder, report) = Recorder::open(dir.path(), Options::default()).unwrap();
    assert_eq!((report.damage.len(), report.unfinished_bytes), (1, 0));
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    account.ended(&record(&hello, Outcome::Ok));
    recorder.flush().await.unwrap();
    // What a crash would leave now is what is on disk.
    let crashed = tempfile::tempdir().unwrap();
    for part in ["records", "lines", "usage"] {
        fs::create_dir(crashed.path().join(part)).unwrap();
        for file in files(&dir.path().join(part), "") {
            let to = crashed.path().join(part).join(file.file_name().unwrap());
            fs::copy(&file, to).unwrap();
        }
    }
    let recorder = open(crashed.path(), Options::default());
    assert_eq!(found(&recorder).await.len(), 21);
    assert_eq!(found(&recorder).await[..20], written[..2].concat());
    assert_eq!(counted(&recorder).await, 31);
}

#[tokio::test]
async fn a_damaged_batch_of_an_old_segment_is_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), small(), 90).await;
    let segments = files(&dir.path().join("records"), ".records");
    assert!(segments.len() > 1, "{segments:?}");
    flip(&segments[0], 3000);
    let recorder = open(dir.path(), small());
    let left = found(&recorder).await;
    assert_eq!(left.len(), 890);
    assert_eq!(recorder.stats().damaged, 1);
    assert!(written.concat().starts_with(&left[..10]));
    assert_eq!(counted(&recorder).await, 900);
}

#[tokio::test]
async fn an_index_that_is_gone_or_damaged_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), small(), 60).await.concat();
    let folder = dir.path().join("records");
    for spoil in [
        |path: &Path| fs::remove_file(path).unwrap(),
        |path: &Path| flip(path, 30),
        |path: &Path| flip(path, 90),
        |path: &Path| {
            let length = fs::metadata(path).unwrap().len() as usize;
            flip(path, length - 20);
        },
        |path: &Path| fs::write(path, b"").unwrap(),
        |path: &Path| fs::write(path, vec![7; 5000]).unwrap(),
    ] {
        for index in files(&folder, ".index") {
            spoil(&index);
        }
        let recorder = open(dir.path(), small());
        for id in written.iter().step_by(37) {
            assert_eq!(recorder.get(*id).await.unwrap().map(|r| r.id), Some(*id));
        }
        assert_eq!(found(&recorder).await, written);
        assert_eq!(recorder.stats().damaged, 0);
    }
}

#[tokio::test]
async fn usage_is_right_whichever_checkpoint_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..6 {
        total += write(dir.path(), small(), 60).await.concat().len() as u64;
        let usage = dir.path().join("usage");
        let all = files(&usage, "");
        let checkpoints: Vec<_> = all
            .iter()
            .filter(|p| p.to_str().unwrap().contains("checkpoint-"))
            .collect();
        assert_eq!(checkpoints.len(), 2);
        let lost = match round % 3 {
            0 => &checkpoints[..1],
            1 => &checkpoints[1..],
            _ => &checkpoints[..],
        };
        for path in lost {
            if round < 3 {
                flip(path, 40);
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        let (recorder, report) = Recorder::open(dir.path(), small()).unwrap();
        assert_eq!(report.usage_rebuilt, round % 3 == 2, "{report:?}");
        assert_eq!(counted(&recorder).await, total, "round {round}");
        recorder.close().await.unwrap();
    }
}

#[tokio::test]
async fn files_of_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), small(), 30).await;
    let folder = dir.path().join("records");
    let orphan = format!("{:016x}-{:016x}.records.index", 1, 2);
    for name in ["notes.txt", "x.records", orphan.as_str()] {
        fs::write(folder.join(name), b"?").unwrap();
    }
    let recorder = open(dir.path(), small());
    assert_eq!(found(&recorder).await.len(), 300);
    assert!(folder.join("notes.txt").exists() && folder.join("x.records").exists());
    assert!(!folder.join(orphan).exists());
}

#[tokio::test]
async fn where_no_index_can_be_written_answers_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), small(), 60).await.concat();
    let folder = dir.path().join("records");
    let segments = files(&folder, ".records");
    let mut in_the_way = Vec::new();
    for segment in &segments {
        let index = format!("{}.index", segment.display());
        let _ = fs::remove_file(&index);
        let path = format!("{index}.new");
        fs::create_dir(&path).unwrap();
        in_the_way.push(path);
    }
    let recorder = open(dir.path(), small());
    assert_eq!(found(&recorder).await, written);
    let first = recorder.get(written[0]).await.unwrap();
    assert_eq!(first.map(|record| record.id), Some(written[0]));
    assert!(files(&folder, ".index").is_empty());
    for path in in_the_way {
        fs::remove_dir(path).unwrap();
    }
    assert_eq!(found(&recorder).await, written);
    assert!(!files(&folder, ".index").is_empty());
}
