//! What a namespace has been billed today: a number that admission reads for every call.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A day, in microseconds.
const DAY_US: u64 = 24 * 3600 * 1_000_000;

/// The sum of one namespace's day, in UTC.
#[derive(Debug, Default)]
pub(crate) struct Today {
    /// Since the epoch.
    day: AtomicU64,
    /// In 2²⁰ bytes times microseconds, of which a GB-second has about a thousand million.
    used: AtomicU64,
    turn: Mutex<()>,
}

impl Today {
    /// Adds what a call that ended at this moment is billed. Around midnight a call may be counted in the day beside its
    /// own: this decides who is let in, the bill is made of [`Totals`](crate::Totals).
    pub(crate) fn add(&self, ended_us: u64, billed_us: u64, memory_limit: u64) {
        let used = (u128::from(billed_us) * u128::from(memory_limit)) >> 20;
        self.add_used(ended_us / DAY_US, used);
    }

    pub(crate) fn add_used(&self, day: u64, used: u128) {
        if day > self.day.load(Ordering::Acquire) {
            let _turn = self.turn.lock();
            if day > self.day.load(Ordering::Acquire) {
                self.used.store(0, Ordering::Relaxed);
                self.day.store(day, Ordering::Release);
            }
        }
        let used = u64::try_from(used).unwrap_or(u64::MAX >> 16);
        self.used.fetch_add(used, Ordering::Relaxed);
    }

    /// The sum of the day in which this moment lies, in millionths of a GB-second.
    pub(crate) fn gb_micro_seconds(&self, now_us: u64) -> u64 {
        if now_us / DAY_US > self.day.load(Ordering::Acquire) {
            return 0;
        }
        self.used.load(Ordering::Relaxed) / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_nothing() {
        let today = Today::default();
        today.add(DAY_US * 3 + 5, 1_000_000, 1 << 30);
        today.add(DAY_US * 3 + 7, 500_000, 1 << 30);
        assert_eq!(today.gb_micro_seconds(DAY_US * 3 + 9), 1_500_000);
        assert_eq!(today.gb_micro_seconds(DAY_US * 4), 0);
        today.add(DAY_US * 4, 1_000_000, 1 << 29);
        assert_eq!(today.gb_micro_seconds(DAY_US * 4), 500_000);
    }
}
