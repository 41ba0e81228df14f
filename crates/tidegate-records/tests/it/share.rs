//! No namespace pushes out what the others left.

use tidegate_core::{Limit, Outcome};
use tidegate_records::{Fate, Period, Query, UsageQuery};

use crate::{all, function, ids, open, record, small};

#[tokio::test]
async fn of_refused_calls_a_few_a_second_leave_a_record_and_all_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let now_us = crate::now_us();
    for namespace in ["one", "two"] {
        let hello = function(namespace, "hello");
        let account = recorder.account(&hello);
        for n in 0..1000_u64 {
            let mut refused = record(&hello, Outcome::Limit(Limit::Quota));
            refused.instance = None;
            refused.received_us = now_us / 1_000_000 * 1_000_000 + n;
            account.ended(&refused);
        }
        // What reached an instance, and what failed, is no refusal.
        assert_eq!(
            account.ended(&record(&hello, Outcome::Function)),
            Fate::Recorded
        );
    }
    assert_eq!(all(&recorder, Query::default()).await.len(), 22);
    assert_eq!(recorder.stats().refusals, 1980);
    let query = UsageQuery {
        by: Period::All,
        ..UsageQuery::default()
    };
    for row in recorder.usage(query).await.unwrap() {
        assert_eq!(row.totals.invocations(), 1001);
        assert_eq!(row.totals.unrecorded, 990);
    }
}

#[tokio::test]
async fn a_namespace_that_fails_all_the_time_leaves_the_others_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small();
    options.records.keep_bytes = 400 * 1024;
    let recorder = open(dir.path(), options);
    let (quiet, loud) = (function("quiet", "hello"), function("loud", "hello"));
    let (few, many) = (recorder.account(&quiet), recorder.account(&loud));
    let kept: Vec<_> = (0..50).map(|_| record(&quiet, Outcome::Function)).collect();
    for record in &kept {
        assert_eq!(few.ended(record), Fate::Recorded);
    }
    let mut left = 0;
    for _ in 0..60 {
        for _ in 0..200 {
            left += u64::from(many.ended(&record(&loud, Outcome::Function)) == Fate::Recorded);
        }
        recorder.flush().await.unwrap();
    }
    let of_quiet = Query {
        namespace: Some("quiet".into()),
        ..Query::default()
    };
    let mut found = ids(&all(&recorder, of_quiet).await);
    found.reverse();
    assert_eq!(found, ids(&kept));
    let stats = recorder.stats();
    assert!(stats.bytes_on_disk <= 400 * 1024, "{stats:?}");
    assert_eq!(stats.over_share, 12_000 - left, "{stats:?}");
    assert!(left > 1000 && stats.over_share > 1000, "{left}, {stats:?}");
    assert_eq!((stats.shed, stats.lost), (0, 0));
    // The others may go on.
    assert_eq!(few.ended(&record(&quiet, Outcome::Ok)), Fate::Recorded);
}

#[tokio::test]
async fn a_namespace_alone_may_fill_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small();
    options.records.keep_bytes = 50 * 1024;
    let recorder = open(dir.path(), options);
    let hello = function("only", "hello");
    let account = recorder.account(&hello);
    for _ in 0..3000 {
        assert_eq!(account.ended(&record(&hello, Outcome::Ok)), Fate::Recorded);
    }
    assert_eq!(recorder.stats().over_share, 0);
}
