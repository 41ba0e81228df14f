//! What a metric measured lately.

use std::time::Duration;

use crate::{Metric, Scale};

/// Seconds over which a rate is an average: long enough that a moment's burst starts nothing, short enough that a rise is
/// answered while it matters.
const RATE_SECONDS: usize = 10;

/// Parts that the idle time is remembered in: it is kept to within a sixteenth.
const PARTS: usize = 16;

/// The load of a pool whose metric is not the calls at hand: how much of late, and how many instances that wanted. Of a
/// fixed size, and told the time.
#[derive(Clone, Debug)]
pub struct Load {
    /// What was measured, by second; the current one is not over.
    measured: Ring<{ RATE_SECONDS + 1 }>,
    /// The most instances that were wanted, by parts of the idle time.
    wanted: Ring<{ PARTS + 1 }>,
}

/// Numbers by slots of time, of which the last `N` are kept.
#[derive(Clone, Debug)]
struct Ring<const N: usize> {
    slots: [u64; N],
    /// How long a slot is.
    length: Duration,
    /// Which slot, counted from the beginning of time, was touched last.
    last: u128,
}

impl Load {
    /// No load so far; `None` for a scale that the calls at hand decide.
    #[must_use]
    pub fn of(scale: &Scale) -> Option<Self> {
        (scale.metric != Metric::Concurrency).then(|| Self {
            measured: Ring::new(Duration::from_secs(1)),
            wanted: Ring::new(scale.idle / PARTS as u32),
        })
    }

    /// Adds what was measured since the last time: calls that came, or microseconds of processor time.
    pub fn measured(&mut self, now: Duration, amount: u64) {
        let slot = self.measured.at(now);
        *slot = slot.saturating_add(amount);
    }

    /// The average of late in thousandths: of a call a second, or of a core.
    #[must_use]
    pub fn milli(&self, metric: Metric, now: Duration) -> u64 {
        let over = Duration::from_secs(RATE_SECONDS as u64)
            + Duration::from_nanos(u64::from(now.subsec_nanos()));
        // A stream of evenly spaced calls has one more in some windows than in others, which is no higher rate.
        let amount = self.measured.sum(now).saturating_sub(1);
        let factor = match metric {
            Metric::Rate { .. } => 1_000_000,
            // Microseconds in a millisecond are thousandths as it is.
            Metric::Cpu { .. } | Metric::Concurrency => 1,
        };
        let milli = u128::from(amount) * factor / over.as_millis();
        u64::try_from(milli).unwrap_or(u64::MAX)
    }

    /// Remembers how many instances were wanted.
    pub fn wanted(&mut self, now: Duration, instances: u32) {
        let slot = self.wanted.at(now);
        *slot = (*slot).max(instances.into());
    }

    /// The most instances that were wanted within the idle time.
    #[must_use]
    pub fn held(&self, now: Duration) -> u32 {
        u32::try_from(self.wanted.max(now)).unwrap_or(u32::MAX)
    }

    /// Forgets how many were wanted, and carries on with this idle time.
    pub fn forget_wanted(&mut self, idle: Duration) {
        self.wanted = Ring::new(idle / PARTS as u32);
    }
}

impl<const N: usize> Ring<N> {
    fn new(length: Duration) -> Self {
        Self {
            slots: [0; N],
            length: length.max(Duration::from_millis(1)),
            last: 0,
        }
    }

    fn slot(&self, now: Duration) -> u128 {
        now.as_nanos() / self.length.as_nanos()
    }

    /// The slot of this moment; those that time went past since the last one are empty.
    fn at(&mut self, now: Duration) -> &mut u64 {
        let slot = self.slot(now).max(self.last);
        let passed = usize::try_from(slot - self.last).unwrap_or(N).min(N);
        for back in 0..passed {
            self.slots[index::<N>(slot - back as u128)] = 0;
        }
        self.last = slot;
        &mut self.slots[index::<N>(slot)]
    }

