//! First calls: from the request's first byte to the answer's last, the function's start in between.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Bench, path_text};
use crate::server::Server;

/// Time between first calls that a stock is given to fill again, in milliseconds.
const PAUSE_MS: &str = "400";
/// Nothing runs until it is called, and what ran goes soon, so that one way of calling leaves the next its memory.
const COLD_FLAGS: [&str; 6] = ["--min", "0", "--initial", "0", "--idle", "5s"];

/// First calls of one kind.
pub(super) struct Row {
    pub(super) runtime: &'static str,
    pub(super) way: Way,
    /// As `bench-client` told: calls, failures, first_failure, p50_us, p99_us, max_us.
    pub(super) told: Value,
}

/// How first calls are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One fresh function after another.
    OneByOne,
    /// The same with a pause before each.
    Paced,
    /// As many fresh functions at once.
    AtOnce,
    /// One fresh function, as many calls at once.
    OneFunction,
}

impl Way {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::OneByOne => "fresh functions, one by one",
            Self::Paced => "fresh functions, one by one, with pauses",
            Self::AtOnce => "fresh functions, all at once",
            Self::OneFunction => "calls of one fresh function at once",
        }
    }

    fn flag(self) -> &'static [&'static str] {
        match self {
            Self::OneByOne => &[],
            Self::Paced => &["--pause", PAUSE_MS],
            Self::AtOnce => &["--at-once"],
            Self::OneFunction => &["--one-function"],
        }
    }
}

impl Row {
    pub(super) fn micros(&self, field: &str) -> Option<u64> {
        self.told[field].as_u64()
    }

    pub(super) fn json(&self) -> Value {
        json!({"runtime": self.runtime, "way": self.way.words(), "figures": self.told})
    }
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let server = Server::start(&bench.tidegate, "127.0.0.1:0", &bench.folder("cold")?)?;
    let mut rows = Vec::new();
    let executable = [
        "--runtime",
        "executable",
        "--contract",
        "http",
        "--concurrency",
        "64",
    ];
    for (runtime, file, flags) in [
        (
            "python",
            &bench.python_function,
            &["--runtime", "python"][..],
        ),
        ("node", &bench.node_function, &["--runtime", "node"][..]),
        ("executable", &bench.hello, &executable[..]),
    ] {
        // Node's processes wait in a stock that takes longer to fill than first calls in a row take to empty it.
        let ways: &[Way] = if runtime == "node" {
            &[Way::Paced, Way::OneByOne, Way::AtOnce, Way::OneFunction]
        } else {
            &[Way::OneByOne, Way::AtOnce, Way::OneFunction]
        };
        rows.extend(first_calls(bench, &server, runtime, file, flags, ways)?);
    }
    server.stop()?;
    Ok(rows)
}

fn first_calls(
    bench: &Bench,
    server: &Server,
    runtime: &'static str,
    file: &Path,
    flags: &[&str],
    ways: &[Way],
) -> Result<Vec<Row>> {
    println!("first calls, {runtime}");
    let template = format!("cold-{runtime}");
    let flags = [flags, &COLD_FLAGS].concat();
    server
        .deploy(file, &template, &flags)
        .with_context(|| format!("cannot deploy {}", path_text(file).unwrap_or_default()))?;
    // The runtime's own start (the zygote, for Python) belongs to the first function on a server, not to each.
    server.run(&["invoke", &template])?;
    ways.iter()
        .copied()
        .enumerate()
        .map(|(number, way)| {
            let prefix = format!("{template}-{number}");
            let functions = if way == Way::OneFunction {
                1
            } else {
                bench.plan.cold
            };
            bench.register(server, &template, &prefix, functions)?;
            let count = bench.plan.cold.to_string();
            let mut words = vec![
                "cold",
                "--url",
                server.url(),
                "--prefix",
                &prefix,
                "--count",
                &count,
            ];
            words.extend(way.flag());
            Ok(Row {
                runtime,
                way,
                told: bench.client(&words)?,
            })
        })
        .collect()
}
