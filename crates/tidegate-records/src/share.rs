//! How much of what is kept one namespace may fill.
//!
//! Segments are removed by age and by size, whosever records are in them: so a namespace that fails or prints a thousand
//! times a second would push out what all others have left. Two rules keep it from that. Of calls that were turned away at
//! the door, only the first few a second leave a record: the rest would say the same again. And where several namespaces
//! share a server, each has a bucket of half the bytes that are kept; an empty one is full again after two days. A namespace
//! whose bucket is empty still leaves a few items a second. So within a day none fills more than three quarters, and alone
//! does not push out what others left in that day; one that stays below its share notices nothing. Buckets are full at
//! start: what each namespace has on disk would have to be read.
//!
//! The buckets are filled by the thread that writes, by a clock that does not leap; whoever serves a call asks no clock
//! for this.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::today::Today;

/// Records a second that a namespace's refused calls leave, and items a second where its bucket is empty: enough to see
/// what happens, and of no weight beside a bucket.
pub(crate) const FEW: u64 = 10;
/// What an item takes beside its own bytes: its part of the index.
const INDEX_BYTES: i64 = 16;
/// In what time an empty bucket fills.
const FILLS_IN: Duration = Duration::from_secs(2 * 24 * 3600);

/// One namespace, as far as its functions share something.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) today: Today,
    /// Records of calls that were turned away.
    pub(crate) refusals: FewASecond,
    pub(crate) records: Share,
    pub(crate) lines: Share,
}

/// Lets the first [`FEW`] in, each second.
#[derive(Debug, Default)]
pub(crate) struct FewASecond {
    /// The second since the epoch, and how many in it, in the low eight bits.
    second: AtomicU64,
}

/// What a namespace may still fill.
#[derive(Debug)]
pub(crate) struct Share {
    /// Bytes in the bucket; below zero by what threads took at the same time.
    left: AtomicI64,
    most: i64,
    few: FewASecond,
}

impl Namespace {
    /// One that has used nothing of what is kept: so many bytes of records and lines.
    pub(crate) fn new(keep_records: u64, keep_lines: u64) -> Self {
        Self {
            today: Today::default(),
            refusals: FewASecond::default(),
            records: Share::new(keep_records),
            lines: Share::new(keep_lines),
        }
    }

    /// So much time has passed.
    pub(crate) fn refill(&self, passed: Duration) {
        self.records.refill(passed);
        self.lines.refill(passed);
    }
}

impl FewASecond {
    /// Whether one more is among the first of its second. A clock that leaps begins another second.
    pub(crate) fn take(&self, time_us: u64) -> bool {
        let second = (time_us / 1_000_000) << 8;
        let next = |seen: u64| {
            let count = if seen & !0xff == second {
                seen & 0xff
            } else {
                0
            };
            (count < FEW).then_some(second | (count + 1))
        };
        let taken = self
            .second
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.is_ok()
    }
}

impl Share {
    fn new(keep_bytes: u64) -> Self {
        let most = i64::try_from(keep_bytes / 2).unwrap_or(i64::MAX);
        Self {
            left: AtomicI64::new(most),
            most,
            few: FewASecond::default(),
        }
    }

    /// Whether one more item may be kept.
    pub(crate) fn allows(&self, time_us: u64) -> bool {
        self.left.load(Ordering::Relaxed) > 0 || self.few.take(time_us)
    }

    /// An item of so many bytes is kept. What an empty bucket lets through takes nothing: it would never fill again.
    pub(crate) fn spend(&self, bytes: usize) {
        if self.left.load(Ordering::Relaxed) > 0 {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 2) + INDEX_BYTES;
            self.left.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn refill(&self, passed: Duration) {
        let part =
            i128::from(self.most) * passed.as_millis() as i128 / FILLS_IN.as_millis() as i128;
        let more = i64::try_from(part).unwrap_or(self.most).min(self.most);
        let left = self.left.load(Ordering::Relaxed);
        // Threads take from it meanwhile.
        let more = more.min(self.most - left);
        self.left.fetch_add(more, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn the_first_few_of_a_second_are_let_in() {
        let few = FewASecond::default();
        for second in [5, 6, 7, 3] {
            let times = (0..1000).map(|n| second * SECOND_US + n);
            let taken = times.filter(|time_us| few.take(*time_us)).count();
            assert_eq!(taken as u64, FEW, "{second}");
        }
    }

    #[test]
    fn a_share_is_half_and_comes_back_in_time() {
        let share = Share::new(200_000);
        let fill = |second: u64| {
            let mut kept = 0;
            while share.left.load(Ordering::Relaxed) > 0 {
                assert!(share.allows(second * SECOND_US));
                share.spend(84);
                kept += 100;
            }
            kept
        };
        assert_eq!(fill(1), 100_000);
        let trickle = (0..500).filter(|n| share.allows(2 * SECOND_US + n)).count();
        assert_eq!(trickle as u64, FEW);
        share.refill(FILLS_IN / 2);
        assert_eq!(fill(3), 50_000);
        share.refill(FILLS_IN * 3);
        assert_eq!(fill(4), 100_000);
    }
}
