//! What a namespace may use, and whether the next call is still within it.
//!
//! The rate is held by a bucket that is one number: the moment at which it will be full again. A call moves that moment on
//! by its share of a second, and is refused where the moment would be further ahead than the bucket is deep. So the
//! decision needs no timer and no lock, and says to the nanosecond when it would be another.

use std::time::Duration;

/// What a namespace may use. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Invocations a second, on average.
    pub requests_per_second: Option<u32>,
    /// Invocations at once before that average counts; a second's worth where absent.
    pub burst: Option<u32>,
    /// Invocations under way at once, those that wait for an instance included.
    pub concurrent: Option<u32>,
    /// Invocations that were accepted to run later and have not ended.
    pub queued: Option<u64>,
    /// GB-seconds a day (2³⁰ bytes), from midnight to midnight UTC.
    pub gb_seconds_per_day: Option<u64>,
    /// Functions.
    pub functions: Option<u32>,
    /// Bytes of code of all functions together, each archive counted once.
    pub storage: Option<u64>,
}

/// One of the limits of a [`Quota`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaLimit {
    /// [`Quota::requests_per_second`].
    RequestsPerSecond,
    /// [`Quota::concurrent`].
    Concurrent,
    /// [`Quota::queued`].
    Queued,
    /// [`Quota::gb_seconds_per_day`].
    GbSecondsPerDay,
    /// [`Quota::functions`].
    Functions,
    /// [`Quota::storage`].
    Storage,
}

/// A rate and how far it may be exceeded for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one call is worth.
    interval: u64,
    /// How far ahead the moment may be at which the bucket is full, and the next call still goes.
    tolerance: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

/// A day, in seconds.
const DAY: u64 = 24 * 3600;

impl Rate {
    /// So many calls a second, and so many at once; at least one of either.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let (per_second, burst) = (max(per_second, 1), max(burst, 1));
        let interval = SECOND_NS / per_second as u64;
        Self {
            interval,
            tolerance: interval.saturating_mul(burst as u64 - 1),
        }
    }

    /// Takes a call out of the bucket that is full at `full_at`; both moments in nanoseconds since the same beginning. The
    /// moment at which it is full then.
    ///
    /// # Errors
    /// There is none in it; so long until there is.
    pub const fn take(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let full_at = if full_at > now { full_at } else { now };
        let ahead = full_at - now;
        if ahead > self.tolerance {
            return Err(Duration::from_nanos(ahead - self.tolerance));
        }
        Ok(full_at + self.interval)
    }
}

impl Quota {
    /// The rate, where there is one.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        let per_second = self.requests_per_second?;
        Some(Rate::new(per_second, self.burst.unwrap_or(per_second)))
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// How long until the day is over at this moment, in seconds since the Unix epoch. At least a second.
#[must_use]
pub const fn until_tomorrow(now: u64) -> Duration {
    Duration::from_secs(DAY - now % DAY)
}

const fn max(a: u32, b: u32) -> u32 {
    if a > b { a } else { b }
}

// === impl QuotaLimit ===

impl QuotaLimit {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RequestsPerSecond,
        Self::Concurrent,
        Self::Queued,
        Self::GbSecondsPerDay,
        Self::Functions,
        Self::Storage,
    ];

    /// Its name, as documents and messages have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requestsPerSecond",
            Self::Concurrent => "concurrent",
            Self::Queued => "queued",
            Self::GbSecondsPerDay => "gbSecondsPerDay",
            Self::Functions => "functions",
            Self::Storage => "storage",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many of the calls at these moments go.
    fn let_in(rate: Rate, moments: &[u64]) -> Vec<bool> {
        let mut full_at = 0;
        let mut take = |now| match rate.take(full_at, now) {
            Ok(then) => {
                full_at = then;
                true
            }
            Err(_) => false,
        };
        moments.iter().map(|now| take(*now)).collect()
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let rate = Rate::new(10, 3);
        let at = 5 * SECOND_NS;
        let tenth = SECOND_NS / 10;
        let moments = [at, at, at, at, at + tenth - 1, at + tenth, at + tenth];
        let went = [true, true, true, false, false, true, false];
        assert_eq!(let_in(rate, &moments), went);
        // After a rest there is a burst again, and no more than one.
        let later = at + 60 * SECOND_NS;
        assert_eq!(let_in(rate, &[later; 4]), [true, true, true, false]);
    }

    #[test]
    fn a_refusal_says_when_the_next_goes() {
        let rate = Rate::new(4, 1);
        let full_at = rate.take(0, 1000).unwrap();
        let wait = rate.take(full_at, 1000).unwrap_err();
        assert_eq!(wait, Duration::from_millis(250));
        let then = 1000 + wait.as_nanos() as u64;
        assert!(rate.take(full_at, then - 1).is_err());
        assert!(rate.take(full_at, then).is_ok());
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_allow(
            per_second in 1_u32..1000,
            burst in 1_u32..50,
            mut moments in prop::collection::vec(0_u64..10 * SECOND_NS, 1..200),
        ) {
            moments.sort_unstable();
            let went = let_in(Rate::new(per_second, burst), &moments);
            let went: Vec<u64> = moments.iter().zip(went).filter(|(_, w)| *w).map(|(m, _)| *m).collect();
            for (from, first) in went.iter().enumerate() {
                for (to, last) in went.iter().enumerate().skip(from) {
                    let span = (last - first) as u128;
                    let most = u128::from(burst) + span * u128::from(per_second) / u128::from(SECOND_NS) + 1;
                    prop_assert!((to - from + 1) as u128 <= most);
                }
            }
        }
    }

    #[test]
    fn the_day_ends_at_midnight() {
        assert_eq!(until_tomorrow(0), Duration::from_secs(DAY));
        assert_eq!(until_tomorrow(DAY * 3 - 1), Duration::from_secs(1));
    }
}
