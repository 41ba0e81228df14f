//! The tasks that send: one a signal, so that one that is not taken holds up no other.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prost::Message as _;
use tidegate_core::record::Record;
use tidegate_records::Follow;
use tokio::time::{Instant, MissedTickBehavior, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::Delivery;
use crate::lines::{self, Places};
use crate::options::Options;
use crate::outlet::Outlet;
use crate::page;
use crate::proto::{Metrics, Resource, ResourceMetrics, Scope, ScopeMetrics};
use crate::spans::{Batch, server};
use crate::stats::{Counters, Signal};

/// How long records are waited for once the server ends, where they have not been closed: longer than they are written
/// after.
const LAST_RECORDS: Duration = Duration::from_millis(500);

/// How long records are read for although steps could be sent, so that a flow of them does not keep records waiting.
const TURN: Duration = Duration::from_millis(250);
/// How long records that cannot be read are left alone: files may be short for a moment.
const UNREADABLE: Duration = Duration::from_secs(1);

/// The page of metrics, as it is at this moment; `None` where it could not be written.
pub type MetricsPage = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Sends until it is stopped.
#[derive(Debug)]
pub struct Exporter {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Exporter {
    /// Starts sending what comes out of `outlet`, the records that `follow` reads and the metrics of `page`; on the
    /// runtime that this is called on.
    ///
    /// # Errors
    /// The machine's roots of trust cannot be read.
    pub fn start(
        options: Options,
        outlet: &Outlet,
        follow: Follow,
        page: MetricsPage,
    ) -> Result<Self, rustls::Error> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let delivery = |signal, counters: &Arc<Counters>| {
            Delivery::new(&options, signal, counters.clone(), stop.clone())
        };
        let places = Arc::new(Mutex::new(Places::default()));
        let of_server = server(&options.service, &options.attributes);
        // Records say of which trace a line is, so they are read for either.
        let spans = Spans {
            delivery: delivery(Signal::Traces, outlet.steps.counters())?,
            options: options.clone(),
            outlet: outlet.clone(),
            follow: Some(follow),
            is_unreadable: false,
            places: places.clone(),
            stop: stop.clone(),
            gathering: Batch::default(),
            full: Vec::new(),
        };
        if options.traces || options.logs {
            tasks.spawn(spans.run());
        }
        if options.logs {
            tasks.spawn(
                Lines {
                    delivery: delivery(Signal::Logs, outlet.lines.counters())?,
                    options: options.clone(),
                    outlet: outlet.clone(),
                    places,
                    server: of_server.clone(),
                    stop: stop.clone(),
                }
                .run(),
            );
        }
        if options.metrics {
            let delivery = delivery(Signal::Metrics, &outlet.metrics)?;
            tasks.spawn(metrics(delivery, options, of_server, page, stop.clone()));
        }
        tasks.close();
        Ok(Self { stop, tasks })
    }

    /// Tries once to send what is there, for no longer than `within`.
    pub async fn stop(self, within: Duration) {
        self.stop.cancel();
        if timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(?within, "not all could be exported before the end");
        }
    }
}

// === Traces ===

struct Spans {
    delivery: Delivery,
    options: Options,
    outlet: Outlet,
    /// `None` once there will be no more records.
    follow: Option<Follow>,
    /// Whether somebody was told that records cannot be read.
    is_unreadable: bool,
    places: Arc<Mutex<Places>>,
    stop: CancellationToken,
    gathering: Batch,
    /// Those that can be sent.
    full: Vec<Batch>,
}

impl Spans {
    async fn run(mut self) {
        loop {
            self.steps();
            if self.gathering.spans == 0 && self.full.is_empty() {
                self.anything().await;
            }
            let turn = if self.full.is_empty() {
                self.options.bounds.gather
            } else {
                TURN
            };
            let until = Instant::now() + turn;
            while self.follow.is_some() {
                if timeout_at(until, self.read()).await.is_err() || !self.full.is_empty() {
                    break;
                }
            }
            self.full.push(std::mem::take(&mut self.gathering));
            for batch in std::mem::take(&mut self.full) {
                self.send(batch).await;
            }
            let is_over = self.follow.is_none() && self.outlet.steps.is_empty();
            if self.stop.is_cancelled() && is_over {
                return;
            }
        }
    }

    /// Waits for steps or records.
    async fn anything(&mut self) {
        let outlet = self.outlet.clone();
        let stop = self.stop.clone();
        if self.follow.is_some() {
            tokio::select! {
                biased;
                () = self.read() => {}
                () = outlet.steps.grew() => {}
            }
        } else {
            tokio::select! {
                () = outlet.steps.grew() => {}
                () = stop.cancelled() => {}
            }
        }
        self.steps();
    }

