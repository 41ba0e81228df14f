//! A disk that takes nothing any more: calls go on, what is lost is counted, and all is well once there is room.
//!
//! The test runs itself again as a child whose files may not grow beyond a limit, which it lifts in the end. Writes then
//! fail as they do on a full disk, without the rights that a small file system of its own would take.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use tidegate_core::Outcome;
use tidegate_core::record::Class;
use tidegate_records::{Error, Fate, Options, Period, Query, Recorder, UsageQuery};

use crate::{all, function, ids, record, small, until};

const CHILD: &str = "TIDEGATE_RECORDS_FULL_TEST_FOLDER";
const LIMIT: u64 = 64 * 1024;
/// Bytes of the small file system.
const SMALL: &str = "400k";

#[tokio::test]
async fn a_full_disk_is_waited_out() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return full(Path::new(&folder)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    // The shell has the signal ignored that would end the child.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["full::a_full_disk_is_waited_out", "--exact", "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(said.contains("all is well"), "{said}");
}

fn limit(bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
}

async fn full(folder: &Path) {
    let options = Options {
        buffer_bytes: 128 * 1024,
        ..Options::default()
    };
    let (recorder, _) = Recorder::open(folder, options.clone()).unwrap();
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    limit(Some(LIMIT));
    let (mut taken, mut ended) = (Vec::new(), 0);
    let mut call = |outcome: Outcome| {
        let record = record(&hello, outcome);
        ended += 1;
        let fate = account.ended(&record);
        if fate == Fate::Recorded {
            taken.push(record.id);
        }
        (fate, record)
    };
    while recorder.stats().failing.is_none() {
        call(Outcome::Ok);
        tokio::task::yield_now().await;
    }
    assert!(matches!(
        recorder.flush().await,
        Err(Error::NotWritten { .. })
    ));
    // What is not on disk is found all the same.
    let (fate, record) = call(Outcome::Ok);
    assert_eq!(fate, Fate::Recorded);
    assert_eq!(recorder.get(record.id).await.unwrap(), Some(record));
    // What memory there is fills up: first records of successful calls go, and the others have room yet.
    while recorder.shed() == 0 {
        call(Outcome::Ok);
    }
    let (fate, kept) = call(Outcome::Function);
    assert_eq!((fate, kept.class()), (Fate::Recorded, Class::Kept));
    let mut lost = 0;
    while lost < 100 {
        lost += usize::from(call(Outcome::Function).0 == Fate::GivenUp);
    }
    let stats = recorder.stats();
    assert_eq!(stats.lost, 100);
    assert!(stats.shed >= 1 && stats.failed_writes >= 1, "{stats:?}");
    limit(None);
    until("records can be written again", || {
        recorder.stats().failing.is_none()
    })
    .await;
    recorder.flush().await.unwrap();
    assert_eq!(call(Outcome::Ok).0, Fate::Recorded);
    recorder.close().await.unwrap();
    drop((recorder, account));

    let (recorder, report) = Recorder::open(folder, options).unwrap();
    assert!(
        report.damage.is_empty() && report.unfinished_bytes == 0,
        "{report:?}"
    );
    let found = ids(&all(&recorder, Query::default()).await);
    assert_eq!(found.len(), taken.len());
    let (found, taken): (HashSet<_>, HashSet<_>) =
        (found.into_iter().collect(), taken.into_iter().collect());
    assert_eq!(found, taken);
    let query = UsageQuery {
        by: Period::All,
        ..UsageQuery::default()
    };
    let totals = recorder.usage(query).await.unwrap().pop().unwrap().totals;
    assert_eq!(totals.invocations(), ended);
    assert_eq!(totals.unrecorded, ended - taken.len() as u64);
    #[expect(clippy::print_stdout, reason = "the parent reads it")]
    {
        println!("all is well");
    }
}

/// The child has a small file system of its own, in namespaces of its own.
#[tokio::test]
async fn on_a_full_disk_the_oldest_goes_first() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return overfill(Path::new(&folder)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={SMALL} none \"${CHILD}\" && exec \"$0\" full::on_a_full_disk_the_oldest_goes_first --exact --nocapture"
    );
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let complaint = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}\n{complaint}");
    assert!(said.contains("all is well"), "{said}\n{complaint}");
}

async fn overfill(folder: &Path) {
    // Whether it is too old or too much is never the reason for a segment to go.
    let (recorder, _) = Recorder::open(folder, small()).unwrap();
    let hello = function("default", "hello");
    let account = recorder.account(&hello);
    let mut written = Vec::new();
    while recorder.stats().freed < 3 {
        for _ in 0..20 {
            let record = record(&hello, Outcome::Ok);
            assert_eq!(account.ended(&record), Fate::Recorded);
            written.push(record.id);
        }
        recorder.flush().await.unwrap();
        assert!(written.len() < 100_000, "{:?}", recorder.stats());
    }
    let stats = recorder.stats();
    assert_eq!((stats.shed, stats.lost), (0, 0), "{stats:?}");
    let found = ids(&all(&recorder, Query::default()).await);
    assert!(
        found.len() > 500 && found.len() < written.len(),
        "{stats:?}"
    );
    let newest: Vec<_> = written.iter().rev().take(found.len()).copied().collect();
    assert_eq!(found, newest);
    // What others take is not made up for by all that is kept.
    std::fs::write(folder.join("others"), vec![7; 400 * 1024]).unwrap_err();
    until("records cannot be written", || {
        account.ended(&record(&hello, Outcome::Ok));
        recorder.stats().failing.is_some()
    })
    .await;
    assert!(recorder.stats().freed <= stats.freed + 1);
    std::fs::remove_file(folder.join("others")).unwrap();
    recorder.flush().await.unwrap();
    assert_eq!(recorder.stats().failing, None);
    #[expect(clippy::print_stdout, reason = "the parent reads it")]
    {
        println!("all is well");
    }
}
