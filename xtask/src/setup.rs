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

/// Longest time for a package manager, on a slow line; the wait for another one included.
const INSTALL_LIMIT: Duration = Duration::from_secs(20 * 60);
/// How long apt waits for another that is at work, in seconds: a fresh machine updates itself in its first minutes.
const APT_WAIT: &str = "DPkg::Lock::Timeout=300";
/// Longest time for a check of what is there.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// The peer that Python functions are measured against. Pinned, so that figures of different days compare.
const FUNCTIONS_FRAMEWORK: &str = "functions-framework==3.10.2";
/// The same for Node functions.
const NODE_FRAMEWORK: (&str, &str) = ("@google-cloud/functions-framework", "5.0.5");

struct Need {
    package: &'static str,
    why: &'static str,
    there: fn() -> bool,
}

// Every language has functions among the examples, so their tests and the demo need them all. Versions are the oldest that
// the language hosts and the examples run on; Debian 12 has newer ones of each.
const FOR_TESTS: [Need; 22] = [
    Need {
        package: "python3",
        why: "Python functions run on it",
        there: || Path::new(paths::PYTHON).is_file(),
    },
    Need {
        package: "python3-pip",
        why: "packages of Python functions are installed with it",
        there: || python_has("pip"),
    },
    Need {
        package: "python3-venv",
        why: "packages from PyPI are installed apart with it",
        there: || python_has("ensurepip"),
    },
    Need {
        package: "python3-pil",
        why: "the thumbnail example draws with it",
        there: || python_has("PIL.Image"),
    },
    Need {
        package: "nodejs",
        why: "Node functions run on it, from version 18",
        there: || at_least("node", &["--version"], (18, 0)),
    },
    Need {
        package: "npm",
        why: "packages of Node functions are installed with it, from version 8",
        there: || at_least("npm", &["--version"], (8, 0)),
    },
    Need {
        package: "golang-go",
        why: "Go functions are compiled with it, from version 1.19",
        there: || at_least("go", &["env", "GOVERSION"], (1, 19)),
    },
    Need {
        package: "default-jdk-headless",
        why: "Java functions are compiled with it, from version 11",
        there: || at_least("javac", &["-version"], (11, 0)),
    },
    Need {
        package: "maven",
        why: "Java projects are built with it",
        there: || paths::find_tool("mvn").is_some(),
    },
    Need {
        package: "ruby",
        why: "Ruby functions run on it, from version 3.0",
        there: || at_least("ruby", &["--version"], (3, 0)),
    },
    Need {
        package: "ruby-bundler",
        why: "gems of Ruby functions are installed with it",
        there: || paths::find_tool("bundle").is_some(),
    },
    Need {
        package: "php-cli",
        why: "PHP functions run on it, from version 8.1",
        there: || at_least("php", &["--version"], (8, 1)),
    },
    Need {
        package: "php-mbstring",
        why: "the linkcard example reads pages in any script with it",
        there: || php_has("mbstring"),
    },
    Need {
        package: "php-xml",
        why: "the linkcard example reads pages with it",
        there: || php_has("dom"),
    },
    Need {
        package: "composer",
        why: "packages of PHP functions are installed with it",
        there: || paths::find_tool("composer").is_some(),
    },
    Need {
        package: "busybox-static",
        why: "images for tests are made of it",
        there: || paths::find_tool("busybox").is_some(),
    },
    Need {
        package: "gcc",
        why: "Rust functions are linked with it",
        there: || paths::find_tool("cc").is_some(),
    },
    Need {
        package: "git",
        why: "functions are deployed from repositories with it",
        there: || paths::find_tool("git").is_some(),
    },
    Need {
        package: "unzip",
        why: "packages of PHP functions are unpacked with it",
        there: || paths::find_tool("unzip").is_some(),
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
    Need {
        package: "docker-registry",
        why: "the tests of images pull from it",
        there: || paths::find_program("docker-registry").is_some(),
    },
];

const FOR_BENCH: [Need; 1] = [Need {
    package: "wrk",
    why: "it makes the load",
    there: || paths::find_program("wrk").is_some(),
}];

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

/// Programs that Tidegate is measured beside.
pub(crate) struct Peers {
    pub(crate) python: PathBuf,
    pub(crate) node: PathBuf,
}

/// What the benchmarks need; returns the peers' programs.
pub(crate) fn for_bench() -> Result<Peers> {
    install(&FOR_BENCH)?;
    Ok(Peers {
        python: python_peer()?,
        node: node_peer()?,
    })
}

fn python_has(module: &str) -> bool {
    // `-I` so that neither the environment nor the current directory answers for the system.
    let mut python = Command::new(paths::PYTHON);
    python.args(["-I", "-c", &format!("import {module}")]);
    child::capture(&mut python, CHECK_LIMIT).is_ok_and(|done| done.status.success())
}

fn php_has(extension: &str) -> bool {
    let Some(php) = paths::find_tool("php") else {
        return false;
    };
    let mut php = Command::new(php);
    php.args([
        "-r",
        &format!("exit((int) !extension_loaded('{extension}'));"),
    ]);
    child::capture(&mut php, CHECK_LIMIT).is_ok_and(|done| done.status.success())
}

/// Whether the program is there and tells a version that is not below `least`.
fn at_least(program: &str, words: &[&str], least: (u32, u32)) -> bool {
    let Some(path) = paths::find_tool(program) else {
        return false;
    };
    let Ok(done) = child::capture(Command::new(path).args(words), CHECK_LIMIT) else {
        return false;
    };
    let told = String::from_utf8_lossy(&done.stdout) + done.stderr.as_str();
    done.status.success() && version(&told).is_some_and(|version| version >= least)
}

/// The first number and what follows its first point: of `go1.26.1`, `v20.20.0`, `ruby 3.1.7p261 (2025-…)`, `javac 21`.
fn version(told: &str) -> Option<(u32, u32)> {
    let number = told
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.').map(str::parse);
    let major = parts.next()?.ok()?;
    Some((major, parts.next().and_then(Result::ok).unwrap_or(0)))
}

/// Those that are not there. Each look runs a program, and most of these take a moment to start, so all look at once.
fn missing(needs: &[Need]) -> Vec<&Need> {
    std::thread::scope(|scope| {
        let looks: Vec<_> = needs
            .iter()
            .map(|need| (need, scope.spawn(|| (need.there)())))
            .collect();
        looks
            .into_iter()
            .filter_map(|(need, look)| {
                let there = look.join().expect("looking does not panic");
                (!there).then_some(need)
            })
            .collect()
    })
}

fn install(needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
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
    let by_hand = format!("apt-get update && apt-get install -y --no-install-recommends {names}");
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
            bail!(
                "{} was installed, yet it is not found or too old ({})",
                need.package,
                need.why
            );
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
    all.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        APT_WAIT,
    ]);
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
fn python_peer() -> Result<PathBuf> {
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

/// The same for Node's. What it depends on is as npm has it on that day: there is no lock for a program by itself.
fn node_peer() -> Result<PathBuf> {
    let (name, version) = NODE_FRAMEWORK;
    let home = paths::cache()?
        .join("npm")
        .join(format!("functions-framework-{version}"));
    let program = home.join("node_modules/.bin/functions-framework");
    let complete = home.join("complete");
    if complete.is_file() {
        return Ok(program);
    }
    println!(
        "installing {name} {version} from npm into {}",
        home.display()
    );
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let npm = paths::find_tool("npm").context("npm is not installed")?;
    let mut install = Command::new(npm);
    install
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ])
        .arg(&home)
        .arg(format!("{name}@{version}"));
    let status = child::show(&mut install, INSTALL_LIMIT)?;
    if !status.success() {
        bail!("npm install failed ({status})");
    }
    // Written last, so that an installation cut short is made anew.
    fs::write(&complete, "")?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("go1.26.1\n"), Some((1, 26)));
        assert_eq!(version("v20.20.0\n"), Some((20, 20)));
        assert_eq!(
            version("ruby 3.1.7p261 (2025-03-26 revision 0a3704f218) [x86_64-linux-gnu]"),
            Some((3, 1))
        );
        assert_eq!(
            version("PHP 8.2.36 (cli) (built: Nov 18 2026)"),
            Some((8, 2))
        );
        assert_eq!(version("javac 17.0.17\n"), Some((17, 0)));
        assert_eq!(version("javac 21\n"), Some((21, 0)));
        assert_eq!(version("no version here"), None);
    }
}
