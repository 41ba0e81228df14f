//! Medians, ratios, and the tables that show them.

use serde_json::{Value, json};

use super::cold::{self, Way};
use super::deploy;
use super::load::{CONNECTIONS, Row, Run};
use super::memory::Memory;
use crate::report::render;

/// The middle of `values`; the mean of the two in the middle of an even number. Not a number of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// A line of the specification, and what was measured of it.
pub(super) struct Promise {
    what: String,
    /// The figure that is promised, and whether more is better.
    budget: f64,
    at_least: bool,
    unit: &'static str,
    measured: f64,
}

impl Promise {
    /// A figure that may not be less.
    pub(super) fn at_least(
        what: impl Into<String>,
        unit: &'static str,
        budget: f64,
        measured: f64,
    ) -> Self {
        Self {
            what: what.into(),
            budget,
            at_least: true,
            unit,
            measured,
        }
    }

    /// A figure that may not be more.
    pub(super) fn at_most(
        what: impl Into<String>,
        unit: &'static str,
        budget: f64,
        measured: f64,
    ) -> Self {
        Self {
            at_least: false,
            ..Self::at_least(what, unit, budget, measured)
        }
    }

    fn met(&self) -> bool {
        if self.at_least {
            self.measured >= self.budget
        } else {
            self.measured <= self.budget
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "budget": self.budget,
            "at_least": self.at_least,
            "unit": self.unit,
            "measured": self.measured,
            "met": self.met(),
        })
    }
}

/// What a row of its own kind found: a table, what it says of promises, and all of it for programs.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) table: String,
    pub(super) promises: Vec<Promise>,
    pub(super) json: Value,
}

/// The promises that the measured rows say something about.
pub(super) fn promises(load: &[Row], cold: &[cold::Row], memory: Option<&Memory>) -> Vec<Promise> {
    let mut promises = Vec::new();
    let mut at_least = |what: &str, unit, budget, measured: Option<f64>| {
        if let Some(measured) = measured {
            promises.push((what.to_owned(), true, unit, budget, measured));
        }
    };
    let [many, one] = CONNECTIONS;
    let faster = |row: &str, peer: &str| {
        within(load, many, row, peer, |a, b| {
            a.load.per_second / b.load.per_second
        })
    };
    at_least(
        "throughput to a process instance, to a bare proxy's",
        "",
        0.8,
        faster("tidegate", "proxy"),
    );
    at_least(
        "Python hello, to functions-framework's throughput",
        "",
        3.0,
        faster("python", "functions-framework"),
    );
    at_least(
        "Node hello, to functions-framework's throughput",
        "",
        8.0,
        faster("node", "node-functions-framework"),
    );
    at_least(
        "python3-http hello, to Flask and waitress's throughput",
        "",
        3.0,
        faster("openfaas-python", "flask-waitress"),
    );
    at_least(
        "node22 hello, to Express's throughput",
        "",
        3.0,
        faster("openfaas-node", "express"),
    );
    let mut at_most = |what: String, unit, budget, measured: Option<f64>| {
        if let Some(measured) = measured {
            promises.push((what, false, unit, budget, measured));
        }
    };
    at_most(
        "own processor time a request beyond a bare proxy's".into(),
        "µs",
        5.0,
        within(load, many, "tidegate", "proxy", |a, b| {
            a.own_us.unwrap_or(f64::NAN) - b.own_us.unwrap_or(f64::NAN)
        }),
    );
    at_most(
        "added latency, warm, p50, one connection".into(),
        "µs",
        100.0,
        within(load, one, "tidegate", "hyper", |a, b| {
            a.load.p50_us - b.load.p50_us
        }),
    );
    for row in cold {
        for (part, field, budget) in cold_budgets(row) {
            #[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
            let measured = row.micros(field).map(|micros| micros as f64 / 1e3);
            at_most(
                format!("{}, {}, {part}", row.runtime, row.way.words()),
                "ms",
                budget,
                measured,
            );
        }
        #[allow(clippy::cast_precision_loss, reason = "a count of calls")]
        let failures = row.micros("failures").map(|count| count as f64);
        at_most(
            format!("{}, {}, failures", row.runtime, row.way.words()),
            "",
            0.0,
            failures,
        );
    }
    if let Some(memory) = memory {
        at_most(
            "server idle, nothing deployed".into(),
            "MiB",
            20.0,
            Some(mib(memory.idle)),
        );
        at_most(
            "a function that is registered and idle".into(),
            "KiB",
            2.0,
            Some(memory.a_function() / 1024.0),
        );
    }
    promises
        .into_iter()
        .map(|(what, at_least, unit, budget, measured)| Promise {
            what,
            budget,
            at_least,
            unit,
            measured,
        })
        .collect()
}

