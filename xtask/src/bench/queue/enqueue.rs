//! How fast calls are accepted, beside what a disk can do at all.
//!
//! Three in each round: a bare file that is appended to and synced in groups, the same behind a bare HTTP server, and the
//! queue behind Tidegate's. Accepted calls are due in some hours, so nothing runs meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::super::figures::{Part, Promise, median};
use super::super::wrk::{self, Load};
use super::super::{Bench, path_text, probe};
use crate::report::render;
use crate::{child, server};

/// Who sends at once.
const SENDERS: [u32; 3] = [1, 16, 64];
/// How long beyond its own time the bare file may take.
const SLACK: Duration = Duration::from_secs(20);
/// How long each server is loaded before it is measured.
const WARM_UP_SECONDS: u64 = 1;

const SUBJECTS: [&str; 3] = [
    "bare file, append and sync in groups",
    "the same behind a bare hyper server",
    "queue, over HTTP",
];

struct Row {
    subject: usize,
    senders: u32,
    runs: Vec<Load>,
}

impl Row {
    fn median(&self, pick: impl Fn(&Load) -> f64) -> f64 {
        median(self.runs.iter().map(pick).collect())
    }
}

pub(super) fn measure(bench: &Bench) -> Result<Part> {
    let (server, url) = super::with_hello(bench, "enqueue")?;
    let script = super::script(bench, false)?;
    let folder = bench.folder("floor")?;
    let served = folder.join("served");
    let mut floor = server::clean(&bench.floor);
    let (_floor, at) = probe::start(floor.args(["serve", "--file", path_text(&served)?]))?;
    let floor = format!("http://{at}/");
    for url in [&floor, &url] {
        wrk::run_script(url, SENDERS[2], WARM_UP_SECONDS, &script)?;
    }

    let mut rows: Vec<Row> = Vec::new();
    for round in 1..=bench.plan.rounds {
        println!("round {round} of {}", bench.plan.rounds);
        for senders in SENDERS {
            let seconds = bench.plan.seconds;
            let runs = [
                bare(bench, path_text(&folder.join("bare"))?, senders)?,
                wrk::run_script(&floor, senders, seconds, &script)?,
                wrk::run_script(&url, senders, seconds, &script)?,
            ];
            for (subject, load) in runs.into_iter().enumerate() {
                let same = |row: &&mut Row| row.subject == subject && row.senders == senders;
                match rows.iter_mut().find(same) {
                    Some(row) => row.runs.push(load),
                    None => rows.push(Row {
                        subject,
                        senders,
                        runs: vec![load],
                    }),
                }
            }
        }
    }
    server.stop()?;
    Ok(part(&rows))
}

/// The bare file, without HTTP.
fn bare(bench: &Bench, file: &str, senders: u32) -> Result<Load> {
    let seconds = bench.plan.seconds;
    let mut floor = server::clean(&bench.floor);
    floor.args(["append", "--file", file, "--senders", &senders.to_string()]);
    floor.args(["--seconds", &seconds.to_string()]);
    let limit = Duration::from_secs(seconds) + SLACK;
    let told = child::capture(&mut floor, limit)?.success("bench-floor")?;
    let told: Value = serde_json::from_str(&told).context("bench-floor printed no JSON")?;
    let figure = |name: &str| {
        told[name]
            .as_f64()
            .with_context(|| format!("bench-floor told no {name}"))
    };
    Ok(Load {
        requests: told["requests"].as_u64().unwrap_or_default(),
        per_second: figure("per_second")?,
        p50_us: figure("p50_us")?,
        p99_us: figure("p99_us")?,
    })
}

fn part(rows: &[Row]) -> Part {
    let head = ["accepted, 1 KiB", "senders", "calls/s", "p50 ms", "p99 ms"];
    let mut table = vec![head.map(str::to_owned)];
    table.extend(rows.iter().map(|row| {
        [
            SUBJECTS[row.subject].to_owned(),
            row.senders.to_string(),
            format!("{:.0}", row.median(|run| run.per_second)),
            format!("{:.2}", row.median(|run| run.p50_us) / 1e3),
            format!("{:.2}", row.median(|run| run.p99_us) / 1e3),
        ]
    }));
    let most = rows
        .iter()
        .find(|row| row.subject == 2 && row.senders == 64);
    let promises = most.map_or_else(Vec::new, |row| {
        vec![
            Promise::at_least(
                "calls accepted over HTTP, 64 senders",
                "/s",
                20_000.0,
                row.median(|run| run.per_second),
            ),
            Promise::at_most(
                "a call accepted over HTTP, 64 senders, p99",
                "ms",
                5.0,
                row.median(|run| run.p99_us) / 1e3,
            ),
        ]
    });
    Part {
        name: "enqueue",
        table: render(&table),
        promises,
        json: rows
            .iter()
            .map(|row| {
                json!({
                    "what": SUBJECTS[row.subject],
                    "senders": row.senders,
                    "per_second": row.median(|run| run.per_second),
                    "p50_us": row.median(|run| run.p50_us),
                    "p99_us": row.median(|run| run.p99_us),
                    "rounds": row.runs.iter().map(|run| json!({
                        "per_second": run.per_second, "p50_us": run.p50_us, "p99_us": run.p99_us,
                    })).collect::<Vec<_>>(),
                })
            })
            .collect(),
    }
}
