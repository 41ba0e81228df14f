//! Functions of OpenFaaS's templates, and the entry that each template puts before its handler, by itself.
//!
//! In OpenFaaS a call goes from its gateway through of-watchdog to that entry. of-watchdog is no package that could be had by
//! name, so the peers are the entries alone, on loopback, without the watchdog's hop and the gateway's: faster than what a
//! caller of OpenFaaS ever sees, and a harder comparison for us.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::load::Subject;
use super::{Bench, probe};
use crate::child::{self, Group};
use crate::paths;
use crate::server::{self, Server};

/// The stack and the entries, in the workspace.
const FUNCTIONS: &str = "crates/tidegate-bench/functions/openfaas";
/// Longest time to install an entry's packages, on a slow line.
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Rows that Tidegate serves.
pub(super) const OURS: [&str; 2] = ["openfaas-python", "openfaas-node"];

/// Applies the stack and adds those of its functions that are wanted.
pub(super) fn stack(bench: &Bench, platform: &Server, subjects: &mut Vec<Subject>) -> Result<()> {
    platform.apply(&bench.root.join(FUNCTIONS).join("stack.yaml"))?;
    let [python, node] = OURS;
    for (name, what, function) in [
        (
            python,
            "python3-http hello through Tidegate",
            "bench-python3-http",
        ),
        (node, "node22 hello through Tidegate", "bench-node22"),
    ] {
        if bench.wants(name) {
            subjects.push(Subject {
                name,
                what,
                url: format!("{}/function/{function}", platform.url()),
                pid: Some(platform.pid()),
            });
        }
    }
    Ok(())
}

/// An entry by itself.
struct Entry {
    row: &'static str,
    what: &'static str,
    /// What runs it, and its file beside the stack.
    program: fn() -> Option<PathBuf>,
    file: &'static str,
}

const ENTRIES: [Entry; 2] = [
    Entry {
        row: "flask-waitress",
        what: "the same behind Flask and waitress, no watchdog",
        program: || Some(PathBuf::from(paths::PYTHON)),
        file: "flask_waitress.py",
    },
    Entry {
        row: "express",
        what: "the same behind Express, no watchdog",
        program: || paths::find_tool("node"),
        file: "express.cjs",
    },
];

impl Entry {
    fn program(&self) -> Result<PathBuf> {
        (self.program)().with_context(|| format!("nothing here runs {}", self.file))
    }

    /// Its file, the folder of what it stands on, and what it shall do.
    fn words(&self, root: &Path, last: &str) -> [OsString; 3] {
        [
            root.join(FUNCTIONS).join(self.file).into(),
            root.join("runtimes/openfaas/tests").into(),
            last.into(),
        ]
    }
}

/// Sees that the packages of the entries are there; they are installed with the user's own environment.
pub(super) fn install(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for entry in ENTRIES.iter().filter(|entry| wanted(entry.row)) {
        let mut command = Command::new(entry.program()?);
        let status = child::show(command.args(entry.words(root, "install")), INSTALL_LIMIT)?;
        if !status.success() {
            bail!("the packages of {} are not there ({status})", entry.row);
        }
    }
    Ok(())
}

/// Starts the entries that are wanted.
pub(super) fn entries(
    bench: &Bench,
    subjects: &mut Vec<Subject>,
    running: &mut Vec<Group>,
) -> Result<()> {
    let cache = paths::cache()?;
    let cache = cache.parent().context("the cache is a folder's")?;
    for entry in ENTRIES.iter().filter(|entry| bench.wants(entry.row)) {
        let port = probe::free_port()?;
        let mut command = server::clean(entry.program()?);
        command
            .args(entry.words(&bench.root, &port.to_string()))
            // Its packages are in the user's cache, wherever HOME is.
            .env("XDG_CACHE_HOME", cache)
            .env("HOME", bench.scratch.path())
            .env("NODE_ENV", "production")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut group = Group::spawn(&mut command)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        probe::answering(&mut group, at)
            .with_context(|| format!("{} did not come up", entry.row))?;
        subjects.push(Subject {
            name: entry.row,
            what: entry.what,
            url: format!("http://{at}/"),
            pid: Some(group.pid()),
        });
        running.push(group);
    }
    Ok(())
}
