//! Writing and asking.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidegate_core::record::{Cause, CauseKind, Level, Record};
use tidegate_core::{Limit, Outcome};
use tidegate_records::{Error, Fate, OUTCOMES, Query, Recorder, Token};

use crate::{all, function, ids, new_id, now_us, open, record, small};

#[tokio::test]
async fn a_record_is_found_the_moment_its_call_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    for _ in 0..200 {
        let record = record(&hello, Outcome::Ok);
        assert_eq!(account.ended(&record), Fate::Recorded);
        assert_eq!(recorder.get(record.id).await.unwrap(), Some(record.clone()));
        let page = recorder
            .query(Query {
                limit: 1,
                ..Query::default()
            })
            .await;
        assert_eq!(page.unwrap().items, [record]);
    }
    assert_eq!(recorder.get(new_id()).await.unwrap(), None);
    assert_eq!(recorder.shed(), 0);
}

/// Records of three functions in two namespaces, in the order in which they ended.
fn fill(recorder: &Recorder, count: usize) -> Vec<Record> {
    let functions = [("a", "one"), ("a", "two"), ("b", "one")].map(|(ns, f)| function(ns, f));
    let accounts = functions.each_ref().map(|f| recorder.account(f));
    let parents = [new_id(), new_id()];
    let mut records = Vec::new();
    for n in 0..count {
        let mut record = record(&functions[n % 3], OUTCOMES[n % 7 % OUTCOMES.len()]);
        if n % 5 == 0 {
            record.cause = Cause {
                kind: CauseKind::Schedule,
                parent: Some(parents[n % 2]),
                name: Some(format!("trigger-{}", n % 4).into()),
                attempt: 0,
            };
        }
        assert_eq!(accounts[n % 3].ended(&record), Fate::Recorded);
        records.push(record);
    }
    records
}

#[tokio::test]
async fn pages_together_are_what_matches_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), small());
    let mut records = Vec::new();
    // In several batches and segments.
    for _ in 0..12 {
        records.extend(fill(&recorder, 120));
        recorder.flush().await.unwrap();
    }
    let parent = records.iter().find_map(|r| r.cause.parent).unwrap();
    let middle = records[700].received_us;
    let queries = [
        Query::default(),
        Query {
            namespace: Some("a".into()),
            ..Query::default()
        },
        Query {
            namespace: Some("nobody".into()),
            ..Query::default()
        },
        Query {
            function: Some((*function("b", "one")).clone()),
            ..Query::default()
        },
        Query {
            outcomes: vec![Outcome::Platform, Outcome::Limit(Limit::FirstByte)],
            ..Query::default()
        },
        Query {
            function: Some((*function("a", "two")).clone()),
            outcomes: vec![Outcome::Cancelled],
            trigger: Some("trigger-2".into()),
            ..Query::default()
        },
        Query {
            parent: Some(parent),
            ..Query::default()
        },
        Query {
            since_us: Some(middle),
            ..Query::default()
        },
        Query {
            until_us: Some(middle),
            namespace: Some("b".into()),
            ..Query::default()
        },
        Query {
            since_us: Some(now_us() + 1_000_000),
            ..Query::default()
        },
    ];
    for reopened in [false, true] {
        if reopened {
            recorder.close().await.unwrap();
            drop(recorder);
            recorder = open(dir.path(), small());
        }
        for query in &queries {
            let matches = |record: &&Record| {
                query
                    .namespace
                    .as_ref()
                    .is_none_or(|n| *n == record.function.namespace)
                    && query
                        .function
                        .as_ref()
                        .is_none_or(|f| *f == *record.function)
                    && (query.outcomes.is_empty() || query.outcomes.contains(&record.outcome))
                    && query.parent.is_none_or(|p| record.cause.parent == Some(p))
                    && query.trigger.is_none_or_name(record)
                    && query.since_us.is_none_or(|s| record.received_us >= s)
                    && query.until_us.is_none_or(|u| record.received_us < u)
            };
            let wanted: Vec<_> = records.iter().rev().filter(matches).cloned().collect();
            for limit in [0, 7, 1000] {
                let found = all(
                    &recorder,
                    Query {
                        limit,
                        ..query.clone()
                    },
                )
                .await;
                assert_eq!(found.len(), wanted.len(), "{query:?}");
                assert!(found == wanted, "{query:?}");
            }
        }
        let mut children = records.iter().filter(|r| r.cause.parent == Some(parent));
        let found = recorder.children(parent, 1000).await.unwrap();
        assert!(found.iter().eq(children.by_ref()));
        assert_eq!(recorder.children(parent, 3).await.unwrap().len(), 3);
        for record in records.iter().step_by(97) {
            assert_eq!(
                recorder.get(record.id).await.unwrap().as_ref(),
                Some(record)
            );
        }
    }
    assert!(recorder.stats().segments > 3, "{:?}", recorder.stats());
}

