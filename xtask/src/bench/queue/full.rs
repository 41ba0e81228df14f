//! What a server weighs with many calls queued, and how long it takes to start with them and with many records.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::super::figures::{Part, Promise, mib};
use super::super::memory::settled;
use super::super::{Bench, path_text};
use crate::report::render;
use crate::server::Server;
use crate::{child, server};

/// Longest time to make the records.
const SEED_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Memory that may come with calls that are queued, in MiB: caches that are filled the first time, whatever is queued.
const FLAT_MIB: f64 = 16.0;

pub(super) fn measure(bench: &Bench) -> Result<Part> {
    let home = bench.folder("full")?;
    let (server, url) = super::with_hello(bench, "full")?;
    // The caches fill with the first few thousand.
    let script = super::script(bench, false)?;
    super::fill(&server, &url, &script, 10_000)?;
    let few = settled(server.pid())?;
    let began = Instant::now();
    let queued = super::fill(&server, &url, &script, bench.plan.queued)?;
    let filling = began.elapsed().as_secs_f64();
    let many = settled(server.pid())?;
    server.stop()?;

    println!("{} records", bench.plan.recorded);
    let mut seed = server::clean(&bench.seed);
    let records = home.join("data/records");
    seed.args([path_text(&records)?, &bench.plan.recorded.to_string()]);
    child::capture(&mut seed, SEED_LIMIT)?.success("making records")?;

    let (server, clean) = start(bench, &home)?;
    let again = settled(server.pid())?;
    // The log is as long as it gets, for the start after it.
    super::super::wrk::run_script(&url_of(&server), 64, 1, &script)?;
    server.kill()?;
    let (server, killed) = start(bench, &home)?;
    server.stop()?;

    let rows = [
        ("10 000 queued, MiB".to_owned(), mib(few)),
        (format!("{queued} queued in {filling:.0} s, MiB"), mib(many)),
        ("the same, started again, MiB".to_owned(), mib(again)),
        (
            format!("to start with them and {} records, s", bench.plan.recorded),
            clean,
        ),
        ("the same after kill -9, s".to_owned(), killed),
    ];
    let mut table = vec![["a full queue", ""].map(str::to_owned)];
    table.extend(
        rows.iter()
            .map(|(what, figure)| [what.clone(), format!("{figure:.2}")]),
    );
    let what = format!("started with {queued} queued");
    Ok(Part {
        name: "full",
        table: render(&table),
        promises: vec![
            Promise::at_most(
                format!("memory that {queued} queued add"),
                "MiB",
                FLAT_MIB,
                mib(many) - mib(few),
            ),
            Promise::at_most(what.clone(), "s", 2.0, clean),
            Promise::at_most(format!("{what}, after kill -9"), "s", 2.0, killed),
        ],
        json: json!({
            "queued": queued,
            "records": bench.plan.recorded,
            "few_bytes": few,
            "many_bytes": many,
            "again_bytes": again,
            "start_seconds": clean,
            "start_after_kill_seconds": killed,
        }),
    })
}

fn url_of(server: &Server) -> String {
    format!("{}/fn/bench-later/", server.url())
}

/// Starts a server; the seconds until it has told what is queued and what was recorded last.
fn start(bench: &Bench, home: &Path) -> Result<(Server, f64)> {
    let began = Instant::now();
    let server = Server::start(&bench.tidegate, "127.0.0.1:0", home)?;
    server.control("/queue?limit=1")?;
    server.control("/records?limit=1")?;
    Ok((server, began.elapsed().as_secs_f64()))
}
