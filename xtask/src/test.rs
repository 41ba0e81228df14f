//! Everything that has to pass.
//!
//! Steps are collected rather than stopped at the first failure, so one run tells all there is to mend; only a build that
//! fails ends it, since what follows would judge an older build. The last line is `N passed, N failed`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::report::{Ended, Steps, Tally};
use crate::target::Target;
use crate::{child, demo, paths, projects, server, setup, signals, suites};

/// Longest time for formatting and other quick checks.
const CHECK_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Longest time for a build from nothing on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(25 * 60);
/// Longest time for the tests of one folder.
const TESTS_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Longest time to see whether the advisory database can be reached.
const REACH_LIMIT: Duration = Duration::from_secs(15);

/// The licence and source checker. No registry of system packages has it, so it is compiled once (four minutes on two cores)
/// into the cache directory.
const DENY: &str = "cargo-deny";
const DENY_VERSION: &str = "0.20.2";
const ADVISORIES: &str = "https://github.com/rustsec/advisory-db";

/// The crate whose tests drive the built binary, and so need the release build.
const END_TO_END: &str = "tidegate";

pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let quick = args.flag("--quick");
    let examples = args.flag("--examples");
    args.finish()?;
    signals::watch();
    let mut steps = Steps::new();
    if examples {
        only_examples(&mut steps)?;
    } else {
        run(&mut steps, quick)?;
    }
    let all = steps.finish();
    Ok(if all.failed == 0 && !signals::interrupted() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the steps; stops early only where a build failed.
fn run(steps: &mut Steps, quick: bool) -> Result<()> {
    let passed = |()| Ok(Ended::Ran(Tally::PASSED));
    if !steps.run("what tests need", || setup::for_tests().and_then(passed)) {
        return Ok(());
    }
    let target = Target::claim()?;
    let root = target.root();

    steps.run("formatting", || {
        simple(&mut target.cargo(&["fmt", "--all", "--check"]), CHECK_LIMIT)
    });
    steps.run("licences and sources", || deny(&target, quick));
    for folder in python_tests(root)? {
        let name = folder
            .strip_prefix(root)
            .unwrap_or(&folder)
            .display()
            .to_string();
        steps.run(&format!("python tests of {name}"), || {
            unittest(root, &folder)
        });
    }
    projects::test(steps, root)?;
    for suite in ["runtimes/nodejs", "runtimes/openfaas"] {
        steps.run(&format!("node tests of {suite}"), || {
            node_test(root, &root.join(suite).join("tests"))
        });
    }
    steps.run("clippy", || {
        let words = [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        simple(&mut target.cargo(&words), BUILD_LIMIT)
    });

    let mut binary = None;
    if !quick {
        let built = steps.run("release build", || {
            binary = Some(server::binary(&target)?);
            passed(())
        });
        if !built {
            return Ok(());
        }
    }
    let mut which = vec!["test", "--locked", "--workspace"];
    if quick {
        which.extend(["--exclude", END_TO_END]);
    }
    let mut programs = Vec::new();
    let built = steps.run("build of the tests", || {
        programs = suites::build(&mut target.cargo(&which), BUILD_LIMIT)?;
        passed(())
    });
    if !built {
        return Ok(());
    }
    suites::run(steps, programs, |test| {
        if let Some(binary) = &binary {
            test.env("TIDEGATE_BIN", binary);
        }
    });
    steps.run("examples in the documentation", || {
        let mut cargo = target.cargo(&["test", "--locked", "--workspace", "--doc"]);
        simple(&mut cargo, CHECK_LIMIT)
    });
    if let Some(binary) = binary {
        steps.run("demo", || Ok(Ended::Ran(demo::once(&binary, root)?)));
    }
    Ok(())
}

/// What the examples say of themselves, without the platform.
fn only_examples(steps: &mut Steps) -> Result<()> {
    let passed = |()| Ok(Ended::Ran(Tally::PASSED));
    if steps.run("what tests need", || setup::for_tests().and_then(passed)) {
        let target = Target::claim()?;
        projects::test(steps, target.root())?;
    }
    Ok(())
}

/// A program that passes or fails as a whole.
fn simple(command: &mut Command, limit: Duration) -> Result<Ended> {
    let status = child::show(command, limit)?;
    Ok(Ended::Ran(if status.success() {
        Tally::PASSED
    } else {
        Tally::FAILED
    }))
}

/// Counts, corrected by the exit status: a program that failed without counting a failure crashed, and that is one.
pub(crate) fn agree(mut tally: Tally, success: bool) -> Tally {
    if !success && tally.failed == 0 {
        tally.failed = 1;
    }
    tally
}

// === Python

/// Folders with `test_*.py`: Python's language host's, the other hosts' together, OpenFaaS's templates', and the examples'.
fn python_tests(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for suite in [
        "runtimes/python/tests",
        "runtimes/tests",
        "runtimes/openfaas/tests",
    ] {
        let folder = root.join(suite);
        if folder.is_dir() {
            folders.push(folder);
        }
    }
    for entry in fs::read_dir(root.join("examples")).context("cannot list the examples")? {
        let folder = entry?.path();
        let has_tests = folder.is_dir()
            && fs::read_dir(&folder)?.any(|file| {
                file.is_ok_and(|file| {
                    let name = file.file_name();
                    let name = name.to_string_lossy();
                    name.starts_with("test_") && name.ends_with(".py")
                })
            });
        // What has packages of its own is tested with them.
        if has_tests && !projects::has(&folder) {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

fn unittest(root: &Path, folder: &Path) -> Result<Ended> {
    let mut python = Command::new(paths::PYTHON);
    python
        .args(["-B", "-m", "unittest", "discover", "-s"])
        .arg(folder)
        .current_dir(root);
    let mut count = Unittest::default();
    let status = child::tee(&mut python, TESTS_LIMIT, |line| count.line(line))?;
    let tally = count.tally();
    if status.success() && tally.passed == 0 {
        bail!("no test ran in {}", folder.display());
    }
    Ok(Ended::Ran(agree(tally, status.success())))
}

/// Python's account of a run: `Ran 12 tests in …`, then `OK (skipped=1)` or `FAILED (failures=1, errors=2)`.
#[derive(Default)]
pub(crate) struct Unittest {
    ran: u64,
    skipped: u64,
    failed: u64,
}

impl Unittest {
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("Ran ") {
            self.ran = rest
                .split(' ')
                .next()
                .and_then(|count| count.parse().ok())
                .unwrap_or(0);
        } else if line.starts_with("OK") || line.starts_with("FAILED") {
            let part = |name: &str| -> u64 {
                line.split(['(', ')', ','])
                    .find_map(|part| {
                        part.trim()
                            .strip_prefix(name)?
                            .strip_prefix('=')?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0)
            };
            self.skipped = part("skipped");
            self.failed = part("failures") + part("errors") + part("unexpected successes");
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            passed: self.ran.saturating_sub(self.skipped + self.failed),
            failed: self.failed,
        }
    }
}

// === Node

/// Runs `*.test.cjs` with Node's own runner.
fn node_test(root: &Path, folder: &Path) -> Result<Ended> {
    let node = paths::find_program("node").context("node is not installed")?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|file| file.to_string_lossy().ends_with(".test.cjs"))
        .collect();
    files.sort();
    let mut command = Command::new(node);
    command
        .args(["--test", "--test-reporter=tap"])
        .args(&files)
        .current_dir(root);
    let mut tally = Tally::default();
    let status = child::tee(&mut command, TESTS_LIMIT, |line| {
        if let Some((word, count)) = node_line(line) {
            match word {
                "pass" => tally.passed = count,
                _ => tally.failed += count,
            }
        }
    })?;
    if status.success() && tally.passed == 0 {
        bail!("no test ran in {}", folder.display());
    }
    Ok(Ended::Ran(agree(tally, status.success())))
}

/// A count of Node's account of a run: `# pass 12`, `# fail 1`, `# cancelled 0`.
fn node_line(line: &str) -> Option<(&str, u64)> {
    let (word, count) = line.strip_prefix("# ")?.split_once(' ')?;
    ["pass", "fail", "cancelled"]
        .contains(&word)
        .then_some(())
        .and_then(|()| Some((word, count.trim().parse().ok()?)))
}

// === Licences, banned crates, sources, advisories

fn deny(target: &Target, quick: bool) -> Result<Ended> {
    let program = match find_deny()? {
        Some(program) => program,
        None if quick => {
            return Ok(Ended::Skipped(format!(
                "{DENY} is not installed; the full run installs it"
            )));
        }
        None => match install_deny(target) {
            Ok(program) => program,
            Err(error) => {
                return Ok(Ended::Skipped(format!(
                    "{DENY} cannot be installed: {error:#}"
                )));
            }
        },
    };
    let mut check = vec!["check", "bans", "licenses", "sources"];
    // The database is fetched from its own repository, which a machine without a way out cannot reach.
    if reachable(ADVISORIES) {
        check.push("advisories");
    } else {
        println!("advisories are not checked: {ADVISORIES} cannot be reached");
    }
    let mut deny = Command::new(program);
    deny.arg("--manifest-path")
        .arg(target.root().join("Cargo.toml"))
        .args(["--locked", "--all-features"])
        .args(check)
        .current_dir(target.root());
    simple(&mut deny, CHECK_LIMIT)
}

fn tools() -> Result<PathBuf> {
    Ok(paths::cache()?.join("tools"))
}

fn find_deny() -> Result<Option<PathBuf>> {
    let own = tools()?.join("bin").join(DENY);
    Ok(if own.is_file() {
        Some(own)
    } else {
        paths::find_program(DENY)
    })
}

fn install_deny(target: &Target) -> Result<PathBuf> {
    let tools = tools()?;
    println!(
        "compiling {DENY} {DENY_VERSION} into {}, once",
        tools.display()
    );
    let build = tools.join("build");
    let mut cargo = target.cargo(&[
        "install",
        "--locked",
        DENY,
        "--version",
        DENY_VERSION,
        "--root",
    ]);
    let status = child::show(
        cargo.arg(&tools).env("CARGO_TARGET_DIR", &build),
        BUILD_LIMIT,
    )?;
    // Its objects are of no use to anything else.
    let _ = fs::remove_dir_all(&build);
    if !status.success() {
        bail!("cargo install failed ({status})");
    }
    Ok(tools.join("bin").join(DENY))
}

fn reachable(repository: &str) -> bool {
    let mut git = Command::new("git");
    git.args(["ls-remote", "--quiet", repository, "HEAD"])
        .env("GIT_TERMINAL_PROMPT", "0");
    child::capture(&mut git, REACH_LIMIT).is_ok_and(|done| done.status.success())
}

#[cfg(test)]
mod tests {
    use super::{Unittest, agree, node_line};
    use crate::report::Tally;

    fn tally(passed: u64, failed: u64) -> Tally {
        Tally { passed, failed }
    }

    #[test]
    fn unittest_counts_are_read() {
        let count = |lines: &[&str]| {
            let mut count = Unittest::default();
            for line in lines {
                count.line(line);
            }
            count.tally()
        };
        assert_eq!(count(&["Ran 10 tests in 0.004s", "", "OK"]), tally(10, 0));
        assert_eq!(
            count(&["Ran 1 test in 0.004s", "OK (skipped=1)"]),
            tally(0, 0)
        );
        assert_eq!(
            count(&[
                "Ran 9 tests in 1s",
                "FAILED (failures=1, errors=2, skipped=3)"
            ]),
            tally(3, 3)
        );
    }

    #[test]
    fn node_counts_are_read() {
        assert_eq!(node_line("# pass 12"), Some(("pass", 12)));
        assert_eq!(node_line("# fail 1"), Some(("fail", 1)));
        assert_eq!(node_line("# pass the salt"), None);
        assert_eq!(node_line("ok 1 - # pass 3"), None);
    }

    #[test]
    fn a_crash_is_a_failure() {
        assert_eq!(agree(tally(5, 0), false), tally(5, 1));
        assert_eq!(agree(tally(5, 2), false), tally(5, 2));
        assert_eq!(agree(tally(5, 0), true), tally(5, 0));
    }
}
