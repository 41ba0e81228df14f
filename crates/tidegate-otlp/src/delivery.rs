//! A batch is sent until it is taken, refused for good, or too old; what came of it is counted, and said once an episode.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Verdict};
use crate::options::{Bounds, Endpoint, Options};
use crate::stats::{Counters, Signal};

/// Sends one signal's batches, one at a time.
pub(crate) struct Delivery {
    client: Client,
    signal: Signal,
    endpoint: Endpoint,
    bounds: Bounds,
    counters: Arc<Counters>,
    /// The server ends: what is there is tried once.
    stop: CancellationToken,
    /// Tries in a row that failed.
    failures: u32,
    /// Whether a refusal was said since the last batch that was taken whole.
    is_said: bool,
}

impl Delivery {
    /// # Errors
    /// The machine's roots of trust cannot be read.
    pub(crate) fn new(
        options: &Options,
        signal: Signal,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            client: Client::new(options, signal.as_str())?,
            signal,
            endpoint: options.endpoint.clone(),
            bounds: options.bounds,
            counters,
            stop,
            failures: 0,
            is_said: false,
        })
    }

    /// Sends a batch of so many items, and tries again for no longer than `give_up`.
    pub(crate) async fn deliver(&mut self, body: Bytes, items: u64, give_up: Duration) {
        let began = Instant::now();
        loop {
            // A stop in the middle of a try does not end the try: it has its own limit, and the whole stop another.
            let is_last = self.stop.is_cancelled();
            match self.client.send(body.clone()).await {
                Verdict::Taken { rejected, message } => {
                    return self.taken(items, rejected.min(items), &message);
                }
                Verdict::Refused { why } => return self.refused(items, &why),
                Verdict::Later { why, after } => {
                    Counters::add(&self.counters.failures, 1);
                    self.failures = self.failures.saturating_add(1);
                    if self.failures == 1 {
                        let (signal, endpoint) = (self.signal.as_str(), &self.endpoint);
                        tracing::warn!(%endpoint, why, "{signal} cannot be exported now; tried again");
                    }
                    let asked = after.unwrap_or_default().min(self.bounds.longest_pause);
                    let pause = spread(self.bounds.backoff.delay(self.failures)).max(asked);
                    if is_last || began.elapsed() + pause >= give_up {
                        Counters::add(&self.counters.dropped, items);
                        let (signal, endpoint) = (self.signal.as_str(), &self.endpoint);
                        tracing::warn!(%endpoint, why, items, "{signal} were given up");
                        return;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
            }
        }
    }

    fn taken(&mut self, items: u64, rejected: u64, message: &str) {
        Counters::add(&self.counters.sent, items - rejected);
        Counters::add(&self.counters.refused, rejected);
        let (signal, endpoint) = (self.signal.as_str(), &self.endpoint);
        if self.failures > 0 {
            tracing::info!(%endpoint, failures = self.failures, "{signal} are exported again");
        }
        self.failures = 0;
        if rejected == 0 && message.is_empty() {
            self.is_said = false;
        } else if !self.is_said {
            self.is_said = true;
            tracing::warn!(%endpoint, rejected, of = items, message, "{signal}: the collector did not take all of it");
        }
    }

    fn refused(&mut self, items: u64, why: &str) {
        Counters::add(&self.counters.refused, items);
        Counters::add(&self.counters.failures, 1);
        let (signal, endpoint) = (self.signal.as_str(), &self.endpoint);
        if !self.is_said {
            self.is_said = true;
            tracing::error!(%endpoint, why, items, "{signal} are refused by the collector, and dropped");
        }
        self.failures = 0;
    }
}

/// Between half of it and all of it, by chance, so that many servers do not come back at once.
fn spread(pause: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() as u32;
    pause / 2 + pause.mul_f64(f64::from(chance) / f64::from(u32::MAX) / 2.0)
}
