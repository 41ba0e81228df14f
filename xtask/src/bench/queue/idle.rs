//! From a request for later to its start, when nothing else goes on.
//!
//! The start is what the attempt's record says: when it was begun, and how long it waited for an instance. Clocks are the
//! machine's one, so it is compared with when the client began to send; the request's own way over HTTP is in it, and the
//! sync of its commit.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::super::Bench;
use super::super::figures::{Part, Promise};
use crate::http::Connection;
use crate::report::render;

/// Between two calls, so that each meets a server that is idle.
const PAUSE: Duration = Duration::from_millis(10);
/// Records on a page.
const PAGE: usize = 1000;
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

pub(super) fn measure(bench: &Bench) -> Result<Part> {
    let (server, _) = super::with_hello(bench, "idle")?;
    let mut connection = Connection::open(server.url())?;
    let headers = [("prefer", "respond-async"), ("content-type", "text/plain")];
    let body = [b'x'; 1024];
    let mut sent = HashMap::new();
    let mut accepted = Vec::new();
    for _ in 0..bench.plan.idle {
        std::thread::sleep(PAUSE);
        let at = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
        let answer = connection.call("POST", "/fn/bench-later/", &headers, &body)?;
        let answer = answer.success("a call for later")?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
        let id = answer.header("x-request-id").context("no id")?;
        sent.insert(id.to_owned(), at % DAY_US);
        accepted.push(now - at);
    }
    super::emptied(&server, Duration::from_secs(30))?;
    let mut started = starts(&server.control(&format!("/records?limit={PAGE}"))?, &sent)?;
    server.stop()?;
    if started.len() < sent.len().min(PAGE) {
        bail!("{} calls left {} records", sent.len(), started.len());
    }
    started.sort_unstable();
    accepted.sort_unstable();
    let rows = [("accepted", &accepted), ("started", &started)];
    let mut table = vec![["idle, from sending to", "p50 ms", "p99 ms"].map(str::to_owned)];
    table.extend(rows.iter().map(|(what, times)| {
        let at = |part| format!("{:.2}", at(times, part));
        [(*what).to_owned(), at(50), at(99)]
    }));
    Ok(Part {
        name: "idle",
        table: render(&table),
        promises: vec![Promise::at_most(
            "from a call for later to its start, idle, p50",
            "ms",
            1.0,
            at(&started, 50),
        )],
        json: rows
            .iter()
            .map(|(what, times)| json!({"what": what, "p50_ms": at(times, 50), "p99_ms": at(times, 99)}))
            .collect(),
    })
}

/// The place of so many percent among sorted microseconds, in milliseconds.
#[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
fn at(sorted: &[i64], percent: usize) -> f64 {
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(f64::NAN, |us| *us as f64 / 1e3)
}

/// Microseconds from sending to the start, of each record whose call is in `sent`.
fn starts(page: &Value, sent: &HashMap<String, i64>) -> Result<Vec<i64>> {
    let records = page["items"].as_array().context("no records")?;
    let mut all = Vec::new();
    for record in records {
        let parent = record["cause"]["parent"].as_str().unwrap_or_default();
        let Some(sent) = sent.get(parent) else {
            continue;
        };
        let received = record["received"].as_str().and_then(time_of_day);
        let received = received.context("a record without its time")?;
        let waited = record["times"]["queueUs"].as_i64().unwrap_or_default();
        all.push((received - sent).rem_euclid(DAY_US) + waited);
    }
    Ok(all)
}

/// Microseconds since midnight of `2026-11-23T19:07:02.635714Z`.
fn time_of_day(text: &str) -> Option<i64> {
    let (_, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (whole, part) = time.split_once('.').unwrap_or((time, "0"));
    let mut seconds = 0;
    for word in whole.split(':') {
        seconds = seconds * 60 + word.parse::<i64>().ok()?;
    }
    let part: i64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    Some(seconds * 1_000_000 + part)
}

#[cfg(test)]
mod tests {
    use super::{DAY_US, starts, time_of_day};
    use serde_json::json;
    use std::collections::HashMap;

    #[test]
    fn times_of_day_are_read() {
        let at = |text| time_of_day(text);
        assert_eq!(at("2026-11-23T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(at("2026-11-23T01:00:00Z"), Some(3_600_000_000));
        assert_eq!(at("yesterday"), None);
    }

    #[test]
    fn a_start_is_found_over_midnight() {
        let sent = HashMap::from([("a".to_owned(), DAY_US - 400)]);
        let page = json!({"items": [
            {"received": "2026-11-24T00:00:00.000300Z", "cause": {"parent": "a"}, "times": {"queueUs": 20}},
            {"received": "2026-11-24T00:00:00.000300Z", "cause": {}, "times": {"queueUs": 20}},
        ]});
        assert_eq!(starts(&page, &sent).unwrap(), [720]);
    }
}
