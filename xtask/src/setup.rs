//! What tests, demo and benchmarks need from the machine, and installing what is missing.
//!
//! Everything comes by package name from the distribution. What only PyPI has goes into a virtual environment in the cache
//! directory, never into the system's Python.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::{child, paths};

/// Longest time for a package manager, on a slow line.
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Longest time for a check of what is there.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// The peer that Python functions are measured against. Pinned, so that figures of different days compare.
const FUNCTIONS_FRAMEWORK: &str = "functions-framework==3.10.2";

struct Need {
    package: &'static str,
    why: &'static str,
    there: fn() -> bool,
}

const FOR_TESTS: [Need; 4] = [
    Need {
        package: "python3",
        why: "Python functions run on it",
        there: || Path::new(paths::PYTHON).is_file(),
    },
    Need {
        package: "python3-pil",
        why: "the thumbnail example draws with it",
        there: || python_has("PIL.Image"),
    },
    Need {
        package: "curl",
        why: "the demo calls functions with it",
        there: || paths::find_program("curl").is_some(),
    },
    Need {
        package: "openssl",
        why: "the tests of TLS make their certificate with it",
        there: || paths::find_program("openssl").is_some(),
    },
];

const FOR_BENCH: [Need; 2] = [
    Need {
        package: "wrk",
        why: "it makes the load",
        there: || paths::find_program("wrk").is_some(),
    },
    Need {
        package: "python3-venv",
        why: "the peer from PyPI is installed apart with it",
        there: || python_has("ensurepip"),
    },
];

pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let bench = args.flag("--bench");
    args.finish()?;
    for_tests()?;
    if bench {
        for_bench()?;
    }
    println!("everything that is needed is there");
    Ok(ExitCode::SUCCESS)
}

/// What tests and the demo need.
pub(crate) fn for_tests() -> Result<()> {
    install(&FOR_TESTS)
}

/// What the benchmarks need; returns the peer's program.
pub(crate) fn for_bench() -> Result<PathBuf> {
    install(&FOR_BENCH)?;
    peer()
}

fn python_has(module: &str) -> bool {
    // `-I` so that neither the environment nor the current directory answers for the system.
    let mut python = Command::new(paths::PYTHON);
    python.args(["-I", "-c", &format!("import {module}")]);
    child::capture(&mut python, CHECK_LIMIT).is_ok_and(|done| done.status.success())
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let names = packages.join(" ");
    for need in &missing {
        println!("missing: {} ({})", need.package, need.why);
    }
    if paths::find_program("apt-get").is_none() {
        bail!(
            "install what is missing by this system's package manager; in Debian it is called {names}"
        );
    }
    let by_hand = format!("apt-get update && apt-get install -y {names}");
    let prefix = privileges().with_context(|| format!("run this as root: {by_hand}"))?;
    println!("installing {names}");
    let update = || apt(&prefix, &["update", "-qq"]);
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&packages);
    // Package lists may be absent (a minimal image ships none) or too old to name files that still exist.
    let fresh = !has_package_lists();
    if fresh {
        update()?;
    }
    if let Err(error) = apt(&prefix, &install) {
        if fresh {
            return Err(error).context(format!("run this as root: {by_hand}"));
        }
        update()?;
        apt(&prefix, &install).with_context(|| format!("run this as root: {by_hand}"))?;
    }
    for need in missing {
        if !(need.there)() {
            bail!("{} was installed, yet it is not found", need.package);
        }
    }
    Ok(())
}

fn has_package_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        })
    })
}

/// The words before `apt-get` that make it root's.
fn privileges() -> Result<Vec<&'static str>> {
    let mut id = Command::new("id");
    let user = child::capture(id.arg("-u"), CHECK_LIMIT)?.success("id -u")?;
    if user.trim() == "0" {
        return Ok(Vec::new());
    }
    if paths::find_program("sudo").is_none() {
        bail!("not root, and there is no sudo");
    }
    // Without a terminal a question for the password would wait for ever.
    Ok(if std::io::stdin().is_terminal() {
        vec!["sudo"]
    } else {
        vec!["sudo", "-n"]
    })
}

fn apt(prefix: &[&str], words: &[&str]) -> Result<()> {
    let mut all = prefix.to_vec();
    // Named on the command line because sudo clears the environment.
    all.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    all.extend(words);
    let mut command = Command::new(all[0]);
    command.args(&all[1..]);
    let status = if prefix == ["sudo"] {
        // Not in a process group of its own: sudo has to reach the terminal to ask.
        command.status().context("cannot start sudo")?
    } else {
        child::show(&mut command, INSTALL_LIMIT)?
    };
    if !status.success() {
        bail!("apt-get {} failed ({status})", words[0]);
    }
    Ok(())
}

/// functions-framework's program, installed in the cache directory when it is not there.
fn peer() -> Result<PathBuf> {
    let home = paths::cache()?
        .join("venv")
        .join(FUNCTIONS_FRAMEWORK.replace("==", "-"));
    let program = home.join("bin/functions-framework");
    let complete = home.join("complete");
    if complete.is_file() {
        return Ok(program);
    }
    println!(
        "installing {FUNCTIONS_FRAMEWORK} from PyPI into {}",
        home.display()
    );
    let mut make = Command::new(paths::PYTHON);
    make.args(["-m", "venv", "--clear"]).arg(&home);
    let mut fill = Command::new(home.join("bin/pip"));
    fill.args(["install", "--quiet", "--disable-pip-version-check"])
        .arg(FUNCTIONS_FRAMEWORK)
        .stdout(Stdio::inherit());
    for (what, command) in [("python3 -m venv", &mut make), ("pip install", &mut fill)] {
        let status = child::show(command, INSTALL_LIMIT)?;
        if !status.success() {
            bail!("{what} failed ({status})");
        }
    }
    // Written last, so that an installation cut short is made anew.
    fs::write(&complete, "")?;
    Ok(program)
}
