//! `/metrics`: the counters of functions, written in the OpenMetrics text format when asked for.
//!
//! Functions keep plain atomic counters, so a call takes no lock for them; what is written here is a reading of them. A
//! function that was never called has no series.

use std::fmt::Error;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tidegate_core::FunctionKey;
use tidegate_core::quota::QuotaLimit;
use tidegate_platform::{
    BUCKETS_SECONDS, DispatchStats, OUTCOMES, PoolCounts, QueueStats, RecordStats,
};

use crate::service::Service;

pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A reading of everything.
#[derive(Debug)]
struct Reading {
    called: Vec<Called>,
    active: Vec<(FunctionKey, PoolCounts)>,
    functions: u64,
    connections: i64,
    recording: RecordStats,
    refused: Vec<(String, QuotaLimit, u64)>,
    queue: Option<(QueueStats, DispatchStats)>,
    exported: Vec<Exported>,
    process: Process,
}

/// How it goes with what is exported of one kind.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) signal: &'static str,
    pub(crate) sent: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
    pub(crate) failures: u64,
}

/// One function that was called.
#[derive(Debug)]
struct Called {
    key: FunctionKey,
    invocations: [u64; OUTCOMES.len()],
    buckets: [u64; BUCKETS_SECONDS.len() + 1],
    seconds: f64,
    in_flight: i64,
    cold: u64,
}

