//! Requests a second, latency and processor time of servers that are warm.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::wrk::{self, Load};
use super::{Bench, figures, openfaas, path_text, probe, proc};
use crate::child::{self, Group};
use crate::paths;
use crate::server::{self, Server};

/// Connections of the two loads: enough to keep a server busy, and one, where every request waits for the last.
pub(super) const CONNECTIONS: [u32; 2] = [16, 1];
/// Longest time for the Go compiler, its standard library included.
const COMPILE_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long each server is loaded before it is measured.
const WARM_UP_SECONDS: u64 = 1;

/// How the bench's own server is deployed: one instance that takes all calls at once, like the bare proxy's upstream.
pub(super) const HTTP_FLAGS: [&str; 10] = [
    "--runtime",
    "executable",
    "--contract",
    "http",
    "--concurrency",
    "64",
    "--min",
    "1",
    "--max",
    "1",
];
/// Node and Go the same way, so that each is one process on either side.
const ONE_PROCESS: [&str; 6] = ["--concurrency", "64", "--min", "1", "--max", "1"];
/// Python is deployed with its defaults; one instance is kept so that the first round is as warm as the last.
const PYTHON_FLAGS: [&str; 4] = ["--runtime", "python", "--min", "1"];

/// One server under one load.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) connections: u32,
    /// One a round, in the rounds' order.
    pub(super) runs: Vec<Run>,
}

/// One round's figures of a row.
pub(super) struct Run {
    pub(super) load: Load,
    /// Processor time of the server itself for a request, in microseconds; `None` of a peer with several processes.
    pub(super) own_us: Option<f64>,
}

impl Row {
    /// The median over the rounds of what `pick` takes from one.
    pub(super) fn median(&self, pick: impl Fn(&Run) -> f64) -> f64 {
        figures::median(self.runs.iter().map(pick).collect())
    }

    pub(super) fn own_us(&self) -> Option<f64> {
        let all: Option<Vec<f64>> = self.runs.iter().map(|run| run.own_us).collect();
        all.map(figures::median)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "what": self.what,
            "connections": self.connections,
            "requests_per_second": self.median(|run| run.load.per_second),
            "p50_us": self.median(|run| run.load.p50_us),
            "p99_us": self.median(|run| run.load.p99_us),
            "own_cpu_us_per_request": self.own_us(),
            "rounds": self.runs.iter().map(|run| json!({
                "requests": run.load.requests,
                "requests_per_second": run.load.per_second,
                "p50_us": run.load.p50_us,
                "p99_us": run.load.p99_us,
                "own_cpu_us_per_request": run.own_us,
            })).collect::<Vec<_>>(),
        })
    }
}

/// A server that is up.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) url: String,
    /// The process whose own time is measured.
    pub(super) pid: Option<u32>,
}

/// Starts what is wanted, measures everything in every round, and ends it.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut subjects = Vec::new();
    // Dropped at the end of this function, which ends them.
    let mut running: Vec<Group> = Vec::new();

    let proxied = bench.wants("proxy");
    if bench.wants("hyper") || proxied {
        let (hello, at) = probe::start(server::clean(&bench.hello).arg("0"))?;
        if bench.wants("hyper") {
            subjects.push(Subject {
                name: "hyper",
                what: "bare hyper server",
                url: format!("http://{at}/"),
                pid: Some(hello.pid()),
            });
        }
        running.push(hello);
        if proxied {
            let (proxy, at) =
                probe::start(server::clean(&bench.proxy).args(["0", &at.to_string()]))?;
            subjects.push(Subject {
                name: "proxy",
                what: "bare hyper proxy before it",
                url: format!("http://{at}/"),
                pid: Some(proxy.pid()),
            });
            running.push(proxy);
        }
    }
    ceilings(bench, &mut subjects, &mut running)?;
    let platform = platform(bench, &mut subjects)?;
    if let Some(peer) = &bench.node_peer {
        let port = probe::free_port()?;
        let mut framework = server::clean(peer);
        framework
            .arg(format!("--source={}", path_text(&bench.node_function)?))
            .args(["--target=handler", &format!("--port={port}")])
            .env("HOME", bench.scratch.path())
            .env("NODE_ENV", "production")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut group = Group::spawn(&mut framework)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        probe::answering(&mut group, at).context("Node's functions-framework did not come up")?;
        subjects.push(Subject {
            name: "node-functions-framework",
            what: "the same under @google-cloud/functions-framework",
            url: format!("http://{at}/"),
            pid: Some(group.pid()),
        });
        running.push(group);
    }
    if let Some(peer) = &bench.peer {
        let port = probe::free_port()?;
        let mut framework = server::clean(peer);
        framework
            .args([
                "--source",
                path_text(&bench.python_function)?,
                "--target",
                "handler",
            ])
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .env("HOME", bench.scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut group = Group::spawn(&mut framework)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        probe::answering(&mut group, at).context("functions-framework did not come up")?;
        subjects.push(Subject {
            name: "functions-framework",
            what: "the same under functions-framework",
            url: format!("http://{at}/"),
            pid: None,
        });
        running.push(group);
    }

    openfaas::entries(bench, &mut subjects, &mut running)?;

    let rows = rounds(bench, &subjects)?;
    if let Some(platform) = platform {
        platform.stop()?;
    }
    Ok(rows)
}

