//! What a namespace has been billed today: a number that admission reads for every call.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A day, in microseconds.
const DAY_US: u64 = 24 * 3600 * 1_000_000;
/// Days that are known side by side. A call that ended just before midnight counts in its own day, and a clock that leaps
/// away and comes back finds the day that it left, unless it leapt by a multiple of so many days. No power of two, and no
/// number of weeks: leaps are mostly whole days, weeks or years.
const DAYS: u64 = 11;

/// The sums of one namespace's days, in UTC.
#[derive(Debug, Default)]
pub(crate) struct Today {
    days: [Day; DAYS as usize],
}

#[derive(Debug, Default)]
struct Day {
    /// Which, since the epoch.
    day: AtomicU64,
    /// In 2²⁰ bytes times microseconds, of which a GB-second has about a thousand million.
    used: AtomicU64,
    turn: Mutex<()>,
}

impl Today {
    /// Adds what a call that ended at this moment is billed. This decides who is let in; the bill is made of
    /// [`Totals`](crate::Totals).
    pub(crate) fn add(&self, ended_us: u64, billed_us: u64, memory_limit: u64) {
        let used = (u128::from(billed_us) * u128::from(memory_limit)) >> 20;
        self.add_used(ended_us / DAY_US, used);
    }

    pub(crate) fn add_used(&self, day: u64, used: u128) {
        let place = &self.days[(day % DAYS) as usize];
        if day != place.day.load(Ordering::Acquire) {
            let _turn = place.turn.lock();
            if day != place.day.load(Ordering::Acquire) {
                place.used.store(0, Ordering::Relaxed);
                place.day.store(day, Ordering::Release);
            }
        }
        let used = u64::try_from(used).unwrap_or(u64::MAX >> 16);
        place.used.fetch_add(used, Ordering::Relaxed);
    }

    /// The sum of the day in which this moment lies, in millionths of a GB-second.
    pub(crate) fn gb_micro_seconds(&self, now_us: u64) -> u64 {
        let day = now_us / DAY_US;
        let place = &self.days[(day % DAYS) as usize];
        if place.day.load(Ordering::Acquire) != day {
            return 0;
        }
        place.used.load(Ordering::Relaxed) / 1024
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

    #[test]
    fn a_clock_that_leaps_and_comes_back_finds_its_day() {
        let at = DAY_US * 20_000;
        for leap in [DAY_US, DAY_US * 7, DAY_US * 30, DAY_US * 365, DAY_US * 3650] {
            for there in [at + leap, at - leap] {
                let today = Today::default();
                today.add(at, 1_000_000, 1 << 30);
                today.add(there, 3_000_000, 1 << 30);
                assert_eq!(today.gb_micro_seconds(there), 3_000_000);
                assert_eq!(today.gb_micro_seconds(at), 1_000_000, "{leap}");
                // A day that is over is over, wherever the clock has been meanwhile.
                assert_eq!(today.gb_micro_seconds(at + DAY_US * 2), 0);
            }
        }
    }
}