    /// What is kept, and is not too old by now.
    fn recent(&self, now: Duration) -> impl Iterator<Item = u64> {
        let (last, current) = (self.last, self.slot(now).max(self.last));
        (0..N as u128)
            .filter(move |back| *back <= last && last - back + N as u128 > current)
            .map(move |back| self.slots[index::<N>(last - back)])
    }

    fn sum(&self, now: Duration) -> u64 {
        self.recent(now).fold(0, u64::saturating_add)
    }

    fn max(&self, now: Duration) -> u64 {
        self.recent(now).max().unwrap_or(0)
    }
}

/// Where a slot is kept.
fn index<const N: usize>(slot: u128) -> usize {
    // The remainder is below `N`.
    (slot % N as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Metric = Metric::Rate { target_milli: 1 };
    const CPU: Metric = Metric::Cpu { target_milli: 1 };

    fn load(metric: Metric, idle_s: u64) -> Load {
        let scale = Scale {
            metric,
            idle: Duration::from_secs(idle_s),
            ..super::super::tests::scale(1, 9, 1, 0)
        };
        Load::of(&scale).expect("one that is measured")
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_calls_at_hand_need_no_memory() {
        assert!(Load::of(&super::super::tests::scale(1, 9, 1, 60)).is_none());
    }

    #[test]
    fn a_steady_rate_is_what_it_is_at_any_moment_and_gone_ten_seconds_after() {
        let mut load = load(RATE, 30);
        // One call each 100 ms.
        for at in 0..600 {
            let now = ms(7 + at * 100);
            load.measured(now, 1);
            if at > 120 {
                let rate = load.milli(RATE, now);
                assert!((9_700..=10_000).contains(&rate), "{rate} at {now:?}");
            }
        }
        let end = 60_000;
        assert!(load.milli(RATE, ms(end + 5_000)) < 6_000);
        assert_eq!(load.milli(RATE, ms(end + 11_000)), 0);
        assert_eq!(load.milli(RATE, ms(end + 10_000_000)), 0);
    }

    #[test]
    fn a_rate_rises_over_the_seconds_that_it_is_an_average_of() {
        let mut load = load(RATE, 30);
        let mut seen = Vec::new();
        for second in 1000..1012_u64 {
            load.measured(ms(second * 1000), 100);
            seen.push(load.milli(RATE, ms(second * 1000 + 999)));
        }
        assert!(seen.is_sorted(), "{seen:?}");
        assert!(seen[0] < 10_000, "{seen:?}");
        assert!((99_000..101_000).contains(&seen[11]), "{seen:?}");
    }

    #[test]
    fn half_a_core_is_five_hundred() {
        let mut load = load(CPU, 30);
        for second in 0..20 {
            load.measured(ms(second * 1000 + 300), 500_000);
        }
        let milli = load.milli(CPU, ms(19_999));
        assert!((490..=510).contains(&milli), "{milli}");
    }

    #[test]
    fn the_most_that_was_wanted_is_held_for_the_idle_time_and_little_longer() {
        let mut load = load(RATE, 32);
        load.wanted(ms(1_000), 7);
        load.wanted(ms(20_000), 3);
        assert_eq!(load.held(ms(20_000)), 7);
        assert_eq!(load.held(ms(33_000)), 7);
        assert_eq!(load.held(ms(36_000)), 3);
        assert_eq!(load.held(ms(52_000)), 3);
        assert_eq!(load.held(ms(56_000)), 0);
        load.wanted(ms(60_000), 2);
        load.forget_wanted(Duration::ZERO);
        assert_eq!(load.held(ms(60_000)), 0);
    }

    #[test]
    fn a_clock_that_seems_to_go_back_changes_nothing() {
        let mut load = load(RATE, 30);
        load.measured(ms(9_000), 5);
        load.measured(ms(8_000), 6);
        assert_eq!(load.milli(RATE, ms(9_000)), 1_000);
    }
}
