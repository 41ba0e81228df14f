//! What the server weighs with nothing deployed, and what a function that is only registered adds.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Bench, proc};
use crate::server::Server;

/// Readings taken before the last is believed although they still change.
const MOST_READINGS: usize = 40;
/// Time between readings.
const BETWEEN: Duration = Duration::from_millis(250);

/// Bytes; shared pages are counted by the process's part in them.
pub(super) struct Memory {
    /// The server with nothing deployed.
    pub(super) idle: u64,
    /// Its children at that time, the runtimes' stock among them.
    pub(super) idle_children: u64,
    /// The server with all functions registered.
    pub(super) full: u64,
    pub(super) functions: usize,
    /// How long it took to register them, over one connection.
    pub(super) seconds: f64,
}

impl Memory {
    /// What one registered function adds, in bytes.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn a_function(&self) -> f64 {
        (self.full as f64 - self.idle as f64) / self.functions as f64
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "idle_bytes": self.idle,
            "idle_children_bytes": self.idle_children,
            "registered": self.functions,
            "registered_bytes": self.full,
            "bytes_a_function": self.a_function(),
            "registering_seconds": self.seconds,
        })
    }
}

pub(super) fn measure(bench: &Bench) -> Result<Memory> {
    println!("memory");
    let server = Server::start(&bench.tidegate, "127.0.0.1:0", &bench.folder("memory")?)?;
    let idle = settled(server.pid())?;
    let idle_children = proc::descendants(server.pid())
        .into_iter()
        // A child that ended meanwhile weighs nothing.
        .filter_map(|pid| proc::pss(pid).ok())
        .sum();
    server.deploy(
        &bench.python_function,
        "weigh",
        &["--runtime", "python", "--min", "0", "--initial", "0"],
    )?;
    let functions = bench.plan.registered;
    let seconds = bench.register(&server, "weigh", "weigh", functions)?;
    let full = settled(server.pid())?;
    server.stop()?;
    Ok(Memory {
        idle,
        idle_children,
        full,
        functions,
        seconds,
    })
}

/// The process's memory once two readings in a row are within a hundredth of each other.
pub(super) fn settled(pid: u32) -> Result<u64> {
    let mut last = proc::pss(pid)?;
    for _ in 0..MOST_READINGS {
        std::thread::sleep(BETWEEN);
        let now = proc::pss(pid)?;
        if now.abs_diff(last) * 100 <= last {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
