//! What was acknowledged survives `kill -9` exactly once, and so does what it used.
//!
//! The test runs itself again as a child that records as fast as it can from several threads, and prints how far it was
//! whenever a flush has returned. The parent kills it after a random number of these lines, opens what is left, and
//! compares. Rounds go on in the same folder, so each also starts from what a kill left behind.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_core::record::Level;
use tidegate_core::{InvocationId, Outcome};
use tidegate_records::{Fate, Period, Query, Recorder, UsageQuery};

use crate::{all, function, record, small};

const ROUNDS: u64 = 8;
const WRITERS: u64 = 3;
/// Lines awaited before a kill, at most.
const MOST_LINES: usize = 24;
const CHILD: &str = "TIDEGATE_RECORDS_KILL_TEST_FOLDER";
const ROUND: &str = "TIDEGATE_RECORDS_KILL_TEST_ROUND";

/// The id of a writer's `n`-th record. All were made long ago, which is as good as any time.
fn id(round: u64, writer: u64, n: u64) -> InvocationId {
    InvocationId::from_u128(1_700_000_000_000 << 80 | u128::from(round << 48 | writer << 40 | n))
}

#[tokio::test]
async fn what_was_flushed_survives_a_kill_exactly_once() {
    if let Some(folder) = std::env::var_os(CHILD) {
        let round = std::env::var(ROUND).unwrap().parse().unwrap();
        record_until_killed(Path::new(&folder), round).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    let mut quiet = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "kill::what_was_flushed_survives_a_kill_exactly_once",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, dir.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = 1 + usize::from(uuid::Uuid::now_v7().as_bytes()[15]) * MOST_LINES / 256;
        let (mut seen, mut killed) = (0, false);
        let mut last = None;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            // A line that the kill cut off is no acknowledgement.
            let Some(numbers) = line.strip_prefix("ack ").and_then(|l| l.strip_suffix(" .")) else {
                continue;
            };
            last = Some(
                numbers
                    .split(' ')
                    .map(|n| n.parse().unwrap())
                    .collect::<Vec<u64>>(),
            );
            seen += 1;
            if seen >= wanted && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        assert!(killed, "the child ended by itself after {seen} lines");
        child.wait().unwrap();
        let last = last.unwrap();
        for writer in 0..WRITERS {
            acknowledged.extend((0..last[writer as usize]).map(|n| id(round, writer, n)));
        }
        quiet += last[WRITERS as usize];
        check(dir.path(), &acknowledged, quiet).await;
    }
}

async fn check(folder: &Path, acknowledged: &[InvocationId], quiet: u64) {
    let (recorder, report) = Recorder::open(folder, small()).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    let found = all(&recorder, Query::default()).await;
    let ids: HashSet<_> = found.iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), found.len(), "a record is there twice");
    for id in acknowledged {
        assert!(ids.contains(id), "{id} was acknowledged and is gone");
    }
    let query = UsageQuery {
        by: Period::All,
        ..UsageQuery::default()
    };
    for row in recorder.usage(query).await.unwrap() {
        let counted = row.totals.invocations();
        if &*row.function.name == "quiet" {
            assert!(counted >= quiet, "{counted} of {quiet}");
            continue;
        }
        // Not one more and not one less than there are records.
        let records = found.iter().filter(|r| r.function == row.function);
        let records = records.count() as u64;
        assert_eq!(
            counted - row.totals.unrecorded,
            records,
            "{:?}",
            row.function
        );
        assert_eq!(row.totals.bytes_out, counted * 100);
    }
}

async fn record_until_killed(folder: &Path, round: u64) -> ! {
    let (recorder, _) = Recorder::open(folder, small()).unwrap();
    let sent: Arc<[AtomicU64]> = (0..=WRITERS).map(|_| AtomicU64::new(0)).collect();
    for writer in 0..=WRITERS {
        let (recorder, sent) = (recorder.clone(), sent.clone());
        std::thread::spawn(move || {
            let name = if writer == WRITERS {
                "quiet".into()
            } else {
                format!("f{writer}")
            };
            let function = function("default", &name);
            let account = recorder.account(&function);
            if writer == WRITERS {
                account.set_level(Level::None);
            }
            // Of the class that is never given up.
            let mut record = record(&function, Outcome::Function);
            for n in 0.. {
                record.id = id(round, writer, n);
                while account.ended(&record) == Fate::GivenUp {}
                sent[writer as usize].store(n + 1, Ordering::SeqCst);
                if n % 8 == 0 {
                    // Many batches, rather than many records.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
    }
    let mut out = std::io::stdout();
    loop {
        let before: Vec<_> = sent
            .iter()
            .map(|n| n.load(Ordering::SeqCst).to_string())
            .collect();
        recorder.flush().await.unwrap();
        writeln!(out, "ack {} .", before.join(" ")).unwrap();
        out.flush().unwrap();
    }
}
