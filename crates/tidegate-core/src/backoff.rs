//! Exponential back-off as a value.

use std::time::Duration;

/// Doubling delays between `min` and `max`. The state is the number of failures in a row, kept by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// # Panics
    /// If `min` is zero or above `max`: both are constants of the program.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> Self {
        assert!(
            min.as_nanos() > 0 && min.as_nanos() <= max.as_nanos(),
            "0 < min <= max"
        );
        Self { min, max }
    }

    /// The delay after this many failures in a row; zero after none.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            n => self
                .min
                .saturating_mul(1_u32.checked_shl(n - 1).unwrap_or(u32::MAX))
                .min(self.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let ms: Vec<_> = [0, 1, 2, 3, 4, 5, 40, u32::MAX]
            .map(|n| backoff.delay(n).as_millis())
            .into();
        assert_eq!(ms, [0, 100, 200, 400, 800, 1000, 1000, 1000]);
    }
}
