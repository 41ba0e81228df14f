//! What records cost the server for each call.
//!
//! One server, one function twice: of one every call leaves a record, of the other none. They are loaded in turns, and
//! what is compared is the server's processor time a request, within a round. Counting usage is in both.

use anyhow::Result;
use serde_json::json;

use super::figures::{Part, Promise, median};
use super::load::HTTP_FLAGS;
use super::{Bench, proc, wrk};
use crate::report::render;
use crate::server::Server;

/// Rows by the names that `--only` takes.
pub(super) const ROWS: [&str; 1] = ["records"];

/// Rounds for each that the plan has: the difference is small beside what a machine does meanwhile.
const ROUNDS: usize = 3;
const CONNECTIONS: u32 = 16;
const LEVELS: [&str; 2] = ["none", "all"];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Part>> {
    if !bench.wants(ROWS[0]) {
        return Ok(Vec::new());
    }
    println!("records");
    let server = Server::start(&bench.tidegate, "127.0.0.1:0", &bench.folder("records")?)?;
    let mut urls = Vec::new();
    for level in LEVELS {
        let flags = [&HTTP_FLAGS[..], &["--records", level]].concat();
        let name = format!("bench-{level}");
        urls.push(format!("{}/", server.deploy(&bench.hello, &name, &flags)?));
    }
    for url in &urls {
        wrk::run(url, CONNECTIONS, 1)?;
    }
    // Of each level, microseconds a request in each round.
    let mut own = [const { Vec::new() }; 2];
    for round in 0..bench.plan.rounds * ROUNDS {
        // Neither has always the machine that the other left.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for level in order {
            let before = proc::cpu_us(server.pid())?;
            let load = wrk::run(&urls[level], CONNECTIONS, bench.plan.seconds)?;
            let used = proc::cpu_us(server.pid())?.saturating_sub(before);
            #[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
            own[level].push(used as f64 / load.requests.max(1) as f64);
        }
    }
    let shed = server.metric("tidegate_records_shed_total", "")?;
    let written = server.metric("tidegate_records_written_total", "")?;
    server.stop()?;

    let [none, all] = own;
    let more: Vec<f64> = all
        .iter()
        .zip(&none)
        .map(|(all, none)| all - none)
        .collect();
    let spread = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{least:.2} to {most:.2}")
    };
    let row = |what: &str, values: &[f64]| {
        let middle = format!("{:.2}", median(values.to_vec()));
        [what.to_owned(), middle, spread(values)]
    };
    let table = [
        ["records, own µs a request", "median", "rounds"].map(str::to_owned),
        row("none", &none),
        row("all", &all),
        row("difference within a round", &more),
        [
            "written, and given up under load".to_owned(),
            format!("{written:.0}"),
            format!("{shed:.0}"),
        ],
    ];
    Ok(vec![Part {
        name: "records",
        table: render(&table),
        promises: vec![Promise::at_most(
            "own processor time a request for its record",
            "µs",
            3.0,
            median(more.clone()),
        )],
        json: json!({"none_us": none, "all_us": all, "more_us": more, "written": written, "shed": shed}),
    }])
}
