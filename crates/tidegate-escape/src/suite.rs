//! What the test programs of isolations share: cases that run twice, as root and as an ordinary user, and attempts that
//! are told of as they are made.
//!
//! Such a program runs its cases itself, since it plays more parts than the standard harness knows.

// It speaks on standard output, as the harness does that it stands in for.
#![allow(clippy::print_stdout)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{FunctionKey, InstanceId, Limits, Name, Network};
use tidegate_instance::{InstanceSpec, LogSink, Program};

use crate::ground::own_address;
use crate::{Place, Tally, attempts, attempts_with_a_door, strain};

/// Says which part a test program plays.
pub const PART: &str = "TIDEGATE_TEST_PART";

/// Its part when it is run again as an ordinary user.
pub const ORDINARY_USER: &str = "user";

/// Picks attempts and strains whose names contain it.
const FILTER: &str = "TIDEGATE_TEST_ATTEMPT";

/// The ordinary user: `nobody`, which every machine has.
const NOBODY: u32 = 65534;

/// Runs the cases as whoever this is and, where that is root, once more as an ordinary user. `cases` runs those whose
/// names contain its word and answers how many there were, and which failed. `bring` copies what that user needs into a
/// folder which anyone can reach, and answers the variables that tell where it is.
///
/// # Panics
///
/// If the program cannot be run again.
pub fn as_both_users(
    filter: &str,
    cases: impl Fn(&str) -> (usize, Vec<String>),
    bring: impl FnOnce(&Path) -> Vec<(&'static str, PathBuf)>,
) -> ExitCode {
    if std::env::var(PART).as_deref() == Ok(ORDINARY_USER) {
        return told("ordinary user", filter, cases);
    }
    if !rustix::process::geteuid().is_root() {
        println!("not root: the cases run as an ordinary user only");
        return told("ordinary user", filter, cases);
    }
    let root = told("root", filter, cases);
    let user = again_as_ordinary_user(filter, bring);
    if root == ExitCode::SUCCESS && user {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn told(who: &str, filter: &str, cases: impl Fn(&str) -> (usize, Vec<String>)) -> ExitCode {
    println!("\n# as {who}");
    let (ran, failed) = cases(filter);
    // In the words of the standard harness, which tools that count tests look for.
    println!(
        "test result: {}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; as {who}",
        if failed.is_empty() { "ok" } else { "FAILED" },
        ran - failed.len(),
        failed.len(),
    );
    for name in &failed {
        println!("  failed: {name}");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn again_as_ordinary_user(
    filter: &str,
    bring: impl FnOnce(&Path) -> Vec<(&'static str, PathBuf)>,
) -> bool {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-it-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .expect("a folder in /tmp");
    let me = copied(
        &std::env::current_exe().expect("we have a file"),
        folder.path(),
        "it",
    );
    let brought: Vec<(&str, OsString)> = bring(folder.path())
        .into_iter()
        .map(|(name, path)| (name, path.into_os_string()))
        .collect();
    let home = folder.path().join("home");
    fs::create_dir(&home).expect("a home");
    chown(&home, Some(NOBODY), Some(NOBODY)).expect("given away");
    Command::new(me)
        .arg(filter)
        .env(PART, ORDINARY_USER)
        .envs(brought)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .current_dir(&home)
        .uid(NOBODY)
        .gid(NOBODY)
        .status()
        .expect("the harness starts as another user")
        .success()
}

/// A small function that is alone, as most cases want it.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn plain(id: u64, bundle: PathBuf, program: Program, logs: Arc<dyn LogSink>) -> InstanceSpec {
    let word = |text: &str| Name::new(text).expect("a name");
    let bound = Duration::from_secs(30);
    InstanceSpec {
        id: InstanceId(id),
        function: FunctionKey::new(&word("default"), &word("tested")),
        revision: Arc::from("r1"),
        bundle,
        layer: None,
        root: None,
        program,
        env: vec![("GREETING".to_owned(), "hello".to_owned())],
        secrets: Vec::new(),
        limits: Limits {
            memory: 128 << 20,
            cpu_milli: 1000,
            pids: 64,
            tmp: 32 << 20,
            timeout: bound,
            first_byte: bound,
            stream_idle: bound,
            body: 16 << 20,
        },
        network: Network::None,
        outbound: None,
        concurrency: 1,
        ready_within: bound,
        logs,
    }
}

/// A copy of a file in a folder, by this name.
///
/// # Panics
///
/// If it cannot be copied.
#[must_use]
pub fn copied(from: &Path, folder: &Path, name: &str) -> PathBuf {
    let to = folder.join(name);
    fs::copy(from, &to).expect("the file is copied");
    to
}

/// Makes every attempt.
///
/// # Panics
///
/// If one is answered in words that are not written down.
pub async fn withstands(place: &Place<'_>) {
    let tally = attempts(place, &filter(), tell).await;
    check(&tally.expect("the ground is laid out"));
}

/// Makes every attempt of an instance with a way out. A machine that has no address but loopback has nothing to reach.
///
/// # Panics
///
/// If one is answered in words that are not written down.
pub async fn keeps_the_door(place: &Place<'_>) {
    if own_address().is_none() {
        println!("  this machine has no address but loopback: there is nothing to reach");
        return;
    }
    let tally = attempts_with_a_door(place, &filter(), tell).await;
    check(&tally.expect("the ground is laid out"));
}

fn tell(name: &str, answer: &str, expected: bool) {
    let word = if expected { "held" } else { "HOLE" };
    println!("  {word} {name}: {answer}");
}

/// Makes every strain.
///
/// # Panics
///
/// If one is answered in words that are not written down.
pub async fn bears(place: &Place<'_>) {
    let filter = filter();
    let tally = strain::all(place, &filter, |noticed, held| {
        println!(
            "  {} {}: {}; a neighbour's p99 {:?} and then {:?}, {:.2} times, {} calls",
            if held { "held" } else { "HOLE" },
            noticed.name,
            noticed.answer,
            noticed.quiet,
            noticed.under,
            noticed.factor(),
            noticed.calls,
        );
    });
    check(&tally.await.expect("the ground is laid out"));
}

fn filter() -> String {
    std::env::var(FILTER).unwrap_or_default()
}

fn check(tally: &Tally) {
    println!("  {} made, {} holes", tally.made, tally.holes.len());
    assert!(tally.holes.is_empty(), "{:#?}", tally.holes);
}
