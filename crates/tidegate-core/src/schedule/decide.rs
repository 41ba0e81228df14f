//! What to do with a trigger at a moment.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Schedule, ScheduleError};
use crate::parse_duration;

/// How late a tick may be without having been missed: what a short stall or a quick restart takes.
pub const GRACE: Duration = Duration::from_secs(10);

/// Most missed ticks that are made up for, the newest of them, where all are wanted: a day of one in a quarter of an hour,
/// an hour and a half of one a minute.
pub const MAX_MISSED: usize = 100;

/// Longest jitter.
pub const MAX_JITTER: Duration = Duration::from_secs(3600);

/// How far the clock may go back before what was done after that is no longer believed. Within, ticks that were dealt with
/// are not dealt with again; beyond, the clock had been wrong, and a trigger does not wait until it is right once more.
pub const REWIND: Duration = Duration::from_secs(600);

/// What is done about ticks that were missed, since nobody was there or nothing could be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// The last of them is made up for, unless a newer tick is on time and does.
    #[default]
    Once,
    /// All of them are made up for, the oldest first; no more than the newest [`MAX_MISSED`].
    All,
}

/// What is wanted of a trigger.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When it ticks.
    pub schedule: Schedule,
    /// What is done about missed ticks.
    pub missed: Missed,
    /// Each tick is late by up to so much, always by the same.
    pub jitter: Duration,
    /// The trigger's uid, which the jitter is made from.
    pub uid: std::sync::Arc<str>,
}

/// How far a trigger has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Every tick up to this moment is dealt with.
    pub at: Timestamp,
    /// How often the clock was found to have gone back behind what was dealt with: the same ticks come once more then, and
    /// are others.
    pub rewinds: u32,
}

/// What to do with a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The ticks to act on now, oldest first; at most [`MAX_MISSED`] and those of the last [`GRACE`].
    pub fire: Vec<Timestamp>,
    /// Whether there were ticks that are not acted on.
    pub missed: bool,
    /// How far it has come once they were acted on.
    pub cursor: Cursor,
    /// The tick after that; none where there is no further one.
    pub next: Option<Timestamp>,
    /// When to look again: when that tick is to be acted on.
    pub wake: Option<Timestamp>,
}

/// What to do with a trigger that has come so far, at this moment. Whatever clocks do, a tick is acted on at most once for
/// each time that they went back by more than [`REWIND`], and no more than a bounded number at a time.
#[must_use]
pub fn decide(plan: &Plan, cursor: Cursor, now: Timestamp) -> Decision {
    let mut cursor = cursor;
    if later(now, REWIND) < cursor.at {
        cursor = Cursor {
            at: now,
            rewinds: cursor.rewinds.wrapping_add(1),
        };
    }
    let due = Due::of(plan, cursor.at, now);
    let (fire, skipped) = match plan.missed {
        Missed::All => (due.late.into_iter().chain(due.timely).collect(), due.more),
        Missed::Once if due.timely.is_empty() => {
            let skipped = due.late.len() > 1;
            (due.late.into_iter().last().into_iter().collect(), skipped)
        }
        Missed::Once | Missed::Skip => (due.timely, !due.late.is_empty()),
    };
    if let Some(last) = due.last {
        cursor.at = cursor.at.max(last);
    }
    let next = plan.schedule.next(cursor.at);
    Decision {
        fire,
        missed: skipped,
        cursor,
        next,
        wake: next.map(|tick| plan.moment(tick)),
    }
}

/// The ticks whose moment has come.
#[derive(Default)]
struct Due {
    /// The newest of those that are late, oldest first.
    late: Vec<Timestamp>,
    /// There are more of those.
    more: bool,
    /// Those that are on time.
    timely: Vec<Timestamp>,
    /// The newest of all.
    last: Option<Timestamp>,
}

impl Due {
    fn of(plan: &Plan, after: Timestamp, now: Timestamp) -> Self {
        let schedule = &plan.schedule;
        // What is older than this is late whatever its jitter, and may be more than anybody wants to count.
        let recent = earlier(now, plan.jitter + GRACE).max(after);
        let (mut old, mut before) = (VecDeque::new(), recent);
        // One more than is acted on, so that it is known whether there are others.
        let wanted = match plan.missed {
            Missed::All => MAX_MISSED + 1,
            Missed::Once | Missed::Skip => 2,
        };
        while old.len() < wanted
            && let Some(tick) = schedule.latest(after, before)
        {
            old.push_front(tick);
            let Some(earlier) = tick.checked_sub(SignedDuration::from_secs(1)).ok() else {
                break;
            };
            before = earlier;
        }
        let mut due = Self {
            last: old.back().copied(),
            late: old.into(),
            ..Self::default()
        };
        for tick in std::iter::successors(schedule.next(recent), |tick| schedule.next(*tick)) {
            let moment = plan.moment(tick);
            if moment > now {
                break;
            }
            due.last = Some(tick);
            if later(moment, GRACE) < now {
                due.late.push(tick);
            } else {
                due.timely.push(tick);
            }
        }
        let excess = due.late.len().saturating_sub(MAX_MISSED);
        due.late.drain(..excess);
        due.more = excess > 0;
        due
    }
}

// === impl Plan ===

impl Plan {
    /// When a tick is acted on: later than it by a part of the jitter that is its own, so that triggers of the same schedule
    /// do not all come at once and a restart changes nothing. Always before the next tick, so that they keep their order.
    #[must_use]
    pub fn moment(&self, tick: Timestamp) -> Timestamp {
        if self.jitter.is_zero() {
            return tick;
        }
        let gap = self
            .schedule
            .next(tick)
            .map(|next| tick.duration_until(next));
        let gap = gap.and_then(|gap| Duration::try_from(gap).ok());
        let within = self.jitter.min(gap.unwrap_or(Duration::MAX));
        let milliseconds = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
        let hash = fnv(self.uid.bytes().chain(tick.as_second().to_be_bytes()));
        later(tick, Duration::from_millis(hash % milliseconds))
    }

    /// Reads a jitter.
    ///
    /// # Errors
    /// It is no duration, or above [`MAX_JITTER`].
    pub fn parse_jitter(text: &str) -> Result<Duration, ScheduleError> {
        parse_duration(text)
            .ok()
            .filter(|jitter| *jitter <= MAX_JITTER)
            .ok_or_else(|| ScheduleError::Jitter {
                value: text.to_owned(),
            })
    }
}

/// FNV-1a with a last stir: the same in every build, which the standard library's hasher does not promise.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The last bytes have reached only the low bits so far.
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_sub(by).unwrap_or(Timestamp::MIN)
}

// === impl Missed ===

impl Missed {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }
}

impl FromStr for Missed {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        [Self::Skip, Self::Once, Self::All]
            .into_iter()
            .find(|missed| missed.as_str() == text)
            .ok_or_else(|| ScheduleError::Missed {
                value: text.to_owned(),
            })
    }
}
