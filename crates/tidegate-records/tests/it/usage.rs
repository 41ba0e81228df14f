//! Sums by the hour.

use tidegate_core::Outcome;
use tidegate_core::record::{ColdStart, Level};
use tidegate_records::{Period, Recorder, UsageQuery};

use crate::{function, now_us, open, record, small};

const HOUR: u64 = 3600;
/// 2023-11-14 at 22:00 UTC, in hours since the epoch.
const THEN: u64 = 472_222;

/// A call that ended in this hour.
fn call(recorder: &Recorder, namespace: &str, name: &str, hour: u64, outcome: Outcome) {
    let function = function(namespace, name);
    let mut record = record(&function, outcome);
    record.received_us = hour * HOUR * 1_000_000 + 17;
    recorder.account(&function).ended(&record);
}

async fn rows(recorder: &Recorder, query: UsageQuery) -> Vec<(String, u64, u64)> {
    let rows = recorder.usage(query).await.unwrap();
    let row = |row: tidegate_records::UsageRow| {
        let name = format!("{}/{}", row.function.namespace, row.function.name);
        (name, row.start / HOUR, row.totals.invocations())
    };
    rows.into_iter().map(row).collect()
}

#[tokio::test]
async fn a_sum_has_all_that_was_used() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    let mut call = record(&hello, Outcome::Ok);
    // 1.5 ms are billed as 2.
    account.ended(&call);
    call.outcome = Outcome::Function;
    call.times.cold = Some(ColdStart::default());
    account.ended(&call);
    call.outcome = Outcome::Platform;
    call.instance = None;
    account.ended(&call);
    account.set_level(Level::None);
    account.ended(&call);
    account.idle(now_us(), 2_000_000, 1 << 30);
    account.cpu(now_us(), 5);
    account.queued(now_us());
    let query = UsageQuery {
        by: Period::All,
        ..UsageQuery::default()
    };
    let row = recorder.usage(query).await.unwrap().pop().unwrap();
    let totals = &row.totals;
    assert_eq!(totals.invocations(), 4);
    assert_eq!(totals.ended(Outcome::Ok), 1);
    assert_eq!(totals.ended(Outcome::Platform), 2);
    assert_eq!(totals.outcomes().count(), 3);
    assert_eq!(totals.billed_us, 4000);
    assert_eq!(totals.billed_byte_us, 4000 * (128 << 20));
    assert_eq!(totals.cpu_us, 4 * 700 + 5);
    assert_eq!((totals.bytes_in, totals.bytes_out), (4, 400));
    assert_eq!((totals.cold_starts, totals.queued), (3, 1));
    assert_eq!(totals.idle_us, 2_000_000);
    assert_eq!(totals.idle_byte_us, 2_000_000 << 30);
    assert_eq!(totals.unrecorded, 1);
}

#[tokio::test]
async fn sums_are_by_function_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    for (hour, count) in [(THEN, 3), (THEN + 1, 2), (THEN + 30, 1)] {
        for _ in 0..count {
            call(&recorder, "a", "one", hour, Outcome::Ok);
        }
    }
    call(&recorder, "a", "two", THEN, Outcome::Ok);
    call(&recorder, "b", "one", THEN + 1, Outcome::Ok);
    let row = |name: &str, hour, count| (name.to_owned(), hour, count);
    let everything = [
        row("a/one", THEN, 3),
        row("a/two", THEN, 1),
        row("a/one", THEN + 1, 2),
        row("b/one", THEN + 1, 1),
        row("a/one", THEN + 30, 1),
    ];
    assert_eq!(rows(&recorder, UsageQuery::default()).await, everything);
    let query = UsageQuery {
        namespace: Some("a".into()),
        since: Some((THEN + 1) * HOUR),
        until: Some((THEN + 30) * HOUR),
        ..UsageQuery::default()
    };
    assert_eq!(rows(&recorder, query).await, [row("a/one", THEN + 1, 2)]);
    let query = UsageQuery {
        function: Some((*function("a", "one")).clone()),
        by: Period::Day,
        ..UsageQuery::default()
    };
    let day = THEN / 24 * 24;
    let days = [row("a/one", day, 5), row("a/one", day + 48, 1)];
    assert_eq!(rows(&recorder, query.clone()).await, days);
    let query = UsageQuery {
        by: Period::All,
        ..query
    };
    assert_eq!(rows(&recorder, query).await, [row("a/one", THEN, 6)]);
}

#[tokio::test]
async fn hours_that_are_over_can_still_be_added_to() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=4 {
        let recorder = open(dir.path(), small());
        // The hour was put away when the recorder was closed.
        call(&recorder, "a", "one", THEN, Outcome::Ok);
        call(&recorder, "a", "one", THEN + 1, Outcome::Ok);
        let all = UsageQuery {
            by: Period::All,
            ..UsageQuery::default()
        };
        assert_eq!(rows(&recorder, all.clone()).await[0].2, round * 2);
        recorder.close().await.unwrap();
        drop(recorder);
        let recorder = open(dir.path(), small());
        assert_eq!(rows(&recorder, all).await[0].2, round * 2);
    }
    let days = crate::files(&dir.path().join("usage"), ".hours");
    assert_eq!(days.len(), 1, "{days:?}");
}

#[tokio::test]
async fn a_namespaces_day_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for round in 1..=3 {
        let recorder = open(dir.path(), small());
        let f = function("a", "one");
        let account = recorder.account(&f);
        let mut record = record(&f, Outcome::Ok);
        record.memory_limit = 1 << 30;
        record.times.run_us = 250_000;
        let now = record.received_us + record.total_us();
        let before = recorder.namespace_today("a", now);
        // Unless midnight came in between.
        assert!(before == seen || before == 0, "{before} in round {round}");
        account.ended(&record);
        seen = before + 250_000;
        assert_eq!(account.namespace_today(now), seen);
        assert_eq!(recorder.namespace_today("b", now), 0);
        recorder.close().await.unwrap();
    }
}