/// The server's own process.
#[derive(Debug, Default)]
struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// The page.
pub(crate) fn render(service: &Service) -> Result<String, Error> {
    let mut reading = Reading {
        called: Vec::new(),
        active: service.platform.active(),
        functions: 0,
        connections: service.connections.load(Ordering::Relaxed),
        recording: service.platform.recording(),
        refused: service.platform.refused_by_quota(),
        queue: service.platform.queue_stats(),
        exported: service.export.told(),
        process: Process::read(),
    };
    service.platform.for_each_function(|function| {
        reading.functions += 1;
        if let Some(metrics) = function.metrics_if_called() {
            reading.called.push(Called {
                key: function.key().clone(),
                invocations: metrics.invocations(),
                buckets: metrics.buckets(),
                seconds: metrics.duration_seconds(),
                in_flight: metrics.in_flight(),
                cold: metrics.cold_starts(),
            });
        }
    });
    reading.called.sort_by(|a, b| a.key.cmp(&b.key));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(reading));
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry)?;
    Ok(page)
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut family = encoder.encode_descriptor(
            "tidegate_invocations",
            "Invocations that ended",
            None,
            MetricType::Counter,
        )?;
        for called in &self.called {
            for (outcome, count) in OUTCOMES.iter().zip(called.invocations) {
                if count > 0 {
                    let [namespace, function] = labels(&called.key);
                    let labels = [namespace, function, ("outcome", outcome.as_str())];
                    family
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let mut family = encoder.encode_descriptor(
            "tidegate_invocation_duration_seconds",
            "Time of an invocation from its arrival to its last byte, waiting and starting included",
            None,
            MetricType::Histogram,
        )?;
        for called in &self.called {
            let bounds = BUCKETS_SECONDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(called.buckets).collect();
            let count = called.buckets.iter().sum();
            family
                .encode_family(&labels(&called.key))?
                .encode_histogram::<NoLabelSet>(called.seconds, count, &buckets, None)?;
        }
        let mut family = encoder.encode_descriptor(
            "tidegate_cold_starts",
            "Invocations that waited for an instance to start",
            None,
            MetricType::Counter,
        )?;
        for called in &self.called {
            family
                .encode_family(&labels(&called.key))?
                .encode_counter::<NoLabelSet, _, u64>(&called.cold, None)?;
        }
        let mut family = encoder.encode_descriptor(
            "tidegate_invocations_in_flight",
            "Invocations under way, waiting ones included",
            None,
            MetricType::Gauge,
        )?;
        for called in &self.called {
            family
                .encode_family(&labels(&called.key))?
                .encode_gauge(&called.in_flight)?;
        }
        let mut family = encoder.encode_descriptor(
            "tidegate_instances",
            "Instances by state",
            None,
            MetricType::Gauge,
        )?;
        for (key, counts) in &self.active {
            let states = [
                ("starting", counts.starting),
                ("idle", counts.idle),
                ("busy", counts.busy),
                ("draining", counts.draining),
            ];
            for (state, count) in states {
                let [namespace, function] = labels(key);
                family
                    .encode_family(&[namespace, function, ("state", state)])?
                    .encode_gauge(&i64::from(count))?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "tidegate_invocations_queued",
            "Invocations that wait for an instance",
            None,
            MetricType::Gauge,
        )?;
        for (key, counts) in &self.active {
            family
                .encode_family(&labels(key))?
                .encode_gauge(&i64::from(counts.queued))?;
        }
        gauge(
            &mut encoder,
            "tidegate_functions",
            "Functions that can be called",
            self.functions as f64,
        )?;
        gauge(
            &mut encoder,
            "tidegate_connections",
            "Open connections",
            self.connections as f64,
        )?;
        gauge(
            &mut encoder,
            "process_resident_memory_bytes",
            "Resident memory of the server",
            self.process.resident_bytes as f64,
        )?;
        let mut family = encoder.encode_descriptor(
            "tidegate_quota_refusals",
            "Invocations that were refused by a quota of their namespace",
            None,
            MetricType::Counter,
        )?;
        for (namespace, limit, count) in &self.refused {
            let labels = [("namespace", namespace.as_str()), ("quota", limit.as_str())];
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        if let Some((file, work)) = &self.queue {
            queue(&mut encoder, file, work)?;
        }
        if !self.exported.is_empty() {
            exported(&mut encoder, &self.exported)?;
        }
        let recording = &self.recording;
        for (name, help, count) in [
            (
                "tidegate_records_written",
                "Records of invocations that were written",
                recording.written,
            ),
            (
                "tidegate_records_shed",
                "Records of successful invocations that were given up under load",
                recording.shed,
            ),
            (
                "tidegate_records_lost",
                "Records that are never given up and were lost, since the disk took nothing for long",
                recording.lost,
            ),
            (
                "tidegate_records_refusals_unrecorded",
                "Invocations turned away at the door without a record, as many of their namespace in the same second",
                recording.refusals,
            ),
            (
                "tidegate_records_over_share",
                "Records given up because their namespace had left more than its share",
                recording.over_share,
            ),
            (
                "tidegate_records_segments_freed",
                "Segments removed before their time because the disk was full",
                recording.freed,
            ),
            (
                "tidegate_record_lines_shed",
                "Lines that functions printed and that were not kept, under load or beyond their namespace's share",
                recording.lines_shed,
            ),
            (
                "tidegate_record_writes_failed",
                "Writes of records that failed and were tried again",
                recording.failed_writes,
            ),
        ] {
            let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        gauge(
            &mut encoder,
            "tidegate_records_bytes",
            "Bytes on disk of records and of what functions printed",
            recording.bytes_on_disk as f64,
        )?;
        let writer = recording.writer_cpu_us as f64 / 1e6;
        let mut counter = encoder.encode_descriptor(
            "tidegate_records_cpu_seconds",
            "Processor time of the thread that writes records",
            None,
            MetricType::Counter,
        )?;
        counter.encode_counter::<NoLabelSet, _, u64>(&writer, None)?;
        let mut counter = encoder.encode_descriptor(
            "process_cpu_seconds",
            "User and system time of the server",
            None,
            MetricType::Counter,
        )?;
        counter.encode_counter::<NoLabelSet, _, u64>(&self.process.cpu_seconds, None)?;
        let mut build = encoder.encode_descriptor(
            "tidegate_build",
            "Version of the server",
            None,
            MetricType::Info,
        )?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

/// The queue of calls that are made later.
fn queue(
    encoder: &mut DescriptorEncoder<'_>,
    file: &QueueStats,
    work: &DispatchStats,
) -> Result<(), Error> {
    for (name, help, value) in [
        (
            "tidegate_queue_depth",
            "Calls to be made later that are not done, running ones included",
            file.queued as f64,
        ),
        (
            "tidegate_queue_running",
            "Queued calls that are being made",
            work.running as f64,
        ),
        (
            "tidegate_queue_oldest_seconds",
            "For how long the oldest queued call that is due has waited",
            if file.queued > 0 {
                work.oldest_ms as f64 / 1000.0
            } else {
                0.0
            },
        ),
        (
            "tidegate_queue_full",
            "1 while nothing is accepted for want of room",
            if file.full { 1.0 } else { 0.0 },
        ),
        (
            "tidegate_queue_bytes",
            "What the queue's file and the bodies beside it take",
            file.bytes as f64,
        ),
        (
            "tidegate_queue_dead_letters",
            "Dead letters that are kept",
            file.dead as f64,
        ),
        (
            "tidegate_queue_dead_bytes",
            "What dead letters take, with their bodies",
            file.dead_bytes as f64,
        ),
    ] {
        gauge(encoder, name, help, value)?;
    }
    for (name, help, count) in [
        (
            "tidegate_queue_attempts",
            "Attempts at queued calls that were begun",
            work.started,
        ),
        (
            "tidegate_queue_done",
            "Queued calls that are done",
            work.done,
        ),
        (
            "tidegate_queue_retried",
            "Attempts at queued calls that were followed by another",
            work.retried,
        ),
        (
            "tidegate_queue_dead",
            "Queued calls that were given up",
            work.dead,
        ),
        (
            "tidegate_queue_dead_dropped",
            "Dead letters that went because of their age or their size",
            file.dead_dropped,
        ),
        (
            "tidegate_queue_lost",
            "Queued calls that were lost to damage; they are among the dead letters",
            file.lost,
        ),
        (
            "tidegate_queue_stuck",
            "Ends of queued calls that could not be written at once",
            work.stuck,
        ),
    ] {
        let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

/// What goes to a collector.
fn exported(encoder: &mut DescriptorEncoder<'_>, exported: &[Exported]) -> Result<(), Error> {
    type Count = fn(&Exported) -> u64;
    let counters: [(&str, &str, Count); 4] = [
        (
            "tidegate_exported",
            "Spans, points and lines that the collector took",
            |e| e.sent,
        ),
        (
            "tidegate_export_refused",
            "Spans, points and lines that the collector refused",
            |e| e.refused,
        ),
        (
            "tidegate_export_dropped",
            "Spans, points and lines that were given up: too old, no room, or their records removed before they were read",
            |e| e.dropped,
        ),
        (
            "tidegate_export_failures",
            "Requests to the collector that failed, most of them tried again",
            |e| e.failures,
        ),
    ];
    for (name, help, count) in counters {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for of in exported {
            family
                .encode_family(&[("signal", of.signal)])?
                .encode_counter::<NoLabelSet, _, u64>(&count(of), None)?;
        }
    }
    Ok(())
}

fn labels(key: &FunctionKey) -> [(&str, &str); 2] {
    [("namespace", &key.namespace), ("function", &key.name)]
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), Error> {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

// === impl Process ===

impl Process {
    /// Zero where `/proc` does not tell.
    fn read() -> Self {
        let usage = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is a name in parentheses that may hold spaces.
        let fields: Vec<u64> = usage
            .rsplit_once(')')
            .map(|(_, rest)| {
                rest.split_whitespace()
                    .map(|f| f.parse().unwrap_or(0))
                    .collect()
            })
            .unwrap_or_default();
        let at = |n: usize| fields.get(n).copied().unwrap_or(0);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Self {
            cpu_seconds: (at(11) + at(12)) as f64 / ticks,
            resident_bytes: at(21) * rustix::param::page_size() as u64,
        }
    }
}