    /// Waits for records. Dropped before they are there, it has read none.
    async fn read(&mut self) {
        let Some(follow) = &mut self.follow else {
            return;
        };
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LAST_RECORDS).await;
        };
        let read = tokio::select! {
            biased;
            read = follow.next() => read,
            () = stopped => Ok(None),
        };
        match read {
            Ok(Some(followed)) => {
                self.is_unreadable = false;
                // They may have been of any trace, or of none.
                Counters::add(&self.outlet.steps.counters().dropped, followed.missed);
                self.records(&followed.records);
            }
            Ok(None) => self.follow = None,
            Err(_) if self.stop.is_cancelled() => self.follow = None,
            Err(error) => {
                if !std::mem::replace(&mut self.is_unreadable, true) {
                    tracing::error!(%error, "records cannot be read: spans of invocations wait, and it is tried again");
                }
                tokio::time::sleep(UNREADABLE).await;
            }
        }
    }

    fn records(&mut self, records: &[Record]) {
        let places = self.places.clone();
        let mut places = places.lock();
        for record in records {
            places.remember(record.id, record.trace);
            let Some(trace) = &record.trace else { continue };
            if trace.sampled && self.options.traces {
                self.gathering.record(record, trace);
                self.fill();
            }
        }
    }

    fn steps(&mut self) {
        for step in self.outlet.steps.take(self.options.bounds.batch, |_| true) {
            self.gathering.step(step);
            self.fill();
        }
    }

    fn fill(&mut self) {
        if self.gathering.spans >= self.options.bounds.batch {
            self.full.push(std::mem::take(&mut self.gathering));
        }
    }

    async fn send(&mut self, batch: Batch) {
        if batch.spans == 0 {
            return;
        }
        let spans = batch.spans as u64;
        let body = batch.encode(&self.options.attributes);
        let give_up = self.options.bounds.give_up;
        self.delivery.deliver(body.into(), spans, give_up).await;
    }
}

// === Logs ===

struct Lines {
    delivery: Delivery,
    options: Options,
    outlet: Outlet,
    places: Arc<Mutex<Places>>,
    server: Resource,
    stop: CancellationToken,
}

impl Lines {
    async fn run(mut self) {
        let bounds = self.options.bounds;
        loop {
            if self.outlet.lines.is_empty() {
                tokio::select! {
                    () = self.outlet.lines.grew() => {}
                    () = self.stop.cancelled() => {}
                }
            }
            tokio::select! {
                () = tokio::time::sleep(bounds.gather) => {}
                () = self.stop.cancelled() => {}
            }
            let is_last = self.stop.is_cancelled();
            if is_last {
                // The last records are read meanwhile.
                tokio::time::sleep(LAST_RECORDS).await;
            }
            loop {
                let entries = self.ready();
                if entries.is_empty() {
                    break;
                }
                let count = entries.len() as u64;
                let attributes = &self.options.attributes;
                let body = {
                    let places = self.places.lock();
                    lines::encode(entries, &places, &self.server, attributes)
                };
                self.delivery
                    .deliver(body.into(), count, bounds.give_up)
                    .await;
            }
            if is_last {
                return;
            }
        }
    }

    fn ready(&self) -> Vec<lines::Entry> {
        let bounds = &self.options.bounds;
        let since_us = if self.stop.is_cancelled() {
            u64::MAX
        } else {
            now_ns().saturating_sub(bounds.patience.as_nanos() as u64) / 1000
        };
        let places = self.places.lock();
        let is_ready = |entry: &lines::Entry| entry.is_ready(&places, since_us);
        self.outlet.lines.take(bounds.batch, is_ready)
    }
}

// === Metrics ===

async fn metrics(
    mut delivery: Delivery,
    options: Options,
    server: Resource,
    page: MetricsPage,
    stop: CancellationToken,
) {
    let start_ns = now_ns();
    let mut ticks = tokio::time::interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once.
    ticks.tick().await;
    loop {
        let is_last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let text = page().unwrap_or_default();
        for part in page::read(&text, start_ns, now_ns()) {
            let body = Metrics {
                of: vec![ResourceMetrics {
                    resource: Some(server.clone()),
                    scopes: vec![ScopeMetrics {
                        scope: Some(Scope::ours()),
                        metrics: part.metrics,
                    }],
                }],
            };
            let body = body.encode_to_vec().into();
            // The next ones say all that these do.
            delivery.deliver(body, part.points, options.interval).await;
        }
        if is_last {
            return;
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos() as u64
}
