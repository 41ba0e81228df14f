//! The time by which the queue goes: the system's, without its jumps.
//!
//! Delays are differences, and a clock that is set must neither let everything become due at once nor keep everything
//! waiting. So the queue reads the system's clock when it opens and from then on counts elapsed time; what the two differ
//! by later is made up for slowly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Of each elapsed second, the part in milliseconds by which the difference is made up for.
const SLEW_MS: u64 = 100;

/// Where the time comes from. Tests have one that jumps.
pub trait TimeSource: Send + Sync + std::fmt::Debug {
    /// Milliseconds since the Unix epoch, which may jump.
    fn unix_ms(&self) -> u64;
    /// Milliseconds since some beginning, which never jump.
    fn elapsed_ms(&self) -> u64;
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemTimeSource(Instant);

#[derive(Debug)]
pub(crate) struct Clock {
    source: std::sync::Arc<dyn TimeSource>,
    /// What elapsed time is added to.
    base_ms: AtomicU64,
    adjusted_ms: AtomicU64,
}

impl Default for SystemTimeSource {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl TimeSource for SystemTimeSource {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock {
    /// Begins at the system's time, or where an earlier run had already come to.
    pub(crate) fn new(source: std::sync::Arc<dyn TimeSource>, at_least_ms: u64) -> Self {
        let elapsed = source.elapsed_ms();
        let now = source.unix_ms().max(at_least_ms);
        Self {
            base_ms: AtomicU64::new(now.saturating_sub(elapsed)),
            adjusted_ms: AtomicU64::new(elapsed),
            source,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.base_ms.load(Ordering::Relaxed) + self.source.elapsed_ms()
    }

    pub(crate) fn elapsed_ms(&self) -> u64 {
        self.source.elapsed_ms()
    }

    /// Moves a little towards the system's time. Called now and then, by one thread.
    pub(crate) fn adjust(&self) {
        let elapsed = self.source.elapsed_ms();
        let since = elapsed.saturating_sub(self.adjusted_ms.swap(elapsed, Ordering::Relaxed));
        let most = since.saturating_mul(SLEW_MS) / 1000;
        let base = self.base_ms.load(Ordering::Relaxed);
        let wanted = self.source.unix_ms().saturating_sub(elapsed);
        let moved = wanted.clamp(base.saturating_sub(most), base.saturating_add(most));
        self.base_ms.store(moved, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, Default)]
    struct Fake {
        unix: AtomicU64,
        elapsed: AtomicU64,
    }

    impl TimeSource for Fake {
        fn unix_ms(&self) -> u64 {
            self.unix.load(Ordering::Relaxed)
        }

        fn elapsed_ms(&self) -> u64 {
            self.elapsed.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_clock_that_is_set_changes_little_at_a_time() {
        const HOUR: u64 = 3_600_000;
        for (set, bounds) in [(9 * HOUR, 0..=100), (11 * HOUR, 0..=100)] {
            let fake = Arc::new(Fake::default());
            fake.unix.store(10 * HOUR, Ordering::Relaxed);
            let clock = Clock::new(Arc::clone(&fake) as Arc<dyn TimeSource>, 0);
            fake.unix.store(set, Ordering::Relaxed);
            fake.elapsed.fetch_add(1000, Ordering::Relaxed);
            clock.adjust();
            let off = clock.now_ms().abs_diff(10 * HOUR + 1000);
            assert!(bounds.contains(&off), "{off}");
            // It comes round in the end.
            for _ in 0..40_000 {
                fake.elapsed.fetch_add(1000, Ordering::Relaxed);
                fake.unix.fetch_add(1000, Ordering::Relaxed);
                clock.adjust();
            }
            assert_eq!(clock.now_ms(), fake.unix_ms());
        }
    }
}
