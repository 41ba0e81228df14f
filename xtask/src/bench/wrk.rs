//! The load generator, and reading what it prints.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{child, server};

/// How long beyond its own time wrk may take to start and to sum up.
const SLACK: Duration = Duration::from_secs(20);

/// One run's figures; latencies in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Loads `url` over `connections` for `seconds` from one thread. An answer other than 2xx or a broken connection is an
/// error: a fast refusal must not pass for speed.
pub(super) fn run(url: &str, connections: u32, seconds: u64) -> Result<Load> {
    load(url, connections, seconds, &[])
}

/// The same with the request that a script describes.
pub(super) fn run_script(url: &str, connections: u32, seconds: u64, script: &Path) -> Result<Load> {
    load(url, connections, seconds, &["-s".into(), script.into()])
}

fn load(url: &str, connections: u32, seconds: u64, flags: &[OsString]) -> Result<Load> {
    let mut wrk = server::clean("wrk");
    wrk.args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        "--latency",
    ]);
    wrk.args(flags).arg(url);
    let printed = child::capture(&mut wrk, Duration::from_secs(seconds) + SLACK)?.success("wrk")?;
    parse(&printed).with_context(|| format!("wrk against {url}"))
}

fn parse(printed: &str) -> Result<Load> {
    let line = |start: &str| {
        printed
            .lines()
            .map(str::trim)
            .find_map(|line| line.strip_prefix(start))
            .map(str::trim)
    };
    for trouble in ["Non-2xx or 3xx responses:", "Socket errors:"] {
        if let Some(rest) = line(trouble) {
            bail!("{trouble} {rest}");
        }
    }
    let requests = printed
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let latency = |part| {
        line(part)
            .and_then(micros)
            .with_context(|| format!("no {part} latency"))
    };
    Ok(Load {
        requests: requests.context("no count of requests")?,
        per_second: line("Requests/sec:")
            .and_then(|text| text.parse().ok())
            .context("no requests a second")?,
        p50_us: latency("50%")?,
        p99_us: latency("99%")?,
    })
}

/// `111.00us`, `9.11ms` or `1.02s` in microseconds.
fn micros(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::{Load, parse};

    const PRINTED: &str = "\
Running 4s test @ http://127.0.0.1:4000/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   137.66us   40.88us   1.59ms   84.11%
    Req/Sec   112.75k     3.63k  116.23k    90.24%
  Latency Distribution
     50%  111.00us
     75%  150.00us
     90%  180.00us
     99%    1.24ms
  459735 requests in 4.10s, 55.24MB read
Requests/sec: 112136.86
Transfer/sec:     13.47MB
";

    #[test]
    fn figures_are_read() {
        let load = parse(PRINTED).unwrap();
        assert_eq!(
            load,
            Load {
                requests: 459_735,
                per_second: 112_136.86,
                p50_us: 111.0,
                p99_us: 1240.0
            }
        );
    }

    #[test]
    fn refusals_and_broken_connections_are_errors() {
        for trouble in [
            "  Non-2xx or 3xx responses: 459735\n",
            "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        ] {
            assert!(parse(&format!("{PRINTED}{trouble}")).is_err());
        }
        assert!(parse("unable to connect").is_err());
    }
}
