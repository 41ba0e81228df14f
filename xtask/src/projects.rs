//! The examples that are projects of their own, tested each in its own language with its own tools.
//!
//! None of it needs the platform. A project is copied to a folder in the cache directory and its packages are installed
//! there, so the workspace stays clean; they are kept until a file that names them changes. Projects have nothing in common
//! but the processor, so as many are tested at once as it has cores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::report::{Ended, Steps, Tally};
use crate::suites::counts;
use crate::test::{Unittest, agree};
use crate::{child, paths};

/// Longest time to fetch and install one project's packages, on a slow line.
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Longest time for one project's tests, compiling included.
const TEST_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Name of the file that tells what was installed from what.
const INSTALLED: &str = ".installed";

/// How a project is tested.
struct Project {
    /// Its folder below `examples/`.
    name: &'static str,
    /// What its packages are installed from.
    locks: &'static [&'static str],
    /// What the tools make in its folder, which is kept from run to run.
    made: &'static [&'static str],
    /// Program and words, one command after another.
    install: &'static [&'static [&'static str]],
    test: &'static [&'static str],
    /// Reads the counts out of what the tests print.
    count: fn(&str) -> Tally,
}

/// Packages that are pinned by hash, in an environment of the project's own.
const PYTHON_PACKAGES: &[&[&str]] = &[
    &[paths::PYTHON, "-m", "venv", "--clear", "venv"],
    &[
        "venv/bin/pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
        "requirements.txt",
    ],
];

/// Packages of npm, by their lock.
const NPM: Project = Project {
    name: "",
    locks: &["package.json", "package-lock.json"],
    made: &["node_modules"],
    install: &[&["npm", "ci", "--no-audit", "--no-fund"]],
    test: &["npm", "test"],
    count: node,
};

/// Packages that are pinned by hash.
const PIP: Project = Project {
    name: "",
    locks: &["requirements.txt"],
    made: &["venv"],
    install: PYTHON_PACKAGES,
    test: &["venv/bin/python", "-B", "-m", "unittest"],
    count: python,
};

/// Go's own packages alone.
const GO: Project = Project {
    name: "",
    locks: &[],
    made: &[],
    install: &[],
    test: &["go", "test", "-v", "./..."],
    count: go,
};

const PROJECTS: &[Project] = &[
    Project {
        name: "markdown",
        ..NPM
    },
    Project {
        name: "ical",
        ..NPM
    },
    Project {
        name: "yaml2json",
        ..PIP
    },
    Project {
        name: "qrcode",
        ..GO
    },
    Project {
        name: "csv2json-rust",
        locks: &[],
        made: &["target"],
        install: &[],
        test: &["cargo", "test", "--locked"],
        count: cargo,
    },
    Project {
        name: "sanitize",
        locks: &[],
        made: &["target"],
        install: &[],
        test: &["mvn", "-B", "--no-transfer-progress", "test"],
        count: maven,
    },
    Project {
        name: "ledger",
        locks: &["Gemfile", "Gemfile.lock"],
        made: &["gems"],
        install: &[&["bundle", "install", "--quiet"]],
        test: &["ruby", "test_handler.rb"],
        count: minitest,
    },
    Project {
        name: "linkcard",
        locks: &["composer.json", "composer.lock"],
        made: &["vendor"],
        install: &[&["composer", "install", "--no-interaction", "--quiet"]],
        test: &["php", "test_handler.php"],
        count: plain,
    },
    Project {
        name: "openfaas/table",
        ..PIP
    },
    Project {
        name: "openfaas/when",
        ..NPM
    },
    Project {
        name: "openfaas/digest",
        ..GO
    },
];

/// Whether a folder of `examples/` is tested here.
pub(crate) fn has(folder: &Path) -> bool {
    folder
        .file_name()
        .is_some_and(|name| PROJECTS.iter().any(|project| name == project.name))
}