/// Budgets of first calls in milliseconds: which part of them, the field that tells it, the figure.
fn cold_budgets(row: &cold::Row) -> Vec<(&'static str, &'static str, f64)> {
    match (row.way, row.runtime) {
        (Way::Paced, "node") => vec![("p50", "p50_us", 6.0), ("p99", "p99_us", 20.0)],
        // The stock is empty but for the first few.
        (Way::OneByOne, "node") => vec![("p50", "p50_us", 60.0)],
        (_, "node") => vec![],
        (Way::OneByOne, "python") => vec![("p50", "p50_us", 4.0), ("p99", "p99_us", 15.0)],
        (Way::OneByOne, _) => vec![("p50", "p50_us", 3.0), ("p99", "p99_us", 10.0)],
        (_, "python") => vec![("p99", "p99_us", 400.0)],
        _ => vec![],
    }
}

/// The median over rounds of `of(a, b)`, both rows taken in the same round.
fn within(
    load: &[Row],
    connections: u32,
    a: &str,
    b: &str,
    of: impl Fn(&Run, &Run) -> f64,
) -> Option<f64> {
    let row = |name| {
        load.iter()
            .find(|row| row.name == name && row.connections == connections)
    };
    let (a, b) = (row(a)?, row(b)?);
    Some(median(
        a.runs.iter().zip(&b.runs).map(|(a, b)| of(a, b)).collect(),
    ))
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(super) fn tables(
    load: &[Row],
    cold: &[cold::Row],
    deploys: &[deploy::Row],
    memory: Option<&Memory>,
    parts: &[Part],
    promises: &[Promise],
) -> String {
    let mut text = String::new();
    if !load.is_empty() {
        let head = [
            "",
            "connections",
            "req/s",
            "least",
            "most",
            "p50 µs",
            "p99 µs",
            "own µs/req",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(load.iter().map(load_line));
        text += &render(&rows);
        text += "\n";
    }
    if !cold.is_empty() {
        let head = [
            "first calls",
            "",
            "calls",
            "failed",
            "p50 ms",
            "p99 ms",
            "longest ms",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(cold.iter().map(cold_line));
        text += &render(&rows);
        for row in cold {
            if let Some(failure) = row.told["first_failure"].as_str() {
                text += &format!("{}, {}: {failure}\n", row.runtime, row.way.words());
            }
        }
        text += "\n";
    }
    if !deploys.is_empty() {
        let head = ["deploys", "cold s", "code changed s", "saved s"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(deploys.iter().map(deploy_line));
        text += &render(&rows);
        text += "\n";
    }
    if let Some(memory) = memory {
        let rows = [
            ["memory", "MiB"].map(str::to_owned),
            [
                "server, nothing deployed".into(),
                format!("{:.1}", mib(memory.idle)),
            ],
            [
                "its children then".into(),
                format!("{:.1}", mib(memory.idle_children)),
            ],
            [
                format!(
                    "server, {} functions registered in {:.1} s",
                    memory.functions, memory.seconds
                ),
                format!("{:.1}", mib(memory.full)),
            ],
        ];
        text += &render(&rows);
        text += "\n";
    }
    for part in parts {
        text += &part.table;
        text += "\n";
    }
    if !promises.is_empty() {
        let mut rows = vec![["promise", "budget", "measured", ""].map(str::to_owned)];
        rows.extend(promises.iter().map(promise_line));
        text += &render(&rows);
    }
    text
}

fn load_line(row: &Row) -> [String; 8] {
    let speeds = || row.runs.iter().map(|run| run.load.per_second);
    [
        row.what.to_owned(),
        row.connections.to_string(),
        format!("{:.0}", row.median(|run| run.load.per_second)),
        format!("{:.0}", speeds().fold(f64::INFINITY, f64::min)),
        format!("{:.0}", speeds().fold(0.0, f64::max)),
        format!("{:.0}", row.median(|run| run.load.p50_us)),
        format!("{:.0}", row.median(|run| run.load.p99_us)),
        row.own_us()
            .map_or(String::new(), |own| format!("{own:.1}")),
    ]
}

fn cold_line(row: &cold::Row) -> [String; 7] {
    let count = |field| {
        row.micros(field)
            .map_or_else(|| "-".into(), |count| count.to_string())
    };
    #[allow(clippy::cast_precision_loss, reason = "microseconds of seconds")]
    let millis = |field| {
        row.micros(field).map_or_else(
            || "-".into(),
            |micros| format!("{:.2}", micros as f64 / 1e3),
        )
    };
    [
        row.runtime.to_owned(),
        row.way.words().to_owned(),
        count("calls"),
        count("failures"),
        millis("p50_us"),
        millis("p99_us"),
        millis("max_us"),
    ]
}

fn deploy_line(row: &deploy::Row) -> [String; 4] {
    let (cold, cached) = (median(row.cold.clone()), median(row.cached.clone()));
    [
        row.what.to_owned(),
        format!("{cold:.2}"),
        format!("{cached:.2}"),
        format!("{:.2}", cold - cached),
    ]
}

fn promise_line(promise: &Promise) -> [String; 4] {
    let unit = if promise.unit.is_empty() {
        String::new()
    } else {
        format!(" {}", promise.unit)
    };
    [
        promise.what.clone(),
        format!(
            "{} {}{unit}",
            if promise.at_least { "≥" } else { "≤" },
            promise.budget
        ),
        format!("{:.2}{unit}", promise.measured),
        if promise.met() { "met" } else { "MISSED" }.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Run, median, promises, within};
    use crate::bench::load::Row;
    use crate::bench::wrk::Load;

    fn row(name: &'static str, speeds: &[f64]) -> Row {
        let runs = speeds.iter().map(|&per_second| Run {
            load: Load {
                requests: 1,
                per_second,
                p50_us: 100.0,
                p99_us: 200.0,
            },
            own_us: Some(1e6 / per_second),
        });
        Row {
            name,
            what: name,
            connections: 16,
            runs: runs.collect(),
        }
    }

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was three times as fast in the second round; the ratio was not.
        let rows = [
            row("tidegate", &[90.0, 270.0]),
            row("proxy", &[100.0, 300.0]),
        ];
        let ratio = within(&rows, 16, "tidegate", "proxy", |a, b| {
            a.load.per_second / b.load.per_second
        });
        assert!((ratio.unwrap() - 0.9).abs() < 1e-9);
        assert_eq!(within(&rows, 1, "tidegate", "proxy", |_, _| 0.0), None);
    }

    #[test]
    fn promises_are_judged_by_their_direction() {
        let rows = [row("tidegate", &[50_000.0]), row("proxy", &[100_000.0])];
        let judged: Vec<bool> = promises(&rows, &[], None)
            .iter()
            .map(super::Promise::met)
            .collect();
        // Half the proxy's speed is too slow; 10 µs beyond the proxy's 10 too much.
        assert_eq!(judged, [false, false]);
        let rows = [row("tidegate", &[90_000.0]), row("proxy", &[100_000.0])];
        let judged: Vec<bool> = promises(&rows, &[], None)
            .iter()
            .map(super::Promise::met)
            .collect();
        assert_eq!(judged, [true, true]);
    }
}
