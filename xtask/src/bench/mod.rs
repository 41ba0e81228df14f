//! Measuring, side by side in one run: the bare ceilings, Tidegate, and a peer.
//!
//! On a machine that others share, requests per second drift by a third between minutes. So every row is measured in every
//! round, rounds are repeated, and what is reported are medians and, above all, ratios taken within a round. All loads are
//! bounded and stay on loopback; every server starts with a clean environment.

mod cold;
mod deploy;
mod figures;
mod load;
mod memory;
mod openfaas;
mod probe;
mod proc;
mod queue;
mod records;
mod wrk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::args::Args;
use crate::scratch::Scratch;
use crate::target::Target;
use crate::{child, report, server, setup, signals};

/// Rows by the names that `--only` takes.
const ROWS: [&str; 23] = [
    "hyper",
    "proxy",
    "tidegate",
    "python",
    "functions-framework",
    "node-http",
    "node",
    "node-functions-framework",
    "go-http",
    "go",
    "openfaas-python",
    "flask-waitress",
    "openfaas-node",
    "express",
    "cold",
    "deploy",
    "memory",
    "enqueue",
    "drain",
    "idle",
    "full",
    "overload",
    "records",
];

/// Where a function's document is, in the native API.
const FUNCTION_PATH: &str = "/tidegate/v1/namespaces/default/functions/{name}";

/// Longest time for the client's chores, ten thousand registrations among them.
const CLIENT_LIMIT: Duration = Duration::from_secs(5 * 60);

/// How much is measured.
struct Plan {
    rounds: usize,
    seconds: u64,
    /// Functions called for the first time, for each way of calling them.
    cold: usize,
    /// Functions registered to see what one weighs.
    registered: usize,
    /// Deploys of each kind, cold and cached.
    deploys: usize,
    /// Calls in a queue that is worked off.
    drained: u64,
    /// Calls made later by a server that is idle.
    idle: usize,
    /// Calls in a queue that is weighed, and opened again.
    queued: u64,
    /// Records in a folder that is opened.
    recorded: u64,
    /// For how long more comes than can be worked off.
    overload: Duration,
}

const FULL: Plan = Plan {
    rounds: 5,
    seconds: 4,
    cold: 100,
    registered: 10_000,
    deploys: 3,
    drained: 100_000,
    idle: 1000,
    queued: 1_000_000,
    recorded: 10_000_000,
    overload: Duration::from_secs(30),
};
const QUICK: Plan = Plan {
    rounds: 2,
    seconds: 2,
    cold: 20,
    registered: 1_000,
    deploys: 1,
    drained: 20_000,
    idle: 200,
    queued: 100_000,
    recorded: 1_000_000,
    overload: Duration::from_secs(10),
};

/// What every part of the benchmark needs.
struct Bench {
    plan: &'static Plan,
    only: Vec<String>,
    tidegate: PathBuf,
    hello: PathBuf,
    proxy: PathBuf,
    client: PathBuf,
    floor: PathBuf,
    /// Makes records, where a row wants many of them.
    seed: PathBuf,
    /// functions-framework, where its row is wanted.
    peer: Option<PathBuf>,
    /// The same for Node.
    node_peer: Option<PathBuf>,
    root: PathBuf,
    python_function: PathBuf,
    node_function: PathBuf,
    /// A folder.
    go_function: PathBuf,
    scratch: Scratch,
}

pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let plan = if args.flag("--quick") { &QUICK } else { &FULL };
    let json_file = args.value("--json")?.map(PathBuf::from);
    let only = rows(args.value("--only")?.as_deref())?;
    args.finish()?;

    signals::watch();
    setup::for_tests()?;
    let peers = setup::for_bench()?;
    let target = Target::claim()?;
    server::build(&target, &["-p", "tidegate-bench"])?;
    let wanted = |row: &str| only.iter().any(|name| name == row);
    let ours = [
        "tidegate", "python", "node", "go", "cold", "deploy", "memory",
    ];
    let ours = ours
        .iter()
        .chain(&openfaas::OURS)
        .chain(&queue::ROWS)
        .chain(&records::ROWS);
    let tidegate = if ours.into_iter().any(|row| wanted(row)) {
        server::binary(&target)?
    } else {
        PathBuf::new()
    };
    if wanted(queue::FULL) {
        server::build(&target, &["-p", "tidegate-records", "--example", "seed"])?;
    }
    openfaas::install(target.root(), wanted)?;
    let functions = target.root().join("crates/tidegate-bench/functions");
    let bench = Bench {
        plan,
        tidegate,
        hello: target.release("bench-hello"),
        proxy: target.release("bench-proxy"),
        client: target.release("bench-client"),
        floor: target.release("bench-floor"),
        seed: target.release("examples/seed"),
        peer: wanted("functions-framework").then_some(peers.python),
        node_peer: wanted("node-functions-framework").then_some(peers.node),
        root: target.root().to_path_buf(),
        python_function: functions.join("hello.py"),
        node_function: functions.join("hello.cjs"),
        go_function: functions.join("hello-go"),
        scratch: Scratch::new("bench")?,
        only,
    };
    let began = Instant::now();
    let machine = proc::machine();
    println!("{}", machine["text"].as_str().unwrap_or_default());

    let load = load::measure(&bench)?;
    let cold = if bench.wants("cold") {
        cold::measure(&bench)?
    } else {
        Vec::new()
    };
    let deploys = if bench.wants("deploy") {
        deploy::measure(&bench)?
    } else {
        Vec::new()
    };
    let memory = if bench.wants("memory") {
        Some(memory::measure(&bench)?)
    } else {
        None
    };

    let mut parts = queue::measure(&bench)?;
    parts.extend(records::measure(&bench)?);

    let mut promises = figures::promises(&load, &cold, memory.as_ref());
    promises.extend(parts.iter_mut().flat_map(|part| part.promises.drain(..)));
    println!(
        "\n{}",
        figures::tables(&load, &cold, &deploys, memory.as_ref(), &parts, &promises)
    );
    println!("took {}", report::seconds(began.elapsed()));
    if let Some(file) = json_file {
        let all = json!({
            "machine": machine,
            "rounds": plan.rounds,
            "seconds_a_run": plan.seconds,
            "load": load.iter().map(load::Row::json).collect::<Vec<_>>(),
            "cold": cold.iter().map(cold::Row::json).collect::<Vec<_>>(),
            "deploys": deploys.iter().map(deploy::Row::json).collect::<Vec<_>>(),
            "memory": memory.as_ref().map(memory::Memory::json),
            "parts": parts.iter().map(|part| (part.name, &part.json)).collect::<BTreeMap<_, _>>(),
            "promises": promises.iter().map(figures::Promise::json).collect::<Vec<_>>(),
        });
        std::fs::write(&file, format!("{all:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("figures are in {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(only: Option<&str>) -> Result<Vec<String>> {
    let Some(only) = only else {
        return Ok(ROWS.map(str::to_owned).to_vec());
    };
    let named: Vec<String> = only.split(',').map(str::to_owned).collect();
    match named.iter().find(|name| !ROWS.contains(&name.as_str())) {
        Some(stranger) => bail!("no row {stranger:?}; there are {}", ROWS.join(", ")),
        None => Ok(named),
    }
}

impl Bench {
    fn wants(&self, row: &str) -> bool {
        self.only.iter().any(|name| name == row)
    }

    /// A folder of its own in the run's folder.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Runs a chore of `bench-client` and returns what it told.
    fn client(&self, words: &[&str]) -> Result<Value> {
        let mut client = server::clean(&self.client);
        let told = child::capture(client.args(words), CLIENT_LIMIT)?.success("bench-client")?;
        serde_json::from_str(&told).context("bench-client printed no JSON")
    }

    /// Registers `count` functions `prefix-0`, … like the one called `template`; returns the seconds it took.
    fn register(
        &self,
        server: &server::Server,
        template: &str,
        prefix: &str,
        count: usize,
    ) -> Result<f64> {
        let key = path_text(server.key_file())?;
        let count = count.to_string();
        let told = self.client(&[
            "register",
            "--url",
            server.url(),
            "--token-file",
            key,
            "--path",
            FUNCTION_PATH,
            "--template",
            template,
            "--prefix",
            prefix,
            "--count",
            &count,
        ])?;
        told["seconds"]
            .as_f64()
            .context("bench-client told no seconds")
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