/// Tests them all and puts each into the account.
pub(crate) fn test(steps: &mut Steps, root: &Path) -> Result<()> {
    let home = paths::cache()?.join("examples");
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\n── {} examples in their own languages, {at_once} at once",
        PROJECTS.len()
    );
    let next = AtomicUsize::new(0);
    // Whoever prints holds it, so that the output of two is not mixed.
    let account = Mutex::new(steps);
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(PROJECTS.len()) {
            scope.spawn(|| {
                while let Some(project) = PROJECTS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let mut output = String::new();
                    let ended = project.run(root, &home, &mut output);
                    let mut steps = account.lock().expect("printing does not panic");
                    print!("{output}");
                    steps.add(
                        &format!("tests of examples/{}", project.name),
                        began.elapsed(),
                        ended,
                    );
                }
            });
        }
    });
    Ok(())
}

impl Project {
    fn run(&self, root: &Path, home: &Path, output: &mut String) -> Result<Ended> {
        let folder = home.join(self.name);
        self.refresh(&root.join("examples").join(self.name), &folder)?;
        self.installed(&folder)?;
        let done = child::capture(&mut command(self.test, &folder), TEST_LIMIT)?;
        let printed = String::from_utf8_lossy(&done.stdout) + done.stderr.as_str();
        output.push_str(&printed);
        let tally = (self.count)(&printed);
        if done.status.success() && tally.passed == 0 {
            bail!("no test ran in examples/{}", self.name);
        }
        Ok(Ended::Ran(agree(tally, done.status.success())))
    }

    /// Makes `folder` what `source` is, but for what tools made there.
    fn refresh(&self, source: &Path, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let kept = |name: &str| path.file_name().is_some_and(|file| file == name);
            if kept(INSTALLED) || self.made.iter().any(|name| kept(name)) {
                continue;
            }
            if path.is_dir() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        copy(source, folder, self.made)
    }

    /// Installs the packages unless those there are from the same files.
    fn installed(&self, folder: &Path) -> Result<()> {
        if self.install.is_empty() {
            return Ok(());
        }
        let mut from = String::new();
        for name in self.locks {
            from += &fs::read_to_string(folder.join(name))
                .with_context(|| format!("examples/{} has no {name}", self.name))?;
        }
        let stamp = folder.join(INSTALLED);
        if fs::read_to_string(&stamp).is_ok_and(|text| text == from) {
            return Ok(());
        }
        for words in self.install {
            child::capture(&mut command(words, folder), INSTALL_LIMIT)?
                .success(&words.join(" "))
                .with_context(|| format!("the packages of examples/{} are not there", self.name))?;
        }
        // Written last, so that an installation cut short is made anew.
        fs::write(&stamp, from).context("cannot note what was installed")
    }
}

fn command(words: &[&str], folder: &Path) -> Command {
    let program = if words[0].starts_with("venv/") {
        folder.join(words[0])
    } else {
        paths::find_tool(words[0]).unwrap_or_else(|| PathBuf::from(words[0]))
    };
    let mut command = Command::new(program);
    command
        .args(&words[1..])
        .current_dir(folder)
        // Ruby's packages beside the project; nobody else looks at it.
        .env("BUNDLE_PATH", folder.join("gems"))
        .env("BUNDLE_FROZEN", "true")
        .env("COMPOSER_ALLOW_SUPERUSER", "1")
        // What cargo told this program is not for another workspace.
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env_remove("CARGO_MANIFEST_DIR")
        .env("NO_COLOR", "1");
    command
}