trait NoneOrName {
    fn is_none_or_name(&self, record: &Record) -> bool;
}

impl NoneOrName for Option<Arc<str>> {
    fn is_none_or_name(&self, record: &Record) -> bool {
        self.is_none() || *self == record.cause.name
    }
}

#[tokio::test]
async fn a_page_goes_on_where_it_ended_whatever_comes_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let records = fill(&recorder, 500);
    let mut found = Vec::new();
    let mut query = Query {
        limit: 90,
        ..Query::default()
    };
    loop {
        let page = recorder.query(query.clone()).await.unwrap();
        found.extend(page.items);
        let Some(next) = page.next else { break };
        // Written out and read again, as it is by callers.
        query.after = Some(next.to_string().parse::<Token>().unwrap());
        fill(&recorder, 50);
    }
    let wanted: Vec<_> = records.iter().rev().map(|r| r.id).collect();
    assert_eq!(ids(&found), wanted);
}

#[tokio::test]
async fn levels_keep_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    let third = Level::Sampled(NonZeroU32::new(3).unwrap());
    for level in [Level::All, Level::Errors, third, Level::None] {
        account.set_level(level);
        assert_eq!(account.level(), level);
        for outcome in [Outcome::Ok, Outcome::Function] {
            for _ in 0..20 {
                let record = record(&hello, outcome);
                let wanted = level.keeps(outcome, record.id);
                let fate = account.ended(&record);
                assert_eq!(fate == Fate::Recorded, wanted);
                assert_eq!(recorder.get(record.id).await.unwrap().is_some(), wanted);
            }
        }
    }
    let usage = recorder.usage(Default::default()).await.unwrap();
    assert_eq!(
        usage
            .iter()
            .map(|row| row.totals.invocations())
            .sum::<u64>(),
        160
    );
}

#[tokio::test]
async fn a_follower_sees_what_comes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    fill(&recorder, 100);
    recorder.flush().await.unwrap();
    let query = Query {
        outcomes: vec![Outcome::Platform],
        ..Query::default()
    };
    let mut follow = recorder.follow(&query);
    // Over several segments.
    let records = fill(&recorder, 2000);
    let wanted = records.iter().filter(|r| r.outcome == Outcome::Platform);
    let wanted: Vec<_> = wanted.map(|r| r.id).collect();
    let mut found = Vec::new();
    while found.len() < wanted.len() {
        let followed = follow.next().await.unwrap().unwrap();
        assert_eq!(followed.missed, 0);
        found.extend(ids(&followed.records));
    }
    assert_eq!(found, wanted);
    recorder.close().await.unwrap();
    assert!(follow.next().await.unwrap().is_none());
    assert!(matches!(
        recorder.query(Query::default()).await,
        Err(Error::Closed)
    ));
    assert!(matches!(recorder.flush().await, Err(Error::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_write_while_others_read() {
    const THREADS: usize = 4;
    const EACH: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let writers: Vec<_> = (0..THREADS)
        .map(|n| {
            let recorder = recorder.clone();
            std::thread::spawn(move || {
                let hello = function("default", &format!("f{}", n % 2));
                let account = recorder.account(&hello);
                let records: Vec<_> = (0..EACH)
                    .map(|_| record(&hello, Outcome::Function))
                    .collect();
                for record in &records {
                    assert_eq!(account.ended(record), Fate::Recorded);
                }
                ids(&records)
            })
        })
        .collect();
    while !writers.iter().all(|writer| writer.is_finished()) {
        let page = recorder
            .query(Query {
                limit: 50,
                ..Query::default()
            })
            .await
            .unwrap();
        for found in page.items {
            assert_eq!(recorder.get(found.id).await.unwrap(), Some(found));
        }
    }
    let mut wanted: Vec<_> = writers
        .into_iter()
        .flat_map(|w| w.join().unwrap())
        .collect();
    let mut found = ids(&all(&recorder, Query::default()).await);
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn one_server_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), small());
    let second = Recorder::open(dir.path(), small());
    assert!(matches!(second, Err(Error::Locked { .. })));
    drop(first);
    open(dir.path(), small());
}
