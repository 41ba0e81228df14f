//! From two looks to rates. Pure: looks with the times at which they were taken go in, rows come out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use tidegate_document::{Record, Usage};
use tokio::time::Instant;

use super::Sort;
use super::metrics::{Counters, Key, Metrics};

/// How far back times of calls are looked at: what a person means by "just now".
const WINDOW: Duration = Duration::from_secs(60);

/// One look.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) metrics: Metrics,
    pub(super) usage: Option<Vec<Usage>>,
    pub(super) records: Option<Vec<Record>>,
}

/// Looks of the last minute, the newest last.
#[derive(Debug)]
pub(super) struct History {
    looks: VecDeque<Sample>,
}

/// A function, as it did of late.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) namespace: String,
    pub(super) function: String,
    pub(super) calls_per_second: f64,
    /// Of the calls since the last look.
    pub(super) error_percent: Option<f64>,
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
    pub(super) in_flight: u64,
    pub(super) waiting: u64,
    pub(super) instances: u64,
    pub(super) memory_peak: Option<u64>,
    pub(super) cpu_cores: Option<f64>,
}

impl History {
    pub(super) fn new(first: Sample) -> Self {
        Self {
            looks: VecDeque::from([first]),
        }
    }

    pub(super) fn push(&mut self, look: Sample) {
        let at = look.at;
        self.looks.push_back(look);
        // One from before the window stays, so that the window is whole.
        while self.looks.len() > 2 && at.duration_since(self.looks[1].at) >= WINDOW {
            self.looks.pop_front();
        }
    }

    /// Functions that the server knows.
    pub(super) fn functions(&self) -> u64 {
        self.looks.back().map_or(0, |look| look.metrics.known)
    }

    pub(super) fn rows(&self, sort: Sort) -> Vec<Row> {
        let (Some(oldest), Some(now)) = (self.looks.front(), self.looks.back()) else {
            return Vec::new();
        };
        let before = self.looks.iter().rev().nth(1);
        let seconds = before.map(|b| now.at.duration_since(b.at).as_secs_f64());
        let peaks = now.records.as_deref().map(peaks).unwrap_or_default();
        let cpu = |look: &Sample, key: &Key| {
            let usage = look.usage.as_ref()?.iter();
            let of = usage.filter(|u| (&u.namespace, &u.function) == (&key.0, &key.1));
            Some(of.map(|u| u.cpu_seconds).sum::<f64>())
        };
        let none = Counters::default();
        let rows = now.metrics.functions.iter().map(|(key, counters)| {
            let then = before.map_or(counters, |b| b.metrics.functions.get(key).unwrap_or(&none));
            let first = oldest.metrics.functions.get(key).unwrap_or(&none);
            // Counters that went back are those of a server that was started anew.
            let calls = counters.calls.saturating_sub(then.calls);
            let errors = counters.errors.saturating_sub(then.errors);
            let buckets = since(&counters.buckets, &first.buckets);
            let rate = |n: f64| seconds.filter(|s| *s > 0.0).map(|s| n / s);
            let used = before.and_then(|b| Some((cpu(now, key)? - cpu(b, key)?).max(0.0)));
            Row {
                namespace: key.0.clone(),
                function: key.1.clone(),
                calls_per_second: rate(calls as f64).unwrap_or(0.0),
                error_percent: (calls > 0).then(|| errors as f64 / calls as f64 * 100.0),
                p50_us: quantile(&buckets, 0.5),
                p99_us: quantile(&buckets, 0.99),
                in_flight: counters.in_flight,
                waiting: counters.waiting,
                instances: counters.instances,
                memory_peak: peaks.get(key).copied(),
                cpu_cores: used.and_then(rate),
            }
        });
        let mut rows: Vec<Row> = rows.collect();
        let by = |row: &Row| match sort {
            Sort::Calls => row.calls_per_second,
            Sort::Errors => row.error_percent.unwrap_or(-1.0),
            Sort::P99 => row.p99_us.map_or(-1.0, |us| us as f64),
            Sort::Memory => row.memory_peak.map_or(-1.0, |n| n as f64),
            Sort::Cpu => row.cpu_cores.unwrap_or(-1.0),
            Sort::Name => 0.0,
        };
        // Stable, and by name to begin with, so that equals do not dance.
        rows.sort_by(|a, b| by(b).total_cmp(&by(a)));
        rows
    }
}