fn copy(source: &Path, folder: &Path, but: &[&str]) -> Result<()> {
    for entry in fs::read_dir(source).with_context(|| format!("no {}", source.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        // Somebody may have installed or built beside the source.
        if but.iter().any(|made| name == *made) {
            continue;
        }
        let to = folder.join(&name);
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&to)?;
            copy(&entry.path(), &to, but)?;
        } else {
            fs::copy(entry.path(), &to)
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

// === What the languages' test programs print

/// `# pass 7` or `ℹ pass 7`, by the version of Node.
fn node(printed: &str) -> Tally {
    let count = |word: &str| {
        printed
            .lines()
            .filter_map(|line| {
                let line = line.trim_start_matches(['#', 'ℹ', ' ']);
                line.strip_prefix(word)?.trim().parse().ok()
            })
            .next_back()
            .unwrap_or(0)
    };
    Tally {
        passed: count("pass "),
        failed: count("fail "),
    }
}

fn python(printed: &str) -> Tally {
    let mut count = Unittest::default();
    printed.lines().for_each(|line| count.line(line));
    count.tally()
}

/// A line for every test; those of subtests are indented.
fn go(printed: &str) -> Tally {
    let count = |start| {
        printed
            .lines()
            .filter(|line| line.starts_with(start))
            .count() as u64
    };
    Tally {
        passed: count("--- PASS: "),
        failed: count("--- FAIL: "),
    }
}

fn cargo(printed: &str) -> Tally {
    let mut all = Tally::default();
    printed
        .lines()
        .filter_map(counts)
        .for_each(|tally| all.add(tally));
    all
}

/// `Tests run: 5, Failures: 0, Errors: 0, Skipped: 0`, for each class and, last, for all of them.
fn maven(printed: &str) -> Tally {
    let last = printed.lines().rfind(|line| line.contains("Tests run: "));
    let count = |word: &str| -> u64 {
        last.and_then(|line| {
            let rest = &line[line.find(word)? + word.len()..];
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest[..digits].parse().ok()
        })
        .unwrap_or(0)
    };
    let failed = count("Failures: ") + count("Errors: ");
    let skipped = count("Skipped: ");
    Tally {
        passed: count("Tests run: ").saturating_sub(failed + skipped),
        failed,
    }
}

/// `6 runs, 31 assertions, 0 failures, 0 errors, 0 skips`
fn minitest(printed: &str) -> Tally {
    let line = printed
        .lines()
        .rfind(|line| line.contains(" runs, ") && line.contains(" assertions, "))
        .unwrap_or_default();
    let count = |word: &str| -> u64 {
        line.split(", ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    let failed = count("failures") + count("errors");
    Tally {
        passed: count("runs").saturating_sub(failed + count("skips")),
        failed,
    }
}

/// Our own: `20 passed, 0 failed`.
fn plain(printed: &str) -> Tally {
    let counts = printed.lines().rev().find_map(|line| {
        let (passed, failed) = line.split_once(" passed, ")?;
        Some(Tally {
            passed: passed.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    });
    counts.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{go, maven, minitest, node, plain, python};
    use crate::report::Tally;

    fn tally(passed: u64, failed: u64) -> Tally {
        Tally { passed, failed }
    }

    #[test]
    fn counts_are_read() {
        assert_eq!(
            node("# tests 8\n# pass 7\n# fail 1\n# skipped 0\n"),
            tally(7, 1)
        );
        assert_eq!(node("ℹ tests 7\nℹ pass 7\nℹ fail 0\n"), tally(7, 0));
        assert_eq!(python("Ran 8 tests in 0.2s\n\nOK\n"), tally(8, 0));
        assert_eq!(
            go(
                "=== RUN   TestA\n--- PASS: TestA (0.02s)\n    --- PASS: TestA/b\n--- FAIL: TestB (0.00s)\nFAIL\n"
            ),
            tally(1, 1)
        );
        assert_eq!(
            maven(
                "[INFO] Tests run: 2, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.1 s\n[ERROR] Tests run: 9, Failures: 1, Errors: 2, Skipped: 1\n"
            ),
            tally(5, 3)
        );
        assert_eq!(
            minitest("6 runs, 31 assertions, 1 failures, 0 errors, 2 skips\n"),
            tally(3, 1)
        );
        assert_eq!(plain("FAILED a title\n19 passed, 1 failed\n"), tally(19, 1));
        assert_eq!(
            plain("PHP Fatal error: something passed, something failed"),
            tally(0, 0)
        );
    }
}
