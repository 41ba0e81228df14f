//! The workspace's test programs: which there are, and running them.
//!
//! `cargo test` runs one program after another, and most of ours wait for other programs far longer than they compute. So
//! two run at once, those that take longest first, but for those that measure what one function does to another's time. Each
//! is held to a time of its own: one that hangs is named, with the tests it hangs in, and takes the results of no other with
//! it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::report::{Ended, Steps, Tally};
use crate::test::agree;
use crate::{child, signals};

/// Programs that run at once, each with as many threads as there are cores.
const LANES: usize = 2;
/// Longest time for one program. The longest takes a third of it.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// Packages whose tests take minutes, the longest first; begun last, they would run alone.
const LONG: [&str; 2] = ["tidegate", "tidegate-build"];
/// Packages whose tests want the machine for themselves: they judge by the time of what a sandbox does not hold back.
const ALONE: [&str; 2] = ["tidegate-isolation-process", "tidegate-isolation-runsc"];

/// A program that holds tests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    package: String,
    /// Tests beside the code, not those of a package as its users see it.
    is_unit: bool,
    program: PathBuf,
    /// Where its tests expect to run.
    folder: PathBuf,
}

/// What a program printed, and what that says.
#[derive(Default)]
struct Output {
    text: String,
    tally: Tally,
    failed: Vec<String>,
    /// Tests that ran for a minute and have not ended since.
    slow: Vec<String>,
}

/// Builds the test programs that `cargo`, a `cargo test` command, would run.
pub(crate) fn build(cargo: &mut Command, limit: Duration) -> Result<Vec<Suite>> {
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let mut suites = Vec::new();
    let status = child::lines(cargo, limit, |line| {
        if !line.starts_with('{') {
            println!("{line}");
        } else if let Some(suite) = suite(line) {
            suites.push(suite);
        }
    })?;
    if !status.success() {
        bail!("the tests cannot be built ({status})");
    }
    suites.sort_by_key(|suite| {
        let place = LONG.iter().position(|long| *long == suite.package);
        (suite.is_unit, place.unwrap_or(LONG.len()))
    });
    Ok(suites)
}

/// Runs them all and keeps an account of each; `prepare` is given each command.
pub(crate) fn run(steps: &mut Steps, suites: Vec<Suite>, prepare: impl Fn(&mut Command) + Sync) {
    let (alone, others): (Vec<_>, Vec<_>) = suites
        .into_iter()
        .partition(|suite| ALONE.contains(&suite.package.as_str()));
    at_once(steps, 1, alone, &prepare);
    at_once(steps, LANES, others, &prepare);
}

fn at_once(
    steps: &mut Steps,
    lanes: usize,
    suites: Vec<Suite>,
    prepare: &(impl Fn(&mut Command) + Sync),
) {
    let waiting = Mutex::new(VecDeque::from(suites));
    let next = || {
        let stopped = signals::interrupted();
        waiting.lock().ok()?.pop_front().filter(|_| !stopped)
    };
    let (sender, done) = channel();
    thread::scope(|scope| {
        for _ in 0..lanes {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(suite) = next() {
                    println!("{} …", suite.name());
                    let mut output = Output::default();
                    let began = Instant::now();
                    let ended = one(&suite, prepare, &mut output);
                    if sender
                        .send((suite, began.elapsed(), output, ended))
                        .is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (suite, took, output, ended) in done {
            if ended.is_ok() && output.tally == Tally::default() {
                continue;
            }
            println!("\n{}", output.text.trim_end());
            let name = suite.name();
            for test in output.failed {
                steps.failed(format!("{name}: {test}"));
            }
            steps.add(&name, took, ended);
        }
    });
}

fn one(suite: &Suite, prepare: &impl Fn(&mut Command), output: &mut Output) -> Result<Ended> {
    let mut program = Command::new(&suite.program);
    program
        .current_dir(&suite.folder)
        .env("CARGO_MANIFEST_DIR", &suite.folder);
    prepare(&mut program);
    let status = child::lines(&mut program, LIMIT, |line| output.line(line))
        .with_context(|| output.hanging())?;
    Ok(Ended::Ran(agree(output.tally, status.success())))
}

impl Suite {
    fn name(&self) -> String {
        let kind = if self.is_unit { "unit tests" } else { "tests" };
        format!("{kind} of {}", self.package)
    }
}

/// The test program that one of cargo's messages tells of.
fn suite(message: &str) -> Option<Suite> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some(Suite {
        package: folder.file_name()?.to_str()?.to_owned(),
        is_unit: message["target"]["kind"][0] != "test",
        program: message["executable"].as_str()?.into(),
        folder: folder.to_owned(),
    })
}

impl Output {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        if let Some(tally) = counts(line) {
            self.tally.add(tally);
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some((name, _)) = test.split_once(" has been running for over ") {
                self.slow.push(name.to_owned());
            } else if let Some((name, how)) = test.split_once(" ... ") {
                self.slow.retain(|slow| slow != name);
                if how == "FAILED" {
                    self.failed.push(name.to_owned());
                }
            }
        }
    }

    fn hanging(&self) -> String {
        match self.slow.as_slice() {
            [] => "no single test took long".to_owned(),
            slow => format!("still running: {}", slow.join(", ")),
        }
    }
}

/// The counts in a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; …`.
pub(crate) fn counts(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        counts
            .split(';')
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Output, Suite, counts, suite};
    use crate::report::Tally;

    fn tally(passed: u64, failed: u64) -> Tally {
        Tally { passed, failed }
    }

    #[test]
    fn cargo_counts_are_read() {
        assert_eq!(
            counts(
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s"
            ),
            Some(tally(12, 0))
        );
        assert_eq!(
            counts(
                "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"
            ),
            Some(tally(7, 2))
        );
        assert_eq!(counts("test it::works ... ok"), None);
        assert_eq!(
            counts("a line about test result: ok. 1 passed; 0 failed"),
            None
        );
    }

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/p/crates/tidegate-queue/Cargo.toml",
            "target":{"kind":["test"],"name":"it"},"profile":{"test":true},"executable":"/t/debug/deps/it-1"}"#;
        let found = Suite {
            package: "tidegate-queue".to_owned(),
            is_unit: false,
            program: "/t/debug/deps/it-1".into(),
            folder: "/p/crates/tidegate-queue".into(),
        };
        assert_eq!(suite(message), Some(found));
        let library = message.replace(r#""test":true"#, r#""test":false"#);
        assert_eq!(suite(&library), None);
        assert_eq!(suite(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn what_fails_and_what_hangs_is_named() {
        let mut output = Output::default();
        for line in [
            "running 4 tests",
            "test calls::one ... ok",
            "test calls::two has been running for over 60 seconds",
            "test calls::three has been running for over 60 seconds",
            "test calls::three ... FAILED",
        ] {
            output.line(line);
        }
        assert_eq!(output.failed, ["calls::three"]);
        assert_eq!(output.hanging(), "still running: calls::two");
    }
}