/// The highest memory that the newest invocations of each saw.
fn peaks(records: &[Record]) -> BTreeMap<Key, u64> {
    let mut peaks = BTreeMap::new();
    for record in records {
        if let Some(peak) = record.used.memory_peak {
            let key = (record.namespace.clone(), record.function.clone());
            let highest = peaks.entry(key).or_insert(0);
            *highest = peak.max(*highest);
        }
    }
    peaks
}

/// The calls of each bucket since then.
fn since(now: &[(f64, u64)], then: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let at = |bound: f64| {
        let found = then.iter().find(|(b, _)| b.total_cmp(&bound).is_eq());
        found.map_or(0, |(_, count)| *count)
    };
    let mut buckets: Vec<(f64, u64)> = now
        .iter()
        .map(|(bound, count)| (*bound, count.saturating_sub(at(*bound))))
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets
}

/// The time that this part of the calls stayed under, in microseconds, as if calls were spread evenly over a bucket. What
/// lies beyond the last bound is told as that bound.
fn quantile(buckets: &[(f64, u64)], part: f64) -> Option<u64> {
    let all = buckets.last().map(|(_, count)| *count).filter(|n| *n > 0)?;
    let wanted = all as f64 * part;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, count) in buckets {
        if *count as f64 >= wanted {
            let seconds = if bound.is_finite() {
                let inside = (*count - below).max(1) as f64;
                lower + (bound - lower) * ((wanted - below as f64) / inside)
            } else {
                lower
            };
            return Some((seconds * 1e6).round() as u64);
        }
        if bound.is_finite() {
            lower = *bound;
        }
        below = *count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, seconds: u64, calls: u64) -> Sample {
        let page = format!(
            "tidegate_invocations_total{{namespace=\"d\",function=\"f\",outcome=\"ok\"}} {calls}\n\
             tidegate_invocation_duration_seconds_bucket{{le=\"0.01\",namespace=\"d\",function=\"f\"}} {calls}\n"
        );
        Sample {
            at: at + Duration::from_secs(seconds),
            metrics: Metrics::parse(&page, None),
            usage: None,
            records: None,
        }
    }

    #[test]
    fn rates_are_of_the_last_look_and_times_of_the_last_minute() {
        let begin = Instant::now();
        let mut history = History::new(look(begin, 0, 100));
        assert_eq!(history.rows(Sort::Calls)[0].p50_us, None);
        history.push(look(begin, 2, 120));
        let row = history.rows(Sort::Calls).remove(0);
        assert!((row.calls_per_second - 10.0).abs() < 1e-9);
        assert_eq!(row.p50_us, Some(5_000));
        assert_eq!((row.error_percent, row.cpu_cores), (Some(0.0), None));
        for n in 2..100 {
            history.push(look(begin, 2 * n, 120));
        }
        // What was called is more than a minute ago.
        assert_eq!(history.rows(Sort::Calls)[0].p50_us, None);
        assert!(history.looks.len() < 40);
        // A server that was started anew counts from nothing.
        history.push(look(begin, 200, 3));
        assert!(history.rows(Sort::Calls)[0].calls_per_second.abs() < 1e-9);
    }

    #[test]
    fn quantiles() {
        let buckets = [(0.001, 50), (0.01, 90), (1.0, 99), (f64::INFINITY, 100)];
        assert_eq!(quantile(&buckets, 0.5), Some(1_000));
        assert_eq!(quantile(&buckets, 0.7), Some(5_500));
        assert_eq!(quantile(&buckets, 1.0), Some(1_000_000));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(f64::INFINITY, 0)], 0.5), None);
    }
}
