//! How fast a full queue is worked off.
//!
//! A function that does nothing is held to one call a second until enough is queued, and then let go.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::super::Bench;
use super::super::figures::Part;
use crate::report::render;

/// Longest time to work it off: a hundred calls a second.
const LIMIT: Duration = Duration::from_secs(20 * 60);

pub(super) fn measure(bench: &Bench) -> Result<Part> {
    let (server, url) = super::with_hello(bench, "drain")?;
    let python = server.deploy(&bench.python_function, "bench-python", &[])?;
    let script = super::script(bench, true)?;
    let mut rows = Vec::new();
    for (what, name, url) in [
        ("a server, 64 calls at once", "bench-later", url),
        ("Python, its defaults", "bench-python", format!("{python}/")),
    ] {
        server.later(name, json!({"rate": 1}))?;
        super::fill(&server, &url, &script, bench.plan.drained)?;
        // What is let go counts from when it was asked for; nothing of it was done before.
        let queued = super::depth(&server)?;
        let began = Instant::now();
        server.later(name, Value::Null)?;
        super::emptied(&server, LIMIT)?;
        #[allow(clippy::cast_precision_loss, reason = "a count of calls")]
        let rate = queued as f64 / began.elapsed().as_secs_f64();
        rows.push((what, queued, rate));
    }
    server.stop()?;
    let mut table = vec![["worked off", "calls", "calls/s"].map(str::to_owned)];
    table.extend(
        rows.iter().map(|(what, count, rate)| {
            [(*what).to_owned(), count.to_string(), format!("{rate:.0}")]
        }),
    );
    Ok(Part {
        name: "drain",
        table: render(&table),
        promises: Vec::new(),
        json: rows
            .iter()
            .map(|(what, count, rate)| json!({"what": what, "calls": count, "per_second": rate}))
            .collect(),
    })
}