/// What Node and Go do with nothing before them.
fn ceilings(bench: &Bench, subjects: &mut Vec<Subject>, running: &mut Vec<Group>) -> Result<()> {
    if bench.wants("node-http") {
        let node = paths::find_tool("node").context("node is not installed")?;
        let bare = bench.node_function.with_file_name("bare.cjs");
        let (group, at) =
            probe::start(server::clean(node).arg(&bare).env("NODE_ENV", "production"))?;
        subjects.push(Subject {
            name: "node-http",
            what: "Node hello, bare",
            url: format!("http://{at}/"),
            pid: Some(group.pid()),
        });
        running.push(group);
    }
    if bench.wants("go-http") {
        let program = bench.folder("go")?.join("hello");
        let go = paths::find_tool("go").context("go is not installed")?;
        let mut build = Command::new(go);
        build
            .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(&bench.go_function)
            .env("CGO_ENABLED", "0");
        child::capture(&mut build, COMPILE_LIMIT)?.success("go build")?;
        let (group, at) = probe::start(server::clean(&program).env("PORT", "0"))?;
        subjects.push(Subject {
            name: "go-http",
            what: "Go hello, bare",
            url: format!("http://{at}/"),
            pid: Some(group.pid()),
        });
        running.push(group);
    }
    Ok(())
}

fn platform(bench: &Bench, subjects: &mut Vec<Subject>) -> Result<Option<Server>> {
    let (http, python) = (bench.wants("tidegate"), bench.wants("python"));
    let (node, go) = (bench.wants("node"), bench.wants("go"));
    let stack = openfaas::OURS.iter().any(|row| bench.wants(row));
    if !http && !python && !node && !go && !stack {
        return Ok(None);
    }
    let platform = Server::start(&bench.tidegate, "127.0.0.1:0", &bench.folder("load")?)?;
    let pid = Some(platform.pid());
    if http {
        let url = platform.deploy(&bench.hello, "bench-http", &HTTP_FLAGS)?;
        subjects.push(Subject {
            name: "tidegate",
            what: "Tidegate before it",
            url: format!("{url}/"),
            pid,
        });
    }
    if python {
        let url = platform.deploy(&bench.python_function, "bench-python", &PYTHON_FLAGS)?;
        subjects.push(Subject {
            name: "python",
            what: "Python hello through Tidegate",
            url: format!("{url}/"),
            pid,
        });
    }
    for (wanted, name, what, path) in [
        (
            node,
            "node",
            "Node hello through Tidegate",
            &bench.node_function,
        ),
        (go, "go", "Go hello through Tidegate", &bench.go_function),
    ] {
        if wanted {
            let url = platform.deploy(path, &format!("bench-{name}"), &ONE_PROCESS)?;
            subjects.push(Subject {
                name,
                what,
                url: format!("{url}/"),
                pid,
            });
        }
    }
    if stack {
        openfaas::stack(bench, &platform, subjects)?;
    }
    Ok(Some(platform))
}

fn rounds(bench: &Bench, subjects: &[Subject]) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for subject in subjects {
        wrk::run(&subject.url, CONNECTIONS[0], WARM_UP_SECONDS)?;
        rows.extend(CONNECTIONS.map(|connections| Row {
            name: subject.name,
            what: subject.what,
            connections,
            runs: Vec::new(),
        }));
    }
    if rows.is_empty() {
        return Ok(rows);
    }
    for round in 1..=bench.plan.rounds {
        println!("round {round} of {}", bench.plan.rounds);
        for row in &mut rows {
            let subject = subjects
                .iter()
                .find(|subject| subject.name == row.name)
                .expect("rows were made from the subjects");
            row.runs
                .push(run(subject, row.connections, bench.plan.seconds)?);
        }
    }
    Ok(rows)
}

fn run(subject: &Subject, connections: u32, seconds: u64) -> Result<Run> {
    let used = || subject.pid.map(proc::cpu_us).transpose();
    let before = used()?;
    let load = wrk::run(&subject.url, connections, seconds)?;
    let after = used()?;
    #[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
    let own_us = before
        .zip(after)
        .map(|(before, after)| after.saturating_sub(before) as f64 / load.requests.max(1) as f64);
    Ok(Run { load, own_us })
}
