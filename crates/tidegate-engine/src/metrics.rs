//! What a function has done, in counters that a call can add to without a lock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_core::Outcome;

/// Upper bounds of the duration buckets in seconds; what is longer is in the last, unbounded one.
pub const BUCKETS_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Every outcome, in the order of [`FunctionMetrics::invocations`].
pub const OUTCOMES: [Outcome; 15] = Outcome::ALL;

/// Counters of one function since the server started.
#[derive(Debug, Default)]
pub struct FunctionMetrics {
    invocations: [AtomicU64; OUTCOMES.len()],
    buckets: [AtomicU64; BUCKETS_SECONDS.len() + 1],
    duration_us: AtomicU64,
    /// Calls that are under way, waiting ones included.
    pub(crate) in_flight: AtomicI64,
    /// Calls that waited for an instance to start and were its first.
    pub(crate) cold: AtomicU64,
}

impl FunctionMetrics {
    pub(crate) fn ended(&self, outcome: Outcome, took: Duration) {
        let at = OUTCOMES.iter().position(|o| *o == outcome).unwrap_or(0);
        self.invocations[at].fetch_add(1, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS_SECONDS
            .iter()
            .position(|le| seconds <= *le)
            .unwrap_or(BUCKETS_SECONDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.duration_us
            .fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// Invocations that ended, by outcome, in the order of [`OUTCOMES`].
    #[must_use]
    pub fn invocations(&self) -> [u64; OUTCOMES.len()] {
        std::array::from_fn(|at| self.invocations[at].load(Ordering::Relaxed))
    }

    /// Invocations that ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.invocations().iter().sum()
    }

    /// Invocations by duration, not cumulative, in the order of [`BUCKETS_SECONDS`] and one more.
    #[must_use]
    pub fn buckets(&self) -> [u64; BUCKETS_SECONDS.len() + 1] {
        std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed))
    }

    /// Sum of the durations in seconds.
    #[must_use]
    pub fn duration_seconds(&self) -> f64 {
        Duration::from_micros(self.duration_us.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// Calls under way.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls that waited for a start and got the instance that was started.
    #[must_use]
    pub fn cold_starts(&self) -> u64 {
        self.cold.load(Ordering::Relaxed)
    }
}
