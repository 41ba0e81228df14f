//! How long `tidegate deploy` takes for a folder with packages, from the command's start to the URL it prints.
//!
//! *Cold* is on a server that never built anything, so packages are fetched: the line to the registry is in the figure.
//! *Code changed* is the next deploy on that server, of another code with the same packages, which is what a developer
//! waits for all day.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Bench, figures};
use crate::server::Server;

/// What is deployed: an example, the file whose change makes another code of it, and a comment in its language.
const KINDS: [(&str, &str, &str, &str); 3] = [
    (
        "Python with requirements.txt",
        "yaml2json",
        "handler.py",
        "# changed\n",
    ),
    (
        "Node with package-lock.json",
        "markdown",
        "markdown.js",
        "// changed\n",
    ),
    (
        "Go with go.sum, compiled",
        "qrcode",
        "qrcode.go",
        "// changed\n",
    ),
];

/// Deploys of one kind, in seconds, one a round.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) cold: Vec<f64>,
    pub(super) cached: Vec<f64>,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "cold_seconds": figures::median(self.cold.clone()),
            "cached_seconds": figures::median(self.cached.clone()),
            "rounds": {"cold": self.cold, "cached": self.cached},
        })
    }
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = KINDS.map(|(what, ..)| Row {
        what,
        cold: Vec::new(),
        cached: Vec::new(),
    });
    for round in 1..=bench.plan.deploys {
        println!("deploys, round {round} of {}", bench.plan.deploys);
        let home = bench.folder(&format!("deploy-{round}"))?;
        let server = Server::start(&bench.tidegate, "127.0.0.1:0", &home)?;
        for (row, (_, example, file, comment)) in rows.iter_mut().zip(KINDS) {
            let folder = home.join(example);
            copy(&bench.root.join("examples").join(example), &folder)?;
            row.cold.push(timed(&server, &folder, example)?);
            OpenOptions::new()
                .append(true)
                .open(folder.join(file))
                .and_then(|mut file| file.write_all(comment.as_bytes()))
                .with_context(|| format!("cannot change {file}"))?;
            row.cached.push(timed(&server, &folder, example)?);
        }
        server.stop()?;
    }
    Ok(rows.into())
}

fn timed(server: &Server, folder: &Path, name: &str) -> Result<f64> {
    let began = Instant::now();
    server.deploy(folder, name, &[])?;
    Ok(began.elapsed().as_secs_f64())
}

/// Copies what a developer would have in the folder; packages that were installed beside it stay behind.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("no {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "node_modules" || name == "__pycache__" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(&name))?;
        } else {
            fs::copy(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}
