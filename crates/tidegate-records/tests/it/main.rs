//! The recorder as its users see it.

mod damage;
mod full;
mod kill;
mod lines;
mod many;
mod records;
mod retention;
mod share;
mod usage;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::record::{Cause, Record, Times, Used};
use tidegate_core::{FunctionKey, InstanceId, InvocationId, Outcome};
use tidegate_records::{Options, Query, Recorder, Retention};

/// Small segments, so that a test has many.
fn small() -> Options {
    let mut options = Options::default();
    let retention = |retention| Retention {
        segment_bytes: 16 * 1024,
        ..retention
    };
    options.records = retention(options.records);
    options.lines = retention(options.lines);
    options
}

/// Opens a folder and expects nothing wrong with it.
fn open(folder: &Path, options: Options) -> Recorder {
    let (recorder, report) = Recorder::open(folder, options).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    assert!(!report.usage_rebuilt, "{report:?}");
    recorder
}

fn function(namespace: &str, name: &str) -> Arc<FunctionKey> {
    Arc::new(FunctionKey {
        namespace: namespace.into(),
        group: "".into(),
        name: name.into(),
    })
}

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros() as u64
}

/// An id that was made now.
fn new_id() -> InvocationId {
    InvocationId::from_u128(uuid::Uuid::now_v7().as_u128())
}

/// A call that arrived now and ended so.
fn record(function: &Arc<FunctionKey>, outcome: Outcome) -> Record {
    Record {
        id: new_id(),
        cause: Cause::default(),
        trace: None,
        function: function.clone(),
        revision: "r-1".into(),
        received_us: now_us(),
        times: Times {
            queue_us: 10,
            cold: None,
            run_us: 1500,
        },
        outcome,
        message: None,
        status: Some(200),
        bytes_in: 1,
        bytes_out: 100,
        used: Used::Alone {
            cpu_us: 700,
            memory_peak: 1 << 20,
        },
        memory_limit: 128 << 20,
        instance: Some(InstanceId(1)),
    }
}

/// All records that match, over all pages.
async fn all(recorder: &Recorder, mut query: Query) -> Vec<Record> {
    let mut found = Vec::new();
    loop {
        let page = recorder.query(query.clone()).await.unwrap();
        found.extend(page.items);
        query.after = page.next;
        if query.after.is_none() {
            return found;
        }
    }
}

fn ids(records: &[Record]) -> Vec<InvocationId> {
    records.iter().map(|record| record.id).collect()
}

/// The files of a folder with this ending, in the order of their names.
fn files(folder: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    paths.sort();
    paths
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
