//! The durable queue, through the doors that its clients use.

mod drain;
mod enqueue;
mod full;
mod idle;
mod overload;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Bench;
use super::figures::Part;
use super::load::HTTP_FLAGS;
use crate::server::Server;
use crate::signals;

/// The row that needs records made for it.
pub(super) const FULL: &str = "full";
/// Rows by the names that `--only` takes.
pub(super) const ROWS: [&str; 5] = ["enqueue", "drain", "idle", FULL, "overload"];

/// How often a server is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (row, measure) in ROWS.iter().zip([
        enqueue::measure,
        drain::measure,
        idle::measure,
        full::measure,
        overload::measure,
    ]) {
        if bench.wants(row) {
            println!("{row}");
            parts.push(measure(bench)?);
        }
    }
    Ok(parts)
}

/// A server in a folder of its own, with the bench's own server as its function.
fn with_hello(bench: &Bench, name: &str) -> Result<(Server, String)> {
    let server = Server::start(&bench.tidegate, "127.0.0.1:0", &bench.folder(name)?)?;
    let url = server.deploy(&bench.hello, "bench-later", &HTTP_FLAGS)?;
    Ok((server, format!("{url}/")))
}

/// A request of 1 KiB for later, as `wrk` wants it described: due at once, or in some hours.
fn script(bench: &Bench, due: bool) -> Result<PathBuf> {
    let name = if due { "later.lua" } else { "much-later.lua" };
    let path = bench.scratch.path().join(name);
    let delay = if due {
        ""
    } else {
        "wrk.headers[\"X-Tidegate-Delay\"] = \"5h\"\n"
    };
    let text = format!(
        "wrk.method = \"POST\"\n\
         wrk.headers[\"Prefer\"] = \"respond-async\"\n\
         wrk.headers[\"Content-Type\"] = \"application/octet-stream\"\n\
         {delay}\
         wrk.body = string.rep(\"x\", 1024)\n"
    );
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Queues at least `wanted` calls, as fast as they are taken.
fn fill(server: &Server, url: &str, script: &Path, wanted: u64) -> Result<u64> {
    const CONNECTIONS: u32 = 64;
    const SECONDS: u64 = 2;
    loop {
        let depth = depth(server)?;
        if depth >= wanted {
            return Ok(depth);
        }
        super::wrk::run_script(url, CONNECTIONS, SECONDS, script)?;
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count"
)]
fn depth(server: &Server) -> Result<u64> {
    Ok(server.metric("tidegate_queue_depth", "")? as u64)
}

/// Waits until nothing is queued.
fn emptied(server: &Server, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    loop {
        let left = depth(server)?;
        if left == 0 {
            return Ok(());
        }
        if signals::interrupted() || Instant::now() > until {
            bail!("{left} are still queued after {} s", limit.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}
